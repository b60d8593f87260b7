"""Connections for their own sake: how fast they are made, and how many can be held.

A connection is due at its time (``schedule.py``) and done when the broker has answered what a
client says first; all of it without blocking. With TLS the handshake is part of it. In a storm each
ends when it is greeted; else they are held until the end.
"""

import contextlib
import errno
import os
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from ..drivers.connection import address, new_socket
from ..drivers.driver import Driver, Refused, Wiring
from .loop import Loop
from .tally import Tally
from .task import Task

__all__ = ["Dialing"]

_READ_BYTES: Final = 65_536
_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT


class _Dial:
    """One connection on its way."""

    def __init__(self, dialing: "Dialing", wiring: Wiring, due_ns: int) -> None:
        self._dialing = dialing
        self.due_ns = due_ns
        self._out = dialing.driver.greeting(wiring)
        self._heard = b""
        self._is_connected = False
        self._is_greeted = False
        self.socket = new_socket(wiring)
        self.socket.setblocking(False)
        self._shake: Callable[[], None] | None = None
        if wiring.tls_ca:
            # The handshake is made step by step, as the socket becomes ready.
            context = dialing.tls_of(wiring.tls_ca)
            host = address(wiring.url)[0]
            tls = context.wrap_socket(
                self.socket, server_hostname=host, do_handshake_on_connect=False
            )
            self.socket, self._shake = tls, tls.do_handshake
        code = self.socket.connect_ex(address(wiring.url))
        if code not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(code, os.strerror(code))
        dialing.loop.register(self.socket.fileno(), self.on_event, _OUT)

    def on_event(self, events: int) -> None:
        """Go on with the next step that the socket allows."""
        loop, number = self._dialing.loop, self.socket.fileno()
        try:
            if not self._is_connected:
                code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if code:
                    raise OSError(code, os.strerror(code))
                self._is_connected = True
            if self._shake is not None:
                self._shake()
                self._shake = None
            if self._out:
                self._out = self._out[self.socket.send(self._out) :]
                loop.watch(number, _OUT if self._out else _IN)
            self._listen()
        except (BlockingIOError, ssl.SSLWantReadError):
            loop.watch(number, _OUT if self._out and self._shake is None else _IN)
        except ssl.SSLWantWriteError:
            loop.watch(number, _OUT)
        except (OSError, Refused) as error:
            self.close()
            self._dialing.failed(self, str(error), self._is_greeted)

    def _listen(self) -> None:
        data = self.socket.recv(_READ_BYTES)
        if not data:
            raise OSError("the broker closed the connection")
        if self._is_greeted:
            return
        self._heard += data
        if self._dialing.driver.is_greeted(self._heard):
            self._heard = b""
            self._is_greeted = True
            self._dialing.greeted(self)

    def close(self) -> None:
        """Hang up."""
        self._dialing.loop.forget(self.socket.fileno())
        with contextlib.suppress(OSError):
            self.socket.close()


class Dialing:
    """All connections of a process."""

    def __init__(self, task: Task, driver: Driver, loop: Loop, tally: Tally) -> None:
        self.driver = driver
        self.loop = loop
        self._task = task
        self._tally = tally
        self._contexts: dict[str, ssl.SSLContext] = {}
        self._under_way: set[_Dial] = set()
        self._held: set[_Dial] = set()
        self._waiting: deque[int] = deque()  # when those were due that have to wait
        self._made = 0  # that were due
        self._dialed = 0  # that were begun: one that waits has no number yet

    def tls_of(self, authority: str) -> ssl.SSLContext:
        """What to trust."""
        if authority not in self._contexts:
            self._contexts[authority] = ssl.create_default_context(cafile=authority)
        return self._contexts[authority]

    @property
    def is_settled(self) -> bool:
        """Whether nothing is waited for."""
        return not self._under_way and not self._waiting

    @property
    def is_complete(self) -> bool:
        """Whether as many were begun as are to be made."""
        return bool(self._task.connections) and self._made >= self._task.connections

    def due(self, due_ns: int, now_ns: int) -> None:
        """A connection is due."""
        if self.is_complete:
            return
        self._made += 1
        self._waiting.append(due_ns)
        self._next()

    def _dial(self, due_ns: int) -> None:
        number = self._dialed
        self._dialed += 1
        wiring = self._task.wirings[number % len(self._task.wirings)]
        name = f"{wiring.client_id or 'bench'}-{self._task.share_place}-{number}"
        wiring = msgspec.structs.replace(wiring, client_id=name)
        self._tally.timeline.current.published += 1
        try:
            self._under_way.add(_Dial(self, wiring, due_ns))
        except OSError as error:
            self._tally.problem(str(error))

    def _next(self) -> None:
        """Begin with as many of those that are due as may be under way."""
        while self._waiting and len(self._under_way) < self._task.inflight:
            self._dial(self._waiting.popleft())

    def greeted(self, dial: _Dial) -> None:
        """The broker has answered."""
        now_ns = self.loop.now_ns()
        tally = self._tally
        tally.timeline.record(dial.due_ns, now_ns)
        tally.timeline.current.confirmed += 1
        tally.confirmed += 1
        tally.progressed(now_ns)
        self._under_way.discard(dial)
        if self._task.connections:
            self._held.add(dial)
            tally.clients += 1
        else:
            dial.close()
        self._next()

    def failed(self, dial: _Dial, words: str, was_greeted: bool) -> None:
        """It was refused, or ended by the broker."""
        if was_greeted:
            self._tally.clients -= 1
            words = f"a connection did not last: {words}"
        self._tally.problem(words)
        self._under_way.discard(dial)
        self._held.discard(dial)
        self._next()

    def finish(self) -> None:
        """Hang up; who was never greeted took at least until now."""
        now_ns = self.loop.now_ns()
        for due_ns in (*self._waiting, *(dial.due_ns for dial in self._under_way)):
            self._tally.problem("a connection was never greeted")
            self._tally.timeline.record(due_ns, now_ns)
        for dial in (*self._under_way, *self._held):
            dial.close()
