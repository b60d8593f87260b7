"""Publishers and subscribers of MQTT for the audit, whose own state outlives their connections.

Rules, those of the standard for both sides of a session:

- A publisher that resumes sends again what was not acknowledged, in order, with DUP and the same
  packet identifiers, and goes on with PUBREL where PUBREC came. One that does not resume leaves it:
  then nobody knows, and all who should have the message have it, or none.
- A subscriber takes a QoS 2 message once, by its packet identifier, until PUBREL.
- Each actor has a connection of its own; when that goes, it notes what it does not know, and ends.
  The next run of the broker starts it again, and it carries on.
"""

import asyncio
import itertools
import random

from .mqtt_audit import Destination, Entry, Hold, MqttJournal
from .mqtt_wire import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    Gone,
    Listener,
    Message,
    MqttWire,
)
from .waiting import GUARD_SECONDS, until

__all__ = ["Client", "Publisher", "Retained", "Subscriber"]

EXPIRY_SECONDS = 24 * 3600
_numbers = itertools.count(1)  # of connections and messages, in the whole process


class Client(Listener):
    """What publishers and subscribers have in common."""

    def __init__(
        self, journal: MqttJournal, rng: random.Random, name: str, version: int = V5
    ) -> None:
        self.journal = journal
        self.rng = rng
        self.name = name
        self.version = version
        self.durable = True
        self.receive_maximum = 0
        self.wire: MqttWire | None = None
        self.connection = 0
        self._known = False  # the broker has acknowledged the session

    async def run(self, port: int) -> None:
        """Do what it does until the broker is gone. Raises Gone."""

    async def connect(self, port: int) -> MqttWire:
        """Connect; what is under way goes on. Raises Gone."""
        self.hang_up()
        self.connection = next(_numbers)
        self.journal.began(self.connection)
        try:
            return await MqttWire.open(
                port,
                self.name,
                self.version,
                clean=not self.durable,
                expiry_seconds=EXPIRY_SECONDS if self.durable else 0,
                receive_maximum=self.receive_maximum if self.version == V5 else 0,
                listener=self,
            )
        except BaseException:
            self.hang_up()
            raise

    def connected(self, wire: MqttWire, present: bool) -> None:
        self.wire = wire
        self.journal.began(self.connection)  # until now the one before may have been served
        if self._known and not present:
            self.journal.find("forgotten", f"the session of {self.name}")
        self._known = self.durable
        self.resume(wire)

    def resume(self, wire: MqttWire) -> None:
        """Send again what has to be; what comes is handled from now on."""

    def gone(self) -> None:
        self.journal.ended(self.connection)
        if self.wire is not None and self.wire.reason not in self.journal.endings:
            self.journal.find("cut", f"{self.name}: 0x{self.wire.reason:02X}")

    def hang_up(self) -> None:
        """End the connection without a word."""
        if self.wire is not None:
            self.wire.abort()
            self.wire = None
        self.journal.ended(self.connection)

    def link(self) -> MqttWire:
        """The connection. Raises Gone."""
        if self.wire is None or self.wire.gone:
            raise Gone(self.name)
        return self.wire


class Publisher(Client):
    """Publishes with one QoS to some topics of its own.

    Args:
        resumes: it has a durable session, and leaves nothing unanswered.
        retain: its messages are retained.
        deletes_share: of retained messages, how many end what was retained.
        pause: seconds between two messages, on average.
        hang_up_share: how probable it is, after each message, that it goes without a word.
    """

    def __init__(
        self,
        journal: MqttJournal,
        rng: random.Random,
        name: str,
        topics: list[str],
        qos: int,
        version: int = V5,
        resumes: bool = True,
        retain: bool = False,
        deletes_share: float = 0.1,
        window: int = 20,
        pause: float = 0.004,
        hang_up_share: float = 0.005,
    ) -> None:
        super().__init__(journal, rng, name, version)
        self.durable = resumes
        self.topics = topics
        self.qos = qos
        self.retain = retain
        self.deletes_share = deletes_share
        self.window = window
        self.pause = pause
        self.hang_up_share = hang_up_share
        self.pending: dict[int, Entry] = {}  # by packet identifier, in the order of sending
        self.released: set[int] = set()  # of those, PUBREC came
        self._next_id = rng.randrange(1, 60_000)

    async def run(self, port: int) -> None:
        """Publish, go and come back, until the broker is gone."""
        while True:
            await self.connect(port)
            while self.rng.random() >= self.hang_up_share:
                if len(self.pending) < self.window:
                    self.publish(self.rng.choice(self.topics))
                else:
                    self.link()
                await asyncio.sleep(self.rng.random() * self.pause * 2)
            self.hang_up()

    def publish(self, topic: str) -> Entry:
        """Send a new message. Raises Gone."""
        wire = self.link()
        number = next(_numbers)
        size = number % 13 * 30 + (20_000 if number % 199 == 0 else 8)
        deletes = self.retain and self.rng.random() < self.deletes_share
        entry = Entry(topic, self.name, number, self.qos, self.retain, deletes, size)
        packet_id = 0
        if self.qos:
            packet_id = self._take_id()
            self.pending[packet_id] = entry
        self.journal.invoke(entry)
        wire.publish(topic, entry.body, self.qos, packet_id, False, self.retain)
        return entry

    def _take_id(self) -> int:
        while True:
            self._next_id = self._next_id % 65_535 + 1
            if self._next_id not in self.pending:
                return self._next_id

    def resume(self, wire: MqttWire) -> None:
        if not self.durable:
            self.pending.clear()
            self.released.clear()
        for packet_id, entry in self.pending.items():
            if packet_id in self.released:
                wire.acknowledge(PUBREL, packet_id)
            else:
                self.journal.invoke(entry)
                wire.publish(entry.topic, entry.body, self.qos, packet_id, True, self.retain)

    def acknowledged(self, kind: int, packet_id: int, reason: int) -> None:
        entry = self.pending.get(packet_id)
        if entry is None:
            self.journal.find("phantom", f"{self.name}: an answer for packet {packet_id}")
        elif kind == PUBCOMP:
            del self.pending[packet_id]
            self.released.discard(packet_id)
        elif reason >= 0x80:
            self.journal.fail(entry)
            del self.pending[packet_id]
        elif kind == PUBACK:
            self.journal.ok(entry)
            del self.pending[packet_id]
        elif kind == PUBREC:
            self.journal.ok(entry)
            self.released.add(packet_id)
            assert self.wire is not None
            self.wire.acknowledge(PUBREL, packet_id)


class Subscriber(Client):
    """Takes what comes to a destination.

    Args:
        offline: the share of runs in which it does not come.
        hang_up_share: how probable it is, after each rest, that it goes without a word for a time.
        lazy: it acknowledges now and then, and not at once.
        fickle: how probable it is, after each rest, that it ends its subscription or makes it.
    """

    def __init__(
        self,
        journal: MqttJournal,
        rng: random.Random,
        name: str,
        destination: Destination,
        filter: str,
        version: int = V5,
        receive_maximum: int = 0,
        offline: float = 0.0,
        hang_up_share: float = 0.0,
        lazy: bool = False,
        fickle: float = 0.0,
    ) -> None:
        super().__init__(journal, rng, name, version)
        self.destination = destination
        self.durable = destination.durable
        self.receive_maximum = receive_maximum
        self.filter = filter
        self.offline = offline
        self._hang_up_share = hang_up_share
        self._lazy = lazy
        self._fickle = fickle
        self.prompt = False
        self.holds: dict[int, Hold] = {}  # of this connection, not acknowledged, by identifier
        self.received: dict[int, bytes] = {}  # QoS 2, PUBREL has not come
        self._unanswered: list[Message] = []
        self._acked: list[Hold] = []  # and perhaps not handled

    async def run(self, port: int) -> None:
        """Come, take, go, until the broker is gone."""
        while True:
            wire = await self.connect(port)
            if not self.durable:
                await wire.subscribe({self.filter: self.destination.qos})
            while self.rng.random() >= self._hang_up_share:
                await asyncio.sleep(self.rng.random() * 0.05)
                await self.settle()
                if self.rng.random() < self._fickle:
                    await self._change(wire)
            self.hang_up()

    async def _change(self, wire: MqttWire) -> None:
        """End the subscription; or, once that is certain, make it again."""
        at, journal = self.destination, self.journal
        if at.leaving and at.left:
            at.left = 0  # from when it is asked for, messages may come
            await wire.subscribe({self.filter: at.qos})
            at.since, at.leaving = journal.tick(), 0
        else:
            at.leaving = at.leaving or journal.tick()
            await wire.unsubscribe([self.filter])
            at.left = journal.tick()

    async def subscribe(self, port: int) -> None:
        """Make the session and its subscription, for the first time."""
        wire = await self.connect(port)
        await wire.subscribe({self.filter: self.destination.qos})
        self.destination.since = self.journal.tick()

    async def settle(self) -> None:
        """Acknowledge what came, and have it confirmed that the broker knows. Raises Gone."""
        wire = self.link()
        self._answer()
        acked, self._acked = self._acked, []
        await wire.ping()
        self.journal.handled(acked)

    def resume(self, wire: MqttWire) -> None:
        self.holds.clear()
        self._unanswered.clear()
        self._acked.clear()
        if not self.durable:
            self.received.clear()

    def message(self, message: Message) -> None:
        packet_id = message.packet_id
        if message.qos == 2 and packet_id in self.received:
            if self.received[packet_id] != message.body:
                self.journal.find("collision", f"{self.name}: {packet_id} is not released")
        else:
            if message.qos and packet_id in self.holds:
                self.journal.find("collision", f"{self.name}: {packet_id} is not acknowledged")
            hold = self.journal.delivered(self.destination, message, self.connection)
            if hold is None:
                return
            if message.qos == 2:
                self.received[packet_id] = message.body
                hold.acked = True  # it is ours from here on
            elif message.qos:
                self.holds[packet_id] = hold
        if message.qos:
            self._unanswered.append(message)
            if self.prompt or not self._lazy:
                self._answer()

    def _answer(self) -> None:
        assert self.wire is not None or not self._unanswered
        for message in self._unanswered:
            assert self.wire is not None
            if message.qos == 2:
                self.wire.acknowledge(PUBREC, message.packet_id)
                continue
            hold = self.holds.pop(message.packet_id)
            hold.acked = True
            self._acked.append(hold)
            self.wire.acknowledge(PUBACK, message.packet_id)
        self._unanswered.clear()

    def acknowledged(self, kind: int, packet_id: int, reason: int) -> None:
        if kind == PUBREL:
            self.received.pop(packet_id, None)
            assert self.wire is not None
            self.wire.acknowledge(PUBCOMP, packet_id)


class Retained(Listener):
    """Asks what is retained, and nothing else."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    async def ask(
        self, port: int, filter: str, least: set[str], seconds: float = GUARD_SECONDS
    ) -> dict[str, bytes]:
        """Every retained message that matches, by topic; ``least`` must be there. Raises Gone."""
        wire = await MqttWire.open(port, "", V311, listener=self)
        await wire.subscribe({filter: 0})
        await until(lambda: wire.gone or least <= self.found.keys(), seconds)
        await wire.ping()
        wire.close()
        return self.found

    def message(self, message: Message) -> None:
        assert message.retain, message
        self.found[message.topic] = message.body
