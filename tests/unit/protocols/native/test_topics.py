"""The server's side of topics: frames in, frames out, credit and what is dropped."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.laggards import SLOW_WAIT_MS
from braidmq.broker.limits import Limits
from braidmq.broker.message import unpack_headers
from braidmq.broker.publishing import Posted
from braidmq.protocols.native import frames, topics
from braidmq.protocols.native import operations as op
from tests.broker_harness import Harness
from tests.mqtt_peer import World
from tests.unit.protocols.native.test_session import O, Peer


@pytest.fixture
def peer():
    return Peer()


def publish(peer, topic, *bodies, **fields):
    """Messages from elsewhere."""
    posted = [Posted(body, **fields) for body in bodies]
    peer.harness.core.publish(SYSTEM, topic, posted, 1, peer.harness.clock.ms)


def subscribe(peer, request, *fields):
    replies = peer.ask(O["SUBSCRIBE"], request, *fields)
    (reply,) = [each for each in replies if isinstance(each, op.SubscribedReply)]
    return reply


def events(peer):
    """What comes now: (request, bodies) of each frame."""
    replies = peer.read()
    assert all(isinstance(each, op.Event) for each in replies), replies
    return [(each.request, [message.body for message in each.messages]) for each in replies]


def test_publish_tells_how_many_matched(peer):
    (reply,) = peer.ask(O["PUBLISH"], 1, "t", [[b"x"], [b"y", b"", True, 5]])
    assert reply == op.PublishedReply(1, [0, 0], [])
    subscribe(peer, 2, ["t", "+"], 0)
    (reply,) = peer.ask(O["PUBLISH"], 3, "t", [[b"x"]], 0)
    assert reply.results == [1]


def test_messages_are_refused_one_by_one():
    peer = Peer(body_bytes_max=4)
    (reply,) = peer.ask(O["PUBLISH"], 1, "t", [[b"x"], [bytes(5)], [b"y"]])
    assert reply.results == [0, None, 0]
    assert [(error.index, error.code) for error in reply.errors] == [(1, "too-large")]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("a/#", [[b"x"]]), "invalid-argument"),
        (("$SYS/x", [[b"x"]]), "permission-denied"),
        (("t", [[b"x", b"junk"]]), "invalid-argument"),
        (("t", [[b"x"]], 2), "invalid-argument"),
        (("t", [[b"x"]] * 10_001), "limit-exceeded"),
    ],
)
def test_a_publish_that_makes_no_sense_is_answered(peer, fields, code):
    assert peer.error(O["PUBLISH"], 1, *fields) == (1, code)
    assert peer.harness.core.topics.published == 0


def test_events_are_paid_for(peer):
    assert subscribe(peer, 7, ["t"], 2) == op.SubscribedReply(7, "$live-1", False)
    publish(peer, "t", b"1", b"2", b"3")
    assert events(peer) == [(7, [b"1", b"2"])]
    peer.write((O["CREDIT"], 7, 5))
    assert events(peer) == [(7, [b"3"])]
    (done,) = peer.ask(O["CANCEL"], 8, 7)
    assert isinstance(done, op.DoneReply)
    publish(peer, "t", b"4")
    assert events(peer) == [] and not peer.harness.core.sessions


def test_more_credit_than_the_window_is_passed_on_little_by_little(peer):
    count = 3 * topics.WINDOW_FIRST_MESSAGES
    subscribe(peer, 7, ["t"], count + 5)
    publish(peer, "t", *[b"%d" % n for n in range(count)])
    got = [body for _, bodies in events(peer) for body in bodies]
    assert got == [b"%d" % n for n in range(count)]


def test_large_messages_are_not_sent_all_at_once(peer):
    subscribe(peer, 7, ["t"], 1_000)
    stream = peer.session._open[7]
    publish(peer, "t", *[bytes(topics.EVENT_BYTES // 4)] * 12)
    assert len([body for _, bodies in events(peer) for body in bodies]) == 12
    assert stream.window <= 4 and stream.feed.credit <= 4


def test_what_was_dropped_is_told():
    peer = Peer(live_queue_messages_max=2)
    subscribe(peer, 7, ["t"], 1)
    publish(peer, "t", b"1", b"2", b"3", b"4")
    (event,) = peer.read()
    assert ([m.body for m in event.messages], event.dropped) == ([b"1"], 2)
    publish(peer, "t", b"5", b"6")
    (event,) = peer.read()
    assert (event.messages, event.dropped) == ([], 3)


def test_a_slow_peer_gets_nothing_until_it_reads(peer):
    subscribe(peer, 7, ["t"], 5_000)
    peer.session.pause_writing()
    publish(peer, "t", *[b"x"] * 2_000)
    assert events(peer) == []
    assert peer.harness.core.topics.dropped == 2_000 - Limits().live_queue_messages_max
    peer.session.resume_writing()
    assert sum(len(bodies) for _, bodies in events(peer)) == Limits().live_queue_messages_max


def test_a_live_message_is_encoded_once_for_all(monkeypatch):
    harness = Harness()
    peers = [Peer(harness) for _ in range(3)]
    for peer in peers:
        subscribe(peer, 7, ["t"], 5)
    publish(peers[0], "t", b"x")
    encoded: list[bytes] = []
    append = frames.append_events

    def note(out, request, messages, *more):
        size = append(out, request, messages, *more)
        encoded.extend(message.encoded for message in messages)
        return size

    monkeypatch.setattr(topics, "append_events", note)
    for peer in peers:
        assert events(peer) == [(7, [b"x"])]
    assert len(encoded) == 3 and encoded[0] is encoded[1] is encoded[2]


def test_durable_messages_are_settled_by_their_queue(peer):
    assert subscribe(peer, 7, ["t"], 10, "dash", "", 60_000).session == "dash"
    publish(peer, "t", b"1", b"2")
    (event,) = peer.read()
    one, two = event.messages
    assert (one.queue, one.receives, two.retained) == ("$session/dash", 1, False)
    assert unpack_headers(one.attributes) == {"topic": "t"}
    (reply,) = peer.ask(O["ACK"], 8, one.queue, [one.receipt, (99, 99)])
    assert [error.index for error in reply.errors] == [1]
    peer.ask(O["CANCEL"], 10, 7, [two.receipt, (99, 99)])
    other = Peer(peer.harness)
    reply = subscribe(other, 1, [], 0, "dash")
    assert reply.resumed
    other.write((O["CREDIT"], 1, 5))
    (event,) = other.read()
    assert [(m.body, m.receives) for m in event.messages] == [(b"2", 1)]


def test_the_end_of_the_connection_ends_subscriptions(peer):
    subscribe(peer, 7, ["t"], 10)
    subscribe(peer, 8, ["t"], 10, "dash")
    peer.session.connection_lost(peer.harness.clock.ms)
    assert [s.name for s in peer.harness.core.sessions.values() if s.sink is None] == ["dash"]
    assert list(peer.harness.core.sessions) == ["dash"]


def test_whoever_is_replaced_or_kicked_is_told(peer):
    subscribe(peer, 7, ["t"], 10, "dash")
    other = Peer(peer.harness)
    subscribe(other, 1, ["t"], 10, "dash")
    (error,) = peer.read()
    assert (error.request, error.code) == (7, "conflict")
    (done,) = peer.ask(O["KICK_SESSION"], 9, "dash", True)
    assert isinstance(done, op.DoneReply)
    (error,) = other.read()
    assert (error.request, error.code) == (1, "unavailable")
    assert peer.error(O["SESSION_INFO"], 10, "dash") == (10, "not-found")
    assert peer.error(O["KICK_SESSION"], 11, "dash") == (11, "not-found")


def test_a_request_number_names_one_subscription(peer):
    subscribe(peer, 7, ["t"], 10)
    assert peer.error(O["SUBSCRIBE"], 7, ["t"], 10) == (7, "conflict")
    most = Limits().credit_max
    assert peer.error(O["SUBSCRIBE"], 8, ["t"], most + 1) == (8, "invalid-argument")
    peer.write((O["CREDIT"], 7, 2**32 - 1))
    peer.read()
    stream = peer.session._open[7]
    assert stream.wanted + stream.feed.credit == most


def test_subscriptions_count_among_the_open_requests():
    peer = Peer(requests_in_flight_max=2)
    for request in (1, 2):
        subscribe(peer, request, ["t"], 10)
    assert peer.error(O["SUBSCRIBE"], 3, ["t"], 10) == (3, "limit-exceeded")


def test_a_durable_subscription_is_ended(peer):
    subscribe(peer, 7, ["t"], 10, "dash")
    replies = peer.ask(O["UNSUBSCRIBE"], 8, "dash")
    assert {type(each) for each in replies} == {op.ErrorReply, op.DoneReply}
    assert peer.error(O["UNSUBSCRIBE"], 9, "dash") == (9, "not-found")


def test_topics_levels_and_sessions_are_listed(peer):
    for topic in ("a/1", "a/2", "b"):
        publish(peer, topic, b"x", retain=True)
    subscribe(peer, 7, ["c"], 10, "dash")
    (reply,) = peer.ask(O["LIST_TOPICS"], 1, "a/+", "a/1")
    assert [info.topic for info in reply.topics] == ["a/2"]
    (reply,) = peer.ask(O["TOPIC_TREE"], 2)
    assert [info.level for info in reply.levels] == ["a", "b", "c"]
    (reply,) = peer.ask(O["LIST_SESSIONS"], 3)
    assert [(info.name, info.filters) for info in reply.sessions] == [("dash", [])]
    (reply,) = peer.ask(O["SESSION_INFO"], 4, "dash")
    assert reply.sessions[0].filters == ["c"]
    assert peer.error(O["LIST_TOPICS"], 5, "a+") == (5, "invalid-argument")
    assert not peer.session._unanswered


def test_a_list_waits_for_who_does_not_read(peer):
    peer.write((O["LIST_TOPICS"], 1))
    peer.session.pause_writing()
    (reply,) = peer.read()
    assert (reply.request, reply.code) == (1, "overloaded")
    peer.write((O["TOPIC_TREE"], 2))
    peer.session.finished = True  # nobody is there any more
    assert peer.read() == []


# --- subscribers that are slow ---


def test_a_publisher_waits_for_a_slow_subscriber_a_little_and_only_once():
    world = World()
    slow = world.join("slow")
    slow.subscribe(("t", 0))
    peer = Peer(world.broker)
    slow.session.pause_writing()
    peer.write((O["PUBLISH"], 1, "t", [[b"1"]]), (O["PING"], 2))
    session, clock = peer.session, world.clock
    assert not session.reading and not session.backlog
    assert session.next_deadline() == clock.ms + SLOW_WAIT_MS
    (reply,) = peer.read()
    assert isinstance(reply, op.PublishedReply)  # what came behind it waits
    clock.ms += SLOW_WAIT_MS
    session.tick(clock.ms)
    assert peer.read() == [op.Pong(2)] and session.reading
    peer.ask(O["PUBLISH"], 3, "t", [[b"2"]])
    assert session.reading  # not again until that has caught up
    slow.session.resume_writing()
    slow.flush()
    slow.session.pause_writing()
    peer.ask(O["PUBLISH"], 4, "t", [[b"3"]])
    assert not session.reading
    woken = peer.host.woken
    slow.session.resume_writing()
    assert session.reading and peer.host.woken > woken
