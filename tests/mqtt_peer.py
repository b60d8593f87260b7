"""MQTT sessions on a virtual clock: the real sessions on a real core, without sockets.

    world = World()
    alice = world.join("alice")                      # CONNECT and CONNACK
    alice.send(packets.subscribe(("a/#", 1)))
    alice.take()                                     # the packets that came since the last call

A :class:`Peer` is both ends of a connection: it carries bytes as ``connection.py`` does, and reads
what the session sends with the decoder of the conformance suite, which shares no code with ours.
"""

from collections.abc import Callable
from typing import Any

from braidmq.broker.access import Principal
from braidmq.broker.errors import BraidError
from braidmq.broker.limits import Limits
from braidmq.broker.mqtt_options import MqttOptions
from braidmq.protocols.mqtt.server import MqttServer
from braidmq.protocols.mqtt.session import MqttSession
from tests.broker_harness import Harness
from tests.conformance import packets as p
from tests.conformance.packets import V5, Packet

__all__ = ["Peer", "World", "split"]


def split(data: bytes, version: int = V5) -> tuple[list[Packet], bytes]:
    """Whole packets of a server, and what is left."""
    found = []
    while len(data) > 1:
        at, length, shift = 1, 0, 0
        while at < len(data):
            length |= (data[at] & 127) << shift
            shift += 7
            at += 1
            if not data[at - 1] & 128:
                break
        else:
            break
        if len(data) < at + length:
            break
        raw = data[: at + length]
        found.append(p.decode(raw[0], raw[at:], version, raw))
        data = data[at + length :]
    return found, data


class World:
    """A broker and its MQTT clients."""

    def __init__(self, broker: Harness | None = None, limits: Limits | None = None) -> None:
        self.broker: Any = broker or Harness(limits=limits)
        self.core = self.broker.core
        self.clock = self.broker.clock
        self.names = 0
        self.server = MqttServer(self.core, self._new_id)
        self.peers: list[Peer] = []

    def _new_id(self) -> str:
        self.names += 1
        return f"assigned-{self.names}"

    def dial(self, version: int = V5, **options: Any) -> "Peer":
        """A connection on which nothing was sent yet."""
        peer = Peer(self, version, MqttOptions(**options))
        self.peers.append(peer)
        return peer

    def join(self, client_id: str = "c", version: int = V5, **fields: Any) -> "Peer":
        """A client that is let in; ``options`` are the listener's, the rest is CONNECT's."""
        peer = self.dial(version, **fields.pop("options", {}))
        peer.connect(client_id, **fields)
        assert peer.connack is not None and peer.connack.reason == 0, peer.connack
        return peer

    def settle(self) -> None:
        """Run everything that can happen without time going on."""
        for _ in range(10_000):
            self.broker.settle()
            woken = [peer for peer in self.peers if peer.woken]
            if not woken:
                return
            for peer in woken:
                peer.look()
        raise AssertionError("the sessions do not come to rest")

    def advance(self, ms: int) -> None:
        """Let time go on, deadline by deadline."""
        end = self.clock.ms + ms
        self.settle()
        while True:
            # A carrier asks for a deadline again only when it was reached, or when told to hurry.
            dues = [peer.due_ms for peer in self.peers if peer.due_ms is not None]
            due = self.core.next_deadline()
            first = min([*dues, *([] if due is None else [due])], default=end + 1)
            if first > end:
                break
            self.clock.ms = max(first, self.clock.ms)
            for peer in self.peers:
                peer.tick()
            self.settle()
        self.clock.ms = end
        self.settle()

    def restarted(self, power_cut: Any = None) -> "World":
        """Another broker on what this one has left on its disk."""
        return World(self.broker.restarted(power_cut))


class Peer:
    """A client, its connection and the session behind it."""

    peer = "127.0.0.1"
    tls = False
    connections = 1

    def __init__(self, world: World, version: int, options: MqttOptions) -> None:
        self.world = world
        self.version = version
        self.loopback = True
        self.certificate_user = ""
        self.woken = False
        self.closed = False
        self.known = False
        self.login: Any = None  # user, password and callback of the login that was asked for
        self.verifier: Any = None
        self.connack: Any = None  # a Packet, once it came
        self.inbox: list[Packet] = []
        self.sent = b""  # all that the session sent
        self.unread = b""
        self.session = MqttSession(world.core, self, world.clock.ms, options, world.server)
        self.due_ms = self.session.next_deadline()

    # What a session asks of its carrier.

    def wake(self) -> None:
        self.woken = True

    def hurry(self) -> None:
        self.woken = True
        self.due_ms = 0

    def authenticate(
        self, user: str, password: bytes, callback: Callable[[Principal | BraidError], None]
    ) -> None:
        self.login = (user, password, callback)

    def scram(self) -> Any:
        return self.verifier.scram(self.peer)

    def authenticated(self) -> None:
        self.known = True
        self.hurry()

    # What the carrier does.

    def look(self) -> None:
        self.woken = False
        if self.closed:
            return
        if self.due_ms == 0:
            self.due_ms = self.session.next_deadline()
        if self.session.backlog:
            self.session.proceed(self.world.clock.ms)
        self.flush()

    def tick(self) -> None:
        if not self.closed and self.due_ms is not None and self.due_ms <= self.world.clock.ms:
            self.session.tick(self.world.clock.ms)
            self.due_ms = self.session.next_deadline()
            self.flush()

    def flush(self) -> None:
        data = bytes(self.session.data_to_send(self.world.clock.ms))
        self.sent += data
        found, self.unread = split(self.unread + data, self.version)
        self.inbox += found
        if self.session.finished:
            self.lose()
        elif self.session.backlog:
            self.woken = True

    def lose(self) -> None:
        """The connection is gone, whoever ended it."""
        if not self.closed:
            self.closed = True
            self.due_ms = None
            self.session.connection_lost(self.world.clock.ms)
            self.world.settle()

    # What the client does.

    def feed(self, data: bytes) -> None:
        """Send bytes without waiting for anything."""
        if not self.closed:
            self.session.receive_data(data, self.world.clock.ms)
            self.flush()

    def send(self, *packets: bytes) -> list[Packet]:
        """Send packets in one write; what is unread when all has come to rest."""
        self.feed(b"".join(packets))
        self.world.settle()
        return self.inbox

    def connect(self, client_id: str = "c", **fields: Any) -> None:
        self.send(p.connect(client_id, version=self.version, **fields))
        if self.inbox and self.inbox[0].kind == p.CONNACK:
            self.connack = self.inbox.pop(0)

    def take(self) -> list[Packet]:
        """The packets that came since the last call."""
        self.world.settle()
        taken, self.inbox = self.inbox, []
        return taken

    def kinds(self) -> list[str]:
        """The same, by name."""
        return [p.NAMES[packet.kind] for packet in self.take()]

    def bodies(self) -> list[bytes]:
        """The payloads of the messages that came since the last call; all is a message."""
        taken = self.take()
        assert all(packet.kind == p.PUBLISH for packet in taken), taken
        return [packet.payload for packet in taken]

    def subscribe(self, *filters: tuple[str, int], **fields: Any) -> list[int]:
        """Subscribe, and drop all that comes with the SUBACK."""
        self.send(p.subscribe(*filters, version=self.version, **fields))
        taken = self.take()
        return next(packet.codes for packet in taken if packet.kind == p.SUBACK)
