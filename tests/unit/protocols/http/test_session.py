"""The HTTP port: limits, routes, who may ask, and the way to a WebSocket."""

import msgspec
import pytest

from braidmq.broker.limits import Limits
from braidmq.protocols.http.session import (
    HEADERS_BYTES_MAX,
    REQUEST_LINE_BYTES_MAX,
    REQUESTS_PER_TURN_MAX,
    HttpSession,
    Route,
    Site,
    http_sessions,
    tell_health,
)
from tests.unit.protocols.http.carrier import NOW, Host, Line, closed, frame, upgrade


def get(path="/health", *headers: str, method="GET", host="localhost:8450") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *headers, "", ""]).encode()


def answers(data: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Every (status, headers, body) in what came; none of them in answer to HEAD."""
    found = []
    while data:
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        size = int(headers["content-length"])
        assert len(rest) >= size
        found.append((int(first.split()[1]), headers, rest[:size]))
        data = rest[size:]
    return found


def status(line: Line, data: bytes) -> int:
    """The status of the one answer to ``data``."""
    (answer,) = answers(line.feed(data))
    return answer[0]


class TestRoutes:
    def test_health(self):
        ((code, headers, body),) = answers(Line().feed(get("/health?x=y")))
        assert (code, msgspec.json.decode(body)) == (200, {"status": "ok"})
        assert headers["content-type"] == "application/json"
        assert "connection" not in headers

    def test_elsewhere_is_nothing(self):
        ((code, _, body),) = answers(Line().feed(get("/nowhere")))
        assert code == 404 and list(msgspec.json.decode(body)) == ["error"]
        assert status(Line(), get("/health/")) == 404
        assert status(Line(), get("/%68ealth")) == 404

    def test_head_has_the_headers_only(self):
        out = Line().feed(get(method="HEAD"))
        assert out.startswith(b"HTTP/1.1 200") and out.endswith(b"\r\n\r\n")
        assert b"Content-Length: 15\r\n" in out

    def test_other_methods_are_not_for_reading(self):
        ((code, headers, _),) = answers(Line().feed(get(method="DELETE")))
        assert code == 405 and headers["allow"] == "GET, HEAD"

    def test_a_websocket_is_told_to_whoever_looks_with_a_browser(self):
        ((code, headers, _),) = answers(Line().feed(get("/mqtt")))
        assert code == 426 and headers["upgrade"] == "websocket"

    @pytest.mark.parametrize("path", ["/", "/mqtt", "/mqtt?token=1", "/both"])
    def test_a_websocket_is_opened(self, path):
        line = Line()
        drop = ("sec-websocket-protocol",) if path == "/both" else ()
        assert line.open(path=path, drop=drop).startswith(b"HTTP/1.1 101 ")
        assert not line.session.finished and line.inner.begun_ms == NOW

    def test_a_path_may_have_an_answer_and_a_websocket(self):
        assert status(Line(), get("/both")) == 200
        assert status(Line(), upgrade("/both", upgrade="h2c")) == 200

    def test_a_websocket_elsewhere_is_not(self):
        line = Line()
        assert status(line, upgrade("/nowhere")) == 404
        assert not line.rig.inners


class TestRequestsInTurn:
    def test_a_connection_takes_many(self):
        line = Line()
        for _ in range(3):
            assert status(line, get()) == 200
        assert not line.session.finished

    def test_until_the_client_says_close(self):
        line = Line()
        ((_, headers, _),) = answers(line.feed(get("/health", "Connection: close") + get()))
        assert headers["connection"] == "close" and line.session.finished

    def test_a_websocket_may_follow(self):
        line = Line()
        out = line.feed(get() + upgrade() + frame(2, b"connect"))
        assert out.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 101" in out
        assert line.inner.got == b"connect"

    def test_a_websocket_may_be_about_to_answer(self):
        line = Line()
        assert not line.session.answering
        line.open()
        assert not line.session.answering
        line.inner.answering = True
        assert line.session.answering

    def test_byte_by_byte_is_the_same(self):
        line = Line()
        data = b"\r\n\r\n" + get() + upgrade(extra=frame(2, b"connect"))
        out = b"".join(line.feed(bytes([byte])) for byte in data)
        assert out == Line().feed(data)
        assert line.inner.got == b"connect"

    def test_a_turn_has_a_number_of_requests(self):
        line = Line()
        line.session.receive_data(get() * (REQUESTS_PER_TURN_MAX + 2) + get()[:9], NOW)
        assert line.session.backlog and not line.session.reading
        assert len(answers(bytes(line.session.data_to_send(NOW)))) == REQUESTS_PER_TURN_MAX
        assert len(answers(line.settle())) == 2
        assert not line.session.backlog and line.session.reading
        assert status(line, get()[9:]) == 200

    def test_what_comes_in_spite_of_a_backlog_waits(self):
        line = Line()
        line.session.receive_data(get() * (REQUESTS_PER_TURN_MAX + 1), NOW)
        line.session.receive_data(get(), NOW)
        assert len(answers(line.settle())) == REQUESTS_PER_TURN_MAX + 2

    def test_nobody_is_answered_who_does_not_read(self):
        line = Line()
        line.session.receive_data(get() * (REQUESTS_PER_TURN_MAX + 1), NOW)
        line.session.pause_writing()
        assert not line.session.backlog and not line.session.reading
        line.session.resume_writing()
        assert len(answers(line.settle())) == REQUESTS_PER_TURN_MAX + 1


class TestLimits:
    def test_the_request_line(self):
        line = "GET /" + "a" * (REQUEST_LINE_BYTES_MAX - len("GET / HTTP/1.1")) + " HTTP/1.1"
        fits = f"{line}\r\nHost: localhost\r\n\r\n".encode()
        assert status(Line(), fits) == 404
        assert status(Line(), fits.replace(b"/a", b"/aa")) == 414

    def test_a_line_is_refused_before_it_ends(self):
        line = Line()
        assert line.feed(b"G" * (REQUEST_LINE_BYTES_MAX + 1)) == b""
        assert status(line, b"G") == 414 and line.session.finished

    def test_all_headers_together(self):
        rest = HEADERS_BYTES_MAX - len("Host: localhost:8450\r\nX: \r\n\r\n")
        fits = get("/health", "X: " + "a" * rest)
        assert status(Line(), fits) == 200
        assert status(Line(), get("/health", "X: " + "a" * (rest + 1))) == 431

    def test_headers_are_refused_before_they_end(self):
        line = Line()
        begun = b"GET / HTTP/1.1\r\n"
        assert line.feed(begun + b"a" * HEADERS_BYTES_MAX) == b""
        assert status(line, b"a") == 431 and line.session.finished

    def test_the_number_of_headers(self):
        assert status(Line(), get("/health", *["X: y"] * 63)) == 200
        line = Line()
        assert status(line, get("/health", *["X: y"] * 64)) == 431 and line.session.finished

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("Content-Length: 1", 413),
            ("Transfer-Encoding: chunked", 501),
            ("Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
        ],
    )
    def test_no_body(self, header, expected):
        line = Line()
        out = line.feed(get("/health", header, method="POST") + b"0\r\nX: trailer\r\n\r\n")
        ((code, headers, _),) = answers(out)
        assert code == expected and headers["connection"] == "close" and line.session.finished

    def test_another_protocol_is_refused_at_its_first_byte(self):
        line = Line()
        assert status(line, b"\x10") == 400 and line.session.finished

    def test_nothing_is_read_after_the_end(self):
        line = Line()
        line.feed(b"\x16\x03\x01")
        assert line.feed(get()) == b""
        assert line.session.next_deadline() is None


class TestTime:
    def test_a_request_is_finished_in_time(self):
        line = Line(handshake_ms_max=10_000)
        line.feed(get()[:-1])
        assert line.session.next_deadline() == NOW + 10_000
        line.session.tick(NOW + 9_999)
        assert not line.session.finished
        line.session.tick(NOW + 10_000)
        assert answers(line.settle())[0][0] == 408 and line.session.finished

    def test_a_silent_client_is_left_silently(self):
        line = Line(handshake_ms_max=10_000)
        line.session.tick(NOW + 10_000)
        assert line.session.finished and line.settle() == b""

    def test_each_request_has_its_own_time(self):
        line = Line(handshake_ms_max=10_000)
        line.now = NOW + 7_000
        line.feed(get())
        line.session.tick(NOW + 10_000)
        assert not line.session.finished and line.session.next_deadline() == NOW + 17_000

    def test_a_websocket_keeps_its_own_time(self):
        line = Line(handshake_ms_max=10_000)
        line.open()
        assert line.session.next_deadline() is None
        line.session.tick(NOW + 10_000)
        assert not line.session.finished and line.inner.calls == [("tick", NOW + 10_000)]


OWN = ["localhost", "localhost:8450", "LOCALHOST:1", "a.localhost", "127.0.0.1", "[::1]:8450"]


class TestWhoMayAsk:
    @pytest.mark.parametrize("host", OWN)
    def test_this_machine_by_its_own_names(self, host):
        assert status(Line(), get(host=host)) == 200
        assert status(Line(), get("/health", f"Origin: http://{host}", host=host)) == 200

    @pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8450", "127.0.0.1.x"])
    def test_not_by_a_name_that_may_be_rebound(self, host):
        line = Line()
        assert status(line, get(host=host)) == 403 and line.session.finished
        assert status(Line(), get("/health", f"Origin: http://{host}", host=host)) == 403
        assert Line().open(host=host).startswith(b"HTTP/1.1 403 ")
        assert status(Line(loopback=False), get(host=host)) == 200

    def test_a_name_may_be_allowed(self):
        line = Line(origins=("https://mq.example",))
        assert status(line, get(host="mq.example")) == 200
        assert status(line, get("/health", "Origin: https://mq.example")) == 200
        assert status(line, get(host="evil.example")) == 403

    @pytest.mark.parametrize(
        ("origin", "host"),
        [
            ("https://evil.example", "127.0.0.1:8450"),
            ("http://localhost", "localhost:8450"),
            ("http://localhost:8451", "localhost:8450"),
            ("null", "localhost:8450"),
            ("localhost:8450", "localhost:8450"),
            ("https://allowed.example.evil", "localhost:8450"),
            ("http://allowed.example", "localhost:8450"),
        ],
    )
    def test_no_other_site(self, origin, host):
        line = Line(origins=("https://allowed.example",))
        assert line.open(origin=origin, host=host).startswith(b"HTTP/1.1 403 ")
        assert line.session.finished and not line.rig.inners

    def test_no_origin_is_that_of_no_host(self):
        assert status(Line(), b"GET /health HTTP/1.0\r\n\r\n") == 200
        assert status(Line(), b"GET /health HTTP/1.0\r\nOrigin: null\r\n\r\n") == 403

    @pytest.mark.parametrize("origin", ["https://allowed.example", "HTTPS://Allowed.Example"])
    def test_but_an_allowed_one(self, origin):
        line = Line(origins=("https://allowed.example",))
        assert line.open(origin=origin).startswith(b"HTTP/1.1 101 ")

    def test_or_any_if_so_configured(self):
        line = Line(origins=("*",))
        out = line.open(origin="https://evil.example", host="evil.example")
        assert out.startswith(b"HTTP/1.1 101 ")

    def test_nobody_is_somebody_else_by_a_header(self):
        line = Line()
        line.open(x_forwarded_for="127.0.0.1", forwarded="for=127.0.0.1")
        assert line.inner.host.peer == "192.0.2.7"


class TestTheEnd:
    def test_hanging_up(self):
        line = Line()
        line.session.receive_eof(NOW)
        assert line.session.finished
        line.session.connection_lost(NOW)

    def test_hanging_up_a_websocket(self):
        line = Line()
        line.open()
        line.session.receive_eof(NOW)
        line.session.connection_lost(NOW)
        assert line.session.finished and line.inner.calls == [("eof", NOW), ("lost", NOW)]

    def test_shutting_down(self):
        line = Line()
        line.session.shut_down(NOW)
        assert line.session.finished

    def test_shutting_down_a_websocket(self):
        line = Line()
        line.open()
        line.session.shut_down(NOW)
        assert not line.session.finished
        line.inner.finished = True
        assert closed(line.settle()) == (1001, "") and line.session.finished

    def test_a_refused_handshake_ends_the_connection(self):
        line = Line()
        assert line.open(sec_websocket_version="8").startswith(b"HTTP/1.1 426 ")
        assert line.session.finished and not line.rig.inners


def test_what_a_listener_is_given():
    make = http_sessions(Site({"/health": Route(tell_health)}), Limits())
    session = make(Host(), NOW)
    assert isinstance(session, HttpSession) and session.reading
