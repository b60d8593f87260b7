"""The Will Message, and how a connection ends (3.1.2.5, 3.14)."""

import pytest

from tests.broker_disk import DiskBroker
from tests.mqtt_peer import World

from ..packets import DURABLE, PING, Will, disconnect, packet, publish
from ..requirements import v5, v311


@v5("MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-14")
@v311("MQTT-3.1.2-8", "MQTT-3.1.2-16")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_will_is_published_when_the_network_fails(join, version, name, qos):
    watcher = join(version)
    watcher.subscribe(name, qos=2)
    client = join(version, will=Will(name, b"last words", qos=qos))
    watcher.quiet()
    client.close()
    found = watcher.receive()
    assert (found.topic, found.payload, found.qos, found.retain) == (
        name,
        b"last words",
        qos,
        False,
    )
    late = join(version)
    late.subscribe(name)
    late.quiet()


@v5("MQTT-3.1.2-8", "MQTT-4.13.1-1")
@v311("MQTT-3.1.2-8", "MQTT-4.8.0-1")
def test_the_will_is_published_after_a_protocol_error(join, version, name):
    watcher = join(version)
    watcher.subscribe(name)
    client = join(version, will=Will(name))
    client.send(packet(3, 0b0110))
    client.closed(0x81)
    assert watcher.receive().topic == name


@v5("MQTT-3.1.2-15")
@v311("MQTT-3.1.2-17")
def test_a_retained_will_is_retained(join, version, name):
    watcher = join(version)
    watcher.subscribe(name)
    join(version, will=Will(name, b"stays", retain=True)).close()
    assert watcher.receive().payload == b"stays"
    late = join(version)
    late.subscribe(name)
    found = late.receive()
    assert (found.payload, found.retain) == (b"stays", True)
    late.publish(name, b"", retain=True)


@v5("MQTT-3.1.2-10", "MQTT-3.14.4-3")
@v311("MQTT-3.1.2-10", "MQTT-3.14.4-3")
@pytest.mark.parametrize("durable", [False, True], ids=["clean", "durable"])
def test_a_disconnect_discards_the_will(join, version, name, durable):
    watcher = join(version)
    watcher.subscribe(name)
    options = DURABLE if durable else {}
    client = join(version, name, will=Will(name), **options)
    client.disconnect()
    watcher.quiet()
    again = join(version, name, **options)
    again.close()
    again = join(version, name, clean=True)
    again.quiet()
    watcher.quiet()


@v5("MQTT-3.1.2-10")
@v311("MQTT-3.1.2-10", "MQTT-3.1.2-12")
def test_a_will_is_published_once(join, version, name):
    """Neither the session that had it nor the next connection without one publishes it again."""
    watcher = join(version)
    watcher.subscribe(name)
    join(version, name, will=Will(name), **DURABLE).close()
    assert watcher.receive().topic == name
    second = join(version, name, **DURABLE)
    second.close()
    third = join(version, name, clean=True)
    third.quiet()
    watcher.quiet()


@v5("MQTT-3.1.2-7", "MQTT-3.1.2-8", "MQTT-3.1.2-10")
@v311("MQTT-3.1.2-8", "MQTT-3.1.2-10")
@pytest.mark.parametrize("durable", [False, True], ids=["clean", "durable"])
def test_the_will_is_stored_so_that_it_outlives_the_broker(version, durable):
    """A broker that is killed has ended the connections: it publishes their wills, once."""
    world = World(DiskBroker())
    keeper = world.join("keeper", version, **DURABLE)
    keeper.subscribe(("w", 2))
    keeper.lose()
    options = DURABLE if durable else {}
    polite = world.join("polite", version, will=Will("w", b"never"), **options)
    polite.send(disconnect())
    world.join("dying", version, will=Will("w", b"gone", qos=2), **options)
    for _ in range(2):
        world = world.restarted()
        world.settle()
        keeper = world.dial(version)
        keeper.connect("keeper", **DURABLE)
        assert keeper.bodies() == [b"gone"]  # it was not acknowledged
    assert world.core.topics.published == 0


@v5("MQTT-3.14.4-2", "MQTT-3.14.4-1")
@v311("MQTT-3.14.4-1", "MQTT-3.14.4-2")
def test_a_disconnect_ends_the_connection(join, version, name):
    """The broker closes, and does nothing of what a client wrongly sends after it."""
    watcher = join(version)
    watcher.subscribe(f"{name}/#")
    client = join(version)
    client.send(disconnect(), publish(f"{name}/late", b"x", version=version), PING)
    assert client.closed() == []
    watcher.publish(f"{name}/barrier", qos=0)
    assert watcher.receive().topic == f"{name}/barrier"
