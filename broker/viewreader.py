"""Reading the records of a stream as messages of a view, without ever waiting.

It stands where an ordinary queue has a ``Reader``, and has its methods. Records are read by the
block or by a piece of a file, decoded some at a time, and kept until they were given out: consumers
take them in order, so a block is decoded once. What is kept is bounded, and the view lets go of it
(:meth:`ViewReader.forget`) when nobody has asked for a while.
"""

from collections.abc import Callable, Mapping
from typing import cast

from ..storage.block import Block, StreamRecord
from ..storage.cold import ColdFile
from ..storage.errors import Corrupt, StorageError
from ..storage.log import Extent, Log
from ..storage.record import MessageContent
from .message import OWN_HEADERS, PARTITION_KEY, overlay, pack_headers
from .reader import Reader
from .shard import Shard
from .streamreading import block_at
from .viewlane import ViewLane, record_id, slot_record

__all__ = ["PLACES_MAX", "ViewReader"]

PLACES_MAX = 16  # shards of which something is kept: of each a piece of a file, and decoded records
_PIECE_BYTES = 256 * 1024  # read from a file at once; a single block may be more
_PIECE_RECORDS = 10_000
_KEYS_MAX = 256  # partition keys whose header is kept
_DECODED_BYTES = 64 * 1024  # of records that are decoded at once; a single one may be more


class _Place:
    """Where reading is in one shard: blocks, and the records that were decoded of one of them."""

    __slots__ = ("blocks", "end", "first", "records")

    def __init__(self, blocks: list[Block]) -> None:
        self.blocks = blocks
        self.first = self.end = 0
        self.records: list[StreamRecord] = []

    def decode(self, number: int) -> bool:
        """Decode records from ``number`` on; False when no block holds it."""
        for block in self.blocks:
            if block.first <= number < block.end:
                mean = max(block.length // block.count, 1)
                count = min(block.end - number, max(_DECODED_BYTES // mean, 1))
                self.records = list(block.records(number - block.first, count))
                self.first, self.end = number, number + count
                return True
        return False


class ViewReader(Reader):
    """Reads records of one view, one after the other. They are named by their slots."""

    __slots__ = ("_keys", "_lanes", "_later", "_places")

    def __init__(
        self,
        log: Log,
        lanes: Mapping[int, ViewLane],
        later: Callable[[Callable[[], None]], None],
        loaded: Callable[[StorageError | None], None],
    ) -> None:
        """``lanes`` are the view's, by code; ``later`` calls back in another turn."""
        super().__init__(log, loaded)
        self._lanes = lanes
        self._later = later
        self._places: dict[int, _Place] = {}  # by code; those used last are behind
        self._keys: dict[bytes, bytes] = {}  # partition key -> the packed header

    def read(self, lsn: int, link_lsn: int = 0, retention_ms: int = 0) -> MessageContent | None:
        """The record of a slot, or None: then it is being read and ``loaded`` will be called.

        It must be admitted, and not trimmed.
        """
        code, number = slot_record(lsn)
        place = self._places.get(code)
        if place is None or not place.first <= number < place.end:
            shard = self._lanes[code].shard
            place = self._find(code, shard, number)
            if place is None:
                self._load(code, shard, number)
                return None
        return self._message(code, place, number)

    def peek(self, slot: int) -> MessageContent | None:
        """The record of a slot if it is in memory."""
        code, number = slot_record(slot)
        place = self._places.get(code)
        if place is None or not place.first <= number < place.end:
            place = self._find(code, self._lanes[code].shard, number)
        return None if place is None else self._message(code, place, number)

    def time_ms(self, lsn: int) -> int:
        """When a record was appended, if it is in memory; else 0."""
        message = self.peek(lsn)
        return 0 if message is None else message.time_ms

    def rest(self) -> None:
        """Nothing more is to be read for now: see :meth:`forget`."""

    @property
    def keeps(self) -> bool:
        """Whether there is something to forget."""
        return bool(self._places)

    def forget(self) -> None:
        """Nobody has asked for a while: hold no memory."""
        if not self.loading:
            self._places.clear()
            self._keys.clear()

    def _message(self, code: int, place: _Place, number: int) -> MessageContent:
        record = place.records[number - place.first]
        attributes = record.headers
        key = record.key
        if key:
            packed = self._keys.get(key)
            if packed is None:
                if len(self._keys) >= _KEYS_MAX:
                    self._keys.clear()
                packed = pack_headers({PARTITION_KEY: key.decode()}, OWN_HEADERS)
                self._keys[key] = packed
            attributes = overlay(attributes, packed)
        id = record_id(self._lanes[code].shard.id, number)
        return MessageContent(id, record.time_ms, 0, attributes, record.body)

    def _find(self, code: int, shard: Shard, number: int) -> _Place | None:
        """A place with the record decoded, if it is in memory."""
        place = self._places.get(code)
        if place is not None and place.decode(number):
            self._places[code] = self._places.pop(code)
            return place
        if number < shard.cold_end or not shard.firsts or number < shard.firsts[0]:
            return None
        index = shard.block_of(number)
        lsn = shard.lsns[index]
        extent = shard.log.get(lsn)
        if extent is None:
            return None
        try:
            block = block_at(shard, extent, index)
        except Corrupt:
            return None  # fetching it will tell
        return self._put(code, [block], number)

    def _put(self, code: int, blocks: list[Block], number: int) -> _Place | None:
        place = _Place(blocks)
        if not place.decode(number):
            return None
        self._places.pop(code, None)
        while len(self._places) >= PLACES_MAX:
            del self._places[next(iter(self._places))]
        self._places[code] = place
        return place

    # From disk --------------------------------------------------------------------------------

    def _load(self, code: int, shard: Shard, number: int) -> None:
        """Have it read."""
        self.loading = True
        if number < shard.cold_end:
            file = shard.cold_file(number)
            if file.first <= number:
                assert shard.log.cold is not None
                argument = (code, file, number)
                most = (_PIECE_RECORDS, _PIECE_BYTES)
                shard.log.cold.read(file, number, *most, self._on_cold, argument)
                return
        elif shard.firsts and number >= shard.firsts[0]:
            index = shard.block_of(number)
            shard.log.fetch(shard.lsns[index], self._on_hot, (code, shard, number))
            return
        lost = Corrupt(0, f"record {number} was lost with its file")
        self._later(lambda: self._finish(lost))

    def _on_cold(
        self, argument: object, blocks: list[Block] | None, error: StorageError | None
    ) -> None:
        code, file, number = cast("tuple[int, ColdFile, int]", argument)
        if blocks is not None:
            self._put(code, blocks, number)
        lane = self._lanes.get(code)
        if lane is None or file not in lane.shard.cold:
            error = None  # it was replaced, or trimmed, meanwhile: whoever wants it asks again
        self._finish(error)

    def _on_hot(self, argument: object, extent: Extent | None, error: StorageError | None) -> None:
        code, shard, number = cast("tuple[int, Shard, int]", argument)
        index = shard.block_of(number)
        # If it is in a file by now, or trimmed, whoever wants it asks again.
        if extent is not None and index >= 0 and extent.start <= shard.lsns[index] < extent.end:
            try:
                self._put(code, [block_at(shard, extent, index)], number)
            except Corrupt as corrupt:
                error = corrupt
        self._finish(error)

    def _finish(self, error: StorageError | None) -> None:
        self.loading = False
        self._loaded(error)
