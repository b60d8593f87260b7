"""The loop over real sockets: times in order, partial writes, ends."""

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.engine.loop import Link, Loop, Timed

MS = 1_000_000


class Both:
    """A client and its actor in one, at the end of a socket pair."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.out = bytearray()
        self.came = b""
        self.words: list[str] = []
        self.events: list[str] = []

    def feed(self, data: bytes) -> None:
        if data == b"no":
            raise Refused("the broker said no")
        self.came += data

    def close(self) -> None:
        self.socket.close()

    def served(self, now_ns: int) -> None:
        self.events.append("served")

    def written(self, now_ns: int) -> None:
        self.events.append("written")

    def broken(self, words: str, now_ns: int) -> None:
        self.words.append(words)


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def pair(loop: Loop) -> Iterator[tuple[Both, Link, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    both = Both(ours)
    with theirs:
        yield both, Link(loop, both, both), theirs
    ours.close()


def run(loop: Loop, milliseconds: int = 20) -> None:
    def end(now_ns: int) -> None:
        loop.is_over = True

    loop.is_over = False
    loop.at(time.monotonic_ns() + milliseconds * MS, end)
    loop.run()


def test_times_come_in_order_and_none_too_early(loop: Loop) -> None:
    begin = time.monotonic_ns()
    called: list[tuple[int, int]] = []

    def note(place: int) -> Timed:
        return lambda now_ns: called.append((place, now_ns))

    for place in (3, 1, 2):
        loop.at(begin + place * MS, note(place))
    run(loop)
    assert [place for place, _ in called] == [1, 2, 3]
    assert all(now_ns >= begin + place * MS for place, now_ns in called)


def test_what_comes_is_fed(loop: Loop, pair: Any) -> None:
    both, _, theirs = pair
    theirs.send(b"hello")
    run(loop)
    assert both.came == b"hello"
    assert both.events == ["served"]


def test_what_is_written_goes_out_in_parts_when_the_socket_is_full(loop: Loop, pair: Any) -> None:
    both, link, theirs = pair
    theirs.setblocking(False)
    data = bytes(range(256)) * 20_000
    both.out += data
    link.touch()
    came = bytearray()

    def read(now_ns: int) -> None:
        try:
            came.extend(theirs.recv(1 << 20))
        except BlockingIOError:
            pass
        loop.is_over = len(came) == len(data)
        loop.at(now_ns + MS // 10, read)

    loop.at(0, read)
    loop.run()
    assert bytes(came) == data
    assert not both.out
    assert both.events == ["written"]


def test_paused_connection_is_not_read(loop: Loop, pair: Any) -> None:
    both, link, theirs = pair
    link.pause(True)
    theirs.send(b"later")
    run(loop)
    assert both.came == b""
    link.pause(False)
    run(loop)
    assert both.came == b"later"


def test_end_of_a_connection_is_told_once(loop: Loop, pair: Any) -> None:
    both, link, theirs = pair
    theirs.close()
    both.out += b"for nobody"
    link.touch()
    run(loop)
    assert len(both.words) == 1
    assert both.socket.fileno() == -1


def test_refusal_ends_a_connection(loop: Loop, pair: Any) -> None:
    both, _, theirs = pair
    theirs.send(b"no")
    run(loop)
    assert both.words == ["the broker said no"]


def test_who_writes_whenever_all_is_written_does_not_stop_the_clock(loop: Loop, pair: Any) -> None:
    both, link, theirs = pair

    def written(now_ns: int) -> None:
        both.out += b"x"
        link.touch()
        theirs.recv(1 << 16)

    both.written = written
    written_first = time.monotonic_ns()
    both.out += b"x"
    link.touch()
    run(loop, 5)
    assert time.monotonic_ns() - written_first >= 5 * MS
    assert not both.words


def test_nothing_is_read_when_it_is_over(loop: Loop, pair: Any) -> None:
    both, _, theirs = pair
    theirs.send(b"too late")
    run(loop, 0)
    assert both.came == b""
