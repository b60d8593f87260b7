"""Connections that are made without blocking: greeted, held, refused, cut off."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from braidmq.benchmarks.drivers.connection import new_socket
from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.engine.connecting import Dialing
from braidmq.benchmarks.engine.loop import Loop
from braidmq.benchmarks.engine.tally import Tally
from braidmq.benchmarks.peer import free_port
from tests.unit.benchmarks.engine.load_support import FakeDriver, a_task

MS = 1_000_000


class Scene:
    """Connections to a port, and all around them."""

    def __init__(self, port: int, **changes: Any) -> None:
        wiring = Wiring(url=f"fake://127.0.0.1:{port}")
        self.task = a_task(role="connections", wirings=(wiring,), **changes)
        self.loop = Loop()
        self.tally = Tally(self.task, self.loop.now_ns())
        self.dialing = Dialing(self.task, FakeDriver(), self.loop, self.tally)

    def dial(self, count: int) -> None:
        """Begin with so many, and wait until they are settled."""
        now_ns = self.loop.now_ns()
        for _ in range(count):
            self.dialing.due(now_ns, now_ns)
        self.settle()

    def settle(self, clients: int = -1) -> None:
        """Until nothing is under way, and so many are held."""
        end_ns = self.loop.now_ns() + 20_000 * MS

        def look(now_ns: int) -> None:
            done = self.dialing.is_settled and clients in (-1, self.tally.clients)
            self.loop.is_over = done or now_ns > end_ns
            self.loop.at(now_ns + MS, look)

        self.loop.is_over = False
        self.loop.at(0, look)
        self.loop.run()


@contextmanager
def a_scene(port: int, **changes: Any) -> Iterator[Scene]:
    scene = Scene(port, **changes)
    yield scene
    scene.dialing.finish()


class Greeter:
    """Answers each greeting with ``answer``; hangs up on ``hang_up``."""

    def __init__(self, answer: bytes) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.open: list[socket.socket] = []
        self._answer = answer
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if client.recv(100) and self._answer:
                client.sendall(self._answer)
                self.open.append(client)
            else:
                client.close()

    def hang_up(self) -> None:
        while self.open:
            self.open.pop().close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        self.hang_up()


@pytest.fixture
def greeter(request: pytest.FixtureRequest) -> Iterator[Greeter]:
    greeter = Greeter(getattr(request, "param", b"hi\n"))
    yield greeter
    greeter.close()


def test_storm_counts_and_hangs_up(greeter: Greeter) -> None:
    with a_scene(greeter.port) as scene:
        scene.dial(20)
        assert scene.tally.confirmed == 20
        assert scene.tally.clients == 0
        assert len(scene.tally.timeline.window()[1]) == 20
        assert scene.tally.problems == []


def test_few_at_once_and_the_others_after_them(greeter: Greeter) -> None:
    with a_scene(greeter.port, inflight=2) as scene:
        scene.dial(9)
        assert scene.tally.confirmed == 9


def test_idle_connections_are_held_and_missed_when_they_end(greeter: Greeter) -> None:
    with a_scene(greeter.port, connections=5) as scene:
        scene.dial(9)
        assert scene.tally.confirmed == scene.tally.clients == 5
        assert scene.dialing.is_complete
        greeter.hang_up()
        scene.settle(clients=0)
        assert scene.tally.clients == 0
        assert scene.tally.problems == [
            "a connection did not last: the broker closed the connection"
        ]


@pytest.mark.parametrize("greeter", [b""], indirect=True)
def test_broker_that_hangs_up_on_a_greeting(greeter: Greeter) -> None:
    with a_scene(greeter.port) as scene:
        scene.dial(1)
        assert scene.tally.confirmed == 0
        assert scene.tally.problems == ["the broker closed the connection"]


def test_who_is_never_greeted_took_until_the_end(greeter: Greeter) -> None:
    with a_scene(greeter.port, inflight=1) as scene:
        now_ns = scene.loop.now_ns()
        for _ in range(3):
            scene.dialing.due(now_ns, now_ns)
        scene.dialing.finish()
        assert scene.tally.problems == ["a connection was never greeted"]
        assert len(scene.tally.timeline.window()[1]) == 3
        assert scene.tally.confirmed == 0


def test_connections_that_cannot_even_begin_hold_nobody_up(
    greeter: Greeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []

    def fail_often(wiring: Wiring) -> socket.socket:
        begun.append(len(begun))
        if begun[-1] % 3:
            raise OSError("too many open files")
        return new_socket(wiring)

    monkeypatch.setattr("braidmq.benchmarks.engine.connecting.new_socket", fail_often)
    with a_scene(greeter.port, inflight=1) as scene:
        scene.dial(3_000)
        assert scene.tally.confirmed == 1_000
        assert scene.tally.problems == ["too many open files"]


def test_every_connection_has_a_name_of_its_own(
    greeter: Greeter, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []

    def greeting(self: FakeDriver, wiring: Wiring) -> bytes:
        names.append(wiring.client_id)
        return b"hello\n"

    monkeypatch.setattr(FakeDriver, "greeting", greeting)
    with a_scene(greeter.port, inflight=2, share_place=7) as scene:
        scene.dial(9)
    assert sorted(names) == [f"bench-7-{number}" for number in range(9)]


def test_nobody_listens() -> None:
    with a_scene(free_port()) as scene:
        scene.dial(2)
        assert scene.tally.confirmed == 0
        assert scene.tally.problems == ["[Errno 111] Connection refused"]
