"""The handshake: which version is spoken, how often hearts beat, who the client is.

CONNECT and STOMP are one. Who it is says, in this order: the name in its certificate, where the
listener asks for that; nobody, on a loopback address without users; ``login`` and ``passcode``.
Before the answer nothing is known of the client, so an ERROR is written as 1.0 has it, which all
versions can read.
"""

from typing import TYPE_CHECKING, Final

from ...broker.access import Principal
from ...broker.errors import BraidError, Unauthenticated
from .frames import V10, V11, V12, Frame, Version, encode

if TYPE_CHECKING:
    from .session import StompSession

__all__ = ["Connecting", "agreed_beats", "agreed_version"]

_BEAT_DIGITS_MAX = 9
_VERSIONS: Final = (V12, V11, V10)
_ESCAPES: Final = ((r"\c", ":"), (r"\n", "\n"), (r"\r", "\r"))


def agreed_version(headers: dict[str, str]) -> Version | None:
    """The highest version that both speak; None: there is none."""
    asked = headers.get("accept-version")
    if asked is None:
        return V10
    offered = {text.strip() for text in asked.split(",")}
    return next((version for version in _VERSIONS if version.value in offered), None)


def agreed_beats(written: str, ms_min: int) -> tuple[int, int] | None:
    """Ms between the client's heart-beats, and between ours; 0: none. None: not two numbers."""
    parts = [part.strip() for part in written.split(",")]
    if len(parts) != 2 or not all(
        part.isascii() and part.isdigit() and len(part) <= _BEAT_DIGITS_MAX for part in parts
    ):
        return None
    can, wants = map(int, parts)
    if not ms_min:
        return 0, 0
    return max(can, ms_min) if can else 0, max(wants, ms_min) if wants else 0


class Connecting:
    """The handshake of one client. It is dropped when the handshake is over."""

    def __init__(self, session: "StompSession", frame: Frame) -> None:
        self._session = session
        self._frame = frame
        self._version: Version = V10
        self._beats = (0, 0)
        self._tried_unescaped = False

    def begin(self) -> None:
        """Handle CONNECT. The end comes by ``session.let_in`` or ``session.fail``."""
        session, headers = self._session, self._frame.headers
        receipt = headers.get("receipt", "")
        if self._frame.command not in ("CONNECT", "STOMP"):
            text = f"The first frame is CONNECT or STOMP, not {self._frame.command}.\n"
            session.fail("Not connected", text, receipt)
            return
        version = agreed_version(headers)
        if version is None:
            text = "Supported protocol versions are 1.0, 1.1 and 1.2.\n"
            known = ("version", "1.0,1.1,1.2")
            session.fail("Supported protocol versions are 1.0,1.1,1.2", text, receipt, known)
            return
        self._version = version
        if version is not V10 and "heart-beat" in headers:
            ms_min = session.options.heart_beat_ms_min
            beats = agreed_beats(headers["heart-beat"], ms_min)
            if beats is None:
                text = "heart-beat is two numbers of ms with a comma between, as 10000,10000.\n"
                session.fail("Bad heart-beat", text, receipt)
                return
            self._beats = beats
        try:
            self._authenticate()
        except BraidError as error:
            session.fail_with(error, receipt)

    def _authenticate(self) -> None:
        session, headers = self._session, self._frame.headers
        host, access = session.host, session.core.access
        if host.certificate_user:
            self._admit(access.principal(host.certificate_user))
        elif access.anonymous_allowed(host.loopback):
            # Clients of both brokers log in as guest unless they are told not to.
            self._admit(access.anonymous(host.loopback))
        elif headers.get("login") or headers.get("passcode"):
            session.wait_for_proof()
            self._try(headers.get("login", ""), headers.get("passcode", ""))
        else:
            raise Unauthenticated("this listener needs a user and a password")

    def _try(self, login: str, passcode: str) -> None:
        self._session.host.authenticate(login, passcode.encode(), self._on_authenticated)

    def _on_authenticated(self, who: Principal | BraidError) -> None:
        session, headers = self._session, self._frame.headers
        if session.finished:
            return
        receipt = headers.get("receipt", "")
        if isinstance(who, BraidError):
            if self._try_unescaped():
                return
            refused = isinstance(who, Unauthenticated)
            login = headers.get("login", "")
            session.fail_with(session.dialect.not_let_in(login) if refused else who, receipt)
        else:
            try:
                self._admit(who)
            except BraidError as error:
                session.fail_with(error, receipt)
        session.wake()

    def _try_unescaped(self) -> bool:
        """Some clients escape the headers of STOMP, and others do not: take both."""
        headers = self._frame.headers
        login, passcode = headers.get("login", ""), headers.get("passcode", "")
        meant = _unescaped(login), _unescaped(passcode)
        if self._tried_unescaped or meant == (login, passcode):
            return False
        self._tried_unescaped = True
        self._try(*meant)
        return True

    def _admit(self, who: Principal) -> None:
        session, headers = self._session, self._frame.headers
        client_id = headers.get("client-id", "")
        if client_id:
            session.core.clients.check_client_id(client_id)
            who = session.core.access.for_client(who, client_id)
            session.client_id = client_id
        told = [
            ("version", self._version.value),
            ("server", f"BraidMQ/{session.core.version}"),
            ("session", session.id),
            ("user-name", who.name),
        ]
        if self._version is not V10:
            ms_min = session.options.heart_beat_ms_min
            told.append(("heart-beat", f"{ms_min},{ms_min}"))
        connected = encode("CONNECTED", told, b"", self._version)
        session.let_in(who, self._version, self._beats, connected)


def _unescaped(text: str) -> str:
    parts = text.split(r"\\")
    for escape, meant in _ESCAPES:
        parts = [part.replace(escape, meant) for part in parts]
    return "\\".join(parts)
