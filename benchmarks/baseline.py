"""What this disk and this Python can do at best, measured in the same run as the broker.

Two measures, in a directory of the filesystem where the broker's data will be:

- **disk**: append 4 KiB, fdatasync, again and again: the least that a durable answer can take.
- **group commit**: clients (asyncio tasks on uvloop) append a message to a list and wait on a
  future; one thread writes everything that has gathered, one write and one fdatasync, and wakes
  them. A client gathers its window (of 1, or of 20) and waits for all of it, as application code
  does. No queue, no protocol, no index, nothing is ever read: a ceiling for a broker in Python, not
  a broker. Messages get a header and a frame a CRC, as in any log that can be read again.

Runs as its own process (``python -m braidmq.benchmarks.baseline DIRECTORY``), prints JSON.
"""

import asyncio
import os
import subprocess
import sys
import threading
import time
from queue import SimpleQueue
from struct import Struct as Layout
from typing import Final
from zlib import crc32

import msgspec
import uvloop

from .histogram import Histogram

__all__ = [
    "Baseline",
    "GroupCommit",
    "GroupCommitFigures",
    "disk_sync",
    "group_commit",
    "measure",
    "start",
]

_RECORD: Final = Layout("<BBHIIQ")
_FRAME: Final = Layout("<IIIHHQIIQII")
_APPEND_BYTES: Final = 4096
_WINDOW: Final = 20


class GroupCommitFigures(msgspec.Struct):
    """A number of clients, each with ``window`` messages on their way at a time."""

    clients: int
    window: int
    messages: int
    per_second: float
    p50_ms: float  # of one message, or of a window of them
    p99_ms: float
    cpu_us: float  # of this process, for each message


class Baseline(msgspec.Struct):
    """What was measured."""

    sync_per_second: float
    sync_p50_ms: float
    sync_p99_ms: float
    one: GroupCommitFigures
    hundred: GroupCommitFigures
    windows: GroupCommitFigures


class GroupCommit:
    """The least a durable log can be. ``append`` returns a future; see the module's text."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        self._batches: SimpleQueue[bytes | None] = SimpleQueue()
        self._parts: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._committing: list[asyncio.Future[None]] = []
        self._busy = False
        self._lsn = 0
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def append(self, client: int, body: bytes) -> "asyncio.Future[None]":
        """Have ``body`` written; done when it is on stable storage."""
        self._parts += (_RECORD.pack(1, 0, 0, len(body), client, self._lsn), body)
        self._lsn += 1
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._flush)
        return waiter

    def close(self) -> None:
        """End the thread."""
        self._batches.put(None)
        self._thread.join()
        os.close(self._file)

    def _flush(self) -> None:
        if not self._parts:
            self._busy = False
            return
        payload = b"".join(self._parts)
        size = _FRAME.size + len(payload)
        count = len(self._waiters)
        head = _FRAME.pack(1, size, crc32(payload), 0, 1, self._lsn, 1, count, 0, 0, 0)
        self._committing, self._waiters, self._parts = self._waiters, [], []
        self._batches.put(head + payload)

    def _write(self) -> None:
        while (batch := self._batches.get()) is not None:
            os.write(self._file, batch)
            os.fdatasync(self._file)
            self._loop.call_soon_threadsafe(self._committed)

    def _committed(self) -> None:
        for waiter in self._committing:
            if not waiter.done():
                waiter.set_result(None)
        self._flush()


def disk_sync(path: str, seconds: float) -> Histogram:
    """The latencies of appending 4 KiB and syncing, in ns, for so long."""
    latencies = Histogram()
    block = os.urandom(_APPEND_BYTES)
    file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            os.write(file, block)
            start = time.monotonic_ns()
            os.fdatasync(file)
            latencies.record(time.monotonic_ns() - start)
    finally:
        os.close(file)
    return latencies


async def group_commit(
    path: str, clients: int, window: int, size: int, seconds: float
) -> GroupCommitFigures:
    """Run so many clients for so long."""
    log = GroupCommit(path, asyncio.get_running_loop())
    body = os.urandom(size)
    latencies = Histogram()
    end = time.monotonic() + seconds

    async def client(number: int) -> None:
        while time.monotonic() < end:
            start = time.monotonic_ns()
            await asyncio.gather(*[log.append(number, body) for _ in range(window)])
            latencies.record(time.monotonic_ns() - start)

    begun, cpu = time.monotonic(), time.process_time()
    await asyncio.gather(*[client(number) for number in range(clients)])
    took, cpu = time.monotonic() - begun, time.process_time() - cpu
    log.close()
    messages = len(latencies) * window
    return GroupCommitFigures(
        clients=clients,
        window=window,
        messages=messages,
        per_second=messages / took,
        p50_ms=latencies.quantile(0.5) / 1e6,
        p99_ms=latencies.quantile(0.99) / 1e6,
        cpu_us=1e6 * cpu / messages,
    )


def measure(directory: str, seconds: float, size: int) -> Baseline:
    """Measure everything, ``seconds`` for each of the four parts. Leaves no file behind."""
    path = os.path.join(directory, f"baseline-{os.getpid()}")
    try:
        syncs = disk_sync(path, seconds)
        one, hundred, windows = (
            uvloop.run(group_commit(path, clients, window, size, seconds))
            for clients, window in ((1, 1), (100, 1), (50, _WINDOW))
        )
    finally:
        os.unlink(path)
    return Baseline(
        sync_per_second=1e9 / max(1, syncs.quantile(0.5)),
        sync_p50_ms=syncs.quantile(0.5) / 1e6,
        sync_p99_ms=syncs.quantile(0.99) / 1e6,
        one=one,
        hundred=hundred,
        windows=windows,
    )


def start(directory: str, seconds: float, size: int) -> Baseline:
    """:meth:`measure` in a process of its own."""
    command = [sys.executable, "-m", __name__, directory, str(seconds), str(size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60 + 8 * seconds)
    return msgspec.json.decode(done.stdout, type=Baseline)


def _main(arguments: list[str]) -> None:
    directory, seconds, size = arguments
    figures = measure(directory, float(seconds), int(size))
    sys.stdout.buffer.write(msgspec.json.encode(figures))


if __name__ == "__main__":
    _main(sys.argv[1:])
