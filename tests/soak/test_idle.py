"""What a client that only stays connected costs: memory for thousands of them."""

import asyncio
import resource
import socket
from pathlib import Path

import pytest

from tests.faults.daemon import Daemon

CONNECTIONS = 2_000
RSS_BYTES_MAX = 8 * 1024  # for each connection
_DESCRIPTORS = CONNECTIONS + 200
_CONNECT = bytes.fromhex("10 12 0004 4d515454 04 02 0000 0006") + b"c%05d"


@pytest.fixture
def descriptors():
    """Enough of them, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _DESCRIPTORS:
        pytest.skip(f"only {hard} open files are allowed here; {_DESCRIPTORS} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, _DESCRIPTORS), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


@pytest.mark.slow
async def test_an_idle_mqtt_client_costs_little_memory(descriptors, tmp_path):
    flags = ("--listen", "mqtt://127.0.0.1:0")
    async with Daemon(tmp_path / "data", tmp_path, flags=flags) as daemon:
        port = daemon.ports[1]
        clients = [await asyncio.to_thread(_connect, port, number) for number in range(100)]
        before = _rss_bytes(daemon.pid)
        for number in range(100, 100 + CONNECTIONS):
            clients.append(_connect(port, number))
        each = (_rss_bytes(daemon.pid) - before) / CONNECTIONS
        for client in clients:
            client.close()
    assert each <= RSS_BYTES_MAX


def _connect(port: int, number: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(_CONNECT % number)
    assert client.recv(4) == bytes.fromhex("20 02 00 00")
    return client
