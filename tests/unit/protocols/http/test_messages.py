"""Heads of requests, byte by byte, and what smuggling would need."""

import pytest

from braidmq.protocols.http.messages import (
    HEADERS_COUNT_MAX,
    Refused,
    Response,
    append_response,
    json_response,
    parse_request,
    text_response,
    tokens,
)


def head(*lines: bytes, first=b"GET / HTTP/1.1", host=b"Host: h") -> bytes:
    return b"\r\n".join([first, *([host] if host else []), *lines, b"", b""])


def refusal(data: bytes) -> Response:
    with pytest.raises(Refused) as caught:
        parse_request(data)
    return caught.value.response


def test_a_request_is_read():
    request = parse_request(
        head(b"Accept: a", b"ACCEPT: b ", b"X-Empty:", first=b"GET /a%20b?c=d?e HTTP/1.1")
    )
    assert (request.method, request.path, request.query) == ("GET", "/a%20b", "c=d?e")
    assert request.host == "h"
    assert request.headers == {"host": "h", "accept": "a, b", "x-empty": ""}
    assert request.keep_alive


@pytest.mark.parametrize(
    ("data", "kept"),
    [
        (head(b"Connection: close"), False),
        (head(b"Connection: x, Close"), False),
        (head(b"Connection: keep-alive", first=b"GET / HTTP/1.0"), False),
        (head(b"Connection: upgrade"), True),
    ],
)
def test_whether_another_request_may_follow(data, kept):
    assert parse_request(data).keep_alive is kept


def test_an_upgrade_is_left_to_the_session():
    request = parse_request(head(b"Upgrade: websocket", b"Connection: Upgrade"))
    assert request.headers["upgrade"] == "websocket"


def test_the_absolute_form_outweighs_the_header():
    request = parse_request(head(first=b"GET http://other:81/p?q HTTP/1.1"))
    assert (request.host, request.path, request.query) == ("other:81", "/p", "q")
    assert parse_request(head(first=b"GET HTTP://other HTTP/1.1")).path == "/"


@pytest.mark.parametrize(
    "target",
    [b"*", b"h:80", b"ftp://h/", b"http://u:p@h/", b"http://[::1/", b"http:///p"],
)
def test_other_targets_are_refused(target):
    assert refusal(head(first=b"GET " + target + b" HTTP/1.1")).status == 400


@pytest.mark.parametrize(
    "host",
    [b"", b"Host:", b"Host: a b", b"Host: a/b", b"Host: u@h", b"Host: a,b", b"Host: h:x"],
)
def test_one_valid_host_is_needed(host):
    assert refusal(head(host=host)).status == 400


def test_http_1_0_needs_no_host():
    assert parse_request(head(first=b"GET / HTTP/1.0", host=b"")).host == ""


@pytest.mark.parametrize(
    "name", [b"Host", b"Origin", b"Sec-WebSocket-Key", b"Content-Length", b"Authorization"]
)
def test_what_comes_once_comes_once(name):
    assert refusal(head(name + b": 0", name.upper() + b": 0")).status == 400


SMUGGLED = {
    "both lengths": (400, head(b"Content-Length: 3", b"Transfer-Encoding: chunked")),
    "both, the other way round": (400, head(b"Transfer-Encoding: chunked", b"Content-Length: 0")),
    "a negative length": (400, head(b"Content-Length: -1")),
    "a signed length": (400, head(b"Content-Length: +1")),
    "a length of 20 digits": (400, head(b"Content-Length: 99999999999999999999")),
    "two lengths in one": (400, head(b"Content-Length: 0, 5")),
    "a space before the colon": (400, head(b"Content-Length : 3")),
    "a folded header": (400, head(b"X: a", b" b")),
    "a NUL": (400, head(b"X: a\0b")),
    "a bare carriage return": (400, head(b"X: a\rb")),
    "bare line feeds": (400, b"GET / HTTP/1.1\nHost: h\n\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"),
    "a later bare line feed": (400, head(b"X: y\n\nGET /2 HTTP/1.1")),
    "no header name": (400, head(b": x")),
    "an unknown method": (400, head(first=b"BREW / HTTP/1.1")),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "another protocol": (400, head(first=b"GET / RTSP/1.0")),
    "a space in the path": (400, head(first=b"GET /a b HTTP/1.1")),
    "an unknown coding": (400, head(b"Transfer-Encoding: xchunked")),
    "chunks": (501, head(b"Transfer-Encoding: chunked")),
    "a body": (413, head(b"Content-Length: 3", first=b"POST / HTTP/1.1")),
    "HTTP/2": (505, b"PRI * HTTP/2.0\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "data"), SMUGGLED.values(), ids=SMUGGLED.keys())
def test_ambiguous_requests_are_refused(status, data):
    assert refusal(data).status == status


def test_an_announced_body_of_nothing_is_none():
    assert parse_request(head(b"Content-Length: 00")).path == "/"


def test_headers_are_counted():
    fits = [b"X: y"] * (HEADERS_COUNT_MAX - 1)
    assert len(parse_request(head(*fits)).headers) == 2
    assert refusal(head(*fits, b"X: y")).status == 431


def test_tokens_of_a_list():
    assert tokens(" a ,,b\t, c d,") == ["a", "b", "c d"]


def test_a_response_to_the_byte():
    out = bytearray(b"before ")
    append_response(out, json_response(404, "no", ("X-A", "b")), True, True, 784_111_777_000)
    assert bytes(out) == (
        b"before HTTP/1.1 404 Not Found\r\n"
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"Content-Type: application/json\r\n"
        b"Content-Length: 14\r\n"
        b"Cache-Control: no-store\r\n"
        b"X-Content-Type-Options: nosniff\r\n"
        b"X-A: b\r\n"
        b"\r\n"
        b'{"error":"no"}'
    )


def test_the_last_response_says_so_and_head_has_no_body():
    out = bytearray()
    append_response(out, text_response(200, "é"), False, False, 0)
    assert out.endswith(b"\r\nConnection: close\r\n\r\n")
    assert b"Content-Length: 3\r\n" in out
