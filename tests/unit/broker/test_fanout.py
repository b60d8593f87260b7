"""What is bound to a topic gets what is published there: all that match, once, all or none."""

import json
from typing import Any

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.bindingverbs import Target
from braidmq.broker.errors import Overloaded, StorageFull, TooLarge
from braidmq.broker.filter_policy import decode_body
from braidmq.broker.limits import Limits
from braidmq.broker.message import unpack_headers
from braidmq.broker.publishing import Batch
from braidmq.storage.errors import DiskFull
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.fanout_harness import (
    bind,
    declare_stream,
    messages_written,
    pack,
    publish,
    queues,
    records,
    send,
)
from tests.topic_client import Client

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


@pytest.fixture
def broker():
    return DiskBroker()


# --- who gets it ---


def test_every_bound_queue_gets_it_and_it_is_stored_once(broker):
    queues(broker, "a", "b", "c", "other")
    for name in "abc":
        bind(broker, "orders/#", name)
    bind(broker, "bills", "other")
    written = messages_written(broker)
    assert publish(broker, "orders/new", b"x") == (Durability.SYNC, 3)
    assert written == [3]
    assert [broker.bodies(name) for name in ("a", "b", "c", "other")] == [[b"x"]] * 3 + [[]]
    (delivery,) = broker.receive(name="a")
    assert unpack_headers(delivery.attributes)["topic"] == "orders/new"


def test_nobody_bound_costs_nothing(broker):
    queues(broker, "a")
    bind(broker, "orders", "a", where="kind = 'x'")
    written = messages_written(broker)
    assert publish(broker, "bills", b"x") == (Durability.MEMORY, 0)
    assert publish(broker, "orders", b"x", kind="y") == (Durability.MEMORY, 0)
    assert written == []


def test_a_queue_gets_it_once_however_many_bindings_match(broker):
    queues(broker, "a")
    bind(broker, "t/#", "a")
    bind(broker, "t/+", "a", raw=False)
    bind(broker, "t/x", "a", where="kind = 'y'")
    bind(broker, "+/x", "a", policy='{"n": [1]}', scope="body")
    assert publish(broker, "t/x", b'{"n": 1}', kind="y")[1] == 1
    assert broker.bodies("a") == [b'{"n": 1}']


def test_of_several_bindings_a_raw_one_counts(broker):
    queues(broker, "a")
    bind(broker, "t/+", "a", raw=False)
    bind(broker, "+/x", "a", policy='{"n": [1]}', scope="body")
    publish(broker, "t/x", b'{"n": 1}')
    publish(broker, "t/x", b'{"n": 2}')
    one, two = broker.bodies("a")
    assert one == b'{"n": 1}' and json.loads(two)["Message"] == '{"n": 2}'


def test_conditions_on_headers_and_bodies(broker):
    queues(broker, "sql", "headers", "body", "all")
    bind(broker, "t", "sql", where="region = 'EU' AND size > 5")
    bind(broker, "t", "headers", policy='{"region": ["EU", "US"]}')
    bind(broker, "t", "body", policy='{"order": {"total": [{"numeric": [">", 10]}]}}', scope="body")
    bind(broker, "t", "all")
    cheap, dear = b'{"order": {"total": 1}}', b'{"order": {"total": 11}}'
    assert publish(broker, "t", cheap, dear, region="EU", size="7")[1] == 4
    assert publish(broker, "t", b"no json", region="US")[1] == 2
    assert publish(broker, "t", dear)[1] == 2
    assert broker.bodies("sql") == [cheap, dear]
    assert broker.bodies("headers") == [cheap, dear, b"no json"]
    assert broker.bodies("body") == [dear, dear]
    assert broker.bodies("all") == [cheap, dear, b"no json", dear]


def test_a_body_is_decoded_once_and_only_when_somebody_asks(broker, monkeypatch):
    decoded: list[bytes] = []

    def decode(body: bytes) -> Any:
        decoded.append(body)
        return decode_body(body)

    monkeypatch.setattr("braidmq.broker.fanout.decode_body", decode)
    queues(broker, *(f"q{number}" for number in range(5)))
    for number in range(5):
        bind(broker, "t", f"q{number}", policy=f'{{"n": [{number}]}}', scope="body")
        bind(broker, "u", f"q{number}", where=f"n = '{number}'")
    publish(broker, "u", b'{"n": 1}', n="1")
    assert decoded == []
    publish(broker, "t", b'{"n": 1}')
    assert decoded == [b'{"n": 1}']


def test_sessions_queues_and_what_is_retained_share_one_record(broker):
    client = Client(broker, "c")
    client.connect(expiry_ms=60_000)
    client.subscribe("t")
    queues(broker, "a", "b")
    bind(broker, "t", "a")
    bind(broker, "#", "b")
    written = messages_written(broker)
    assert client.send("t", b"x", 2, retain=True, inbound=7) == (Durability.SYNC, 3)
    assert written == [5]  # session, two queues, retained, packet identifier
    broker = broker.restarted()
    assert [broker.bodies(name) for name in "ab"] == [[b"x"]] * 2
    assert broker.core.sessions["c"].queue.inbound == {7}
    assert len(broker.core.retained) == 1


def test_a_live_subscriber_gets_it_too(broker):
    client = Client(broker, "c")
    client.connect(expiry_ms=0)
    client.subscribe("t")
    queues(broker, "a")
    bind(broker, "t", "a")
    for qos in (0, 1, 2):
        assert client.send("t", b"x", qos)[1] == 2
    assert [body for _, body, _ in client.live] == [b"x"] * 3
    assert broker.bodies("a") == [b"x"] * 3


# --- each in its way ---


def test_delays_and_times_to_live_of_targets(broker):
    queues(broker, "now", "also")
    broker.declare("later", delay_ms=5_000)
    broker.declare("short", ttl_ms=1_000)
    for name in ("now", "later", "short", "also"):
        bind(broker, "t", name)
    written = messages_written(broker)
    publish(broker, "t", b"x")
    assert sorted(written) == [1, 1, 2]
    assert broker.bodies("later", "ready") == [] and broker.bodies("short") == [b"x"]
    broker = broker.restarted()
    broker.advance(1_000)
    assert broker.bodies("short") == [] and broker.bodies("now") == [b"x"]
    broker.advance(4_000)
    assert broker.bodies("later", "ready") == [b"x"]


def test_its_own_expiry_goes_before_that_of_a_queue(broker):
    broker.declare("short", ttl_ms=1_000)
    queues(broker, "plain")
    bind(broker, "t", "short")
    bind(broker, "t", "plain")
    publish(broker, "t", b"x", expire_ms=broker.clock.ms + 3_000)
    broker.advance(2_000)
    assert broker.bodies("short") == [b"x"]
    broker.advance(1_000)
    assert broker.bodies("short") == broker.bodies("plain") == []


def test_retention_begins_with_what_comes_by_a_topic(broker):
    broker.declare("a", retention_ms=60_000)
    bind(broker, "t", "a")
    publish(broker, "t", b"x")
    broker.advance(61_000)
    assert broker.bodies("a") == []


def test_consumers_are_given_what_comes(broker):
    queues(broker, "plain")
    broker.declare("fifo", fifo=True)
    broker.declare("volatile", durability=Durability.MEMORY)
    sinks = []
    for name in ("plain", "fifo", "volatile"):
        bind(broker, "t", name)
        sinks.append(broker.consume(name=name)[1])
    publish(broker, "t", b"x", b"y")
    assert [[d.body for d in sink.take()] for sink in sinks] == [[b"x", b"y"], [b"x"], [b"x", b"y"]]


def test_queues_in_memory_take_part(broker):
    broker.declare("volatile", durability=Durability.MEMORY)
    queues(broker, "kept")
    bind(broker, "t", "volatile")
    assert publish(broker, "t", b"x") == (Durability.MEMORY, 1)
    bind(broker, "t", "kept")
    assert publish(broker, "t", b"y") == (Durability.SYNC, 2)
    assert broker.bodies("volatile") == [b"x", b"y"] and broker.bodies("kept") == [b"y"]


def test_an_envelope_for_those_who_want_one(broker):
    queues(broker, "raw", "wrapped", "too")
    bind(broker, "t/x", "raw")
    bind(broker, "t/x", "wrapped", raw=False)
    bind(broker, "t/x", "too", raw=False)
    written = messages_written(broker)
    publish(broker, "t/x", b"text", tenant="a")
    assert written == [1, 2]
    (one,), (two,) = broker.bodies("wrapped"), broker.bodies("too")
    fields = json.loads(one)
    assert one == two and fields["Message"] == "text" and fields["TopicArn"] == "t/x"
    assert fields["MessageAttributes"] == {"tenant": {"Type": "String", "Value": "a"}}
    (message,) = broker.browse("wrapped")
    assert unpack_headers(message.attributes) == {
        "topic": "t/x",
        "content-type": "application/json",
    }
    publish(broker, "t/x", b"text")
    names = {json.loads(body)["MessageId"] for body in broker.bodies("wrapped")}
    assert len(names) == 2


# --- FIFO ---


def test_fifo_queues_keep_groups_and_identities(broker):
    broker.declare("one", fifo=True)
    broker.declare("two", fifo=True, content_dedup=True, dedup_scope="group")
    queues(broker, "plain")
    for name in ("one", "two", "plain"):
        bind(broker, "pay", name)
    publish(broker, "pay", b"1", group_id="a", dedup_id="p1")
    publish(broker, "pay", b"1", group_id="a", dedup_id="p1")
    publish(broker, "pay", b"2", group_id="a")
    publish(broker, "pay", b"2", group_id="b")
    publish(broker, "pay", b"3", group_id="b", dedup_id="p3")
    assert broker.bodies("one") == [b"1", b"2", b"2", b"3"]
    assert broker.bodies("two") == [b"1", b"2", b"2", b"3"]  # 2 is once in each group
    assert broker.bodies("plain") == [b"1", b"1", b"2", b"2", b"3"]
    first = broker.consume(name="one")[1].take()
    assert [d.body for d in first] == [b"1", b"2"]  # a group has one message in flight
    broker = broker.restarted()
    publish(broker, "pay", b"1", group_id="a", dedup_id="p1")
    publish(broker, "pay", b"2", group_id="a")
    assert broker.bodies("one") == [b"1", b"2", b"2", b"3", b"2"]
    assert broker.bodies("two") == [b"1", b"2", b"2", b"3"]
    (info,) = broker.core.list_bindings(SYSTEM, "", Target("queue", "two"), 0, 10)
    assert info.duplicates == 2


def test_without_a_group_the_topic_is_the_group(broker):
    broker.declare("q", fifo=True)
    bind(broker, "truck/+", "q")
    for number in range(3):
        for truck in "ab":
            publish(broker, f"truck/{truck}", b"%s%d" % (truck.encode(), number))
    sink = broker.consume(name="q")[1]
    taken = sink.take()
    assert [d.body for d in taken] == [b"a0", b"b0"]
    broker.ack(*taken, name="q")
    assert [d.body for d in sink.take()] == [b"a1", b"b1"]


def test_a_standard_queue_shares_the_record_of_a_fifo_queue(broker):
    broker.declare("fifo", fifo=True)
    queues(broker, "plain")
    bind(broker, "t", "fifo")
    bind(broker, "t", "plain")
    written = messages_written(broker)
    publish(broker, "t", b"x", group_id="g", dedup_id="1")
    assert written == [2]
    publish(broker, "t", b"x", group_id="g", dedup_id="1")
    assert written == [2, 1]


def test_delays_of_a_fifo_queue_do_not_let_messages_overtake(broker):
    broker.declare("fifo", fifo=True, delay_ms=5_000)
    bind(broker, "t", "fifo")
    publish(broker, "t", b"1")
    broker.update("fifo", delay_ms=0)
    publish(broker, "t", b"2")
    assert broker.drain("fifo") == []
    broker.advance(5_000)
    assert broker.drain("fifo") == [b"1", b"2"]


# --- those that refuse ---


def test_a_full_queue_refuses_for_itself_alone(broker):
    broker.declare("full", messages_max=1)
    queues(broker, "plain")
    bind(broker, "t", "full")
    bind(broker, "t", "plain")
    for body in (b"1", b"2"):
        assert publish(broker, "t", body)[1] == 2
    assert broker.bodies("full") == [b"1"] and broker.bodies("plain") == [b"1", b"2"]
    (info,) = broker.core.list_bindings(SYSTEM, "", Target("queue", "full"), 0, 10)
    assert (info.dropped, info.dead_lettered) == (1, 0)
    assert broker.core.announcing.values()["bindings/messages/dropped"] == 1


def test_what_a_target_refuses_goes_to_the_dead_letter_queue_of_the_binding(broker):
    broker.declare("full", messages_max=1)
    queues(broker, "dead")
    bind(broker, "t", "full", dead_letter="dead")
    publish(broker, "t", b"1")
    assert publish(broker, "t", b"2", tenant="a")[0] is Durability.SYNC
    (message,) = broker.browse("dead")
    headers = unpack_headers(message.attributes)
    assert message.body == b"2" and headers["tenant"] == "a" and headers["topic"] == "t"
    assert headers["dead-letter-queue"] == "full"
    assert headers["dead-letter-reason"] == "queue-full"
    assert broker.core.list_bindings(SYSTEM, "t", None, 0, 9)[0].dead_lettered == 1
    broker = broker.restarted()
    assert broker.bodies("dead") == [b"2"]
    broker.update("dead", messages_max=1)
    publish(broker, "t", b"3")
    assert broker.core.list_bindings(SYSTEM, "t", None, 0, 9)[0].dropped == 1


def test_a_queue_that_makes_room_does_so_before_it_has_a_number(broker):
    queues(broker, "attic")
    broker.declare("small", messages_max=1, overflow="dead-letter", dead_letter="attic")
    bind(broker, "t", "small")
    bind(broker, "t", "attic", raw=False)
    publish(broker, "t", b"1")
    publish(broker, "t", b"2")
    assert broker.bodies("small") == [b"2"]
    bodies = broker.bodies("attic")
    assert len(bodies) == 3 and bodies.count(b"1") == 1
    assert broker.restarted().bodies("attic") == bodies


def test_a_fifo_queue_that_remembers_too_much_refuses():
    broker = Harness(limits=Limits(dedup_ids_max=1))
    broker.declare("fifo", fifo=True)
    bind(broker, "t", "fifo")
    publish(broker, "t", b"1", dedup_id="1")
    publish(broker, "t", b"2", dedup_id="2")
    assert broker.bodies("fifo") == [b"1"]
    assert broker.core.fanout.dropped == 1


def test_too_much_to_write_for_one_message_is_refused_as_a_whole():
    broker = Harness(limits=Limits(fanout_bytes_max=1_000))
    for number in range(3):
        broker.declare(f"q{number}", delay_ms=1_000 * (number + 1))
        bind(broker, "t", f"q{number}")
    publish(broker, "t", bytes(100))
    with pytest.raises(TooLarge, match="at most 1000"):
        publish(broker, "t", bytes(400))
    assert [len(broker.bodies(f"q{number}")) for number in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("error", [Overloaded, StorageFull])
def test_nothing_is_taken_while_the_broker_is_overloaded(broker, error, monkeypatch):
    queues(broker, "a")
    bind(broker, "t", "a")
    live = Client(broker, "c")
    live.connect(expiry_ms=0)
    live.subscribe("t")
    if error is Overloaded:
        broker.core.limits = Limits(pending_bytes_max=10)
        send(broker, "u", b"x", retain=True)
    else:
        monkeypatch.setattr(broker.log, "admit", lambda: (_ for _ in ()).throw(DiskFull("full")))
    with pytest.raises(error):
        send(broker, "t", b"1")
    # QoS 0 reaches who can take it, and is dropped for the others.
    assert send(broker, "t", b"0", qos=0) == (Durability.MEMORY, 2)
    assert [body for _, body, _ in live.live] == [b"0"]
    assert broker.core.topics.dropped == 1


# --- rights ---


def user(name: str, *allowed: tuple[str, str]) -> User:
    return User(name, HASH, tuple(Rule("allow", (a,), (n,)) for a, n in allowed))


BINDER = (("topic:Bind", "#"), ("topic:Subscribe", "#"), ("queue:Send", "*"))


def test_rights_follow_the_message(broker):
    queues(broker, "a", "b")
    access = broker.core.access
    access.replace([user("ann", *BINDER), user("bob", *BINDER)])
    for name, who in (("a", "ann"), ("b", "bob")):
        bind(broker, "t/#", name, who=access.principal(who))
    publish(broker, "t/1", b"1")
    access.replace([user("ann", *BINDER[1:]), user("bob", *BINDER[:2])])
    publish(broker, "t/1", b"2")  # bob may not send any more; nobody needs the right to bind now
    assert (broker.bodies("a"), broker.bodies("b")) == ([b"1", b"2"], [b"1"])
    allowed = [each.allowed for each in broker.core.list_bindings(SYSTEM, "", None, 0, 9)]
    assert allowed == [True, False]
    secret = Rule("deny", ("topic:Subscribe",), ("t/secret",))
    rules = (*user("x", *BINDER).rules, secret)
    access.replace([User("ann", HASH, rules)])
    publish(broker, "t/secret", b"3")
    publish(broker, "t/1", b"4")
    assert broker.bodies("a") == [b"1", b"2", b"4"]  # and bob is gone
    assert broker.bodies("b") == [b"1"]
    broker = broker.restarted()
    broker.core.access.replace([User("ann", HASH, rules)])
    publish(broker, "t/secret", b"5")
    publish(broker, "t/1", b"6")
    assert broker.bodies("a") == [b"1", b"2", b"4", b"6"]


def test_rights_of_the_dead_letter_queue_are_asked_when_it_is_used(broker):
    broker.declare("full", messages_max=1)
    queues(broker, "dead")
    access = broker.core.access
    access.replace([user("ann", *BINDER)])
    bind(broker, "t", "full", who=access.principal("ann"), dead_letter="dead")
    access.replace([user("ann", *BINDER[:2], ("queue:Send", "full"))])
    for body in (b"1", b"2"):
        publish(broker, "t", body)
    assert broker.bodies("full") == [b"1"] and broker.bodies("dead") == []


# --- runs ---


def test_a_run_for_plain_queues_is_one_buffer(broker):
    queues(broker, "a", "b", "odd")
    declare_stream(broker, "s", 2)
    for name in ("a", "b"):
        bind(broker, "t", name)
    bind(broker, "t", "odd", where="kind = 'x'")
    bind(broker, "t", "s", "stream")
    runs: list[int] = []
    append_run = broker.log.append_run

    def noting(packed: bytes, count: int, references: int) -> int:
        runs.append(count)
        lsn: int = append_run(packed, count, references)
        return lsn

    broker.log.append_run = noting

    def run(count: int, **headers: Any) -> None:
        bodies = [b"%03d" % number for number in range(count)]
        publication = Batch("t", bodies, pack("t", headers), 1, False, 0)
        broker.core.topics.publish(SYSTEM, publication, broker.clock.ms)
        broker.settle()

    run(100)
    run(50, kind="x")
    assert runs == [100, 50]
    bodies = [b"%03d" % number for number in (*range(100), *range(50))]
    broker = broker.restarted()
    assert broker.bodies("a") == broker.bodies("b") == bodies
    assert broker.bodies("odd") == bodies[100:]
    assert sorted(records(broker, "s").values()) == [[], bodies]


def test_a_run_with_many_targets_comes_in_parts(broker, monkeypatch):
    monkeypatch.setattr("braidmq.broker.topics.RUN_BYTES_MAX", 1_000)
    queues(broker, *"abcd")
    for name in "abcd":
        bind(broker, "t", name)
    bodies = [b"%03d" % number for number in range(30)]
    broker.settle()
    records_before = broker.log.statistics().records
    broker.core.topics.publish(
        SYSTEM, Batch("t", bodies, pack("t", {}), 1, False, 0), broker.clock.ms
    )
    broker.settle()
    assert broker.log.statistics().records == records_before + 30
    assert all(broker.bodies(name) == bodies for name in "abcd")
    monkeypatch.setattr("braidmq.broker.topics.RUN_BYTES_MAX", 300)  # not worth it
    broker.core.topics.publish(
        SYSTEM, Batch("t", bodies, pack("t", {}), 1, False, 0), broker.clock.ms
    )
    broker.settle()
    broker = broker.restarted()
    assert all(broker.bodies(name) == bodies + bodies for name in "abcd")


def test_more_queues_than_a_record_has_room_for(broker, monkeypatch):
    for name in ("letters", "topics", "fanout"):
        monkeypatch.setattr(f"braidmq.broker.{name}.TARGETS_MAX", 2)
    queues(broker, *"abcde")
    for name in "abcde":
        bind(broker, "t", name)
    written = messages_written(broker)
    publish(broker, "t", b"x", retain=True)
    assert written == [3, 2, 1]
    broker = broker.restarted()
    assert all(broker.bodies(name) == [b"x"] for name in "abcde")
