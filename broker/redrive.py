"""Redrive: dead letters go back to work, at a rate, with progress.

A redrive is moved on by the broker's clock. It survives its clients, not the broker: what it moved
stays moved, what it did not is still in the dead-letter queue.
"""

from collections.abc import Callable

from ..storage.errors import StorageError
from .errors import BraidError
from .index import HELD, LEASED, LSN_MASK
from .message import DEAD_LETTER_QUEUE, unpack_headers
from .queue import Queue
from .reader import Reader
from .verbs import RedriveInfo

__all__ = ["Redrive"]

_STEP_MESSAGES = 200
_STEP_MS = 10
_PAUSE_MS_MAX = 2**40

Move = Callable[[Queue, int, str], None]


class Redrive:
    """Moves up to ``limit`` ready messages out of ``source``.

    ``move(source, seq, target)`` does the moving; with no target of its own the redrive sends
    each message back to the queue that its dead-letter headers name.
    """

    def __init__(
        self, id: int, source: Queue, target: str, rate: float, limit: int, move: Move, now_ms: int
    ) -> None:
        self.id = id
        self.source = source
        self.target = target
        self.rate = rate
        self.limit = min(limit, source.live) if limit else source.live
        self.moved = 0
        self.state = "running"
        self.error = ""
        self._move = move
        self._started_ms = now_ms
        self._reader = Reader(source.log, self._loaded)
        self._positions = {lane.base: 0 for lane in source.lanes}
        self._bounds = {lane.base: lane.next for lane in source.lanes}

    def info(self) -> RedriveInfo:
        """How far it is."""
        return RedriveInfo(
            self.id,
            self.source.name,
            self.target,
            self.state,
            self.moved,
            self.limit,
            self.rate,
            self.error,
        )

    def step(self, now_ms: int) -> int | None:
        """Move what is due now; when to be called again, or None at the end."""
        quota = _STEP_MESSAGES
        if self.rate:
            due = int((now_ms - self._started_ms) * self.rate / 1000) + 1
            quota = min(quota, due - self.moved)
        try:
            while quota > 0 and self.state == "running" and not self._reader.loading:
                if not self._move_next():
                    break
                quota -= 1
        except BraidError as error:
            self.state, self.error = "failed", str(error)
        if self.state != "running":
            self._reader.rest()
            return None
        if self.rate:
            # Divided by next to nothing it is infinite, which is no time.
            pause_ms = int(min(self.moved * 1000 / self.rate, _PAUSE_MS_MAX))
            return max(now_ms + 1, self._started_ms + pause_ms)
        return now_ms + (_STEP_MS if self._reader.loading else 1)

    def _move_next(self) -> bool:
        """Move one message; False when it has to be read first, or when there is none."""
        for base, position in self._positions.items():
            lane = self.source.by_code.get(base >> 48)
            if lane is None or self.moved >= self.limit:
                continue
            number = lane.first_ready(position)
            self._positions[base] = number
            if number >= self._bounds[base]:
                continue
            target = self.target
            if not target:
                message = self._reader.read(lane.slot(number) & LSN_MASK, lane.link(number))
                if message is None:
                    return False
                origin = unpack_headers(message.attributes).get(DEAD_LETTER_QUEUE, "")
                target = origin if isinstance(origin, str) else ""
            assert 0 < lane.slot(number) < min(LEASED, HELD)
            self._move(self.source, base | number, target)
            self.moved += 1
            return True
        self.state = "done"
        return False

    def _loaded(self, error: StorageError | None) -> None:
        if error is not None:
            self.state, self.error = "failed", str(error)
