"""Sections 3.1 and 3.2: CONNECT, CONNACK, client ids, and who is let in."""

import pytest

from ..packets import (
    ASSIGNED_CLIENT_ID,
    CONNACK,
    CONNECT,
    DURABLE,
    PING,
    PINGRESP,
    PUBACK,
    SERVER_KEEP_ALIVE,
    SUBACK,
    V5,
    V311,
    Will,
    ack,
    binary,
    connect,
    disconnect,
    packet,
    properties,
    publish,
    subscribe,
    u16,
    unsubscribe,
)
from ..requirements import v5, v311

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def malformed(version):
    """What `Client.refused` is told: only version 5 answers a malformed CONNECT."""
    return [0x81, 0x82] if version == V5 else []


@v5("MQTT-3.1.0-1", "MQTT-3.14.0-1")
@v311("MQTT-3.1.0-1")
@pytest.mark.parametrize("kind", ["publish", "subscribe", "unsubscribe", "ping", "ack", "bye"])
def test_what_comes_before_a_connect_is_not_answered(dial, version, name, kind):
    client = dial(version)
    client.send(
        {
            "publish": publish(name, qos=1, version=version),
            "subscribe": subscribe((name, 0), version=version),
            "unsubscribe": unsubscribe(name, version=version),
            "ping": PING,
            "ack": ack(PUBACK, 1),
            "bye": disconnect(),
        }[kind]
    )
    assert client.closed() == []


@v5("MQTT-3.1.0-2", "MQTT-4.13.1-1", "MQTT-3.2.0-2")
@v311("MQTT-3.1.0-2", "MQTT-4.8.0-1")
def test_a_second_connect_closes(join, version, name):
    client = join(version, name)
    client.send(connect(name, version=version))
    assert CONNACK not in [each.kind for each in client.closed(0x82)]


@v5("MQTT-3.1.2-1")
@v311("MQTT-3.1.2-1")
@pytest.mark.parametrize("protocol", ["mqtt", "MQTTX", "MQT", "", "HTTP"])
def test_another_protocol_name_is_refused(dial, version, name, protocol):
    client = dial(V311)  # an answer, if there is one, may have the form of any version
    client.send(connect(name, version=version, protocol=protocol))
    told = client.closed()
    assert [each.reason for each in told] in ([], [0x84], [0x01])


@v5("MQTT-3.1.2-2")
@v311("MQTT-3.1.2-2")
@pytest.mark.parametrize("level", [0, 2, 6, 255])
def test_another_protocol_level_is_refused(dial, name, level):
    """3.1.1 demands return code 1; to a newer version a server of both may say 0x84."""
    client = dial(V311)
    client.send(connect(name, version=V311 if level < 5 else V5, level=level))
    found = client.read(CONNACK)
    assert found.reason in (0x01, 0x84)
    assert client.closed() == []


@v5("MQTT-3.1.2-3", "MQTT-3.1.4-1")
@v311("MQTT-3.1.2-3", "MQTT-3.1.4-1")
def test_the_reserved_connect_flag_is_refused(dial, version, name):
    client = dial(version)
    client.send(connect(name, version=version, flags=0b0000_0011))
    client.refused(*malformed(version))


@v5("MQTT-3.1.2-12", "MQTT-3.1.4-1")
@v311("MQTT-3.1.2-14", "MQTT-3.1.4-1")
def test_will_qos_3_is_refused(dial, version, name):
    client = dial(version)
    client.send(connect(name, version=version, will=Will(name), flags=0b0001_1110))
    client.refused(*malformed(version))


@v5("MQTT-3.1.2-11", "MQTT-3.1.2-13")
@v311("MQTT-3.1.2-11", "MQTT-3.1.2-13", "MQTT-3.1.2-15")
@pytest.mark.parametrize("flags", [0b0000_1010, 0b0001_0010, 0b0010_0010, 0b0011_0010])
def test_will_options_without_a_will_are_refused(dial, version, name, flags):
    client = dial(version)
    client.send(connect(name, version=version, flags=flags))
    client.refused(*malformed(version))


@v5("MQTT-3.1.2-9", "MQTT-3.1.2-17", "MQTT-3.1.2-19", "MQTT-3.1.3-3", "MQTT-3.1.4-1")
@v311("MQTT-3.1.2-9", "MQTT-3.1.2-19", "MQTT-3.1.2-21", "MQTT-3.1.3-3", "MQTT-3.1.4-1")
@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (0b0000_0010, b""),
        (0b0000_0010, b"\0\x05ab"),
        (0b0000_0110, binary("x")),
        (0b1000_0010, binary("x")),
        (0b1100_0010, binary("x") + binary("user")),
    ],
    ids=["client id", "half a client id", "will", "user name", "password"],
)
def test_a_missing_field_is_refused(dial, version, flags, fields):
    head = binary("MQTT") + bytes([version, flags]) + u16(60) + properties(None, version)
    client = dial(version)
    client.send(packet(CONNECT, 0, head + fields))
    client.refused(*malformed(version))


@v5("MQTT-3.1.2-9")
@v311("MQTT-3.1.2-9")
def test_a_will_without_a_payload_is_refused(dial, version):
    head = binary("MQTT") + bytes([version, 0b0000_0110]) + u16(60) + properties(None, version)
    client = dial(version)
    client.send(packet(CONNECT, 0, head + binary("x") + properties(None, version) + binary("t")))
    client.refused(*malformed(version))


@v5("MQTT-3.1.2-16", "MQTT-3.1.2-18", "MQTT-3.1.4-1")
@v311("MQTT-3.1.2-11", "MQTT-3.1.2-18", "MQTT-3.1.2-20", "MQTT-3.1.4-1")
@pytest.mark.parametrize("flags", [0b0000_0010, 0b1000_0010])
def test_a_field_without_its_flag_is_refused(dial, version, flags):
    head = binary("MQTT") + bytes([version, flags]) + u16(60) + properties(None, version)
    client = dial(version)
    client.send(packet(CONNECT, 0, head + binary("x") + binary("user") + binary("password")))
    client.refused(*malformed(version))


@v5("MQTT-3.1.3-1")
@v311("MQTT-3.1.3-1")
def test_the_fields_are_read_in_their_order(with_users, version, name):
    login = {"username": "user", "password": "password"}
    watcher, client = with_users(version), with_users(version)
    watcher.connect(f"{name}watcher", **login)
    watcher.subscribe(f"{name}/#")
    client.connect(f"{name}id", will=Will(f"{name}/topic", b"payload"), **login)
    client.close()
    found = watcher.receive()
    assert (found.topic, found.payload) == (f"{name}/topic", b"payload")


@v5("MQTT-3.1.3-5")
@v311("MQTT-3.1.3-5", "MQTT-3.1.3-4")
@pytest.mark.parametrize("start", range(0, len(CHARACTERS), 23))
def test_client_ids_of_23_letters_and_digits_are_allowed(join, version, start):
    join(version, CHARACTERS[start : start + 23])


@v5("MQTT-3.1.3-5")
@v311("MQTT-3.1.3-5")
@pytest.mark.parametrize("client_id", ["0", "z"])
def test_client_ids_of_one_character_are_allowed(join, version, client_id):
    join(version, client_id)


@v5("MQTT-3.1.3-6", "MQTT-3.2.2-16")
@v311("MQTT-3.1.3-6")
def test_clients_without_an_id_are_told_apart(join, version):
    """With one id for both, the second would end the first."""
    clients = [join(version, "") for _ in range(3)]
    for client in clients:
        client.quiet()
    if version == V5:
        assigned = {client.connack.get(ASSIGNED_CLIENT_ID) for client in clients}
        assert len(assigned) == 3 and not assigned & {None, ""}


@v5("MQTT-3.1.4-3", "MQTT-4.13.2-1")
@v311("MQTT-3.1.4-2")
def test_the_same_client_id_ends_the_older_connection(join, version, name):
    older = join(version, name)
    newer = join(version, name)
    older.closed(0x8E)
    newer.quiet()


@v5("MQTT-3.1.3-2")
@v311("MQTT-3.1.3-2")
def test_state_is_found_by_the_client_id_alone(join, version, name):
    first, second = (join(version, f"{name}{letter}", **DURABLE) for letter in "ab")
    first.subscribe(f"{name}/1", qos=1)
    second.subscribe(f"{name}/2", qos=1)
    first.close()
    second.close()
    for letter, number in ("b2", "a1"):
        again = join(version, f"{name}{letter}", **DURABLE)
        assert again.connack.session_present
        for topic in "12":
            again.publish(f"{name}/{topic}", topic)
        topics = {again.receive().topic} | {each.topic for each in again.settle()}
        assert topics == {f"{name}/{number}"}


@v5("MQTT-3.1.2-4", "MQTT-3.1.4-4", "MQTT-3.2.2-2")
@v311("MQTT-3.1.2-6", "MQTT-3.1.4-3", "MQTT-3.2.2-1")
def test_a_clean_start_discards_the_session(join, version, name):
    client = join(version, name, **DURABLE)
    client.subscribe(name, qos=1)
    client.disconnect()
    other = join(version)
    other.publish(name, b"waits")
    client = join(version, name, clean=True)
    assert not client.connack.session_present
    other.publish(name, b"new")
    client.quiet()
    client.disconnect()
    again = join(version, name, **DURABLE)
    assert not again.connack.session_present


@v5("MQTT-3.1.2-5", "MQTT-3.1.4-4", "MQTT-3.2.2-3", "MQTT-3.1.2-23", "MQTT-4.5.0-1")
@v311("MQTT-3.1.2-4", "MQTT-3.1.2-5", "MQTT-3.1.4-3", "MQTT-3.2.2-2", "MQTT-4.1.0-1")
@v311("MQTT-4.5.0-1")
@pytest.mark.parametrize("polite", [True, False], ids=["disconnect", "close"])
def test_a_session_is_resumed(join, version, name, polite):
    client = join(version, name, **DURABLE)
    assert not client.connack.session_present
    client.subscribe((f"{name}/1", 1), (f"{name}/2", 2), (f"{name}/0", 0))
    if polite:
        client.disconnect()
    else:
        client.close()
    other = join(version)
    other.publish(f"{name}/1", b"one", qos=2)
    other.publish(f"{name}/2", b"two", qos=2)
    client = join(version, name, **DURABLE)
    assert client.connack.session_present
    found = [client.receive() for _ in range(2)]
    assert sorted((each.payload, each.qos) for each in found) == [(b"one", 1), (b"two", 2)]
    other.publish(f"{name}/0", b"live")
    assert client.receive().payload == b"live"


@v5("MQTT-3.1.2-6", "MQTT-3.2.2-3")
@v311("MQTT-3.1.2-4", "MQTT-3.2.2-3")
def test_a_session_is_made_where_there_is_none(join, version, name):
    client = join(version, name, **DURABLE)
    assert not client.connack.session_present
    client.subscribe(name)
    client.close()
    assert join(version, name, **DURABLE).connack.session_present


@v5("MQTT-4.1.0-1")
@v311("MQTT-4.1.0-2")
def test_a_clean_session_lasts_as_long_as_its_connection(join, version, name):
    """Its QoS 2 state and its subscriptions are there for every packet of the connection."""
    client = join(version, name)
    client.subscribe(name, qos=1)
    client.send(publish(f"{name}/other", qos=2, packet_id=7, version=version))
    client.wait_for(5)
    client.quiet()
    client.publish(name, b"x")
    assert client.receive().payload == b"x"
    client.send(ack(6, 7))
    assert client.wait_for(7).reason == 0


@v5("MQTT-3.1.4-5", "MQTT-3.2.0-1")
@v311("MQTT-3.1.4-4", "MQTT-3.2.0-1")
def test_packets_may_follow_a_connect_at_once(dial, version, name):
    client = dial(version)
    client.send(connect(name, version=version), subscribe((name, 0), version=version), PING)
    assert client.read(CONNACK).reason == 0
    assert client.read(SUBACK).codes == [0]
    client.read(PINGRESP)


@v5("MQTT-3.1.4-6")
@v311("MQTT-3.1.4-5")
def test_nothing_is_processed_after_a_refused_connect(dial, join, version, name):
    watcher = join(version)
    watcher.subscribe(f"{name}/#")
    client = dial(version)
    client.send(
        connect(name, version=version, flags=0b0000_0011),
        publish(f"{name}/refused", b"x", retain=True, version=version),
        PING,
    )
    client.refused(*malformed(version))
    watcher.publish(f"{name}/barrier", qos=0)
    assert watcher.receive().topic == f"{name}/barrier"
    watcher.quiet()
    late = join(version)
    late.subscribe(f"{name}/refused")
    late.quiet()


@v5("MQTT-3.1.2-22", "MQTT-3.2.2-22")
@v311("MQTT-3.1.2-24")
def test_a_silent_client_is_disconnected_and_its_will_sent(join, version, name):
    watcher = join(version)
    watcher.subscribe(name)
    client = join(version, keep_alive=1, will=Will(name))
    assert client.connack.get(SERVER_KEEP_ALIVE, 1) == 1
    client.closed(0x8D)
    assert watcher.receive().topic == name


@v5("MQTT-3.12.4-1")
@v311("MQTT-3.12.4-1")
def test_every_ping_is_answered(join, version):
    client = join(version)
    client.send(PING * 20)
    for _ in range(20):
        assert client.read(PINGRESP).raw == b"\xd0\0"


@v5("MQTT-4.2.0-1", "MQTT-4.2-1")
@v311("MQTT-7.1.1-1", "MQTT-7.0.0-2")
def test_a_byte_stream_is_enough(dial, version, name):
    """TCP, nothing beside the specification, and the bytes arrive one by one."""
    client = dial(version)
    client.connect(name)
    for byte in subscribe((name, 0), version=version) + publish(name, b"x", version=version) + PING:
        client.send(bytes([byte]))
    assert client.wait_for(SUBACK).codes == [0]
    assert client.receive().payload == b"x"
    client.wait_for(PINGRESP)
