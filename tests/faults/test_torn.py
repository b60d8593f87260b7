"""Torn tails and damage, byte by byte, in a directory that the real daemon wrote.

What was never confirmed may end anywhere and hold anything: the log starts, and keeps every whole
frame before. Where a later frame or MANIFEST proves that more had been on the disk, it refuses,
says where, and exits with 74; ``--accept-loss`` starts with what is before the damage.

Every offset is opened in this process, a sample of them by the daemon as well.
"""

import os
import random
import shutil
import struct
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from braidmq.broker.errors import NotFound
from braidmq.broker.limits import Limits
from braidmq.broker.runtime import Broker
from braidmq.storage import Corrupt, FormatUnknown
from tests.figures import figures

from .campaign import cycles
from .daemon import Daemon, NotStarted
from .journal import body_of, parse_body
from .waiting import until
from .wire import DECLARE_QUEUE, QUEUE_INFO, SEND, Wire

pytestmark = [pytest.mark.slow]

MESSAGES = 12
SMALL = Limits(reserve_bytes=0, disk_free_bytes_min=1, cache_bytes_max=1 << 20)
_HEADER = struct.Struct("<4sII")  # magic, length, crc: as storage/frame.py draws it


class Frame:
    """Where a frame stands in its file, found by its bytes alone, without our own decoder."""

    def __init__(self, at: int, data: bytes) -> None:
        _, self.length, self.crc = _HEADER.unpack_from(data, at)
        self.at = at
        self.end = at + self.length
        self.content = data[at : self.end]
        assert crc32(self.content[12:]) == self.crc
        self.lsn = int.from_bytes(self.content[16:24], "little")
        found = self.content.find(b"torn|")
        self.number = int(self.content[found:].split(b"|", 2)[1]) if found >= 0 else None


def frames_of(data: bytes) -> list[Frame]:
    frames = []
    at = 0
    while data[at : at + 4] == b"BQF1":
        frames.append(Frame(at, data))
        at = frames[-1].end
    return frames


@contextmanager
def scratch_in_memory() -> Iterator[Path]:
    """A directory for thousands of small files, in memory where there is such a thing."""
    memory = Path("/dev/shm")
    place = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="braidmq-torn-", dir=place) as name:
        yield Path(name)


class Original:
    """A data directory that the daemon wrote, and the means to damage copies of it."""

    def __init__(self, data: Path, scratch: Path) -> None:
        self.data = data
        self.scratch = scratch
        self.shard = data / "shard-00"
        self.segment = max(path.name for path in self.shard.glob("wal-*"))
        self.content = (self.shard / self.segment).read_bytes()
        self.frames = frames_of(self.content)
        self._count = 0

    def damaged(self, content: bytes | None = None, **changes: bytes | None) -> Path:
        """A copy whose last segment is ``content``, and with ``changes`` (None: missing)."""
        files = changes if content is None else changes | {self.segment: content}
        self._count += 1
        copy = self.scratch / f"copy-{self._count}"
        (copy / "shard-00").mkdir(parents=True)
        for path in self.shard.iterdir():
            if path.name not in files:
                (copy / "shard-00" / path.name).write_bytes(path.read_bytes())
        for name, changed in files.items():
            if changed is not None:
                (copy / "shard-00" / name).write_bytes(changed)
        return copy


async def numbers_in(data: Path, accept_loss: bool = False) -> list[int]:
    """Open a directory and say which of our messages it holds; the directory is gone then."""
    try:
        async with Broker(data, limits=SMALL, accept_loss=accept_loss) as broker:
            try:
                found = await broker.verbs.browse("torn", limit=1_000)
            except NotFound:  # its definition was in what is damaged
                return []
            numbers = []
            for message in found:
                parsed = parse_body(message.body)
                assert parsed is not None, "a message that is not whole was served"
                numbers.append(parsed[1])
            return numbers
    finally:
        shutil.rmtree(data)


def is_noted(shard: Path) -> bool:
    """Whether the idle log has noted, in a frame behind the last message, how far it is durable."""
    content = max(shard.glob("wal-*")).read_bytes()
    try:
        numbers = [frame.number for frame in frames_of(content)]
    except (AssertionError, struct.error):  # it is being written
        return False
    return MESSAGES - 1 in numbers[:-1]


async def write(data: Path, scratch: Path, clean: bool, noted: bool) -> None:
    """Have the daemon keep ``MESSAGES`` messages, a frame each, and end."""
    async with Daemon(data, scratch) as daemon:
        wire = await Wire.open(daemon.port)
        await wire.call(DECLARE_QUEUE, "torn", {})
        for number in range(MESSAGES):
            await wire.call(SEND, "torn", [[body_of("torn", number, 30)]])
        wire.abort()
        if noted:
            assert await until(lambda: is_noted(data / "shard-00"))
        if clean:
            assert await daemon.stop() == 0
        else:
            await daemon.kill()


@asynccontextmanager
async def original(
    tmp_path: Path, clean: bool = False, noted: bool = False
) -> AsyncIterator[Original]:
    with scratch_in_memory() as scratch:
        await write(tmp_path / "data", tmp_path, clean, noted)
        yield Original(tmp_path / "data", scratch)


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


async def test_a_tail_torn_at_every_byte(tmp_path, request):
    async with original(tmp_path) as it:
        assert [f.number for f in it.frames[-MESSAGES:]] == [*range(MESSAGES)]
        first = it.frames[-min(max(2, cycles(1)), MESSAGES)].at
        rng = random.Random(11)
        tried = 0
        for cut in range(first, len(it.content)):
            left = len(it.content) - cut
            tails = [b"", bytes(left)]
            if not cut % 8:
                tails += [rng.randbytes(left), bytes(4_096), it.content[: it.frames[0].end]]
            for tail in tails:
                content = it.content[:cut] + tail
                whole = [f for f in it.frames if content[f.at : f.end] == f.content]
                kept = await numbers_in(it.damaged(content))
                assert kept == [f.number for f in whole if f.number is not None], (cut, tail[:8])
                tried += 1
        offsets = len(it.content) - first
        figures(request, f"offsets {offsets}, tails {tried}, whole frames lost 0, phantom 0")


async def test_a_flipped_bit_before_the_last_frame_is_refused(tmp_path, request):
    step = 1 if cycles(0) else 7
    async with original(tmp_path) as it:
        rng = random.Random(12)
        flips = 0
        for frame in it.frames[:-1]:
            for at in range(frame.at + rng.randrange(step), frame.end, step):
                content = flipped(it.content, at, rng.randrange(8))
                with pytest.raises(Corrupt) as refused:
                    await numbers_in(it.damaged(content))
                assert refused.value.lsn == frame.lsn, f"byte {at}: {refused.value}"
                flips += 1
            before = [f.number for f in it.frames if f.at < frame.at and f.number is not None]
            assert await numbers_in(it.damaged(content), accept_loss=True) == before
        figures(request, f"flips {flips}, refused {flips}, served damaged 0")


async def test_a_flipped_bit_in_the_unconfirmed_tail_starts(tmp_path, request):
    step = 1 if cycles(0) else 3
    async with original(tmp_path) as it:
        rng = random.Random(13)
        last = it.frames[-1]
        flips = 0
        for at in range(last.at, last.end, step):
            content = flipped(it.content, at, rng.randrange(8))
            assert await numbers_in(it.damaged(content)) == [*range(MESSAGES - 1)]
            flips += 1
        figures(request, f"flips {flips}, started {flips}")


async def test_after_a_pause_the_last_frame_is_confirmed_too(tmp_path):
    """An idle log notes on disk how far it is durable: then nothing of it may be damaged."""
    async with original(tmp_path, noted=True) as it:
        last = next(f for f in it.frames if f.number == MESSAGES - 1)
        for at in range(last.at, last.end, 9):
            with pytest.raises(Corrupt) as refused:
                await numbers_in(it.damaged(flipped(it.content, at, 2)))
            assert refused.value.lsn == last.lsn
        for cut in (last.at, last.end - 16):  # as if what was written over zeros were lost
            content = it.content[:cut] + bytes(last.end - cut) + it.content[last.end :]
            with pytest.raises(Corrupt) as refused:
                await numbers_in(it.damaged(content))
            assert refused.value.lsn == last.lsn


async def test_a_flipped_bit_in_manifest_or_checkpoint_is_refused(tmp_path, request):
    step = 1 if cycles(0) else 11
    async with original(tmp_path, clean=True) as it:
        rng = random.Random(14)
        flips = refused = 0
        for path in it.shard.iterdir():
            if path.name == it.segment:
                continue
            content = path.read_bytes()
            for at in range(0, len(content), step):
                changed = flipped(content, at, rng.randrange(8))
                flips += 1
                try:
                    kept = await numbers_in(it.damaged(**{path.name: changed}))
                except (Corrupt, FormatUnknown):
                    refused += 1
                else:  # a field that nobody reads
                    assert kept == [*range(MESSAGES)], f"{path.name} byte {at}"
            for replaced in (None, b"", content[:-1]):
                with pytest.raises(Corrupt):
                    await numbers_in(it.damaged(**{path.name: replaced}))
        assert await numbers_in(it.damaged()) == [*range(MESSAGES)]
        figures(request, f"flips {flips}, refused {refused}, without any effect {flips - refused}")
        assert refused > flips * 0.9


@pytest.mark.parametrize("clean", [True, False], ids=["stopped", "killed"])
async def test_a_missing_or_shorter_segment_is_refused(tmp_path, clean):
    async with original(tmp_path, clean) as it:
        with pytest.raises(Corrupt):
            await numbers_in(it.damaged(**{it.segment: None}))
        if clean:  # then MANIFEST knows where the end was
            last = it.frames[-1]
            for size in (0, last.at, last.end - 1):
                with pytest.raises(Corrupt):
                    await numbers_in(it.damaged(it.content[:size]))


async def test_the_daemon_says_where_and_exits_with_74(tmp_path):
    async with original(tmp_path) as it:
        frame = it.frames[-3]
        content = flipped(it.content, frame.at + 90, 3)
        with pytest.raises(NotStarted) as refused:
            await Daemon(it.damaged(content), tmp_path).start()
        assert refused.value.status == 74
        assert f"damaged at lsn {frame.lsn}" in refused.value.log
        assert "--accept-loss" in refused.value.log
        data = it.damaged(content)
        async with Daemon(data, tmp_path, flags=["--accept-loss"]) as daemon:
            assert f"lsn {frame.lsn}" in daemon.logged("recovered")["accepted_loss"]
            assert await received(daemon.port) == [*range(MESSAGES - 3)]
            assert await daemon.stop() == 0
        async with Daemon(data, tmp_path) as daemon:  # once accepted, it is not asked again
            assert await daemon.stop() == 0


async def test_damage_below_the_checkpoint_is_never_served(tmp_path):
    """It is not read at the start, so it shows when it is: that message is held, the rest go on."""
    async with original(tmp_path, clean=True) as it:
        frame = next(f for f in it.frames if f.number == 5)
        content = flipped(it.content, frame.content.find(b"torn|") + frame.at + 20, 0)
        async with Daemon(it.damaged(content), tmp_path) as daemon:
            assert await received(daemon.port) == [n for n in range(MESSAGES) if n != 5]
            wire = await Wire.open(daemon.port)
            info = (await wire.call(QUEUE_INFO, "torn"))[2][0]
            wire.abort()
            assert info["damaged"] == 1
            assert info["ready"] + info["delayed"] + info["in_flight"] == MESSAGES


async def received(port: int) -> list[int]:
    """What the queue gives out, by number."""
    wire = await Wire.open(port)
    numbers: list[int] = []

    def take(message: list[Any]) -> None:
        parsed = parse_body(message[6])
        assert parsed is not None, "a message that is not whole was served"
        numbers.append(parsed[1])

    while True:
        before = len(numbers)
        await wire.receive("torn", 100, 200, 600_000, take)
        if len(numbers) == before:
            break
    wire.abort()
    return numbers
