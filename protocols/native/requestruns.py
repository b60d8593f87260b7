"""SENDs or APPENDs of one body each that come one behind the other and differ in request and body.

That is what many tasks look like that send to one queue, or append to one stream. The first of them
is decoded; what the others share with it is compared as bytes, so each costs two slices instead of
a decoder::

    length 0x94 SEND   0xcc-0xce  request  queue 0x91 0x9n bin  body  attributes and so on
    length 0x9n APPEND 0xcc-0xce  request  stream     0x91 bin  body  keys and so on
    '---------- head -----------'          '----- middle -----'       '------ tail ------'

Requests up to 127 are not written so, and go one by one.
"""

from struct import Struct
from typing import Final, Self

from .operations import OPERATIONS

__all__ = ["RunShape"]

_LENGTH_BYTES: Final = 4  # as in frames.py, which imports this
_ARRAYS_BEFORE_BODY: Final = {OPERATIONS["SEND"]: 2, OPERATIONS["APPEND"]: 1}
_REQUEST_BYTES: Final = {0xCC: 1, 0xCD: 2, 0xCE: 4}
_STR_LENGTHS: Final = {0xD9: Struct(">B"), 0xDA: Struct(">H")}
_BIN_LENGTHS: Final = {0xC4: Struct(">B"), 0xC5: Struct(">H"), 0xC6: Struct(">I")}
_ONE: Final = 0x91  # an array of one


class RunShape:
    """What frames of a run have in common.

    Attributes:
        bytes: of each frame. HEAD_BYTES: what each of them begins with.
    """

    HEAD_BYTES: Final = _LENGTH_BYTES + 3

    __slots__ = ("_body_at", "_head", "_middle", "_request_end", "_tail", "_tail_at", "bytes")

    def __init__(self, frame: bytes, request_end: int, body_at: int, tail_at: int) -> None:
        self.bytes = len(frame)
        self._request_end = request_end
        self._body_at = body_at
        self._tail_at = tail_at
        self._head = frame[: self.HEAD_BYTES]
        self._middle = frame[request_end:body_at]
        self._tail = frame[tail_at:]

    @classmethod
    def of(cls, frame: bytes) -> Self | None:
        """The shape of a whole frame that was decoded, None if it makes no runs."""
        arrays = _ARRAYS_BEFORE_BODY.get(frame[_LENGTH_BYTES + 1])
        request_bytes = _REQUEST_BYTES.get(frame[cls.HEAD_BYTES - 1])
        if arrays is None or request_bytes is None:
            return None
        request_end = cls.HEAD_BYTES + request_bytes
        first = frame[request_end]
        if first >> 5 == 0b101:  # a short str
            at = request_end + 1 + (first & 0x1F)
        elif layout := _STR_LENGTHS.get(first):
            at = request_end + 1 + layout.size + layout.unpack_from(frame, request_end + 1)[0]
        else:
            return None
        is_one = frame[at] == _ONE
        at += arrays
        body = _BIN_LENGTHS.get(frame[at]) if at < len(frame) else None
        if body is None or not is_one:
            return None
        body_at = at + 1 + body.size
        return cls(frame, request_end, body_at, body_at + body.unpack_from(frame, at + 1)[0])

    def cut(self, data: bytes | bytearray, at: int, most: int) -> tuple[list[int], list[bytes]]:
        """The requests and the bodies of the frames at ``at`` that have this shape."""
        head, middle, tail = self._head, self._middle, self._tail
        size, end = self.bytes, min(len(data), at + most * self.bytes)
        number_at, number_end = self.HEAD_BYTES, self._request_end
        body_at, tail_at = self._body_at, self._tail_at
        requests: list[int] = []
        bodies: list[bytes] = []
        while (
            at + size <= end
            and data.startswith(head, at)
            and data.startswith(middle, at + number_end)
            and data.startswith(tail, at + tail_at)
        ):
            request = int.from_bytes(data[at + number_at : at + number_end])
            if not request:
                break  # it is the connection's own: whoever decodes it says so
            requests.append(request)
            bodies.append(bytes(data[at + body_at : at + tail_at]))
            at += size
        return requests, bodies
