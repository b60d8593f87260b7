"""No matter what a data directory holds, opening it starts, or says Corrupt or FormatUnknown.

And what is served then is whole: a body that fails its own proof never comes out. The functions
here are fed by hypothesis and by atheris.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path

from braidmq.broker.errors import BraidError
from braidmq.broker.limits import Limits
from braidmq.broker.runtime import Broker
from braidmq.storage import Corrupt, FileLog, FormatUnknown, StorageError
from braidmq.storage.block import decode_block, merge_blocks
from braidmq.storage.coldfile import decode_cold_foot, decode_cold_frame, decode_cold_index
from braidmq.storage.frame import decode_frame_header, frame_is_intact
from braidmq.storage.record import RECORD_BYTES_MIN, record_is_intact, walk_records
from braidmq.storage.segment import verified_end
from braidmq.storage.streams import decode_cold, decode_cursor
from braidmq.storage.tools import dump, verify
from tests.faults.journal import body_of, parse_body

__all__ = [
    "check_directory",
    "check_parsers",
    "files_of",
    "original",
    "remove_scratch",
    "scratch_place",
]

LIMITS = Limits(reserve_bytes=0, disk_free_bytes_min=1)
QUEUES = ("q", "f", "dead")
_HANGS_SECONDS = 20.0
_copies = count()


def check_parsers(data: bytes) -> None:
    """Frame headers, records and extents out of any bytes: an answer, or ValueError."""
    for at in range(0, min(len(data), 80), 7):
        header = decode_frame_header(data, at)
        if header is not None:
            frame_is_intact(header, data, at)
        record_is_intact(data, at)
        try:
            for start in walk_records(data, at, len(data)):
                assert at <= start < len(data)
        except ValueError:
            pass
        assert at <= verified_end(data[at:], at) <= len(data)
        _check_stream_parsers(data, at)


def _check_stream_parsers(data: bytes, at: int) -> None:
    """Blocks, which clients decode too, and what cold files consist of."""
    try:
        block = decode_block(data, at)
        assert sum(1 for _ in block.records()) == len(block.bodies()) == block.count
        assert block.time_ms <= block.time_last_ms
        assert merge_blocks([block]) == block.bytes
    except ValueError:
        pass
    parsers: list[Callable[[], object]] = [
        lambda: decode_cold_frame(data[at:]),
        lambda: decode_cold_foot(data[at:], len(data)),
        lambda: decode_cold_index(data[at:], len(data)),
    ]
    if len(data) - at >= RECORD_BYTES_MIN:  # shorter than that, walk_records yields none
        parsers += [lambda: decode_cold(data, at), lambda: decode_cursor(data, at)]
    for parse in parsers:
        with suppress(ValueError):
            parse()


@cache
def scratch() -> Path:
    """A directory for thousands of small files, in memory where there is such a thing."""
    return Path(tempfile.mkdtemp(prefix="braidmq-fuzz-", dir=scratch_place()))


def scratch_place() -> str | None:
    """Where to make it: BRAIDMQ_FUZZ_SCRATCH, or memory, or where the system likes it."""
    if place := os.environ.get("BRAIDMQ_FUZZ_SCRATCH"):
        return place
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() and os.access(memory, os.W_OK) else None


def remove_scratch() -> None:
    """Leave nothing behind."""
    shutil.rmtree(scratch(), ignore_errors=True)
    scratch.cache_clear()
    original.cache_clear()


def _log(data: Path, accept_loss: bool = False) -> FileLog:
    return FileLog(
        str(data),
        accept_loss=accept_loss,
        segment_bytes=2_000,
        ballast_bytes=0,
        disk_free_bytes_min=1,
    )


async def _write(data: Path, rounds: range) -> None:
    async with Broker(log=_log(data), limits=LIMITS) as broker:
        plain = await broker.declare_queue("q", max_receives=1, dead_letter="dead")
        fifo = await broker.declare_queue("f", fifo=True)
        for number in rounds:
            await plain.send(body_of("q", number, 50), headers={"n": str(number)}, delay=number % 3)
            await fifo.send(body_of("f", number, 90), group=f"g{number % 3}", dedup_id=f"{number}")
            for message in await plain.receive(max=2, wait=0):
                await (message.ack() if number % 2 else message.nack())
            if number % 4 == 0:
                for message in await fifo.receive(max=1, wait=0):
                    await message.ack()


@cache
def original(stopped: bool) -> Path:
    """A directory after two runs of a broker; with ``stopped`` false the second one was killed."""
    data = scratch() / f"original-{stopped}"
    asyncio.run(_write(data, range(20)))
    if stopped:
        asyncio.run(_write(data, range(20, 30)))
    else:

        async def killed() -> None:
            await _write(scratch() / "other", range(20, 21))
            running = scratch() / "running"
            shutil.copytree(data, running)
            async with Broker(log=_log(running), limits=LIMITS) as broker:
                queue = await broker.declare_queue("q", max_receives=1, dead_letter="dead")
                for number in range(20, 30):
                    await queue.send(body_of("q", number, 50))
                shutil.rmtree(data)
                shutil.copytree(running, data)  # as it is now: without a checkpoint at the end

        asyncio.run(killed())
    return data


def files_of(data: Path) -> list[str]:
    """What there is to damage, in a fixed order."""
    return sorted(path.name for path in (data / "shard-00").iterdir())


async def _look(data: Path, accept_loss: bool) -> None:
    try:
        async with asyncio.timeout(_HANGS_SECONDS):
            await _open_and_look(data, accept_loss)
    except TimeoutError:
        raise AssertionError("it hangs") from None


async def _open_and_look(data: Path, accept_loss: bool) -> None:
    async with Broker(log=_log(data, accept_loss), limits=LIMITS) as broker:
        for name in QUEUES:
            try:
                for message in await broker.verbs.browse(name, limit=1_000):
                    assert parse_body(message.body) is not None, "damage was served"
                queue = broker.queue(name)
                for taken in await queue.receive(max=100, wait=0):
                    assert parse_body(taken.body) is not None, "damage was served"
                    await taken.ack()
            except BraidError:
                pass  # the queue is gone, or a message of it cannot be read


def check_directory(stopped: bool, damage: dict[str, bytes | None]) -> str:
    """Open a copy of the original with some files changed (None: removed); say how it went."""
    source = original(stopped)
    data = scratch() / f"copy-{next(_copies)}"
    shutil.copytree(source, data)
    try:
        for name, content in damage.items():
            path = data / "shard-00" / name
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        try:
            for _ in verify(str(data)):
                pass
            for _ in dump(str(data)):
                pass
        except StorageError:
            pass
        try:
            asyncio.run(_look(data, accept_loss=False))
            return "started"
        except FormatUnknown:
            return "format unknown"
        except Corrupt:
            pass
        try:
            asyncio.run(_look(data, accept_loss=True))
            return "started after accepting loss"
        except (Corrupt, FormatUnknown):
            return "refused"
    finally:
        shutil.rmtree(data)
