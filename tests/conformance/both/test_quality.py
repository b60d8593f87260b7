"""Sections 4.3, 4.4 and 4.6: quality of service, what is sent again, and in which order."""

import pytest

from ..client import Client
from ..packets import (
    DURABLE,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    V5,
    ack,
    publish,
)
from ..requirements import v5, v311


def burst(client: Client, topic: str, count: int, qos: int) -> None:
    """Publish numbers, all in one write, with the packet ids from 1 on."""
    client.send(
        *[
            publish(topic, b"%d" % n, qos=qos, packet_id=n + 1, version=client.version)
            for n in range(count)
        ]
    )


def publish_numbers(client: Client, topic: str, count: int, qos: int) -> None:
    """Publish numbers, each after the one before is acknowledged."""
    for number in range(count):
        client.publish(topic, b"%d" % number, qos=qos)


@v5("MQTT-2.2.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1", "MQTT-4.3.2-2", "MQTT-4.3.3-2")
@v311("MQTT-2.3.1-1", "MQTT-2.3.1-4", "MQTT-4.3.2-1", "MQTT-4.3.3-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_packet_ids_in_use_are_not_used_again(join, version, name, qos):
    """Not one of what is unacknowledged is given to another message, also after some are free."""
    client, other = join(version), join(version)
    client.subscribe(name, qos=qos)
    publish_numbers(other, name, 10, qos)
    open_ids: list[int] = []
    for round_number in range(3):
        found = [client.receive(acknowledge=False) for _ in range(10 if not round_number else 5)]
        assert all((each.qos, each.dup) == (qos, False) for each in found)
        open_ids += [each.packet_id for each in found]
        assert len(set(open_ids)) == len(open_ids)
        for packet_id in open_ids[:5]:
            if qos == 1:
                client.send(ack(PUBACK, packet_id))
            else:
                client.send(ack(PUBREC, packet_id))
                assert client.wait_for(PUBREL).packet_id == packet_id
                client.send(ack(PUBCOMP, packet_id))
        del open_ids[:5]
        publish_numbers(other, name, 5, qos)


@v5("MQTT-4.3.2-5")
@v311("MQTT-4.3.2-2")
def test_after_a_puback_the_packet_id_is_new(join, version, name):
    """Also when DUP says otherwise."""
    client = join(version)
    client.subscribe(name, qos=0)
    for dup in (False, True, True):
        client.send(publish(name, b"x", qos=1, packet_id=5, dup=dup, version=version))
        assert client.wait_for(PUBACK).packet_id == 5
        assert client.receive().payload == b"x"


@v5("MQTT-4.3.3-8", "MQTT-4.3.3-10", "MQTT-4.3.3-11", "MQTT-4.3.3-12", "MQTT-3.5.2-1")
@v5("MQTT-3.7.2-1")
@v311("MQTT-4.3.3-2", "MQTT-3.3.4-1", "MQTT-2.3.1-6")
@pytest.mark.parametrize("dup", [True, False])
def test_qos_2_is_received_exactly_once(join, version, name, dup):
    client, watcher = join(version), join(version)
    watcher.subscribe(name, qos=0)
    for number in range(2):
        for again in range(2):
            client.send(
                publish(name, b"x", qos=2, packet_id=5, dup=dup and again > 0, version=version)
            )
            assert client.read(PUBREC).packet_id == 5
        for _ in range(2):
            client.send(ack(PUBREL, 5))
            assert client.read(PUBCOMP).packet_id == 5
        assert watcher.receive().payload == b"x", number
        watcher.quiet()


@v5("MQTT-4.3.3-10", "MQTT-4.1.0-1", "MQTT-3.1.2-5")
@v311("MQTT-4.3.3-2", "MQTT-3.1.2-4")
def test_qos_2_is_received_exactly_once_over_two_connections(join, version, name):
    watcher = join(version)
    watcher.subscribe(name)
    client = join(version, name, **DURABLE)
    client.send(publish(name, b"x", qos=2, packet_id=5, version=version))
    client.read(PUBREC)
    client.close()
    client = join(version, name, **DURABLE)
    assert client.connack.session_present
    client.send(publish(name, b"x", qos=2, packet_id=5, dup=True, version=version))
    assert client.read(PUBREC).packet_id == 5
    client.send(ack(PUBREL, 5))
    assert client.read(PUBCOMP).reason == 0
    assert watcher.receive().payload == b"x"
    watcher.quiet()


@v5("MQTT-4.3.3-4", "MQTT-4.3.3-5", "MQTT-4.3.3-6", "MQTT-3.6.2-1", "MQTT-2.2.1-5")
@v311("MQTT-4.3.3-1", "MQTT-2.3.1-6")
def test_qos_2_is_sent_in_four_steps(join, version, name):
    client = join(version)
    client.subscribe(name, qos=2)
    client.publish(name, b"x", qos=2)
    found = client.receive(acknowledge=False)
    client.quiet()
    for _ in range(2):
        client.send(ack(PUBREC, found.packet_id))
        released = client.read(PUBREL)
        assert (released.packet_id, released.reason, released.flags) == (found.packet_id, 0, 2)
    client.quiet()
    client.send(ack(PUBCOMP, found.packet_id))
    client.quiet()


@v5("MQTT-4.4.0-1", "MQTT-4.3.2-3", "MQTT-3.3.1-1", "MQTT-4.3.3-3")
@v311("MQTT-4.4.0-1", "MQTT-4.3.2-1", "MQTT-3.3.1-1", "MQTT-4.3.3-1", "MQTT-4.6.0-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_unacknowledged_is_sent_again_in_order(join, version, name, qos):
    """With the same packet ids, DUP set, before anything newer; what was acknowledged is not."""
    client, other = join(version, name, **DURABLE), join(version)
    client.subscribe(name, qos=qos)
    publish_numbers(other, name, 6, qos)
    first = [client.receive(acknowledge=False) for _ in range(6)]
    done = first.pop(2)
    if qos == 1:
        client.send(ack(PUBACK, done.packet_id))
    else:
        client.send(ack(PUBREC, done.packet_id))
        client.wait_for(PUBREL)
        client.send(ack(PUBCOMP, done.packet_id))
    client.quiet()
    for _ in range(2):
        client.close()
        other.publish(name, b"newer", qos=qos)
        client = join(version, name, **DURABLE)
        again = [client.receive(acknowledge=False) for _ in first]
        assert [(each.packet_id, each.payload) for each in again] == [
            (each.packet_id, each.payload) for each in first
        ]
        assert all(each.dup and each.qos == qos for each in again)
        newer = client.receive(acknowledge=False)
        assert newer.payload == b"newer"
        first.append(newer)


@v5("MQTT-4.4.0-1", "MQTT-4.3.3-5", "MQTT-4.3.3-6")
@v311("MQTT-4.4.0-1", "MQTT-4.3.3-1", "MQTT-4.6.0-4")
def test_an_unanswered_pubrel_is_sent_again(join, version, name):
    """And its PUBLISH is not, in this connection or the next."""
    client = join(version, name, **DURABLE)
    client.subscribe(name, qos=2)
    for number in range(3):
        client.publish(name, b"%d" % number, qos=2)
    found = [client.receive(acknowledge=False).packet_id for _ in range(3)]
    order = [found[1], found[0]]
    for packet_id in order:
        client.send(ack(PUBREC, packet_id))
        assert client.wait_for(PUBREL).packet_id == packet_id
    client.close()
    client = join(version, name, **DURABLE)
    seen = [client.read() for _ in range(3)]
    assert [each.packet_id for each in seen if each.kind == PUBREL] in (order, sorted(order))
    assert [each.packet_id for each in seen if each.kind == PUBLISH] == [found[2]]
    for packet_id in order:
        client.send(ack(PUBCOMP, packet_id))
    client.quiet()


@v5("MQTT-4.4.0-1")
@v311("MQTT-4.4.0-1")
def test_nothing_is_sent_again_while_connected(join, version, name):
    client = join(version, keep_alive=0)
    client.subscribe((f"{name}/1", 1), (f"{name}/2", 2))
    client.publish(f"{name}/1")
    client.publish(f"{name}/2", qos=2)
    for _ in range(2):
        client.receive(acknowledge=False)
    for _ in range(5):
        client.quiet()


@v311("MQTT-4.6.0-2", "MQTT-4.6.0-3")
def test_acknowledgements_come_in_the_order_of_the_messages(join, version, name):
    client = join(version)
    numbers = [7, 3, 9, 1, 65_535, 4, 8, 2]
    for qos, kind in ((1, PUBACK), (2, PUBREC)):
        mine = numbers if qos == 1 else [number - 1 or 77 for number in numbers]
        client.send(*[publish(name, qos=qos, packet_id=n, version=version) for n in mine])
        assert [client.read(kind).packet_id for _ in mine] == mine


@v311("MQTT-4.6.0-4")
def test_pubrels_come_in_the_order_of_the_pubrecs(join, version, name):
    client = join(version)
    client.subscribe(name, qos=2)
    for number in range(6):
        client.publish(name, b"%d" % number, qos=2)
    found = [client.receive(acknowledge=False).packet_id for _ in range(6)]
    found.reverse()
    client.send(*[ack(PUBREC, packet_id) for packet_id in found])
    assert [client.read(PUBREL).packet_id for _ in found] == found


@v5("MQTT-4.6.0-5", "MQTT-4.6.0-6")
@v311("MQTT-4.6.0-5", "MQTT-4.6.0-6")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("live", [True, False], ids=["live", "stored"])
def test_messages_of_one_publisher_arrive_in_order(join, version, name, qos, live):
    if not live and not qos:
        pytest.skip("a message of QoS 0 need not be stored")
    client, publisher = join(version, name, **DURABLE), join(version)
    client.subscribe(f"{name}/#", qos=qos)
    if not live:
        client.disconnect()
    count = 15  # below what any broker has in flight or queues
    burst(publisher, f"{name}/a", count, qos)
    for number in range(count if qos else 0):
        assert publisher.wait_for(PUBACK if qos == 1 else PUBREC).packet_id == number + 1
    if qos == 2:
        publisher.send(*[ack(PUBREL, number + 1) for number in range(count)])
    publisher.alive()
    if not live:
        client = join(version, name, **DURABLE)
    assert client.payloads(count) == [b"%d" % number for number in range(count)]


@v5("MQTT-4.5.0-1", "MQTT-3.1.2-23")
@v311("MQTT-3.1.2-5", "MQTT-4.5.0-1")
def test_every_matching_session_gets_its_copy(join, version, name):
    sessions = [f"{name}{number}" for number in range(3)]
    for number, client_id in enumerate(sessions):
        client = join(version, client_id, **DURABLE)
        client.subscribe([f"{name}/a", f"{name}/+", f"{name}/#"][number], qos=1)
        if number:
            client.disconnect()
    publisher = join(version)
    publisher.publish(f"{name}/a", b"x")
    client = join(version, sessions[0], **DURABLE)
    for client_id in sessions:
        client = join(version, client_id, **DURABLE)
        assert client.receive().payload == b"x"
        client.quiet()


@v5("MQTT-4.3.3-11")
@v311("MQTT-4.3.3-2")
def test_a_pubrel_for_an_unknown_packet_id_is_answered(join, version):
    client = join(version)
    client.send(ack(PUBREL, 77))
    found = client.read(PUBCOMP)
    assert (found.packet_id, found.reason) in ((77, 0x92 if version == V5 else 0), (77, 0))
