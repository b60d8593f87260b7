"""Brokers in processes of their own: what ours and the peers have in common."""

import os
import socket
import sys
from collections.abc import Sequence

import pytest

from braidmq.benchmarks import peer
from braidmq.benchmarks.peer import (
    PeerProcess,
    ServerFailed,
    cpu_seconds,
    find_program,
    memory_bytes,
    program_version,
)

SERVES = "import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1])));"


class Program(PeerProcess):
    """A peer in a line of Python."""

    name = "program"

    def __init__(self, directory: str, code: str) -> None:
        super().__init__(directory)
        self._code = code
        self.tried: list[int] = []

    def _command(self, port: int) -> Sequence[str]:
        self.tried.append(port)
        return sys.executable, "-c", self._code, str(port)


def assert_gone(pid: int) -> None:
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_peer_serves_at_its_port_and_ends(tmp_path):
    with Program(str(tmp_path), SERVES + "[s.accept() for _ in iter(int, 1)]") as program:
        pid = program.pid
        socket.create_connection((program.host, program.port), 10).close()
        assert memory_bytes(pid) > 0
    assert_gone(pid)
    assert program.pid == 0


def test_one_in_python_is_not_compiled_anew_at_each_start(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    tells = "print(sys.dont_write_bytecode, flush=True); [s.accept() for _ in iter(int, 1)]"
    with Program(str(tmp_path), SERVES + tells):
        assert (tmp_path / "program.log").read_text() == "False\n"


def test_a_port_that_somebody_took_meanwhile_is_not_the_end(tmp_path, monkeypatch):
    free_port = peer.free_port
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # without listening, or it would seem to serve there
        ports = [taken.getsockname()[1]]
        monkeypatch.setattr(peer, "free_port", lambda: ports.pop() if ports else free_port())
        with Program(str(tmp_path), SERVES + "[s.accept() for _ in iter(int, 1)]") as program:
            assert program.tried[0] == taken.getsockname()[1] != program.port


def test_it_is_killed_and_started_again_where_it_was(tmp_path):
    with Program(str(tmp_path), SERVES + "[s.accept() for _ in iter(int, 1)]") as program:
        before, port = program.pid, program.port
        after = program.restart()
        assert after == program.pid != before and program.port == port
        assert_gone(before)
        socket.create_connection((program.host, port), 10).close()
        program._code = "raise SystemExit('broken')"
        with pytest.raises(ServerFailed, match=r"did not start again: .*broken"):
            program.restart()
    assert program.pid == 0


def test_one_with_two_ports_serves_when_both_are_open(tmp_path):
    code = SERVES + "[s.accept() for _ in iter(int, 1)]"

    class Pair(Program):
        listeners = 2
        start_seconds_max = 0.2

        def _command(self, port: int) -> Sequence[str]:
            return sys.executable, "-c", self._code, *map(str, self.ports)

    with pytest.raises(ServerFailed, match="did not start"):
        Pair(str(tmp_path), code).start()
    Pair.start_seconds_max = 20.0
    both = SERVES + SERVES.replace("s =", "t =").replace("argv[1]", "argv[2]")
    with Pair(str(tmp_path), both + "[s.accept() for _ in iter(int, 1)]") as pair:
        assert len(set(pair.ports)) == 2


def test_who_is_connected_with_itself_has_found_nobody(monkeypatch):
    def by_chance(address, timeout):
        sock = socket.socket()
        sock.bind(address)
        sock.connect(address)
        return sock

    port = peer.free_port()
    assert not peer._listens("127.0.0.1", port)
    monkeypatch.setattr(socket, "create_connection", by_chance)
    assert not peer._listens("127.0.0.1", port)


def test_one_that_does_not_start_says_why(tmp_path):
    program = Program(str(tmp_path), "raise SystemExit('nonsense')")
    with pytest.raises(ServerFailed, match=r"program did not start: .*nonsense"):
        program.start()
    assert program.pid == 0 and len(program.tried) == 3


def test_one_that_does_not_end_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(peer, "_STOP_SECONDS", 0.1)
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    program = Program(str(tmp_path), deaf + SERVES + "[s.accept() for _ in iter(int, 1)]")
    program.start()
    pid = program.pid
    with pytest.raises(ServerFailed, match="program did not end in time"):
        program.stop()
    assert_gone(pid)


def test_programs_are_found_in_more_places_than_the_path(tmp_path, monkeypatch):
    file = tmp_path / "some-broker"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    assert find_program("some-broker") == ""
    monkeypatch.setattr(peer, "_PLACES", (str(tmp_path),))
    assert find_program("some-broker") == str(file)


def test_nobody_knows_a_process_that_is_not_there():
    assert (cpu_seconds(0), cpu_seconds(2**22 + 1), memory_bytes(2**22 + 1)) == (0, 0, 0)
    assert cpu_seconds(os.getpid()) > 0


def test_the_version_that_a_program_says(tmp_path):
    program = tmp_path / "program"
    for command, version in (
        ("echo program v=7.0.15 bits=64", "7.0.15"),
        ("echo program 1.12 >&2; exit 1", "1.12"),
        ("echo usage: program", ""),
    ):
        program.write_text(f"#!/bin/sh\n{command}\n")
        program.chmod(0o755)
        assert program_version(str(program), "-v") == version
    assert program_version("", "-v") == ""
