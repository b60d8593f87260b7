"""Publishing later: not before its time, and not lost with the process."""

import msgspec
import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.delaying import DELAYED_NAME
from braidmq.broker.errors import InvalidArgument, PermissionDenied, QueueFull, StorageFull
from braidmq.broker.limits import DELAY_MS_MAX, Limits, SessionPolicy
from braidmq.broker.message import MQTT_QOS, MQTT_RETAIN, TOPIC
from braidmq.storage.errors import DiskFull
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.simdisk import PowerCut
from tests.topic_client import Client

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


@pytest.fixture
def broker():
    return DiskBroker()


def connected(broker: DiskBroker, name: str = "c", filter: str = "t/#") -> Client:
    client = Client(broker, name)
    client.connect()
    client.subscribe(filter, 2)
    return client


def later(broker, topic, body, delay_ms, ttl_ms=0, who=SYSTEM, **headers):
    attributes = msgspec.msgpack.encode({TOPIC: topic, **headers})
    level = broker.core.delaying.publish(
        who, topic, body, attributes, delay_ms, ttl_ms, broker.clock.ms
    )
    broker.settle()
    return level


def waiting(broker: DiskBroker) -> int:
    return broker.core.shares[DELAYED_NAME].live


def test_message_is_published_in_its_time_and_not_before(broker):
    client = connected(broker)
    assert later(broker, "t/late", b"2", 5_000) is Durability.SYNC
    later(broker, "t/early", b"1", 1_000)
    broker.advance(999)
    assert client.bodies() == []
    broker.advance(1)
    assert client.bodies() == [b"1"]
    broker.advance(3_999)
    assert client.ack() == [b"1"]
    broker.advance(1)
    assert client.ack() == [b"2"] and waiting(broker) == 0
    assert broker.log.statistics().bytes_live_estimate == 0


def test_it_outlives_the_process(broker):
    connected(broker)
    later(broker, "t/1", b"1", 5_000)
    broker.advance(3_000)
    broker.checkpoint()
    broker = broker.restarted()
    client = connected(broker)
    broker.advance(1_999)
    assert client.bodies() == []
    broker = broker.restarted()
    client = connected(broker)
    broker.clock.ms += 100_000  # it was due while nothing ran
    broker.advance(0)
    assert client.ack() == [b"1"]
    broker = broker.restarted()
    broker.advance(100_000)
    assert connected(broker).bodies() == [] and waiting(broker) == 0


def test_what_is_published_hurries_to_the_disk(broker):
    client = connected(broker)
    later(broker, "t/1", b"1", 1_000)
    broker.auto_commit = False  # nobody else asks for anything to be kept
    broker.advance(1_000)
    assert client.bodies() == [b"1"]


@pytest.mark.parametrize("call", range(6))
def test_power_may_be_cut_at_every_call_of_the_disk(broker, call):
    connected(broker)
    for body in (b"1", b"2"):
        later(broker, "t", body * 2_000, 1_000)
    broker.disk.crash_at = broker.disk.calls + call
    try:
        broker.advance(1_000)
    except PowerCut:
        pass
    again = broker.restarted()
    client = connected(again)
    again.advance(2_000)
    assert sorted(client.bodies()) == [b"1" * 2_000, b"2" * 2_000]
    assert waiting(again) == 0


def test_quality_and_retaining_are_those_it_was_published_with(broker):
    client = connected(broker)
    later(broker, "t/0", b"0", 10, **{MQTT_QOS: "0"})
    later(broker, "t/2", b"2", 10, **{MQTT_QOS: "2", MQTT_RETAIN: "1"})
    broker.advance(10)
    assert client.take_live() == [b"0"] and client.bodies() == [b"2"]
    assert client.retained("#") == {"t/2": b"2"}


def test_who_subscribes_meanwhile_gets_it_and_who_is_not_there_any_more_does_not(broker):
    first = connected(broker, "first")
    later(broker, "t/1", b"x", 1_000)
    first.unsubscribe("t/#")
    second = connected(broker, "second")
    broker.advance(1_000)
    assert first.bodies() == [] and second.bodies() == [b"x"]


def test_its_time_to_live_begins_at_once(broker):
    client = connected(broker)
    later(broker, "t/1", b"gone", 5_000, ttl_ms=3_000)
    later(broker, "t/1", b"here", 5_000, ttl_ms=30_000)
    end_ms = broker.clock.ms + 30_000
    broker.advance(5_000)
    assert client.bodies() == [b"here"] and client.held[0][1].expire_ms == end_ms


def test_what_cannot_be_taken_now_is_tried_again():
    broker = DiskBroker(limits=Limits(session_messages_max=1))
    broker.core.clients._policy = SessionPolicy(overflow="refuse")
    client = connected(broker)
    client.send("t/1", b"before")
    later(broker, "t/1", b"x", 1_000)
    broker.advance(1_500)
    with pytest.raises(QueueFull):
        client.send("t/1", b"y")
    assert client.ack() == [b"before"] and waiting(broker) == 1
    broker.advance(1_000)
    assert client.bodies() == [b"x"] and waiting(broker) == 0


def test_it_takes_the_right_to_publish_and_room(broker):
    rule = Rule("allow", ("topic:*",), ("a/#",))
    broker.core.access.replace([User("a", HASH, (rule,))])
    who = broker.core.access.principal("a")
    with pytest.raises(PermissionDenied):
        later(broker, "t", b"x", 1_000, who=who)
    with pytest.raises(PermissionDenied):
        later(broker, "$SYS/x", b"x", 1_000)
    with pytest.raises(InvalidArgument):
        later(broker, "a/+", b"x", 1_000)
    later(broker, "a/b", b"x", DELAY_MS_MAX + 5, who=who)
    broker.advance(DELAY_MS_MAX)
    assert waiting(broker) == 0

    def full():
        raise DiskFull("no room")

    broker.log.admit = full
    with pytest.raises(StorageFull):
        later(broker, "t", b"x", 1_000)
