"""Sessions and wills that last for a time (3.1.2.11.2, 3.1.3.2.2, 4.1)."""

import time

import pytest

from ..client import Client
from ..packets import (
    DURABLE,
    MESSAGE_EXPIRY,
    SESSION_EXPIRY,
    USER_PROPERTY,
    WILL_DELAY,
    Will,
    disconnect,
)
from ..requirements import v5


def wait_seconds(seconds: float) -> None:
    """Real time has to pass where the specification counts it."""
    time.sleep(seconds)


@v5("MQTT-4.1.0-2")
@pytest.mark.parametrize("expiry", [0, None])
def test_a_session_without_expiry_ends_with_the_connection(join, name, expiry):
    properties = [] if expiry is None else [(SESSION_EXPIRY, expiry)]
    client = join(client_id=name, clean=False, properties=properties)
    client.subscribe(name, qos=1)
    client.disconnect()
    assert not join(client_id=name, **DURABLE).connack.session_present


@v5("MQTT-4.1.0-2", "MQTT-3.1.2-23")
def test_a_session_expires(join, name):
    """It is there at once; after its second and some more it is not."""
    client = join(client_id=name, **DURABLE)
    client.subscribe(name, qos=1)
    client.disconnect()
    client = join(client_id=name, clean=False, properties=[(SESSION_EXPIRY, 1)])
    assert client.connack.session_present
    client.disconnect()
    wait_seconds(2.2)
    assert not join(client_id=name, **DURABLE).connack.session_present


@v5("MQTT-3.1.2-23", "MQTT-4.1.0-1")
def test_a_session_does_not_expire_while_it_is_connected(join, name):
    client = join(client_id=name, clean=False, properties=[(SESSION_EXPIRY, 1)])
    client.subscribe(name, qos=1)
    wait_seconds(1.5)
    client.publish(name, b"x")
    assert client.receive().payload == b"x"
    client.send(disconnect(0, [(SESSION_EXPIRY, 60)]))  # so that it is there for those who are slow
    client.closed()
    assert join(client_id=name, **DURABLE).connack.session_present


@v5("MQTT-3.1.2-23")
def test_disconnect_changes_the_expiry(join, name):
    client = join(client_id=name, **DURABLE)
    client.send(disconnect(0, [(SESSION_EXPIRY, 0)]))
    client.closed()
    assert not join(client_id=name, **DURABLE).connack.session_present


@v5("MQTT-3.1.3-9", "MQTT-3.1.2-10")
def test_a_client_that_comes_back_has_no_delayed_will(join, name):
    watcher = join()
    watcher.subscribe(name)
    will = Will(name, properties=[(WILL_DELAY, 2)])
    join(client_id=f"{name}-id", will=will, **DURABLE).close()
    again = join(client_id=f"{name}-id", **DURABLE)
    assert again.connack.session_present
    wait_seconds(3.2)
    watcher.quiet()


@v5("MQTT-3.1.3-9", "MQTT-3.1.2-8")
def test_a_will_is_delayed_and_never_early(join, name):
    watcher = join()
    watcher.subscribe(name)
    will = Will(name, properties=[(WILL_DELAY, 1)])
    client = join(client_id=f"{name}-id", will=will, **DURABLE)
    before = time.monotonic()
    client.close()
    assert watcher.receive().topic == name
    # mosquitto counts in whole seconds; strictly, a will is never early
    assert time.monotonic() - before >= (0.99 if client.strict else 0.0)


@v5("MQTT-3.1.2-8", "MQTT-3.1.3-9")
@pytest.mark.parametrize("how", ["expiry", "clean start", "expiry 0"])
def test_the_end_of_the_session_ends_the_delay(join, name, how):
    watcher = join()
    watcher.subscribe(name)
    will = Will(name, properties=[(WILL_DELAY, 300)])
    expiry = {"expiry": 1, "clean start": 300, "expiry 0": 0}[how]
    properties = [(SESSION_EXPIRY, expiry)]
    client = join(client_id=f"{name}-id", clean=False, will=will, properties=properties)
    client.close()
    if how == "clean start":
        watcher.quiet()
        join(client_id=f"{name}-id", clean=True)
    assert watcher.receive().topic == name


@v5("MQTT-3.1.2-8")
@pytest.mark.parametrize("reason", [0x04, 0x80, 0x81, 0x97])
def test_a_disconnect_with_another_reason_publishes_the_will(join, name, reason):
    watcher = join()
    watcher.subscribe(name)
    client = join(will=Will(name))
    client.disconnect(reason, [])
    assert watcher.receive().topic == name


@v5("MQTT-3.1.3-10", "MQTT-3.3.2-18")
def test_a_will_keeps_its_properties(join, name):
    watcher = join()
    watcher.subscribe(name, qos=1)
    pairs = [(USER_PROPERTY, each) for each in [("b", "1"), ("a", "2"), ("b", "1"), ("", "\u00e9")]]
    properties = [(0x01, 1), (0x03, "text/plain"), (0x08, "answer"), (0x09, b"\0\xff"), *pairs]
    join(will=Will(name, b"text", qos=1, properties=[(MESSAGE_EXPIRY, 90), *properties])).close()
    found = watcher.receive()
    assert found.payload == b"text"
    assert found.all(USER_PROPERTY) == [value for _, value in pairs]
    assert {key: found.get(key) for key in (1, 3, 8, 9)} == dict(properties[:4])
    assert 0 < found.get(MESSAGE_EXPIRY) <= 90


def test_a_disconnect_may_not_raise_the_expiry_from_0(join, name):
    client: Client = join(client_id=name)
    client.send(disconnect(0, [(SESSION_EXPIRY, 10)]))
    client.closed(0x82)
    assert not join(client_id=name, **DURABLE).connack.session_present
