"""A feed: one credit for all that comes, bounds, nothing lost, nothing that goes back in time."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import BraidError, Conflict, LeaseLost, Unavailable
from braidmq.broker.feed import Feed
from braidmq.broker.limits import Limits
from braidmq.broker.publishing import Posted, Published
from braidmq.broker.sharing import PASSED_OVER_MS
from braidmq.broker.verbs import Interest
from tests.broker_harness import Harness

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


class Reader:
    """Owns a feed, takes what comes."""

    def __init__(self, broker: Harness, *filters: str, who: Any = SYSTEM, **options: Any) -> None:
        self.broker = broker
        self.ready = 0
        self.error: BraidError | None = None
        interest = Interest(filters, **options)
        _, self.feed = broker.core.subscribe(who, interest, self, None, broker.clock.ms)
        broker.settle()

    def feed_ready(self, feed: Feed) -> None:
        self.ready += 1

    def feed_ended(self, feed: Feed, error: BraidError) -> None:
        self.error = error

    def take(self, credit: int = 0) -> list[Published]:
        self.feed.grant(credit)
        found: list[Published] = []
        while True:
            self.broker.settle()
            more = self.feed.take(self.broker.clock.ms)
            if not more:
                return found
            found += more

    def bodies(self, credit: int = 0) -> list[bytes]:
        return [message.body for message in self.take(credit)]

    def ack(self, *messages: Published) -> list[Any]:
        return [
            self.broker.core.ack(SYSTEM, each.queue, [each.receipt], self.broker.clock.ms)[1][0]
            for each in messages
        ]

    def close(self) -> None:
        self.feed.close(self.broker.clock.ms)
        self.broker.settle()


def publish(broker, topic, *bodies, qos=1, retain=False, ttl_ms=0):
    messages = [Posted(body, b"", retain, ttl_ms) for body in bodies]
    results = broker.core.publish(SYSTEM, topic, messages, qos, broker.clock.ms)[1]
    broker.settle()
    return results


@pytest.fixture
def broker():
    return Harness(limits=Limits(live_queue_messages_max=5, live_queue_bytes_max=1_000))


# --- live ---


def test_live_messages_are_paid_for(broker):
    reader = Reader(broker, "t")
    publish(broker, "t", b"1", b"2", b"3")
    assert reader.ready and reader.bodies() == []
    assert reader.bodies(2) == [b"1", b"2"] and reader.feed.credit == 0
    assert reader.bodies(5) == [b"3"] and reader.feed.credit == 4
    reader.close()
    assert publish(broker, "t", b"4") == [0]


def test_too_many_are_dropped_and_counted(broker):
    reader = Reader(broker, "t")
    publish(broker, "t", *[b"%d" % n for n in range(8)])
    assert (reader.feed.dropped, broker.core.topics.dropped) == (3, 3)
    assert reader.bodies(9) == [b"0", b"1", b"2", b"3", b"4"]
    publish(broker, "t", bytes(2_000), b"fits")
    assert reader.feed.dropped == 4 and reader.bodies() == [b"fits"]
    publish(broker, "t", bytes(400), bytes(400), b"no")  # the bound is one of bytes, too
    assert reader.feed.dropped == 5


def test_what_has_expired_is_not_given_out_and_costs_nothing(broker):
    reader = Reader(broker, "t")
    publish(broker, "t", b"old", ttl_ms=10)
    broker.advance(10)
    publish(broker, "t", b"new")
    assert reader.bodies(1) == [b"new"]


def test_all_live_subscribers_share_the_objects(broker):
    one, two = Reader(broker, "t"), Reader(broker, "+")
    publish(broker, "t", b"x")
    (first,), (second,) = one.take(1), two.take(1)
    assert first is second and first.time_ms == broker.clock.ms


# --- retained ---


def test_retained_messages_are_searched_as_they_are_paid_for(broker):
    for number in range(200):
        publish(broker, f"r/{number}", b"%d" % number, retain=True)
    reader = Reader(broker, "r/+")
    assert len(reader.take(3)) == 3
    rest = reader.take(500)
    assert len(rest) == 197 and all(message.retained for message in rest)
    assert reader.feed.credit == 500 - 197


def test_a_topic_that_several_filters_find_comes_once(broker):
    for topic in ("r/1", "r/2", "r/3", "q"):
        publish(broker, topic, topic.encode(), retain=True)
    reader = Reader(broker, "r/2", "r/+", "q", "#", "r/1")
    came = [message.body for _ in range(10) for message in reader.take(1)]
    assert came == [b"r/2", b"r/1", b"r/3", b"q"]


def test_many_filters_without_wildcards_are_not_compared_with_each_topic(broker, monkeypatch):
    topics = [f"r/{number}" for number in range(500)]
    for topic in topics:
        publish(broker, topic, topic.encode(), retain=True)
    reader = Reader(broker, *topics)
    monkeypatch.delattr("braidmq.broker.feed.matches")
    assert [message.body.decode() for message in reader.take(1_000)] == topics


def test_live_messages_do_not_wait_and_nothing_comes_twice(broker):
    publish(broker, "a", b"old", retain=True)
    publish(broker, "b", b"old", retain=True)
    reader = Reader(broker, "+")
    publish(broker, "a", b"new", retain=True)
    found = reader.take(9)
    assert [(m.body, m.retained) for m in found] == [(b"new", False), (b"old", True)]


# --- leased ---


def test_one_credit_is_shared_by_all_queues(broker):
    reader = Reader(broker, "$share/g/a", "$share/g/b", "$share/g/c", durable="d")
    for topic in "abc":
        publish(broker, topic, b"1", b"2")
    first = reader.take(4)
    assert len(first) == 4 and reader.feed.credit == 0
    assert {m.queue for m in first} <= {f"$share/g/{topic}" for topic in "abc"}
    assert reader.ack(*first) == [None] * 4 and reader.bodies() == []
    assert len(reader.take(9)) == 2


def test_what_was_not_taken_goes_back_uncounted(broker):
    reader = Reader(broker, "d", durable="x")
    publish(broker, "d", b"1", b"2")
    reader.feed.grant(2)
    broker.settle()  # leased, and not taken
    assert broker.core.session_info(SYSTEM, "x").in_flight == 2
    reader.close()
    again = Reader(broker, durable="x").take(2)
    assert [m.receives for m in again] == [1, 1]


def test_what_was_taken_goes_back_too(broker):
    reader = Reader(broker, "d", durable="x")
    publish(broker, "d", b"1")
    (held,) = reader.take(1)
    reader.close()
    (again,) = Reader(broker, durable="x").take(1)
    assert again.receives == 2
    assert isinstance(reader.ack(held)[0], LeaseLost) and reader.ack(again) == [None]


def test_members_without_the_right_drop_what_they_are_given(broker):
    rules = (
        Rule("allow", ("topic:Subscribe",), ("#",)),
        Rule("deny", ("topic:Subscribe",), ("w/secret",)),
    )
    broker.core.access.replace([User("alice", HASH, rules)])
    who = broker.core.access.principal("alice")
    reader = Reader(broker, "w/+", who=who, share="g")
    reader.feed.grant(10)
    publish(broker, "w/secret", b"1")
    publish(broker, "w/open", b"2")
    assert reader.bodies() == [b"2"] and reader.feed.credit == 9
    assert broker.core.topics.dropped == 1
    live = Reader(broker, "w/+", who=who)
    publish(broker, "w/secret", b"1")
    assert live.bodies(5) == []


def test_what_one_member_may_not_have_another_gets(broker):
    rules = (
        Rule("allow", ("topic:*", "session:*"), ("w/*",)),
        Rule("deny", ("topic:Subscribe",), ("w/secret",)),
    )
    broker.core.access.replace([User("alice", HASH, rules)])
    alice = Reader(broker, "w/+", who=broker.core.access.principal("alice"), share="g")
    alice.feed.grant(10)
    publish(broker, "w/secret", b"0")  # nobody else is there
    assert broker.core.topics.dropped == 1
    other = Reader(broker, "w/+", share="g")
    other.feed.grant(100)
    for number in range(10):
        publish(broker, "w/secret", b"%d" % number)
        publish(broker, "w/open", b"open")
    broker.advance(20 * PASSED_OVER_MS)
    got = other.take()
    assert sorted(m.body for m in got if m.body != b"open") == [b"%d" % n for n in range(10)]
    mine = alice.take()
    assert all(m.body == b"open" for m in mine) and len(mine) + len(got) == 20
    assert broker.core.topics.dropped == 1
    assert alice.feed.credit == 10 - len(mine)
    other.close()
    # What comes back when it goes away is for nobody who is left: dropped, not kept for ever.
    broker.advance(20 * PASSED_OVER_MS)
    assert broker.core.topics.dropped == 11


def test_queues_of_a_filter_that_was_left_are_left(broker):
    Reader(broker, "$share/g/a", "$share/g/b", durable="x").close()
    reader = Reader(broker, "$share/g/a", durable="x")
    assert publish(broker, "b", b"1") == [0]
    publish(broker, "a", b"1")
    assert reader.bodies(5) == [b"1"]


# --- ends ---


def test_a_session_is_taken_over(broker):
    old = Reader(broker, "d", durable="x")
    old.feed.grant(5)
    publish(broker, "d", b"1")
    new = Reader(broker, "d", durable="x")
    assert isinstance(old.error, Conflict) and new.feed.resumed
    assert new.bodies(5) == [b"1"] and old.take(5) == []
    old.close()  # ended already: it has no effect on the other
    publish(broker, "d", b"2")
    assert new.bodies() == [b"2"]


def test_an_operator_ends_it(broker):
    live, durable = Reader(broker, "t"), Reader(broker, "t", durable="x")
    for reader in (live, durable):
        name = reader.feed.session.name
        broker.core.kick_session(SYSTEM, name, True, broker.clock.ms)
        assert isinstance(reader.error, Unavailable)
    assert not broker.core.sessions and publish(broker, "t", b"") == [0]


def test_a_session_outlives_its_connection_for_so_long(broker):
    reader = Reader(broker, "d", durable="x", expiry_ms=1_000)
    broker.advance(5_000)
    reader.close()
    broker.advance(999)
    assert "x" in broker.core.sessions
    broker.advance(2)
    assert "x" not in broker.core.sessions


def test_the_broker_fails(broker):
    reader = Reader(broker, "d", durable="x")
    broker.core.fail(OSError("broken"))
    assert reader.error is not None and reader.error.code == "broker-failed"
    reader.close()


# --- a model ---

STEP = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from(["a", "b", "x"]), st.integers(1, 4)),
    st.tuples(st.just("live"), st.just("a"), st.integers(1, 4)),
    st.tuples(st.just("grant"), st.just(""), st.integers(1, 3)),
    st.tuples(st.just("take"), st.just(""), st.just(0)),
    st.tuples(st.just("ack"), st.just(""), st.integers(1, 3)),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEP, max_size=40))
def test_credit_is_never_exceeded_and_nothing_durable_is_lost(steps):
    broker = Harness(limits=Limits(live_queue_messages_max=3))
    reader = Reader(broker, "a", "$share/g/b", "$share/g/x", durable="d")
    granted, count = 0, 0
    kept: set[bytes] = set()
    got: list[Published] = []
    unsettled: list[Published] = []
    live = 0
    for what, topic, number in steps:
        if what in ("publish", "live"):
            bodies = [b"%s%d" % (topic.encode(), count + n) for n in range(number)]
            count += number
            publish(broker, topic, *bodies, qos=what == "publish")
            if what == "publish":
                kept.update(bodies)
            else:
                live += number
        elif what == "grant":
            reader.feed.grant(number)
            granted += number
        elif what == "take":
            found = list(reader.feed.take(broker.clock.ms))
            got += found
            unsettled += [message for message in found if message.queue]
        else:
            done, unsettled = unsettled[:number], unsettled[number:]
            assert reader.ack(*done) == [None] * len(done)
        broker.settle()
        assert len(got) <= granted
        for consumer in reader.feed._consumers.values():
            assert consumer.credit == reader.feed.credit >= 0
    got += reader.take(1_000)
    assert len({message.body for message in got}) == len(got)
    assert {message.body for message in got if message.queue} == kept
    assert sum(not message.queue for message in got) + reader.feed.dropped == live
    of_a = [int(message.body[1:]) for message in got if message.body[:1] == b"a" and message.queue]
    assert of_a == sorted(of_a)


def test_a_feed_ends_with_a_consumer_that_the_broker_had_to_end(broker):
    faults: list[Exception] = []
    broker.core.on_fault = faults.append
    reader = Reader(broker, "t", share="g")
    reader.feed.grant(5)

    def broken(feed):
        raise ZeroDivisionError("a bug")

    reader.feed_ready = broken  # type: ignore[method-assign]
    publish(broker, "t", b"1")
    assert len(faults) == 1 and type(reader.error) is BraidError
    assert not broker.core.sessions


def test_what_is_published_while_it_is_muted_is_not_for_it():
    broker = Harness()
    muted, other = Reader(broker, "t"), Reader(broker, "t")
    for is_muted, body in ((True, b"1"), (False, b"2")):
        muted.feed.muted = is_muted
        broker.core.publish(SYSTEM, "t", [Posted(body)], 1, broker.clock.ms)
    assert muted.bodies(9) == [b"2"]
    assert other.bodies(9) == [b"1", b"2"]
    assert muted.feed.dropped == 0
