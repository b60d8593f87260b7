"""A whole broker in one thread of virtual time: clients, core, log and a disk that loses power.

``World`` owns the seed, the clock and the disk. ``turn`` does one thing of those that could happen
next, chosen by the seed: a callback of the loop, a step of the writer, a turn of the core, an act
of a client. So one seed is one history. Power may be cut, or the process killed, at any call of
the disk; then the world recovers and the clients connect anew.

``Audit`` (in ``audit.py``) hears what clients ask for and what they are told, never what the
broker thinks.
"""

import random
from collections.abc import Callable, Iterator

from braidmq.broker.access import SYSTEM, Access
from braidmq.broker.core import Core
from braidmq.broker.limits import Limits
from braidmq.broker.settings import QueueSettings
from braidmq.storage import FileLog
from braidmq.storage.log import Job
from braidmq.storage.memory import MemoryLog
from tests.broker_harness import Clock
from tests.sim.audit import Audit
from tests.sim.clients import WINDOW_MS, Client, Drainer, Producer, Puller, Pusher
from tests.simdisk import PowerCut, SimDisk, StepWorker

__all__ = ["QUEUES", "World"]

QUEUES: dict[str, QueueSettings] = {
    "plain": QueueSettings(max_receives=4, dead_letter="dead", visibility_timeout_ms=3_000),
    "fifo": QueueSettings(
        fifo=True, max_receives=6, dead_letter="fifo-dead", visibility_timeout_ms=3_000
    ),
}


class World:
    """See the module."""

    def __init__(self, seed: int, crash_at: int = -1) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.disk = SimDisk()
        self.audit = Audit()
        self.log_lines: list[str] = []
        self.clients: list[Client] = []
        self.crashes = 0
        self.compacted = 0  # bytes
        self.crash_at = crash_at  # a call of the disk, counted over all lives; -1: none planned
        self.calls_before = 0  # of the disk, in earlier lives
        self.jobs: Iterator[Job] | None = None
        self.job: Job = None
        self.begin(self.start)
        self.populate()

    def populate(self) -> None:
        """Who lives here."""
        for queue in QUEUES:
            for number in range(2):
                self.clients.append(Producer(self, f"{queue}-p{number}", queue))
                self.clients.append(Puller(self, f"{queue}-r{number}", queue))
            self.clients.append(Pusher(self, f"{queue}-c", queue))
        self.clients.append(Puller(self, "dead-r", "dead"))

    def declare(self) -> None:
        """What is there from the beginning; asked for at every start."""
        for name, settings in QUEUES.items():
            self.core.declare_queue(SYSTEM, name, settings, self.clock.ms)

    # --- lives ---

    def begin(self, start: Callable[[], None]) -> None:
        try:
            start()
        except PowerCut:
            self.crash(True)

    def start(self) -> None:
        """Open the broker on what is on the disk."""
        self.workers: list[StepWorker] = []
        self.jobs, self.job = None, None
        self.asked = False
        self.clock.calls.clear()
        if self.crash_at >= 0:
            self.disk.crash_at = self.crash_at - self.calls_before
        log = FileLog(
            "/data",
            disk=self.disk,
            writer=self._worker,
            segment_bytes=4_096,
            cache_bytes_max=8_192,
            read_cache_bytes_max=8_192,
            ballast_bytes=0,
            disk_free_bytes_min=0,
        )
        limits = Limits(dedup_window_ms=WINDOW_MS)
        self.core = Core(log, limits, Access(), self._ask, MemoryLog(1 << 61))
        log.open(self.core)
        self.core.start(self.clock)
        self.declare()

    def _worker(self, name: str) -> StepWorker:
        worker = StepWorker(name)
        self.workers.append(worker)
        return worker

    def _ask(self) -> None:
        self.asked = True

    def crash(self, power: bool) -> None:
        """The process is gone; what it had not synced perhaps too. Begin a new life."""
        self.crashes += 1
        self.note(f"crash power={power} call={self.disk.calls}")
        self.compacted += self.core.log.statistics().compacted_bytes
        self.calls_before += self.disk.calls
        if 0 <= self.crash_at <= self.calls_before:
            self.crash_at = -1  # it has happened
        self.disk = self.disk.after_power_cut(self.rng) if power else self.disk.after_kill()
        for client in self.clients:
            client.disconnected()
        self.audit.restarted()
        self.begin(self.start)  # power may go in the middle of recovering, too

    def plan_crash(self, calls: int) -> None:
        """Have power cut at a call of the disk that is so many ahead."""
        self.disk.crash_at = self.disk.calls + calls

    def note(self, line: str) -> None:
        """Remember what happened, for comparing two runs of a seed."""
        self.log_lines.append(f"{self.clock.ms} {line}")

    # --- time ---

    def run(self, turns: int) -> None:
        """Let so many things happen; a planned power cut is survived."""
        for _ in range(turns):
            self.guarded(self.turn)

    def guarded(self, act: Callable[[], object]) -> None:
        try:
            act()
        except PowerCut:
            self.crash(True)
        assert self.core.failed is None, self.core.failed

    def turn(self) -> None:
        """One thing that could happen next."""
        choice = self.rng.random()
        if choice < 0.45:
            self.rng.choice(self.clients).act()
        elif choice < 0.65:
            self.rng.choice(self.workers).step()
        elif choice < 0.78:
            self.clock.turn()
        elif choice < 0.87:
            self.work()
        elif choice < 0.92:
            self.pass_time(self.rng.choice([1, 5, 60, 400]))
        else:
            self.keep_house()

    def work(self) -> None:
        if self.asked:
            self.asked = False
            self.core.run(self.clock.ms)

    def pass_time(self, ms: int) -> None:
        """Time goes on; the timer may fire late, as timers do."""
        self.clock.ms += ms
        due = self.core.next_deadline()
        if due is not None and due <= self.clock.ms:
            self.core.tick(self.clock.ms)

    def keep_house(self) -> None:
        """One step of a checkpoint, a compaction or the housekeeping; begin one if none runs."""
        if self.jobs is None:
            log = self.core.log
            kind = self.rng.choice(["checkpoint", "compact", "housekeep", "housekeep"])
            self.note(kind)
            self.jobs = getattr(log, kind)()
        assert self.jobs is not None
        if self.job is not None:
            job, self.job = self.job, None
            job()
        try:
            self.job = next(self.jobs)
        except StopIteration:
            self.jobs = None

    def settle(self) -> None:
        """Let all happen that can without time going on."""
        for _ in range(10_000):
            busy = self.clock.turn()
            busy = any([worker.step() for worker in self.workers]) or busy
            due = self.core.next_deadline()
            if due is not None and due <= self.clock.ms:
                self.core.tick(self.clock.ms)
                busy = True
            if self.asked:
                self.work()
                busy = True
            if not busy:
                return
        raise AssertionError("the broker does not come to rest")

    # --- the end ---

    def finish(self) -> None:
        """Stop producing, settle what is held, then empty every queue and close the books."""
        for client in self.clients:
            client.leave()
        self.guarded(self.settle)
        if self.rng.random() < 0.5:
            self.crash(True)
        for _ in range(30):
            self.guarded(self.advance_far)
            for name in list(self.core.queues):
                self.guarded(Drainer(self, name).drain)
            if not sum(queue.live for queue in self.core.queues.values()):
                break
        self.audit.close()

    def advance_far(self) -> None:
        for _ in range(20):
            self.clock.ms += 500
            self.settle()
