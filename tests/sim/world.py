"""A whole broker in one thread of virtual time: clients, core, log and a disk that loses power.

``World`` owns the seed, the clock and the disk. ``turn`` does one thing of those that could happen
next, chosen by the seed: a callback of the loop, a step of the writer, a turn of the core, an act
of a client. So one seed is one history. Power may be cut, or the process killed, at any call of
the disk; then the world recovers and the clients connect anew.

Who lives there, and what is audited, a subclass says; ``worlds.py`` lists them. An audit hears what
clients ask for and what they are told, never what the broker thinks.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import ClassVar

from braidmq.broker.access import Access
from braidmq.broker.core import Core
from braidmq.broker.limits import Limits
from braidmq.storage import FileLog
from braidmq.storage.log import Job
from braidmq.storage.memory import MemoryLog
from tests.broker_harness import Clock
from tests.sim.clients import Client
from tests.simdisk import PowerCut, SimDisk, StepWorker

__all__ = ["World"]


class World(ABC):
    """See the module.

    Attributes:
        LIMITS: of the broker.
        SCRIPT_TURNS: of a history that reaches every kind of call of the disk.
        RICH: what the audit has to count, at least, in ten histories.
        REHOMES: records of streams move to files of their own.
    """

    LIMITS: ClassVar[Limits] = Limits()
    SCRIPT_TURNS: ClassVar[int]
    RICH: ClassVar[Mapping[str, int]]
    REHOMES: ClassVar[bool] = False

    def __init__(self, seed: int, crash_at: int = -1) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.disk = SimDisk()
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

    # --- what a subclass says ---

    @abstractmethod
    def populate(self) -> None:
        """Who lives here."""

    @abstractmethod
    def declare(self) -> None:
        """What is there from the beginning; asked for at every start."""

    def restarted(self) -> None:  # noqa: B027 - most audits go by what was confirmed
        """The broker died, and its clients have noticed."""

    def look(self) -> None:  # noqa: B027 - most audit what comes at once
        """Audit what is there now, in the middle of a history."""

    @abstractmethod
    def finish(self) -> None:
        """Let all that is under way end, and close the books."""

    @property
    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """What the audit has counted."""

    @property
    @abstractmethod
    def delivered(self) -> int:
        """How many messages came."""

    @property
    @abstractmethod
    def unheard(self) -> int:
        """How many requests were never answered."""

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
        self.clock.timers.clear()
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
        self.core = Core(log, self.LIMITS, Access(), self._ask, MemoryLog(1 << 61))
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
        self.restarted()
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

    @property
    def housekeeping(self) -> Mapping[str, Callable[[], Iterator[Job]]]:
        """What is done beside the clients' work, now and then."""
        log = self.core.log
        jobs = {"checkpoint": log.checkpoint, "compact": log.compact, "housekeep": log.housekeep}
        return {**jobs, "rehome": self._rehome} if self.REHOMES else jobs

    def _rehome(self) -> Iterator[Job]:
        yield from chain.from_iterable(self.core.streams.jobs())

    def keep_house(self) -> None:
        """One step of a checkpoint, a compaction or the housekeeping; begin one if none runs."""
        if self.jobs is None:
            jobs = self.housekeeping
            kind = self.rng.choice([*jobs, "housekeep"])
            self.note(kind)
            self.jobs = jobs[kind]()
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

    def all_leave(self) -> None:
        """Nobody begins anything new; what is under way goes on, perhaps over a last crash."""
        for client in self.clients:
            client.leave()
        self.guarded(self.settle)
        if self.rng.random() < 0.5:
            self.crash(True)

    def until(self, done: Callable[[], bool], turns: int, what: str) -> None:
        """Let all act and time pass until something is so; AssertionError: ``what`` never end."""
        for _ in range(turns):
            self.guarded(self.go_on)
            if done():
                return
        raise AssertionError(f"{what} do not end")

    def go_on(self) -> None:
        """Everybody acts once, and a little time passes."""
        for client in self.clients:
            client.act()
        self.clock.ms += 10
        self.settle()
