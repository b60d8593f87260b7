"""The audit: what clients asked for and were told, and whether the broker kept its word.

A send is INVOKED, then OK, or INFO for ever when the connection went before the answer. Which of
the rules was broken is the first word of :class:`Broken`:

lost         an OK message that never came, though all queues were emptied
vanished     a message that was read, never acknowledged, and is gone
phantom      a message that nobody sent
corrupt      a body that differs from what was sent
duplicate    delivered while somebody held it; or stored twice though its id was the same
resurrected  delivered after its acknowledgement was confirmed, or from a queue that it had left
misordered   a message of a FIFO group while an earlier one was there, or one was in flight
early        before its delay was over
stolen       an acknowledgement refused to who held the lease, or taken from who did not
reused       an id or a sequence number given to a second message
overdue      received more often than the queue allows

A message that is acknowledged, moved or given back is *settling* until the answer comes; when the
broker dies in between, either outcome is right.
"""

from dataclasses import dataclass, field
from zlib import crc32

from braidmq.broker.message import Delivery, Sent

__all__ = ["Audit", "Broken", "Entry", "body_of"]


class Broken(Exception):
    """The broker broke its word."""


def body_of(name: str, number: int, group: str, pad: int) -> bytes:
    """A body that proves whose it is and that it is whole."""
    text = f"{name}|{number}|{group}|".encode()
    return text + b"%08x|" % crc32(text + b"." * pad) + b"." * pad


def _is_whole(body: bytes) -> bool:
    name, number, group, crc, pad = body.split(b"|", 4)
    text = b"|".join((name, number, group, b""))
    return b"%08x" % crc32(text + pad) == crc


@dataclass
class Entry:
    """What is known of one message."""

    body: bytes
    queue: str
    group: str
    ok: bool = False
    id: int = 0
    seqs: dict[str, int] = field(default_factory=dict)  # queue -> its number there
    seen: bool = False  # somebody was given it
    holder: object = None  # who has it now
    token: int = 0  # of that lease
    batch: int = 0  # the delivery that holder got it by
    lease_end_ms: int = 0  # 0: with its holder
    settled: bool = False  # its acknowledgement was asked for, in this life or confirmed
    confirmed: bool = False
    ever_settled: bool = False
    moving: bool = False  # asked to be a dead letter, or received often enough to be one
    buried: bool = False  # seen in the dead-letter queue
    not_before_ms: int = 0
    not_before_kept: bool = True  # a restart does not end that delay


class Audit:
    """See the module."""

    def __init__(self) -> None:
        self.entries: dict[bytes, Entry] = {}
        self._by_id: dict[int, bytes] = {}
        self._by_seq: dict[tuple[str, int], bytes] = {}
        self._batch = 0
        self.receives_max = {"plain": 4, "fifo": 6}
        self.counts = dict.fromkeys(
            ("sent", "ok", "delivered", "acked", "dead", "again", "repeated"), 0
        )

    # --- sending ---

    def invoked(self, body: bytes, queue: str, group: str, due_ms: int) -> None:
        """Somebody sends ``body``, perhaps for the second time."""
        self.counts["sent"] += 1
        if body not in self.entries:
            self.entries[body] = Entry(body, queue, group, not_before_ms=due_ms)

    def accepted(self, body: bytes, sent: Sent) -> None:
        """The broker has said OK."""
        entry = self.entries[body]
        entry.ok = True
        self.counts["ok"] += 1
        self.counts["repeated"] += sent.duplicate
        self._identify(entry, entry.queue, sent.id, sent.seq)

    def _identify(self, entry: Entry, queue: str, id: int, seq: int) -> None:
        """A message has one id for ever, one number in each queue, and both for itself."""
        if entry.id not in (0, id) or entry.seqs.get(queue, seq) != seq:
            raise Broken(f"duplicate: {entry.body!r} is stored as {entry.id} and as {id}")
        entry.id = id
        entry.seqs[queue] = seq
        if self._by_id.setdefault(id, entry.body) != entry.body:
            raise Broken(f"reused: id {id} of {self._by_id[id]!r} for {entry.body!r}")
        if self._by_seq.setdefault((queue, seq), entry.body) != entry.body:
            raise Broken(f"reused: {queue} {seq} of {self._by_seq[queue, seq]!r}: {entry.body!r}")

    # --- receiving ---

    def delivered(
        self, queue: str, holder: object, deliveries: list[Delivery], lease_ms: int, now_ms: int
    ) -> None:
        """Somebody was given messages."""
        self._batch += 1
        for delivery in deliveries:
            self.counts["delivered"] += 1
            entry = self.entries.get(delivery.body)
            if not _is_whole(delivery.body):
                raise Broken(f"corrupt: {delivery.body!r}")
            if entry is None:
                raise Broken(f"phantom: {delivery.body!r}")
            self._check_right(entry, queue, delivery, now_ms)
            self._identify(entry, queue, delivery.id, delivery.seq)
            if entry.group:
                self._check_order(entry, queue, now_ms)
            self.counts["again"] += entry.seen
            entry.seen = True
            entry.settled = entry.moving = False
            entry.holder, entry.token, entry.batch = holder, delivery.token, self._batch
            entry.lease_end_ms = now_ms + lease_ms if lease_ms else 0
            entry.not_before_ms, entry.not_before_kept = 0, True
            if queue != entry.queue:
                entry.buried = True
                self.counts["dead"] += 1
            elif delivery.receives >= self.receives_max[queue]:
                entry.moving = True  # as soon as it is given back

    def _check_right(self, entry: Entry, queue: str, delivery: Delivery, now_ms: int) -> None:
        """Whether anybody may be given this message now."""
        what = f"{entry.body!r} from {queue} at {now_ms}"
        if entry.confirmed:
            raise Broken(f"resurrected: {what}, which was acknowledged")
        if entry.buried and queue == entry.queue:
            raise Broken(f"resurrected: {what}, which is a dead letter")
        if entry.settled:
            raise Broken(f"resurrected: {what}, whose acknowledgement was accepted")
        if entry.holder is not None:
            if not entry.lease_end_ms or now_ms < entry.lease_end_ms:
                raise Broken(f"duplicate: {what}, held until {entry.lease_end_ms}")
        if now_ms < entry.not_before_ms:
            raise Broken(f"early: {what}, not before {entry.not_before_ms}")
        if queue == entry.queue and delivery.receives > self.receives_max[queue]:
            raise Broken(f"overdue: {what}, {delivery.receives} times")

    def _check_order(self, entry: Entry, queue: str, now_ms: int) -> None:
        seq = entry.seqs[queue]
        for other in self.entries.values():
            if other is entry or other.group != entry.group or other.queue != entry.queue:
                continue
            if other.settled or other.moving or other.ever_settled or not (other.ok or other.seen):
                continue
            if other.buried != (queue != entry.queue):
                continue  # in another queue
            before = other.seqs.get(queue, 0)
            if before and before < seq and not (other.holder and other.batch == self._batch):
                raise Broken(f"misordered: {entry.body!r} while {other.body!r} is there")
            in_flight = other.holder is not None and other.batch != self._batch
            if before and in_flight and (not other.lease_end_ms or now_ms < other.lease_end_ms):
                raise Broken(f"misordered: {entry.body!r} while {other.body!r} is in flight")

    # --- settling ---

    def acknowledging(self, entry: Entry, token: int, refused: bool, now_ms: int) -> None:
        """An acknowledgement was taken, or refused."""
        self._check_answer(entry, token, refused, now_ms)
        if not refused:
            entry.holder = None
            entry.settled = entry.ever_settled = True

    def acknowledged(self, entry: Entry) -> None:
        """And is confirmed."""
        if entry.settled:
            entry.confirmed = True
            self.counts["acked"] += 1

    def giving_back(
        self, entry: Entry, token: int, refused: bool, now_ms: int, delay_ms: int
    ) -> None:
        """A message was given back."""
        self._check_answer(entry, token, refused, now_ms)
        if not refused:
            entry.holder = None
            if delay_ms and not entry.moving:
                entry.not_before_ms, entry.not_before_kept = now_ms + delay_ms, False

    def given_back(self, entry: Entry) -> None:
        """And that is confirmed: its delay holds over a restart."""
        entry.not_before_kept = True

    def burying(self, entry: Entry, token: int, refused: bool, now_ms: int) -> None:
        """A message was sent to the dead-letter queue."""
        self._check_answer(entry, token, refused, now_ms)
        if not refused:
            entry.holder = None
            entry.moving = True

    def extended(self, entry: Entry, token: int, refused: bool, now_ms: int, lease_ms: int) -> None:
        """A lease goes on."""
        self._check_answer(entry, token, refused, now_ms)
        if not refused and entry.lease_end_ms:
            entry.lease_end_ms = now_ms + lease_ms

    def _check_answer(self, entry: Entry, token: int, refused: bool, now_ms: int) -> None:
        """Who holds a message may settle it, and nobody else."""
        holds = entry.holder is not None and entry.token == token
        in_time = not entry.lease_end_ms or now_ms < entry.lease_end_ms
        if refused and holds and in_time:
            raise Broken(f"stolen: {entry.body!r}, held until {entry.lease_end_ms} at {now_ms}")
        if not refused and not holds:
            raise Broken(f"stolen: {entry.body!r} by an old receipt at {now_ms}")

    def left(self, holder: object) -> None:
        """A consumer has ended: what it held goes back."""
        for entry in self.entries.values():
            if entry.holder is holder:
                entry.holder = None

    def restarted(self) -> None:
        """The broker died: leases have ended, and what was under way may have happened or not."""
        for entry in self.entries.values():
            entry.holder = None
            entry.settled = entry.confirmed
            if not entry.not_before_kept:
                entry.not_before_ms, entry.not_before_kept = 0, True

    # --- the end ---

    def close(self) -> None:
        """All queues are empty: everything that was there was given to somebody who took it."""
        for entry in self.entries.values():
            if entry.seen and not entry.ever_settled:
                raise Broken(f"vanished: {entry.body!r} was read")
            if entry.ok and not entry.seen:
                raise Broken(f"lost: {entry.body!r}")
