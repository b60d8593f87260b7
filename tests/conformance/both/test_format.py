"""Chapters 1 and 2: strings, lengths, flags, packet ids; and what is malformed is refused."""

import pytest

from ..packets import (
    CONNECT,
    DISCONNECT,
    NAMES,
    PINGREQ,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    SUBSCRIBE,
    UNSUBSCRIBE,
    V5,
    V311,
    Will,
    ack,
    binary,
    connect,
    packet,
    properties,
    publish,
    subscribe,
    u16,
    unsubscribe,
    varint,
)
from ..requirements import v5, v311

BAD_STRINGS = {
    "surrogate": b"a\xed\xa0\x80b",
    "overlong": b"a\xc0\xafb",
    "truncated": b"a\xe2\x82",
    "not utf-8": b"a\xffb",
    "beyond unicode": b"a\xf4\x90\x80\x80",
}
NULL = {"null": b"a\0b"}
IN_CONNECT = {
    "client id": lambda bad, version: connect(bad, version=version),
    "will topic": lambda bad, version: connect("x", version=version, will=Will(bad)),
    "user name": lambda bad, version: connect("x", version=version, username=bad),
}
AFTER_CONNECT = {
    "topic": lambda bad, version: publish(bad, version=version),
    "filter": lambda bad, version: subscribe((bad, 0), version=version),
    "second filter": lambda bad, version: subscribe(("a", 0), (bad, 0), version=version),
    "unsubscribed filter": lambda bad, version: unsubscribe(bad, version=version),
}


def parametrized(**tables):
    """Every combination of the named tables, each case by its name."""

    def decorate(test):
        for argument, table in tables.items():
            test = pytest.mark.parametrize(argument, table.values(), ids=table.keys())(test)
        return test

    return decorate


@v5("MQTT-1.5.4-1", "MQTT-3.1.3-4", "MQTT-3.1.3-11", "MQTT-3.1.3-12")
@v311("MQTT-1.5.3-1", "MQTT-3.1.3-4", "MQTT-3.1.3-10", "MQTT-3.1.3-11")
@parametrized(make=IN_CONNECT, bad=BAD_STRINGS)
def test_ill_formed_utf8_in_a_connect_is_refused(dial, version, make, bad):
    client = dial(version)
    client.send(make(bad, version))
    client.refused(*[0x81] * (version == V5))


@v5("MQTT-1.5.4-2", "MQTT-4.7.3-2")
@v311("MQTT-1.5.3-2", "MQTT-4.7.3-2")
@parametrized(make=IN_CONNECT, bad=NULL)
def test_a_null_character_in_a_connect_is_refused(dial, version, make, bad):
    client = dial(version)
    client.send(make(bad, version))
    client.refused(*[0x81] * (version == V5))


@v5("MQTT-1.5.4-1", "MQTT-3.3.2-1", "MQTT-3.8.3-1", "MQTT-3.10.3-1")
@v311("MQTT-1.5.3-1", "MQTT-3.3.2-1", "MQTT-3.8.3-1", "MQTT-3.10.3-1")
@parametrized(make=AFTER_CONNECT, bad=BAD_STRINGS)
def test_ill_formed_utf8_closes(join, version, make, bad):
    client = join(version)
    client.send(make(bad, version))
    client.closed(0x81)


@v5("MQTT-1.5.4-2", "MQTT-4.7.3-2")
@v311("MQTT-1.5.3-2", "MQTT-4.7.3-2")
@parametrized(make=AFTER_CONNECT, bad=NULL)
def test_a_null_character_closes(join, version, make, bad):
    client = join(version)
    client.send(make(bad, version))
    client.closed(0x81)


@v5("MQTT-1.5.4-3", "MQTT-4.7.3-4")
@v311("MQTT-1.5.3-3", "MQTT-4.7.3-4")
def test_no_character_is_stripped_or_normalized(join, version, name):
    """A byte order mark, and two spellings of one letter, are different topics."""
    client = join(version)
    topics = [f"{name}/{tail}" for tail in ("a", "\ufeffa", "\u00e9", "e\u0301", "A", "a ", " a")]
    for number, topic in enumerate(topics):
        client.subscribe(topic)
        client.publish(topic, b"%d" % number, qos=0)
        found = client.receive()
        assert (found.topic, found.payload) == (topic, b"%d" % number)
        client.quiet()
        client.unsubscribe(topic)


@v5("MQTT-1.5.5-1")
@parametrized(
    length={"five bytes": b"\x80\x80\x80\x80\x01", "no end": b"\xff\xff\xff\xff\xff\xff"},
    head={"PUBLISH": 0x30, "SUBSCRIBE": 0x82, "PINGREQ": 0xC0},
)
def test_a_remaining_length_beyond_four_bytes_closes(join, version, head, length):
    client = join(version)
    client.send(bytes([head]) + length)
    client.closed(0x81, 0x95)


@v5("MQTT-1.5.5-1")
@pytest.mark.parametrize("size", [0, 90, 127 - 4, 128 - 4, 16_383 - 5, 16_384 - 5, 70_000])
def test_lengths_around_every_border_are_read_and_written(join, version, name, size):
    """The decoder of the tests refuses lengths that are longer than they need to be."""
    client = join(version)
    client.subscribe(name)
    client.publish(name, b"x" * size, qos=0)
    assert client.receive().payload == b"x" * size


FLAGS = [
    (PUBACK, 0b0001, ack(PUBACK, 1)),
    (PUBREC, 0b0010, ack(PUBREC, 1)),
    (PUBREL, 0b0000, ack(PUBREL, 1)),
    (PUBREL, 0b0011, ack(PUBREL, 1)),
    (PUBREL, 0b1010, ack(PUBREL, 1)),
    (PUBCOMP, 0b0010, ack(PUBCOMP, 1)),
    (SUBSCRIBE, 0b0000, None),
    (SUBSCRIBE, 0b0011, None),
    (UNSUBSCRIBE, 0b0000, None),
    (UNSUBSCRIBE, 0b0110, None),
    (PINGREQ, 0b0001, b""),
    (DISCONNECT, 0b0001, b""),
    (DISCONNECT, 0b0010, b""),
]


@v5("MQTT-2.1.3-1", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1", "MQTT-3.14.1-1")
@v311("MQTT-2.2.2-1", "MQTT-2.2.2-2", "MQTT-3.6.1-1", "MQTT-3.8.1-1", "MQTT-3.10.1-1")
@v311("MQTT-3.14.1-1")
@pytest.mark.parametrize(
    ("kind", "flags", "whole"),
    FLAGS,
    ids=[f"{NAMES[kind]}-{flags:04b}" for kind, flags, _ in FLAGS],
)
def test_reserved_flags_close(join, version, name, kind, flags, whole):
    """Also of a packet that would be right with its own flags; for a DISCONNECT the will tells."""
    watcher = join(version)
    watcher.subscribe(f"{name}/will")
    client = join(version, will=Will(f"{name}/will"))
    body = whole[2:] if whole else b""
    if kind == SUBSCRIBE:
        body = subscribe(("a", 0), version=version)[2:]
    if kind == UNSUBSCRIBE:
        body = unsubscribe("a", version=version)[2:]
    client.send(packet(kind, flags, body))
    client.closed(0x81)
    assert watcher.receive().topic == f"{name}/will"


@v5("MQTT-2.1.3-1")
@v311("MQTT-2.2.2-1", "MQTT-2.2.2-2")
def test_reserved_flags_of_a_connect_are_refused(dial, version, name):
    client = dial(version)
    client.send(packet(CONNECT, 0b0010, connect(name, version=version)[2:]))
    client.refused(*[0x81] * (version == V5))


@v5("MQTT-3.3.1-4", "MQTT-4.13.1-1")
@v311("MQTT-3.3.1-4", "MQTT-4.8.0-1")
def test_qos_3_closes(join, version, name):
    client = join(version)
    client.send(packet(PUBLISH, 0b0110, publish(name, qos=1, version=version)[2:]))
    client.closed(0x81)


@v5("MQTT-2.2.1-2")
@v311("MQTT-2.3.1-5")
def test_at_qos_0_no_packet_id_is_read_or_written(join, version, name):
    """The payload begins where a packet id would stand."""
    client = join(version)
    client.subscribe(name)
    client.send(publish(name, b"\0\x01rest", version=version))
    assert client.receive().payload == b"\0\x01rest"


@v5("MQTT-2.2.1-3")
@v311("MQTT-2.3.1-1")
@pytest.mark.parametrize("kind", ["PUBLISH 1", "PUBLISH 2", "SUBSCRIBE", "UNSUBSCRIBE"])
def test_packet_id_0_closes(join, version, name, kind):
    client = join(version)
    client.send(
        {
            "PUBLISH 1": publish(name, qos=1, packet_id=0, version=version),
            "PUBLISH 2": publish(name, qos=2, packet_id=0, version=version),
            "SUBSCRIBE": subscribe((name, 0), packet_id=0, version=version),
            "UNSUBSCRIBE": unsubscribe(name, packet_id=0, version=version),
        }[kind]
    )
    client.closed(0x81, 0x82)


@v5("MQTT-2.2.1-5", "MQTT-2.2.1-6", "MQTT-3.8.4-2", "MQTT-4.3.2-4", "MQTT-4.3.3-8")
@v5("MQTT-4.3.3-11", "MQTT-3.3.4-1", "MQTT-3.10.4-4", "MQTT-3.8.4-1")
@v311("MQTT-2.3.1-6", "MQTT-2.3.1-7", "MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-3.10.4-4")
@v311("MQTT-3.3.4-1")
@pytest.mark.parametrize("number", [1, 255, 256, 65_535])
def test_acknowledgements_carry_the_packet_id(join, version, name, number):
    client = join(version)
    for sent, kind in [
        (publish(name, qos=1, packet_id=number, version=version), PUBACK),
        (publish(name, qos=2, packet_id=number, version=version), PUBREC),
        (ack(PUBREL, number), PUBCOMP),
        (subscribe((name, 0), packet_id=number, version=version), SUBSCRIBE + 1),
        (unsubscribe(name, packet_id=number, version=version), UNSUBSCRIBE + 1),
    ]:
        client.send(sent)
        found = client.read(kind)
        assert found.packet_id == number


@v5("MQTT-3.3.4-1", "MQTT-4.3.1-1")
@v311("MQTT-3.3.4-1", "MQTT-4.3.1-1")
def test_qos_0_is_not_acknowledged(join, version, name):
    client, other = join(version), join(version)
    other.subscribe(name, qos=2)
    client.send(publish(name, b"x", version=version))
    found = other.receive()
    assert (found.qos, found.dup, found.payload) == (0, False, b"x")
    client.quiet()


SHORT = {
    "PUBLISH without a topic": lambda version: packet(PUBLISH, 0, b""),
    "PUBLISH with half a topic": lambda version: packet(PUBLISH, 0, b"\0\x05abc"),
    "PUBLISH without its packet id": lambda version: packet(PUBLISH, 2, binary("abc")),
    "PUBACK without a packet id": lambda version: packet(PUBACK, 0, b""),
    "PUBACK with half a packet id": lambda version: packet(PUBACK, 0, b"\x01"),
    "PUBREC without a packet id": lambda version: packet(PUBREC, 0, b""),
    "PUBREL without a packet id": lambda version: packet(PUBREL, 2, b""),
    "PUBCOMP without a packet id": lambda version: packet(PUBCOMP, 0, b"\0"),
    "SUBSCRIBE without a packet id": lambda version: packet(SUBSCRIBE, 2, b""),
    "SUBSCRIBE with half a filter": lambda version: packet(
        SUBSCRIBE, 2, u16(1) + properties(None, version) + b"\0\x05ab"
    ),
    "SUBSCRIBE without options": lambda version: packet(
        SUBSCRIBE, 2, u16(1) + properties(None, version) + binary("ab")
    ),
    "UNSUBSCRIBE without a packet id": lambda version: packet(UNSUBSCRIBE, 2, b""),
    "UNSUBSCRIBE with half a filter": lambda version: packet(
        UNSUBSCRIBE, 2, u16(1) + properties(None, version) + b"\0\x05ab"
    ),
    "PINGREQ with a body": lambda version: packet(PINGREQ, 0, b"\0"),
}
LONG = {
    "PUBACK": lambda version: packet(PUBACK, 0, u16(1) + b"\0\0\0"),
    "PUBREC": lambda version: packet(PUBREC, 0, u16(1) + b"\0\0\0"),
    "PUBREL": lambda version: packet(PUBREL, 2, u16(1) + b"\0\0\0"),
    "PUBCOMP": lambda version: packet(PUBCOMP, 0, u16(1) + b"\0\0\0"),
    "DISCONNECT": lambda version: packet(DISCONNECT, 0, b"\0\0\0"),
}


@v5("MQTT-4.13.1-1")
@v311("MQTT-4.8.0-1")
@parametrized(make={**SHORT, **LONG})
def test_a_body_that_is_too_short_or_too_long_closes(join, version, make):
    client = join(version)
    client.send(make(version))
    client.closed(0x81, 0x82)


@v5("MQTT-4.13.1-1")
@v311("MQTT-4.8.0-1")
@pytest.mark.parametrize("kind", [0, 2, 9, 11, 13, 15])
def test_packets_that_only_a_server_sends_close(join, version, kind):
    client = join(version)
    body = {2: b"\0\0", 9: u16(1) + b"\0\0", 11: u16(1) + b"\0\0", 15: b"\x18\0"}
    if version == V311:
        body = {2: b"\0\0", 9: u16(1) + b"\0", 11: u16(1), 15: b""}
    client.send(packet(kind, 0, body.get(kind, b"")))
    client.closed(0x81, 0x82)


@v5("MQTT-4.13.1-1")
@v311("MQTT-4.8.0-1")
def test_one_clients_error_leaves_the_others_alone(join, version, name):
    other = join(version)
    other.subscribe(name)
    for _ in range(3):
        client = join(version)
        client.send(b"\x30" + varint(2) + u16(9))
        client.closed(0x81)
    other.publish(name, b"still here", qos=0)
    assert other.receive().payload == b"still here"
