"""One loop for all sockets of a load process, and for what is due at some time.

Rules:

1. It never blocks on a socket, and sleeps to the microsecond: ``epoll`` counts its timeout in
   milliseconds, so what is waited for is ``select`` on the epoll descriptor, which is made before
   all others and so has a number that ``select`` takes.
2. Everything that is due is done before sockets are looked at again; what that put into the ``out``
   of clients goes out in one write for each.
3. Times are ``time.monotonic_ns()``, read again after each read of a socket.
"""

import contextlib
import ctypes
import heapq
import select
import ssl
import sys
import time
from collections.abc import Callable
from itertools import count
from typing import Final, Protocol

from ..drivers.driver import Client, Refused

__all__ = ["Actor", "Link", "Loop", "Timed"]

Timed = Callable[[int], None]  # is told the time

_READ_BYTES: Final = 256 * 1024
_READS_MAX: Final = 8  # of one socket in a row, where TLS has more in its buffers
_EVENTS_MAX: Final = 256
_SLEEP_SECONDS_MAX: Final = 1.0
_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT
_PR_SET_TIMERSLACK: Final = 29
_SLACK_NS: Final = 1_000
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Actor(Protocol):
    """Who a connection belongs to."""

    def served(self, now_ns: int) -> None:
        """The client took what was read."""

    def written(self, now_ns: int) -> None:
        """All that the client had to say is written."""

    def broken(self, words: str, now_ns: int) -> None:
        """The connection is over, and closed."""


class Link:
    """A client in the loop."""

    def __init__(self, loop: "Loop", client: Client, actor: Actor) -> None:
        self.client = client
        self._loop = loop
        self._actor = actor
        self._socket = client.socket
        self._is_stuck = False  # the socket takes no more for now
        self._is_paused = False
        self._is_closed = False
        loop.register(self._socket.fileno(), self._on_event)

    def touch(self) -> None:
        """There may be something to write: it is written before the loop waits again."""
        self._loop.touched.add(self)

    def pause(self, is_paused: bool) -> None:
        """Read nothing any more, or again."""
        self._is_paused = is_paused
        self._watch()

    def _watch(self) -> None:
        events = (0 if self._is_paused else _IN) | (_OUT if self._is_stuck else 0)
        self._loop.watch(self._socket.fileno(), events)

    def _on_event(self, events: int) -> None:
        if self._is_closed:
            return
        if events & _OUT:
            self._is_stuck = False
            self._watch()
            self.touch()
        if events & ~_OUT:
            self._read()

    def _read(self) -> None:
        buffer, view = self._loop.buffer, self._loop.view
        for _ in range(_READS_MAX):
            try:
                size = self._socket.recv_into(buffer)
            except _NOT_NOW:
                return
            except OSError as error:
                self._end(str(error))
                return
            now_ns = time.monotonic_ns()
            if not size:
                self._end("the broker closed the connection")
                return
            try:
                self.client.feed(bytes(view[:size]))
            except Refused as refusal:
                self._end(str(refusal))
                return
            self._actor.served(now_ns)
            self.touch()
            if self._is_closed:
                return
            if not isinstance(self._socket, ssl.SSLSocket) or not self._socket.pending():
                return

    def flush(self) -> None:
        """Write what there is."""
        out = self.client.out
        if not out or self._is_stuck or self._is_closed:
            return
        try:
            sent = self._socket.send(out)
        except _NOT_NOW:
            sent = 0
        except OSError as error:
            self._end(str(error))
            return
        if sent == len(out):
            out.clear()
            self._actor.written(time.monotonic_ns())
        else:
            del out[:sent]
            self._is_stuck = True
            self._watch()

    def _end(self, words: str) -> None:
        self.close()
        self._actor.broken(words, time.monotonic_ns())

    def close(self) -> None:
        """Hang up."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.forget(self._socket.fileno())
            self.client.close()


class Loop:
    """Sockets and times.

    Attributes:
        touched: connections that may have something to write.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[int, int, Timed]] = []
        self._numbers = count()
        self.touched: set[Link] = set()
        self.buffer = bytearray(_READ_BYTES)
        self.view = memoryview(self.buffer)
        self.is_over = False
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _SLACK_NS)

    def register(self, descriptor: int, callback: Callable[[int], None], events: int = _IN) -> None:
        """Have ``callback`` told what a descriptor is ready for."""
        self._callbacks[descriptor] = callback
        self._epoll.register(descriptor, events)

    def watch(self, descriptor: int, events: int) -> None:
        """Be told of other events."""
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Before a descriptor is closed."""
        if self._callbacks.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def at(self, when_ns: int, call: Timed) -> None:
        """Call something then, or as soon as possible after."""
        heapq.heappush(self._timers, (when_ns, next(self._numbers), call))

    @staticmethod
    def now_ns() -> int:
        """The clock of all times: one for all processes of a machine."""
        return time.monotonic_ns()

    def run(self) -> None:
        """Until ``is_over``."""
        timers = self._timers
        while not self.is_over:
            now_ns = time.monotonic_ns()
            while timers and timers[0][0] <= now_ns:
                heapq.heappop(timers)[2](now_ns)
            self._flush()
            if self.is_over:
                return
            for descriptor, events in self._ready():
                callback = self._callbacks.get(descriptor)
                if callback is not None:
                    callback(events)
            self._flush()

    def _flush(self) -> None:
        # Who has more to say as soon as all is written waits for the next turn.
        touched, self.touched = self.touched, set()
        for link in touched:
            link.flush()

    def _ready(self) -> list[tuple[int, int]]:
        """What happened; waits for it until the next time comes."""
        ready = self._epoll.poll(0, _EVENTS_MAX)
        if ready:
            return ready
        seconds = 0.0 if self.touched else _SLEEP_SECONDS_MAX
        if self._timers:
            seconds = min(seconds, (self._timers[0][0] - time.monotonic_ns()) / 1e9)
        if seconds <= 0 or not select.select([self._epoll], [], [], seconds)[0]:
            return []
        return self._epoll.poll(0, _EVENTS_MAX)
