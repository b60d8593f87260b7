"""What all sessions share. Temporary queues of earlier starts: see test_temporary.py."""

from braidmq.protocols.stomp import server
from braidmq.protocols.stomp.destinations import Queue
from braidmq.protocols.stomp.dialects import ACTIVEMQ, RABBITMQ
from tests.stomp_peer import World


def test_destinations_are_remembered_for_each_dialect():
    shared = World().server
    first = shared.targets("/queue/a,b", ACTIVEMQ)
    assert first == [Queue("a"), Queue("b")]
    assert shared.targets("/queue/a,b", ACTIVEMQ) is first
    assert shared.targets("/queue/a,b", RABBITMQ) == [Queue("a,b")]


def test_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(server, "DESTINATIONS_CACHED_MAX", 2)
    shared = World().server
    first = shared.targets("/queue/0", ACTIVEMQ)
    for number in range(1, 3):
        shared.targets(f"/queue/{number}", ACTIVEMQ)
    assert shared.targets("/queue/0", ACTIVEMQ) is not first


def test_long_ones_are_not():
    shared = World().server
    name = "/queue/" + "a" * 300
    assert shared.targets(name, ACTIVEMQ) is not shared.targets(name, ACTIVEMQ)


def test_what_is_counted_is_told():
    world = World()
    peer = world.peer()
    peer.subscribe("/queue/a")
    peer.send("/queue/a", b"x")
    peer.error("NONSENSE", {})
    gauges = world.harness.core.announcing.gauges
    names = ("messages/received", "messages/sent", "clients/refused", "replies/dropped")
    assert [gauges[f"stomp/{name}"]() for name in names] == [1, 1, 1, 0]
