"""Sections 3.8 to 3.11: SUBSCRIBE and UNSUBSCRIBE."""

import pytest

from ..packets import (
    NO_LOCAL,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    RETAIN_NEVER,
    SUBACK,
    SUBSCRIBE,
    UNSUBACK,
    UNSUBSCRIBE,
    V5,
    V311,
    ack,
    packet,
    properties,
    publish,
    subscribe,
    u16,
    unsubscribe,
)
from ..requirements import v5, v311


@v5("MQTT-3.8.3-2")
@v311("MQTT-3.8.3-3", "MQTT-4.8.0-1")
def test_a_subscribe_without_filters_closes(join, version):
    client = join(version)
    client.send(packet(SUBSCRIBE, 2, u16(1) + properties(None, version)))
    client.closed(0x82, 0x81)


@v5("MQTT-3.10.3-2")
@v311("MQTT-3.10.3-2", "MQTT-4.8.0-1")
def test_an_unsubscribe_without_filters_closes(join, version):
    client = join(version)
    client.send(packet(UNSUBSCRIBE, 2, u16(1) + properties(None, version)))
    client.closed(0x82, 0x81)


@v5("MQTT-3.8.3-5")
@v311("MQTT-3-8.3-4")
@pytest.mark.parametrize("bits", [0x40, 0x80, 0xC0, 0x03])
def test_reserved_option_bits_close(join, version, name, bits):
    client = join(version)
    client.send(subscribe((name, bits), version=version))
    client.closed(0x81, 0x82)


@v311("MQTT-3-8.3-4")
@pytest.mark.parametrize("bits", [0x04, 0x08, 0x10, 0x20, 0x05, 0xFC])
def test_options_of_version_5_close_before_it(join, name, bits):
    client = join(V311)
    client.send(subscribe((name, bits), version=V311))
    client.closed()


@v5("MQTT-3.8.4-5", "MQTT-3.8.4-6", "MQTT-3.9.3-1", "MQTT-3.8.4-1", "MQTT-3.9.3-2")
@v311("MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.8.4-1", "MQTT-3.9.3-2")
def test_many_filters_get_one_suback_in_order(join, version, name):
    client = join(version)
    wanted = [number % 3 for number in range(40)]
    assert client.subscribe(*[(f"{name}/{n}", qos) for n, qos in enumerate(wanted)]) == wanted
    client.quiet()
    for number, qos in enumerate(wanted):
        client.publish(f"{name}/{number}", qos=2)
        assert client.receive().qos == qos


@v5("MQTT-3.8.4-5", "MQTT-3.8.4-3")
@v311("MQTT-3.8.4-4", "MQTT-3.8.4-3")
def test_the_last_of_equal_filters_in_one_packet_counts(join, version, name):
    client = join(version)
    assert client.subscribe((name, 2), (name, 0), (name, 1)) == [2, 0, 1]
    client.publish(name, qos=2)
    assert client.receive().qos == 1
    client.quiet()


@v5("MQTT-3.8.4-3", "MQTT-3.8.4-4", "MQTT-3.3.1-9")
@v311("MQTT-3.8.4-3")
def test_an_equal_filter_replaces_the_subscription(join, version, name):
    """The new QoS holds, the retained message comes again, no message comes twice."""
    client = join(version)
    client.publish(f"{name}/a", b"kept", qos=2, retain=True)
    for qos in (2, 0, 1):
        assert client.subscribe(f"{name}/+", qos=qos) == [qos]
        found = client.receive()
        assert (found.payload, found.qos, found.retain) == (b"kept", qos, True)
        client.publish(f"{name}/b", b"live", qos=2)
        assert client.receive().qos == qos
        client.quiet()


@v5("MQTT-3.8.4-4")
@v311("MQTT-3.8.4-3")
def test_no_message_is_lost_when_a_subscription_is_replaced(join, version, name):
    """Messages are published all the time while the client subscribes again and again."""
    client, other = join(version), join(version)
    client.subscribe(name, qos=1)
    for number in range(30):
        other.send(publish(name, b"%d" % number, qos=1, packet_id=number + 1, version=version))
        again = subscribe((name, 1), packet_id=100 + number, version=version)
        client.send(again)
    found = client.payloads(30)
    assert found == [b"%d" % number for number in range(30)]
    for _ in range(30):
        client.wait_for(SUBACK)
    client.quiet()


@v5("MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4", "MQTT-3.11.3-2")
@v311("MQTT-3.10.4-1", "MQTT-3.10.4-2", "MQTT-3.10.4-4")
@pytest.mark.parametrize("tail", ["a", "+", "#", "a/+/b"])
def test_unsubscribe_ends_the_subscription(join, version, name, tail):
    client = join(version)
    client.subscribe(f"{name}/{tail}", qos=1)
    assert client.unsubscribe(f"{name}/{tail}") == ([0] if version == V5 else [])
    client.publish(f"{name}/a")
    client.publish(f"{name}/a/x/b")
    client.quiet()


@v5("MQTT-3.10.4-1", "MQTT-3.10.4-5", "MQTT-3.11.3-2")
@v311("MQTT-3.10.4-1", "MQTT-3.10.4-5")
def test_only_the_very_same_filter_is_unsubscribed(join, version, name):
    client = join(version)
    client.subscribe(f"{name}/+", qos=1)
    for other in (f"{name}/a", f"{name}/#", f"{name}/", f"{name}/+/", "#", name.upper() + "/+"):
        assert client.unsubscribe(other) == ([0x11] if version == V5 else [])
    client.publish(f"{name}/a", b"still")
    assert client.receive().payload == b"still"


@v5("MQTT-3.10.4-6", "MQTT-3.11.3-1", "MQTT-3.11.3-2")
@v311("MQTT-3.10.4-6")
def test_many_filters_get_one_unsuback_in_order(join, version, name):
    client = join(version)
    client.subscribe(*[f"{name}/{number}" for number in range(0, 20, 2)])
    codes = client.unsubscribe(*[f"{name}/{number}" for number in range(20)])
    assert codes == ([0, 0x11] * 10 if version == V5 else [])
    client.quiet()
    for number in range(20):
        client.publish(f"{name}/{number}")
    client.quiet()


@v5("MQTT-3.10.4-3")
@v311("MQTT-3.10.4-3")
def test_what_was_sent_before_an_unsubscribe_is_completed(join, version, name):
    client, other = join(version), join(version)
    client.subscribe(name, qos=2)
    other.publish(name, b"started", qos=2)
    found = client.receive(acknowledge=False)
    client.unsubscribe(name)
    client.send(ack(PUBREC, found.packet_id))
    assert client.wait_for(PUBREL).packet_id == found.packet_id
    client.send(ack(PUBCOMP, found.packet_id))
    client.quiet()


@v5("MQTT-3.8.4-1", "MQTT-3.10.4-4")
@v311("MQTT-3.8.4-1", "MQTT-3.10.4-4")
def test_everything_in_one_write_is_answered(join, version, name):
    client = join(version)
    client.send(
        subscribe((name, 1), packet_id=3, version=version),
        publish(name, b"x", qos=1, packet_id=4, version=version),
        unsubscribe(name, packet_id=5, version=version),
        b"\xc0\0",
    )
    assert client.wait_for(SUBACK).packet_id == 3
    assert client.wait_for(PUBACK).packet_id == 4
    assert client.wait_for(UNSUBACK).packet_id == 5
    client.wait_for(PINGRESP)
    assert client.receive().payload == b"x"


@v5("MQTT-3.8.3-3", "MQTT-3.8.4-3")
def test_no_local(join, name):
    """Until the subscription is replaced by one without the option."""
    client, other = join(V5), join(V5)
    client.subscribe((name, NO_LOCAL | RETAIN_NEVER | 1))
    client.publish(name, b"own")
    other.publish(name, b"of another")
    assert client.receive().payload == b"of another"
    client.quiet()
    client.subscribe((name, 1))
    client.publish(name, b"own")
    assert client.receive().payload == b"own"


@v5("MQTT-3.8.3-1", "MQTT-3.8.4-6")
@v311("MQTT-3.8.3-2")
def test_wildcards_are_supported_or_refused(join, version, name):
    """A broker that does not support wildcards must refuse; one that grants must deliver."""
    client = join(version)
    [code] = client.subscribe(f"{name}/+/#", qos=1)
    client.publish(f"{name}/a/b/c", b"x")
    if code < 0x80:
        assert client.receive().topic == f"{name}/a/b/c"
    client.quiet()
