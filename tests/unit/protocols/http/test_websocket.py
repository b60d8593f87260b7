"""A dialect's session inside a WebSocket: it sees bytes, the connection sees a session."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import Opcode
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

from tests.unit.protocols.http.carrier import NOW, Line, close, closed, frame, frames_of


@pytest.fixture
def line():
    opened = Line()
    opened.open()
    return opened


def test_payload_goes_in_and_what_is_said_goes_out_as_one_frame(line):
    line.inner.says += b"before"
    line.inner.says += b" and after"
    assert line.feed(frame(2, b"connect")) == b"\x82\x10before and after"
    assert line.inner.got == b"connect"
    assert line.feed(b"") == b""


def test_frames_right_behind_the_handshake_are_not_lost():
    line = Line()
    line.open(extra=frame(2, b"connect") + frame(2, b"publish")[:7])
    assert line.inner.got == b"connectp"
    assert line.inner.calls == [("data", NOW)], "one call for all that came in a read"
    assert line.inner.begun_ms == NOW


def test_control_frames_alone_do_not_bother_the_session(line):
    assert line.feed(frame(9, b"you there?")) == b"\x8a\x0ayou there?"
    assert line.feed(frame(10, b"unasked")) == b""
    assert line.inner.calls == []


def test_a_pong_waits_while_the_client_does_not_read(line):
    line.session.pause_writing()
    for _ in range(100):
        assert line.feed(frame(9, b"ping")) == b""
    line.session.resume_writing()
    assert line.settle() == b"\x8a\x04ping"
    assert line.inner.calls == ["pause", "resume"]


class TestTheEnd:
    def test_begun_by_the_client(self, line):
        line.inner.says += b"bye"
        out = line.feed(frame(2, b"disconnect") + close(3001, b"enough"))
        assert frames_of(out) == [(0x82, b"bye"), (0x88, (3001).to_bytes(2, "big"))]
        assert line.session.finished and line.inner.got == b"disconnect"
        assert line.feed(frame(2, b"later")) == b""
        assert line.session.next_deadline() is None
        line.session.connection_lost(NOW)
        assert line.inner.calls[-1] == ("lost", NOW)

    def test_begun_by_the_session(self, line):
        line.inner.says += b"refused"
        line.inner.finished = True
        out = line.settle()
        assert frames_of(out)[0] == (0x82, b"refused") and closed(out) == (1000, "")
        assert line.session.finished

    def test_a_session_that_is_finished_gets_no_more_data(self, line):
        line.inner.finished = True
        line.feed(frame(2, b"later"))
        assert line.inner.got == b""

    def test_begun_by_the_server(self, line):
        line.session.shut_down(NOW + 1)
        assert line.inner.calls == [("shut down", NOW + 1)]
        assert line.settle() == b"" and not line.session.finished, "it may have answers to give"
        line.inner.finished = True
        assert closed(line.settle()) == (1001, "")

    def test_without_a_close_frame(self, line):
        line.session.receive_eof(NOW + 1)
        assert line.session.finished and line.settle() == b""
        assert line.inner.calls == [("eof", NOW + 1)]
        line.session.receive_eof(NOW + 2)
        line.session.tick(NOW + 2)
        line.session.shut_down(NOW + 2)
        assert line.inner.calls == [("eof", NOW + 1)]

    def test_for_what_the_client_does_wrong(self, line):
        out = line.feed(frame(2, b"fine") + frame(2, b"a", mask=None))
        assert closed(out) == (1002, "a client masks its frames")
        assert line.inner.got == b"fine" and line.session.finished

    def test_text_is_refused(self, line):
        """[MQTT-6.0.0-1]"""
        assert closed(line.feed(frame(1, b"text")))[0] == 1003
        taker = Line(takes_text=True)
        taker.open()
        taker.feed(frame(1, b"text"))
        assert taker.inner.got == b"text"


class TestWhatIsPassedOn:
    def test_reading(self, line):
        assert line.session.reading
        line.inner.reading = False
        assert not line.session.reading

    def test_backlog(self, line):
        line.inner.backlog = True
        assert line.session.backlog
        line.session.proceed(NOW + 5)
        assert line.inner.calls == [("proceed", NOW + 5)]

    def test_answering(self, line):
        assert not line.session.answering
        line.inner.answering = True
        assert line.session.answering

    def test_deadlines(self, line):
        assert line.session.next_deadline() is None
        line.inner.deadline = NOW + 9
        assert line.session.next_deadline() == NOW + 9
        line.session.tick(NOW + 9)
        assert line.inner.calls == [("tick", NOW + 9)]

    def test_what_is_asked_of_the_host(self, line):
        host, inner = line.host, line.inner
        assert inner.host.peer == "192.0.2.7" and inner.host.connections == 3
        assert inner.host.loopback and not inner.host.tls and inner.host.certificate_user == ""
        inner.host.wake()
        assert host.woken == 1
        inner.host.authenticate("user", b"secret", print)
        assert host.login == ("user", b"secret", print)
        inner.host.authenticated()
        assert host.known == 1

    def test_a_client_that_was_slow_before(self):
        line = Line()
        line.session.pause_writing()
        line.open()
        assert line.inner.calls == ["pause"]


class TestLimits:
    LIMITS = {"frame_bytes_unauthenticated_max": 1_000, "frame_bytes_max": 5_000}

    def line(self) -> Line:
        line = Line(**self.LIMITS)
        line.open()
        return line

    def test_a_stranger_sends_short_frames(self):
        line = self.line()
        line.feed(frame(2, b"a" * 1_000))
        assert closed(line.feed(frame(2, b"a" * 1_001)))[0] == 1009
        assert line.inner.got == b"a" * 1_000

    def test_who_is_known_sends_longer_ones(self):
        line = self.line()
        line.inner.host.authenticated()
        line.feed(frame(2, b"a" * 5_000))
        assert len(line.inner.got) == 5_000
        assert closed(line.feed(frame(2, b"a" * 5_001)))[0] == 1009

    def test_a_long_frame_may_follow_the_login_in_one_read(self):
        line = self.line()
        line.inner.login_after = 7
        out = line.feed(frame(2, b"connect") + frame(2, b"p" * 5_000))
        assert out == b"" and line.inner.got == b"connect" + b"p" * 5_000
        assert not line.session.backlog and line.session.reading

    def test_a_long_frame_waits_for_a_login_that_takes_time(self):
        line = self.line()
        line.inner.reading = False  # the password is being checked
        line.feed(frame(2, b"connect") + frame(2, b"p" * 5_000)[:900])
        assert line.inner.got == b"connect"
        assert not line.session.backlog and not line.session.reading
        line.inner.host.authenticated()
        line.inner.reading = True
        assert line.session.backlog
        line.settle()
        assert len(line.inner.got) == 7 + 900 - 8 and line.session.reading

    def test_and_is_refused_when_there_was_none(self):
        line = self.line()
        assert closed(line.feed(frame(2, b"connect") + frame(2, b"p" * 1_001)))[0] == 1009
        assert line.inner.got == b"connect"

    def test_what_waits_for_a_stranger_is_bounded(self):
        line = self.line()
        line.inner.reading = False
        assert line.feed(frame(2, b"connect") + frame(2, b"p" * 5_000)[:1_000]) == b""
        assert closed(line.feed(b"p"))[0] == 1009

    def test_many_frames_take_several_turns(self):
        line = Line()
        line.open()
        line.session.receive_data(frame(2, b"a") * 3_000, NOW)
        assert line.session.backlog and not line.session.reading
        assert len(line.inner.got) == 1_024
        line.inner.reading = False
        assert not line.session.backlog, "the session inside does not want more now"
        line.inner.reading = True
        line.settle()
        assert len(line.inner.got) == 3_000 and line.session.reading


# --- against another implementation ---


class Client:
    """A client of the library `websockets`, without its sockets."""

    def __init__(self, line: Line, protocols=("mqtt",)):
        self.line = line
        names = [Subprotocol(name) for name in protocols]
        uri = parse_uri("ws://localhost:8450/mqtt")
        self.protocol = ClientProtocol(uri, subprotocols=names, max_size=None)
        self.protocol.send_request(self.protocol.connect())
        self.flush()

    def flush(self, cuts=()) -> None:
        """Carry bytes until both sides rest."""
        for data in self.protocol.data_to_send():
            edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
            for a, b in pairwise(edges):
                answer = self.line.feed(data[a:b])
                if answer:
                    self.protocol.receive_data(answer)

    def settle(self) -> list:
        answer = self.line.settle()
        if answer:
            self.protocol.receive_data(answer)
        return self.protocol.events_received()


class TestAnotherImplementation:
    def test_agrees_on_the_handshake(self):
        client = Client(Line(), ("stomp", "mqtt"))
        client.protocol.events_received()
        assert client.protocol.state.name == "OPEN" and client.protocol.subprotocol == "mqtt"
        assert client.protocol.extensions == []

    def test_understands_a_refusal(self):
        client = Client(Line(), ("stomp",))
        error = client.protocol.handshake_exc
        assert isinstance(error, InvalidStatus) and error.response.status_code == 400
        assert b"mqtt, mqttv3.1" in (error.response.body or b"")

    @settings(deadline=None, max_examples=50)
    @given(
        st.lists(st.tuples(st.binary(max_size=200), st.booleans()), max_size=8),
        st.lists(st.integers(0, 300), max_size=8),
    )
    def test_agrees_on_every_message(self, messages, cuts):
        line = Line()
        client = Client(line)
        client.protocol.events_received()
        expected = b""
        in_message = False
        for payload, fin in messages:
            expected += payload
            if in_message:
                client.protocol.send_continuation(payload, fin)
            else:
                client.protocol.send_binary(payload, fin)
            in_message = not fin
            client.flush(cuts)
        assert line.inner.got == expected
        client.protocol.send_ping(b"alive?")
        client.flush(cuts)
        line.inner.says += b"x" * 70_000
        pong, data = client.settle()
        assert (pong.opcode, pong.data) == (Opcode.PONG, b"alive?")
        assert (data.opcode, data.data) == (Opcode.BINARY, b"x" * 70_000)

    def test_agrees_on_the_end(self):
        client = Client(Line())
        client.protocol.send_close(1000, "bye")
        client.flush()
        assert client.line.session.finished
        client.protocol.receive_eof()
        assert client.protocol.state.name == "CLOSED" and client.protocol.close_code == 1000

    def test_hears_why_it_is_closed(self):
        client = Client(Line())
        client.protocol.send_text(b"text")
        client.flush()
        client.protocol.receive_eof()
        assert client.protocol.close_code == 1003
        assert client.protocol.close_reason == "only binary frames are taken"
