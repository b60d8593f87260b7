"""WebSocket frames, RFC 6455 section 5, the server's side: a client's bytes to payload, and back.

Rules:

1. Payload is handed on as it comes; no frame and no message is ever collected. What waits here is
   less than a header, or a control frame of at most 125 bytes, or what is left of the last read
   when a turn's worth of frames was taken out of it.
2. A length is checked when it is read, before anything of that length exists.
3. Nothing raises for what the client does: :attr:`FrameReader.close` says that no more is read, and
   what to answer.
4. Several pings are answered by one pong, the last: RFC 6455 5.5.3 allows it, and it bounds what a
   client that pings and never reads can have us hold.
"""

import codecs

__all__ = [
    "CONTROL_BYTES_MAX",
    "FRAMES_PER_TURN_MAX",
    "FrameReader",
    "append_close",
    "append_data",
    "append_pong",
    "unmask",
]

FRAMES_PER_TURN_MAX = 1_024  # then other connections get their turn

_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
CONTROL_BYTES_MAX = 125

PROTOCOL_ERROR = 1002
UNSUPPORTED = 1003
INVALID_TEXT = 1007
TOO_BIG = 1009

_TRANSLATE_BYTES_MIN = 1_024  # below this one XOR of two large integers is faster
_UTF8 = codecs.getincrementaldecoder("utf-8")
_CODES = {*range(1000, 1004), *range(1007, 1015)}  # that may be sent: RFC 6455 7.4.1, and IANA
_XOR = [bytes(byte ^ key for byte in range(256)) for key in range(256)]


def unmask(data: bytes, mask: bytes) -> bytes:
    """``data`` XOR the four bytes of ``mask``, repeated. RFC 6455 5.3."""
    size = len(data)
    if size < _TRANSLATE_BYTES_MIN:
        key = (mask * (size // 4 + 1))[:size]
        number = int.from_bytes(data, "little") ^ int.from_bytes(key, "little")
        return number.to_bytes(size, "little")
    out = bytearray(size)
    for lane, key_byte in enumerate(mask):
        out[lane::4] = data[lane::4].translate(_XOR[key_byte])
    return bytes(out)


class FrameReader:
    """What comes from one client.

    Attributes:
        frame_bytes_max: longest frame that is taken; may be raised at any time.
        close: payload of the close frame to answer with; nothing is read any more. None before.
        ping: payload of the last ping that nobody answered yet. The caller sets it to None.
        more: whether frames wait that :meth:`read` did not get to.
        is_text: whether the last message that began was text.
    """

    __slots__ = (
        "_in_message",
        "_left",
        "_mask",
        "_rest",
        "_takes_text",
        "_utf8",
        "close",
        "frame_bytes_max",
        "is_text",
        "more",
        "ping",
    )

    def __init__(self, frame_bytes_max: int, takes_text: bool) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.close: bytes | None = None
        self.ping: bytes | None = None
        self.more = False
        self.is_text = False
        self._takes_text = takes_text
        self._rest = b""  # came, and could not be read yet
        self._left = 0  # so much of that payload is still to come
        self._mask = b""  # for its next byte and those that follow
        self._in_message = False  # the last data frame was not the last of its message
        self._utf8: codecs.IncrementalDecoder | None = None  # in a text message

    def __len__(self) -> int:
        """How many bytes wait here."""
        return len(self._rest)

    def read(self, data: bytes) -> bytes:
        """The payload that ``data`` brings. May stop early: see ``more`` and ``close``."""
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        parts: list[bytes] = []
        frames_left = FRAMES_PER_TURN_MAX
        self.more = False
        while self.close is None:
            if self._left:
                part = data[at : at + self._left]
                if not part:
                    break
                at += len(part)
                parts.append(self._take(part))
            elif frames_left:
                frames_left -= 1
                begun = self._begin(data, at, end, not parts)
                if begun == at:
                    break
                at = begun
            else:
                self.more = at < end
                break
        self._rest = data[at:] if self.close is None else b""
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def fail(self, code: int, reason: str) -> None:
        """Read no more, and answer with ``code``."""
        self.close = code.to_bytes(2, "big") + reason.encode()
        self.more = False
        self._rest = b""

    def _begin(self, data: bytes, at: int, end: int, decide: bool) -> int:
        """Read a header, and all of a control frame. Where it ended; ``at`` when bytes are missing.

        A frame that is too long waits unless ``decide``: what came before it may log the client in.
        """
        if end - at < 2:
            return at
        first, second = data[at], data[at + 1]
        problem = self._problem(first, second)
        if problem is not None:
            self.fail(*problem)
            return at
        length = second & 0x7F
        size = 2
        if length >= 126:
            size = 4 if length == 126 else 10
            if end - at < size:
                return at
            least = 126 if length == 126 else 0x1_0000
            length = int.from_bytes(data[at + 2 : at + size], "big")
            if length < least or length >> 63:
                self.fail(PROTOCOL_ERROR, "a length is written in as few bytes as possible")
                return at
        if length > self.frame_bytes_max:
            if decide:
                self.fail(TOO_BIG, f"a frame has at most {self.frame_bytes_max} bytes")
            else:
                self.more = True
            return at
        body = at + size + 4
        if end < body:
            return at
        mask = data[body - 4 : body]
        if first & 0x08:
            if end - body < length:
                return at
            self._control(first & 0x0F, unmask(data[body : body + length], mask))
            return body + length
        if first & 0x0F:
            self.is_text = first & 0x0F == _TEXT
            self._utf8 = _UTF8() if self.is_text else None
        self._in_message = first < 0x80
        self._left = length
        self._mask = mask
        if self._utf8 is not None and not length:
            self._check_text(b"")
        return body

    def _problem(self, first: int, second: int) -> tuple[int, str] | None:
        """What is wrong with the first two bytes of a frame: RFC 6455 5.1, 5.2, 5.4, 5.5."""
        opcode = first & 0x0F
        if first & 0x70:
            return PROTOCOL_ERROR, "no extension was negotiated"
        if second < 0x80:
            return PROTOCOL_ERROR, "a client masks its frames"
        if opcode >= _CLOSE:
            if opcode > _PONG:
                return PROTOCOL_ERROR, "unknown opcode"
            if first < 0x80 or second & 0x7F > CONTROL_BYTES_MAX:
                return PROTOCOL_ERROR, "a control frame is short and in one piece"
        elif opcode > _BINARY:
            return PROTOCOL_ERROR, "unknown opcode"
        elif (opcode == _CONTINUATION) is not self._in_message:
            return PROTOCOL_ERROR, "a message goes on until its last frame, and begins but once"
        elif opcode == _TEXT and not self._takes_text:
            # [MQTT-6.0.0-1]
            return UNSUPPORTED, "only binary frames are taken"
        return None

    def _take(self, part: bytes) -> bytes:
        """Payload in clear, from the frame that is being read."""
        mask = self._mask
        self._left -= len(part)
        if self._left:
            turn = len(part) & 3
            self._mask = mask[turn:] + mask[:turn]
        payload = unmask(part, mask)
        if self._utf8 is not None:
            self._check_text(payload)
        return payload

    def _check_text(self, payload: bytes) -> None:
        assert self._utf8 is not None
        try:
            # RFC 6455 8.1
            self._utf8.decode(payload, final=not self._left and not self._in_message)
        except UnicodeDecodeError:
            self.fail(INVALID_TEXT, "text is UTF-8")

    def _control(self, opcode: int, payload: bytes) -> None:
        if opcode == _PING:
            self.ping = payload
        elif opcode == _CLOSE:
            self._on_close(payload)

    def _on_close(self, payload: bytes) -> None:
        """Echo the client's code: RFC 6455 5.5.1 and 7.4."""
        code = int.from_bytes(payload[:2], "big")
        if not payload:
            self.close = b""
        elif len(payload) == 1 or not (code in _CODES or 3000 <= code < 5000):
            self.fail(PROTOCOL_ERROR, "this code does not go over the wire")
        else:
            try:
                payload[2:].decode()
            except UnicodeDecodeError:
                self.fail(INVALID_TEXT, "a reason is UTF-8")
            else:
                self.close = payload[:2]


def append_data(out: bytearray, data: bytes | bytearray, is_text: bool = False) -> None:
    """Append ``data`` to ``out`` as one message of one frame, text only if it is UTF-8."""
    size = len(data)
    opcode = 0x80 | (_TEXT if is_text and _is_utf8(data) else _BINARY)
    if size < 126:
        out += bytes((opcode, size))
    elif size < 0x1_0000:
        out += bytes((opcode, 0x7E)) + size.to_bytes(2, "big")
    else:
        out += bytes((opcode, 0x7F)) + size.to_bytes(8, "big")
    out += data


def _is_utf8(data: bytes | bytearray) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def append_pong(out: bytearray, payload: bytes) -> None:
    """Append the answer to a ping."""
    out += bytes((0x80 | _PONG, len(payload)))
    out += payload


def append_close(out: bytearray, payload: bytes) -> None:
    """Append the close frame: nothing is sent after it."""
    out += bytes((0x80 | _CLOSE, len(payload)))
    out += payload
