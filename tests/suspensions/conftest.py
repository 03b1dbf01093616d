"""What every test here needs: a server, a proxy before it, and somebody who forks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.servers import Server
from tests.suspensions.driver import Bench, bench
from tests.suspensions.killing import Killer


@pytest.fixture(scope="session")
def killer() -> Iterator[Killer]:
    killer = Killer()
    yield killer
    killer.close()


@pytest.fixture
async def at(server: Server, redis_url: str, killer: Killer) -> AsyncIterator[Bench]:
    async with bench(server, killer) as made:
        yield made
