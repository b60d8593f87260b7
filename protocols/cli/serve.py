"""``braidmq serve``: the daemon, with its configuration, its log and its exit status."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ...broker.config import Config, ConfigInvalid
from .failures import failure_of
from .loading import read_configuration
from .logs import configure, set_level
from .options import common, examples
from .output import Output, Progress

if TYPE_CHECKING:
    import asyncio

__all__ = ["serve"]

logger = logging.getLogger(__name__)


@click.command(
    "serve",
    epilog=examples("""
        braidmq serve
        braidmq serve --data /var/lib/braidmq --listen braid://127.0.0.1:7450
        braidmq serve --config /etc/braidmq/braidmq.toml
        BRAIDMQ_LIMITS__BODY_BYTES_MAX=1MiB braidmq serve --listen braid://127.0.0.1:0 --json
    """),
)
@click.option(
    "--config",
    "file",
    metavar="FILE",
    envvar="BRAIDMQ_CONFIG",
    show_envvar=True,
    help="The configuration, TOML; braidmq config init writes one.",
)
@click.option("--data", metavar="DIR", help="The directory that holds the messages.")
@click.option("--listen", metavar="URL", multiple=True, help="Where to listen; can be repeated.")
@click.option(
    "--accept-loss",
    is_flag=True,
    help="Start although acknowledged data is damaged. What is damaged is gone then.",
)
@click.option(
    "--ready-file",
    metavar="FILE",
    help="Write pid and URLs into this file when ready; it goes away with the daemon.",
)
@common
def serve(
    output: Output,
    file: str | None,
    data: str | None,
    listen: tuple[str, ...],
    accept_loss: bool,
    ready_file: str | None,
) -> None:
    """Run the broker.

    It logs to stderr: text on a terminal, JSON lines otherwise or with --json; -q logs warnings
    and errors only. SIGTERM stops it, SIGHUP reloads users, limits and certificates.
    """
    os.umask(0o077)

    def load() -> Config:
        loaded, warnings = read_configuration(file, data, listen)
        for warning in warnings:
            logger.warning(warning)
        return loaded.config

    def level(config: Config) -> str:
        return "warning" if output.quiet else config.log.level

    configure("info", "json" if output.as_json else "auto")
    try:
        config = load()
        configure(level(config), "json" if output.as_json else config.log.format)
        _run(config, load, output, accept_loss, ready_file)
    except Exception as error:
        click.get_current_context().exit(_log_failure(error))


def _run(
    config: Config,
    load: Callable[[], Config],
    output: Output,
    accept_loss: bool,
    ready_file: str | None,
) -> None:
    import asyncio

    from ..daemon import Daemon

    progress = _RecoveryProgress(output)

    def ready(urls: list[str]) -> None:
        progress.finish()
        if ready_file is not None:
            _write_whole(ready_file, json.dumps({"pid": os.getpid(), "urls": urls}))

    daemon = Daemon(
        config,
        load,
        accept_loss=accept_loss,
        progress=progress.update,
        ready=ready,
        set_log_level=lambda level: set_level("warning" if output.quiet else level),
    )
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(daemon.run())
    finally:
        progress.finish()
        if ready_file is not None:
            with suppress(FileNotFoundError):
                os.unlink(ready_file)


def _loop_factory() -> "Callable[[], asyncio.AbstractEventLoop] | None":
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    return uvloop.new_event_loop


def _write_whole(name: str, text: str) -> None:
    """Nobody sees half of it."""
    with open(f"{name}.new", "w") as file:
        file.write(text + "\n")
    os.replace(f"{name}.new", name)


def _log_failure(error: Exception) -> int:
    """Say in the log why the daemon ends, and return the exit status."""
    failure = failure_of(error)
    if failure is None:
        logger.critical("a bug: please report it", exc_info=error)
        return 1
    texts = error.problems if isinstance(error, ConfigInvalid) else [failure.text]
    for text in texts:
        fields = {"error": failure.code, "next": failure.next_step}
        logger.critical(text, extra={"fields": fields})
    return failure.exit_status


class _RecoveryProgress:
    """A bar on a terminal, else a line a second in the log. Called from another thread."""

    def __init__(self, output: Output) -> None:
        self._bar = Progress(Output(False, output.quiet), "recovering", "bytes")
        self._terminal = sys.stderr.isatty() and not output.as_json
        self._logged_at = time.monotonic()

    def update(self, done: int, total: int) -> None:
        if self._terminal:
            self._bar.update(done, total)
            return
        now = time.monotonic()
        if now - self._logged_at >= 1.0:
            self._logged_at = now
            logger.info("recovering", extra={"fields": {"done_bytes": done, "total_bytes": total}})

    def finish(self) -> None:
        self._bar.finish()
