"""``async with Broker(...)``: the core on an event loop, with a clock, a timer and a log.

Everything below is plain synchronous code; this is where it meets ``asyncio``. Rules:

1. Everything started here ends with the ``async with``. No global state, no event loop policy, no
   logging configuration; any number of brokers may run in a process.
2. Time is the wall clock when the broker opened plus what has passed since on the monotonic one:
   it never goes back, and does not follow when somebody sets the clock.
3. One timer, armed for the core's next deadline. It may fire early, never late.
4. Housekeeping (syncing, checkpoints, compaction) runs in slices on the loop; its file work runs
   in threads.
5. When the log fails, the broker has failed: every call that waits, and every later one, raises
   ``BrokerFailed``. Opening it again recovers.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import TracebackType

from ..storage.errors import StorageError
from ..storage.filelog import FileLog
from ..storage.log import Durability, Job, Log, RecoveryReport
from ..storage.memory import MemoryLog
from .access import SYSTEM, Access, Principal, User
from .core import Core
from .errors import BraidError, BrokerFailed, Conflict, Unavailable
from .face import BrokerFace
from .limits import Limits, SessionPolicy
from .localverbs import LocalVerbs
from .received import finish
from .verbs import Verbs

__all__ = ["Broker"]

_HOUSEKEEPING_SECONDS = 1.0
_SLICE_SECONDS = 0.001  # of a job, then others have their turn
_SLICE_PAUSE_SECONDS = 0.001
_NOT_OPEN = "the broker is not open: use `async with Broker(...) as broker`"
_MEMORY_LSN_FIRST = 1 << 59  # where queues without durability live, far above every file

logger = logging.getLogger(__name__)


class _Scheduler:
    """The loop and the clock, as the log wants them."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._monotonic = time.monotonic
        self._offset_ms = int(time.time() * 1000) - int(time.monotonic() * 1000)

    def soon(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after what runs now."""
        self._loop.call_soon(callback)

    def soon_from_thread(self, callback: Callable[[], None]) -> None:
        """The same, from any thread; nothing happens when the loop is closed."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def later(self, delay_ms: int, callback: Callable[[], None]) -> None:
        """Call ``callback`` when so much time has passed."""
        self._loop.call_later(delay_ms / 1000, callback)

    def now_ms(self) -> int:
        """Unix time in ms that never goes back."""
        return self._offset_ms + int(self._monotonic() * 1000)


class Broker(BrokerFace):
    """A broker in this process: ``async with Broker("./data") as broker: ...``

    Args:
        path: the data directory, made if it is missing; None keeps everything in memory.
        limits: every maximum; see :class:`braidmq.broker.limits.Limits`.
        users: who may do what over the network. Calls on this object may do everything.
        sessions: how messages of sessions are kept, and what happens when there are too many.
        accept_loss: open the log even though acknowledged data is damaged; it is gone then.
        progress: called as ``progress(done_bytes, total_bytes)`` while the log is recovered, from
            another thread.
        log: an engine to use instead of the log at ``path``.

    Entering raises ``Locked`` when another process has the directory, ``Corrupt`` when acknowledged
    data is damaged, ``FormatUnknown``, ``OSError``. A broker is entered once.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        limits: Limits | None = None,
        users: Iterable[User] = (),
        sessions: SessionPolicy | None = None,
        accept_loss: bool = False,
        progress: Callable[[int, int], None] | None = None,
        log: Log | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._sessions = sessions or SessionPolicy()
        self.access = Access(users)
        self.principal: Principal = SYSTEM
        self.report: RecoveryReport | None = None  # what opening found and did
        self._progress = progress
        self._log: Log
        if log is not None:
            self._log = log
        elif path is None:
            self._log = MemoryLog()
        else:
            self._log = FileLog(
                str(path),
                accept_loss=accept_loss,
                cache_bytes_max=self._limits.cache_bytes_max,
                ballast_bytes=self._limits.reserve_bytes,
                disk_free_bytes_min=self._limits.disk_free_bytes_min,
            )
        self._core: Core | None = None
        self._scheduler: _Scheduler | None = None
        self._verbs: LocalVerbs | None = None
        self._loop: asyncio.AbstractEventLoop
        self._failure: asyncio.Future[BrokerFailed]
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._stopping = asyncio.Event()
        self._housekeeping: asyncio.Task[None] | None = None
        self._running = False
        self._counts: list[Callable[[], int]] = []

    # --- what people and servers use ---

    @property
    def verbs(self) -> Verbs:
        """The verbs, for ``principal``."""
        if self._verbs is None:
            raise Unavailable(_NOT_OPEN)
        return self._verbs

    @property
    def core(self) -> Core:
        """The core, for servers: plain synchronous calls on this loop's thread."""
        if self._core is None or not self._running:
            raise Unavailable(_NOT_OPEN)
        return self._core

    @property
    def instance(self) -> int:
        """Half of every message's id: which log it is in."""
        return self.core.instance

    @property
    def limits(self) -> Limits:
        """The limits it was opened with."""
        return self._limits

    def now_ms(self) -> int:
        """Unix time in ms that never goes back."""
        assert self._scheduler is not None
        return self._scheduler.now_ms()

    async def failed(self) -> BrokerFailed:
        """Wait until the log fails, and return why. For whoever must then end the process."""
        return await asyncio.shield(self._failure)

    def on_count_connections(self, count: Callable[[], int]) -> None:
        """Have :meth:`info` ask ``count`` too how many connections there are."""
        self._counts.append(count)

    def connections(self) -> int:
        """How many connections the servers of this broker have."""
        return sum(count() for count in self._counts)

    # --- opening and closing ---

    async def __aenter__(self) -> "Broker":
        if self._core is not None:
            raise Conflict("this broker was entered before; make another one")
        loop = self._loop = asyncio.get_running_loop()
        self._scheduler = _Scheduler(loop)
        self._failure = loop.create_future()
        memory = None if isinstance(self._log, MemoryLog) else MemoryLog(_MEMORY_LSN_FIRST)
        core = self._core = Core(
            self._log, self._limits, self.access, self._on_work, memory, self._sessions
        )
        opening = loop.create_task(asyncio.to_thread(self._log.open, core, self._progress))
        try:
            self.report = await finish(opening)
        except asyncio.CancelledError:
            if opening.exception() is None:
                self._log.close()
            raise
        core.epoch = self.report.epoch
        core.instance = self._log.instance or secrets.randbits(63)
        core.version = _version()
        core.on_damage = _report_damage
        core.on_fault = self._report_fault
        self._running = True
        core.start(self._scheduler)
        self._verbs = LocalVerbs(core, self.principal, self._scheduler.now_ms, self.connections)
        self._housekeeping = loop.create_task(self._keep_house())
        self._on_work()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self.close_inbox()
        finally:
            await finish(self._loop.create_task(self._close()))

    async def _close(self) -> None:
        """Take nothing more, commit, take a checkpoint, let go of the log."""
        assert self._verbs is not None and self._housekeeping is not None
        self._verbs.close()
        self._stopping.set()
        if self._timer is not None:
            self._timer.cancel()
        await self._housekeeping
        core = self.core
        try:
            if core.failed is None:
                await self._verbs.kept(Durability.SYNC)
                await self._work_off(self._log.checkpoint())
        except (BraidError, StorageError) as error:
            logger.warning("the broker was closed without a checkpoint: %s", error)
        finally:
            self._running = False
            core.log.close()
            if core.memory is not core.log:
                core.memory.close()

    # --- the core's turns ---

    def _on_work(self) -> None:
        if self._running:
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        if self._running:
            self._turn(self.core.run)

    def _on_timer(self) -> None:
        self._timer = None
        if self._running:
            self._turn(self.core.tick)

    def _turn(self, call: Callable[[int], None]) -> None:
        try:
            call(self.now_ms())
        except Exception as error:
            self._fail(error)
            raise
        self._arm()

    def _arm(self) -> None:
        if self._stopping.is_set():
            return  # what is due is due at the next start: behind a checkpoint it would be replayed
        deadline = self.core.next_deadline()
        if deadline is None or (self._timer is not None and deadline >= self._timer_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = deadline
        seconds = max(0, deadline - self.now_ms()) / 1000
        self._timer = self._loop.call_later(seconds, self._on_timer)

    def _report_fault(self, error: Exception) -> None:
        """A bug of ours in a dialect or a face: only its own connection suffers for it."""
        what = {"message": "a connection or consumer failed", "exception": error}
        self._loop.call_exception_handler(what)

    def _fail(self, error: BaseException) -> None:
        """Whatever it was: nothing after it can be trusted."""
        core = self._core
        assert core is not None
        if core.failed is None:
            core.failed = BrokerFailed(f"the broker has stopped: {error}")
        if not self._failure.done():
            self._failure.set_result(core.failed)
            if self._verbs is not None:
                self._verbs.fail(core.failed)

    # --- housekeeping ---

    async def _keep_house(self) -> None:
        log = self._log
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(_HOUSEKEEPING_SECONDS):
                    await self._stopping.wait()
            except TimeoutError:
                pass
            if self.core.failed is not None:
                self._fail(self.core.failed)
                return
            try:
                await self._work_off(log.housekeep())
                await self._move_blocks()
                if log.checkpoint_due():
                    await self._work_off(log.checkpoint())
                elif log.compaction_due():
                    await self._work_off(log.compact())
            except StorageError as error:
                logger.warning("housekeeping: %s", error)
            except Exception as error:
                self._fail(error)
                raise

    async def _move_blocks(self) -> None:
        """What streams need; what cannot be done for one shard is no reason not to go on."""
        for job in self.core.streams.jobs():
            try:
                await self._work_off(job)
            except StorageError as error:
                logger.warning("records stay in the log: %s", error)

    async def _work_off(self, job: Iterator[Job]) -> None:
        """Run one of the log's jobs to its end; many of its steps are far shorter than a slice."""
        begun = time.monotonic()
        for step in job:
            if step is not None:
                await asyncio.to_thread(step)
            elif time.monotonic() - begun < _SLICE_SECONDS:
                continue
            else:
                await asyncio.sleep(0 if self._stopping.is_set() else _SLICE_PAUSE_SECONDS)
            begun = time.monotonic()


def _version() -> str:
    try:
        return metadata.version("braidmq")
    except metadata.PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"


def _report_damage(queue: str, sequence: int, error: StorageError) -> None:
    logger.error("message %d of queue %s cannot be read: %s", sequence, queue, error)
