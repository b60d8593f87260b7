"""What sessions share: caches that stay small, whatever clients make of them."""

import pytest

from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from braidmq.protocols.mqtt import server as module
from braidmq.protocols.mqtt.reasons import Reason
from tests.conformance import packets as p
from tests.conformance.packets import V5, V311
from tests.mqtt_peer import World


def test_topics_are_remembered_if_they_are_short(monkeypatch):
    monkeypatch.setattr(module, "TOPICS_CACHED_MAX", 10)
    server = World().server
    assert server.topic(b"a") is server.topic(b"a")
    long = b"a" * (module.TOPIC_CACHED_BYTES_MAX + 1)
    assert server.topic(long) is not server.topic(long)
    for number in range(100):
        server.topic(b"%d" % number)
    assert len(server._topics) <= 10
    with pytest.raises(UnicodeDecodeError):
        server.topic(b"\xff")


def test_heads_are_remembered_if_they_are_short(monkeypatch):
    monkeypatch.setattr(module, "HEADS_CACHED_MAX", 10)
    world = World()
    server = world.server

    def packed(**headers):
        return pack_headers(headers, world.core.limits)

    short = packed(topic="a")
    assert server.head(short) is server.head(short)
    for _ in range(20):  # what is too long for it does not empty it
        server.head(packed(topic="a" * 600))
    assert list(server._heads) == [short]
    for number in range(100):
        server.head(packed(topic=str(number)))
    assert len(server._heads) <= 10


@pytest.mark.parametrize("version", [V311, V5])
def test_shapes_stay_few_and_short_also_of_topics_that_are_refused(monkeypatch, version):
    monkeypatch.setattr("braidmq.protocols.mqtt.inbound.SHAPES_CACHED_MAX", 50)
    world = World()
    client = world.join("c", version)
    for number in range(300):
        client.send(p.publish(f"a/{number}", b"xx", qos=1, version=version))
    shapes = world.server.shapes(client.session.version)
    assert 0 < len(shapes) <= 50
    for number in range(20):
        client.send(p.publish(f"{number}" * 2_000, b"xx", version=version))
        client = world.join("c", version)
    assert all(len(prefix) < 300 for prefix in shapes)


def test_stored_headers_as_mqtt_reads_them():
    def head(**headers):
        return module.StoredHead(headers)

    plain = head(topic="a/b")
    assert (plain.name, plain.wire, plain.qos, plain.retain, plain.retained) == (
        *("a/b", b"a/b", 1),
        *(False, False),
    )
    marked = module.StoredHead({"topic": "a", "mqtt-qos": "2", "mqtt-retain": "1"})
    assert (marked.qos, marked.retain, marked.retained) == (2, True, False)
    retained = module.StoredHead({"topic": "a", "mqtt-retain": module.RETAINED_ALWAYS})
    assert (retained.retain, retained.retained) == (True, True)
    forged = module.StoredHead({"topic": b"a", "mqtt-qos": b"0"})
    assert (forged.name, forged.wire, forged.qos) == ("", b"", 1)


@pytest.mark.parametrize(
    "headers",
    [
        {"topic": "a"},
        {"topic": "a", "mqtt-qos": "0"},
        {"topic": "a", "mqtt-qos": "2"},
        {"topic": "mqtt-qos"},
        {"topic": "a", "x": "mqtt-qos"},
        {"topic": "a", "mqtt-qos": b"0"},
    ],
)
def test_the_qos_alone_is_the_same(headers):
    server = World().server
    attributes = pack_headers(headers, Limits())
    assert server.qos(attributes) == module.StoredHead(headers).qos


def test_refusals_are_counted_by_their_reason():
    world = World()
    client = world.join("c")
    client.send(p.connect("c"))
    world.dial(redirect="moved").connect("d")
    assert world.server.refused == {Reason.PROTOCOL_ERROR: 1, Reason.SERVER_MOVED: 1}


def test_counters_are_announced():
    world = World()
    client = world.join("c")
    client.subscribe(("$SYS/broker/messages/#", 0), ("a", 0))
    client.send(p.publish("a", b""))
    client.take()
    world.advance(10_000)
    told = {each.topic.rpartition("/")[2]: int(each.payload) for each in client.take()}
    assert told["received"] == 1 and told["sent"] >= 1 and told["dropped"] == 0
    assert (told["too large"], told["over receive maximum"]) == (0, 0)


def test_refusals_are_announced_in_all_and_by_their_reason():
    world = World()
    listener, client = world.join("listener"), world.join("c")
    listener.subscribe(("$SYS/broker/clients/refused/#", 0))
    client.send(p.connect("c"))  # a second CONNECT
    for name in ("d", "e"):
        world.dial(redirect="moved").connect(name)
    listener.take()
    world.advance(10_000)
    told = {each.topic.rpartition("/")[2]: int(each.payload) for each in listener.take()}
    assert told == {"refused": 3, "0x82": 1, "0x9d": 2}
