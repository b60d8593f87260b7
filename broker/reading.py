"""Reading many messages of a queue without leasing them: browsing, and repeating a receive.

Whatever is not in memory is fetched, so the answer may come later; the queue goes on meanwhile.
"""

from collections.abc import Callable, Iterator

from ..storage.errors import StorageError
from ..storage.record import MessageContent
from .errors import BraidError, Unavailable
from .index import HELD, LEASED, LSN_MASK
from .message import Browsed
from .queue import Queue
from .selecting import selects
from .selectors import Selector

__all__ = ["Answer", "Browse", "Later", "ReadMany"]

_STEP_MESSAGES = 200  # examined before others have their turn

Later = Callable[[Callable[[], None]], None]
Answer = Callable[[object, list[Browsed] | BraidError], None]


class ReadMany:
    """Read the messages with the given sequence numbers; those that are gone are left out."""

    def __init__(
        self,
        queue: Queue,
        sequences: Iterator[int],
        later: Later,
        answer: Answer,
        argument: object,
    ) -> None:
        self._queue = queue
        self._sequences = sequences
        self._later = later
        self._answer = answer
        self._argument = argument
        self._reader = queue.make_reader(self._loaded)
        self._again = -1  # the message that was being read
        self.found: list[Browsed] = []

    def start(self) -> None:
        """Begin; the answer never comes from within this call."""
        self._later(self.step)

    def step(self) -> None:
        """Go on until the end, until a message has to come from disk, or for a while."""
        for _ in range(_STEP_MESSAGES):
            seq = self._again if self._again >= 0 else next(self._sequences, -1)
            self._again = -1
            if seq < 0 or not self._wanted():
                self._answer(self._argument, self.found)
                return
            lane, number = self._queue.locate(seq)
            slot = self._queue.shown(seq)
            if lane is None or not slot:
                continue
            message = self._reader.read(slot & LSN_MASK, lane.link(number))
            if message is None:
                self._again = seq
                return
            self._take(seq, slot, message)
        self._later(self.step)

    def _loaded(self, error: StorageError | None) -> None:
        if error is not None:
            self._answer(self._argument, Unavailable(f"queue {self._queue.name}: {error}"))
        else:
            self.step()

    def _wanted(self) -> bool:
        return True

    def _take(self, seq: int, slot: int, message: MessageContent) -> None:
        lane, number = self._queue.locate(seq)
        assert lane is not None
        lease = self._queue.leases.by_seq.get(seq)
        state = "in-flight" if slot & LEASED else "delayed" if slot & HELD else "ready"
        self.found.append(
            Browsed(
                seq,
                state,
                lease.receives if lease is not None else lane.receives(number),
                message.id,
                message.time_ms,
                message.attributes,
                message.body,
                message.expire_ms,
            )
        )


class Browse(ReadMany):
    """Look at up to ``limit`` messages after a sequence number, in the order of the sequences.

    Fewer when they are large: one answer has about ``receive_bytes_max``.
    """

    def __init__(
        self,
        queue: Queue,
        after: int,
        limit: int,
        selector: Selector | None,
        state: str,
        later: Later,
        answer: Answer,
        argument: object,
    ) -> None:
        super().__init__(queue, queue.sequences(after), later, answer, argument)
        self._limit = limit
        self._bytes_left = queue.host.limits.receive_bytes_max
        self._selector = selector
        self._state = state

    def _wanted(self) -> bool:
        return len(self.found) < self._limit and self._bytes_left > 0

    def _take(self, seq: int, slot: int, message: MessageContent) -> None:
        super()._take(seq, slot, message)
        browsed = self.found[-1]
        if (self._state not in ("all", browsed.state)) or (
            self._selector is not None and not selects(self._selector, self._queue, seq, message)
        ):
            self.found.pop()
        else:
            self._bytes_left -= len(browsed.body) + len(browsed.attributes)
