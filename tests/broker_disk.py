"""A broker on a simulated disk: the real core on a real FileLog, on virtual time.

    broker = DiskBroker()
    broker.declare(); broker.send(b"one")
    broker = broker.restarted()              # the process died, the page cache did not
    broker = broker.restarted(rng)           # power was cut: what was not synced may be gone

Every verb returns when what it asked for is kept, as in ``runtime.py``. ``checkpoint`` and
``compact`` can be interleaved with other work: ``between`` is called after each of their steps.
"""

import random
from collections.abc import Callable

import msgspec

from braidmq.broker.errors import BraidError
from braidmq.broker.limits import Limits
from braidmq.storage import FileLog
from braidmq.storage.log import Durability
from braidmq.storage.memory import MemoryLog
from tests.broker_harness import Clock, Harness
from tests.simdisk import SimDisk, StepWorker, run_steps

__all__ = ["DiskBroker"]

_MEMORY_LSN_FIRST = 1 << 61


class DiskBroker(Harness):
    """A :class:`Harness` on a FileLog on a SimDisk."""

    def __init__(
        self,
        disk: SimDisk | None = None,
        *,
        limits: Limits | None = None,
        clock: Clock | None = None,
        segment_bytes: int = 4096,
        cache_bytes_max: int = 1 << 20,
        accept_loss: bool = False,
    ) -> None:
        self.disk = disk or SimDisk()
        # Blocks of streams move to files whenever a segment is sealed, as small as it is here.
        self.limits = msgspec.structs.replace(limits or Limits(), shard_hot_lag_bytes_max=1)
        self.segment_bytes = segment_bytes
        self.cache_bytes_max = cache_bytes_max
        self.workers: list[StepWorker] = []
        self.auto_commit = True
        log = FileLog(
            "/data",
            disk=self.disk,
            writer=self._worker,
            accept_loss=accept_loss,
            segment_bytes=segment_bytes,
            cache_bytes_max=cache_bytes_max,
            read_cache_bytes_max=cache_bytes_max,
            ballast_bytes=0,
            disk_free_bytes_min=0,
        )
        super().__init__(log, self.limits, clock, self._step, MemoryLog(_MEMORY_LSN_FIRST))

    def _worker(self, name: str) -> StepWorker:
        worker = StepWorker(name)
        self.workers.append(worker)
        return worker

    def _step(self) -> bool:
        busy = [worker.step() for worker in self.workers]
        return any(busy)

    def settle(self) -> None:
        """Run all that can happen now, and keep what was appended."""
        super().settle()
        while self.auto_commit and self.core.failed is None and self._unkept():
            self.core.when_kept(Durability.SYNC, self._kept, None)
            super().settle()

    def _unkept(self) -> bool:
        return self.log.pending_bytes > 0 or self.log.durable_lsn < self.log.written_lsn

    def _kept(self, argument: object, error: BraidError | None) -> None:
        pass

    def checkpoint(self, between: Callable[[], object] = lambda: None) -> None:
        run_steps(self.log.checkpoint(), between)
        self.settle()

    def compact(self, between: Callable[[], object] = lambda: None) -> bool:
        """Compact one segment; whether there was one."""
        if not self.log.compaction_due():
            return False
        run_steps(self.log.compact(), between)
        self.settle()
        return True

    def rehome(self, between: Callable[[], object] = lambda: None) -> None:
        """Move the blocks of streams to files, and remove files that nobody needs."""

        def step() -> None:
            between()
            self.settle()  # what is not in memory is read by a worker

        for job in self.core.streams.jobs():
            run_steps(job, step)
        self.settle()

    def restarted(
        self, power_cut: random.Random | None = None, accept_loss: bool = False
    ) -> "DiskBroker":
        """Another broker on what this one has left on its disk; time does not go back."""
        disk = self.disk.after_power_cut(power_cut) if power_cut else self.disk.after_kill()
        clock = Clock()
        clock.ms = self.clock.ms
        return DiskBroker(
            disk,
            limits=self.limits,
            clock=clock,
            segment_bytes=self.segment_bytes,
            cache_bytes_max=self.cache_bytes_max,
            accept_loss=accept_loss,
        )
