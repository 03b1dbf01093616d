"""Queues and workers on topologies that the tests start themselves."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.topology.servers import Cluster, Watched
from tests.worker.conftest import MakeQueue, Work, make_queue, queue, work

__all__ = ["MakeQueue", "Work", "make_queue", "queue", "work"]


@pytest.fixture(scope="session")
def calm_sentinels() -> Iterator[Watched]:
    """For tests that leave all servers as they are. Its servers and its sentinels want passwords."""
    with Watched(password="theirs", requirepass="ours", masterauth="ours") as watched:
        yield watched


@pytest.fixture
def watched(calm_sentinels: Watched) -> Watched:
    """The same, emptied."""
    calm_sentinels.primary.flush()
    return calm_sentinels


@pytest.fixture(scope="session")
def calm_cluster() -> Iterator[Cluster]:
    """For tests that leave all slots where they are."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(calm_cluster: Cluster) -> Cluster:
    """The same, emptied."""
    for node in calm_cluster.nodes:
        node.flush()
    return calm_cluster
