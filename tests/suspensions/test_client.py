"""Each operation of a client, with each fault at each of its suspensions."""

from __future__ import annotations

import pytest

from tests.suspensions.driver import FAULTS, OF_ITSELF, Bench, Trial
from tests.suspensions.operations import OPERATIONS


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", OPERATIONS)
async def test_nothing_is_lost_at_any_suspension(name: str, at: Bench):
    trial = Trial(at, OPERATIONS[name])
    await trial.undisturbed()
    assert trial.total > 0
    for fault in FAULTS:
        visited = await trial.each(fault)
        assert visited == [*range(1, len(visited) + 1)]
        assert len(visited) >= trial.total
        if fault in OF_ITSELF and not OPERATIONS[name].beside:
            assert len(visited) == trial.total
