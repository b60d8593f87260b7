"""Records of a view on their way to the dead-letter queue, which have to be read first.

The stream lets go of a record whoever has trouble with it, so a dead letter is a copy. What is in
memory is buried at once. The rest is held back in the log until a time that never comes, which
means "to be buried" also after a restart, and is read and buried one after the other.
"""

from typing import TYPE_CHECKING

from ..storage.errors import StorageError
from ..storage.record import encode_delay
from .index import LSN_MASK
from .state import NUMBER_MASK
from .viewreader import ViewReader

if TYPE_CHECKING:
    from .streamview import StreamView

__all__ = ["BURY_MS", "Burials"]

BURY_MS = 1 << 62  # the time that never comes. On disk
_RETRY_MS = 1_000  # before it is tried again when there was no room


class Burials:
    """What one view has to bury.

    Attributes:
        waiting: why each goes, and after how many receives, by its sequence.
        retry_ms: when to call :meth:`step` again; 0: it is called back.
    """

    def __init__(self, view: "StreamView") -> None:
        self._view = view
        self._reader = ViewReader(view.log, view.shards, view.host.later, self._loaded)
        self.waiting: dict[int, tuple[str, int]] = {}
        self.retry_ms = 0

    def bury(self, seq: int, reason: str, receives: int, now_ms: int) -> None:
        """Bury a record that nobody holds: now, or when it has been read.

        It never comes back once all is kept that is in the log behind this call.
        """
        view = self._view
        message = view.reader.peek(view.slot(seq) & LSN_MASK)
        if message is not None and view.host.bury_record(
            view, seq, message, reason, receives, now_ms
        ):
            return
        if view.logged:
            view.log.append((encode_delay(view.id, BURY_MS, [seq]),))
        view.hold_for_good(seq)
        self.waiting[seq] = (reason, receives)
        view.host.later(self.step)

    def recover(self, seq: int, reason: str, receives: int) -> None:
        """A record was held back to be buried before the broker was started."""
        self._view.hold_for_good(seq)
        self.waiting[seq] = (reason, receives)

    def start(self) -> None:
        """Everything is recovered."""
        if self.waiting:
            self._view.host.later(self.step)

    def step(self) -> None:
        """Bury until one has to come from disk."""
        self.retry_ms = 0
        view = self._view
        now_ms = view.host.now_ms
        while self.waiting and not self._reader.loading:
            seq, (reason, receives) = next(iter(self.waiting.items()))
            slot = view.slot(seq)
            if slot and seq & NUMBER_MASK < view.shards[seq >> 48].shard.first:
                view.expire(seq, now_ms)
                slot = 0
            if slot:
                message = self._reader.read(slot & LSN_MASK)
                if message is None:
                    return
                if not view.host.bury_record(view, seq, message, reason, receives, now_ms):
                    self.retry_ms = now_ms + _RETRY_MS
                    view.set_alarm()
                    return
            del self.waiting[seq]
        self._reader.forget()

    def _loaded(self, error: StorageError | None) -> None:
        if error is not None and self.waiting:
            seq = next(iter(self.waiting))
            del self.waiting[seq]  # it stays held: it cannot be read
            self._view.counters.damaged += 1
            self._view.host.damaged(self._view, seq, error)
        self._view.host.later(self.step)
