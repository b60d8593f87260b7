"""The audit: what independent clients asked for and saw, and whether the broker kept its word.

A request is INVOKEd when its bytes are written, then OK, FAIL (refused for certain) or INFO (the
connection went: nobody knows). What must hold, see docs/reliability.md:

lost         an OK message that never came, though all queues were emptied
vanished     a message that was read, not acknowledged, and did not come again
phantom      a message that nobody sent, or whose sending was refused
corrupt      a body or headers that differ from what was sent
duplicates   delivered again without a reason: no lease ended, nobody gave it back, no connection
             died with it, the broker did not restart; or stored more often than it was sent
resurrected  delivered although its acknowledgement was confirmed
misordered   a message of a FIFO group before an earlier one was settled
early        before its delay was over
stolen       an acknowledgement refused to who still held the lease
miscounted   the broker's own counters contradict the journal
stuck        a message that is counted but cannot be received
"""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import msgpack

from .journal import Journal, parse_body

__all__ = [
    "DEAD_LETTERS",
    "EVERY_QUEUE",
    "FAIL",
    "INFO",
    "INVOKE",
    "LEASE_MS",
    "OK",
    "QUEUES",
    "Entry",
    "Hold",
    "QueueJournal",
]

INVOKE, OK, FAIL, INFO = "INVOKE", "OK", "FAIL", "INFO"
CLOCK_SLACK_SECONDS = 0.010  # the broker's clock counts whole milliseconds, from another origin

LEASE_MS = 600_000  # so long that none ends in a test
SYNC, OS = "sync", "os"
# The mix that is under load during every fault. Durability goes over the wire as a number.
QUEUES: dict[str, dict[str, Any]] = {
    "standard": {"visibility_timeout_ms": LEASE_MS},
    "brief": {"visibility_timeout_ms": 400},
    "groups.fifo": {"fifo": True, "visibility_timeout_ms": LEASE_MS},
    "later": {"visibility_timeout_ms": LEASE_MS},
    "poison": {
        "visibility_timeout_ms": LEASE_MS,
        "max_receives": 2,
        "dead_letter": "poison-dead",
    },
    "relaxed": {"visibility_timeout_ms": LEASE_MS, "durability": 1},
    # Nobody receives from these until they are drained: all of it has to outlast every fault.
    "backlog": {"visibility_timeout_ms": LEASE_MS},
    "relaxed-backlog": {"visibility_timeout_ms": LEASE_MS, "durability": 1},
}
DEAD_LETTERS = {"poison": "poison-dead"}
DURABILITY = {"relaxed": OS, "relaxed-backlog": OS}
EVERY_QUEUE = [*QUEUES, *DEAD_LETTERS.values()]


@dataclass(slots=True)
class Entry:
    """One message that a producer wants to be taken, however often it has to ask."""

    queue: str
    producer: str
    number: int
    headers: dict[str, str]
    group: str = ""
    dedup: str = ""
    delay_ms: int = 0
    invoked_at: float = 0.0  # first
    attempts: Counter[str] = field(default_factory=Counter)  # outcome -> how many
    ok_ids: set[int] = field(default_factory=set)
    ids: set[int] = field(default_factory=set)  # answered or seen

    @property
    def ok(self) -> bool:
        return bool(self.ok_ids)

    @property
    def copies_max(self) -> int:
        """How many messages may rightly stand for it."""
        taken = self.attempts[OK] + self.attempts[INFO] + self.attempts[INVOKE]
        return min(taken, 1) if self.dedup else taken


@dataclass(slots=True)
class Hold:
    """One delivery of a message, as its consumer knows it."""

    entry: Entry
    queue: str
    id: int
    run: int  # of the broker
    connection: int
    receive: int  # which receive, or push consumer, it came by
    free_at: float  # not before then may anybody else get it; 0: as long as the consumer
    seen_at: float
    given_back: bool = False
    ack: str = ""  # "", INVOKE, OK or INFO


class QueueJournal(Journal):
    """What happened, and the counters of what must not."""

    BROKEN = (
        "lost vanished phantom corrupt duplicates resurrected misordered early stolen miscounted"
        " stuck"
    ).split()

    def __init__(self) -> None:
        super().__init__()
        self.connections_dead: set[int] = set()
        self.receives_dead: set[int] = set()  # push consumers that were cancelled
        self.entries: dict[tuple[str, int], Entry] = {}
        self.holds: dict[tuple[str, int], Hold] = {}  # (queue, id) -> the last we know
        self.past: set[tuple[str, int]] = set()  # what had come and gone when all was empty
        self.dead_ids: set[int] = set()  # ids of messages that came by a dead-letter queue
        self.groups: dict[str, list[Entry]] = {}  # in the order of sending
        self._first_open: dict[str, int] = {}  # group -> all before it are settled

    # --- publishing ---

    def invoke(self, entry: Entry) -> None:
        """The bytes of a send go out now."""
        key = (entry.producer, entry.number)
        if key not in self.entries:
            self.entries[key] = entry
            entry.invoked_at = time.monotonic()
            if entry.group:
                self.groups.setdefault(entry.group, []).append(entry)
        entry.attempts[INVOKE] += 1
        self.counts["attempts"] += 1

    def ok(self, entry: Entry, id: int, duplicate: bool) -> None:
        """The broker says that it has it."""
        entry.attempts[INVOKE] -= 1
        entry.attempts[OK] += 1
        self.counts["acked"] += 1
        if duplicate and not entry.dedup:
            self.find("duplicates", f"{entry.producer}|{entry.number} is no duplicate")
        entry.ok_ids.add(id)
        if self._strict(entry.queue):
            self._identify(entry, id)

    def fail(self, entry: Entry) -> None:
        """Refused: it must never be seen."""
        entry.attempts[INVOKE] -= 1
        entry.attempts[FAIL] += 1
        self.counts["fail"] += 1

    def unknown(self, entry: Entry) -> None:
        """The connection went before the answer came."""
        entry.attempts[INVOKE] -= 1
        entry.attempts[INFO] += 1
        self.counts["info"] += 1

    def _identify(self, entry: Entry, id: int) -> None:
        entry.ids.add(id)
        if len(entry.ids) > max(entry.copies_max, 1):
            text = f"{entry.queue} {entry.producer}|{entry.number} is stored as {sorted(entry.ids)}"
            self.find("duplicates", f"{text}, sent as {dict(entry.attempts)}")

    def _strict(self, queue: str) -> bool:
        """Whether nothing may be lost in it: ``os`` survives the process, not a power cut."""
        return DURABILITY.get(queue, SYNC) == SYNC or not self.power_cut_runs

    # --- receiving ---

    def delivered(
        self,
        queue: str,
        message: list[Any],
        connection: int,
        receive: int,
        asked_at: float,
        lease_ms: int,
    ) -> Hold | None:
        """A message came. ``lease_ms`` 0: for as long as the consumer lives."""
        now = time.monotonic()
        self.counts["delivered"] += 1
        _, _, receives, id, _, attributes, body = message
        entry = self._entry_of(queue, body, attributes)
        if entry is None:
            return None
        key = (queue, id)
        before = self.holds.get(key)
        if before is not None and before.entry is not entry:
            if self._strict(queue):
                self.find("corrupt", f"{queue}: id {id} is another message than before")
            self.holds[queue, -len(self.holds)] = before  # a power cut undid it: its id is free
            before = None
        if self._strict(queue):
            self._identify(entry, id)
        if before is not None:
            self._again(before, now)
        if entry.delay_ms and now + CLOCK_SLACK_SECONDS < entry.invoked_at + entry.delay_ms / 1000:
            if queue == entry.queue:
                self.find("early", f"{queue} {entry.producer}|{entry.number}")
        self._check_dead_letter(queue, entry, id, receives)
        free_at = asked_at + lease_ms / 1000 if lease_ms else 0.0
        hold = Hold(entry, queue, id, self.run, connection, receive, free_at, now)
        self.holds[key] = hold
        if entry.group:
            self._check_order(hold, before)
        return hold

    def _entry_of(self, queue: str, body: bytes, attributes: bytes) -> Entry | None:
        parsed = parse_body(body)
        if parsed is None:
            self.find("corrupt", f"{queue}: a body of {len(body)} bytes: {body[:60]!r}")
            return None
        entry = self.entries.get(parsed)
        name = f"{queue} {parsed[0]}|{parsed[1]}"
        if parsed in self.past:
            return self._from_the_past(queue, parsed, name)
        if entry is None or not entry.copies_max:
            self.find("phantom", name)
            return None
        if queue not in (entry.queue, DEAD_LETTERS.get(entry.queue)):
            self.find("phantom", f"{name} belongs to {entry.queue}")
        headers = msgpack.unpackb(attributes, raw=False) if attributes else {}
        ours = {name: value for name, value in headers.items() if name in entry.headers}
        if ours != entry.headers:
            self.find("corrupt", f"{name} has headers {headers}")
        return entry

    def _from_the_past(self, queue: str, parsed: tuple[str, int], name: str) -> Entry:
        """It was settled, or certainly never there, when all queues were empty."""
        if self._strict(queue):
            self.find("resurrected", name)
        else:
            self.counts["resurrected (os, power cut)"] += 1
        self.past.remove(parsed)
        entry = self.entries[parsed] = Entry(queue, *parsed, {})
        entry.attempts[INFO] += 1
        return entry

    def _again(self, hold: Hold, now: float) -> None:
        """A message came that we have had before: is there a reason?"""
        self.counts["redelivered"] += 1
        if hold.ack == OK:
            if self._strict(hold.queue):
                self.find("resurrected", f"{hold.queue} {hold.entry.producer}|{hold.entry.number}")
            else:
                self.counts["resurrected (os, power cut)"] += 1
            return
        justified = (
            hold.run != self.run
            or hold.given_back
            or (not hold.free_at and hold.connection in self.connections_dead)
            or (not hold.free_at and hold.receive in self.receives_dead)
            or (hold.free_at and now + CLOCK_SLACK_SECONDS >= hold.free_at)
        )
        if not justified:
            text = f"{hold.queue} {hold.entry.producer}|{hold.entry.number}"
            self.find("duplicates", f"{text} came again after {now - hold.seen_at:.3f} s")

    def _check_dead_letter(self, queue: str, entry: Entry, id: int, receives: int) -> None:
        if queue in DEAD_LETTERS.values():
            self.dead_ids.add(id)
            return
        most = QUEUES[queue].get("max_receives", 0)
        name = f"{queue} {entry.producer}|{entry.number}"
        if most and receives > most:
            self.find("resurrected", f"{name} was received {receives} times, {most} are allowed")
        if id in self.dead_ids:
            self.find("resurrected", f"{name} is in the dead-letter queue already")

    def _check_order(self, hold: Hold, before: Hold | None) -> None:
        """All before it in its group must be settled, or have come by the same receive."""
        entry = hold.entry
        group = self.groups[entry.group]
        first = self._first_open.get(entry.group, 0)
        if before is not None and before.ack:
            # Its acknowledgement was lost: for this run of the broker it was open all the time.
            at = group.index(entry)
            first = min(first, at)
            for later in group[at + 1 :]:
                if any(other.run == self.run > before.run for other in self._holds_of(later)):
                    text = f"{entry.group}: {later.number} came before {entry.number} again"
                    self.find("misordered", text)
        while first < len(group) and self._settled(group[first]):
            first += 1
        self._first_open[entry.group] = first
        for earlier in group[first:]:
            if earlier is entry:
                break
            holds = self._holds_of(earlier)
            if (not earlier.ok and not holds) or self._settled(earlier):
                continue
            if not any(other.receive == hold.receive for other in holds):
                text = f"{entry.group}: {entry.number} came before {earlier.number} was settled"
                self.find("misordered", text)
                break

    def _holds_of(self, entry: Entry) -> list[Hold]:
        found = (self.holds.get((entry.queue, id)) for id in entry.ids)
        return [hold for hold in found if hold is not None]

    def _settled(self, entry: Entry) -> bool:
        holds = self._holds_of(entry)
        return not entry.copies_max or (bool(holds) and all(hold.ack for hold in holds))

    # --- settling ---

    def ack_invoke(self, hold: Hold) -> None:
        """The bytes of an acknowledgement go out now."""
        hold.ack = INVOKE

    def ack_ok(self, hold: Hold) -> None:
        """Confirmed: it must never come again."""
        hold.ack = OK
        self.counts["settled"] += 1
        if self.holds[hold.queue, hold.id] is not hold:
            name = f"{hold.queue} {hold.entry.producer}|{hold.entry.number}"
            self.find("duplicates", f"{name}: acknowledged by one, held by another")

    def ack_refused(self, hold: Hold, code: str) -> None:
        """The broker says that it was not ours any more."""
        still_ours = (
            hold.run == self.run
            and not hold.given_back
            and hold.connection not in self.connections_dead
            and hold.receive not in self.receives_dead
            and (not hold.free_at or time.monotonic() < hold.free_at)
        )
        if still_ours or code != "lease-lost":
            name = f"{hold.queue} {hold.entry.producer}|{hold.entry.number}"
            self.find("stolen", f"{name}: {code}")
        if hold.ack == INVOKE:
            hold.ack = ""

    def ack_unknown(self, hold: Hold) -> None:
        """The connection went before the answer came."""
        if hold.ack == INVOKE:
            hold.ack = INFO

    # --- the verdict ---

    def check_counters(self, told: dict[str, int]) -> None:
        """Compare what the broker counts, when nothing is in flight, with what we know."""
        least: Counter[str] = Counter()
        most: Counter[str] = Counter()
        home = {dead: queue for queue, dead in DEAD_LETTERS.items()}
        confirmed = Counter(home.get(h.queue, h.queue) for h in self.holds.values() if h.ack == OK)
        seen = {(hold.entry.producer, hold.entry.number) for hold in self.holds.values()}
        gone = {
            (hold.entry.producer, hold.entry.number) for hold in self.holds.values() if hold.ack
        }
        for key, entry in self.entries.items():
            most[entry.queue] += entry.copies_max
            if key not in gone and (entry.ok or key in seen):
                least[entry.queue] += 1
        for queue in QUEUES:
            count = told[queue] + told.get(DEAD_LETTERS.get(queue, ""), 0)
            upper = most[queue] - confirmed[queue]
            if not least[queue] <= count <= upper and self._strict(queue):
                text = f"{queue} has {count} messages, {least[queue]} to {upper} are possible"
                self.find("miscounted", text)

    def emptied(self) -> None:
        """All queues are empty: say what did not come, and remember only what must not come again.

        This was seen in a run of the broker in which nothing else was asked for, so whatever was
        unknown before is decided now: what has not come by now is not there.
        """
        delivered = {(hold.entry.producer, hold.entry.number) for hold in self.holds.values()}
        for key, entry in self.entries.items():
            name = f"{entry.queue} {entry.producer}|{entry.number} {dict(entry.attempts)}"
            if entry.ok and key not in delivered:
                if self._strict(entry.queue):
                    self.find("lost", f"{name}, ids {sorted(entry.ok_ids)}")
                else:
                    self.counts["lost (os, power cut)"] += 1
            elif not entry.ok and key in delivered:
                self.counts["recovered"] += 1
        for hold in self.holds.values():
            if not hold.ack and not (hold.queue in DEAD_LETTERS and hold.id in self.dead_ids):
                name = f"{hold.queue} {hold.entry.producer}|{hold.entry.number}"
                if self._strict(hold.queue):
                    self.find("vanished", name)
                else:
                    self.counts["vanished (os, power cut)"] += 1
        self.counts["messages"] += len(self.entries)
        self.past.update(self.entries)
        for state in (self.entries, self.holds, self.dead_ids, self.groups, self._first_open):
            state.clear()

    def figures(self) -> str:
        """The line of figures."""
        told = ["messages", "acked", "info", "fail", "settled", "redelivered", "recovered"]
        told += [kind for kind in self.counts if "(" in kind]
        return ", ".join([*(f"{kind} {self.counts[kind]}" for kind in told), super().figures()])
