"""The daemon: a broker with its listeners, from the first signal handler to the last fdatasync.

1. Signals: SIGTERM and SIGINT drain and end with status 0; a second one does not wait for
   connections any more, but still for the disk. SIGHUP reloads, all or nothing. SIGUSR1 writes
   what every task and thread does into the log.
2. Ready means ready: recovered, streams and queues declared, listening.
3. When the log fails the process ends: nothing it would say after that could be trusted.
4. A loop that stands still is watched from a thread, and told to systemd by not being told.

It logs through ``logging`` and prints nothing; ``cli/serve.py`` decides how that looks.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import msgspec

from ..broker.config import Config, ConfigInvalid, changes, needs_restart
from ..broker.errors import BraidError, Conflict, InvalidArgument, NotFound
from ..broker.runtime import Broker
from ..storage.filelog import FileLog
from .server import Server, serve
from .tls import ListenerTls
from .watchdog import LoopWatch, Systemd, stacks

__all__ = ["BLOCKED_STATUS", "Daemon"]

BLOCKED_STATUS = 70  # when the watch over the loop gives up
_FAILED_SECONDS = 1.0
_RECOVERY_TIMEOUT_USEC = 60_000_000

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]


# The writer's thread waits this long for the interpreter while the loop is busy: to begin with a
# batch, and to report that it is synced. Python's own 5 ms is many times what the disk takes, and
# with 0.5 ms a busy loop still began each batch 0.5 ms late.
_SWITCH_SECONDS = 0.00002


async def _follow(
    what: str,
    name: str,
    declare: Callable[[], Awaitable[object]],
    update: Callable[[], Awaitable[object]],
) -> None:
    """Have a queue or stream as the configuration says: made, or changed."""
    try:
        try:
            await declare()
        except Conflict:
            await update()
            logger.info(f"changed a {what} as configured", extra={"fields": {what: name}})
    except (Conflict, InvalidArgument, NotFound) as error:
        raise ConfigInvalid([f"{what}s.{name}: {error}"]) from None


class Daemon:
    """One run of the daemon: make one, call :meth:`run`, and exit.

    Args:
        config: what to run.
        load: reads the configuration again, for SIGHUP; raises ConfigInvalid.
        accept_loss: start even though acknowledged data is damaged.
        progress: called during recovery, from another thread, with bytes done and in all.
        ready: called with the URLs when the daemon is ready.
        set_log_level: called when a reload changes ``log.level``.
    """

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        *,
        accept_loss: bool = False,
        progress: Progress | None = None,
        ready: Callable[[list[str]], None] | None = None,
        set_log_level: Callable[[str], None] | None = None,
    ) -> None:
        self._config = config
        self._load = load
        self._accept_loss = accept_loss
        self._progress = progress
        self._ready = ready
        self._set_log_level = set_log_level
        self._systemd = Systemd(os.environ)
        self._status_at = 0.0
        self._signals = 0
        self._recovering = True
        self._stop: asyncio.Event
        self._hurry: asyncio.Event
        self._broker: Broker
        self._server: Server | None = None

    async def run(self) -> None:
        """Run until a signal. Raises what keeps it from starting, or BrokerFailed."""
        self._stop, self._hurry = asyncio.Event(), asyncio.Event()
        sys.setswitchinterval(_SWITCH_SECONDS)
        watch = LoopWatch(self._systemd, lambda: os._exit(BLOCKED_STATUS))
        try:
            with self._signal_handlers():
                await self._run()
        finally:
            watch.close()

    async def _run(self) -> None:
        config = self._config
        for listener in config.listeners:
            if listener.tls_certificate:
                ListenerTls(listener)  # should it be of no use, that is told before a long recovery
        log = FileLog(
            config.data,
            accept_loss=self._accept_loss,
            segment_bytes=config.storage.segment_bytes,
            cache_bytes_max=config.limits.cache_bytes_max,
            read_cache_bytes_max=config.storage.read_cache_bytes,
            ballast_bytes=config.limits.reserve_bytes,
            disk_free_bytes_min=config.limits.disk_free_bytes_min,
            cold_compress=config.storage.cold_compress,
        )
        logger.info("starting", extra={"fields": {"data": config.data, "pid": os.getpid()}})
        async with Broker(
            log=log,
            limits=config.limits,
            users=config.access_users(),
            sessions=config.sessions,
            progress=self._recovered,
        ) as broker:
            self._broker, self._recovering = broker, False
            assert broker.report is not None
            fields = msgspec.to_builtins(broker.report)
            fields["seconds"] = round(broker.report.seconds, 3)
            level = logging.WARNING if broker.report.accepted_loss else logging.INFO
            logger.log(level, "recovered", extra={"fields": fields})
            await self._declare()
            try:
                await self._listen()
                self._tell_ready()
                await self._wait_for_the_end()
            finally:
                self._systemd.notify(STOPPING=1, STATUS="draining")
                await self._drain()
        logger.info("stopped")

    def _recovered(self, done: int, total: int) -> None:
        """Called while recovering, from another thread."""
        if self._progress is not None:
            self._progress(done, total)
        now = time.monotonic()
        if now - self._status_at >= 1.0:
            self._status_at = now
            share = f"{done / total:.0%}" if total else ""
            self._systemd.notify(
                STATUS=f"recovering {share}", EXTEND_TIMEOUT_USEC=_RECOVERY_TIMEOUT_USEC
            )

    async def _declare(self) -> None:
        """Have every stream and queue of the configuration, with those settings."""
        verbs = self._broker.verbs
        for name, table in self._config.streams.items():
            values = msgspec.structs.asdict(table.settings)
            await _follow(
                *("stream", name),
                partial(verbs.declare_stream, name, table.settings, table.shards),
                partial(verbs.update_stream, name, values),
            )
        for name, settings in self._config.queues.items():
            values = msgspec.structs.asdict(settings)
            await _follow(
                *("queue", name),
                partial(verbs.declare_queue, name, settings),
                partial(verbs.update_queue, name, values),
            )

    async def _listen(self) -> None:
        """Open every listener."""
        config = self._config
        server = serve(
            self._broker,
            *config.listeners,
            jwt=config.auth.jwt,
            grace=config.drain_ms / 1000,
            webhooks=config.webhooks,
        )
        self._server = await server.__aenter__()

    def _tell_ready(self) -> None:
        assert self._server is not None
        urls = self._server.urls
        logger.info(f"ready: {' '.join(urls)}", extra={"fields": {"urls": urls}})
        if self._ready is not None:
            self._ready(urls)
        self._systemd.notify(READY=1, STATUS="ready", MAINPID=os.getpid())

    async def _wait_for_the_end(self) -> None:
        stop = asyncio.ensure_future(self._stop.wait())
        failed = asyncio.ensure_future(self._broker.failed())
        try:
            await asyncio.wait([stop, failed], return_when=asyncio.FIRST_COMPLETED)
            if failed.done():
                # Time for the answers that say so, and no more.
                asyncio.get_running_loop().call_later(_FAILED_SECONDS, self._hurry.set)
                raise failed.result()
        finally:
            stop.cancel()
            failed.cancel()

    async def _drain(self) -> None:
        """Let connections finish what they began; hurry when told to."""
        if self._server is None:
            return
        if connections := self._broker.connections():
            logger.info("draining", extra={"fields": {"connections": connections}})
        closing = asyncio.ensure_future(self._server.__aexit__(None, None, None))
        hurry = asyncio.ensure_future(self._hurry.wait())
        try:
            await asyncio.wait([closing, hurry], return_when=asyncio.FIRST_COMPLETED)
            if not closing.done():
                closing.cancel()
                await asyncio.wait([closing])
        finally:
            hurry.cancel()
        if not closing.cancelled() and (error := closing.exception()):
            logger.warning("the listeners did not close well", exc_info=error)

    # --- signals ---

    @contextlib.contextmanager
    def _signal_handlers(self) -> Iterator[None]:
        handlers: dict[str, Callable[[], None]] = {
            "SIGTERM": partial(self._on_stop, "SIGTERM"),
            "SIGINT": partial(self._on_stop, "SIGINT"),
            "SIGHUP": self.reload,
            "SIGUSR1": self.dump,
        }
        loop = asyncio.get_running_loop()
        installed = []
        for name, handler in handlers.items():
            number = getattr(signal, name, None)
            with contextlib.suppress(NotImplementedError):  # Windows
                if number is not None:
                    loop.add_signal_handler(number, handler)
                    installed.append(number)
        try:
            yield
        finally:
            for number in installed:
                loop.remove_signal_handler(number)

    def _on_stop(self, name: str) -> None:
        self._signals += 1
        logger.info(f"got {name}" + (" again: not waiting" if self._signals > 1 else ": stopping"))
        self._stop.set()
        if self._signals > 1:
            self._hurry.set()
            if self._recovering:
                os._exit(0)  # nothing was accepted yet, and recovery can be done again

    def reload(self) -> None:
        """Read the configuration again; put what can be changed in force, or nothing."""
        if self._server is None:
            logger.warning("not reloaded: still starting")
            return
        self._systemd.notify(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)
        try:
            self._reload()
        except ConfigInvalid as error:
            for problem in error.problems:
                logger.error(f"not reloaded, nothing was changed: {problem}")
        except BraidError as error:
            logger.error(f"not reloaded, nothing was changed: {error}")
        finally:
            self._systemd.notify(READY=1)

    def _reload(self) -> None:
        new, old = self._load(), self._config
        fixed = needs_restart(old, new)
        if fixed:
            raise ConfigInvalid([f"{key} can only be changed by a restart" for key in fixed])
        assert self._server is not None
        change_listeners = self._server.prepare(new.listeners, new.auth.jwt)
        self._broker.access.replace(new.access_users())
        # From here on nothing can fail.
        self._broker.core.limits = new.limits
        certificates = change_listeners()
        if self._set_log_level is not None:
            self._set_log_level(new.log.level)
        self._config = new
        for line in changes(old, new):
            logger.info(f"changed {line}")
        fields = {"changes": len(changes(old, new)), "certificates": certificates}
        logger.info("reloaded", extra={"fields": fields})

    def dump(self) -> None:
        """Write what every task and thread does into the log."""
        tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
        extra = {"fields": {"tasks": len(tasks)}, "stack_lines": list(stacks(tasks))}
        logger.warning("state of all tasks and threads", extra=extra)
