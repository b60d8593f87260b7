"""Transactions: all steps or none, checked with what the steps before them would change."""

from typing import Any

import pytest

from braidmq.broker.access import SYSTEM, Access, Rule, User
from braidmq.broker.errors import (
    BraidError,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    NotFound,
    Overloaded,
    PermissionDenied,
    QueueFull,
    Throttled,
    TooLarge,
)
from braidmq.broker.limits import Limits, SessionPolicy
from braidmq.broker.message import Delivery, Outgoing, Sent, unpack_headers
from braidmq.broker.publishing import Posted
from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled
from braidmq.broker.streams import Appending
from braidmq.broker.transactionverbs import (
    Ack,
    Append,
    DeadLetter,
    Nack,
    Publish,
    Schedule,
    Send,
    Step,
)
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.fanout_harness import bind, declare_stream, records
from tests.schedule_harness import listed, schedule
from tests.topic_client import Client


@pytest.fixture
def broker() -> Harness:
    return Harness()


def put(queue: str, body: bytes, **fields: Any) -> Send:
    return Send(queue, Outgoing(body, **fields))


def post(topic: str, body: bytes, **fields: Any) -> Publish:
    return Publish(topic, Posted(body, **fields))


def write(stream: str, *bodies: bytes) -> Append:
    return Append(stream, Appending(bodies, [b""] * len(bodies)))


def done(queue: str, *deliveries: Delivery) -> Ack:
    return Ack(queue, [each.receipt for each in deliveries])


def back(queue: str, *deliveries: Delivery, **fields: Any) -> Nack:
    return Nack(queue, [each.receipt for each in deliveries], **fields)


def later(name: str, body: bytes = b"x", kind: Any = "queue", **fields: Any) -> Schedule:
    fields.setdefault("timing", Timing(1_000))
    return Schedule(Scheduled(kind=kind, name=name, body=body, **fields))


def transact(broker: Any, *steps: Step) -> list[Any]:
    results: list[Any] = broker.core.transact(SYSTEM, steps, broker.clock.ms)[1]
    broker.settle()
    return results


def refused(broker: Any, step: int, error: type[BraidError], *steps: Step) -> str:
    """It is refused because of that step, and nothing has happened: what was said."""
    before = broker.log.next_lsn
    with pytest.raises(error) as caught:
        transact(broker, *steps)
    assert type(caught.value) is error
    assert caught.value.step == step
    assert str(caught.value).startswith(f"step {step + 1}, ")
    assert broker.log.next_lsn == before
    return str(caught.value)


# All of it ----------------------------------------------------------------------------------------


def test_all_kinds_of_steps_stand_in_one_frame_and_have_their_results():
    broker = DiskBroker()
    broker.declare("in")
    broker.declare("out")
    broker.declare("fifo", fifo=True)
    broker.declare("bound", delay_ms=50)
    declare_stream(broker, "kept")
    bind(broker, "t/#", "bound")
    bind(broker, "t/#", "kept", "stream")
    broker.send(b"one", b"two", name="in")
    one, two = broker.receive(2, "in")
    frames = broker.log.statistics().frames
    results = transact(
        broker,
        put("out", b"a"),
        put("fifo", b"b", group="g", dedup_id="1"),
        put("fifo", b"b", group="g", dedup_id="1"),
        post("t/x", b"c"),
        write("kept", b"d", b"e"),
        done("in", one),
        back("in", two, delay_ms=10),
        put("out", b"x" * 600_000),
        put("out", b"last"),
    )
    assert broker.log.statistics().frames == frames + 1
    first, second = results[1:3]
    assert isinstance(results[0], Sent)
    assert (second.id, second.duplicate, first.duplicate) == (first.id, True, False)
    assert results[3:7] == [2, [(0, 2), (0, 3)], None, None]
    for restarted in (False, True):
        if restarted:
            broker = broker.restarted()
        assert [body[:9] for body in broker.bodies("out")] == [b"a", b"x" * 9, b"last"]
        assert broker.bodies("fifo") == [b"b"]
        assert broker.bodies("in", "delayed") == broker.bodies("in") == [b"two"]
        assert broker.bodies("bound") == [b"c"]
        assert records(broker, "kept") == {0: [b"c", b"d", b"e"]}


def test_it_is_as_durable_as_its_most_durable_step(broker):
    levels = {"memory": Durability.MEMORY, "os": Durability.OS, "sync": Durability.SYNC}
    for name, durability in levels.items():
        broker.declare(name, durability=durability)

    def level(*names: str) -> Durability:
        steps = [put(name, b"x") for name in names]
        kept: Durability = broker.core.transact(SYSTEM, steps, broker.clock.ms)[0]
        return kept

    assert level() is level("memory") is Durability.MEMORY
    assert level("os", "memory") is Durability.OS
    assert level("memory", "sync", "os") is Durability.SYNC


def test_nothing_but_memory_is_left_of_what_was_not_kept():
    broker = DiskBroker()
    broker.declare("kept")
    broker.declare("memory", durability=Durability.MEMORY)
    broker.settle()
    broker.core.transact(SYSTEM, [put("kept", b"x"), put("memory", b"y")], broker.clock.ms)
    broker = broker.restarted()
    assert broker.bodies("kept") == []


def test_queues_in_memory_take_part(broker):
    broker.declare("memory", durability=Durability.MEMORY, messages_max=1)
    broker.declare("kept", messages_max=1)
    refused(broker, 2, QueueFull, put("memory", b"x"), put("kept", b"y"), put("kept", b"z"))
    assert broker.bodies("memory") == []
    transact(broker, put("memory", b"x"), put("kept", b"y"))
    assert broker.bodies("memory") == [b"x"]


def test_sessions_and_shares_are_settled(broker):
    client, member = Client(broker, "c"), Client(broker, "m")
    for each, filter in (client, "a"), (member, "$share/g/a"):
        each.connect()
        each.subscribe(filter)
    client.send("a", b"x")
    ((_, mine),), ((shared, theirs),) = client.held, member.held
    transact(broker, done("$session/c", mine), done(shared.queue_name, theirs))
    assert not client.queue.live and not shared.queue.live
    refused(broker, 0, LeaseLost, done("$session/c", mine))
    refused(broker, 0, NotFound, done("$session/nobody", mine))


def test_the_next_step_sees_what_the_one_before_did(broker):
    broker.declare("fifo", fifo=True)
    broker.send(b"1", name="fifo", group="g")
    (first,) = broker.receive(1, "fifo")
    transact(
        broker, done("fifo", first), put("fifo", b"2", group="g"), put("fifo", b"3", group="g")
    )
    assert broker.drain("fifo") == [b"2", b"3"]


def test_no_steps_are_done_at_once(broker):
    assert transact(broker) == []


# Nothing of it ------------------------------------------------------------------------------------


def test_what_cannot_be_done_refuses_all_and_says_which_step_it_is(broker):
    broker.declare("q")
    broker.declare("fifo", fifo=True)
    declare_stream(broker, "s", record_bytes_max=10)
    broker.declare("view", stream="s")
    broker.send(b"x")
    (held,) = broker.receive()
    fine: list[Step] = [put("q", b"y"), post("t", b"y"), write("s", b"y"), done("q", held)]
    large = b"z" * (Limits().body_bytes_max + 1)
    cases: list[tuple[type[BraidError], Step]] = [
        (NotFound, put("none", b"z")),
        (InvalidArgument, put("q", b"z", group="g")),
        (InvalidArgument, put("fifo", b"z", priority=9)),
        (InvalidArgument, put("view", b"z")),
        (TooLarge, put("q", large)),
        (TooLarge, post("t", large)),
        (InvalidArgument, post("t/#", b"z")),
        (PermissionDenied, post("$SYS/x", b"z")),
        (InvalidArgument, Publish("t", Posted(b"z"), 2)),
        (NotFound, write("none", b"z")),
        (TooLarge, write("s", b"z", b"z" * 11)),
        (LimitExceeded, write("s")),
        (LeaseLost, done("q", held)),
        (LeaseLost, back("q", held)),
        (LeaseLost, Ack("q", [(1, 1)])),
        (NotFound, Ack("none", [held.receipt])),
        (InvalidArgument, Nack("q", [], delay_ms=-1)),
    ]
    for error, step in cases:
        said = refused(broker, len(fine), error, *fine, step)
        assert str(getattr(step, "queue", getattr(step, "topic", "'"))) in said
    assert broker.bodies() == [b"x"]
    assert records(broker, "s") == {0: []}
    assert broker.ack(held) == [None]


def test_each_step_needs_its_right(broker):
    broker.declare("q")
    declare_stream(broker, "s")
    hashed = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
    rule = Rule("allow", ("queue:Send",), ("q",))
    who = Access([User("u", hashed, (rule,))]).principal("u")
    for step in (
        post("t", b"x"),
        write("s", b"x"),
        Ack("q", [(1, 1)]),
        put("other", b"x"),
        later("b"),
    ):
        with pytest.raises(PermissionDenied) as caught:
            broker.core.transact(who, [put("q", b"x"), step], broker.clock.ms)
        assert caught.value.step == 1
    assert broker.bodies() == []
    broker.core.transact(who, [put("q", b"x")], broker.clock.ms)


# Limits, with what the steps before add -----------------------------------------------------------


def test_a_transaction_has_so_many_steps():
    broker = Harness(limits=Limits(transaction_steps_max=3))
    broker.declare("q")
    declare_stream(broker, "s")
    assert len(transact(broker, *[put("q", b"x")] * 3)) == 3
    refused(broker, 3, LimitExceeded, *[put("q", b"x")] * 4)
    refused(broker, 1, LimitExceeded, put("q", b"x"), write("s", *[b"x"] * 3))
    refused(broker, 0, LimitExceeded, Ack("q", [(1, 1)] * 4))


def test_a_transaction_has_so_many_bytes():
    broker = Harness(limits=Limits(transaction_bytes_max=3_000))
    broker.declare("q")
    declare_stream(broker, "s")
    bind(broker, "t", "q")
    transact(broker, *[put("q", bytes(800))] * 3)
    refused(broker, 3, TooLarge, *[put("q", bytes(800))] * 4)
    refused(broker, 1, TooLarge, write("s", bytes(1_500)), write("s", bytes(1_500)))
    refused(broker, 1, TooLarge, post("t", bytes(1_500)), post("t", bytes(1_500)))


def test_it_may_be_more_than_may_wait_to_be_written():
    """What was let in is let in; the next one has to wait."""
    broker = DiskBroker(limits=Limits(pending_bytes_max=1_000))
    broker.declare("q")
    client = Client(broker)
    client.connect()
    client.subscribe("t")
    steps: list[Step] = [put("q", bytes(800)), put("q", bytes(800)), post("t", b"x"), put("q", b"")]
    assert len(broker.core.transact(SYSTEM, steps, broker.clock.ms)[1]) == 4
    with pytest.raises(Overloaded):
        broker.core.transact(SYSTEM, [put("q", b"x")], broker.clock.ms)
    broker.settle()
    assert len(broker.bodies()) == 3


def test_room_is_for_all_steps_together(broker):
    broker.declare("q", messages_max=2, bytes_max=100)
    refused(broker, 2, QueueFull, *[put("q", b"x")] * 3)
    refused(broker, 1, QueueFull, put("q", bytes(60)), put("q", bytes(41)))
    broker.send(b"a", b"b")
    first, second = broker.receive(2)
    refused(broker, 1, QueueFull, back("q", first), put("q", b"c"))
    transact(broker, done("q", first), put("q", b"c"))
    refused(broker, 2, QueueFull, done("q", second), put("q", b"d"), put("q", b"e"))


def test_what_makes_way_makes_way_in_the_same_frame():
    broker = DiskBroker()
    broker.declare("q", messages_max=2, overflow="dead-letter", dead_letter="dead")
    broker.declare("d", messages_max=2, overflow="drop-oldest")
    broker.send(b"a", b"b")
    frames = broker.log.statistics().frames
    transact(broker, *[put(name, body) for body in (b"c", b"d", b"e") for name in ("q", "d")])
    assert broker.log.statistics().frames == frames + 1
    assert (broker.bodies(), broker.bodies("dead")) == ([b"d", b"e"], [b"a", b"b", b"c"])
    assert broker.bodies("d") == [b"d", b"e"]


def test_nothing_that_is_held_makes_way(broker):
    broker.declare("q", messages_max=2, overflow="drop-oldest")
    broker.declare("bytes", bytes_max=10, overflow="drop-oldest")
    broker.send(b"a", b"b")
    broker.send(b"12345", b"67890", name="bytes")
    (held,) = broker.receive()
    transact(broker, put("q", b"c"), put("q", b"d"))
    assert broker.bodies() == [b"a", b"d"]
    (other,) = broker.receive()
    refused(broker, 0, QueueFull, put("q", b"e"))
    transact(broker, back("q", other), put("q", b"e"))
    assert broker.bodies() == [b"a", b"e"]
    (five,) = broker.receive(1, "bytes")
    refused(broker, 0, QueueFull, put("bytes", b"123456"))
    transact(broker, done("bytes", five), put("bytes", b"123456"), done("q", held))


def test_a_dead_letter_of_its_own_counts_where_it_goes(broker):
    broker.declare("dead", messages_max=2)
    broker.declare("q", dead_letter="dead", max_receives=1)
    broker.declare("late", dead_letter="dead", dead_letter_expired=True)
    broker.send(b"a", b"b")
    broker.send(b"c", name="late", ttl_ms=500)
    first, second = broker.receive(2)
    (late,) = broker.receive(1, "late")
    refused(broker, 2, QueueFull, back("q", first), back("q", second), put("dead", b"x"))
    broker.advance(1_000)
    refused(broker, 2, QueueFull, back("q", first), back("late", late), put("dead", b"x"))
    transact(broker, back("q", first), put("dead", b"x"))
    assert broker.bodies("dead") == [b"a", b"x"]


def test_what_was_promised_room_comes_in_over_the_limit(broker):
    """How many make way is an estimate: here those that do are smaller than the others."""
    broker.declare("dead", messages_max=50)
    small, large = [b"x"] * 1023, [bytes(1_000)] * 100
    broker.declare(bytes_max=101_023, overflow="dead-letter", dead_letter="dead")
    broker.send(*small, *large)
    steps = [put("q", bytes(1_000)), *[put("dead", b"y")] * 20]
    assert len(transact(broker, *steps)) == 21
    assert broker.info("dead").ready == 1_000 + 20


def test_ids_that_are_remembered_have_a_limit_too():
    broker = Harness(limits=Limits(dedup_ids_max=2))
    broker.declare("f", fifo=True, content_dedup=True, messages_max=2)
    refused(broker, 3, LimitExceeded, *[put("f", body) for body in (b"1", b"1", b"2", b"3")])
    one, same, *_ = transact(broker, *[put("f", body) for body in (b"1", b"1", b"2", b"2")])
    assert same == Sent(one.id, one.seq, True)
    assert broker.bodies("f") == [b"1", b"2"]


# Topics -------------------------------------------------------------------------------------------


def test_a_bound_queue_is_filled_by_what_is_published(broker):
    broker.declare("q", messages_max=2)
    broker.declare("dead", messages_max=1)
    broker.declare("f", fifo=True, messages_max=1)
    bind(broker, "t", "q", dead_letter="dead")
    bind(broker, "t", "f")
    refused(broker, 2, QueueFull, post("t", b"1"), post("t", b"2"), put("q", b"3"))
    refused(broker, 3, QueueFull, *[post("t", b"1")] * 3, put("dead", b"3"))
    refused(broker, 1, QueueFull, post("t", b"1"), put("f", b"3"))
    transact(broker, *[post("t", body) for body in (b"1", b"2", b"3")])
    assert (broker.bodies(), broker.bodies("dead")) == ([b"1", b"2"], [b"3"])
    assert broker.bodies("f") == [b"1"]


def test_a_bound_queue_knows_what_came_twice(broker):
    broker.declare("f", fifo=True, messages_max=2, content_dedup=True)
    bind(broker, "t", "f")
    transact(broker, post("t", b"1"), post("t", b"1"), put("f", b"1"), put("f", b"2"))
    assert broker.bodies("f") == [b"1", b"2"]


def test_what_fans_out_into_too_much_is_refused():
    broker = Harness(limits=Limits(fanout_bytes_max=1_000))
    for number in range(3):
        broker.declare(f"q{number}", delay_ms=number)
        bind(broker, "t", f"q{number}")
    refused(broker, 1, TooLarge, post("t", b"x"), post("t", bytes(400)))
    transact(broker, post("t", bytes(100)))
    broker.declare("other")
    bind(broker, "t", "other", policy='{"a": [1]}', scope="body")
    bodies = [b'{"a": %d, "b": "%s"}' % (number, b"x" * 120) for number in (1, 2)]
    refused(broker, 1, TooLarge, post("t", bodies[1]), post("t", bodies[0]))
    transact(broker, post("t", bodies[1]))


def test_a_session_may_refuse(broker):
    client = Client(broker)
    broker.core.clients._policy = SessionPolicy(overflow="refuse")
    client.connect()
    client.subscribe("t", 1)
    client.queue.settings = client.queue.settings.changed({"messages_max": 2})
    refused(broker, 2, QueueFull, *[post("t", b"x")] * 3)
    transact(broker, post("t", b"1"), post("t", b"2"))
    _, one = client.held[0]
    refused(broker, 0, QueueFull, post("t", b"3"))
    transact(broker, done("$session/c", one), post("t", b"3"))
    assert client.queue.live == 2


def test_what_is_retained_has_its_limits(broker):
    broker = Harness(limits=Limits(retained_messages_max=2, retained_message_bytes_max=100))
    refused(broker, 0, LimitExceeded, post("a", bytes(100), retain=True))
    steps = [post(topic, b"x", retain=True) for topic in "aab"]
    refused(broker, 3, LimitExceeded, *steps, post("c", b"x", retain=True))
    transact(broker, *steps, post("a", b"", retain=True), post("c", b"x", retain=True))
    assert sorted(broker.core.retained.tree.get(topic) is None for topic in "abc") == [0, 0, 1]
    broker = Harness(limits=Limits(retained_bytes_max=100))
    refused(broker, 1, LimitExceeded, *[post(topic, bytes(45), retain=True) for topic in "ab"])


def test_those_who_are_there_get_it_when_all_was_checked(broker):
    client = Client(broker)
    client.connect(0)
    client.subscribe("t", 0)
    refused(broker, 2, NotFound, post("t", b"x"), Publish("t", Posted(b"y"), 0), put("none", b""))
    assert client.live == []
    transact(broker, post("t", b"x"), Publish("t", Posted(b"y"), 0))
    assert [body for _, body, _ in client.live] == [b"x", b"y"]


# Streams ------------------------------------------------------------------------------------------


def test_rates_count_what_was_taken_and_nothing_else(broker):
    declare_stream(broker, "s", shard_records_in_per_second=3)
    refused(broker, 1, Throttled, write("s", b"1", b"2"), write("s", b"3", b"4"))
    transact(broker, write("s", b"1", b"2"), write("s", b"3"))
    refused(broker, 0, Throttled, write("s", b"4"))
    assert records(broker, "s") == {0: [b"1", b"2", b"3"]}


# Dead letters -------------------------------------------------------------------------------------


def dead(queue: str, *deliveries: Delivery) -> DeadLetter:
    return DeadLetter(queue, [each.receipt for each in deliveries], "bad")


def test_a_dead_letter_stands_in_the_frame_of_the_rest():
    broker = DiskBroker()
    broker.declare("q", dead_letter="dlq", max_receives=9)
    broker.declare("out")
    broker.send(b"1", b"2")
    one, two = broker.receive(2)
    frames = broker.log.statistics().frames
    assert transact(broker, dead("q", one), put("out", b"a"), done("q", two))[::2] == [None, None]
    assert broker.log.statistics().frames == frames + 1
    for restarted in (False, True):
        if restarted:
            broker = broker.restarted()
        assert (broker.bodies("q"), broker.bodies("dlq"), broker.bodies("out")) == (
            [],
            [b"1"],
            [b"a"],
        )


def test_a_dead_letter_is_refused_with_the_rest():
    broker = DiskBroker()
    broker.declare("q", dead_letter="dlq", max_receives=9)
    broker.declare("plain")
    broker.send(b"1", b"2")
    broker.send(b"3", name="plain")
    one, two = broker.receive(2)
    (three,) = broker.receive(1, "plain")
    assert "dead-letter 'plain'" in refused(
        broker, 1, InvalidArgument, done("q", one), dead("plain", three)
    )
    refused(broker, 1, LeaseLost, dead("q", one), dead("q", one))
    refused(broker, 0, InvalidArgument, DeadLetter("q", [two.receipt], "x" * 1_000))
    assert (broker.bodies("dlq"), broker.info("q").in_flight) == ([], 2)


def test_a_dead_letter_takes_room_that_later_steps_cannot_have():
    broker = DiskBroker()
    broker.declare("dlq", messages_max=1)
    broker.declare("q", dead_letter="dlq", max_receives=9)
    broker.send(b"1")
    (one,) = broker.receive(1)
    refused(broker, 1, QueueFull, dead("q", one), put("dlq", b"x"))


# Schedules ----------------------------------------------------------------------------------------


def test_schedules_stand_in_the_frame_of_the_rest_and_are_sent_later():
    broker = DiskBroker()
    broker.declare("q")
    declare_stream(broker, "s")
    frames = broker.log.statistics().frames
    steps = later("q", b"1", timing=Timing(1_000, 500, 1)), put("q", b"now")
    results = transact(broker, *steps, later("s", b"2", "stream"), later("t", b"3", "topic"))
    assert broker.log.statistics().frames == frames + 1
    assert [results[index].id for index in (0, 2, 3)] == [1, 2, 3]
    for restarted in (False, True):
        if restarted:
            broker = broker.restarted()
        assert broker.bodies("q") == [b"now"]
        assert [(each.id, each.kind, each.fired) for each in listed(broker)] == [
            (1, "queue", 0),
            (2, "stream", 0),
            (3, "topic", 0),
        ]
    broker.advance(1_000)
    assert broker.bodies("q") == [b"now", b"1"]
    assert records(broker, "s") == {0: [b"2"]}
    broker.advance(500)
    assert broker.bodies("q") == [b"now", b"1", b"1"]
    assert listed(broker) == []


def test_schedules_are_on_disk_whatever_the_other_steps_are(broker):
    broker.declare("memory", durability=Durability.MEMORY)
    steps = [put("memory", b"x"), later("memory")]
    assert broker.core.transact(SYSTEM, steps, broker.clock.ms)[0] is Durability.SYNC


def test_the_messages_of_schedules_say_which_they_are(broker):
    broker.declare("q")
    schedule(broker, Timing(1_000))
    transact(broker, *[later("q")] * 10)  # the numbers of which have one digit, or two
    broker.advance(1_000)
    headers = [unpack_headers(each.attributes) for each in broker.receive(11)]
    assert [each["schedule-id"] for each in headers] == [str(n) for n in range(1, 12)]


def test_a_schedule_is_refused_with_the_rest(broker):
    broker.declare("q")
    cases = [
        (NotFound, later("none")),
        (InvalidArgument, later("q", timing=Timing(-1))),
        (InvalidArgument, later("t/#", kind="topic")),
        (PermissionDenied, later("$SYS/t", kind="topic")),
    ]
    for error, step in cases:
        message = step.message
        said = refused(broker, 2, error, put("q", b"x"), later("q"), step)
        assert f"schedule to {message.kind} {message.name!r}" in said
    refused(broker, 1, NotFound, later("q"), put("none", b"x"))
    assert (broker.bodies("q"), listed(broker)) == ([], [])


def test_schedules_of_a_transaction_have_their_limits_together():
    broker = Harness(limits=Limits(schedules_max=3))
    broker.declare("q")
    schedule(broker, Timing(1_000))
    refused(broker, 2, LimitExceeded, *[later("q")] * 3)
    assert len(transact(broker, *[later("q")] * 2)) == 2
    broker = Harness(limits=Limits(schedules_bytes_max=4_000))
    broker.declare("q")
    refused(broker, 2, LimitExceeded, *[later("q", bytes(1_500))] * 3)
    broker = Harness(limits=Limits(transaction_steps_max=2, transaction_bytes_max=6_000))
    broker.declare("q")
    refused(broker, 2, LimitExceeded, *[later("q")] * 3)
    refused(broker, 1, TooLarge, *[later("q", bytes(2_500))] * 2)
