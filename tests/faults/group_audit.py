"""What must be true of a consumer group, whatever breaks: its checkpoints and its leases.

- A shard is assigned at the highest checkpoint that was acknowledged under an earlier lease, or at
  one that nobody knows of whether it was taken; never before, and never behind all of them. As a
  lease gives its records from there on without a gap, every record is given at least once.
- Epochs rise, also over restarts; who comes with an old one gets ``lease-lost``, who has the lease
  does not.
- A shard is assigned when the group is done with all of its parents.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .stream_audit import StreamJournal

__all__ = ["GroupBook", "GroupShard"]


@dataclass(slots=True)
class GroupShard:
    """What is known of a group in one shard."""

    asked: int = 0  # the highest checkpoint that was ever asked for
    acked: dict[int, int] = field(default_factory=dict)  # the highest confirmed, by epoch
    epoch: int = 0  # the highest that was ever assigned
    epochs: set[int] = field(default_factory=set)  # that were assigned in this run


class GroupBook:
    """What is known of one group."""

    def __init__(self, journal: "StreamJournal", stream: str, name: str) -> None:
        self._journal = journal
        self.stream = stream
        self.name = name
        self.shards: dict[int, GroupShard] = {}
        self._run = 0
        self._epoch_before = 0  # the highest of earlier runs

    def shard(self, index: int) -> GroupShard:
        """What is known of one shard."""
        return self.shards.setdefault(index, GroupShard())

    def _where(self, index: int) -> str:
        return f"group {self.name} of {self.stream}, shard {index}"

    def assigned(self, index: int, epoch: int, number: int) -> None:
        """A member is told that a shard is its own, from ``number`` on."""
        journal = self._journal
        if self._run != journal.run:
            self._run = journal.run
            self._epoch_before = max((each.epoch for each in self.shards.values()), default=0)
            for each in self.shards.values():
                each.epochs.clear()
        shard = self.shard(index)
        where = f"{self._where(index)}, epoch {epoch}"
        journal.counts["takeovers"] += 1
        if epoch <= self._epoch_before or epoch in shard.epochs:
            journal.find("fenced", f"{where}: {self._epoch_before} was assigned before")
        shard.epochs.add(epoch)
        shard.epoch = max(shard.epoch, epoch)
        least = max((n for each, n in shard.acked.items() if each < epoch), default=0)
        if number < least:
            journal.find("repeated", f"{where}: {least} was acknowledged, it begins at {number}")
        book = journal.books[self.stream].shard(index)
        if number > max(shard.asked, book.first) and book.first:
            journal.find("skipped", f"{where}: nobody asked for {number}, at most {shard.asked}")
        self._check_parents(index, where)

    def _check_parents(self, index: int, where: str) -> None:
        book = self._journal.books[self.stream]
        for parent in book.shard(index).parents:
            if parent not in book.shards:
                continue
            records, promised = book.shards[parent].records, book.shards[parent].promised
            last = max(max(records, default=0), max(promised, default=0))
            if last and self.shard(parent).asked <= last:
                text = f"{where}: {last} of its parent {parent} is not done"
                self._journal.find("misordered", text)

    def given(self, index: int, expected: int, first: int, count: int) -> None:
        """Records came, under a lease that was given all before ``expected``."""
        self._journal.counts["given"] += count
        if first != expected:
            self._journal.find("skipped", f"{self._where(index)}: {first} came for {expected}")

    def asks(self, index: int, number: int) -> None:
        """A checkpoint goes out now."""
        shard = self.shard(index)
        shard.asked = max(shard.asked, number)

    def kept(self, index: int, epoch: int, number: int, epoch_then: int) -> None:
        """A checkpoint was confirmed; ``epoch_then`` was the highest when it was asked for."""
        self._journal.counts["checkpoints"] += 1
        if epoch < epoch_then:
            text = f"{self._where(index)}: a checkpoint of {epoch} counts, {epoch_then} has it"
            self._journal.find("fenced", text)
        acked = self.shard(index).acked
        acked[epoch] = max(acked.get(epoch, 0), number)
        if len(acked) > 100:  # what counts is the highest of all that came before
            low = sorted(acked)[:50]
            acked[low[-1]] = max(acked.pop(each) for each in low)

    def refused(self, index: int, epoch: int, code: str, over: bool) -> None:
        """A checkpoint was refused; ``over``: its member had heard that the lease is over."""
        self._journal.counts["refused"] += 1
        if code != "lease-lost" or not over:
            self._journal.find("stolen", f"{self._where(index)}, epoch {epoch}: {code}")
