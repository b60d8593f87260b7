"""The drivers of MQTT and STOMP against every broker that speaks it and is installed here."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from braidmq.benchmarks.drivers.connection import converse
from braidmq.benchmarks.drivers.driver import Refused, Wiring
from braidmq.benchmarks.drivers.mqtt import MqttDriver
from braidmq.benchmarks.drivers.stomp import StompDriver
from braidmq.benchmarks.systems.registry import LACKS, SYSTEMS
from braidmq.benchmarks.systems.system import Running
from tests.bench_clients import bodies_for, carry, connected, publish_all, receive, take

MQTT, STOMP = MqttDriver(), StompDriver()
BODIES = bodies_for(1_000)
TICK_SECONDS = 0.01  # brokers count milliseconds


class Brokers:
    """Each is started when it is asked for, and ended when all tests are over."""

    def __init__(self, stack: contextlib.ExitStack, folder: Path) -> None:
        self._stack, self._folder = stack, folder
        self._running: dict[str, Running] = {}

    def wiring(self, name: str, scheme: str, **more: Any) -> Wiring:
        if reason := SYSTEMS[name].why_not():
            pytest.skip(reason)
        if name not in self._running:
            directory = self._folder / name
            directory.mkdir()
            started = SYSTEMS[name].start(self._stack, str(directory), durable=True)
            self._running[name] = started
        return Wiring(url=self._running[name].urls[scheme], **more)

    def tls(self, name: str, scheme: str, **more: Any) -> Wiring:
        self.wiring(name, scheme)
        running = self._running[name]
        return Wiring(url=running.tls_urls[scheme], tls_ca=running.tls_ca, **more)


@pytest.fixture(scope="module")
def brokers(tmp_path_factory) -> Iterator[Brokers]:
    with contextlib.ExitStack() as stack:
        yield Brokers(stack, tmp_path_factory.mktemp("brokers"))


def who(schemes: set[str], *needs: str) -> list[Any]:
    """The systems that serve one of the schemes and have what is needed."""
    return [
        pytest.param(name, scheme, id=f"{name} {scheme}")
        for name, system in SYSTEMS.items()
        for scheme in sorted(system.schemes & schemes)
        if not LACKS.get((name, scheme), frozenset()) & set(needs)
    ]


def of_mqtt(*needs: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "scheme"), who({"mqtt", "mqtt5"}, *needs))


def of_stomp(*needs: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("name", "scheme"), who({"stomp"}, *needs))


# MQTT --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [0, 1, 2])
@of_mqtt()
def test_a_topic_is_heard_in_order(brokers, name, scheme, qos):
    if qos == 2 and "qos2" in LACKS.get((name, scheme), ()):
        pytest.skip("it has no QoS 2")
    wiring = brokers.wiring(
        *(name, scheme), kind="topic", names=(f"order.q{qos}",), qos=qos, durable=False
    )
    MQTT.declare(wiring)
    with connected(MQTT.consumer(wiring), MQTT.producer(wiring)) as (consumer, producer):
        assert producer.confirms == (qos > 0)
        for at in range(0, 1_000, 100):  # QoS 0 has no other bound
            publish_all(producer, BODIES[at : at + 100])
            assert receive([consumer], 100)[0] == BODIES[at : at + 100]


@of_mqtt("queue")
def test_a_queue_is_shared_and_nothing_comes_twice(brokers, name, scheme):
    def wired(client_id):
        names = (f"work.{scheme}",)
        return brokers.wiring(name, scheme, names=names, client_id=client_id + scheme)

    clients = [MQTT.consumer(wired("a")), MQTT.consumer(wired("b")), MQTT.producer(wired("p"))]
    with connected(*clients) as (*consumers, producer):
        publish_all(producer, BODIES)
        found = receive(consumers, 1_000)
        assert sorted(found[0] + found[1]) == sorted(BODIES)
        assert found[0] and found[1]


@of_mqtt()
def test_who_was_away_gets_what_was_published(brokers, name, scheme):
    if name == "amqtt":
        pytest.skip("it keeps nothing for those who are away")
    wiring = brokers.wiring(
        *(name, scheme), kind="topic", names=(f"away.{scheme}",), client_id="away" + scheme
    )
    MQTT.consumer(wiring).close()
    with connected(MQTT.producer(replace(wiring, client_id=""))) as (producer,):
        publish_all(producer, BODIES)
    with connected(MQTT.consumer(wiring)) as (consumer,):
        assert receive([consumer], 1_000)[0] == BODIES


@of_mqtt()
def test_wildcards_and_more_filters_than_a_packet_holds(brokers, name, scheme):
    names = (*(f"wild.{number}" for number in range(60)), "wild.*.x", "wild.y.#")
    wiring = brokers.wiring(name, scheme, kind="topic", names=names, durable=False)
    topics = ("wild.59", "wild.any.x", "wild.y.1.2", "wild.any.z")
    with connected(MQTT.consumer(wiring), MQTT.producer(replace(wiring, names=topics))) as (
        consumer,
        producer,
    ):
        for number in range(4):
            publish_all(producer, [b"to %d" % number], to=number)
        assert receive([consumer], 3)[0] == [b"to 0", b"to 1", b"to 2"]


@of_mqtt("retain")
def test_what_is_retained_comes_later_and_is_forgotten(brokers, name, scheme):
    names = (f"kept.{scheme}.a", f"kept.{scheme}.b")

    def wired(client_id, retain=False):
        more = {"client_id": client_id + scheme, "retain": retain, "durable": False}
        return brokers.wiring(name, scheme, kind="topic", names=names, **more)

    with connected(MQTT.producer(wired("first", retain=True))) as (producer,):
        publish_all(producer, [b"old", b"new"])
        publish_all(producer, [b"other"], to=1)
    with connected(MQTT.consumer(wired("second"))) as (consumer,):
        assert sorted(receive([consumer], 2)[0]) == [b"new", b"other"]
    MQTT.declare(wired("third", retain=True))
    clients = MQTT.consumer(wired("fourth")), MQTT.producer(wired("fifth"))
    with connected(*clients) as (consumer, producer):
        publish_all(producer, [b"live"])
        assert receive([consumer], 1)[0] == [b"live"]


@of_mqtt("delay")
def test_a_delayed_message_comes_when_it_is_due(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, kind="topic", names=(f"later.{scheme}",), durable=False)
    with connected(MQTT.consumer(wiring), MQTT.producer(wiring)) as (consumer, producer):
        begun = time.monotonic()
        producer.publish([b"late"], 0, (), 1_000)
        publish_all(producer, [])
        carry([producer, consumer], lambda: bool(consumer.bodies))
        assert take(consumer)[0] == [b"late"] and time.monotonic() - begun > 1 - TICK_SECONDS


@pytest.mark.parametrize("scheme", ["mqtt", "stomp"])
def test_rabbitmq_says_why_not(brokers, scheme):
    wiring = brokers.wiring("rabbitmq", scheme)
    stranger = replace(wiring, url=wiring.url.replace("://", "://nobody:secret@"), client_id="x")
    driver = MQTT if scheme == "mqtt" else STOMP
    with pytest.raises(Refused, match=r"CONNACK with 4|Access refused for user 'nobody'"):
        driver.connect(stranger)


def test_ours_says_why_not(brokers):
    with pytest.raises(Refused, match=r"CONNACK with 133: .+"):
        MQTT.connect(brokers.wiring("braidmq", "mqtt5", client_id="$me"))
    wiring = brokers.wiring("braidmq", "mqtt5", kind="topic", names=("$nobody",))
    with connected(MQTT.producer(wiring)) as (producer,):
        producer.publish([b"x"])
        carry([producer], lambda: producer.refused == [0])


@pytest.mark.parametrize(
    ("name", "driver", "scheme"),
    [
        ("braidmq", MQTT, "mqtt5"),
        ("braidmq", STOMP, "stomp"),
        ("mosquitto", MQTT, "mqtt"),
        ("rabbitmq", MQTT, "mqtt"),
        ("rabbitmq", STOMP, "stomp"),
    ],
)
def test_all_of_it_by_tls(brokers, name, driver, scheme):
    wiring = brokers.tls(name, scheme, kind="topic", names=("secret",))
    with connected(driver.consumer(wiring), driver.producer(wiring)) as (consumer, producer):
        producer.publish(BODIES[:100])
        converse(producer, lambda: len(producer.confirmed) == 100)
        converse(consumer, lambda: len(consumer.bodies) == 100)
        assert consumer.bodies == BODIES[:100]


# STOMP -------------------------------------------------------------------------------------------


def left_in(wiring: Wiring) -> list[bytes]:
    """What a queue still has, which takes it."""
    with connected(STOMP.producer(wiring), STOMP.consumer(wiring)) as (producer, consumer):
        publish_all(producer, [b"the end"])
        found: list[bytes] = []
        while b"the end" not in found:
            found += receive([consumer], 1)[0]
    found.remove(b"the end")
    return found


@of_stomp()
def test_a_queue_is_emptied_and_shared_and_empty_again(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, names=("work.a",), prefetch=50)
    with connected(STOMP.producer(wiring)) as (producer,):
        publish_all(producer, [b"of somebody else"] * 10)
    STOMP.declare(wiring)
    clients = [STOMP.consumer(wiring), STOMP.consumer(wiring), STOMP.producer(wiring)]
    with connected(*clients) as (*consumers, producer):
        publish_all(producer, BODIES)
        found = receive(consumers, 1_000)
        assert sorted(found[0] + found[1]) == sorted(BODIES)
        assert found[0] and found[1]
    assert left_in(wiring) == []


@of_stomp()
def test_what_was_not_acknowledged_comes_again(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, names=("again",))
    STOMP.declare(wiring)
    with connected(STOMP.consumer(wiring), STOMP.producer(wiring)) as (consumer, producer):
        publish_all(producer, BODIES[:50])
        carry([consumer], lambda: len(consumer.bodies) == 50)
        consumer.acknowledge(take(consumer)[1][:20])
        carry([consumer], lambda: not consumer.out)
    assert sorted(left_in(wiring)) == sorted(BODIES[20:50])


@of_stomp()
def test_what_is_rejected_comes_again_or_is_a_dead_letter(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, names=("poison",))
    dead = replace(wiring, names=("ActiveMQ.DLQ",)) if name != "rabbitmq" else wiring
    STOMP.declare(wiring)
    STOMP.declare(dead)
    with connected(STOMP.consumer(wiring), STOMP.producer(wiring)) as (consumer, producer):
        publish_all(producer, BODIES[:10])
        carry([consumer], lambda: len(consumer.bodies) == 10)
        consumer.reject(take(consumer)[1])
        carry([consumer], lambda: not consumer.out)
        if dead is wiring:
            assert sorted(receive([consumer], 10)[0]) == sorted(BODIES[:10])
    assert sorted(left_in(dead)) == ([] if dead is wiring else sorted(BODIES[:10]))
    assert left_in(wiring) == []


@of_stomp()
def test_topics_and_their_wildcards(brokers, name, scheme):
    wiring = brokers.wiring(
        name, scheme, kind="topic", names=("wild.*.x", "wild.y.#"), durable=False
    )
    STOMP.declare(wiring)
    sender = replace(wiring, names=("wild.any.x", "wild.y.1.2", "wild.any.z"))
    with connected(STOMP.consumer(wiring), STOMP.producer(sender)) as (consumer, producer):
        for number in (2, 0, 1):
            publish_all(producer, [b"to %d" % number], to=number)
        assert sorted(receive([consumer], 2)[0]) == [b"to 0", b"to 1"]


@of_stomp()
def test_a_topic_is_remembered_for_who_was_away(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, kind="topic", names=("away.s",), client_id="reader")
    STOMP.consumer(wiring).close()
    with connected(STOMP.producer(wiring)) as (producer,):
        publish_all(producer, BODIES)
    with connected(STOMP.consumer(wiring)) as (consumer,):
        assert receive([consumer], 1_000)[0] == BODIES


@of_stomp("fifo")
def test_a_group_goes_to_one_consumer_in_order(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, kind="fifo", names=("groups",))
    STOMP.declare(wiring)
    clients = [STOMP.consumer(wiring), STOMP.consumer(wiring), STOMP.producer(wiring)]
    with connected(*clients) as (*consumers, producer):
        keys = [f"k:{number % 7}" for number in range(140)]
        producer.publish([b"%d of %d" % (n, n % 7) for n in range(140)], 0, keys)
        carry([producer], lambda: len(producer.confirmed) == 140)
        found = receive(consumers, 140)
    for key in range(7):
        whole = [b"%d of %d" % (n, n % 7) for n in range(key, 140, 7)]
        parts = [[body for body in found[each] if body in whole] for each in (0, 1)]
        assert whole in parts and [] in parts


@of_stomp("delay")
def test_a_delayed_message_is_not_early(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, names=("later",))
    STOMP.declare(wiring)
    with connected(STOMP.consumer(wiring), STOMP.producer(wiring)) as (consumer, producer):
        begun = time.monotonic()
        producer.publish([b"late"], 0, (), 200)
        producer.publish([b"soon"])
        carry([producer], lambda: len(producer.confirmed) == 2)
        assert receive([consumer], 1)[0] == [b"soon"]
        assert receive([consumer], 1)[0] == [b"late"]
        assert time.monotonic() - begun > 0.2 - TICK_SECONDS


@of_stomp()
def test_what_the_broker_says_of_nonsense(brokers, name, scheme):
    wiring = brokers.wiring(name, scheme, names=("nonsense",))
    consumer = STOMP.consumer(wiring)
    consumer.acknowledge([b"nonsense"])
    with pytest.raises(Refused, match=r"ERROR: .+"):
        carry([consumer], lambda: False)
    consumer.close()
