"""The audit for MQTT: what independent clients published and saw; did the broker keep its word?

Bodies prove themselves, as in ``audit.py``, and the journal stands in the memory of the test. A
*destination* is what messages wait in: a durable session, or a shared subscription of several. A
message that was acknowledged (PUBACK, PUBREC) is owed to every durable destination whose
subscription was acknowledged before it was sent. What must not happen:

lost          owed, and it never came, though everything that waits was delivered
torn          nobody knows whether it was taken, and it came to some of its destinations only
vanished      it came with QoS 1 or 2, was not acknowledged, and did not come again
phantom       nobody sent it there, or its sending was refused
corrupt       a topic, QoS or retain flag that is not what it was sent with; a body that is damaged
duplicates    QoS 2: it came twice. QoS 1: it came more often than it was sent without a reason: the
              connection that it came by before is alive
resurrected   it came again although its acknowledgement was handled, and kept with what came later
misordered    first deliveries of a publisher's messages on a topic are not in the order of sending
unmarked      it came again in the same run of the broker, and DUP was not set; in a share, where
              the sockets of two clients are read in any order, this is only counted
mismarked     DUP is set on what cannot have been sent before
collision     a packet identifier was used for two messages at a time
stale         a retained message is older than the last that was acknowledged
forgotten     a session that was acknowledged, or its exchange of QoS 2, is not there any more
cut           the broker hung up on a client that did nothing wrong, and said so
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from .journal import Journal, body_of, parse_body
from .mqtt_wire import Message

__all__ = ["Destination", "Entry", "Hold", "MqttJournal"]

SHUTTING_DOWN = 0x8B
PAST_MAX = 200_000  # settled messages that are remembered

Key = tuple[str, int]  # publisher, number


@dataclass(slots=True, eq=False)
class Destination:
    """Where messages wait for a client, or for one of several.

    Attributes:
        prefix: of the topics that it subscribed to. qos: the subscription's.
        durable: it outlives connections. shared: several clients take from it.
        since: the journal's clock when its subscription was acknowledged; 0: not yet.
        leaving, left: the clock when it was asked to end, and when that was acknowledged.
    """

    name: str
    prefix: str
    qos: int
    durable: bool = True
    shared: bool = False
    since: int = 0
    leaving: int = 0
    left: int = 0

    def covers(self, entry: "Entry") -> bool:
        """Whether the broker had its subscription, for certain, when it took a message."""
        came = 0 < self.since < entry.invoked_at
        return came and (not self.leaving or 0 < entry.ok_at < self.leaving)


@dataclass(slots=True, eq=False)
class Hold:
    """A message at a destination, as its client knows it."""

    packet_id: int
    connection: int
    run: int
    dup: bool = False
    acked: bool = False  # the bytes of its acknowledgement are on their way
    handled_at: int = 0  # the clock when the broker had certainly handled that


@dataclass(slots=True, eq=False)
class Entry:
    """A message that a publisher wants to be taken, however often it has to ask."""

    topic: str
    publisher: str
    number: int
    qos: int
    retain: bool = False
    deletes: bool = False  # retained, without a body: nothing is retained from then on
    size: int = 8
    invoked_at: int = 0  # first, by the journal's clock
    sent_at: int = 0  # last
    sent: int = 0  # how often
    refused: int = 0
    ok: bool = False
    ok_at: int = 0  # first acknowledged
    holds: dict[Destination, list[Hold]] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        return b"" if self.deletes else body_of(self.publisher, self.number, self.size)

    @property
    def copies_max(self) -> int:
        """How many messages may rightly stand for it."""
        return min(self.sent - self.refused, 1) if self.qos != 1 else self.sent - self.refused


class MqttJournal(Journal):
    """What happened, and the counters of what must not."""

    BROKEN = (
        "lost torn vanished phantom corrupt duplicates resurrected misordered unmarked mismarked"
        " collision stale forgotten cut"
    ).split()

    def __init__(self) -> None:
        super().__init__()
        self.endings = {0, SHUTTING_DOWN}  # why the broker may hang up
        self.clock = 1
        self.destinations: list[Destination] = []
        self.connections: dict[int, int] = {}  # those that live -> the clock when they began
        self.entries: dict[Key, Entry] = {}
        self.past: dict[Key, set[Destination]] = {}  # what was settled -> where it came
        self.kept: dict[str, list[Entry]] = {}  # retained, by topic, in the order of sending
        self._proofs: dict[int, int] = {}  # run -> all that was handled before this clock is kept
        self._last: dict[tuple[Destination, int, str, str], int] = {}

    def tick(self) -> int:
        """The clock: it goes on with every event."""
        self.clock += 1
        return self.clock

    def began(self, connection: int) -> None:
        """A connection is about to be made."""
        self.connections[connection] = self.tick()

    def ended(self, connection: int) -> None:
        """A connection is gone."""
        self.connections.pop(connection, None)

    # Publishing -------------------------------------------------------------------------------

    def invoke(self, entry: Entry) -> None:
        """The bytes of a PUBLISH go out now."""
        key = (entry.publisher, entry.number)
        entry.sent_at = self.tick()
        entry.sent += 1
        if key not in self.entries:
            self.entries[key] = entry
            entry.invoked_at = entry.sent_at
            if entry.retain:
                self.kept.setdefault(entry.topic, []).append(entry)
        else:
            self.counts["sent again"] += 1

    def ok(self, entry: Entry) -> None:
        """PUBACK or PUBREC: the broker has it, in this run."""
        if not entry.ok:
            self.counts["acked"] += 1
            entry.ok_at = self.tick()
        entry.ok = True
        # An answer tells that all before is kept, but not always: what had been sent before may be
        # known, and to take back what is not there nothing is written.
        if not entry.deletes:
            self._proofs[self.run] = max(self._proofs.get(self.run, 0), entry.invoked_at)

    def fail(self, entry: Entry) -> None:
        """Refused: it must never be seen, as far as this sending goes."""
        entry.refused += 1
        self.counts["refused"] += 1

    # Receiving --------------------------------------------------------------------------------

    def delivered(self, at: Destination, message: Message, connection: int) -> Hold | None:
        """A message came, for the client's application."""
        self.counts["delivered"] += 1
        parsed = parse_body(message.body)
        if parsed is None:
            self.find("corrupt", f"{at.name}: {len(message.body)} bytes: {message.body[:60]!r}")
            return None
        entry = self.entries.get(parsed)
        name = f"{at.name}: {parsed[0]}|{parsed[1]}"
        if entry is None or not entry.copies_max:
            if entry is None and at in self.past.get(parsed, ()):
                self.find("resurrected", name)
            else:
                self.find("phantom", name)
            return None
        self._check_content(at, message, entry, name)
        holds = entry.holds.setdefault(at, [])
        if not at.durable and holds and holds[0].connection != connection:
            holds.clear()  # each connection is a session of its own
        # Who was not there when it was first sent may get it, sent again, behind later ones.
        was_there = at.durable and at.since < entry.invoked_at
        if not holds and not at.shared and (was_there or entry.sent == 1):
            self._check_order(at, entry, connection, name)
        hold = Hold(message.packet_id, connection, self.run, message.dup)
        if not message.qos:
            if len(holds) >= entry.copies_max:
                self.find("duplicates", f"{name} came with QoS 0 {len(holds) + 1} times")
            hold.acked = True
        elif before := self._before(at, message, entry, holds):
            if at.shared and before.dup and not message.dup:
                # It went to this client first, and was read from its socket last.
                self.counts["redelivered"] += 1
                return hold
            self._again(at, message, before, name)
            holds.remove(before)
        elif len(holds) >= entry.copies_max:
            self.find("duplicates", f"{name} came {len(holds) + 1} times, sent {entry.sent}")
        elif message.dup and not at.shared and entry.invoked_at > self.connections[connection]:
            self.find("mismarked", name)
        holds.append(hold)
        return hold

    def _check_content(self, at: Destination, message: Message, entry: Entry, name: str) -> None:
        if message.topic != entry.topic or message.retain:
            self.find("corrupt", f"{name} came as {message[:1] + message[2:]}")
        elif message.qos != min(entry.qos, at.qos):
            self.find("corrupt", f"{name} came with QoS {message.qos}")
        elif not message.topic.startswith(at.prefix) or 0 < at.left < entry.invoked_at:
            self.find("phantom", f"{name} belongs to {entry.topic}")

    def _before(
        self, at: Destination, message: Message, entry: Entry, holds: list[Hold]
    ) -> Hold | None:
        """Which earlier delivery comes again; None: it is another copy of the message."""
        if message.qos == 2:
            return None  # the client knows by the packet identifier, and takes it once
        same = [
            hold
            for hold in holds
            if hold.connection not in self.connections
            and (at.shared or hold.packet_id == message.packet_id)
        ]
        if at.shared and len(holds) < entry.copies_max and not message.dup:
            return None
        # Copies look alike where several clients take them: take it for the one that may come.
        return min(same, key=lambda hold: (hold.acked, self._is_kept(hold)), default=None)

    def _is_kept(self, hold: Hold) -> bool:
        """Whether its acknowledgement was handled, and is certainly not forgotten."""
        if not hold.handled_at:
            return False
        return hold.run == self.run or hold.handled_at < self._proofs.get(hold.run, 0)

    def _again(self, at: Destination, message: Message, before: Hold, name: str) -> None:
        self.counts["redelivered"] += 1
        if not message.dup:
            if before.run == self.run and at.shared:
                self.counts["unmarked in a share"] += 1
            elif before.run == self.run:
                self.find("unmarked", name)
            else:
                self.counts["redelivered without DUP after a restart"] += 1
        if self._is_kept(before):
            self.find("resurrected", f"{name} was acknowledged with packet {before.packet_id}")

    def _check_order(self, at: Destination, entry: Entry, connection: int, name: str) -> None:
        key = (at, 0 if at.durable else connection, entry.publisher, entry.topic)
        last = self._last.get(key, 0)
        if entry.number < last:
            self.find("misordered", f"{name} first came after {last}")
        self._last[key] = max(last, entry.number)

    def handled(self, holds: Iterable[Hold]) -> None:
        """The broker has certainly seen these acknowledgements."""
        now = self.tick()
        for hold in holds:
            hold.handled_at = hold.handled_at or now

    # The verdict ------------------------------------------------------------------------------

    def owed(self, entry: Entry) -> list[Destination]:
        """Who must get a message that was acknowledged, or all of them if any."""
        if not entry.qos:
            return []
        return [
            each
            for each in self.destinations
            if each.durable
            and each.qos
            and entry.topic.startswith(each.prefix)
            and each.covers(entry)
        ]

    def missing(self) -> list[tuple[Destination, Entry]]:
        """What was acknowledged and did not come yet."""
        return [
            (each, entry)
            for entry in self.entries.values()
            if entry.ok
            for each in self.owed(entry)
            if each not in entry.holds
        ]

    def unsettled(self) -> list[str]:
        """What came and was not acknowledged yet."""
        return [
            f"{at.name}: {entry.publisher}|{entry.number}"
            for entry in self.entries.values()
            for at, holds in entry.holds.items()
            if at.durable and not all(hold.acked for hold in holds)
        ]

    def retained_for_sure(self) -> set[str]:
        """Topics of which some message must be retained."""
        last = {topic: [e for e in each if e.ok][-1:] for topic, each in self.kept.items()}
        return {
            topic
            for topic, each in last.items()
            if each
            and not any(e.deletes for e in self.kept[topic][self.kept[topic].index(each[0]) :])
        }

    def check_retained(self, found: dict[str, bytes]) -> None:
        """Compare what is retained with what was acknowledged; nobody publishes meanwhile."""
        for topic in found.keys() - self.kept.keys():
            self.find("phantom", f"{topic} is retained")
        for topic, entries in self.kept.items():
            last = next((at for at in reversed(range(len(entries))) if entries[at].ok), -1)
            # The last that was acknowledged, or any later one that may have been taken.
            possible = [entry for entry in entries[max(last, 0) :] if entry.copies_max]
            body = found.get(topic, b"")
            none_possible = last < 0 and not body
            if not none_possible and all(entry.body != body for entry in possible):
                what = parse_body(body) if body else "nothing"
                numbers = [entry.number for entry in possible]
                self.find("stale", f"{topic} retains {what}; it may be {numbers}")
            del entries[: max(last, 0)]
        self.counts["retained checked"] += len(self.kept)

    def emptied(self) -> None:
        """All that waited has come: say what did not, and remember only what must not come again.

        Nobody publishes now, and whoever could has sent again what was not acknowledged.
        """
        for at, entry in self.missing():
            self.find("lost", f"{at.name}: {entry.publisher}|{entry.number} on {entry.topic}")
        for text in self.unsettled():
            self.find("vanished", text)
        for key, entry in self.entries.items():
            owed = self.owed(entry)
            came = [each for each in owed if each in entry.holds]
            if not entry.ok and came:
                self.counts["recovered"] += 1
                if len(came) < len(owed):
                    text = f"{entry.publisher}|{entry.number} came to {len(came)} of {len(owed)}"
                    self.find("torn", text)
            self.past[key] = set(entry.holds)
        asked = [entry for entry in self.entries.values() if entry.qos]
        self.counts["messages"] += len(asked)
        while len(self.past) > PAST_MAX:
            del self.past[next(iter(self.past))]
        self.counts["QoS 0"] += len(self.entries) - len(asked)
        self.counts["unknown"] += sum(not entry.ok for entry in asked)
        self.entries.clear()

    def figures(self) -> str:
        """The line of figures."""
        told = ["QoS 0", *"messages acked unknown delivered redelivered recovered refused".split()]
        told += ["sent again", "redelivered without DUP after a restart", "unmarked in a share"]
        told += ["retained checked"]
        return ", ".join([*(f"{kind} {self.counts[kind]}" for kind in told), super().figures()])
