"""Streams that are bound to topics, and what comes to bound topics by MQTT."""

import json
from typing import Any

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.message import unpack_headers
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.fanout_harness import bind, declare_stream, messages_written, publish, queues, records
from tests.mqtt_peer import World


@pytest.fixture
def broker():
    return DiskBroker()


# --- streams ---


def test_streams_keep_the_order_of_each_key(broker):
    declare_stream(broker, "s", 4)
    queues(broker, "q")
    bind(broker, "truck/+", "s", "stream")
    bind(broker, "truck/+", "q")
    written = messages_written(broker)
    sent: dict[str, list[bytes]] = {}
    for number in range(40):
        truck = f"truck/{number % 7}"
        assert publish(broker, truck, b"%d" % number) == (Durability.SYNC, 2)
        sent.setdefault(truck, []).append(b"%d" % number)
    publish(broker, "truck/1", b"x", partition_key="mine")
    assert written == [2] * 41
    for again in (broker, broker.restarted()):
        found = records(again, "s")
        assert sum(map(len, found.values())) == 41
        for bodies in sent.values():
            holding = [each for each in found.values() if bodies[0] in each]
            assert [body for body in holding[0] if body in bodies] == bodies


def test_a_reader_that_waits_hears_of_what_comes_by_a_topic(broker):
    declare_stream(broker, "s")
    bind(broker, "t", "s", "stream", where="kind = 'x'")
    answers: list[Any] = []
    broker.core.read_shard(
        *(SYSTEM, "s", 0, 1, 10, 1 << 20, 60_000),
        *(lambda argument, chunk: answers.append(chunk), None, broker.clock.ms),
    )
    publish(broker, "t", b"no")
    assert answers == []
    publish(broker, "t", b"yes", kind="x")
    assert answers[0].count == 1


def test_streams_that_throttle_or_take_only_small_records_refuse(broker):
    declare_stream(broker, "slow", shard_records_in_per_second=1)
    declare_stream(broker, "small", record_bytes_max=100)
    queues(broker, "dead")
    bind(broker, "t", "slow", "stream", dead_letter="dead")
    bind(broker, "u", "small", "stream", raw=True, dead_letter="dead", where="topic = 'u'")
    publish(broker, "t", b"1", b"2")
    publish(broker, "u", bytes(200))
    publish(broker, "u", b"3")
    assert records(broker, "slow") == {0: [b"1"]} and records(broker, "small") == {0: [b"3"]}
    reasons = [unpack_headers(m.attributes)["dead-letter-reason"] for m in broker.browse("dead")]
    assert reasons == ["throttled", "too-large"]


def test_streams_in_memory_and_in_envelopes(broker):
    declare_stream(broker, "volatile", durability=Durability.MEMORY)
    declare_stream(broker, "wrapped")
    bind(broker, "t", "volatile", "stream")
    bind(broker, "t", "wrapped", "stream", raw=False)
    publish(broker, "t", b"x")
    assert records(broker, "volatile") == {0: [b"x"]}
    assert json.loads(records(broker, "wrapped")[0][0])["Message"] == "x"


def test_what_a_stream_holds_goes_with_it(broker):
    declare_stream(broker, "s")
    bind(broker, "t", "s", "stream")
    publish(broker, "t", b"x")
    broker.core.delete_stream(SYSTEM, "s")
    broker.settle()
    assert broker.core.list_bindings(SYSTEM, "", None, 0, 9) == []
    assert publish(broker, "t", b"y") == (Durability.MEMORY, 0)
    assert broker.log.statistics().bytes_live_estimate == 0
    assert broker.restarted().core.list_bindings(SYSTEM, "", None, 0, 9) == []


# --- from MQTT ---


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_comes_by_mqtt_is_in_the_queues_that_its_topic_is_bound_to(broker, qos):
    queues(broker, "a", "b")
    bind(broker, "t/#", "a")
    bind(broker, "t/#", "b", where="tenant = 'x'")
    world = World(broker)
    publisher, reader = world.join("p"), world.join("r")
    reader.subscribe(("t/#", 0))
    reader.take()
    bodies = [b"1", b"2", b"3", b"4", b"5"]  # they come as a run, unless they are of QoS 2
    sent = [p.publish("t/1", body, qos=qos, packet_id=int(body)) for body in bodies]
    assert len(publisher.send(*sent)) == (5 if qos else 0)
    assert reader.bodies() == bodies
    tenant: p.Properties = [(p.USER_PROPERTY, ("tenant", "x"))]
    publisher.send(p.publish("t/2", b"6", qos=qos, packet_id=6, properties=tenant))
    again = broker.restarted()
    assert again.bodies("a") == [*bodies, b"6"] and again.bodies("b") == [b"6"]


def test_a_bound_topic_has_a_matching_subscriber(broker):
    queues(broker, "a")
    bind(broker, "t", "a", where="kind = 'x'")
    publisher = World(broker).join("p")
    kind: p.Properties = [(p.USER_PROPERTY, ("kind", "x"))]
    publisher.send(p.publish("t", b"1", qos=1, packet_id=1, properties=kind))
    publisher.send(p.publish("t", b"1", qos=1, packet_id=2))
    assert [answer.reason for answer in publisher.take()] == [0, 0x10]
