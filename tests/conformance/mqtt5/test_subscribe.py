"""Sections 3.8 to 3.11 of version 5: subscription options and identifiers, bad properties."""

import pytest

from ..packets import (
    NO_LOCAL,
    PUBLISH,
    REASON_STRING,
    RETAIN_AS_PUBLISHED,
    RETAIN_IF_NEW,
    RETAIN_NEVER,
    SUBACK,
    SUBSCRIPTION_ID,
    USER_PROPERTY,
    V311,
    subscribe,
    unsubscribe,
)
from ..requirements import v5

IDS_MAX = 268_435_455


@v5("MQTT-3.3.1-9")
def test_retain_handling_0_sends_the_retained_each_time(join, name):
    client = join()
    client.publish(name, b"kept", retain=True)
    for _ in range(3):
        client.subscribe((name, 1))
        assert client.receive().payload == b"kept"
        client.quiet()


@v5("MQTT-3.3.1-10")
def test_retain_handling_1_sends_the_retained_to_new_subscriptions(join, name):
    client = join()
    client.publish(name, b"kept", retain=True)
    client.subscribe((name, RETAIN_IF_NEW | 1))
    assert client.receive().payload == b"kept"
    for options in (RETAIN_IF_NEW | 1, RETAIN_IF_NEW | 2):
        client.subscribe((name, options))
        client.quiet()
    client.unsubscribe(name)
    client.subscribe((name, RETAIN_IF_NEW | 1))
    assert client.receive().payload == b"kept"


@v5("MQTT-3.3.1-11")
def test_retain_handling_2_sends_no_retained(join, name):
    client = join()
    client.publish(name, b"kept", retain=True)
    for _ in range(2):
        client.subscribe((name, RETAIN_NEVER | 1))
        client.quiet()
    client.publish(name, b"live")
    assert client.receive().payload == b"live"


@v5("MQTT-3.8.3-5")
def test_retain_handling_3_closes(join, name):
    client = join()
    client.send(subscribe((name, 0x30)))
    client.closed(0x82, 0x81)


@v5("MQTT-3.3.1-12", "MQTT-3.3.1-13", "MQTT-3.8.4-3")
def test_retain_as_published_is_each_subscriptions_own(join, name):
    """A retained message for a new subscription has the flag either way."""
    plain, kept = join(), join()
    plain.subscribe((name, 1))
    kept.subscribe((name, RETAIN_AS_PUBLISHED | 1))
    kept.publish(name, b"x", retain=True)
    assert (plain.receive().retain, kept.receive().retain) == (False, True)
    for client in (plain, kept):
        client.unsubscribe(name)
        client.subscribe((name, 1))
        assert client.receive().retain


@v5("MQTT-3.8.3-3")
def test_no_local_is_each_subscriptions_own(join, name):
    """A second filter without the option still brings the client its own message, once."""
    client = join()
    client.subscribe((f"{name}/#", NO_LOCAL | 1), (f"{name}/a", 1))
    client.publish(f"{name}/a", b"own")
    client.publish(f"{name}/b", b"own")
    assert client.receive().topic == f"{name}/a"
    client.quiet()


@v5("MQTT-3.3.4-3")
@pytest.mark.parametrize("number", [1, 127, 128, 16_384, IDS_MAX])
def test_a_subscription_identifier_comes_with_the_message(join, name, number):
    client, other = join(), join()
    client.subscribe(name, properties=[(SUBSCRIPTION_ID, number)])
    other.subscribe(name)
    client.publish(name)
    assert client.receive().all(SUBSCRIPTION_ID) == [number]
    assert other.receive().all(SUBSCRIPTION_ID) == []
    client.publish(name, b"kept", retain=True)
    client.receive()
    client.subscribe(name, properties=[(SUBSCRIPTION_ID, number)])
    assert client.receive().all(SUBSCRIPTION_ID) == [number]


@v5("MQTT-3.3.4-3", "MQTT-3.3.4-4", "MQTT-3.3.4-5")
def test_all_identifiers_of_overlapping_subscriptions_come(join, name):
    """In one message all of them, or in one message for each subscription its own."""
    client = join()
    for number, tail in enumerate(["a", "+", "#", "b", "a"], 1):
        properties = [(SUBSCRIPTION_ID, number)] if number != 3 else []
        client.subscribe(f"{name}/{tail}", qos=1, properties=properties)
    client.publish(f"{name}/a")
    found = [client.receive(acknowledge=False)]
    found += [each for each in client.settle() if each.kind == PUBLISH]
    identifiers = [sorted(each.all(SUBSCRIPTION_ID)) for each in found]
    assert identifiers == [[2, 5]] or sorted(identifiers) == [[], [2], [5]]


@v5("MQTT-3.3.4-4")
def test_one_identifier_of_two_subscriptions(join, name):
    client = join()
    client.subscribe(f"{name}/+", f"{name}/#", properties=[(SUBSCRIPTION_ID, 7)])
    client.publish(f"{name}/a", qos=0)
    identifiers = client.receive().all(SUBSCRIPTION_ID)
    client.inbox.clear()
    assert identifiers in ([7, 7], [7])


@v5("MQTT-3.8.4-3", "MQTT-3.3.4-3")
def test_a_new_subscription_replaces_the_identifier(join, name):
    client = join()
    for properties in ([(SUBSCRIPTION_ID, 7)], [(SUBSCRIPTION_ID, 9)], []):
        client.subscribe(name, properties=properties)
        client.publish(name, qos=0)
        assert client.receive().all(SUBSCRIPTION_ID) == [value for _, value in properties]


@v5("MQTT-3.3.4-3")
def test_an_identifier_outlives_the_connection(join, name):
    options = {"clean": False, "properties": [(0x11, 300)]}
    client = join(client_id=name, **options)
    client.subscribe(name, qos=1, properties=[(SUBSCRIPTION_ID, 7)])
    client.disconnect()
    join(V311).publish(name)
    client = join(client_id=name, **options)
    assert client.receive().all(SUBSCRIPTION_ID) == [7]


BAD = {
    "identifier 0": [(SUBSCRIPTION_ID, 0)],
    "two identifiers": [(SUBSCRIPTION_ID, 1), (SUBSCRIPTION_ID, 2)],
    "identifier of five bytes": b"\x06\x0b\x80\x80\x80\x80\x01",
    "reason string": [(REASON_STRING, "x")],
    "of PUBLISH": [(0x01, 1)],
    "unknown": b"\x02\x7f\x01",
    "beyond the packet": b"\x7f\x0b\x01",
}


@v5("MQTT-4.13.1-1")
@pytest.mark.parametrize("properties", BAD.values(), ids=BAD)
def test_a_bad_property_closes(join, name, properties):
    client = join()
    client.send(subscribe((name, 0), properties=properties))
    assert SUBACK not in [each.kind for each in client.closed(0x81, 0x82)]


@v5("MQTT-4.13.1-1")
@pytest.mark.parametrize("properties", [[(SUBSCRIPTION_ID, 1)], b"\x02\x7f\x01", b"\x7f"])
def test_a_bad_property_of_an_unsubscribe_closes(join, name, properties):
    client = join()
    client.send(unsubscribe(name, properties=properties))
    client.closed(0x81, 0x82)


def test_user_properties_are_allowed_everywhere(join, name):
    client = join(properties=[(USER_PROPERTY, ("a", "b"))])
    client.subscribe(name, properties=[(USER_PROPERTY, ("a", "b")), (USER_PROPERTY, ("a", "b"))])
    client.send(unsubscribe(name, packet_id=9, properties=[(USER_PROPERTY, ("a", "b"))]))
    assert client.read().codes == [0]
    client.disconnect(0, [(USER_PROPERTY, ("a", "b"))])


@v5("MQTT-3.9.3-2", "MQTT-3.8.4-7")
def test_what_the_broker_does_not_offer_is_refused(configured, name):
    """With the code for it, one by one; what is offered in the same packet is granted."""
    client = configured(wildcard_available=False, shared_available=False)()
    client.connect(name)
    assert (client.connack.get(0x28), client.connack.get(0x2A)) == (0, 0)
    assert client.subscribe(f"{name}/#", name, f"$share/g/{name}") == [0xA2, 0, 0x9E]
    client.publish(f"{name}/a")
    client.quiet()
