"""Reading a shard from a number on: what is in memory at once, the rest when it has come from disk.

A read ends with a :class:`Chunk`, or with an error; it is answered once, and never from within the
call that began it. One that finds nothing waits at the end of its shard until its deadline.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from ..storage.block import Block, decode_block_head, encode_block
from ..storage.cold import ColdFile
from ..storage.errors import Corrupt, StorageError
from ..storage.log import Extent
from ..storage.record import MESSAGE, STREAM, decode_content, record_type
from .errors import BraidError, NotFound, Unavailable
from .limits import PARTITION_KEY_BYTES_MAX
from .message import GROUP_ID, PARTITION_KEY, TOPIC, unpack_headers
from .shard import Shard

if TYPE_CHECKING:
    from .stream import Stream
    from .streams import Streams

__all__ = ["Chunk", "ChunkAnswer", "ShardRead", "block_at", "partition_key"]

_NOWHERE = Extent(0, 0, b"")


class Chunk(msgspec.Struct, gc=False):
    """Records that were read.

    Attributes:
        blocks: where they stand (``storage/block.py``): leave out the first ``skip`` records of
            the first block, and take ``count`` in all.
        next: the number to go on with. behind_ms: how much older than now the record there is; 0
            when there is none.
        ended: the shard is closed for good, and this was its end; ``children`` go on.
    """

    blocks: list[bytes]
    skip: int
    count: int
    next: int
    behind_ms: int
    ended: bool = False
    children: list[int] = []


ChunkAnswer = Callable[[object, Chunk | BraidError], None]


def partition_key(attributes: bytes) -> bytes:
    """The partition key of a message that came by a topic: its own, else its group, else the topic.

    So a group is in one shard, and an archive can give it back in its order. What could not be the
    key of a record, because it is too long or no text, is passed over.
    """
    headers = unpack_headers(attributes)
    for name in (PARTITION_KEY, GROUP_ID, TOPIC):
        value = headers.get(name, "")
        key = value.encode() if isinstance(value, str) else value
        if key and len(key) <= PARTITION_KEY_BYTES_MAX and _is_utf8(key):
            return key
    return b""


def _is_utf8(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def block_at(shard: Shard, extent: Extent, index: int) -> Block:
    """The hot block ``index``, which stands in ``extent``. Raises Corrupt."""
    lsn = shard.lsns[index]
    at = lsn - extent.start
    kind = record_type(extent.buffer, at)
    if kind == STREAM:
        return decode_block_head(extent.buffer, at)
    if kind != MESSAGE:
        raise Corrupt(lsn, "a record of another kind stands there")
    message = decode_content(extent.buffer, at, lsn)
    content = encode_block(
        shard.id,
        shard.firsts[index],
        shard.times[index],
        [partition_key(message.attributes)],
        [message.attributes],
        [message.body],
    )
    return decode_block_head(content, 0)


class ShardRead:
    """One read. ``turn`` and ``deadline_ms`` say when it stops waiting."""

    __slots__ = (
        "_answer",
        "_argument",
        "_extent",
        "_streams",
        "bytes_max",
        "closed",
        "deadline_ms",
        "has_deadline",
        "number",
        "records_max",
        "shard",
        "stream",
    )

    def __init__(
        self,
        streams: "Streams",
        stream: "Stream",
        shard: Shard,
        number: int,
        records_max: int,
        bytes_max: int,
        deadline_ms: int,
        answer: ChunkAnswer,
        argument: object,
    ) -> None:
        self._streams = streams
        self.stream = stream
        self.shard = shard
        self.number = number
        self.records_max = records_max
        self.bytes_max = bytes_max
        self.deadline_ms = deadline_ms
        self._answer = answer
        self._argument = argument
        self._extent = _NOWHERE
        self.closed = False
        self.has_deadline = False  # it is among the deadlines of streamwaiting.py

    def step(self) -> None:
        """Answer if there is something to answer with; else wait, for the disk or for records."""
        if self.closed:
            return
        shard = self.shard
        if self.stream.deleted:
            self.fail(NotFound(f"stream {self.stream.name} was deleted"))
            return
        self.number = shard.present(self.number)
        readable = shard.readable()
        if self.number >= readable:
            if shard.has_ended(self.number) or self.deadline_ms <= self._streams.now_ms:
                self._finish([], 0, 0, self.number, 0)
            else:
                self._streams.wait(self)
            return
        if self.number < shard.cold_end:
            file = shard.cold_file(self.number)
            cold = shard.log.cold
            assert cold is not None
            cold.read(*(file, self.number, self.records_max, self.bytes_max), self._on_cold, file)
            return
        blocks = self._gather(readable)
        if blocks:
            self._answer_with(blocks, readable)

    def _gather(self, readable: int) -> list[Block]:
        """Hot blocks, as far as they are in memory; with none, it is seen to that the read goes on.

        They are in one piece: a block that does not follow the one before begins the next chunk.
        """
        shard = self.shard
        blocks: list[Block] = []
        bytes_left = self.bytes_max
        records_left = self.records_max
        index = shard.block_of(self.number)
        assert index >= 0, "what is neither cold nor hot was trimmed"
        skip = self.number - shard.firsts[index]
        while index < len(shard.firsts) and shard.firsts[index] < readable:
            if blocks and (bytes_left < shard.sizes[index] or records_left <= 0):
                break
            if blocks and shard.firsts[index] != blocks[-1].end:
                break
            lsn = shard.lsns[index]
            extent = self._extent
            if not extent.start <= lsn < extent.end:
                found = shard.log.get(lsn)
                if found is None:
                    if not blocks:
                        shard.log.fetch(lsn, self._on_fetched, None)
                    break
                self._extent = extent = found
            try:
                block = block_at(shard, extent, index)
            except Corrupt as error:
                if not blocks:
                    self._refuse(error)
                break
            if skip >= block.count:  # what stood behind it was lost
                self.number = shard.block_end(index)
                self._streams.again(self)
                break
            blocks.append(block)
            bytes_left -= block.length
            records_left -= block.count - skip
            skip = 0
            index += 1
        return blocks

    def _on_fetched(self, _: object, extent: Extent | None, error: StorageError | None) -> None:
        if error is not None:
            self._refuse(error)
        elif not self.closed:
            assert extent is not None
            self._extent = extent
            self.step()

    def _on_cold(
        self, file: object, blocks: list[Block] | None, error: StorageError | None
    ) -> None:
        if self.closed:
            return
        assert isinstance(file, ColdFile)
        if blocks is not None and not self.stream.deleted:
            self._answer_with(blocks, self.shard.readable())
        elif file not in self.shard.cold or self.stream.deleted:
            self.step()  # it was replaced, or trimmed, meanwhile
        else:
            assert error is not None
            self._refuse(error)

    def _answer_with(self, blocks: list[Block], readable: int) -> None:
        skip = self.number - blocks[0].first
        assert skip >= 0
        count = min(blocks[-1].end - self.number, self.records_max)
        while blocks[-1].first >= self.number + count:
            blocks.pop()
        following = self.number + count
        behind_ms = 0
        if following < readable:
            behind_ms = max(self._streams.now_ms - blocks[-1].time_last_ms, 0)
        self._finish([block.bytes for block in blocks], skip, count, following, behind_ms)

    def _finish(
        self, blocks: list[bytes], skip: int, count: int, following: int, behind_ms: int
    ) -> None:
        shard = self.shard
        self.closed = True
        self._extent = _NOWHERE
        ended = shard.has_ended(following)
        children = self.stream.children(shard.index) if ended else []
        self._streams.count_out(self.stream, shard, count, sum(map(len, blocks)))
        chunk = Chunk(blocks, skip, count, following, behind_ms, ended, children)
        self._answer(self._argument, chunk)

    def _refuse(self, error: StorageError) -> None:
        stream = self.stream
        self.fail(Unavailable(f"stream {stream.name}, shard {self.shard.index}: {error}"))

    def fail(self, error: BraidError) -> None:
        """End it with an error."""
        if not self.closed:
            self.closed = True
            self._extent = _NOWHERE
            self._answer(self._argument, error)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        self.closed = True
        self._extent = _NOWHERE
