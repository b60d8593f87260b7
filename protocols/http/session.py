"""The server's side of one HTTP connection: requests in turn, until one becomes a WebSocket.

Rules:

1. Nothing about a client is believed because of its address: ``X-Forwarded-For`` and its kin are
   not read, and the peer is whoever opened the connection.
2. A head has bounded bytes, headers and time; more than that is refused before it is kept.
3. A web page of another site cannot use the visitor's browser to get in. A request that names an
   ``Origin`` is refused unless that is the host it was sent to, or is allowed. And since a name of
   that site may have been made to point at this machine (DNS rebinding), a connection on a loopback
   address is refused unless it asks for an address, for ``localhost``, or for an allowed host.
4. A WebSocket takes over for good: from then on this only hands on.
"""

from collections.abc import Callable, Mapping
from ipaddress import ip_address

import msgspec

from ...broker.limits import Limits
from ..session import Host, SessionFactory
from .handshake import WebSocketOffer, accept, is_upgrade
from .messages import (
    Refused,
    Request,
    Response,
    append_response,
    json_response,
    parse_request,
    text_response,
)
from .websocket import WebSocketSession

__all__ = [
    "HEADERS_BYTES_MAX",
    "REQUESTS_PER_TURN_MAX",
    "REQUEST_LINE_BYTES_MAX",
    "Answer",
    "HttpSession",
    "Route",
    "Site",
    "http_sessions",
    "tell_health",
]

HEADERS_BYTES_MAX = 16 * 1024  # all headers of a request together
REQUEST_LINE_BYTES_MAX = 8 * 1024
REQUESTS_PER_TURN_MAX = 16  # then other connections get their turn

Answer = Callable[[Request, int], Response]  # the int is unix ms
_METHODS = ("GET", "HEAD")


class Route(msgspec.Struct, frozen=True):
    """What a path has: an answer to GET and HEAD, a WebSocket, or both."""

    answer: Answer | None = None
    websocket: WebSocketOffer | None = None


class Site(msgspec.Struct, frozen=True):
    """What is served on a port.

    Attributes:
        routes: by path, exactly as it stands in the request.
        origins: allowed beside the host itself, as ``https://name`` or ``https://name:port``;
            ``*`` allows all.
    """

    routes: Mapping[str, Route]
    origins: tuple[str, ...] = ()


def http_sessions(site: Site, limits: Limits) -> SessionFactory:
    """What makes the sessions of a listener."""

    def make(host: Host, now_ms: int) -> HttpSession:
        return HttpSession(site, limits, host, now_ms)

    return make


def tell_health(request: Request, now_ms: int) -> Response:
    """Whoever gets this answer knows that the event loop turns."""
    return Response(200, b'{"status":"ok"}')


class HttpSession:
    """One connection of the HTTP port."""

    def __init__(self, site: Site, limits: Limits, host: Host, now_ms: int) -> None:
        self.finished = False
        self._site = site
        self._limits = limits
        self._host = host
        self._in = bytearray()
        self._searched = 0  # so far there is no end of a head in what came
        self._out = bytearray()
        self._more = False
        self._peer_is_slow = False
        self._deadline_ms = now_ms + limits.handshake_ms_max
        self._websocket: WebSocketSession | None = None

    # --- what the carrier calls ---

    @property
    def reading(self) -> bool:
        """Whether more input is welcome now."""
        if self._websocket is not None:
            return self._websocket.reading
        return not self._more and not self._peer_is_slow

    @property
    def backlog(self) -> bool:
        """Whether :meth:`proceed` has something to do."""
        if self._websocket is not None:
            return self._websocket.backlog
        return self._more and not self._peer_is_slow

    @property
    def answering(self) -> bool:
        """Whether the session of a WebSocket will answer soon; HTTP itself answers at once."""
        return self._websocket is not None and self._websocket.answering

    def receive_data(self, data: bytes, now_ms: int) -> None:
        """Take bytes from the client."""
        if self._websocket is not None:
            self._websocket.receive_data(data, now_ms)
        elif not self.finished:
            self._in += data
            if not self._more:
                self.proceed(now_ms)

    def receive_eof(self, now_ms: int) -> None:
        """The client hung up."""
        if self._websocket is not None:
            self._websocket.receive_eof(now_ms)
        self.finished = True

    def proceed(self, now_ms: int) -> None:
        """Answer the next requests, not more than a turn's worth."""
        if self._websocket is not None:
            self._websocket.proceed(now_ms)
            return
        self._more = False
        for _ in range(REQUESTS_PER_TURN_MAX):
            if self.finished:
                return
            try:
                head = self._next_head()
                if head is None:
                    return
                self._handle(parse_request(head), now_ms)
            except Refused as refused:
                self._end(refused.response, now_ms)
            if self._websocket is not None:
                return
            self._deadline_ms = now_ms + self._limits.handshake_ms_max
        self._more = bool(self._in) and not self.finished

    def data_to_send(self, now_ms: int) -> bytearray:
        """All that should go to the client now. The caller owns it."""
        out = self._out
        if out:
            self._out = bytearray()
        websocket = self._websocket
        if websocket is not None:
            said = websocket.data_to_send(now_ms)
            self.finished = websocket.finished
            if not out:
                return said
            out += said
        return out

    def next_deadline(self) -> int | None:
        """When :meth:`tick` has something to do, unix ms."""
        if self._websocket is not None:
            return self._websocket.next_deadline()
        return None if self.finished else self._deadline_ms

    def tick(self, now_ms: int) -> None:
        """Hang up on who did not finish a request in time."""
        if self._websocket is not None:
            self._websocket.tick(now_ms)
        elif not self.finished and now_ms >= self._deadline_ms:
            if self._in:
                text = f"no request within {self._limits.handshake_ms_max} ms"
                self._end(json_response(408, text), now_ms)
            self.finished = True

    def pause_writing(self) -> None:
        """The client does not read: no more requests."""
        self._peer_is_slow = True
        if self._websocket is not None:
            self._websocket.pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._peer_is_slow = False
        if self._websocket is not None:
            self._websocket.resume_writing()

    def shut_down(self, now_ms: int) -> None:
        """Every request that was taken is answered already: finish."""
        if self._websocket is not None:
            self._websocket.shut_down(now_ms)
        else:
            self.finished = True

    def connection_lost(self, now_ms: int) -> None:
        """The connection is gone."""
        self.finished = True
        if self._websocket is not None:
            self._websocket.connection_lost(now_ms)

    # --- requests ---

    def _next_head(self) -> bytes | None:
        """Cut the next head from what came, None for more. Raises Refused."""
        data = self._in
        del data[: len(data) - len(data.lstrip(b"\r\n"))]  # RFC 9112 2.2: empty lines before it
        if not data:
            return None
        if not 65 <= data[0] <= 90:  # another protocol: no need to wait for a line of it
            raise Refused(json_response(400, "this port speaks HTTP"))
        found = data.find(b"\r\n\r\n", self._searched)
        end = len(data) if found < 0 else found + 4
        line = data.find(b"\r\n", 0, REQUEST_LINE_BYTES_MAX + 2)
        if line < 0:
            if end > REQUEST_LINE_BYTES_MAX + 1:
                text = f"the request line has at most {REQUEST_LINE_BYTES_MAX} bytes"
                raise Refused(json_response(414, text))
        elif end - line - 2 > HEADERS_BYTES_MAX:
            text = f"all headers together have at most {HEADERS_BYTES_MAX} bytes"
            raise Refused(json_response(431, text))
        if found < 0:
            self._searched = max(0, len(data) - 3)
            return None
        head = bytes(data[:end])
        del data[:end]
        self._searched = 0
        return head

    def _handle(self, request: Request, now_ms: int) -> None:
        """Answer a request, or open a WebSocket. Raises Refused."""
        _check_origin(request, self._host.loopback, self._site.origins)
        route = self._site.routes.get(request.path)
        if route is None:
            response = json_response(404, "there is nothing at this path")
        elif route.websocket is not None and is_upgrade(request):
            self._open_websocket(request, route.websocket, now_ms)
            return
        elif route.answer is None:
            upgrade = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
            response = text_response(426, "there is a WebSocket at this path", *upgrade)
        elif request.method not in _METHODS:
            response = json_response(405, "GET or HEAD it", ("Allow", ", ".join(_METHODS)))
        else:
            response = route.answer(request, now_ms)
        with_body = request.method != "HEAD"
        append_response(self._out, response, request.keep_alive, with_body, now_ms)
        if not request.keep_alive:
            self._finish()

    def _open_websocket(self, request: Request, offer: WebSocketOffer, now_ms: int) -> None:
        answer, subprotocol = accept(request, offer)
        self._out += answer
        self._websocket = WebSocketSession(subprotocol, self._host, self._limits, now_ms)
        if self._peer_is_slow:
            self._websocket.pause_writing()
        rest = bytes(self._in)
        self._in = bytearray()
        if rest:
            self._websocket.receive_data(rest, now_ms)

    def _end(self, response: Response, now_ms: int) -> None:
        """Answer, and hang up: after an error nobody knows where the next request begins."""
        append_response(self._out, response, False, True, now_ms)
        self._finish()

    def _finish(self) -> None:
        self.finished = True
        self._more = False
        self._in.clear()


def _check_origin(request: Request, loopback: bool, origins: tuple[str, ...]) -> None:
    """Raise Refused for what another site may have had a browser send."""
    if "*" in origins:
        return
    allowed = [origin.lower() for origin in origins]
    host = request.host.lower()
    if loopback and host and not _is_local(host):
        if host not in (origin.partition("://")[2] for origin in allowed):
            raise Refused(json_response(403, "this host is not among the allowed origins"))
    origin = request.headers.get("origin", "").lower()
    is_own = bool(host) and origin.partition("://")[2] == host
    if origin and not is_own and origin not in allowed:
        raise Refused(json_response(403, "this origin is not allowed"))


def _is_local(host: str) -> bool:
    """Whether ``host`` is an address, or the name of this machine, with or without a port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
