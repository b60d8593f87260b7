"""What every MQTT packet is made of: flags, integers, lengths, text, binary data.

Rules:

1. A reader takes the bytes, where to read, and where the packet ends; it returns the value and
   where it ends. It looks at nothing beyond the end, and raises nothing but ``Malformed``.
2. A length that was declared is compared with what is there before anything is cut or made.
3. A writer is given what its caller has checked; what cannot be written is a ValueError.

Source: MQTT 5.0 section 1.5, which 3.1 and 3.1.1 agree with.
"""

from typing import Final

from .kinds import V31
from .reasons import Malformed, Reason

__all__ = [
    "LENGTH_MAX",
    "TEXT_BYTES_MAX",
    "Buffer",
    "binary",
    "check_end",
    "check_flags",
    "encode_length",
    "encode_packet",
    "is_text",
    "read_binary",
    "read_length",
    "read_packet_id",
    "read_text",
    "read_u16",
    "read_u32",
    "text",
]

Buffer = bytes | bytearray | memoryview

LENGTH_MAX: Final = 268_435_455  # of a packet or of its properties: four bytes of seven bits
TEXT_BYTES_MAX: Final = 65_535  # of text and of binary data
_SHORT = "it ends in the middle of a field"


# --- the variable byte integer ---


def read_length(buffer: Buffer, at: int, end: int) -> tuple[int, int] | None:
    """The variable byte integer at ``at`` and where it ends; None when more bytes are needed.

    Raises Malformed for a fifth byte, and for more bytes than the number takes.
    """
    if at >= end:
        return None
    value = buffer[at]
    if value < 128:
        return value, at + 1
    value &= 127
    for shift in (7, 14, 21):
        at += 1
        if at >= end:
            return None
        byte = buffer[at]
        value |= (byte & 127) << shift
        if byte < 128:
            # [MQTT-1.5.5-1]
            if byte == 0:
                raise Malformed("a length takes more bytes than it needs")
            return value, at + 1
    raise Malformed("a length takes more than four bytes")


def encode_length(value: int) -> bytes:
    """A variable byte integer. ValueError above LENGTH_MAX."""
    if value < 128:
        return _LENGTHS[value]
    if value < 16_384:
        return bytes((value & 127 | 128, value >> 7))
    if value > LENGTH_MAX:
        raise ValueError(f"{value} is more than a length of MQTT can be, {LENGTH_MAX}")
    if value < 2_097_152:
        return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14))
    return bytes((value & 127 | 128, value >> 7 & 127 | 128, value >> 14 & 127 | 128, value >> 21))


_LENGTHS = [bytes((value,)) for value in range(128)]


# --- integers ---


def read_u16(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """A two byte integer."""
    if at + 2 > end:
        raise Malformed(_SHORT)
    return buffer[at] << 8 | buffer[at + 1], at + 2


def read_u32(buffer: Buffer, at: int, end: int) -> tuple[int, int]:
    """A four byte integer."""
    if at + 4 > end:
        raise Malformed(_SHORT)
    return int.from_bytes(buffer[at : at + 4], "big"), at + 4


# --- text and binary data ---


def read_text(buffer: Buffer, at: int, end: int) -> tuple[str, int]:
    """A UTF-8 string. A byte order mark is kept, as any character is."""
    start = at + 2
    if start > end:
        raise Malformed(_SHORT)
    stop = start + (buffer[at] << 8 | buffer[at + 1])
    if stop > end:
        raise Malformed(_SHORT)
    # [MQTT-1.5.4-1], surrogates included; [MQTT-1.5.4-3]
    try:
        value = str(buffer[start:stop], "utf-8")
    except UnicodeDecodeError:
        raise Malformed("text that is not UTF-8") from None
    # [MQTT-1.5.4-2]
    if "\0" in value:
        raise Malformed("text with a null character")
    return value, stop


def read_binary(buffer: Buffer, at: int, end: int) -> tuple[bytes, int]:
    """Binary data, as bytes of their own."""
    start = at + 2
    if start > end:
        raise Malformed(_SHORT)
    stop = start + (buffer[at] << 8 | buffer[at + 1])
    if stop > end:
        raise Malformed(_SHORT)
    return bytes(buffer[start:stop]), stop


def is_text(value: str) -> bool:
    """Whether :func:`text` can write it: no null character, no surrogate, not too long."""
    try:
        return "\0" not in value and len(value.encode()) <= TEXT_BYTES_MAX
    except UnicodeEncodeError:
        return False


def text(value: str) -> bytes:
    """A UTF-8 string with its length. ValueError when it is too long or no Unicode."""
    return binary(value.encode())


def binary(value: bytes) -> bytes:
    """Binary data with its length. ValueError above TEXT_BYTES_MAX."""
    if len(value) > TEXT_BYTES_MAX:
        raise ValueError(f"{len(value)} bytes where at most {TEXT_BYTES_MAX} can stand")
    return len(value).to_bytes(2, "big") + value


# --- what packets have in common ---


def check_flags(version: int, flags: int, expected: int = 0) -> None:
    """Refuse reserved flags in the first byte that are not as they have to be."""
    # [MQTT-2.1.3-1]. In 3.1 packets with a flag have QoS 1, and may say that they are sent again.
    if version == V31 and expected:
        flags &= ~8
    if flags != expected:
        raise Malformed("reserved flags are set")


def check_end(at: int, body: bytes) -> None:
    """Refuse a packet that goes on where it should end."""
    if at != len(body):
        raise Malformed("it goes on after its last field")


def read_packet_id(body: bytes, at: int) -> tuple[int, int]:
    """A packet identifier, which is never 0."""
    packet_id, at = read_u16(body, at, len(body))
    # [MQTT-2.2.1-3]
    if not packet_id:
        raise Malformed("the packet identifier is 0", Reason.PROTOCOL_ERROR)
    return packet_id, at


def encode_packet(first: int, body: bytes) -> bytes:
    """A packet with its fixed header. ``first`` is the type and the flags."""
    return bytes((first,)) + encode_length(len(body)) + body
