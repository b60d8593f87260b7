"""Sections 3.1 and 3.2 of version 5: what CONNECT asks for and CONNACK tells."""

import pytest

from ..client import Closed
from ..packets import (
    ASSIGNED_CLIENT_ID,
    AUTH_METHOD,
    CONNACK,
    DISCONNECT,
    DURABLE,
    MAXIMUM_PACKET_SIZE,
    MAXIMUM_QOS,
    REASON_STRING,
    RECEIVE_MAXIMUM,
    REQUEST_PROBLEM_INFO,
    REQUEST_RESPONSE_INFO,
    RESPONSE_INFO,
    RETAIN_AVAILABLE,
    SERVER_KEEP_ALIVE,
    SESSION_EXPIRY,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
    WILL_DELAY,
    Will,
    binary,
    connect,
    one_property,
    publish,
    varint,
)
from ..requirements import v5


@v5("MQTT-3.2.2-1", "MQTT-2.2.2-1", "MQTT-3.2.0-1", "MQTT-3.2.2-8")
def test_a_connack_ends_with_its_properties(join, name):
    """The decoder of the tests refuses reserved bits and a missing Property Length."""
    client = join(client_id=name)
    assert client.connack.kind == CONNACK
    assert client.connack.body[:2] == b"\0\0"
    assert len(client.connack.body) > 2


@v5("MQTT-2.2.2-1")
def test_a_missing_property_length_is_refused(dial, name):
    """Without it the length of the client id is read as one, and nothing fits any more."""
    client = dial()
    client.send(connect(name, properties=b""))
    client.refused(0x81, 0x82)


@v5("MQTT-3.1.3-7", "MQTT-3.1.3-6")
def test_an_assigned_client_id_is_as_good_as_any(join, name):
    client = join(client_id="", **DURABLE)
    assigned = client.connack.get(ASSIGNED_CLIENT_ID)
    assert assigned
    client.subscribe(name, qos=1)
    client.close()
    join().publish(name, b"kept")
    again = join(client_id=assigned, **DURABLE)
    assert again.connack.session_present
    assert again.connack.get(ASSIGNED_CLIENT_ID) is None
    assert again.receive().payload == b"kept"


@v5("MQTT-3.1.3-8", "MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-3.2.2-8")
@pytest.mark.parametrize("size", [24, 300, 65_535])
def test_a_client_id_is_accepted_or_refused_with_0x85(dial, size):
    client = dial()
    client.send(connect("x" * size))
    try:
        found = client.read(CONNACK)
    except Closed:
        return
    assert found.reason in (0, 0x85)
    if found.reason:
        assert client.closed() == []
    else:
        client.quiet()


@v5("MQTT-3.2.2-6", "MQTT-3.2.2-7", "MQTT-4.12.0-1", "MQTT-3.1.4-2", "MQTT-4.13.2-1")
def test_an_unknown_authentication_method_is_refused(dial, join, name):
    """Session Present stays 0, although there is a session."""
    join(client_id=name, **DURABLE).close()
    client = dial()
    client.send(connect(name, clean=False, properties=[(AUTH_METHOD, "no-such-method")]))
    found = client.refused(0x8C, 0x87)
    assert found is None or not found.session_present


@v5("MQTT-3.1.2-28")
@pytest.mark.parametrize("asked", [[], [(REQUEST_RESPONSE_INFO, 0)]], ids=["default", "0"])
def test_no_response_information_unless_asked(join, configured, asked):
    client = join(properties=asked)
    assert client.connack.get(RESPONSE_INFO) is None
    client = configured(response_information="answers/")()
    client.connect("x", properties=asked)
    assert client.connack.get(RESPONSE_INFO) is None


def test_the_keep_alive_of_the_server_counts(configured):
    client = configured(server_keep_alive_seconds=1)()
    client.connect("x", keep_alive=600)
    assert client.connack.get(SERVER_KEEP_ALIVE) == 1
    client.closed(0x8D)


@v5("MQTT-3.2.2-9")
def test_without_a_maximum_qos_every_qos_is_supported(join, name):
    client = join()
    allowed = client.connack.get(MAXIMUM_QOS, 2)
    client.subscribe(name, qos=2)
    for qos in range(allowed + 1):
        client.publish(name, b"x", qos=qos)
        assert client.receive().qos == qos


@v5("MQTT-3.2.2-9", "MQTT-3.2.2-10", "MQTT-3.2.2-11")
@pytest.mark.parametrize("maximum", [0, 1])
def test_a_maximum_qos(configured, name, maximum):
    dial = configured(maximum_qos=maximum)
    client = dial()
    client.connect(name)
    assert client.connack.get(MAXIMUM_QOS) == maximum
    assert client.subscribe((name, 0), (name, 1), (name, 2)) == [0, min(maximum, 1), maximum]
    for qos in range(maximum + 1):
        client.publish(name, b"x", qos=qos)
        assert client.receive().qos == qos
    client.send(publish(name, qos=maximum + 1))
    client.closed(0x9B)


@v5("MQTT-3.2.2-12")
@pytest.mark.parametrize("maximum", [0, 1])
def test_a_will_beyond_the_maximum_qos_is_refused(configured, name, maximum):
    client = configured(maximum_qos=maximum)()
    client.send(connect(name, will=Will(name, qos=maximum + 1)))
    client.refused(0x9B)


@v5("MQTT-3.2.2-13")
def test_a_retained_will_is_refused_where_nothing_is_retained(configured, name):
    dial = configured(retain_available=False)
    client = dial()
    client.send(connect(name, will=Will(name, retain=True)))
    client.refused(0x9A)
    client = dial()
    client.connect(name, will=Will(name))


@v5("MQTT-3.2.2-14")
def test_a_retained_message_closes_where_nothing_is_retained(configured, name):
    client = configured(retain_available=False)()
    client.connect(name)
    assert client.connack.get(RETAIN_AVAILABLE) == 0
    client.send(publish(name, b"x", retain=True))
    client.closed(0x9A)


@v5("MQTT-3.2.2-15")
def test_a_packet_beyond_the_maximum_packet_size_closes(configured, name):
    dial = configured(maximum_packet_size_bytes=2_000)
    client = dial()
    client.connect(name)
    assert client.connack.get(MAXIMUM_PACKET_SIZE) == 2_000
    body = publish(name, b"")
    client.subscribe(name)
    fits = publish(name, b"x" * (2_000 - len(body) - 1))
    assert len(fits) == 2_000
    client.send(fits)
    assert len(client.receive().payload) == 2_000 - len(body) - 1
    client.send(publish(name, b"x" * (2_000 - len(body))))
    client.closed(0x95)


@v5("MQTT-3.2.2-19", "MQTT-3.2.2-20")
@pytest.mark.parametrize("refused", [True, False])
def test_diagnostics_do_not_make_a_connack_too_large(dial, name, refused):
    """The reader holds every packet to the maximum; the bare CONNACK is measured first."""
    client = dial()
    properties = [(AUTH_METHOD, "none-such")] if refused else []
    client.send(connect(name, properties=properties))
    bare = client.read(CONNACK)
    more = sum(len(one_property(*each)) for each in bare.properties if each[0] in (0x1F, 0x26))
    client = dial()
    if bare.reason:
        client.maximum = 5  # head, length, flags, reason, no properties
    else:
        client.maximum = len(bare.raw) - more
    client.send(connect(name, properties=[(MAXIMUM_PACKET_SIZE, client.maximum), *properties]))
    found = client.read(CONNACK)
    assert found.reason == bare.reason
    assert not found.all(REASON_STRING) and not found.all(USER_PROPERTY)


BAD_PROPERTIES = {
    "receive maximum 0": [(RECEIVE_MAXIMUM, 0)],
    "packet size 0": [(MAXIMUM_PACKET_SIZE, 0)],
    "request problem 2": [(REQUEST_PROBLEM_INFO, 2)],
    "request response 2": [(REQUEST_RESPONSE_INFO, 2)],
    "session expiry twice": [(SESSION_EXPIRY, 1), (SESSION_EXPIRY, 1)],
    "receive maximum twice": [(RECEIVE_MAXIMUM, 5), (RECEIVE_MAXIMUM, 5)],
    "alias maximum twice": [(TOPIC_ALIAS_MAXIMUM, 5), (TOPIC_ALIAS_MAXIMUM, 5)],
    "data without method": [(0x16, b"data")],
    "method twice": [(AUTH_METHOD, "a"), (AUTH_METHOD, "a")],
    "of PUBLISH": [(0x01, 1)],
    "of CONNACK": [(0x12, "id")],
    "of a will": [(WILL_DELAY, 1)],
    "unknown": b"\x02\x7f\x01",
    "unknown of two bytes": b"\x03\x80\x01\x01",
    "cut short": b"\x03\x11\0\0",
    "beyond the packet": b"\x7f\x11\0\0\0\1",
    "length of five bytes": b"\x80\x80\x80\x80\x01",
}


@v5("MQTT-4.13.1-1", "MQTT-3.1.4-1", "MQTT-3.2.2-7", "MQTT-3.14.0-1")
@pytest.mark.parametrize("properties", BAD_PROPERTIES.values(), ids=BAD_PROPERTIES)
def test_a_bad_property_is_refused(dial, name, properties):
    client = dial()
    client.send(connect(name, properties=properties))
    client.refused(0x81, 0x82)


BAD_WILLS = {
    "expiry twice": [(0x02, 1), (0x02, 1)],
    "delay twice": [(WILL_DELAY, 1), (WILL_DELAY, 1)],
    "topic alias": [(0x23, 1)],
    "subscription id": [(0x0B, 1)],
    "of CONNECT": [(SESSION_EXPIRY, 1)],
    "ill-formed content type": [(0x03, b"\xff")],
    "response topic with a wildcard": [(0x08, "a/#")],
}


@v5("MQTT-3.1.4-1", "MQTT-4.13.1-1")
@pytest.mark.parametrize("properties", BAD_WILLS.values(), ids=BAD_WILLS)
def test_a_bad_will_property_is_refused(dial, name, properties):
    client = dial()
    client.send(connect(name, will=Will(name, properties=properties)))
    client.refused(0x81, 0x82, 0x90)


@v5("MQTT-1.5.7-1")
@pytest.mark.parametrize("pair", [(b"\xff", b"v"), (b"k", b"\xed\xa0\x80"), (b"k\0", b"v")])
@pytest.mark.parametrize("where", ["connect", "will", "publish", "subscribe", "disconnect"])
def test_an_ill_formed_user_property_is_malformed(dial, name, where, pair):
    client = dial()
    bad = [(USER_PROPERTY, pair)]
    if where in ("connect", "will"):
        will = Will(name, properties=bad) if where == "will" else None
        client.send(connect(name, will=will, properties=bad if where == "connect" else []))
        client.refused(0x81)
        return
    client.connect(name)
    if where == "publish":
        client.send(publish(name, properties=bad))
    elif where == "subscribe":
        body = varint(len(one_property(*bad[0]))) + one_property(*bad[0])
        body = b"\0\1" + body + binary(name) + b"\0"
        client.send(b"\x82" + varint(len(body)) + body)
    else:
        body = b"\0" + varint(len(one_property(*bad[0]))) + one_property(*bad[0])
        client.send(bytes([DISCONNECT << 4, len(body)]) + body)
    client.closed(0x81)


@v5("MQTT-3.1.4-3")
def test_who_is_taken_over_has_its_will_published(join, name):
    watcher = join()
    watcher.subscribe(name)
    older = join(client_id=f"{name}-id", will=Will(name))
    join(client_id=f"{name}-id")
    older.closed(0x8E)
    assert watcher.receive().topic == name
