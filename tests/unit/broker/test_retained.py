"""Retained messages: the last one of each topic, found by filters, over everything that happens."""

import random
from functools import partial
from typing import Any

import pytest

from braidmq.broker.errors import LimitExceeded
from braidmq.broker.limits import Limits
from braidmq.broker.retained import RetainedSearch, RetainedStore
from braidmq.broker.topictree import STEP_PLACES
from braidmq.storage.errors import Corrupt, LogFailed
from braidmq.storage.memory import MemoryLog
from braidmq.storage.record import encode_plain_message
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.topic_client import Client, publication_of, search_all


def connected(broker: Harness, name: str = "c") -> Client:
    client = Client(broker, name)
    client.connect()
    return client


def live_bytes(broker: Harness) -> int:
    return broker.log.statistics().bytes_live_estimate


@pytest.fixture
def broker():
    return DiskBroker()


# --- what is retained ---


def test_last_message_of_a_topic_is_retained_until_it_is_cleared(broker):
    client = connected(broker)
    client.send("a/b", b"1", retain=True)
    client.send("a/b", b"2", retain=True)
    client.send("a/c", b"3", 0, retain=True)
    client.send("a/c", b"not retained")
    assert client.retained("a/#") == {"a/b": b"2", "a/c": b"3"}
    client.send("a/b", b"", retain=True)
    client.send("x", b"", retain=True)
    assert client.retained("#") == {"a/c": b"3"} and client.retained("a/b") == {}
    assert len(broker.core.retained) == 1


def test_all_survives_restart_checkpoint_and_compaction(broker):
    """Many topics, few of which stay: numbers are used again, and the log is compacted."""
    rng = random.Random(3)
    client = connected(broker)
    keeper = connected(broker, "keeper")
    keeper.subscribe("t/+")
    keeper.disconnect()
    expected: dict[str, bytes] = {}
    for turn in range(600):
        topic = f"t/{rng.randrange(40)}"
        body = b"%d" % turn + b"." * rng.choice([0, 200])
        if rng.random() < 0.3:
            client.send(topic, b"", retain=True)
            expected.pop(topic, None)
        else:
            client.send(topic, body, retain=True)
            expected[topic] = body
        if turn == 300:
            keeper.connect()
            keeper.ack()
            keeper.disconnect()
        if turn % 90 == 80:
            broker.checkpoint(partial(client.send, "between", b"x", retain=True))
            expected["between"] = b"x"
        if turn % 50 == 40:
            broker.compact()
        if turn % 140 == 130:
            broker = broker.restarted()
            client, keeper = connected(broker), Client(broker, "keeper")
            assert client.retained("#") == expected
    assert broker.log.statistics().compacted_bytes > 0
    assert client.retained("#") == expected and len(broker.core.retained) == len(expected)
    store = broker.core.retained
    assert store.bytes == sum(store.size(store.tree.get(topic)) for topic in expected)


def test_nothing_is_left_when_all_is_gone(broker):
    client, keeper = connected(broker), connected(broker, "keeper")
    keeper.subscribe("#")
    keeper.subscribe("$share/g/#")
    keeper.disconnect()
    for number in range(50):
        client.send(f"t/{number}", b"x" * 100, retain=True)
        client.send("t/0", b"%d" % number, retain=True)
    assert live_bytes(broker) > 50 * 100
    broker = broker.restarted()
    client, keeper = connected(broker), connected(broker, "keeper")
    assert len(keeper.held) == 200
    keeper.ack()
    assert 0 < live_bytes(broker) < 50 * 250
    for topic in list(client.retained("#")):
        client.send(topic, b"", retain=True)
    keeper.ack()
    assert live_bytes(broker) == 0 and broker.core.retained.bytes == 0


def test_message_in_queues_and_retained_moves_with_all_its_places():
    broker = DiskBroker(segment_bytes=2_048)
    names = [f"s{n}" for n in range(3)]
    for name in names:
        keeper = connected(broker, name)
        keeper.subscribe("keep/#")
        keeper.disconnect()
    client = connected(broker)
    for number in range(40):
        client.send(f"keep/{number}", b"%d" % number, retain=True)
        for _ in range(4):
            client.send("away", b"x" * 200, retain=True)
    first = Client(broker, names[0])
    first.connect()
    first.ack(20)
    first.disconnect()
    compacted = sum(broker.compact() for _ in range(10))
    assert compacted
    for _ in range(2):
        broker.checkpoint()
        broker = broker.restarted()
        client = connected(broker)
        everything = {f"keep/{number}": b"%d" % number for number in range(40)}
        assert client.retained("keep/+") == everything
        for name in names:
            keeper = connected(broker, name)
            skipped = 20 if name == names[0] else 0
            assert keeper.bodies() == [b"%d" % number for number in range(skipped, 40)]
            keeper.disconnect()


def test_retained_messages_end_in_time(broker):
    client = connected(broker)
    now = broker.clock.ms
    client.send("a", b"a", retain=True, expire_ms=now + 1_000)
    client.send("b", b"b", retain=True, expire_ms=now + 5_000)
    client.send("b", b"again", retain=True, expire_ms=now + 1_000)
    client.send("c", b"c", retain=True, expire_ms=now + 1_000)
    client.send("c", b"stays", retain=True)
    broker.advance(999)
    assert set(client.retained("#")) == {"a", "b", "c"}
    broker.clock.ms += 1  # due, and not dropped yet
    assert set(client.retained("+")) == {"c"}
    broker.advance(500)
    assert len(broker.core.retained) == 1
    broker = broker.restarted()
    broker.advance(10_000)
    assert connected(broker).retained("#") == {"c": b"stays"}


def test_time_to_live_holds_over_a_restart(broker):
    client = connected(broker)
    client.send("a", b"a", retain=True, expire_ms=broker.clock.ms + 1_000)
    broker.checkpoint()
    broker = broker.restarted()
    broker.advance(1_500)
    assert len(broker.core.retained) == 0


def test_time_limit_on_retained_messages_is_not_one_on_queued_ones():
    broker = DiskBroker(limits=Limits(retained_expiry_ms=1_000))
    keeper = connected(broker, "keeper")
    keeper.subscribe("t")
    keeper.disconnect()
    client = connected(broker)
    client.send("t", b"x", retain=True)
    client.send("u", b"x", retain=True, expire_ms=broker.clock.ms + 300)
    broker = broker.restarted()
    client = connected(broker)
    broker.advance(600)
    assert set(client.retained("#")) == {"t"}
    broker.advance(1_000)
    assert client.retained("#") == {} and len(broker.core.retained) == 0
    assert connected(broker, "keeper").bodies() == [b"x"]


def test_deadlines_of_replaced_messages_do_not_pile_up(broker):
    client = connected(broker)
    now = broker.clock.ms
    for turn in range(3_000):
        message = publication_of("t", b"x", 0, True, now + 10_000 + turn)
        broker.core.topics.publish(client.who, message, now)
    assert len(broker.core.retained.expiring) < 1_100
    broker.advance(60_000)
    assert len(broker.core.retained) == 0 and len(broker.core.retained.expiring) == 0


# --- limits ---


def test_limits_on_retained_messages():
    """A message counts with its headers: here they have 23 bytes."""
    limits = Limits(retained_messages_max=3, retained_bytes_max=400, retained_message_bytes_max=223)
    broker = Harness(limits=limits)
    client = connected(broker)
    for topic in "abc":
        client.send(topic, b"x", retain=True)
    assert broker.core.retained.bytes == 3 * 24
    with pytest.raises(LimitExceeded, match="3 messages"):
        client.send("d", b"x", retain=True)
    client.send("a", b"y", retain=True)  # in the place of another
    client.send("a", b"", retain=True)
    client.send("d", b"x", retain=True)
    with pytest.raises(LimitExceeded, match="at most 223 bytes"):
        client.send("d", bytes(201), retain=True)
    client.send("d", bytes(200), retain=True)
    with pytest.raises(LimitExceeded, match="bytes of messages"):
        client.send("c", bytes(151), retain=True)
    sizes = {topic: len(body) for topic, body in client.retained("#").items()}
    assert sizes == {"b": 1, "c": 1, "d": 200}
    client.send("d", b"x", retain=True)
    client.send("c", bytes(151), retain=True)


# --- searches ---


def test_search_goes_on_in_small_steps_however_little_it_finds():
    """The tree has many places that a filter may match, and does not."""
    store = RetainedStore(MemoryLog())
    for number in range(50_000):
        store.put(number, f"site/{number}/temp", 1, 10, 0)
    search = RetainedSearch(store, "site/+/none", lambda topic: True, lambda: None)
    looks = 0
    while not search.done:
        assert search.take(100, 0) == [] and not search.loading
        looks += 1
    assert looks >= 50_000 // STEP_PLACES


def test_search_of_many_is_taken_as_slowly_as_one_likes(broker):
    client = connected(broker)
    for number in range(700):
        client.send(f"t/{number}", b"%d" % number, 0, retain=True)
    for most in (1, 100, 5_000):
        assert len(client.retained("t/+", most)) == 700


def test_search_shows_what_is_kept_only(broker):
    client = connected(broker)
    broker.auto_commit = False
    client.send("a", b"x", 0, retain=True)
    woken = []
    search = broker.core.topics.search_retained(client.session, "#", lambda: woken.append(1))
    if broker.log.durable_lsn <= broker.core.retained.lsn(0):
        assert search.take(10, broker.clock.ms) == [] and search.loading
    broker.auto_commit = True
    broker.settle()
    assert search_all(broker, search) == {"a": b"x"}


def test_search_leaves_out_what_the_user_may_not_have(broker):
    client = connected(broker)
    client.send("yes/a", b"1", retain=True)
    client.send("no/a", b"2", retain=True)
    search = RetainedSearch(
        broker.core.retained, "+/a", lambda topic: topic.startswith("yes"), lambda: None
    )
    assert search_all(broker, search) == {"yes/a": b"1"}


class SlowLog(MemoryLog):
    """Holds no message in memory: each is fetched, when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.fetches: list[Any] = []

    def get(self, lsn):
        return None

    def fetch(self, lsn, callback, argument):
        self.fetches.append((lsn, callback, argument))


@pytest.fixture
def slow():
    return SlowLog()


def put(store: RetainedStore, number: int, topic: str, body: bytes) -> int:
    lsn = store.log.append(encode_plain_message(1, 1, 0, b"", body), 1)
    store.put(number, topic, lsn, len(body), 0)
    log: Any = store.log
    log._durable_lsn = log.next_lsn
    return lsn


def test_search_reads_what_was_moved_while_it_was_read(slow):
    store = RetainedStore(slow)
    old = put(store, 0, "a", b"x")
    woken = []
    search = RetainedSearch(store, "+", lambda topic: True, lambda: woken.append(1))
    assert search.take(10, 0) == [] and search.loading
    new = put(store, 1, "b", b"x")
    store.remove(1)
    assert store.move(0, old, new)
    lsn, callback, argument = slow.fetches.pop()
    callback(argument, None, Corrupt(lsn, "its segment is gone"))
    assert woken and search.take(10, 0) == []
    lsn, callback, argument = slow.fetches.pop()
    assert lsn == new
    callback(argument, MemoryLog.get(slow, lsn), None)
    ((topic, at, message),) = search.take(10, 0)
    assert (topic, at, message.body) == ("a", new, b"x")
    assert search.take(10, 0) == [] and search.done


def test_search_leaves_out_what_cannot_be_read(slow):
    store = RetainedStore(slow)
    put(store, 0, "a", b"x")
    put(store, 1, "b", b"y")
    search = RetainedSearch(store, "+", lambda topic: True, lambda: None)
    found = []
    while not search.done:
        found += search.take(10, 0)
        if slow.fetches:
            lsn, callback, argument = slow.fetches.pop()
            broken = lsn == store.lsn(0)
            error = Corrupt(lsn, "damaged") if broken else None
            callback(argument, None if broken else MemoryLog.get(slow, lsn), error)
    assert [topic for topic, *_ in found] == ["b"]


def test_search_ends_with_the_log():
    store = RetainedStore(MemoryLog())
    put(store, 0, "a", b"x")
    log: Any = store.log
    log._durable_lsn = 1
    waits: list[Any] = []
    log.wait = lambda level, callback, argument: waits.append((callback, argument))
    search = RetainedSearch(store, "+", lambda topic: True, lambda: None)
    assert search.take(10, 0) == [] and search.loading
    callback, argument = waits.pop()
    callback(argument, LogFailed("no"))
    assert search.take(10, 0) == [] and search.done and not waits


def test_a_number_that_came_to_nothing_is_used_for_the_next():
    store = RetainedStore(MemoryLog())
    limits = Limits()
    for number, topic in enumerate("abc"):
        assert store.number_for(topic, 1, limits) == number
        assert store.number_for(topic + "'", 1, limits) == number  # nothing became of the first
        store.put(number, topic, 10 + number, 1, 0)
    store.remove(1)
    for _ in range(100):
        assert store.number_for("d", 1, limits) == 1
    store.put(1, "d", 20, 1, 0)
    assert store.number_for("e", 1, limits) == 3
    for _ in range(100):  # and it is free once, however often it comes and goes
        store.remove(1)
        assert store.number_for("d", 1, limits) == 1
        store.put(1, "d", 20, 1, 0)
    assert not store._free


def test_a_publish_that_fails_takes_no_number(broker):
    client = connected(broker)
    client.send("a", b"1", retain=True)
    client.send("b", b"1", retain=True)
    client.send("a", b"", retain=True)
    free = list(broker.core.retained._free)
    assert free

    def fails(*arguments):
        raise LogFailed("a disk")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(broker.log, "append", fails)
        with pytest.raises(LogFailed):
            client.send("c", b"2", retain=True)
    assert broker.core.retained._free == free


# --- replaying ---


def test_a_topic_has_one_number_whatever_is_replayed():
    """Records are absolute; a checkpoint may hold what came later than what is replayed."""
    store = RetainedStore(MemoryLog())
    store.put(5, "a", 10, 1, 0)
    store.put(300, "a", 20, 2, 0)  # it was cleared and came again
    assert store.tree.get("a") == 300 and store.lsn(5) == 0 and store.bytes == 2
    store.put(5, "a", 10, 1, 0)  # replayed from before
    assert store.tree.get("a") == 5 and store.lsn(300) == 0 and store.bytes == 1
    store.put(5, "b", 30, 3, 0)
    assert store.tree.get("a") is None and store.tree.get("b") == 5
    store.put(300, "a", 20, 2, 0)
    assert store.remove(7_000) == 0 == store.remove(4)
    assert sorted(store.finish_replay()) == [20, 30]
    limits = Limits()
    numbers = []
    for at in range(299):
        numbers.append(store.number_for(f"new{at}", 1, limits))
        store.put(numbers[-1], f"new{at}", 40 + at, 1, 0)
    assert len(set(numbers)) == 299 and not {5, 300} & set(numbers)
    assert store.number_for("a", 1, limits) == 300
    assert store.move(300, 20, 21) and not store.move(300, 20, 22) and not store.move(4, 1, 2)


def test_sections_bring_everything_back():
    rng = random.Random(1)
    store, other = RetainedStore(MemoryLog()), RetainedStore(MemoryLog())
    for number in range(1_000):
        expire_ms = rng.choice([0, 10**12 + number])
        store.put(number, f"t/{number}", number + 1, number % 7, expire_ms)
    for number in range(0, 1_000, 3):
        store.remove(number)
    for kind, content in store.snapshot():
        assert kind == 6
        other.load(content)
    assert sorted(other.finish_replay()) == [n + 1 for n in range(1_000) if n % 3]
    assert other.bytes == store.bytes and len(other) == len(store)
    assert [other.expire_ms(n) for n in range(999)] == [store.expire_ms(n) for n in range(999)]
    references = [r.seq for found in other.references(0, 500) for r in found]
    assert references == [n for n in range(499) if n % 3]


def test_fifty_thousand_topics_are_found_again(broker):
    broker = DiskBroker(segment_bytes=1 << 20)
    client = connected(broker)
    topics = broker.core.topics
    for number in range(50_000):
        topic = f"site/{number // 10}/{number % 10}/temp"
        topics.publish(client.who, publication_of(topic, b"21", 0, True), broker.clock.ms)
    broker.settle()
    broker.checkpoint()
    broker = broker.restarted()
    store = broker.core.retained
    assert len(store) == 50_000
    assert len(connected(broker).retained("site/17/+/temp", 64)) == 10


# --- given to a durable session ---


def give(client: Client, topic: str) -> None:
    """Put a retained message into the session's queue, as MQTT does for QoS 1 and 2."""
    core = client.broker.core
    number = core.retained.tree.get(topic)
    core.link(core.retained.lsn(number), client.queue, b"", core.retained.size(number))
    client.broker.settle()


def test_retained_message_in_a_queue_stays_there_when_it_is_replaced():
    broker = DiskBroker(segment_bytes=2_048)
    client = connected(broker)
    away = connected(broker, "away")
    away.disconnect()
    for number in range(12):
        client.send(f"r/{number}", b"%d" % number * 90, retain=True)
        give(client, f"r/{number}")
        give(away, f"r/{number}")
    bodies = client.bodies()
    assert client.queue.bytes == away.queue.bytes > 12 * 90
    for number in range(0, 12, 2):
        client.send(f"r/{number}", b"", retain=True)
        client.send(f"r/{number + 1}", b"new" * 90, retain=True)
    for _ in range(3):
        while broker.compact():
            pass
        broker.checkpoint()
        broker = broker.restarted()
        client, away = connected(broker), Client(broker, "away")
        assert client.bodies() == bodies and away.queue.live == 12
    assert client.ack() == bodies
    away.connect()
    assert away.ack() == bodies
    assert client.queue.bytes == away.queue.bytes == 0
    for number in range(1, 12, 2):
        client.send(f"r/{number}", b"", retain=True)
    assert live_bytes(broker) == 0


def test_search_ends_early_at_a_number_of_bytes(broker):
    client = connected(broker)
    for number in range(6):
        client.send(f"t/{number}", bytes(100), retain=True)
    search = broker.core.topics.search_retained(client.session, "#", lambda: None)
    assert len(search.take(10, broker.clock.ms, 250)) == 3
    assert len(search.take(10, broker.clock.ms, 1)) == 1
    assert len(search_all(broker, search)) == 2
