"""TLS, with certificates of our own: by each kind of way, and what is said when it fails."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis.asyncio as aioredis
import trustme

from saq.queue.base import Queue
from saq.queue.redis import RedisQueue, UnreachableError
from tests.ports import free_port
from tests.servers import Server, ServerNotFound, find_server, server_version
from tests.topology.conftest import MakeQueue
from tests.topology.operations import use_by_hand, work_and_wait
from tests.topology.servers import Cluster, Watched
from tests.topology.test_sentinel import replicated


class Certificates(NamedTuple):
    """Files: those who sign, the server's, ours; and those who sign nothing here."""

    ca: str
    server: str
    server_key: str
    ours: str
    our_key: str
    others: str

    def options(self, **more: Any) -> dict[str, Any]:
        """Of a server that speaks TLS beside what it speaks to the tests."""
        return {
            "tls_port": free_port(),
            "tls_cert_file": self.server,
            "tls_key_file": self.server_key,
            "tls_ca_cert_file": self.ca,
            "tls_auth_clients": "no",
            **more,
        }


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")

    def write(name: str, *blobs: trustme.Blob) -> str:
        path = folder / name
        path.write_bytes(b"".join(blob.bytes() for blob in blobs))
        return str(path)

    ca, others = trustme.CA(), trustme.CA()
    server, ours = ca.issue_cert("127.0.0.1"), ca.issue_cert("saq")
    return Certificates(
        write("ca.pem", ca.cert_pem),
        write("server.pem", *server.cert_chain_pems),
        write("server.key", server.private_key_pem),
        write("ours.pem", *ours.cert_chain_pems),
        write("ours.key", ours.private_key_pem),
        write("others.pem", others.cert_pem),
    )


def _why_no_tls(binary: Path) -> str | None:
    """That of a server that was built without it."""
    said = subprocess.run(
        [str(binary), "--port", "0", "--tls-port", "1"],
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
    )
    # One that knows of TLS misses a certificate.
    return None if "cert" in said.stdout + said.stderr else f"{server_version(binary)} has no TLS"


@pytest.fixture(scope="session")
def kind() -> str:
    """A server that speaks TLS: that of all tests, or the one on PATH."""
    reasons = []
    for kind in ("embedded", "path"):
        try:
            binary = find_server(kind)
        except ServerNotFound as error:
            reasons.append(str(error))
            continue
        reason = _why_no_tls(binary)
        if reason is None:
            return kind
        reasons.append(reason)
    pytest.skip(f"there is no server that speaks TLS: {'; '.join(reasons)}")


@pytest.fixture(scope="module")
def secured(kind: str, certificates: Certificates) -> Iterator[Server]:
    with Server(kind, **certificates.options()) as server:
        yield server


@pytest.fixture
def url(secured: Server) -> str:
    secured.flush()
    return f"rediss://127.0.0.1:{secured.options['tls-port']}/0"


async def test_everything_works(url: str, certificates: Certificates, make_queue: MakeQueue):
    url += f"?ssl_ca_certs={certificates.ca}&ssl_check_hostname=true"
    await work_and_wait(lambda: make_queue(url))
    await use_by_hand(lambda: make_queue(url.replace("rediss", "valkeys")))
    assert repr(make_queue(url)).startswith("RedisQueue<rediss://")


async def test_a_client_of_the_users_own(secured: Server, certificates: Certificates):
    port = int(str(secured.options["tls-port"]))
    client = aioredis.Redis(host="127.0.0.1", port=port, ssl=True, ssl_ca_certs=certificates.ca)
    queue = RedisQueue(client)
    assert await queue.enqueue("f")
    await queue.disconnect()


async def test_a_large_job_comes_and_goes(url: str, certificates: Certificates, make_queue: MakeQueue):
    """More than one record of TLS, both ways."""
    queue = make_queue(f"{url}?ssl_ca_certs={certificates.ca}")
    big = "x" * 3_000_000
    assert await queue.enqueue("f", key="k", big=big)
    job = await queue.dequeue(5)
    assert job is not None
    assert job.kwargs == {"big": big}


async def test_sentinels_and_a_failover(kind: str, certificates: Certificates, make_queue: MakeQueue):
    """All speak TLS to each other: the servers, the sentinels and we."""
    with Watched(kind, tls=certificates.options, password="theirs") as watched:
        queue = make_queue(f"{watched.url}&ssl_ca_certs={certificates.ca}")
        assert await queue.enqueue("f", key="before")
        assert f":{watched.port_of(watched.primary)}/0 (primary" in repr(queue)
        assert await asyncio.to_thread(replicated, watched.primary)
        watched.primary.kill()
        assert await queue.enqueue("f", key="after")
        assert f":{watched.port_of(watched.replica)}/0 (primary" in repr(queue)
        assert [job.key for job in (await queue.step((), 5)).jobs] == ["before", "after"]
        await queue.disconnect()


async def test_a_cluster(kind: str, certificates: Certificates, make_queue: MakeQueue):
    with Cluster(kind, options=partial(certificates.options, tls_cluster="yes")) as cluster:
        ports = [node.options["tls-port"] for node in cluster.nodes]
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
        url = f"rediss+cluster://{hosts}?ssl_ca_certs={certificates.ca}"
        for name in ("0", "1", "3"):
            queue = make_queue(url, name=name)
            assert await queue.enqueue("f")
            assert f":{cluster.owner(name).options['tls-port']}/0" in repr(queue)


# -- what is said -------------------------------------------------------------------------------------------


async def refused(url: str) -> str:
    queue = Queue.from_url(url)
    with pytest.raises(UnreachableError) as unreachable:
        await queue.enqueue("f")
    await queue.disconnect()
    return str(unreachable.value)


async def test_a_certificate_that_nobody_here_trusts(url: str, certificates: Certificates):
    for said in (await refused(url), await refused(f"{url}?ssl_ca_certs={certificates.others}")):
        assert "name the file in ssl_ca_certs" in said
        assert url in said


async def test_a_certificate_for_another_name(url: str, certificates: Certificates):
    said = await refused(
        f"{url}?ssl_ca_certs={certificates.ca}&ssl_check_hostname=true".replace("127.0.0.1", "localhost")
    )
    assert "for another name than the one in the URL" in said


async def test_a_server_that_wants_a_certificate_of_ours(
    kind: str, certificates: Certificates, make_queue: MakeQueue
):
    with Server(kind, **certificates.options(tls_auth_clients="yes")) as server:
        url = f"rediss://127.0.0.1:{server.options['tls-port']}?ssl_ca_certs={certificates.ca}"
        assert "ssl_certfile=… and ssl_keyfile=…" in await refused(url)
        url += f"&ssl_certfile={certificates.ours}&ssl_keyfile={certificates.our_key}"
        assert await make_queue(url).enqueue("f")


async def test_a_file_that_is_not_there(url: str):
    said = await refused(f"{url}?ssl_ca_certs=/nowhere/ca.pem")
    assert "/nowhere/ca.pem" in said


async def test_a_port_that_does_not_speak_tls(redis_url: str):
    said = await refused(redis_url.replace("redis://", "rediss://") + "?socket_connect_timeout=0.5")
    assert "does that port speak TLS? If not, use redis:// for rediss://" in said


async def test_a_port_that_speaks_nothing_else(url: str):
    said = await refused(url.replace("rediss://", "redis://"))
    assert "rediss://" in said
