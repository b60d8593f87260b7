"""Section 3.3 of version 5: properties of messages, topic aliases, expiry, the receive maximum."""

import time

import pytest

from ..packets import (
    CONTENT_TYPE,
    CORRELATION_DATA,
    DURABLE,
    MESSAGE_EXPIRY,
    PAYLOAD_FORMAT,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    RECEIVE_MAXIMUM,
    RESPONSE_TOPIC,
    SESSION_EXPIRY,
    SUBSCRIPTION_ID,
    TOPIC_ALIAS,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
    V5,
    V311,
    ack,
    publish,
)
from ..requirements import v5

UNALTERED = [
    (PAYLOAD_FORMAT, 1),
    (CONTENT_TYPE, "text/plain; charset=\u00e9"),
    (RESPONSE_TOPIC, "answers/\u4e16"),
    (CORRELATION_DATA, bytes(range(256))),
    (USER_PROPERTY, ("key", "1")),
    (USER_PROPERTY, ("another", "2")),
    (USER_PROPERTY, ("key", "")),
    (USER_PROPERTY, ("", "x" * 300)),
]


@v5("MQTT-3.3.2-4", "MQTT-3.3.2-15", "MQTT-3.3.2-16", "MQTT-3.3.2-17", "MQTT-3.3.2-18")
@v5("MQTT-3.3.2-20")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("how", ["live", "retained", "stored"])
def test_properties_are_passed_on_unaltered(join, name, how, qos):
    """Live, retained, and from a session that was away; to every subscriber alike."""
    watcher = join(client_id=f"{name}-id", **DURABLE)
    if how != "retained":
        watcher.subscribe(name, qos=2)
    if how == "stored":
        watcher.disconnect()
    join().publish(name, b"text", qos=qos or 1, retain=how == "retained", properties=UNALTERED)
    if how == "stored":
        watcher = join(client_id=f"{name}-id", **DURABLE)
    if how == "retained":
        watcher.subscribe(name, qos=qos)
    found = watcher.receive()
    assert [each for each in found.properties if each[0] != USER_PROPERTY] == UNALTERED[:4] or (
        dict(found.properties[:4]) == dict(UNALTERED[:4])
    )
    assert found.all(USER_PROPERTY) == [value for key, value in UNALTERED if key == USER_PROPERTY]


@v5("MQTT-3.3.2-4", "MQTT-3.3.2-17")
def test_what_was_not_said_is_not_added(join, name):
    client = join()
    client.subscribe(name)
    client.publish(name, b"x", qos=0, properties=[(PAYLOAD_FORMAT, 0)])
    assert client.receive().properties in ([], [(PAYLOAD_FORMAT, 0)])
    client.publish(name, b"x", qos=0)
    assert client.receive().properties == []


def test_a_message_with_properties_reaches_every_version(join, name):
    old, new = join(V311), join(V5)
    for client in (old, new):
        client.subscribe(name, qos=1)
    join(V5).publish(name, b"x", properties=UNALTERED)
    join(V311).publish(name, b"y")
    assert old.payloads(2) == new.payloads(2) == [b"x", b"y"]


BAD = {
    "ill-formed response topic": [(RESPONSE_TOPIC, b"a\xff")],
    "ill-formed content type": [(CONTENT_TYPE, b"a\xff")],
    "response topic with #": [(RESPONSE_TOPIC, "a/#")],
    "response topic with +": [(RESPONSE_TOPIC, "+/a")],
    "response topic twice": [(RESPONSE_TOPIC, "a"), (RESPONSE_TOPIC, "a")],
    "content type twice": [(CONTENT_TYPE, "a"), (CONTENT_TYPE, "a")],
    "correlation data twice": [(CORRELATION_DATA, b"a"), (CORRELATION_DATA, b"a")],
    "format twice": [(PAYLOAD_FORMAT, 1), (PAYLOAD_FORMAT, 1)],
    "expiry twice": [(MESSAGE_EXPIRY, 1), (MESSAGE_EXPIRY, 1)],
    "alias twice": [(TOPIC_ALIAS, 1), (TOPIC_ALIAS, 1)],
    "subscription id": [(SUBSCRIPTION_ID, 1)],
    "of CONNECT": [(SESSION_EXPIRY, 1)],
    "of CONNACK": [(0x24, 1)],
    "unknown": b"\x02\x7f\x01",
    "cut short": b"\x03\x02\0\0",
    "beyond the packet": b"\x7f\x02\0\0\0\1",
    "cut pair": b"\x05\x26\0\1a\0",
}


@v5("MQTT-3.3.2-13", "MQTT-3.3.2-14", "MQTT-3.3.2-19", "MQTT-3.3.4-6", "MQTT-4.13.1-1")
@pytest.mark.parametrize("properties", BAD.values(), ids=BAD)
@pytest.mark.parametrize("qos", [0, 1])
def test_a_bad_property_closes(join, name, qos, properties):
    client = join()
    client.send(publish(name, b"x", qos=qos, properties=properties))
    assert PUBACK not in [each.kind for each in client.closed(0x81, 0x82, 0x90)]


# --- topic aliases ---


def alias_maximum(client):
    found = client.connack.get(TOPIC_ALIAS_MAXIMUM, 0)
    if not found:
        pytest.skip("this broker takes no topic aliases")
    return found


@v5("MQTT-3.3.2-12")
def test_every_alias_up_to_the_maximum_is_accepted(join, name):
    client = join()
    maximum = alias_maximum(client)
    client.subscribe(f"{name}/+")
    for alias in range(1, maximum + 1):
        client.publish(f"{name}/{alias}", qos=0, properties=[(TOPIC_ALIAS, alias)])
        assert client.receive().topic == f"{name}/{alias}"
    for alias in range(maximum, 0, -1):
        client.publish("", qos=1, properties=[(TOPIC_ALIAS, alias)])
        assert client.receive().topic == f"{name}/{alias}"


@v5("MQTT-3.3.2-12")
def test_an_alias_can_be_given_another_topic(join, name):
    client = join()
    alias_maximum(client)
    client.subscribe(f"{name}/+")
    for topic in ("a", "b"):
        client.publish(f"{name}/{topic}", qos=0, properties=[(TOPIC_ALIAS, 1)])
        client.publish("", qos=0, properties=[(TOPIC_ALIAS, 1)])
        assert [client.receive().topic for _ in range(2)] == [f"{name}/{topic}"] * 2


@v5("MQTT-3.3.2-8", "MQTT-3.3.2-9", "MQTT-3.2.2-17")
@pytest.mark.parametrize("alias", ["0", "maximum + 1", "65535"])
def test_an_alias_out_of_range_closes(join, name, alias):
    client = join()
    maximum = client.connack.get(TOPIC_ALIAS_MAXIMUM, 0)
    number = {"0": 0, "maximum + 1": maximum + 1, "65535": 65_535}[alias]
    client.send(publish(name, properties=[(TOPIC_ALIAS, number)]))
    client.closed(0x94)


@v5("MQTT-3.2.2-18", "MQTT-3.2.2-17")
def test_no_alias_is_accepted_where_none_is_allowed(configured, name):
    client = configured(topic_alias_maximum=0)()
    client.connect(name)
    assert not client.connack.get(TOPIC_ALIAS_MAXIMUM, 0)
    client.send(publish(name, properties=[(TOPIC_ALIAS, 1)]))
    client.closed(0x94)


@v5("MQTT-3.3.2-7")
def test_aliases_end_with_the_connection(join, name):
    """An empty topic with an alias that this connection never set is a protocol error."""
    client = join(client_id=name, **DURABLE)
    alias_maximum(client)
    client.publish(f"{name}/a", properties=[(TOPIC_ALIAS, 1)])
    client.close()
    client = join(client_id=name, **DURABLE)
    client.send(publish("", properties=[(TOPIC_ALIAS, 1)]))
    client.closed(0x82, 0x94, 0x81)


@v5("MQTT-3.1.2-26", "MQTT-3.1.2-27", "MQTT-3.3.2-11")
@pytest.mark.parametrize("maximum", [0, None, 1, 3])
def test_no_alias_beyond_the_clients_maximum(join, name, maximum):
    """Whatever aliases the broker uses, they lead to the right topics."""
    properties = [] if maximum is None else [(TOPIC_ALIAS_MAXIMUM, maximum)]
    client, other = join(properties=properties), join()
    client.subscribe(f"{name}/+")
    aliases: dict[int, str] = {}
    for number in range(24):
        topic = f"{name}/{number % 6}"
        other.publish(topic, qos=0)
        found = client.receive()
        alias = found.get(TOPIC_ALIAS)
        assert alias is None or 0 < alias <= (maximum or 0), found
        if alias and found.topic:
            aliases[alias] = found.topic
        assert (found.topic or aliases[alias]) == topic


@v5("MQTT-3.3.2-7")
def test_the_broker_sets_its_aliases_anew_in_each_connection(join, name):
    options = {**DURABLE, "properties": [(SESSION_EXPIRY, 300), (TOPIC_ALIAS_MAXIMUM, 5)]}
    other = join()
    for connection in range(2):
        client = join(client_id=f"{name}-id", **options)
        if not connection:
            client.subscribe(name, qos=1)
        other.publish(name)
        assert client.receive().topic == name
        client.close()


# --- message expiry ---


@v5("MQTT-3.3.2-5", "MQTT-3.3.2-6")
def test_a_message_expires_while_it_waits(join, name):
    client = join(client_id=name, **DURABLE)
    client.subscribe(name, qos=2)
    client.disconnect()
    other = join()
    for body, expiry in ((b"brief", 1), (b"long", 100), (b"forever", None)):
        properties = [] if expiry is None else [(MESSAGE_EXPIRY, expiry)]
        other.publish(name, body, qos=2, properties=properties)
    other.publish(f"{name}/r", b"brief", retain=True, properties=[(MESSAGE_EXPIRY, 1)])
    other.publish(f"{name}/r/x", b"long", retain=True, properties=[(MESSAGE_EXPIRY, 100)])
    time.sleep(2.2)
    client = join(client_id=name, **DURABLE)
    found = [client.receive() for _ in range(2)]
    assert [each.payload for each in found] == [b"long", b"forever"]
    assert 0 < found[0].get(MESSAGE_EXPIRY) <= 98
    assert found[1].get(MESSAGE_EXPIRY) is None
    client.quiet()
    client.subscribe(f"{name}/r/#")
    kept = client.receive()
    assert (kept.payload, kept.get(MESSAGE_EXPIRY) <= 98) == (b"long", True)
    client.quiet()


@v5("MQTT-4.3.3-7", "MQTT-4.3.3-13")
@pytest.mark.parametrize("away", [False, True], ids=["connected", "away"])
def test_a_message_that_was_sent_does_not_expire(join, name, away):
    """Its exchange goes on, also over another connection, after its time is over."""
    client = join(client_id=name, **DURABLE)
    client.subscribe(name, qos=2)
    join().publish(name, b"x", qos=2, properties=[(MESSAGE_EXPIRY, 1)])
    first = client.receive(acknowledge=False)
    if away:
        client.close()
    time.sleep(1.5)
    if away:
        client = join(client_id=name, **DURABLE)
        again = client.receive(acknowledge=False)
        assert (again.packet_id, again.payload, again.dup) == (first.packet_id, b"x", True)
    client.send(ack(PUBREC, first.packet_id))
    assert client.read(PUBREL).packet_id == first.packet_id
    client.send(ack(PUBCOMP, first.packet_id))
    client.quiet()


@v5("MQTT-4.3.3-13")
def test_an_incoming_exchange_ends_although_its_message_expired(join, name):
    client = join()
    client.send(publish(name, qos=2, packet_id=3, properties=[(MESSAGE_EXPIRY, 1)]))
    client.read(PUBREC)
    time.sleep(1.2)
    client.send(ack(PUBREL, 3))
    found = client.read(PUBCOMP)
    assert (found.packet_id, found.reason) == (3, 0)


# --- acknowledgements with an error ---


@v5("MQTT-4.4.0-2")
@pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
def test_a_refused_message_is_done_with(join, name, qos, kind):
    client = join(client_id=name, **DURABLE)
    client.subscribe(name, qos=qos)
    join().publish(name, b"x", qos=qos)
    client.send(ack(kind, client.receive(acknowledge=False).packet_id, 0x83))
    client.quiet()
    client.close()
    join(client_id=name, **DURABLE).quiet()


# --- flow control ---


@v5("MQTT-3.3.4-9", "MQTT-3.3.4-10", "MQTT-4.9.0-1", "MQTT-4.9.0-2", "MQTT-4.9.0-3")
@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("maximum", [1, 3])
def test_the_clients_receive_maximum(join, name, qos, maximum):
    """Never more unacknowledged messages than it, and everything else is answered meanwhile."""
    client, other = join(properties=[(RECEIVE_MAXIMUM, maximum)]), join()
    client.subscribe(name, qos=qos)
    for number in range(maximum + 4):
        other.publish(name, b"%d" % number, qos=qos)
    waiting = [client.receive(acknowledge=False) for _ in range(maximum)]
    client.quiet()
    client.subscribe(f"{name}/other")
    assert client.publish(f"{name}/third", b"x").reason in (0, 0x10)
    client.publish(f"{name}/third", b"x", qos=2)
    client.unsubscribe(f"{name}/other")
    client.quiet()
    for number in range(4):
        first = waiting.pop(0)
        assert first.payload == b"%d" % number
        if qos == 1:
            client.send(ack(PUBACK, first.packet_id))
        else:
            client.send(ack(PUBREC, first.packet_id))
            client.read(PUBREL)
            client.quiet()  # only PUBCOMP gives the quota back
            client.send(ack(PUBCOMP, first.packet_id))
        waiting.append(client.receive(acknowledge=False))
        client.quiet()


@v5("MQTT-4.9.0-2", "MQTT-3.3.4-9")
def test_a_refusing_pubrec_gives_the_quota_back(join, name):
    client, other = join(properties=[(RECEIVE_MAXIMUM, 1)]), join()
    client.subscribe(name, qos=2)
    for number in range(3):
        other.publish(name, b"%d" % number, qos=2)
    for number in range(3):
        found = client.receive(acknowledge=False)
        assert found.payload == b"%d" % number
        client.quiet()
        client.send(ack(PUBREC, found.packet_id, 0x80))
    client.quiet()


@v5("MQTT-3.3.4-9", "MQTT-4.4.0-1")
def test_the_receive_maximum_counts_for_resent_messages(join, name):
    client, other = join(client_id=name, **DURABLE), join()
    client.subscribe(name, qos=1)
    for number in range(5):
        other.publish(name, b"%d" % number)
    for _ in range(5):
        client.receive(acknowledge=False)
    client.close()
    options = {**DURABLE, "properties": [(SESSION_EXPIRY, 300), (RECEIVE_MAXIMUM, 2)]}
    client = join(client_id=name, **options)
    found = [client.receive(acknowledge=False) for _ in range(2)]
    client.quiet()
    for number in range(2, 5):
        client.send(ack(PUBACK, found.pop(0).packet_id))
        found.append(client.receive(acknowledge=False))
        assert found[-1].payload == b"%d" % number
        client.quiet()


@v5("MQTT-3.3.4-7")
def test_the_brokers_receive_maximum(configured, name):
    """A message beyond it closes; acknowledged ones count no more, resent ones count once."""
    client = configured(receive_maximum=3, receive_maximum_strict=True)()
    client.connect(name)
    assert client.connack.get(RECEIVE_MAXIMUM) == 3
    for packet_id in (1, 2, 3):
        client.send(publish(name, qos=2, packet_id=packet_id))
        client.read(PUBREC)
    client.send(ack(PUBREL, 2))
    client.read(PUBCOMP)
    client.send(publish(name, qos=2, packet_id=2), publish(name, qos=2, packet_id=2, dup=True))
    for _ in range(2):
        assert client.read(PUBREC).packet_id == 2
    client.send(publish(name, qos=2, packet_id=4))
    client.closed(0x93)
