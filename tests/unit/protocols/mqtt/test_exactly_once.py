"""QoS 2 from a publisher to a subscriber, through power cuts, kills and lost connections.

Both clients keep what the standard has them keep, and lose nothing. Whatever happens between, the
subscriber gets each message once, in order, and in the end nobody owes anybody anything.
"""

import random
from typing import Any

import pytest

from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V5, V311
from tests.mqtt_peer import World

MESSAGES = 12


class Party:
    peer: Any = None  # its connection


class Publisher(Party):
    """Sends messages 1 to MESSAGES, a few at a time, each under its own number."""

    def __init__(self):
        self.next = 1
        self.unsent: dict[int, bytes] = {}  # what is to be sent again: PUBLISH or PUBREL

    @property
    def done(self):
        return self.next > MESSAGES and not self.unsent

    def resume(self, version):
        for packet in self.unsent.values():
            if packet[0] >> 4 == p.PUBLISH:
                packet = bytes([packet[0] | 8]) + packet[1:]
            self.peer.feed(packet)

    def go_on(self, version):
        inbox, self.peer.inbox = self.peer.inbox, []
        for packet in inbox:
            if packet.kind == p.PUBREC and packet.packet_id in self.unsent:
                self.unsent[packet.packet_id] = p.ack(p.PUBREL, packet.packet_id)
                self.peer.feed(self.unsent[packet.packet_id])
            elif packet.kind == p.PUBCOMP:
                self.unsent.pop(packet.packet_id, None)
        if len(self.unsent) < 4 and self.next <= MESSAGES:
            body = b"%d" % self.next
            found = p.publish("a", body, qos=2, packet_id=self.next, version=version)
            self.unsent[self.next] = found
            self.next += 1
            self.peer.feed(found)


class Receiver(Party):
    """Takes each message when it comes, and remembers its identifier until it is released."""

    def __init__(self):
        self.bodies: list[bytes] = []
        self.known: set[int] = set()

    def go_on(self, rng):
        inbox = self.peer.inbox
        while inbox and rng.random() > 0.1:
            packet = inbox.pop(0)
            if packet.kind == p.PUBLISH:
                if packet.packet_id not in self.known:
                    self.known.add(packet.packet_id)
                    self.bodies.append(packet.payload)
                self.peer.feed(p.ack(p.PUBREC, packet.packet_id))
            elif packet.kind == p.PUBREL:
                self.known.discard(packet.packet_id)
                self.peer.feed(p.ack(p.PUBCOMP, packet.packet_id))


def some_steps(world, rng):
    """A few of the things that can happen now."""
    for _ in range(rng.randrange(8)):
        what = rng.randrange(4)
        if what == 0:
            world.clock.turn()
        elif what == 1:
            world.broker._step()
        elif what == 2 and world.broker._asked:
            world.broker._asked = False
            world.core.run(world.clock.ms)
        elif what == 3:
            for peer in world.peers:
                if peer.woken:
                    peer.look()


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("seed", range(60))
def test_each_message_arrives_once_and_in_order(seed, version):
    rng = random.Random(seed)
    world = World(DiskBroker())
    publisher, receiver = Publisher(), Receiver()
    fields = DURABLE if version == V5 else {"clean": False}

    def connect(who: Party, name: str) -> None:
        who.peer = world.join(name, version, **fields)

    connect(receiver, "receiver")
    receiver.peer.subscribe(("a", 2))
    connect(publisher, "publisher")
    troubles = 0
    for _ in range(3_000):
        publisher.go_on(version)
        receiver.go_on(rng)
        some_steps(world, rng)
        trouble = rng.random() if troubles < 12 else 1
        if trouble < 0.05:
            troubles += 1
            world = world.restarted(rng if trouble < 0.03 else None)
            connect(receiver, "receiver")
            assert receiver.peer.connack.session_present
            connect(publisher, "publisher")
            publisher.resume(version)
        elif trouble < 0.1:
            troubles += 1
            parties: list[tuple[Party, str]] = [(publisher, "publisher"), (receiver, "receiver")]
            who, name = rng.choice(parties)
            who.peer.lose()
            connect(who, name)
            if who is publisher:
                publisher.resume(version)
        if publisher.done and not receiver.known and len(receiver.bodies) >= MESSAGES:
            break
    world.settle()
    receiver.go_on(random.Random(99))
    assert receiver.bodies == [b"%d" % number for number in range(1, MESSAGES + 1)]
    for name in ("publisher", "receiver"):
        queue = world.core.sessions[name].queue
        assert queue is not None
        assert queue.live == 0 and not queue.inbound and len(queue.released) <= 1, name
