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
_FIRST_SEQUENCE_AT = 28 - 8  # from behind the prefix: see the layout of MESSAGE in record.py
_TARGET_BYTES = 12


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
    places = [
        (_FIRST_SEQUENCE_AT + _TARGET_BYTES * index, seq) for index, (_, seq) in enumerate(targets)
    ]
    set_sequence, prefix = _U64.pack_into, _PREFIX.pack
    out = bytearray()
    if len(places) == 1:  # the most common case, without a loop in the loop
        at, seq = places[0]
        for body in bodies:
            set_sequence(changing, at, seq)
            seq += 1
            out += prefix(size, crc32(body, crc32(changing)))
            out += changing
            out += body
    else:
        for index, body in enumerate(bodies):
            for at, seq in places:
                set_sequence(changing, at, seq + index)
            out += prefix(size, crc32(body, crc32(changing)))
            out += changing
            out += body
    assert len(out) == size * len(bodies), "bodies of one length"
    return bytes(out), size
