"""The server's side of a connection, on the real core and a virtual clock."""

import msgpack
import pytest

from braidmq.broker.access import Access, User
from braidmq.broker.errors import Unauthenticated
from braidmq.broker.limits import Limits
from braidmq.broker.settings import QueueSettings
from braidmq.protocols.native import frames
from braidmq.protocols.native import operations as op
from braidmq.protocols.native import session as native
from braidmq.storage.log import Durability
from tests.broker_harness import Harness

O = op.OPERATIONS  # noqa: E741
SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


class Host:
    """A carrier that takes notes."""

    peer = "127.0.0.1"
    tls = False
    certificate_user = ""
    connections = 3

    def __init__(self, loopback=True):
        self.loopback = loopback
        self.woken = 0
        self.known = 0
        self.login: tuple = ()

    def wake(self):
        self.woken += 1

    def authenticate(self, user, password, callback):
        self.login = (user, password, callback)

    def scram(self):
        raise NotImplementedError

    hurry = wake

    def authenticated(self):
        self.known += 1


class Peer:
    """A client that writes frames and reads replies."""

    def __init__(self, harness=None, loopback=True, hello=True, users=(), **limits):
        self.harness = harness or Harness(limits=Limits(**limits))
        if users:
            self.harness.core.access = Access(users)
        self.host = Host(loopback)
        self.session = native.NativeSession(self.harness.core, self.host, self.harness.clock.ms)
        self._frames = frames.FrameBuffer(10**9)
        if hello:
            (self.welcome,) = self.ask(O["HELLO"], 1, 1, 1, "test", 30_000)
            assert isinstance(self.welcome, op.Welcome)

    def ask(self, *fields):
        """Send one request; all replies that come without time going on."""
        self.write(fields)
        return self.read()

    def write(self, *requests):
        data = bytearray()
        for fields in requests:
            frames.append_frame(data, fields)
        self.feed(bytes(data))

    def feed(self, data):
        self.session.receive_data(data, self.harness.clock.ms)

    def read(self, settle=True):
        idle = 0
        while idle < 2:
            if settle:
                self.harness.settle()
            if self.session.backlog:
                self.session.proceed(self.harness.clock.ms)
            data = self.session.data_to_send(self.harness.clock.ms)
            idle = 0 if data or self.session.backlog else idle + 1
            self._frames.feed(bytes(data))
        replies = []
        while (view := self._frames.next_frame()) is not None:
            replies.append(frames.decode_reply(view))
        return replies

    def error(self, *fields):
        (reply,) = self.ask(*fields)
        assert isinstance(reply, op.ErrorReply), reply
        return reply.request, reply.code

    def declare(self, name="q", **settings):
        (reply,) = self.ask(O["DECLARE_QUEUE"], 900, name, settings)
        assert isinstance(reply, op.QueuesReply), reply
        return reply.queues[0]

    def send(self, *bodies, queue="q"):
        (reply,) = self.ask(O["SEND"], 901, queue, [[body] for body in bodies])
        assert isinstance(reply, op.SentReply), reply
        return reply

    def fatal(self):
        """The ERROR that ends the connection."""
        replies = self.read()
        assert self.session.finished
        assert replies and replies[-1].request == 0
        return replies[-1].code


@pytest.fixture
def peer():
    peer = Peer()
    peer.declare()
    return peer


# --- the handshake ---


def test_hello_is_welcomed():
    peer = Peer()
    assert peer.welcome.version == 1
    assert peer.welcome.heartbeat_ms == 30_000
    assert peer.welcome.instance == peer.harness.core.instance
    assert peer.welcome.limits["frame_bytes"] == Limits().frame_bytes_max
    assert peer.host.known == 1


@pytest.mark.parametrize(("wish", "told"), [(0, 600_000), (10, 1_000), (10**7, 600_000)])
def test_the_heartbeat_is_kept_within_limits(wish, told):
    peer = Peer(hello=False)
    (welcome,) = peer.ask(O["HELLO"], 1, 1, 1, "test", wish)
    assert welcome.heartbeat_ms == told


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0)])
def test_versions_without_overlap_end_the_connection(low, high):
    peer = Peer(hello=False)
    peer.write((O["HELLO"], 1, low, high, "test"))
    assert peer.fatal() == "invalid-argument"


def test_a_request_before_hello_ends_the_connection():
    peer = Peer(hello=False)
    peer.write((O["PING"], 1))
    assert peer.fatal() == "invalid-argument"


def test_before_authentication_frames_are_small():
    peer = Peer(hello=False)
    peer.feed((64 * 1024 + 1).to_bytes(4, "big"))
    assert peer.fatal() == "too-large"


def test_who_does_not_say_hello_is_cut_off_in_time():
    peer = Peer(hello=False)
    deadline = peer.session.next_deadline() or 0
    assert deadline == peer.harness.clock.ms + 10_000
    peer.session.tick(deadline - 1)
    assert not peer.session.finished
    peer.session.tick(deadline)
    assert peer.fatal() == "unauthenticated"
    assert peer.session.next_deadline() is None


def test_anonymous_is_only_for_loopback():
    peer = Peer(hello=False, loopback=False)
    peer.write((O["HELLO"], 1, 1, 1, "test"))
    assert peer.fatal() == "unauthenticated"
    assert peer.host.known == 0


def test_a_password_is_checked_while_nothing_else_is_read():
    peer = Peer(hello=False)
    peer.write((O["HELLO"], 5, 1, 1, "test", 0, "ada", b"pw"), (O["PING"], 6))
    name, password, callback = peer.host.login
    assert (name, password) == ("ada", b"pw")
    assert not peer.session.reading and not peer.session.backlog
    assert peer.read() == []
    callback(peer.harness.core.access.anonymous(True))
    assert peer.host.woken
    welcome, pong = peer.read()
    assert (welcome.request, pong.request) == (5, 6)
    assert peer.session.reading


def test_a_wrong_password_ends_the_connection():
    peer = Peer(hello=False)
    peer.write((O["HELLO"], 5, 1, 1, "test", 0, "ada", b"pw"))
    peer.host.login[2](Unauthenticated("unknown user or wrong password"))
    assert peer.fatal() == "unauthenticated"


def test_a_password_checked_too_late_changes_nothing():
    peer = Peer(hello=False)
    peer.write((O["HELLO"], 5, 1, 1, "test", 0, "ada", b"pw"))
    peer.session.connection_lost(peer.harness.clock.ms)
    peer.host.login[2](peer.harness.core.access.anonymous(True))
    assert peer.read() == []


def test_who_loses_all_rights_is_cut_off_at_once():
    peer = Peer()
    peer.harness.core.access.replace([User(name="ada", password_hash=SECRET, rules=())])
    assert peer.host.woken and peer.fatal() == "unauthenticated"


# --- errors ---


def test_an_error_of_a_request_leaves_the_connection_open(peer):
    assert peer.error(99, 5) == (5, "invalid-argument")
    assert peer.error(O["SEND"], 6, "nowhere", [[b"x"]]) == (6, "not-found")
    assert peer.error(O["SEND"], 7, "q", [["text"]]) == (7, "invalid-argument")
    assert peer.ask(O["PING"], 8) == [op.Pong(8)]


def test_malformed_input_is_answered_and_ends_the_connection(peer):
    peer.feed(b"\x00\x00\x00\x01\xc1")
    assert peer.fatal() == "invalid-argument"
    peer.write((O["PING"], 8))
    assert peer.read() == []


def test_a_frame_over_the_limit_ends_the_connection(peer):
    peer.feed((peer.harness.core.limits.frame_bytes_max + 1).to_bytes(4, "big"))
    assert peer.fatal() == "too-large"


@pytest.mark.parametrize(
    "attributes", [b"x", b"\x90", msgpack.packb({"a": 1}), b"\x81\xa1a" * 9_000 + b"\xa0"]
)
def test_headers_that_are_none_are_refused(peer, attributes):
    assert peer.error(O["SEND"], 6, "q", [[b"ok"], [b"x", attributes]]) == (6, "invalid-argument")
    assert peer.harness.info().messages == 0


def test_silence_for_two_heartbeats_ends_the_connection(peer):
    heard = peer.harness.clock.ms
    peer.harness.clock.ms += 20_000
    peer.ask(O["PING"], 1)
    assert peer.session.next_deadline() == heard + 30_000
    peer.session.tick(heard + 30_000)
    peer.session.tick(heard + 79_999)
    assert not peer.session.finished and peer.read() == []
    assert peer.session.next_deadline() == heard + 80_000
    peer.session.tick(heard + 80_000)
    assert peer.fatal() == "disconnected"


def test_who_is_not_read_is_not_silent_and_hears_of_us():
    peer = Peer(pending_bytes_max=4_000)
    peer.declare()
    peer.write((O["SEND"], 5, "q", [[b"x" * 3_000]]))
    assert not peer.session.reading
    for _ in range(5):
        peer.harness.clock.ms = peer.session.next_deadline() or 0
        peer.session.tick(peer.harness.clock.ms)
        assert peer.read(settle=False) == [op.Pong(0)]
    assert not peer.session.finished


def test_who_does_not_wait_for_the_welcome_is_cut_off():
    peer = Peer(hello=False)
    hello = (O["HELLO"], 1, 1, 1, "test", 0, "ada", b"pw")
    peer.write(hello, (O["SEND"], 2, "q", [[bytes(70_000)]]))
    assert peer.fatal() == "too-large"


# --- sending ---


def test_sent_comes_when_the_messages_are_kept(peer):
    peer.write((O["SEND"], 5, "q", [[b"a"], [b"b"]]))
    assert peer.read(settle=False) == [] and peer.session.answering
    (reply,) = peer.read()
    assert not peer.session.answering
    assert [sent.seq for sent in reply.results] == [1, 2]
    assert reply.errors == []
    assert peer.harness.bodies() == [b"a", b"b"]


def test_a_queue_in_memory_is_answered_at_once(peer):
    peer.declare("fast", durability=int(Durability.MEMORY))
    peer.write((O["SEND"], 5, "fast", [[b"a"]]))
    assert len(peer.read(settle=False)) == 1


@pytest.mark.parametrize("durability", [Durability.OS, Durability.SYNC])
def test_durabilities_may_be_mixed_in_one_read(peer, durability):
    peer.declare("other", durability=int(durability))
    peer.write((O["SEND"], 5, "q", [[b"a"]]), (O["SEND"], 6, "other", [[b"a"]]))
    assert sorted(reply.request for reply in peer.read()) == [5, 6]
    assert peer.session.reading


def test_one_bad_message_does_not_spoil_the_batch(peer):
    (reply,) = peer.ask(O["SEND"], 5, "q", [[b"a"], [b"b", b"", -1, 0, 77], [b"c"]])
    assert reply.results[1] is None
    assert [(error.index, error.code) for error in reply.errors] == [(1, "invalid-argument")]
    assert peer.harness.bodies() == [b"a", b"c"]


def test_a_broken_log_ends_the_connection(peer):
    peer.write((O["SEND"], 5, "q", [[b"a"]]))
    peer.session._on_kept((bytearray(), 1), peer.harness.core.failed or Unauthenticated("x"))
    assert peer.fatal() == "unauthenticated"


def test_many_frames_in_one_read_take_turns(peer):
    count = 3 * native.FRAMES_PER_TURN_MAX
    peer.write(*[(O["PING"], n + 1) for n in range(count)])
    assert peer.session.backlog and not peer.session.reading
    assert peer.session.data_to_send(0).count(b"\x92\x42") == native.FRAMES_PER_TURN_MAX
    assert len(peer.read()) == count - native.FRAMES_PER_TURN_MAX
    assert not peer.session.backlog and peer.session.reading


def test_a_sender_is_not_read_while_too_much_waits_to_be_written():
    peer = Peer(pending_bytes_max=4_000)
    peer.declare()
    peer.write((O["SEND"], 5, "q", [[b"x" * 3_000]]))
    assert not peer.session.reading
    other = Peer(peer.harness)
    assert other.session.reading
    assert other.ask(O["PING"], 9) == [op.Pong(9)]
    peer.read()
    assert peer.session.reading and peer.host.woken


def test_requests_without_answers_are_bounded():
    peer = Peer(requests_in_flight_max=3)
    peer.declare()
    peer.write(*[(O["SEND"], n, "q", [[b"x"]]) for n in range(1, 6)])
    assert not peer.session.reading
    assert len(peer.read()) == 5
    assert peer.session.reading


# --- receiving ---


def test_receive_and_ack(peer):
    peer.send(b"a", b"b")
    (reply,) = peer.ask(O["RECEIVE"], 5, "q", 10)
    assert reply.last and [m.body for m in reply.messages] == [b"a", b"b"]
    receipts = [m.receipt for m in reply.messages]
    assert peer.ask(O["ACK"], 6, "q", receipts) == [op.SettledReply(6, [])]
    (again,) = peer.ask(O["ACK"], 7, "q", receipts)
    assert [(error.index, error.code) for error in again.errors] == [
        (0, "lease-lost"),
        (1, "lease-lost"),
    ]
    assert peer.harness.info().messages == 0


def test_a_receive_waits_for_its_time(peer):
    assert peer.ask(O["RECEIVE"], 5, "q", 10, 20_000) == []
    peer.harness.advance(19_999)
    assert peer.read() == []
    peer.harness.advance(200)
    assert peer.read() == [op.Deliver(5, True, [])]


def test_a_receive_that_is_cancelled_holds_nothing(peer):
    assert peer.ask(O["RECEIVE"], 5, "q", 10, 20_000) == []
    assert peer.ask(O["CANCEL"], 6, 5) == [op.DoneReply(6)]
    peer.send(b"a")
    assert peer.read() == []
    assert peer.harness.info().in_flight == 0


def test_cancelling_what_is_not_there_is_done_too(peer):
    assert peer.ask(O["CANCEL"], 6, 5) == [op.DoneReply(6)]


def test_request_numbers_of_waiting_receives_are_taken(peer):
    peer.ask(O["RECEIVE"], 5, "q", 10, 20_000)
    assert peer.error(O["RECEIVE"], 5, "q", 10, 20_000) == (5, "conflict")


def test_waiting_receives_are_bounded():
    peer = Peer(requests_in_flight_max=2)
    peer.declare()
    for number in (1, 2):
        assert peer.ask(O["RECEIVE"], number, "q", 1, 20_000) == []
    assert peer.error(O["RECEIVE"], 3, "q", 1, 20_000) == (3, "limit-exceeded")


def test_nack_extend_and_dead_letter(peer):
    peer.declare("dead")
    peer.ask(O["UPDATE_QUEUE"], 3, "q", {"dead_letter": "dead"})
    peer.send(b"a")
    (reply,) = peer.ask(O["RECEIVE"], 5, "q", 1)
    receipt = reply.messages[0].receipt
    assert peer.ask(O["EXTEND"], 6, "q", [receipt], 60_000) == [op.SettledReply(6, [])]
    assert peer.ask(O["NACK"], 7, "q", [receipt], 0, False) == [op.SettledReply(7, [])]
    (reply,) = peer.ask(O["RECEIVE"], 8, "q", 1)
    assert reply.messages[0].receives == 1
    receipt = reply.messages[0].receipt
    assert peer.ask(O["DEAD_LETTER"], 9, "q", [receipt], "bad") == [op.SettledReply(9, [])]
    assert peer.harness.bodies("dead") == [b"a"]


def test_large_answers_come_in_several_frames(peer):
    body = b"x" * 600_000
    for _ in range(4):
        peer.send(body)
    replies = peer.ask(O["RECEIVE"], 5, "q", 10)
    assert len(replies) > 1
    assert [reply.last for reply in replies] == [False] * (len(replies) - 1) + [True]


def test_a_client_that_does_not_read_gets_its_receive_back(peer):
    assert peer.ask(O["RECEIVE"], 5, "q", 10, 20_000) == []
    peer.session.pause_writing()
    assert not peer.session.reading
    peer.harness.send(b"a")
    assert peer.read() == [op.Deliver(5, True, [])]
    assert peer.harness.info().in_flight == 0
    peer.session.resume_writing()
    assert peer.session.reading
    (reply,) = peer.ask(O["RECEIVE"], 6, "q", 10)
    assert reply.messages[0].receives == 1


# --- consuming ---


def test_a_consumer_gets_what_its_credit_allows(peer):
    assert peer.ask(O["CONSUME"], 5, "q", 2) == [op.DoneReply(5)]
    peer.harness.send(b"a", b"b", b"c")
    replies = peer.read()
    assert [m.body for reply in replies for m in reply.messages] == [b"a", b"b"]
    assert not any(reply.last for reply in replies)
    (reply,) = peer.ask(O["CREDIT"], 5, 1)
    assert [m.body for m in reply.messages] == [b"c"]


def test_credit_has_a_limit():
    peer = Peer(credit_max=10)
    peer.declare()
    assert peer.error(O["CONSUME"], 5, "q", 11) == (5, "invalid-argument")
    peer.ask(O["CONSUME"], 5, "q", 10)
    peer.ask(O["CREDIT"], 5, 1_000)
    peer.harness.send(*[b"x"] * 50)
    assert sum(len(reply.messages) for reply in peer.read()) == 10


def test_credit_for_nobody_is_ignored(peer):
    assert peer.ask(O["CREDIT"], 77, 5) == []
    peer.ask(O["RECEIVE"], 5, "q", 1, 20_000)
    assert peer.ask(O["CREDIT"], 5, 5) == []


def test_what_a_consumer_held_goes_back_when_it_is_cancelled(peer):
    peer.send(b"a", b"b")
    _, reply = peer.ask(O["CONSUME"], 5, "q", 10)
    unprocessed = [reply.messages[1].receipt]
    assert peer.ask(O["CANCEL"], 6, 5, unprocessed) == [op.DoneReply(6)]
    (reply,) = peer.ask(O["RECEIVE"], 7, "q", 10)
    assert {m.body: m.receives for m in reply.messages} == {b"a": 2, b"b": 1}


def test_what_a_connection_held_goes_back_when_it_is_lost(peer):
    peer.send(b"a")
    peer.ask(O["CONSUME"], 5, "q", 10)
    peer.ask(O["RECEIVE"], 6, "q", 10, 20_000)
    assert peer.harness.info().consumers == 2
    peer.session.connection_lost(peer.harness.clock.ms)
    peer.harness.settle()
    info = peer.harness.info()
    assert (info.consumers, info.in_flight, info.ready) == (0, 0, 1)


def test_consumers_end_with_their_queue(peer):
    peer.ask(O["CONSUME"], 5, "q", 10)
    peer.ask(O["RECEIVE"], 6, "q", 10, 20_000)
    replies = peer.ask(O["DELETE_QUEUE"], 7, "q")
    assert op.DoneReply(7) in replies
    errors = {(r.request, r.code) for r in replies if isinstance(r, op.ErrorReply)}
    assert errors == {(5, "not-found"), (6, "not-found")}
    peer.declare()
    assert peer.ask(O["CONSUME"], 5, "q", 10) == [op.DoneReply(5)]


# --- managing ---


def test_queues_are_declared_listed_and_deleted(peer):
    info = peer.declare("jobs", max_receives=3, dead_letter="dead")
    assert info.settings == QueueSettings(max_receives=3, dead_letter="dead")
    assert peer.error(O["DECLARE_QUEUE"], 5, "jobs", {}) == (5, "conflict")
    (reply,) = peer.ask(O["LIST_QUEUES"], 6)
    assert [each.name for each in reply.queues] == ["dead", "jobs", "q"]
    (reply,) = peer.ask(O["LIST_QUEUES"], 6, "", "dead", 1)
    assert [each.name for each in reply.queues] == ["jobs"]
    (reply,) = peer.ask(O["QUEUE_INFO"], 7, "jobs")
    assert reply.queues[0].name == "jobs"
    peer.send(b"x", queue="jobs")
    assert peer.error(O["DELETE_QUEUE"], 8, "jobs", True) == (8, "conflict")
    assert peer.ask(O["PURGE"], 9, "jobs") == [op.CountReply(9, 1)]
    assert peer.ask(O["DELETE_QUEUE"], 10, "jobs", True) == [op.DoneReply(10)]
    assert peer.error(O["QUEUE_INFO"], 11, "jobs") == (11, "not-found")


def test_browse_looks_without_touching(peer):
    peer.send(b"a", b"b")
    (reply,) = peer.ask(O["BROWSE"], 5, "q")
    assert [(m.seq, m.state, m.body) for m in reply.messages] == [
        (1, "ready", b"a"),
        (2, "ready", b"b"),
    ]
    assert peer.ask(O["BROWSE"], 6, "q", 2) == [op.BrowsedReply(6, True, [])]
    assert peer.error(O["BROWSE"], 7, "q", 0, 10, "", "asleep") == (7, "invalid-argument")
    assert peer.session.reading


def test_redrives_are_begun_listed_and_cancelled(peer):
    peer.declare("dead")
    peer.send(b"a", b"b", queue="dead")
    (reply,) = peer.ask(O["REDRIVE"], 5, "dead", "q", 0.001)
    number = reply.redrives[0].id
    (reply,) = peer.ask(O["LIST_REDRIVES"], 6)
    assert [each.id for each in reply.redrives] == [number]
    (reply,) = peer.ask(O["CANCEL_REDRIVE"], 7, number)
    assert reply.redrives[0].state == "cancelled"
    assert peer.error(O["CANCEL_REDRIVE"], 8, 12345) == (8, "not-found")


def test_the_broker_tells_how_it_is(peer):
    (reply,) = peer.ask(O["BROKER_INFO"], 5)
    assert reply.broker.connections == peer.host.connections
    assert reply.broker.queues == 1


# --- the end ---


def test_shutting_down_answers_what_was_taken_and_nothing_else(peer):
    peer.write((O["SEND"], 5, "q", [[b"a"]]))
    peer.session.shut_down(peer.harness.clock.ms)
    assert peer.session.next_deadline() is None
    peer.session.tick(peer.harness.clock.ms + 10**9)
    assert not peer.session.finished
    peer.write((O["SEND"], 6, "q", [[b"b"]]))
    sent, goodbye = peer.read()
    assert sent.request == 5
    assert (goodbye.request, goodbye.code) == (0, "unavailable")
    assert peer.session.finished
    assert peer.harness.bodies() == [b"a"]


def test_shutting_down_ends_consumers(peer):
    peer.send(b"a")
    peer.ask(O["CONSUME"], 5, "q", 10)
    peer.session.shut_down(peer.harness.clock.ms)
    peer.session.shut_down(peer.harness.clock.ms)
    assert peer.fatal() == "unavailable"
    assert peer.harness.info().in_flight == 0


def test_the_end_of_the_stream_finishes_the_session(peer):
    peer.session.receive_eof(peer.harness.clock.ms)
    assert peer.session.finished
    peer.session.tick(10**15)
    assert peer.read() == []


def test_answers_after_the_end_go_nowhere(peer):
    peer.write((O["SEND"], 5, "q", [[b"a"]]), (O["BROWSE"], 6, "q"))
    peer.session.connection_lost(peer.harness.clock.ms)
    assert peer.read() == []


def test_who_watches_connections_is_told_of_it_from_welcome_to_the_end(monkeypatch):
    harness = Harness()
    told: list[object] = []
    advising = harness.core.advising

    def connected(*facts: object) -> int:
        told.append(facts)
        return 7

    monkeypatch.setattr(advising, "connected", connected)
    monkeypatch.setattr(advising, "disconnected", told.append)
    Peer(harness, hello=False).session.connection_lost(harness.clock.ms)
    peer = Peer(harness)
    peer.session.connection_lost(harness.clock.ms)
    assert told == [0, ("", "$anonymous", "braid", "127.0.0.1"), 7]
