"""A member of a consumer group: it reads, checkpoints, gives back, goes away and comes again.

It is a fencing test as well: now and then it tries a checkpoint with a lease that it has lost,
also with one of a connection, or of a run of the broker, that is long gone.
"""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from .load import UNKNOWN_CODES
from .stream_audit import StreamJournal
from .stream_load import take_chunk
from .stream_wire import CHECKPOINT, MORE, RELEASE, StreamWire
from .wire import Gone, Refusal

__all__ = ["Member"]

OLD_LEASES_MAX = 20


@dataclass(slots=True)
class _Held:
    """A shard that was assigned to the member."""

    epoch: int
    given: int  # all before came
    over: bool = False


class Member:
    """See the module.

    Args:
        thorough: it checkpoints everything, and never goes away.

    Attributes:
        held: what it has, by shard.
    """

    def __init__(
        self,
        journal: StreamJournal,
        rng: random.Random,
        stream: str,
        group: str,
        thorough: bool = False,
    ) -> None:
        self._journal = journal
        self._rng = rng
        self._stream = stream
        self._name = group
        self._thorough = thorough
        self._wire: StreamWire | None = None
        self._request = 0
        self._events: asyncio.Queue[list[Any]] = asyncio.Queue()
        self._old: list[tuple[int, _Held]] = []  # leases of the past, with their shards
        self.held: dict[int, _Held] = {}

    async def run(self, port: int) -> None:
        """Join, go and come back, until the broker is gone. Raises Gone."""
        while True:
            self._events = asyncio.Queue()
            self._wire = wire = await StreamWire.open(port)
            try:
                self._request = await wire.join(self._on_event, self._stream, self._name)
                await self._come_back()
                while self._thorough or self._rng.random() >= 0.01:
                    await self._handle(await self._events.get())
                if self._rng.random() < 0.5:
                    await wire.leave(self._request)
            finally:
                wire.abort()
                for index, held in self.held.items():
                    held.over = True
                    self._old.append((index, held))
                self.held.clear()
                del self._old[:-OLD_LEASES_MAX]

    def _on_event(self, told: list[Any]) -> None:
        """What came, while its bytes are parsed: who has what is known at once."""
        if not told:
            self._events.put_nowait([])
            return
        kind, index, epoch, number, sent = told[0]
        journal = self._journal
        book = journal.group(self._stream, self._name)
        held = self.held.get(index)
        if kind == "assigned":
            book.assigned(index, epoch, number)
            held = self.held[index] = _Held(epoch, number)
        elif held is None or held.epoch != epoch:
            text = f"{self._name} of {self._stream}, shard {index}: {kind} of epoch {epoch}"
            journal.find("phantom", text)
            return
        elif kind == "records":
            chunk = take_chunk(journal, self._stream, index, number, sent)
            if chunk.records:
                first = chunk.records[0].number
                book.given(index, held.given, first, len(chunk.records))
            held.given = chunk.next
        elif kind in ("lost", "done"):
            held.over = True
            del self.held[index]
            self._old.append((index, held))
        self._events.put_nowait([kind, index, held])

    async def _come_back(self) -> None:
        """Whatever it once had is somebody else's, or its own under a new lease."""
        for index, held in self._rng.sample(self._old, min(2, len(self._old))):
            await self._checkpoint(index, held, held.given)

    async def _handle(self, event: list[Any]) -> None:
        assert self._wire is not None
        if not event:
            raise Gone("the membership ended")
        kind, index, held = event
        rng = self._rng
        if kind == "records":
            if not self._thorough:
                await asyncio.sleep(rng.random() * 0.02)
            if self._thorough or rng.random() < 0.7:
                await self._checkpoint(index, held, held.given)
            if not held.over:
                self._wire.post(MORE, self._request, index, held.epoch)
        elif kind == "revoked" and (self._thorough or rng.random() < 0.8):
            if rng.random() < 0.5:
                await self._checkpoint(index, held, held.given)
            self._wire.post(RELEASE, self._request, index, held.epoch)
        elif kind == "lost" and rng.random() < 0.5:
            await self._checkpoint(index, held, held.given)

    async def _checkpoint(self, index: int, held: _Held, number: int) -> None:
        assert self._wire is not None
        book = self._journal.group(self._stream, self._name)
        over = held.over
        epoch_then = book.shard(index).epoch
        if not over:
            book.asks(index, number)
        try:
            await self._wire.call(CHECKPOINT, self._request, index, held.epoch, number)
        except Refusal as refusal:
            if refusal.code in UNKNOWN_CODES:
                raise
            book.refused(index, held.epoch, refusal.code, held.over)
        else:
            book.asks(index, number)
            book.kept(index, held.epoch, number, epoch_then)
            if over:
                self._journal.find("fenced", f"{self._name}, shard {index}: a lease that was over")
