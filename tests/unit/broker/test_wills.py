"""Wills: published once, never early, for whoever goes without a farewell; also over a crash."""

import random

import pytest
from msgspec import structs

from braidmq.broker import wills
from braidmq.broker.access import Rule, User
from braidmq.storage.errors import DiskFull
from braidmq.storage.record import ACK, DEFINITION, MESSAGE
from tests.broker_disk import DiskBroker
from tests.fanout_harness import bind
from tests.topic_client import Client, will_of

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture
def broker():
    return DiskBroker()


@pytest.fixture
def heirs(broker):
    client, heir = Client(broker, "dying"), Client(broker, "heir")
    heir.connect(expiry_ms=0)
    heir.subscribe("will")
    return client, heir


@pytest.fixture
def keeper(broker):
    """A client with a durable session, which is away."""
    client = Client(broker, "keeper")
    client.connect(expiry_ms=DAY_MS)
    client.subscribe("will", 2)
    client.disconnect()
    return client


def kept(broker) -> list[bytes]:
    """What waits for the keeper; it is away again then."""
    client = Client(broker, "keeper")
    assert client.connect(expiry_ms=DAY_MS)
    bodies = client.bodies()
    client.disconnect()
    return bodies


def written(broker, monkeypatch) -> list[int]:
    """The types of the records that are appended from now on."""
    kinds: list[int] = []
    append = broker.log.append

    def noting(parts, references=0, **options):
        kinds.append(parts[0][8])
        return append(parts, references, **options)

    monkeypatch.setattr(broker.log, "append", noting)
    return kinds


# --- while the broker is there ---


def test_will_is_published_at_once_or_after_its_delay_never_before(broker, heirs):
    client, heir = heirs
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"1"))
    client.disconnect()
    assert heir.take_live() == [b"1"]
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"2", 5_000))
    client.disconnect()
    broker.advance(4_999)
    assert heir.take_live() == []
    broker.advance(1)
    assert heir.take_live() == [b"2"]
    broker.advance(HOUR_MS)
    assert heir.take_live() == [] and not broker.core.will_store.by_number


@pytest.mark.parametrize("expiry_ms", [0, HOUR_MS])
def test_farewell_takes_the_will_back(broker, heirs, expiry_ms):
    client, heir = heirs
    client.connect(expiry_ms, will=will_of("will", b"x"))
    assert len(broker.core.will_store.by_number) == 1
    client.disconnect(said_goodbye=True)
    assert not broker.core.will_store.by_number
    broker = broker.restarted()
    broker.advance(2 * HOUR_MS)
    assert heir.take_live() == [] and broker.core.topics.published == 0


def test_will_is_not_published_when_the_client_comes_back_in_time(broker, heirs):
    client, heir = heirs
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"x", 5_000))
    client.disconnect()
    broker.advance(4_000)
    client.connect(expiry_ms=HOUR_MS)
    broker.advance(10_000)
    client.disconnect()
    broker.advance(HOUR_MS)
    assert heir.take_live() == []


def test_will_is_published_when_the_session_ends_before_its_delay(broker, heirs):
    client, heir = heirs
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"1", 2 * HOUR_MS))
    client.disconnect()
    broker.advance(HOUR_MS - 1)
    assert heir.take_live() == []
    broker.advance(1)
    assert heir.take_live() == [b"1"] and not client.present
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"2", 5_000))
    client.disconnect()
    client.connect(clean=True)
    assert heir.take_live() == [b"2"]
    client.connect(expiry_ms=0, clean=True, will=will_of("will", b"3", 5_000))
    client.disconnect()
    assert heir.take_live() == [b"3"]


def test_will_lives_from_when_it_is_published(broker, keeper):
    client = Client(broker, "dying")
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"x", 5_000, lifetime_ms=3_000))
    client.disconnect()
    broker.advance(5_000 + 2_999)
    assert keeper.queue.live == 1
    broker.advance(1)
    assert keeper.queue.live == 0 and keeper.queue.counters.expired == 1


def test_will_needs_the_right_to_publish_when_its_time_comes(broker, heirs):
    _, heir = heirs
    rules = (Rule("allow", ("session:*", "topic:*"), ("#",)),)
    access = broker.core.access
    access.replace([User("a", HASH, rules)])
    client = Client(broker, "mortal", access.principal("a", "mortal"))
    client.connect(will=will_of("will", b"x", 5_000))
    client.disconnect()
    access.replace([User("a", HASH, rules[:0])])
    broker.advance(5_000)
    assert heir.take_live() == [] and broker.core.topics.dropped == 1
    assert not broker.core.will_store.by_number


def test_clients_without_will_cost_nothing(broker, monkeypatch):
    client = Client(broker, "c")
    kinds = written(broker, monkeypatch)
    client.connect(expiry_ms=0)
    client.disconnect()
    assert kinds == []
    client.connect(expiry_ms=0, will=will_of("will", b"x"))
    client.disconnect(said_goodbye=True)
    assert kinds == [DEFINITION, ACK]


# --- when the broker is killed ---


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("expiry_ms", [0, HOUR_MS])
@pytest.mark.parametrize("qos", [1, 2])
def test_will_of_who_was_connected_at_a_kill_is_published_once(
    broker, keeper, expiry_ms, qos, checkpoint
):
    client = Client(broker, "dying")
    client.connect(expiry_ms, will=will_of("will", b"x", 0, qos, True))
    if checkpoint:
        broker.checkpoint()
    broker = broker.restarted(random.Random(1))
    broker.settle()
    assert ("dying" in broker.core.sessions) == bool(expiry_ms)
    assert broker.core.clients.expired == 0
    assert kept(broker) == [b"x"] and len(broker.core.retained) == 1
    broker = broker.restarted(random.Random(2))
    broker.advance(HOUR_MS // 2)
    assert kept(broker) == [b"x"] and broker.core.topics.published == 0


def test_will_of_who_was_connected_at_a_kill_waits_from_the_first_start_on(broker, keeper):
    """Its time goes on over one restart after the other, as that of the session does."""
    client = Client(broker, "dying")
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"x", 5_000))
    broker.advance(HOUR_MS)
    for _ in range(2):
        broker = broker.restarted()
        broker.advance(2_499)
        assert kept(broker) == []
    broker.advance(1)
    assert kept(broker) == []
    broker.advance(1)
    assert kept(broker) == [b"x"]


def test_who_comes_back_in_time_after_a_kill_has_another_will_from_then_on(broker, keeper):
    client = Client(broker, "dying")
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"1", 5_000))
    broker = broker.restarted()
    broker.advance(4_999)
    client = Client(broker, "dying")
    assert client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"2", 5_000))
    broker.advance(10_000)
    assert kept(broker) == [] and len(broker.core.will_store.by_number) == 1
    broker = broker.restarted()
    broker.advance(5_000)
    assert kept(broker) == [b"2"]


def test_delay_of_a_session_that_ends_sooner_or_has_ended_does_not_count(broker, keeper):
    short, none = Client(broker, "short"), Client(broker, "none")
    short.connect(expiry_ms=1_000, will=will_of("will", b"short", 5_000))
    none.connect(expiry_ms=0, will=will_of("will", b"none", 5_000))
    broker = broker.restarted()
    broker.settle()
    assert kept(broker) == [b"none"]
    broker.advance(1_000)
    assert kept(broker) == [b"none", b"short"]


def test_who_is_faster_than_the_first_tick_finds_no_session_but_its_will_is_due(broker, keeper):
    client = Client(broker, "dying")
    client.connect(expiry_ms=0, will=will_of("will", b"x"))
    broker = broker.restarted()
    client = Client(broker, "dying")
    assert client.connect(expiry_ms=HOUR_MS) is False
    assert kept(broker) == [b"x"]


def test_delayed_will_is_not_forgotten_by_a_restart(broker, heirs):
    """It is part of the session's state, as MQTT 5 (4.1) has it."""
    client, _ = heirs
    will = will_of("will", b"x", 5_000, 2, True, lifetime_ms=60_000)
    client.connect(expiry_ms=HOUR_MS, will=will)
    client.disconnect()
    broker.checkpoint()
    for _ in range(2):
        broker = broker.restarted()
        heir = Client(broker, "heir")
        heir.connect(expiry_ms=0)
        heir.subscribe("will")
        broker.advance(2_499)
        assert heir.take_live() == []
    broker.advance(2)
    assert heir.take_live() == [b"x"] and heir.retained("#") == {"will": b"x"}
    assert broker.core.retained.expire_ms(0) == broker.clock.ms + 60_000
    broker = broker.restarted()
    broker.advance(10_000)
    assert broker.core.topics.published == 0  # once is enough
    client = Client(broker, "dying")
    assert client.connect(expiry_ms=HOUR_MS, will=will)
    client.disconnect()
    client.connect(expiry_ms=HOUR_MS)
    broker = broker.restarted()
    broker.advance(HOUR_MS)
    assert broker.core.topics.published == 0  # it came back in time


def test_will_of_a_user_who_is_gone_at_the_next_start_is_not_published(broker, keeper):
    access = broker.core.access
    access.replace([User("a", HASH, (Rule("allow", ("session:*", "topic:*"), ("#",)),))])
    client = Client(broker, "mortal", access.principal("a", "mortal"))
    client.connect(expiry_ms=0, will=will_of("will", b"x"))
    broker = broker.restarted()
    broker.settle()
    assert broker.core.topics.published == 0 and not broker.core.will_store.by_number
    assert "mortal" not in broker.core.sessions


# --- published, or still to be ---


def test_what_keeps_the_message_takes_the_will_out_in_the_same_record(broker, keeper, monkeypatch):
    client = Client(broker, "dying")
    client.connect(expiry_ms=0, will=will_of("will", b"x"))
    kinds = written(broker, monkeypatch)
    client.disconnect()
    assert kinds == [MESSAGE] and not broker.core.will_store.by_number
    client.connect(expiry_ms=0, will=will_of("nobody", b"x"))
    kinds.clear()
    client.disconnect()
    assert kinds == [ACK] and not broker.core.will_store.by_number


@pytest.mark.parametrize("bound", [0, 3])
def test_power_cut_at_any_moment_leaves_the_message_once(bound):
    """In queues that take it by one record, and by several that differ."""
    for seed in range(60):
        rng = random.Random(seed)
        broker = DiskBroker()
        keeper = Client(broker, "keeper")
        keeper.connect(expiry_ms=DAY_MS)
        keeper.subscribe("will")
        keeper.disconnect()
        for number in range(bound):
            broker.declare(f"q{number}", delay_ms=1_000 * number)
            bind(broker, "will", f"q{number}")
        client = Client(broker, "dying")
        client.connect(expiry_ms=rng.choice([0, HOUR_MS]), will=will_of("will", b"x"))
        client.leave()
        for _ in range(rng.randrange(6)):
            broker.clock.turn()
            broker._step()
        broker = broker.restarted(rng)
        broker.advance(10_000)
        assert kept(broker) == [b"x"], seed
        for number in range(bound):
            assert broker.core.queues[f"q{number}"].live == 1, seed


def test_will_that_its_targets_refuse_is_counted_and_gone(broker, keeper):
    """Nothing brings it again at the next start."""
    settings = keeper.queue.settings
    keeper.queue.settings = structs.replace(settings, messages_max=1, overflow="reject")
    client = Client(broker, "dying")
    for body in (b"1", b"2"):
        client.connect(expiry_ms=0, will=will_of("will", body))
        client.disconnect()
    assert broker.core.topics.dropped == 1 and not broker.core.will_store.by_number
    broker = broker.restarted()
    broker.advance(1_000)
    assert kept(broker) == [b"1"]


# --- no room ---


def full():
    raise DiskFull("no room")


def test_will_that_finds_no_room_is_held_in_memory(broker, keeper):
    """Who comes back may drain its session, however full the disk is."""
    client = Client(broker, "dying")
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"1", 5_000))
    admit = broker.log.admit
    broker.log.admit = full
    client.connect(expiry_ms=HOUR_MS, will=will_of("will", b"2", 5_000))
    assert client.session.will.message.body == b"2"
    assert not broker.core.will_store.by_number  # the old one is not to come again
    client.disconnect()
    broker.log.admit = admit
    broker.advance(5_000)
    assert kept(broker) == [b"2"]


def test_qos_0_will_that_cannot_be_kept_does_not_come_again(broker, heirs):
    client, heir = heirs
    broker.declare("q")
    bind(broker, "will", "q")
    client.connect(expiry_ms=0, will=will_of("will", b"x", qos=0))
    broker.log.admit = full
    client.disconnect()
    assert heir.take_live() == [b"x"]
    broker = broker.restarted()
    broker.settle()
    assert broker.core.queues["q"].live == 0 and broker.core.topics.published == 0


def test_wills_in_the_log_have_a_limit(broker, keeper, monkeypatch):
    size = will_of("will", b"a" * 100).size
    monkeypatch.setattr(wills, "WILLS_BYTES_MAX", 2 * size)
    clients = [Client(broker, f"c{number}") for number in range(3)]
    for client in clients:
        client.connect(expiry_ms=0, will=will_of("will", b"a" * 100))
    assert broker.core.will_store.bytes == 2 * size
    clients[2].disconnect()  # it is published as ever, as long as the broker is there
    assert len(kept(broker)) == 1
    clients[0].disconnect(said_goodbye=True)
    clients[2].connect(expiry_ms=0, will=will_of("will", b"b" * 100))
    broker = broker.restarted()
    broker.settle()
    assert kept(broker) == [b"a" * 100, b"a" * 100, b"b" * 100]


def test_many_wills_are_published_in_slices(broker):
    """A start with many of them does not stop the broker while it publishes."""
    count = 250
    for number in range(count):
        client = Client(broker, f"c{number}")
        client.connect(expiry_ms=0, settle=False, will=will_of(f"w/{number}", b"x", 0, 1, True))
    broker.settle()
    broker = broker.restarted()
    broker.core.tick(broker.clock.ms)
    assert 0 < broker.core.topics.published < count
    broker.advance(1_000)
    assert broker.core.topics.published == count == len(broker.core.retained)
    assert not broker.core.sessions
