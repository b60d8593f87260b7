"""What every dialect's session is: bytes in, bytes out, no socket and no clock.

``connection.py`` carries a session over an ``asyncio`` transport; tests and the fuzzers call it
directly. The contract:

1. The carrier calls; the session never calls back but through :class:`Host`, and those calls only
   take a note.
2. After every call, and after a ``Host.wake``, the carrier sends what :meth:`Session.data_to_send`
   returns, closes when ``finished``, stops or goes on reading as ``reading`` says, and calls
   :meth:`Session.proceed` on the next loop turn while ``backlog``.
3. Time is an argument, in unix ms that never go back.
4. A session never raises for what the peer does: it answers, or finishes.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..broker.access import Principal
from ..broker.errors import BraidError

if TYPE_CHECKING:
    from ..broker.passwords import ScramLogin

__all__ = ["Host", "Session", "SessionFactory"]


class Host(Protocol):
    """What a session may ask of the carrier."""

    @property
    def peer(self) -> str:
        """Who is at the other end, for people to read."""

    @property
    def loopback(self) -> bool:
        """Whether the connection came in on a loopback address."""

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""

    @property
    def certificate_user(self) -> str:
        """The user that the peer's certificate names; empty unless the listener asks for it.

        The certificate was verified in the handshake, so such a user needs no password.
        """

    @property
    def connections(self) -> int:
        """How many connections the server has."""

    def wake(self) -> None:
        """There may be something to send, to close or to read: look soon, once."""

    def hurry(self) -> None:
        """:meth:`Session.next_deadline` is earlier than it was."""

    def authenticate(
        self,
        user: str,
        password: bytes,
        callback: Callable[[Principal | BraidError], None],
    ) -> None:
        """Check a password; ``callback`` is called later, unless the connection is lost before."""

    def scram(self) -> "ScramLogin":
        """Begin a login by SCRAM-SHA-256."""

    def authenticated(self) -> None:
        """The peer is known now: it no longer counts as a stranger."""


class Session(Protocol):
    """One connection's state. See the module's contract."""

    finished: bool  # send what there is to send, then close

    @property
    def reading(self) -> bool:
        """Whether more input is welcome now."""

    @property
    def backlog(self) -> bool:
        """Whether input waits that :meth:`proceed` can handle."""

    @property
    def answering(self) -> bool:
        """Whether the peer will be answered as soon as the log has kept what it sent."""

    def receive_data(self, data: bytes, now_ms: int) -> None:
        """Take bytes from the peer."""

    def receive_eof(self, now_ms: int) -> None:
        """The peer will send nothing more."""

    def proceed(self, now_ms: int) -> None:
        """Handle a part of the backlog."""

    def data_to_send(self, now_ms: int) -> bytes | bytearray:
        """Bytes for the peer; the caller owns them."""

    def next_deadline(self) -> int | None:
        """When :meth:`tick` should be called, unix ms. It may rise without notice."""

    def tick(self, now_ms: int) -> None:
        """Time has passed."""

    def pause_writing(self) -> None:
        """The peer does not read: produce as little as possible."""

    def resume_writing(self) -> None:
        """The peer reads again."""

    def shut_down(self, now_ms: int) -> None:
        """The server stops: take nothing new, answer what was taken, then be ``finished``."""

    def connection_lost(self, now_ms: int) -> None:
        """The connection is gone: let go of all it held. Nothing is called after this."""


SessionFactory = Callable[[Host, int], Session]  # made for one listener, with its options
