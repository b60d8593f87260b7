"""A WebSocket as a carrier: another dialect's session inside it sees a stream of bytes.

To the connection this is a session, to the session inside it is the host. Rules:

1. Frame boundaries mean nothing: payload is handed in as it comes, [MQTT-6.0.0-2], and everything
   the session inside says in a turn goes out as one message: text if the client's last one was, and
   it is UTF-8; else binary.
2. What the session inside wants of its carrier (reading, backlog, deadlines, the end) is passed on;
   it does not learn that there is a WebSocket around it.
3. After a close frame, ours or the client's, nothing more is read and the connection ends: the
   carrier lingers for what the client still says.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...broker.access import Principal
from ...broker.errors import BraidError
from ...broker.limits import Limits
from ..session import Host
from .frames import FrameReader, append_close, append_data, append_pong
from .handshake import Subprotocol

if TYPE_CHECKING:
    from ...broker.passwords import ScramLogin

__all__ = ["WebSocketSession"]

_NORMAL = (1000).to_bytes(2, "big")
_GOING_AWAY = (1001).to_bytes(2, "big")
_TOO_BIG = 1009


class WebSocketSession:
    """One WebSocket, from the end of its handshake to the end of its connection."""

    def __init__(self, subprotocol: Subprotocol, host: Host, limits: Limits, now_ms: int) -> None:
        self.finished = False
        self._host = host
        self._limits = limits
        self._frames = FrameReader(limits.frame_bytes_unauthenticated_max, subprotocol.takes_text)
        self._is_known = False
        self._peer_is_slow = False
        self._is_stopping = False
        self._inner = subprotocol.factory(self, now_ms)

    # --- what the carrier calls ---

    @property
    def reading(self) -> bool:
        """Whether more input is welcome now."""
        return not self._frames.more and self._inner.reading

    @property
    def backlog(self) -> bool:
        """Whether :meth:`proceed` has something to do."""
        inner = self._inner
        return inner.backlog or (self._frames.more and inner.reading)

    @property
    def answering(self) -> bool:
        """Whether the session inside will answer soon."""
        return self._inner.answering

    def receive_data(self, data: bytes, now_ms: int) -> None:
        """Take frames, or parts of them, from the client."""
        inner = self._inner
        frames = self._frames
        if self.finished or inner.finished or frames.close is not None:
            return
        payload = frames.read(data)
        if payload:
            inner.receive_data(payload, now_ms)
        if not self._is_known and len(frames) > self._limits.frame_bytes_unauthenticated_max:
            frames.fail(_TOO_BIG, "log in before you send anything else")

    def receive_eof(self, now_ms: int) -> None:
        """The client hung up without a close frame."""
        if not self.finished:
            self._inner.receive_eof(now_ms)
            self.finished = True

    def proceed(self, now_ms: int) -> None:
        """Let the session inside go on, or give it the next frames."""
        inner = self._inner
        if inner.backlog:
            inner.proceed(now_ms)
        elif self._frames.more and inner.reading:
            self.receive_data(b"", now_ms)

    def data_to_send(self, now_ms: int) -> bytearray:
        """All that should go to the client now. The caller owns it."""
        out = bytearray()
        if self.finished:
            return out
        inner = self._inner
        frames = self._frames
        data = inner.data_to_send(now_ms)
        if data:
            append_data(out, data, frames.is_text)
        if frames.ping is not None and not self._peer_is_slow:
            append_pong(out, frames.ping)
            frames.ping = None
        if frames.close is not None:
            append_close(out, frames.close)
            self.finished = True
        elif inner.finished:
            append_close(out, _GOING_AWAY if self._is_stopping else _NORMAL)
            self.finished = True
        return out

    def next_deadline(self) -> int | None:
        """When :meth:`tick` has something to do, unix ms."""
        return None if self.finished else self._inner.next_deadline()

    def tick(self, now_ms: int) -> None:
        """Time has passed."""
        if not self.finished:
            self._inner.tick(now_ms)

    def pause_writing(self) -> None:
        """The client does not read."""
        self._peer_is_slow = True
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._peer_is_slow = False
        self._inner.resume_writing()

    def shut_down(self, now_ms: int) -> None:
        """Let the session inside finish, then say that the server goes away."""
        if not self.finished:
            self._is_stopping = True
            self._inner.shut_down(now_ms)

    def connection_lost(self, now_ms: int) -> None:
        """The connection is gone."""
        self.finished = True
        self._inner.connection_lost(now_ms)

    # --- what the session inside asks of its host ---

    @property
    def peer(self) -> str:
        """Who is at the other end of the connection."""
        return self._host.peer

    @property
    def loopback(self) -> bool:
        """Whether the connection came in on a loopback address."""
        return self._host.loopback

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self._host.tls

    @property
    def certificate_user(self) -> str:
        """The user that the client's certificate names."""
        return self._host.certificate_user

    @property
    def connections(self) -> int:
        """How many connections the server has."""
        return self._host.connections

    def wake(self) -> None:
        """Look soon, once."""
        self._host.wake()

    def authenticate(
        self, user: str, password: bytes, callback: Callable[[Principal | BraidError], None]
    ) -> None:
        """Check a password."""
        self._host.authenticate(user, password, callback)

    def scram(self) -> "ScramLogin":
        """Begin a login by SCRAM-SHA-256."""
        return self._host.scram()

    def hurry(self) -> None:
        """Its deadline is earlier than it was."""
        self._host.hurry()

    def authenticated(self) -> None:
        """The client is known: its frames may be long now."""
        self._is_known = True
        self._frames.frame_bytes_max = self._limits.frame_bytes_max
        self._host.authenticated()
