"""The client's Maximum Packet Size and Request Problem Information, for every packet there is."""

import pytest

from ..packets import (
    AUTH_METHOD,
    DURABLE,
    MAXIMUM_PACKET_SIZE,
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    REASON_STRING,
    REQUEST_PROBLEM_INFO,
    SESSION_EXPIRY,
    SUBACK,
    UNSUBACK,
    USER_PROPERTY,
    ack,
    auth,
    publish,
    subscribe,
    unsubscribe,
)
from ..requirements import v5


def provoke(client, name):
    """One acknowledgement of every kind, where there is one with an error to tell."""
    exchanges = [
        (publish(name, qos=1), PUBACK),
        (publish(name, qos=2), PUBREC),
        (ack(PUBREL, 1), PUBCOMP),
        (ack(PUBREL, 999), PUBCOMP),
        (ack(PUBREC, 999), PUBREL),
        (subscribe((f"{name}/" + "deep/" * 300, 0), (name, 0)), SUBACK),
        (unsubscribe(f"{name}/unknown"), UNSUBACK),
    ]
    found = []
    for sent, kind in exchanges:
        client.send(sent)
        found.append(client.wait_for(kind))
    return found


@v5("MQTT-3.1.2-24", "MQTT-3.4.2-2", "MQTT-3.4.2-3", "MQTT-3.5.2-2", "MQTT-3.5.2-3")
@v5("MQTT-3.6.2-2", "MQTT-3.6.2-3", "MQTT-3.7.2-2", "MQTT-3.7.2-3", "MQTT-3.9.2-1")
@v5("MQTT-3.9.2-2", "MQTT-3.11.2-1", "MQTT-3.11.2-2")
def test_acknowledgements_keep_to_the_maximum_packet_size(join, name):
    """The reader holds every packet to it; what has to be said fits into 16 bytes."""
    bare = provoke(join(), f"{name}/1")
    again = provoke(join(properties=[(MAXIMUM_PACKET_SIZE, 16)]), f"{name}/2")
    assert [each.reason for each in again] == [each.reason for each in bare]
    assert [each.codes for each in again] == [each.codes for each in bare]


@v5("MQTT-3.14.2-3", "MQTT-3.14.2-4")
@pytest.mark.parametrize("sent", [publish("a/#"), subscribe(("a#", 0)), ack(PUBREL, 0), b"\x36\0"])
def test_a_disconnect_keeps_to_the_maximum_packet_size(join, sent):
    """A refused filter may be answered in a SUBACK instead."""
    client = join(properties=[(MAXIMUM_PACKET_SIZE, 24)])
    client.send(sent, b"\x36\0")
    client.closed()


@v5("MQTT-3.14.2-2", "MQTT-3.14.2-1")
def test_a_disconnect_carries_no_session_expiry(join, name):
    """The decoder of the tests refuses one; here a session that has one is ended by an error."""
    client = join(client_id=name, **DURABLE)
    client.send(publish("a/#"))
    for found in client.closed():
        assert found.get(SESSION_EXPIRY) is None


@v5("MQTT-3.1.2-29")
def test_diagnostics_only_where_they_are_wanted(join, name):
    client = join(properties=[(REQUEST_PROBLEM_INFO, 0)])
    for found in provoke(client, name):
        assert not found.all(REASON_STRING) and not found.all(USER_PROPERTY), found


@v5("MQTT-3.1.2-24", "MQTT-3.1.2-25")
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("how", ["live", "retained", "stored"])
def test_a_message_that_is_too_large_is_left_out(join, name, qos, how):
    """As if it were delivered: what comes after it arrives, and it never comes again."""
    options = {"clean": False, "properties": [(SESSION_EXPIRY, 300), (MAXIMUM_PACKET_SIZE, 100)]}
    client, other = join(client_id=f"{name}-id", **options), join()
    if how != "retained":
        client.subscribe(f"{name}/#", qos=qos)
    if how == "stored":
        client.disconnect()
    for number, body in enumerate([b"x" * 200, b"fits", b"y" * 20_000, b"too"]):
        other.publish(f"{name}/{number}", body, qos=max(qos, 1), retain=how == "retained")
    if how == "stored" and not qos:
        pytest.skip("a message of QoS 0 need not be stored")
    if how == "stored":
        client = join(client_id=f"{name}-id", **options)
    if how == "retained":
        client.subscribe(f"{name}/#", qos=qos)
    assert sorted(client.payloads(2)) == [b"fits", b"too"]
    client.quiet()
    client.close()
    client = join(client_id=f"{name}-id", **DURABLE)
    client.quiet()
    other.publish(f"{name}/5", b"x" * 200, qos=1)
    if how != "retained" or client.connack.session_present:
        assert client.receive().payload == b"x" * 200


@v5("MQTT-4.12.0-7")
@pytest.mark.parametrize("reason", [0x00, 0x18, 0x19])
def test_an_auth_without_a_method_closes(join, reason):
    client = join()
    client.send(auth(reason, [(AUTH_METHOD, "PLAIN")]))
    client.closed(0x82, 0x81, 0x8C)


@v5("MQTT-3.15.1-1")
@pytest.mark.parametrize("head", [0xF1, 0xF2, 0xF8])
def test_reserved_flags_of_an_auth_close(join, head):
    client = join()
    client.send(bytes([head, 2, 0x18, 0]))
    client.closed(0x81, 0x82)


@v5("MQTT-4.12.0-6")
def test_who_names_no_method_hears_of_none(join, name):
    client = join()
    assert client.connack.get(AUTH_METHOD) is None
    client.publish(name)
    client.quiet()
