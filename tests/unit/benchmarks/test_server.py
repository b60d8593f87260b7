"""A broker of our own: started, asked, ended by its pid."""

import os

import pytest

from braidmq.benchmarks.server import ServerFailed, ServerProcess, cpu_seconds, memory_bytes
from braidmq.protocols import connect


async def test_it_serves_and_ends(tmp_path):
    with ServerProcess(str(tmp_path)) as server:
        pid = server.pid
        async with connect(server.url) as broker:
            assert (await broker.info()).messages == 0
        assert server.start_seconds > 0
        assert memory_bytes(pid) > 0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_one_that_does_not_start_says_why(tmp_path):
    server = ServerProcess(str(tmp_path), ("--listen", "nonsense://x"))
    with pytest.raises(ServerFailed, match=r"did not start: .*nonsense"):
        server.start()


def test_it_is_killed_when_something_goes_wrong(tmp_path):
    server = ServerProcess(str(tmp_path))
    with pytest.raises(RuntimeError), server:
        raise RuntimeError
    assert server.pid == 0
    server.stop()
    server.kill()


def test_nobody_knows_a_process_that_is_not_there():
    assert (cpu_seconds(0), cpu_seconds(2**22 + 1), memory_bytes(2**22 + 1)) == (0, 0, 0)
    assert cpu_seconds(os.getpid()) > 0
