"""A broker of our own: started, asked, ended by its pid."""

import os
import subprocess
import sys
import time

import pytest

from braidmq.benchmarks.peer import ServerFailed, memory_bytes
from braidmq.benchmarks.server import ServerProcess
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


def test_its_ports_are_known_by_scheme(tmp_path):
    server = ServerProcess(str(tmp_path))
    server.urls = ["braid://127.0.0.1:7450", "mqtt://127.0.0.1:1883"]
    assert (server.port("braid"), server.port("mqtt")) == (7450, 1883)
    with pytest.raises(ServerFailed, match="does not listen for stomp"):
        server.port("stomp")


def test_it_is_killed_when_something_goes_wrong(tmp_path):
    server = ServerProcess(str(tmp_path))
    with pytest.raises(RuntimeError), server:
        raise RuntimeError
    assert server.pid == 0
    server.stop()
    server.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_it_ends_when_the_tool_is_killed(tmp_path):
    code = (
        "import os; from braidmq.benchmarks.server import ServerProcess;"
        f"s = ServerProcess({str(tmp_path)!r}); s.start(); print(s.pid, flush=True);"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    ready = tmp_path / "ready.json"
    for _ in range(1000):
        if not ready.exists():
            return
        time.sleep(0.01)
    os.kill(int(done.stdout), 9)
    raise AssertionError("the broker still runs")
