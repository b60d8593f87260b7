"""HTTP/1.1 requests and responses: the head of a request from bytes, a response to bytes.

Rules:

1. A head is parsed when all of it is there; the caller bounds how much that may be. httptools
   does the grammar, strictly. What is checked here on top is what smuggling is made of: two
   lengths, two hosts, a second request inside the first.
2. No request has a body yet. One that announces a body is refused, and so is one with a transfer
   coding, so that there are no chunks and no trailers.
3. Nothing is decoded twice: a path is compared as it came.
"""

import re
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import urlsplit

import httptools
import msgspec

__all__ = [
    "HEADERS_COUNT_MAX",
    "Refused",
    "Request",
    "Response",
    "append_response",
    "json_response",
    "parse_request",
    "text_response",
    "tokens",
]

HEADERS_COUNT_MAX = 64

# A second one of these means that somebody on the way may have read the first.
_ONCE = {
    "authorization",
    "content-length",
    "host",
    "origin",
    "sec-websocket-key",
    "sec-websocket-version",
    "transfer-encoding",
}
_REQUEST_LINE = re.compile(rb"[A-Z-]+ \S+ HTTP/(\d\.\d)\r\n")
_HOST = re.compile(r"(?:[\w.~-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.ASCII)


class Request(msgspec.Struct, frozen=True):
    """The head of a request.

    Attributes:
        method: as it came, in capitals.
        path: as it came, with its percent signs; begins with a slash.
        query: what followed the question mark, or empty.
        host: whom the client means, ``name`` or ``name:port``; empty only in HTTP/1.0.
        headers: by name in lower case; values that came several times are joined by commas.
        version: ``1.0`` or ``1.1``.
        keep_alive: whether the client may send another request on this connection.
    """

    method: str
    path: str
    query: str
    host: str
    headers: dict[str, str]
    version: str
    keep_alive: bool


class Response(msgspec.Struct, frozen=True):
    """What to answer. Length, date and connection are added when it is sent."""

    status: int
    body: bytes = b""
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()


class Refused(Exception):
    """A request that is answered with an error, after which the connection ends."""

    def __init__(self, response: Response) -> None:
        super().__init__(response.status)
        self.response = response


def json_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """An error for programs: ``{"error": text}``."""
    return Response(status, msgspec.json.encode({"error": text}), headers=headers)


def text_response(status: int, text: str, *headers: tuple[str, str]) -> Response:
    """An error for people, where no program reads the body."""
    return Response(status, f"{text}\n".encode(), "text/plain; charset=utf-8", headers)


def tokens(value: str) -> list[str]:
    """The members of a header that is a list, without the spaces around them."""
    return [token for token in (part.strip(" \t") for part in value.split(",")) if token]


class _Head:
    """What httptools calls while it reads."""

    __slots__ = ("count", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.count = 0

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.count += 1


def parse_request(head: bytes) -> Request:
    """Read a request's head, from its first line to the empty line. Raises Refused."""
    line = _REQUEST_LINE.match(head)
    if line is None:
        raise _bad("this is not an HTTP request")
    version = line[1].decode("ascii")
    if version not in ("1.0", "1.1"):
        raise Refused(json_response(505, "HTTP/1.1 is spoken here"))
    found = _Head()
    parser = httptools.HttpRequestParser(found)
    try:
        parser.feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # the session decides about that
    except httptools.HttpParserError as error:
        raise _bad(str(error)) from None
    if found.count != 1:
        raise _bad("one request at a time")
    headers = _headers(found.headers)
    _check_no_body(headers)
    host, path, query = _target(found.target.decode("latin-1"), headers.get("host"))
    if not host and version == "1.1":
        # RFC 9112 3.2: a server MUST answer 400 to a request without a valid Host.
        raise _bad("exactly one valid Host is needed")
    connection = tokens(headers.get("connection", "").lower())
    keep_alive = version == "1.1" and "close" not in connection
    method = parser.get_method().decode("ascii")
    return Request(method, path, query, host, headers, version, keep_alive)


def _bad(text: str) -> Refused:
    return Refused(json_response(400, text))


def _headers(found: list[tuple[bytes, bytes]]) -> dict[str, str]:
    if len(found) > HEADERS_COUNT_MAX:
        raise Refused(json_response(431, f"at most {HEADERS_COUNT_MAX} headers"))
    headers: dict[str, str] = {}
    for raw_name, raw_value in found:
        name = raw_name.decode("ascii").lower()
        value = raw_value.decode("latin-1").strip(" \t")
        if name not in headers:
            headers[name] = value
        elif name in _ONCE:
            raise _bad(f"{name} came twice")
        else:
            headers[name] += f", {value}"
    return headers


def _check_no_body(headers: dict[str, str]) -> None:
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers:
        if "content-length" in headers:  # RFC 9112 6.3: may be an attempt at smuggling
            raise _bad("Content-Length and Transfer-Encoding exclude each other")
        raise Refused(json_response(501, "transfer codings are not supported"))
    if length.strip("0"):
        raise Refused(json_response(413, "no request takes a body here"))


def _target(target: str, host: str | None) -> tuple[str, str, str]:
    """Host, path and query of a request target."""
    if not target.startswith("/"):
        # RFC 9112 3.2.2: the absolute form MUST be accepted, and its host outweighs the header.
        scheme, _, rest = target.partition("://")
        if scheme.lower() not in ("http", "https"):
            raise _bad("the request target is a path")
        try:
            parts = urlsplit(f"//{rest}")
        except ValueError:
            raise _bad("the request target is malformed") from None
        host = parts.netloc if host is not None else None
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if host is not None and not _HOST.fullmatch(host):
        raise _bad("exactly one valid Host is needed")
    path, _, query = target.partition("#")[0].partition("?")
    return host or "", path, query


def append_response(
    out: bytearray, response: Response, keep_alive: bool, with_body: bool, now_ms: int
) -> None:
    """Append a response to ``out``; without its body in answer to HEAD."""
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Date: {formatdate(now_ms // 1000, usegmt=True)}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        *(f"{name}: {value}" for name, value in response.headers),
    ]
    if not keep_alive:
        lines.append("Connection: close")
    out += "\r\n".join([*lines, "", ""]).encode("latin-1")
    if with_body:
        out += response.body
