"""Sockets that accept: addresses, TLS, and how many connections there may be.

Rules:

1. Nobody can log in as nobody from another machine: without users only loopback is bound.
2. A connection beyond the limits is closed at once, before a byte of it is read. The limit stays
   below what the process may open, so that the log always finds a file descriptor; should the
   system run out nevertheless, the event loop pauses accepting for a second by itself.
3. A port of 0 is the system's choice; ``urls`` tells it.
4. What a listener grants and the certificate it shows can be replaced while it is open, for
   connections from then on; everything else about it cannot.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from ..broker.access import Principal
from ..broker.certificates import user_of_certificate
from ..broker.config import Listener
from ..broker.errors import BraidError, InvalidArgument, Unauthenticated
from ..broker.jwt import JwtSettings, JwtVerifier
from ..broker.passwords import ScramLogin, Verifier
from ..broker.runtime import Broker
from ..broker.schemes import SCHEMES
from .addresses import Addresses
from .connection import Connection, is_loopback
from .deadlines import Deadlines
from .session import SessionFactory
from .tls import ListenerTls

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["Acceptor", "Dialect", "Endpoint", "parse_url"]

_DESCRIPTORS_RESERVED = 64  # for the log, the listening sockets, the standard streams
_BACKLOG = 1_024
# Whoever vanished without a word, and has no keep-alive of its own, is noticed after 10 minutes.
_KEEPALIVE = {"TCP_KEEPIDLE": 300, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}

logger = logging.getLogger(__name__)

Dialect = Callable[[Listener], SessionFactory]
"""How sessions are made for the connections of a listener."""


def parse_url(url: str) -> tuple[str, str, int]:
    """``scheme://host:port`` as (scheme, host, port). Raises InvalidArgument."""
    listener = Listener(url=url)
    try:
        parts = listener.parts
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"{url}: {error}") from None
    scheme = listener.scheme
    if scheme is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise InvalidArgument(f"{url}: the scheme is one of {known}")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username is not None:
        raise InvalidArgument(f"{url}: expected {parts.scheme}://host:port")
    return parts.scheme, parts.hostname, scheme.port if port is None else port


class Endpoint:
    """One listener that is open: what its next connections get."""

    __slots__ = ("factory", "listener", "tls", "user_of")

    def __init__(
        self,
        listener: Listener,
        factory: SessionFactory,
        tls: ListenerTls | None,
        user_of: Callable[[dict[str, Any]], str] | None,
    ) -> None:
        self.listener = listener
        self.factory = factory
        self.tls = tls
        self.user_of = user_of


class Acceptor:
    """All listening sockets of a server, and the connections that came in by them."""

    def __init__(
        self, broker: Broker, dialects: Mapping[str, Dialect], jwt: JwtSettings | None = None
    ) -> None:
        self.urls: list[str] = []
        self.refused = 0
        self.loop = asyncio.get_running_loop()
        self._broker = broker
        self._dialects = dialects
        self._verifier = Verifier(broker.access, _tokens(jwt))
        self._endpoints: list[Endpoint] = []
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._strangers: set[Connection] = set()
        self._addresses = Addresses()
        self._woken: list[Connection] = []
        self._deadlines: Deadlines[Connection] = Deadlines()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._closing = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._connections_max = min(broker.limits.connections_max, _descriptors_max())
        self.now_ms = broker.now_ms

    # --- listening ---

    async def listen(self, listener: Listener, context: ssl.SSLContext | None = None) -> None:
        """Bind a listener and accept. ``context`` is for one with TLS that names no certificate.

        Raises:
            InvalidArgument: the URL is wrong, or the listener needs a certificate.
            ConfigInvalid: its certificate cannot be used.
            OSError: the port is in use.
        """
        url = listener.url
        name, host, port = parse_url(url)
        scheme = SCHEMES[name]
        dialect = self._dialects.get(scheme.dialect)
        if dialect is None:
            raise InvalidArgument(f"{url}: {name}:// is not part of this installation")
        tls = ListenerTls(listener) if scheme.tls and listener.tls_certificate else None
        if tls is not None:
            context = tls.context
        elif scheme.tls and context is None:
            raise InvalidArgument(f"{url}: needs a certificate")
        user_of = partial(_user_of, listener) if listener.certificate_user else None
        endpoint = Endpoint(listener, dialect(listener), tls, user_of)
        self._endpoints.append(endpoint)
        for bound in await self._bind(url, host, port, scheme.tls):
            address = bound.getsockname()
            where = f"[{address[0]}]" if ":" in address[0] else address[0]
            self._servers.append(
                await self.loop.create_server(
                    lambda: Connection(self, endpoint.factory, endpoint.user_of),
                    sock=bound,
                    backlog=_BACKLOG,
                    ssl=context if scheme.tls else None,
                    ssl_handshake_timeout=self._handshake_seconds() if scheme.tls else None,
                )
            )
            self.urls.append(f"{name}://{where}:{address[1]}")

    def prepare(
        self, listeners: Sequence[Listener], jwt: JwtSettings | None = None
    ) -> Callable[[], int]:
        """Read certificates again and take new options, in the order in which they were opened.

        Returns what puts all of it in force, and then returns how many certificates it were.
        Nothing is changed before. Raises ConfigInvalid, InvalidArgument.
        """
        assert len(listeners) == len(self._endpoints)
        tokens = _tokens(jwt)
        changes = [
            (
                endpoint,
                listener,
                self._dialects[SCHEMES[parse_url(listener.url)[0]].dialect](listener),
                endpoint.tls.prepared() if endpoint.tls is not None else None,
            )
            for endpoint, listener in zip(self._endpoints, listeners, strict=True)
        ]

        def commit() -> int:
            self._verifier.tokens = tokens
            certificates = 0
            for endpoint, listener, factory, context in changes:
                endpoint.listener, endpoint.factory = listener, factory
                if endpoint.tls is not None and context is not None:
                    endpoint.tls.replace(context)
                    certificates += 1
            return certificates

        return commit

    async def _bind(self, url: str, host: str, port: int, tls: bool) -> Sequence[socket.socket]:
        try:
            found = await self.loop.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
        except socket.gaierror as error:
            raise InvalidArgument(f"{url}: {error}") from None
        if port == 0:
            found = found[:1]  # a second address would get another port
        for *_, address in found:
            if is_loopback(str(address[0])):
                continue
            if not self._broker.access.users:
                raise InvalidArgument(
                    f"{url}: other machines can reach {address[0]}, and no user is defined;"
                    " define users, or listen on 127.0.0.1"
                )
            if not tls:
                logger.warning("%s: passwords and messages cross the network in clear", url)
        sockets: list[socket.socket] = []
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                sockets.append(_bound(family, kind, protocol, address))
        except OSError as error:
            for each in sockets:
                each.close()
            raise OSError(error.errno, f"cannot listen on {url}: {error.strerror}") from None
        return sockets

    def _handshake_seconds(self) -> float:
        return self._broker.limits.handshake_ms_max / 1000

    async def close(self, grace_seconds: float) -> None:
        """Accept nothing more, let every connection finish, then cut those that have not."""
        self._closing = True
        for server in self._servers:
            server.close()
        self._servers.clear()
        for connection in list(self._connections):
            connection.shut_down()
        try:
            async with asyncio.timeout(grace_seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        finally:
            for connection in list(self._connections):
                connection.abort()
        await self._empty.wait()
        if self._timer is not None:
            self._timer.cancel()

    # --- what connections ask ---

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def join(self, connection: Connection) -> bool:
        """Count a new connection in; False when there are too many, or the server closes."""
        limits = self._broker.limits
        if (
            self._closing  # it was accepted before, and is told of only now
            or len(self._connections) >= self._connections_max
            or len(self._strangers) >= limits.connections_unauthenticated_max
            or not self._addresses.welcomes(
                connection.peer,
                self.now_ms(),
                limits.connections_per_address_max,
                limits.connects_per_address_per_minute_max,
            )
        ):
            self.refused += 1
            return False
        self._connections.add(connection)
        self._strangers.add(connection)
        self._empty.clear()
        return True

    def authenticated(self, connection: Connection) -> None:
        """It is no stranger any more."""
        self._strangers.discard(connection)

    def leave(self, connection: Connection) -> None:
        """It is gone."""
        if connection not in self._connections:
            return  # it was refused
        self._strangers.discard(connection)
        self._connections.remove(connection)
        self._addresses.leave(connection.peer)
        self._deadlines.discard(connection, connection.bucket)
        if not self._connections:
            self._empty.set()

    def wake(self, connection: Connection) -> None:
        """Look after a connection when this turn of the loop is over, with all others woken."""
        if not self._woken:
            self.loop.call_soon(self._look)
        self._woken.append(connection)

    def _look(self) -> None:
        woken = self._woken
        self._woken = []
        for connection in woken:
            try:
                connection.look()
            except Exception as error:
                self._has_failed(connection, error)

    def _has_failed(self, connection: Connection, error: Exception) -> None:
        """A bug of ours: the other connections must not suffer for it."""
        what = {"message": f"connection of {connection.peer}", "exception": error}
        self.loop.call_exception_handler(what)
        connection.abort()

    def set_deadline(self, connection: Connection, at_ms: int | None) -> None:
        """Call its ``tick`` at that time, and not at one set before."""
        deadlines = self._deadlines
        if connection.bucket >= 0:
            deadlines.discard(connection, connection.bucket)
            connection.bucket = -1
        if at_ms is not None:
            connection.bucket = deadlines.add(connection, at_ms)
            if self._timer is None or at_ms < self._timer_ms:
                self._arm()

    def _arm(self) -> None:
        """Have one timer, for the first of all deadlines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        at_ms = self._deadlines.next_ms()
        if at_ms is not None:
            self._timer_ms = at_ms
            seconds = max(0, at_ms - self.now_ms()) / 1000
            self._timer = self.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        for connection in self._deadlines.due(self.now_ms()):
            connection.bucket = -1
            try:
                connection.tick()
            except Exception as error:
                self._has_failed(connection, error)
        self._arm()

    def authenticate(
        self,
        user: str,
        password: bytes,
        peer: str,
        callback: Callable[[Principal | BraidError], None],
    ) -> asyncio.Future[None]:
        """Check a password beside the loop, then call back."""
        return self.loop.create_task(self._authenticate(user, password, peer, callback))

    def scram(self, peer: str) -> ScramLogin:
        """Begin a login by SCRAM-SHA-256."""
        return self._verifier.scram(peer)

    async def _authenticate(
        self,
        user: str,
        password: bytes,
        peer: str,
        callback: Callable[[Principal | BraidError], None],
    ) -> None:
        try:
            found: Principal | BraidError = await self._verifier.authenticate(
                user, password, peer, self.now_ms() / 1000
            )
        except BraidError as error:
            found = error
        callback(found)


def _bound(family: int, kind: int, protocol: int, address: tuple[object, ...]) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # What is set on a listening socket holds for those it accepts.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEPALIVE.items():
            if hasattr(socket, name):
                bound.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        bound.setblocking(False)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _descriptors_max() -> int:
    """How many connections the process has file descriptors for."""
    if resource is None:
        return 2**31
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 2**31
    return max(1, soft - max(_DESCRIPTORS_RESERVED, soft // 10))


def _tokens(settings: JwtSettings | None) -> JwtVerifier | None:
    return JwtVerifier(settings) if settings is not None else None


def _user_of(listener: Listener, certificate: dict[str, Any]) -> str:
    """The user that a verified certificate names; empty when it has no such name."""
    try:
        return user_of_certificate(certificate, listener.certificate_name)
    except Unauthenticated as error:
        logger.warning("%s: a certificate names no user: %s", listener.url, error)
        return ""
