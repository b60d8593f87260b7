"""The audit of streams: what was appended and read, and whether the broker kept its word.

The first word of :class:`Broken` says which rule was broken:

lost         an acknowledged record that is not at its number, though it is not too old
vanished     the same of a record that somebody has read
changed      a number with another record than before: read, or acknowledged
phantom      a record that nobody appended
duplicate    a record at two numbers
misordered   records of one key whose numbers do not rise as they were appended
ended        a record in a shard behind what a reader was told to be its end
gap          a reader was led past a record that is not too old
stuck        a reader waits though there is something for it
damaged      the log cannot be opened
"""

from collections import Counter
from dataclasses import dataclass, field

from tests.sim.audit import Broken
from tests.stream_client import Got

__all__ = ["StreamAudit"]

Place = tuple[int, int]  # shard, number


@dataclass
class _Sending:
    """A record that somebody appended, or tried to."""

    key: bytes
    order: int  # among those of its key
    time_ms: int  # not later than its own
    ok: bool = False
    place: Place | None = None  # where it is said to be
    seen: bool = False


@dataclass
class StreamAudit:
    """See the module."""

    retention_ms: int
    sendings: dict[bytes, _Sending] = field(default_factory=dict)
    places: dict[Place, Got] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)  # of shards
    counts: Counter[str] = field(default_factory=Counter)
    _orders: Counter[bytes] = field(default_factory=Counter)

    def invoked(self, body: bytes, key: bytes, now_ms: int) -> None:
        """A record is on its way."""
        self._orders[key] += 1
        self.sendings[body] = _Sending(key, self._orders[key], now_ms)

    def accepted(self, body: bytes, place: Place) -> None:
        """It is kept there."""
        sending = self.sendings[body]
        if sending.place not in (None, place):
            raise Broken(f"duplicate: {body!r} at {sending.place} and {place}")
        sending.place = place
        known = self.places.get(place)
        if known is not None and known.body != body:
            raise Broken(f"changed: {place} has {known.body!r}, not {body!r}")
        self.counts["appended"] += 1

    def taken(self, body: bytes) -> None:
        """It is kept somewhere: who publishes to a topic is not told where."""
        self.sendings[body].ok = True
        self.counts["published"] += 1

    def read(self, shard: int, records: list[Got]) -> None:
        """Somebody has read records."""
        for record in records:
            place = (shard, record.number)
            sending = self.sendings.get(record.body)
            if sending is None or sending.key != record.key:
                raise Broken(f"phantom: {record} in shard {shard}")
            if self.places.setdefault(place, record) != record:
                raise Broken(f"changed: {place} had {self.places[place]}, has {record}")
            if sending.place not in (None, place):
                raise Broken(f"duplicate: {record.body!r} at {sending.place} and {place}")
            sending.place = place
            sending.seen = True
            self.counts["read"] += 1

    def passed(self, shard: int, number: int, following: int, now_ms: int) -> None:
        """A reader was led from ``number`` to what it reads next."""
        for body, sending in self.sendings.items():
            if sending.place is not None and sending.place[0] == shard:
                if number <= sending.place[1] < following and not self._is_old(sending, now_ms):
                    raise Broken(f"gap: {body!r} at {sending.place}, read on at {following}")

    def ended(self, shard: int, end: int) -> None:
        """A reader was told that a shard ends there."""
        if self.ends.setdefault(shard, end) != end:
            raise Broken(f"ended: shard {shard} at {self.ends[shard]}, and at {end}")

    def _is_old(self, sending: _Sending, now_ms: int) -> bool:
        return sending.time_ms < now_ms - self.retention_ms

    def check(self, found: dict[Place, Got], now_ms: int) -> None:
        """All that can be read now is ``found``."""
        for shard, number in found:
            self.read(shard, [found[shard, number]])
        for body, sending in self.sendings.items():
            if (sending.place is None and not sending.ok) or sending.place in found:
                continue
            self.counts["expired"] += 1
            if not self._is_old(sending, now_ms):
                word = "vanished" if sending.seen else "lost"
                raise Broken(f"{word}: {body!r} was at {sending.place}")
        self._check_order()

        for shard, number in self.places:
            if number >= self.ends.get(shard, number + 1):
                raise Broken(f"ended: shard {shard} at {self.ends[shard]}, but has {number}")

    def _check_order(self) -> None:
        last: dict[bytes, tuple[int, int]] = {}
        for body, sending in self.sendings.items():  # in the order of each key
            if sending.place is None or not sending.key:
                continue
            order, number = last.get(sending.key, (0, 0))
            if sending.place[1] <= number:
                raise Broken(f"misordered: {body!r} at {sending.place}, {order} at {number}")
            last[sending.key] = (sending.order, sending.place[1])
