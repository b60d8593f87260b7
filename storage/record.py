"""Records: what stands inside a frame. Pure functions, no files, no clock.

Every record starts with the same 8 bytes whatever its type, so that any record can be read back
and verified alone, by its LSN (little endian, CRC-32 as in ``frame.py``)::

     0        4       8      9       10
     +--------+-------+------+-------+----------------------
     | length |  crc  | type | flags | fields of the type ...        crc: of bytes 8..length

An *entity* is whatever owns a sequence of messages (a queue today); this layer only carries its
number. Every record is an absolute statement, so that replaying it over a state that already
contains it changes nothing.

The decoders are for records whose CRC holds; what does not fit together inside one is a
``ValueError``.

The layout of each type stands above its pair of functions. To change one, follow the recipe in
``frame.py``.
"""

from array import array
from collections.abc import Iterable, Sequence
from struct import Struct
from struct import error as StructError
from zlib import crc32

import msgspec

__all__ = [
    "ACK",
    "COLD",
    "CURSOR",
    "DEFINITION",
    "DELAY",
    "LINK",
    "MESSAGE",
    "PURGE",
    "RECEIVE",
    "RECORD_BYTES_MIN",
    "STREAM",
    "AckRecord",
    "DefinitionRecord",
    "DelayRecord",
    "LinkRecord",
    "MessageContent",
    "MessageRecord",
    "PurgeRecord",
    "ReceiveRecord",
    "decode_ack",
    "decode_content",
    "decode_definition",
    "decode_delay",
    "decode_link",
    "decode_message",
    "decode_purge",
    "decode_receive",
    "encode_ack",
    "encode_definition",
    "encode_delay",
    "encode_link",
    "encode_message",
    "encode_moved_link",
    "encode_moved_message",
    "encode_plain_message",
    "encode_purge",
    "encode_receive",
    "record_is_intact",
    "record_length",
    "record_type",
    "walk_records",
]

RECORD_BYTES_MIN = 10

# Record types. Numbers are on disk: never reuse one.
MESSAGE = 1
ACK = 2
LINK = 3
RECEIVE = 4
DELAY = 5
PURGE = 6
DEFINITION = 7
STREAM = 8  # see block.py
CURSOR = 9  # this one and COLD: see streams.py
COLD = 10

_PREFIX = Struct("<II")
_U64 = Struct("<Q")
_U32 = Struct("<I")


def record_length(buffer: bytes | memoryview, at: int = 0) -> int:
    """The length in bytes of the record at ``at``, its 8-byte prefix included.

    There must be four bytes at ``at``.
    """
    length: int = _U32.unpack_from(buffer, at)[0]
    return length


def record_type(buffer: bytes | memoryview, at: int = 0) -> int:
    """The type number of the record at ``at``."""
    return buffer[at + 8]


def record_is_intact(buffer: bytes | memoryview, at: int = 0) -> bool:
    """Whether the whole record at ``at`` is there and its CRC holds."""
    if len(buffer) - at < RECORD_BYTES_MIN:
        return False
    crc: int
    length, crc = _PREFIX.unpack_from(buffer, at)
    if length < RECORD_BYTES_MIN or at + length > len(buffer):
        return False
    return crc32(memoryview(buffer)[at + 8 : at + length]) == crc


def walk_records(payload: bytes | memoryview, at: int, end: int) -> Iterable[int]:
    """Yield where each record between ``at`` and ``end`` begins.

    Raises:
        ValueError: they do not fill that space exactly.
    """
    while at < end:
        if end - at < RECORD_BYTES_MIN:
            raise ValueError(f"{end - at} stray bytes after the last record")
        length = record_length(payload, at)
        if length < RECORD_BYTES_MIN or at + length > end:
            raise ValueError(f"a record of {length} bytes where {end - at} are left")
        yield at
        at += length


# MESSAGE ------------------------------------------------------------------------------------
#
#   8     9      10   12           16        24
#   +-----+------+----+------------+---------+---------------------+-----------------+------+----
#   |  1  |flags | n  | attributes | time_ms | n * (u32 entity,    | optional fields | attr | body
#   |     |      |    |    bytes   |         |      u64 sequence)  | in flag order   |      |
#   +-----+------+----+------------+---------+---------------------+-----------------+------+----
#
#   DUE     u64  not to be delivered before, unix ms
#   EXPIRE  u64  not to be delivered at or after, unix ms
#   GROUP   u64  hash of the message group's name
#   DEDUP  16 B  hash of the deduplication id
#   MOVED  2*u64 a copy made by compaction: the message's first LSN (its id), the LSN it replaces

DUE, EXPIRE, GROUP, DEDUP, MOVED = 1, 2, 4, 8, 16
_MESSAGE_1 = Struct("<BBHIQIQ")
_MESSAGE_N = Struct("<BBHIQ")
_CONTENT = Struct("<I5xBHIQ")
_TARGET = Struct("<IQ")
_MOVED = Struct("<QQ")


class MessageRecord(msgspec.Struct, gc=False):
    """A message and the places it was put. ``lsn`` is where this record stands."""

    lsn: int
    origin: int  # LSN of the first copy: the message's id
    replaces: int  # LSN of the copy that this one replaces, or 0
    time_ms: int
    due_ms: int  # 0: at once
    expire_ms: int  # 0: never
    group: int  # 0: none
    dedup: bytes  # b"": none
    targets: tuple[tuple[int, int], ...]
    attributes: bytes
    body: bytes
    length: int


def encode_message(
    targets: Sequence[tuple[int, int]],
    time_ms: int,
    attributes: bytes,
    body: bytes,
    due_ms: int = 0,
    expire_ms: int = 0,
    group: int = 0,
    dedup: bytes = b"",
    moved: tuple[int, int] | None = None,
) -> tuple[bytes, bytes]:
    """Return the record as (head, body); ``body`` is the very object passed in, not copied."""
    flags = 0
    options = b""
    if due_ms:
        flags |= DUE
        options += _U64.pack(due_ms)
    if expire_ms:
        flags |= EXPIRE
        options += _U64.pack(expire_ms)
    if group:
        flags |= GROUP
        options += _U64.pack(group)
    if dedup:
        assert len(dedup) == 16
        flags |= DEDUP
        options += dedup
    if moved is not None:
        flags |= MOVED
        options += _MOVED.pack(*moved)
    if len(targets) == 1:
        entity, seq = targets[0]
        head = _MESSAGE_1.pack(MESSAGE, flags, 1, len(attributes), time_ms, entity, seq)
    else:
        head = _MESSAGE_N.pack(MESSAGE, flags, len(targets), len(attributes), time_ms)
        head += b"".join([_TARGET.pack(*target) for target in targets])
    head += options + attributes
    prefix = _PREFIX.pack(8 + len(head) + len(body), crc32(body, crc32(head)))
    return prefix + head, body


def encode_plain_message(
    entity: int, seq: int, time_ms: int, attributes: bytes, body: bytes
) -> tuple[bytes, bytes]:
    """What :func:`encode_message` returns for one target and no options, in half the time."""
    head = _MESSAGE_1.pack(MESSAGE, 0, 1, len(attributes), time_ms, entity, seq)
    if attributes:
        head += attributes
    return _PREFIX.pack(8 + len(head) + len(body), crc32(body, crc32(head))) + head, body


class MessageContent(msgspec.Struct, gc=False):
    """What a consumer gets of a message record."""

    id: int  # LSN of the first copy
    time_ms: int
    expire_ms: int  # 0: never
    attributes: bytes
    body: bytes


def decode_content(buffer: bytes, at: int, lsn: int) -> MessageContent:
    """Decode what a consumer gets of the message record at ``at``: the hot half of a delivery."""
    length, flags, count, attributes_length, time_ms = _CONTENT.unpack_from(buffer, at)
    end = at + length
    at += 24 + 12 * count
    expire_ms = 0
    if flags:
        if flags & DUE:
            at += 8
        if flags & EXPIRE:
            expire_ms = _U64.unpack_from(buffer, at)[0]
            at += 8
        if flags & GROUP:
            at += 8
        if flags & DEDUP:
            at += 16
        if flags & MOVED:
            lsn = _U64.unpack_from(buffer, at)[0]
            at += 16
    if not attributes_length:
        return MessageContent(lsn, time_ms, expire_ms, b"", buffer[at:end])
    body_at = at + attributes_length
    return MessageContent(lsn, time_ms, expire_ms, buffer[at:body_at], buffer[body_at:end])


def encode_moved_message(
    message: MessageRecord, targets: Sequence[tuple[int, int]]
) -> tuple[bytes, bytes]:
    """Return a copy of ``message`` for compaction: who still needs it is ``targets``."""
    return encode_message(
        targets,
        message.time_ms,
        message.attributes,
        message.body,
        message.due_ms,
        message.expire_ms,
        message.group,
        message.dedup,
        (message.origin, message.lsn),
    )


def decode_message(buffer: bytes, at: int, lsn: int) -> MessageRecord:
    """Decode the message record at ``at``; ``lsn`` is its position in the log."""
    length = record_length(buffer, at)
    end = at + length
    due_ms = expire_ms = group = replaces = 0
    origin = lsn
    dedup = b""
    targets: tuple[tuple[int, int], ...]
    try:
        _, flags, count, attributes_length, time_ms = _MESSAGE_N.unpack_from(buffer, at + 8)
        at += 24
        if count == 1:
            targets = (_TARGET.unpack_from(buffer, at),)
        else:
            targets = tuple(_TARGET.iter_unpack(buffer[at : at + 12 * count]))
        at += 12 * count
        if flags:
            if flags & DUE:
                due_ms = _U64.unpack_from(buffer, at)[0]
                at += 8
            if flags & EXPIRE:
                expire_ms = _U64.unpack_from(buffer, at)[0]
                at += 8
            if flags & GROUP:
                group = _U64.unpack_from(buffer, at)[0]
                at += 8
            if flags & DEDUP:
                dedup = bytes(buffer[at : at + 16])
                at += 16
            if flags & MOVED:
                origin, replaces = _MOVED.unpack_from(buffer, at)
                at += 16
    except StructError as error:
        raise ValueError(f"a message record ends in its fields: {error}") from None
    body_at = at + attributes_length
    if body_at > end or end > len(buffer):
        raise ValueError("the fields of a message record do not fit in its length")
    return MessageRecord(
        lsn,
        origin,
        replaces,
        time_ms,
        due_ms,
        expire_ms,
        group,
        dedup,
        targets,
        bytes(buffer[at:body_at]),
        bytes(buffer[body_at:end]),
        length,
    )


# ACK, RECEIVE, DELAY, PURGE: statements about sequences of one entity --------------------------
#
#   8     9        10   12       16                24
#   +-----+--------+----+--------+-----------------+------------------------------------------
#   | typ | shape  | 0  | entity | u64 value       | u64 sequences (shape 0), or
#   |     |        |    |        |                 | u64 first, u64 last pairs (shape 1)
#   +-----+--------+----+--------+-----------------+------------------------------------------
#
#   ACK      value: why the messages are gone (the broker's number; kept for counters and dumps)
#   RECEIVE  value: how many times each has now been received
#   DELAY    value: not to be delivered again before, unix ms
#   PURGE    value: 0; each sequence is a bound: what is below it in its lane is gone

_SPAN = Struct("<BBHIQ")
_SINGLES, _RANGES = 0, 1
_SEQUENCES_MAX = 1 << 26  # in one record


class AckRecord(msgspec.Struct, gc=False):
    """These sequences of the entity are gone for good."""

    entity: int
    reason: int
    sequences: list[int]


class ReceiveRecord(msgspec.Struct, gc=False):
    """These sequences of the entity have now been received ``count`` times."""

    entity: int
    count: int
    sequences: list[int]


class DelayRecord(msgspec.Struct, gc=False):
    """These sequences of the entity are held back until ``due_ms`` (unix time)."""

    entity: int
    due_ms: int
    sequences: list[int]


class PurgeRecord(msgspec.Struct, gc=False):
    """Everything below each bound, in the bound's own lane, is gone for good."""

    entity: int
    bounds: list[int]


def _encode_span(kind: int, entity: int, value: int, sequences: Sequence[int]) -> bytes:
    """Encode sequences as singles or as ranges, whichever is shorter."""
    ordered = sorted(sequences)
    ranges = array("Q")
    first = last = ordered[0]
    for seq in ordered:
        if seq > last + 1:
            ranges.append(first)
            ranges.append(last)
            first = seq
        last = seq
    ranges.append(first)
    ranges.append(last)
    if len(ranges) < len(ordered):
        head = _SPAN.pack(kind, _RANGES, 0, entity, value) + ranges.tobytes()
    else:
        head = _SPAN.pack(kind, _SINGLES, 0, entity, value) + array("Q", ordered).tobytes()
    return _PREFIX.pack(8 + len(head), crc32(head)) + head


def _decode_span(buffer: bytes | memoryview, at: int) -> tuple[int, int, list[int]]:
    end = at + record_length(buffer, at)
    try:
        _, shape, _, entity, value = _SPAN.unpack_from(buffer, at + 8)
    except StructError as error:
        raise ValueError(f"a record of sequences ends in its fields: {error}") from None
    numbers = array("Q")
    numbers.frombytes(bytes(buffer[at + 24 : end]))  # ValueError when no multiple of 8
    if shape == _SINGLES:
        return entity, value, numbers.tolist()
    if shape != _RANGES or len(numbers) % 2:
        raise ValueError(f"sequences in shape {shape}, {len(numbers)} numbers")
    sequences: list[int] = []
    for index in range(0, len(numbers), 2):
        first, last = numbers[index], numbers[index + 1]
        if not first <= last < first + _SEQUENCES_MAX - len(sequences):
            raise ValueError(f"a range of sequences from {first} to {last}")
        sequences.extend(range(first, last + 1))
    return entity, value, sequences


def encode_ack(entity: int, reason: int, sequences: Sequence[int]) -> bytes:
    """Encode an ACK record; ``sequences`` must not be empty."""
    return _encode_span(ACK, entity, reason, sequences)


def decode_ack(buffer: bytes | memoryview, at: int) -> AckRecord:
    """Decode the ACK record at ``at``."""
    return AckRecord(*_decode_span(buffer, at))


def encode_receive(entity: int, count: int, sequences: Sequence[int]) -> bytes:
    """Encode a RECEIVE record; ``sequences`` must not be empty."""
    return _encode_span(RECEIVE, entity, count, sequences)


def decode_receive(buffer: bytes | memoryview, at: int) -> ReceiveRecord:
    """Decode the RECEIVE record at ``at``."""
    return ReceiveRecord(*_decode_span(buffer, at))


def encode_delay(entity: int, due_ms: int, sequences: Sequence[int]) -> bytes:
    """Encode a DELAY record; ``sequences`` must not be empty."""
    return _encode_span(DELAY, entity, due_ms, sequences)


def decode_delay(buffer: bytes | memoryview, at: int) -> DelayRecord:
    """Decode the DELAY record at ``at``."""
    return DelayRecord(*_decode_span(buffer, at))


def encode_purge(entity: int, bounds: Sequence[int]) -> bytes:
    """Encode a PURGE record: one exclusive upper bound for each lane."""
    head = _SPAN.pack(PURGE, _SINGLES, 0, entity, 0) + array("Q", bounds).tobytes()
    return _PREFIX.pack(8 + len(head), crc32(head)) + head


def decode_purge(buffer: bytes | memoryview, at: int) -> PurgeRecord:
    """Decode the PURGE record at ``at``."""
    entity, _, bounds = _decode_span(buffer, at)
    return PurgeRecord(entity, bounds)


# LINK ---------------------------------------------------------------------------------------
#
#   8     9      10  12        16      20      24      32      40        48     56      64  72
#   +-----+------+---+---------+-------+-------+-------+-------+---------+------+-------+---+------
#   |  3  |flags | 0 |attribute| from  | to    | from  | to    | message | time | group | r | attri-
#   |     |      |   | bytes   | entity| entity| seq   | seq   | lsn     | ms   | hash  |   | butes
#   +-----+------+---+---------+-------+-------+-------+-------+---------+------+-------+---+------
#
#   r        LSN of the link that this copy replaces (flag MOVED), else 0
#   attributes are laid over the message's own when it is delivered (why it is a dead letter);
#   the record is needed as long as the message is: its time is when the message came there

_LINK = Struct("<BBHIIIQQQQQQ")


class LinkRecord(msgspec.Struct, gc=False):
    """A message that stands in the log changes places: source -> target. No body is copied."""

    lsn: int
    source: int
    source_seq: int
    target: int
    target_seq: int
    message_lsn: int
    time_ms: int
    group: int
    replaces: int
    attributes: bytes
    length: int


def encode_link(
    source: int,
    source_seq: int,
    target: int,
    target_seq: int,
    message_lsn: int,
    time_ms: int,
    group: int,
    attributes: bytes,
    replaces: int = 0,
) -> bytes:
    """Encode a LINK record."""
    flags = MOVED if replaces else 0
    head = (
        _LINK.pack(
            LINK,
            flags,
            0,
            len(attributes),
            source,
            target,
            source_seq,
            target_seq,
            message_lsn,
            time_ms,
            group,
            replaces,
        )
        + attributes
    )
    return _PREFIX.pack(8 + len(head), crc32(head)) + head


def encode_moved_link(link: LinkRecord) -> bytes:
    """Return a copy of ``link`` for compaction."""
    return encode_link(
        link.source,
        link.source_seq,
        link.target,
        link.target_seq,
        link.message_lsn,
        link.time_ms,
        link.group,
        link.attributes,
        link.lsn,
    )


def decode_link(buffer: bytes | memoryview, at: int, lsn: int) -> LinkRecord:
    """Decode the LINK record at ``at``; ``lsn`` is its position in the log."""
    length = record_length(buffer, at)
    try:
        _, _, _, size, source, target, source_seq, target_seq, message_lsn, time_ms, group, old = (
            _LINK.unpack_from(buffer, at + 8)
        )
    except StructError as error:
        raise ValueError(f"a link record ends in its fields: {error}") from None
    start = at + 8 + _LINK.size
    if start + size != at + length or at + length > len(buffer):
        raise ValueError("the fields of a link record do not fit in its length")
    return LinkRecord(
        lsn,
        source,
        source_seq,
        target,
        target_seq,
        message_lsn,
        time_ms,
        group,
        old,
        bytes(buffer[start : start + size]),
        length,
    )


# DEFINITION ---------------------------------------------------------------------------------
#
#   8     9   10   12       16
#   +-----+---+----+--------+----------------------------------------------
#   |  7  | 0 | 0  | entity | MessagePack map: the entity as it now is; empty: it is deleted

_DEFINITION = Struct("<BBHI")


class DefinitionRecord(msgspec.Struct, gc=False):
    """An entity as it now is (a MessagePack map), or b"" when it is deleted."""

    entity: int
    content: bytes


def encode_definition(entity: int, content: bytes) -> bytes:
    """Encode a DEFINITION record."""
    head = _DEFINITION.pack(DEFINITION, 0, 0, entity) + content
    return _PREFIX.pack(8 + len(head), crc32(head)) + head


def decode_definition(buffer: bytes | memoryview, at: int) -> DefinitionRecord:
    """Decode the DEFINITION record at ``at``."""
    end = at + record_length(buffer, at)
    if not at + 16 <= end <= len(buffer):
        raise ValueError("the fields of a definition record do not fit in its length")
    _, _, _, entity = _DEFINITION.unpack_from(buffer, at + 8)
    return DefinitionRecord(entity, bytes(buffer[at + 16 : end]))
