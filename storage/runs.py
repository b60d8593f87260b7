"""Runs: many message records of one size, made in one go and appended as one buffer.

Record by record they are what ``record.encode_message`` makes; only the sequences, the body and the
CRC differ from one to the next, so everything else is packed once. Pure functions.
"""

from collections.abc import Sequence
from struct import Struct
from zlib import crc32

from .record import encode_message

__all__ = ["encode_message_run"]

_PREFIX = Struct("<II")
_U64 = Struct("<Q")
# From behind the prefix: see the layout of MESSAGE in record.py.
_FIRST_TARGET_AT = 24 - 8
_FIRST_SEQUENCE_AT = 28 - 8
_TARGET_BYTES = 12
_ONE_MORE = bytes((0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0))  # added to a target


def encode_message_run(
    targets: Sequence[tuple[int, int]],
    time_ms: int,
    attributes: bytes,
    bodies: Sequence[bytes],
    expire_ms: int = 0,
) -> tuple[bytes, int]:
    """Encode a message for each body: (the records back to back, the size of one).

    ``targets`` are those of the first; each sequence rises by one from message to message. All
    bodies have one length.
    """
    head, _ = encode_message(targets, time_ms, attributes, bodies[0], 0, expire_ms)
    size = len(head) + len(bodies[0])
    changing = bytearray(head[8:])
    set_sequence, prefix = _U64.pack_into, _PREFIX.pack
    out = bytearray()
    if len(targets) == 1:  # the most common case
        seq = targets[0][1]
        for body in bodies:
            set_sequence(changing, _FIRST_SEQUENCE_AT, seq)
            seq += 1
            out += prefix(size, crc32(body, crc32(changing)))
            out += changing
            out += body
    else:
        # All sequences rise by one: as one large number, by a one at the place of each.
        first, end = _FIRST_TARGET_AT, _FIRST_TARGET_AT + _TARGET_BYTES * len(targets)
        sequences = int.from_bytes(changing[first:end], "little")
        one = int.from_bytes(_ONE_MORE * len(targets), "little")
        for body in bodies:
            changing[first:end] = sequences.to_bytes(end - first, "little")
            sequences += one
            out += prefix(size, crc32(body, crc32(changing)))
            out += changing
            out += body
    assert len(out) == size * len(bodies), "bodies of one length"
    return bytes(out), size
