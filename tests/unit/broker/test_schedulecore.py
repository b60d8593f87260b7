"""Who may schedule, see and remove what."""

import msgspec
import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import (
    BrokerFailed,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    TooLarge,
)
from braidmq.broker.limits import Limits
from braidmq.broker.schedule import Timing
from braidmq.broker.stream_settings import StreamSettings
from braidmq.storage.errors import LogFailed
from tests.broker_harness import START_MS, Harness
from tests.schedule_harness import listed, schedule, shown, unschedule, unschedule_between

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
LATER = Timing(1_000)


@pytest.fixture
def broker():
    broker = Harness(limits=Limits(body_bytes_max=1_000))
    broker.declare()
    broker.declare("f", fifo=True)
    broker.core.declare_stream(SYSTEM, "s", StreamSettings(record_bytes_max=500), 1, START_MS)
    broker.core.declare_stream(SYSTEM, "large", StreamSettings(), 1, START_MS)
    return broker


def principal(broker: Harness, *rules: Rule):
    """A user with these rules, beside ``other``, who may send to q."""
    sends = Rule("allow", ("queue:Send",), ("q",))
    broker.core.access.replace([User("a", HASH, rules), User("other", HASH, (sends,))])
    return broker.core.access.principal("a")


def test_what_is_told_of_a_schedule(broker):
    packed = msgspec.msgpack.encode({"a": "b"})
    timing = Timing(1_000, 10, 3)
    made = schedule(broker, timing, b"body", attributes=packed, priority=7)
    assert (made.id, made.kind, made.name, made.timing) == (1, "queue", "q", timing)
    assert (made.user, made.created_ms, made.next_ms) == ("$system", START_MS, START_MS + 1_000)
    assert (made.fired, made.error, made.body) == (0, "", b"")
    assert listed(broker) == [made]
    info = shown(broker, 1)
    assert info.body == b"body" and info.size == 4 + len(info.attributes)
    assert msgspec.msgpack.decode(info.attributes) == {"a": "b", "schedule-id": "1"}
    broker.advance(1_000)
    (info,) = listed(broker)
    assert (info.fired, info.next_ms) == (1, START_MS + 1_010)


@pytest.mark.parametrize(
    ("kind", "name", "rule"),
    [
        ("queue", "q", Rule("allow", ("queue:Send",), ("q",))),
        ("topic", "t", Rule("allow", ("topic:Publish",), ("t",))),
        ("stream", "s", Rule("allow", ("stream:Append",), ("s",))),
    ],
)
def test_it_takes_the_right_to_send(broker, kind, name, rule):
    who = principal(broker)
    with pytest.raises(PermissionDenied):
        schedule(broker, LATER, who=who, kind=kind, name=name)
    who = principal(broker, rule)
    schedule(broker, LATER, who=who, kind=kind, name=name)
    assert [info.kind for info in listed(broker, who=who)] == [kind]  # one's own are seen


def test_others_are_seen_by_who_may_see_their_target(broker):
    who = principal(broker, Rule("allow", ("queue:Send",), ("q",)))
    other = broker.core.access.principal("other")
    mine, theirs = schedule(broker, LATER, who=who).id, schedule(broker, LATER, who=other).id
    assert [info.id for info in listed(broker, who=who)] == [mine]
    with pytest.raises(NotFound):
        shown(broker, theirs, who)
    with pytest.raises(NotFound):
        unschedule(broker, theirs, who)
    who = principal(broker, Rule("allow", ("queue:Describe",), ("q",)))
    assert [info.id for info in listed(broker, who=who)] == [mine, theirs]
    assert shown(broker, theirs, who).user == "other"
    with pytest.raises(PermissionDenied, match="is 'other''s"):
        unschedule(broker, theirs, who)
    assert unschedule_between(broker, who=who) == 1
    who = principal(broker, Rule("allow", ("broker:Admin",), ("broker",)))
    unschedule(broker, theirs, who)
    assert listed(broker) == []


def test_pages_and_spans(broker):
    for number in range(1, 8):
        schedule(broker, Timing(1_000 * number))
    assert [info.id for info in listed(broker, limit=3)] == [1, 2, 3]
    assert [info.id for info in listed(broker, after=3, limit=3)] == [4, 5, 6]
    span = START_MS + 3_000, START_MS + 5_000
    assert [info.id for info in listed(broker, *span)] == [3, 4]
    assert [info.id for info in listed(broker, START_MS + 6_000)] == [6, 7]
    assert unschedule_between(broker, *span) == 2
    assert [info.id for info in listed(broker)] == [1, 2, 5, 6, 7]
    broker.advance(7_000)
    assert len(broker.bodies()) == 5 and listed(broker) == []
    assert unschedule_between(broker) == 0


def test_what_there_is_not(broker):
    assert listed(broker) == [] and unschedule_between(broker) == 0
    for id in (0, 1, -5, 2**60):
        with pytest.raises(NotFound, match=f"no schedule {id}"):
            unschedule(broker, id)
    schedule(broker, LATER)
    schedule(broker, LATER)
    unschedule(broker, 1)
    for id in (0, 1, 3, -1, 2**60):
        with pytest.raises(NotFound):
            shown(broker, id)
    for span in ((-1, 0, 0, 9), (0, 2**60, 0, 9), (0, 0, -1, 9), (0, 0, 0, 0), (0, 0, 0, 1_001)):
        with pytest.raises(InvalidArgument):
            listed(broker, *span)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"name": "none"}, NotFound),
        ({"kind": "stream", "name": "none"}, NotFound),
        ({"body": bytes(1_001)}, TooLarge),
        ({"kind": "topic", "name": "t", "body": bytes(1_001)}, TooLarge),
        ({"kind": "stream", "name": "s", "body": bytes(500)}, TooLarge),
        ({"kind": "stream", "name": "large", "body": bytes(1_001)}, TooLarge),
        ({"kind": "topic", "name": "t/#"}, InvalidArgument),
        ({"kind": "topic", "name": "$SYS/x"}, PermissionDenied),
        ({"priority": 10}, InvalidArgument),
        ({"group": "g"}, InvalidArgument),
        ({"name": "f", "priority": 5}, InvalidArgument),
        ({"ttl_ms": -1}, InvalidArgument),
        ({"timing": Timing(-1)}, InvalidArgument),
        ({"timing": Timing(cron="0 0 */20 * 1L")}, InvalidArgument),
        ({"attributes": msgspec.msgpack.encode({"a": "b" * 66_000})}, TooLarge),
    ],
)
def test_what_could_never_be_sent_is_refused_at_once(broker, fields, error):
    values = {"timing": LATER} | fields
    with pytest.raises(error):
        schedule(broker, **values)
    assert listed(broker) == []


def test_a_queue_that_shows_a_stream_takes_none(broker):
    broker.declare("view", stream="s")
    with pytest.raises(InvalidArgument):
        schedule(broker, LATER, name="view")


def test_a_broker_that_has_failed_says_so(broker):
    schedule(broker, LATER)
    broker.core.fail(LogFailed("broken"))
    for ask in (lambda: schedule(broker, LATER), lambda: listed(broker)):
        with pytest.raises(BrokerFailed):
            ask()
