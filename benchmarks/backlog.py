"""A queue with millions of messages in it: memory for each, and how long a restart takes.

Fills a queue of a broker of our own, without receiving anything, then starts that broker again
twice: after it ended in its own way, and after it was killed. The count must be the same each time.
"""

import asyncio
import os
import shutil
import time
from collections.abc import Callable
from typing import Final

import msgspec

from ..protocols.native.client import connect
from . import load
from .meter import Plan
from .peer import memory_bytes
from .server import ServerProcess

__all__ = ["BacklogFailed", "BacklogFigures", "backlog", "backlog_text", "fill_plan"]

_BYTES_PER_BATCH: Final = 512 * 1024
_PRODUCERS: Final = 4
_WINDOW: Final = 4
_DISK_FACTOR: Final = 1.3  # records have heads, and compaction needs room
_DISK_SPARE: Final = 1 << 30
_SECONDS_MAX: Final = 3_600.0


class BacklogFailed(Exception):
    """There is no room for it, or messages are missing."""


class BacklogFigures(msgspec.Struct):
    """What was measured."""

    messages: int
    size: int
    durability: str
    fill_per_second: float
    fill_cpu_us: float  # of the broker, for each message
    memory_empty_bytes: int
    memory_full_bytes: int
    memory_restarted_bytes: int
    memory_per_message: float  # of the broker that filled, above what it had when empty
    memory_per_message_restarted: float
    start_empty_seconds: float
    stop_seconds: float
    start_seconds: float  # after it ended in its own way
    start_killed_seconds: float  # after a SIGKILL
    disk_bytes: int


def fill_plan(messages: int, size: int, durability: str) -> Plan:
    """Large batches from a few connections. Rounded up to whole batches."""
    batch = max(1, min(1_000, _BYTES_PER_BATCH // size, messages // _PRODUCERS))
    plan = Plan(
        queue="backlog",
        producers=_PRODUCERS,
        window=_WINDOW,
        batch=batch,
        messages=messages,
        size=size,
        seconds=_SECONDS_MAX,
        shape="fill",
    )
    return msgspec.structs.replace(plan, durability=durability)


def backlog(
    directory: str, messages: int, size: int, durability: str, progress: Callable[[str], None]
) -> BacklogFigures:
    """Measure in ``directory``, which is left as it is. Raises BacklogFailed, LoadFailed."""
    needed = int(messages * size * _DISK_FACTOR) + _DISK_SPARE
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise BacklogFailed(f"{directory} has {free >> 20} MiB free; this needs {needed >> 20} MiB")
    server = ServerProcess(directory)
    with server:
        empty_seconds, empty_bytes = server.start_seconds, memory_bytes(server.pid)
        progress(f"filling with {messages:,} messages")
        plan = fill_plan(messages, size, durability)
        run = load.start(msgspec.structs.replace(plan, url=server.url, server_pid=server.pid))
        count = run.integrity.confirmed
        if run.integrity.lost or run.problems or not count:
            raise BacklogFailed(f"{run.integrity.lost} lost; {'; '.join(run.problems)}")
        full_bytes = memory_bytes(server.pid)
        progress("stopping")
        begun = time.monotonic()
        server.stop()
        stop_seconds = time.monotonic() - begun
        progress("starting again")
        server.start()
        _check(server.url, plan.queue, count)
        restarted_bytes, restart_seconds = memory_bytes(server.pid), server.start_seconds
        progress("killing and starting again")
        server.kill()
        server.start()
        _check(server.url, plan.queue, count)
    progress("")
    return BacklogFigures(
        messages=count,
        size=size,
        durability=durability,
        fill_per_second=run.produce.per_second,
        fill_cpu_us=1e6 * run.produce.server_cpu / max(1, run.produce.messages),
        memory_empty_bytes=empty_bytes,
        memory_full_bytes=full_bytes,
        memory_restarted_bytes=restarted_bytes,
        memory_per_message=(full_bytes - empty_bytes) / count,
        memory_per_message_restarted=(restarted_bytes - empty_bytes) / count,
        start_empty_seconds=empty_seconds,
        stop_seconds=stop_seconds,
        start_seconds=restart_seconds,
        start_killed_seconds=server.start_seconds,
        disk_bytes=_disk_bytes(os.path.join(directory, "data")),
    )


def _check(url: str, queue: str, count: int) -> None:
    """All messages are there."""

    async def ask() -> int:
        async with connect(url) as broker:
            return (await broker.queue(queue).info()).messages

    found = asyncio.run(ask())
    if found != count:
        raise BacklogFailed(f"{count} messages were confirmed, {found} are there after a restart")


def _disk_bytes(directory: str) -> int:
    return sum(
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(directory)
        for name in names
    )


def backlog_text(found: BacklogFigures) -> str:
    """For people."""
    mib = 1 << 20
    return "\n".join(
        (
            f"{found.messages:,} messages of {found.size} bytes, {found.durability}:"
            f" filled at {found.fill_per_second:,.0f}/s,"
            f" {found.fill_cpu_us:.1f} us of the broker's CPU each",
            f"memory: empty {found.memory_empty_bytes / mib:.0f} MiB,"
            f" full {found.memory_full_bytes / mib:.0f} MiB"
            f" ({found.memory_per_message:.1f} bytes a message, caches included),"
            f" restarted {found.memory_restarted_bytes / mib:.0f} MiB"
            f" ({found.memory_per_message_restarted:.1f})",
            f"disk: {found.disk_bytes / mib:,.0f} MiB",
            f"start: empty {found.start_empty_seconds:.2f} s,"
            f" full {found.start_seconds:.2f} s, after a kill {found.start_killed_seconds:.2f} s;"
            f" stop {found.stop_seconds:.2f} s",
        )
    )
