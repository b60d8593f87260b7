"""The native wire: bytes <-> frames <-> typed requests and replies. PROTOCOL.md is the contract.

A frame is a length and one MessagePack array::

     0                4        5           6
     +----------------+--------+-----------+--------------- - - -
     | length, u32 BE |  0x9n  | operation | request, ...
     +----------------+--------+-----------+--------------- - - -
                      '------------- length bytes ------------- -

Rules:

1. Pure functions over bytes: no socket, no clock, no broker. Encode and decode are neighbours.
2. A length is checked before a byte of the frame is kept, and the shape of a frame is checked while
   it is decoded, so that no input makes us allocate much more than its own size. Only SEND,
   PUBLISH, APPEND, SCHEDULE and TRANSACT may be larger than ``FRAME_BYTES_SMALL_MAX``. MessagePack
   extension types are not decoded anywhere.
3. ``Malformed`` means that the stream cannot be trusted any more: say so, then hang up.
   ``Refused`` means one well-formed frame that makes no sense: answer its request, go on.
4. Fields may be added at the end of an array in a later version; unknown ones are skipped.
"""

from collections.abc import Sequence
from itertools import count
from struct import Struct as Layout
from typing import Annotated, Final

import msgspec

from ...broker.errors import BraidError, InvalidArgument, TooLarge
from ...broker.message import Browsed, Delivery, Sent
from ...broker.publishing import LivePublished, Published
from ...broker.sendrun import RUN_MESSAGES_MIN, Taken
from ...broker.streams import Position
from .operations import OPERATIONS, Hello, Reply, Request, Step
from .requestruns import RunShape

__all__ = [
    "FRAME_BYTES_SMALL_MAX",
    "LENGTH_BYTES",
    "VERSION",
    "FrameBuffer",
    "Malformed",
    "Refused",
    "append_appended",
    "append_browsed",
    "append_deliveries",
    "append_events",
    "append_frame",
    "append_large_frame",
    "append_published",
    "append_sent",
    "append_sent_run",
    "append_settled",
    "decode_hello",
    "decode_reply",
    "decode_request",
    "decode_step",
]

VERSION: Final = 1  # of the protocol; raised by what an older peer would misunderstand

LENGTH_BYTES: Final = 4
FRAME_BYTES_SMALL_MAX: Final = 256 * 1024
_FRAMES_IN_VAIN: Final = 32  # that seemed to be runs and were none: so many are not looked at
_DELIVERY_BYTES = 64  # what a message takes in a frame beside its body and headers, at most
_LENGTH = Layout(">I")
_LARGE_NAMES = "SEND", "PUBLISH", "APPEND", "SCHEDULE", "TRANSACT"
_LARGE = tuple(OPERATIONS[name] for name in _LARGE_NAMES)
_SENT = OPERATIONS["SENT"]
_SETTLED = OPERATIONS["SETTLED"]
_DELIVER = OPERATIONS["DELIVER"]
_BROWSED = OPERATIONS["BROWSED"]
_PUBLISHED = OPERATIONS["PUBLISHED"]
_APPENDED = OPERATIONS["APPENDED"]
_EVENT = OPERATIONS["EVENT"]


class Malformed(Exception):
    """The bytes are no frame: answer ``error`` on request 0, then close the connection."""

    def __init__(self, error: BraidError) -> None:
        super().__init__(str(error))
        self.error = error


class Refused(Exception):
    """A well-formed frame that makes no sense: answer ``request`` with ``error``, and go on."""

    def __init__(self, request: int, error: BraidError) -> None:
        super().__init__(str(error))
        self.request = request
        self.error = error


# --- bytes <-> frames ---


class FrameBuffer:
    """Cuts a stream of bytes into frames.

    Call :meth:`feed` with what came, then :meth:`next_frame` until it returns None. What it returns
    is a view that must not be kept beyond the next call.
    """

    __slots__ = ("_at", "_data", "_in_vain", "frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self.frame_bytes_max = frame_bytes_max
        self._data: bytes | bytearray = b""
        self._at = 0
        self._in_vain = 0  # frames to let pass before a run is looked for again

    def __len__(self) -> int:
        """How many bytes wait."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Add what was read from the connection."""
        if self._at == len(self._data):
            self._data = data
            self._at = 0
            return
        if self._at or not isinstance(self._data, bytearray):
            # Not in place: an error that nobody has let go of yet may hold a frame of it.
            self._data = bytearray(memoryview(self._data)[self._at :])
        self._at = 0
        self._data += data

    def has_frame(self) -> bool:
        """Whether :meth:`next_frame` has something to return or to raise."""
        waiting = len(self._data) - self._at
        if waiting < LENGTH_BYTES:
            return False
        length: int = _LENGTH.unpack_from(self._data, self._at)[0]
        return waiting >= LENGTH_BYTES + length or length > self.frame_bytes_max

    def next_frame(self) -> memoryview | None:
        """The payload of the next frame, None when more bytes are needed. Raises Malformed."""
        data = self._data
        start = self._at + LENGTH_BYTES
        if start > len(data):
            return None
        length: int = _LENGTH.unpack_from(data, self._at)[0]
        if length > self.frame_bytes_max:
            text = f"a frame of {length} bytes, at most {self.frame_bytes_max} are allowed"
            raise Malformed(TooLarge(text))
        end = start + length
        if end > len(data):
            return None
        self._at = end
        return memoryview(data)[start:end]

    def next_run(self, length: int, most: int) -> tuple[list[int], list[bytes]] | None:
        """The requests and bodies of frames that are like the last one, of ``length`` bytes.

        None when those are too few to gain anything by it, or make no runs (``requestruns.py``).
        """
        data, at, size = self._data, self._at, LENGTH_BYTES + length
        last = at + (RUN_MESSAGES_MIN - 1) * size  # of those that there have to be
        if last + size > len(data) or most < RUN_MESSAGES_MIN:
            return None
        if not data.startswith(data[at - size : at - size + RunShape.HEAD_BYTES], last):
            return None
        if self._in_vain:
            self._in_vain -= 1
            return None
        shape = RunShape.of(bytes(data[at - size : at]))
        requests, bodies = shape.cut(data, at, most) if shape is not None else ([], [])
        if not requests:
            self._in_vain = _FRAMES_IN_VAIN
            return None
        self._at += size * len(requests)
        return requests, bodies


_encode = msgspec.msgpack.Encoder().encode
_encode_into = msgspec.msgpack.Encoder().encode_into


def append_frame(out: bytearray, message: object) -> None:
    """Append ``message``, a tuple or one of the operations, to ``out`` as one frame."""
    payload = _encode(message)
    out += len(payload).to_bytes(LENGTH_BYTES)
    out += payload


def append_large_frame(out: bytearray, message: object) -> None:
    """The same without copying the payload: from some ten KiB on it takes half the time."""
    at = len(out)
    out += bytes(LENGTH_BYTES)
    _encode_into(message, out, at + LENGTH_BYTES)
    _LENGTH.pack_into(out, at, len(out) - at - LENGTH_BYTES)


# --- frames <-> requests and replies ---


class _Head(msgspec.Struct, array_like=True, gc=False):
    operation: int
    request: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


_decode_request = msgspec.msgpack.Decoder(Request).decode
_decode_hello = msgspec.msgpack.Decoder(Hello).decode
_decode_reply = msgspec.msgpack.Decoder(Reply).decode
_decode_head = msgspec.msgpack.Decoder(_Head).decode
_decode_step = msgspec.msgpack.Decoder(Step).decode
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def decode_request(payload: memoryview) -> Request:
    """The request that a client's frame holds. Raises Malformed or Refused."""
    if len(payload) > FRAME_BYTES_SMALL_MAX and payload[1] not in _LARGE:
        names = ", ".join(_LARGE_NAMES)
        text = f"only {names} may take more than {FRAME_BYTES_SMALL_MAX} bytes"
        raise Malformed(TooLarge(text))
    try:
        request: Request = _decode_request(payload)
    except _UNREADABLE as error:
        raise _what_is_wrong(payload, error) from None
    return request


def decode_step(step: msgspec.Raw) -> Step:
    """The request that is a step of a TRANSACT. Raises InvalidArgument."""
    try:
        request: Step = _decode_step(step)
    except _UNREADABLE as error:
        raise InvalidArgument(str(error)) from None
    return request


def decode_hello(payload: memoryview) -> Hello:
    """The first frame of a client. Raises Malformed, whatever is wrong with it."""
    try:
        return _decode_hello(payload)
    except _UNREADABLE as error:
        text = f"the first frame is not a HELLO: {error}"
        raise Malformed(InvalidArgument(text)) from None


def decode_reply(payload: memoryview) -> Reply:
    """The reply that a server's frame holds. Raises Malformed or Refused."""
    try:
        reply: Reply = _decode_reply(payload)
    except _UNREADABLE as error:
        raise _what_is_wrong(payload, error) from None
    return reply


def _what_is_wrong(payload: memoryview, error: Exception) -> Malformed | Refused:
    """Whether the frame is broken, or is sound and only asks for what does not exist."""
    try:
        head = _decode_head(payload)
    except _UNREADABLE:
        return Malformed(InvalidArgument(f"not a frame: {error}"))
    if not isinstance(error, msgspec.ValidationError | UnicodeDecodeError):
        return Malformed(InvalidArgument(f"not a frame: {error}"))
    if head.operation not in OPERATIONS.values():
        return Refused(head.request, InvalidArgument(f"unknown operation {head.operation}"))
    return Refused(head.request, InvalidArgument(f"operation {head.operation}: {error}"))


# --- the replies worth a function of their own ---


def append_sent(out: bytearray, request: int, results: Sequence[Sent | BraidError]) -> None:
    """Append the SENT that answers ``request``."""
    if len(results) == 1 and isinstance(results[0], Sent):  # as most have
        sent = results[0]
        append_frame(out, (_SENT, request, ((sent.id, sent.seq, sent.duplicate),), ()))
        return
    items: list[tuple[int, int, bool] | None] = []
    errors: list[tuple[int, str, str]] = []
    for result in results:
        if isinstance(result, Sent):
            items.append((result.id, result.seq, result.duplicate))
        else:
            errors.append((len(items), result.code, str(result)))
            items.append(None)
    append_frame(out, (_SENT, request, items, errors))


def append_sent_run(out: bytearray, requests: Sequence[int], sent: Sequence[Taken]) -> None:
    """Append the SENT for each of as many SENDs of one message, all of which were taken."""
    numbers = iter(requests)
    for part in sent:
        ids = range(part.id, part.id + part.count * part.step, part.step)
        for seq, id, request in zip(count(part.seq), ids, numbers, strict=False):
            payload = _encode((_SENT, request, ((id, seq, False),), ()))
            out += len(payload).to_bytes(LENGTH_BYTES)
            out += payload


def append_settled(out: bytearray, request: int, results: Sequence[BraidError | None]) -> None:
    """Append the SETTLED that answers ``request``."""
    if not any(results):
        append_frame(out, (_SETTLED, request, ()))
        return
    errors = [(i, e.code, str(e)) for i, e in enumerate(results) if e is not None]
    append_frame(out, (_SETTLED, request, errors))


def append_deliveries(
    out: bytearray, request: int, last: bool, deliveries: Sequence[Delivery], bytes_max: int
) -> None:
    """Append one or more DELIVER of about ``bytes_max`` each; only the last one says ``last``."""
    items: list[tuple[int, int, int, int, int, bytes, bytes]] = []
    size = 0
    for d in deliveries:
        if size > bytes_max:
            append_large_frame(out, (_DELIVER, request, False, items))
            items = []
            size = 0
        size += len(d.body) + len(d.attributes) + _DELIVERY_BYTES
        items.append((d.seq, d.token, d.receives, d.id, d.time_ms, d.attributes, d.body))
    append_large_frame(out, (_DELIVER, request, last, items))


def append_browsed(
    out: bytearray, request: int, messages: Sequence[Browsed], bytes_max: int
) -> None:
    """Append one or more BROWSED of about ``bytes_max`` each; only the last one says ``last``."""
    items: list[tuple[int, str, int, int, int, bytes, bytes]] = []
    size = 0
    for m in messages:
        if size > bytes_max:
            append_large_frame(out, (_BROWSED, request, False, items))
            items = []
            size = 0
        size += len(m.body) + len(m.attributes) + _DELIVERY_BYTES
        items.append((m.seq, m.state, m.receives, m.id, m.time_ms, m.attributes, m.body))
    append_large_frame(out, (_BROWSED, request, True, items))


def append_published(out: bytearray, request: int, results: Sequence[int | BraidError]) -> None:
    """Append the PUBLISHED that answers ``request``."""
    if len(results) == 1 and not isinstance(results[0], BraidError):
        append_frame(out, (_PUBLISHED, request, results, ()))
        return
    counts = [None if isinstance(result, BraidError) else result for result in results]
    errors = [(i, e.code, str(e)) for i, e in enumerate(results) if isinstance(e, BraidError)]
    append_frame(out, (_PUBLISHED, request, counts, errors))


def append_appended(out: bytearray, request: int, results: Sequence[Position | BraidError]) -> None:
    """Append the APPENDED that answers ``request``."""
    if len(results) == 1 and not isinstance(results[0], BraidError):
        shard, number = results[0]
        append_frame(out, (_APPENDED, request, (shard,), (number,), ()))
        return
    errors: list[tuple[int, str, str]] = []
    if set(map(type, results)) != {tuple}:
        errors = [(i, e.code, str(e)) for i, e in enumerate(results) if isinstance(e, BraidError)]
        results = [(0, 0) if isinstance(each, BraidError) else each for each in results]
    shards, numbers = zip(*results, strict=True)
    append_frame(out, (_APPENDED, request, shards, numbers, errors))


def append_events(
    out: bytearray, request: int, messages: Sequence[Published], dropped: int, bytes_max: int
) -> int:
    """Append one or more EVENT of about ``bytes_max`` each; how many bytes they are.

    What goes to all live subscribers is encoded for the first of them, and copied for the others.
    """
    begin = len(out)
    items: list[object] = []
    size = 0
    for m in messages:
        if size > bytes_max:
            append_large_frame(out, (_EVENT, request, items, dropped))
            items = []
            size = 0
        size += len(m.body) + len(m.attributes) + _DELIVERY_BYTES
        if isinstance(m, LivePublished):
            if not m.encoded:
                m.encoded = _encode((0, 0, 1, 0, m.time_ms, m.attributes, m.body, m.expire_ms))
            items.append(msgspec.Raw(m.encoded))
        else:
            head = m.seq, m.token, m.receives, m.id, m.time_ms
            items.append((*head, m.attributes, m.body, m.expire_ms, m.queue, m.retained))
    append_large_frame(out, (_EVENT, request, items, dropped))
    return len(out) - begin
