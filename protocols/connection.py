"""The one ``asyncio.Protocol``: it carries a session's bytes, and decides nothing.

Rules:

1. One write per loop turn: what a read produced goes out right after it, everything else once,
   when the turn is over.
2. The session says whether to read; this stops and resumes the transport accordingly.
3. A peer that takes nothing for ``STALLED_SECONDS`` while data waits for it is cut off.
4. After a session's last words the socket is closed for writing, and what still comes in is thrown
   away for at most ``LINGER_SECONDS``: closed at once, the kernel would destroy those words.
5. A session's deadline is kept by the keeper, and asked for again only when it was reached or the
   peer became known: a timer of its own would cost every idle connection more than all the rest.
6. Bytes come by ``data_received``. uvloop reads into one buffer per loop already, and a session
   keeps slices of what it gets, so a ``BufferedProtocol`` has to copy them as well: it was slower.
7. What was read and will not be answered is acknowledged to the peer's kernel at once. Many
   clients (all that are built on paho) leave Nagle's algorithm on: what they write next waits for
   that acknowledgement, which the kernel here would hold back for 40 ms in the hope of an answer.
   An answer that waits for the log acknowledges in time: to be quicker costs a call and a packet.
"""

import asyncio
import socket
from collections.abc import Callable
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..broker.access import Principal
from ..broker.errors import BraidError
from .session import Session, SessionFactory

if TYPE_CHECKING:
    from ..broker.passwords import ScramLogin

__all__ = [
    "LINGER_SECONDS",
    "OUTBOUND_BYTES_HIGH",
    "OUTBOUND_BYTES_LOW",
    "STALLED_SECONDS",
    "Connection",
    "Keeper",
    "is_loopback",
]

OUTBOUND_BYTES_HIGH = 1024 * 1024  # waiting in the transport: the peer counts as slow
OUTBOUND_BYTES_LOW = 256 * 1024
STALLED_SECONDS = 30.0
LINGER_SECONDS = 1.0
_TCP_QUICKACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


class Keeper(Protocol):
    """Whoever accepted the connection, and counts it."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop."""

    @property
    def connections(self) -> int:
        """How many there are."""

    def now_ms(self) -> int:
        """Unix time in ms that never goes back."""

    def join(self, connection: "Connection") -> bool:
        """Count it in; False when there are too many already."""

    def authenticated(self, connection: "Connection") -> None:
        """It is no stranger any more."""

    def authenticate(
        self,
        user: str,
        password: bytes,
        peer: str,
        callback: Callable[[Principal | BraidError], None],
    ) -> "asyncio.Future[None]":
        """Check a password beside the loop; cancel what is returned to forget about it."""

    def scram(self, peer: str) -> "ScramLogin":
        """Begin a login by SCRAM-SHA-256."""

    def leave(self, connection: "Connection") -> None:
        """It is gone."""

    def wake(self, connection: "Connection") -> None:
        """Call its :meth:`Connection.look` once this loop turn is over."""

    def set_deadline(self, connection: "Connection", at_ms: int | None) -> None:
        """Call its :meth:`Connection.tick` at that time, and not at one set before."""


class Connection(asyncio.Protocol):
    """Bytes between a transport and a session.

    ``user_of`` names the user of a verified certificate; None when certificates name nobody.
    ``bucket`` is the keeper's: where it put the deadline, or -1.
    """

    __slots__ = (
        "_checking",
        "_factory",
        "_is_reading",
        "_keeper",
        "_session",
        "_socket",
        "_stalled",
        "_transport",
        "_user_of",
        "_waiting_bytes",
        "_woken",
        "bucket",
        "certificate_user",
        "loopback",
        "peer",
        "tls",
    )

    def __init__(
        self,
        keeper: Keeper,
        factory: SessionFactory,
        user_of: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self._keeper = keeper
        self._factory = factory
        self._user_of = user_of
        self._session: Session | None = None
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._socket: socket.socket | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._checking: asyncio.Future[None] | None = None
        self._waiting_bytes = 0
        self._is_reading = True
        self._woken = False
        self.bucket = -1
        self.peer = "?"
        self.loopback = False
        self.tls = False
        self.certificate_user = ""

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.peer = _address(transport.get_extra_info("peername"))
        self.loopback = is_loopback(_address(transport.get_extra_info("sockname")))
        ssl_object = transport.get_extra_info("ssl_object")
        if ssl_object is not None:
            self.tls = True
            if self._user_of is not None and (certificate := ssl_object.getpeercert()):
                self.certificate_user = self._user_of(certificate)
        if not self._keeper.join(self):
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(OUTBOUND_BYTES_HIGH, OUTBOUND_BYTES_LOW)
        self._session = self._factory(self, self._keeper.now_ms())
        self._arm()

    def data_received(self, data: bytes) -> None:
        session = self._session
        if session is not None:
            now_ms = self._keeper.now_ms()
            session.receive_data(data, now_ms)
            if not self._send(session, now_ms) and not session.answering:
                self._acknowledge()

    def eof_received(self) -> bool:
        session = self._session
        if session is not None:
            now_ms = self._keeper.now_ms()
            session.receive_eof(now_ms)
            self._send(session, now_ms)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        session = self._session
        self._session = None
        if self._socket is not None:
            self._socket.detach()  # it is the transport's to close
            self._socket = None
        if self._stalled is not None:
            self._stalled.cancel()
        if self._checking is not None:
            self._checking.cancel()
        if session is not None:
            session.connection_lost(self._keeper.now_ms())
        self._keeper.leave(self)

    def pause_writing(self) -> None:
        if self._session is not None:
            self._session.pause_writing()
        self._waiting_bytes = self._transport.get_write_buffer_size()
        self._stalled = self._keeper.loop.call_later(STALLED_SECONDS, self._check_progress)

    def resume_writing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        if self._session is not None:
            self._session.resume_writing()
            self.wake()

    # --- what the session asks ---

    @property
    def connections(self) -> int:
        """How many connections the server has."""
        return self._keeper.connections

    def wake(self) -> None:
        """Look after the session once this loop turn is over."""
        if not self._woken:
            self._woken = True
            self._keeper.wake(self)

    def authenticate(
        self, user: str, password: bytes, callback: Callable[[Principal | BraidError], None]
    ) -> None:
        """Check a password; ``callback`` is called later."""
        self._checking = self._keeper.authenticate(user, password, self.peer, callback)

    def scram(self) -> "ScramLogin":
        """Begin a login by SCRAM-SHA-256."""
        return self._keeper.scram(self.peer)

    def hurry(self) -> None:
        """Ask the session for its deadline again."""
        self._keeper.loop.call_soon(self._arm)

    def authenticated(self) -> None:
        """The peer is known now."""
        self._checking = None
        self._keeper.authenticated(self)
        self._keeper.loop.call_soon(self._arm)

    # --- what the server asks ---

    def shut_down(self) -> None:
        """Finish what was begun, then close."""
        session = self._session
        if session is not None:
            session.shut_down(self._keeper.now_ms())
            self.wake()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def look(self) -> None:
        """Do what the session was woken for."""
        self._woken = False
        session = self._session
        if session is not None:
            now_ms = self._keeper.now_ms()
            if session.backlog:
                session.proceed(now_ms)
            self._send(session, now_ms)

    def tick(self) -> None:
        """The deadline was reached: the session's, or that of the peer to read last words."""
        session = self._session
        if session is None:
            self._transport.abort()
            return
        now_ms = self._keeper.now_ms()
        session.tick(now_ms)
        self._send(session, now_ms)
        self._arm()

    # --- the rest ---

    def _send(self, session: Session, now_ms: int) -> bool:
        """Write what there is; then read on, stop reading, or close, as the session says.

        Returns whether something was written, or nothing ever will be.
        """
        data = session.data_to_send(now_ms)
        if data:
            self._transport.write(data)
        if session.finished:
            self._finish(session, now_ms)
            return True
        reading = session.reading
        if reading is not self._is_reading:
            self._is_reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()
        if session.backlog:
            self.wake()
        return bool(data)

    def _acknowledge(self) -> None:
        """Tell the peer's kernel what has come. It holds for once, so it is said each time."""
        if _TCP_QUICKACK is None:
            return
        if self._socket is None:
            self._socket = _borrow_socket(self._transport)
        if self._socket is not None:
            try:
                self._socket.setsockopt(socket.IPPROTO_TCP, _TCP_QUICKACK, 1)
            except OSError:
                pass  # the peer is gone; the loop will notice

    def _finish(self, session: Session, now_ms: int) -> None:
        self._session = None
        session.connection_lost(now_ms)
        self._keeper.set_deadline(self, None)
        if self._transport.is_closing():
            return
        if not self._is_reading:
            self._is_reading = True
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            try:
                self._transport.write_eof()
            except OSError:  # the peer has reset the connection meanwhile
                self._transport.abort()
                return
            self._keeper.set_deadline(self, now_ms + int(LINGER_SECONDS * 1000))
        else:
            self._transport.close()

    def _arm(self) -> None:
        if self._session is not None:
            self._keeper.set_deadline(self, self._session.next_deadline())

    def _check_progress(self) -> None:
        waiting = self._transport.get_write_buffer_size()
        if waiting >= self._waiting_bytes:
            self._transport.abort()
            return
        self._waiting_bytes = waiting
        self._stalled = self._keeper.loop.call_later(STALLED_SECONDS, self._check_progress)


def _borrow_socket(transport: asyncio.Transport) -> socket.socket | None:
    """The socket of a transport, to be detached before that closes it.

    The one that uvloop shows makes such a one for each call: three quarters of what setting costs.
    """
    shown = transport.get_extra_info("socket")
    if shown is None:
        return None
    return socket.socket(shown.family, shown.type, shown.proto, fileno=shown.fileno())


def _address(name: Any) -> str:
    return str(name[0]) if isinstance(name, tuple) else "local"


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach ``address``."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
