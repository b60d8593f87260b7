"""Sockets that accept: addresses, TLS, and how many connections there may be.

Rules:

1. Nobody can log in as nobody from another machine: without users only loopback is bound.
2. A connection beyond the limits is closed at once, before a byte of it is read. The limit stays
   below what the process may open, so that the log always finds a file descriptor; should the
   system run out nevertheless, the event loop pauses accepting for a second by itself.
3. A port of 0 is the system's choice; ``urls`` tells it.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import urlsplit

from ..broker.access import Principal
from ..broker.errors import BraidError, InvalidArgument
from ..broker.passwords import Verifier
from ..broker.runtime import Broker
from .connection import Connection, is_loopback
from .session import SessionFactory

try:
    import resource
except ImportError:  # Windows has no such limit
    resource = None  # type: ignore[assignment]

__all__ = ["Dialect", "Listener", "parse_url"]

_DESCRIPTORS_RESERVED = 64  # for the log, the listening sockets, the standard streams
_BACKLOG = 1_024

logger = logging.getLogger(__name__)


class Dialect:
    """What a URL scheme stands for: how to make a session, the usual port, whether over TLS."""

    __slots__ = ("factory", "port", "tls")

    def __init__(self, factory: SessionFactory, port: int, tls: bool) -> None:
        self.factory = factory
        self.port = port
        self.tls = tls


def parse_url(url: str, dialects: Mapping[str, Dialect]) -> tuple[str, str, int]:
    """``scheme://host:port`` as (scheme, host, port). Raises InvalidArgument."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidArgument(f"{url}: {error}") from None
    if parts.scheme not in dialects:
        known = ", ".join(f"{scheme}://" for scheme in dialects)
        raise InvalidArgument(f"{url}: the scheme is one of {known}")
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username is not None:
        raise InvalidArgument(f"{url}: expected {parts.scheme}://host:port")
    return parts.scheme, parts.hostname, dialects[parts.scheme].port if port is None else port


class Listener:
    """All listening sockets of a server, and the connections that came in by them."""

    def __init__(
        self, broker: Broker, dialects: Mapping[str, Dialect], tls: ssl.SSLContext | None
    ) -> None:
        self.urls: list[str] = []
        self.refused = 0
        self._broker = broker
        self._dialects = dialects
        self._tls = tls
        self._verifier = Verifier(broker.access)
        self._loop = asyncio.get_running_loop()
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._strangers: set[Connection] = set()
        self._woken: list[Connection] = []
        self._empty = asyncio.Event()
        self._empty.set()
        self._connections_max = min(broker.limits.connections_max, _descriptors_max())
        self.now_ms = broker.now_ms

    # --- listening ---

    async def listen(self, url: str) -> None:
        """Bind ``url`` and accept. Raises InvalidArgument, or OSError when the port is in use."""
        scheme, host, port = parse_url(url, self._dialects)
        dialect = self._dialects[scheme]
        if dialect.tls and self._tls is None:
            raise InvalidArgument(f"{url}: needs a certificate")
        for bound in await self._bind(url, host, port, dialect.tls):
            name = bound.getsockname()
            where = f"[{name[0]}]" if ":" in name[0] else name[0]
            self._servers.append(
                await self._loop.create_server(
                    lambda: Connection(self._loop, self, dialect.factory),
                    sock=bound,
                    backlog=_BACKLOG,
                    ssl=self._tls if dialect.tls else None,
                    ssl_handshake_timeout=self._handshake_seconds() if dialect.tls else None,
                )
            )
            self.urls.append(f"{scheme}://{where}:{name[1]}")

    async def _bind(self, url: str, host: str, port: int, tls: bool) -> Sequence[socket.socket]:
        try:
            found = await self._loop.getaddrinfo(
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

    # --- what connections ask ---

    @property
    def connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    def join(self, connection: Connection) -> bool:
        """Count a new connection in; False when there are too many."""
        strangers_max = self._broker.limits.connections_unauthenticated_max
        if len(self._connections) >= self._connections_max or len(self._strangers) >= strangers_max:
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
        self._strangers.discard(connection)
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def wake(self, connection: Connection) -> None:
        """Look after a connection when this turn of the loop is over, with all others woken."""
        if not self._woken:
            self._loop.call_soon(self._look)
        self._woken.append(connection)

    def _look(self) -> None:
        woken = self._woken
        self._woken = []
        for connection in woken:
            try:
                connection.look()
            except Exception as error:  # a bug of ours; the others must not suffer for it
                what = {"message": f"connection of {connection.peer}", "exception": error}
                self._loop.call_exception_handler(what)
                connection.abort()

    def authenticate(
        self,
        user: str,
        password: bytes,
        peer: str,
        callback: Callable[[Principal | BraidError], None],
    ) -> asyncio.Future[None]:
        """Check a password beside the loop, then call back."""
        return self._loop.create_task(self._authenticate(user, password, peer, callback))

    async def _authenticate(
        self,
        user: str,
        password: bytes,
        peer: str,
        callback: Callable[[Principal | BraidError], None],
    ) -> None:
        try:
            found: Principal | BraidError = await self._verifier.authenticate(
                user, password, peer, self._loop.time()
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
