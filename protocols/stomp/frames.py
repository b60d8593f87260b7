"""STOMP 1.0, 1.1 and 1.2: bytes <-> frames, both ways.

A frame is a command, headers, an empty line, a body and a NUL. Lines end with LF, or CR LF::

     SEND
     destination:/queue/orders
     content-length:5

     hello^@

Rules:

1. Pure functions over bytes: no socket, no clock, no session. Encode and decode are neighbours.
   Which commands there are, and who may send which, is not decided here.
2. A body is as long as its ``content-length`` says, and goes to the first NUL without one. Nothing
   is made from a length that was only declared, and one that is too large is refused at once.
3. The first of repeated headers counts. In 1.1 and 1.2 headers are escaped, except those of
   CONNECT, STOMP and CONNECTED; in 1.0, and so before a version is agreed on, blanks around names
   and values are trimmed and nothing is escaped. A CR before an LF belongs to the line's end.
4. Where brokers are kinder than the grammar, so are we: values may have colons, and any frame may
   have a body. Where kindness would guess, we refuse: a NUL among the headers means that the empty
   line is missing, and in 1.2 a CR stands nowhere else than before an LF.
5. ``Malformed`` means that the stream cannot be trusted any more: send an ERROR, then hang up. The
   same bytes give the same frames and the same ``Malformed.message``, however they were cut.
6. However slowly a frame comes, every byte of it is looked at a bounded number of times.
"""

import enum
import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from .runs import SendShape, match_acks, names_in

__all__ = [
    "COMMAND_BYTES_MAX",
    "EOL",
    "V10",
    "V11",
    "V12",
    "Frame",
    "FrameBuffer",
    "Malformed",
    "Version",
    "append_message",
    "encode",
    "encode_head",
    "encode_headers",
    "escape",
]

EOL: Final = b"\n"  # alone, between frames: a heart-beat
COMMAND_BYTES_MAX: Final = 32  # the longest there is, UNSUBSCRIBE, has 11


class Version(enum.StrEnum):
    """The versions, as ``accept-version`` and ``version`` name them; later ones are greater."""

    V10 = "1.0"
    V11 = "1.1"
    V12 = "1.2"


V10, V11, V12 = Version


class Frame(msgspec.Struct, gc=False):
    """One frame. The headers are unescaped; of repeated ones, the first is here."""

    command: str
    headers: dict[str, str]
    body: bytes = b""


class Malformed(Exception):
    """The bytes are no frame: send an ERROR, then close the connection.

    ``message`` is for the ERROR's header of that name, ``detail`` for its body, and ``receipt`` is
    the receipt that the frame asked for, as far as it can be known; empty otherwise.
    """

    def __init__(self, message: str, detail: str, receipt: str = "") -> None:
        super().__init__(f"{message}: {detail}")
        self.message = message
        self.detail = detail
        self.receipt = receipt


# --- bytes -> frames ---

_NUL = 0
_LF = 10
_CR = 13
_find_blank_line = re.compile(rb"\n\r?\n").search
_match_beats = re.compile(rb"(?:\r?\n)+").match
_match_command = re.compile(rb"[A-Z]{1,%d}\r?\n" % COMMAND_BYTES_MAX).match
_match_command_begun = re.compile(rb"[A-Z]{0,%d}\r?\Z" % COMMAND_BYTES_MAX).match
_BLANKS = " \t"
_LENGTH_DIGITS_MAX = 18
_NOT_ESCAPED = frozenset({"CONNECT", "STOMP", "CONNECTED"})  # as 1.0 has them, in every version


class FrameBuffer:
    """Cuts a stream of bytes into frames.

    Call :meth:`feed` with what came, then :meth:`next_frame` until it returns None. Set ``version``
    when it is agreed on, before the next call. ``frame_bytes_max`` counts a frame from its command
    to its NUL, ``header_bytes_max`` from its command to the empty line, and ``header_lines_max``
    the headers; all may be changed between frames. ``beats`` counts the line ends between frames.
    ``head`` is the last frame that :meth:`next_frame` returned, up to its empty line. Runs of
    frames may be taken out at once instead, see ``runs.py``.
    """

    __slots__ = (
        "_at",
        "_begun",
        "_body_at",
        "_body_bytes",
        "_data",
        "_dead",
        "_searched",
        "beats",
        "frame_bytes_max",
        "head",
        "header_bytes_max",
        "header_lines_max",
        "version",
    )

    def __init__(
        self,
        frame_bytes_max: int,
        header_lines_max: int,
        header_bytes_max: int,
        version: Version = V10,
    ) -> None:
        self.frame_bytes_max = frame_bytes_max
        self.header_lines_max = header_lines_max
        self.header_bytes_max = header_bytes_max
        self.version = version
        self.beats = 0
        self.head: bytes | bytearray = b""
        self._data: bytes | bytearray = b""
        self._at = 0  # where the next frame begins
        self._begun: Frame | None = None  # it waits for its body
        # These count from _at. Up to _searched there is no end of the headers, or of the body.
        self._searched = 0
        self._body_at = 0
        self._body_bytes = -1  # unknown: the body goes to the first NUL
        self._dead = False

    def __len__(self) -> int:
        """How many bytes wait."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Add what was read from the connection. After Malformed it is dropped."""
        rest = len(self._data) - self._at
        if self._dead:
            return
        if not rest:
            self._data = data
        elif rest <= len(data):  # copying this little costs less than what a bytearray would later
            self._data = bytes(memoryview(self._data)[self._at :]) + data
        else:
            if not isinstance(self._data, bytearray):
                self._data = bytearray(memoryview(self._data)[self._at :])
            elif self._at:
                del self._data[: self._at]
            self._data += data
        self._at = 0

    def next_frame(self) -> Frame | None:
        """The next frame, None when more bytes are needed. Raises Malformed, once."""
        frame = self._begun or self._begin()
        if frame is None:
            return None
        data = self._data
        begin = self._at + self._body_at
        if self._body_bytes >= 0:
            end = begin + self._body_bytes
            if end >= len(data):
                self._begun = frame
                return None
            if data[end] != _NUL:
                raise self._length_is_wrong(frame)
        else:
            end = data.find(_NUL, self._at + self._searched, self._at + self.frame_bytes_max)
            if end < 0:
                if len(self) >= self.frame_bytes_max:
                    raise self._too_large(frame.headers, "no NUL ends it")
                self._searched = len(self)
                self._begun = frame
                return None
        part = data[begin:end] if type(data) is bytes else bytes(memoryview(data)[begin:end])
        frame.body = part
        self._at = end + 1
        self._begun = None
        self._searched = 0
        return frame

    def sends(self, shape: SendShape, most: int) -> tuple[list[bytes], list[bytes]]:
        """Take up to ``most`` whole SENDs of a shape: (receipts, bodies); none if there are none.

        Receipts are empty if the shape asks for none.
        """
        receipts: list[bytes] = []
        bodies: list[bytes] = []
        data, at = self._data, self._at
        if self._searched or type(data) is not bytes or not data.startswith(shape.begin, at):
            return receipts, bodies
        size, bytes_max, header_bytes_max = len(data), self.frame_bytes_max, self.header_bytes_max
        match, receipt_group, length_group = shape.match, shape.receipt, shape.length
        while most > 0 and (found := match(data, at)):
            begin = found.end()
            receipt, length = found.group(receipt_group, length_group)
            end = begin + int(length)
            if end >= size or data[end] or end - at >= bytes_max or begin - at > header_bytes_max:
                break  # it is not whole, or wrong
            if receipt_group:
                receipts.append(receipt)
            bodies.append(data[begin:end])
            at = end + 1
            most -= 1
        self._at = at
        return receipts, bodies

    def acks(self) -> list[tuple[bytes, bytes]]:
        """Take whole ACKs that have nothing but an id: its two numbers, of each."""
        data, at = self._data, self._at
        if self._searched or type(data) is not bytes or (found := match_acks(data, at)) is None:
            return []
        self._at = found.end()
        return names_in(data, at, self._at)

    def _begin(self) -> Frame | None:
        """A frame that lacks its body, None when more bytes are needed."""
        data = self._data
        if self._at == len(data):
            return None
        if data[self._at] in (_LF, _CR) and (beats := _match_beats(data, self._at)):
            self.beats += data.count(EOL, self._at, beats.end())
            self._at = beats.end()
        at = self._at
        limit = at + self.header_bytes_max
        blank = _find_blank_line(data, at + self._searched, limit)
        if blank is None:
            self._check_begun(limit)
            self._searched = max(len(self) - 2, 0)  # the empty line may be cut in two
            return None
        head = data[at : blank.start()]
        if not _match_command(data, at):
            raise self._no_command()
        if _NUL in head:
            raise self._no_empty_line()
        try:
            text = str(head, "utf-8")
        except UnicodeDecodeError as error:
            raise self._malformed("Headers must be UTF-8", f"{error}.") from None
        self.head = head
        command, headers = self._read_head(text)
        self._body_at = self._searched = blank.end() - at
        self._body_bytes = -1
        if (length := headers.get("content-length")) is not None:
            self._body_bytes = self._read_length(length, headers)
        return Frame(command, headers)

    def _read_head(self, text: str) -> tuple[str, dict[str, str]]:
        """The command and the headers that a text has."""
        version = self.version
        if "\r" in text:
            text = text.replace("\r\n", "\n").removesuffix("\r")
        lines = text.split("\n")
        command = lines[0]
        if len(lines) - 1 > self.header_lines_max:
            detail = f"A {command} has {len(lines) - 1}, at most {self.header_lines_max} may be."
            raise self._malformed("Too many headers", detail, lines)
        clean: Callable[[str], str] | None = None
        if version is V10:
            clean = _trim
        elif command in _NOT_ESCAPED:
            pass
        elif version is V12 and "\r" in text:
            detail = r"In STOMP 1.2 a carriage return in a header is written as \r."
            raise self._malformed("A carriage return in a header", detail, lines)
        elif "\\" in text:
            clean = _unescape_v11 if version is V11 else _unescape_v12
        headers: dict[str, str] = {}
        del lines[0]
        for line in lines:
            name, colon, value = line.partition(":")
            if clean is not None:
                try:
                    name, value = clean(name), clean(value)
                except KeyError as error:
                    raise self._bad_escape(line, str(error.args[0]), lines) from None
            if not colon or not name:
                detail = f"Each line has a name, a colon and a value; this one is {_quote(line)}."
                raise self._malformed("Not a header", detail, lines)
            if name not in headers:
                headers[name] = value
        return command, headers

    def _read_length(self, text: str, headers: dict[str, str]) -> int:
        """The value of ``content-length``, if such a frame may be."""
        if not (text.isascii() and text.isdigit()):
            text = text.strip(_BLANKS)  # as other brokers do, in every version
            if not (text.isascii() and text.isdigit()):
                detail = f"It is a number of bytes in digits, not {_quote(text)}."
                raise self._malformed("Bad content-length", detail, headers)
        if len(text) > _LENGTH_DIGITS_MAX:
            text = text.lstrip("0")[: _LENGTH_DIGITS_MAX + 1] or "0"
        length = int(text)
        if self._body_at + length >= self.frame_bytes_max:
            raise self._too_large(headers, f"content-length announces {length} bytes of body")
        return length

    # --- what is wrong ---

    def _check_begun(self, limit: int) -> None:
        """Raise Malformed for what has no empty line yet, if none can mend it."""
        data, at = self._data, self._at
        begun = bytes(data[at : at + COMMAND_BYTES_MAX + 2])
        if not _match_command(begun) and not _match_command_begun(begun):
            raise self._no_command()
        if data.find(_NUL, at + self._searched, limit) >= 0:
            raise self._no_empty_line()
        if len(data) >= limit:
            detail = f"Command and headers may have {self.header_bytes_max} bytes."
            raise self._malformed("Headers too large", detail)

    def _malformed(
        self, message: str, detail: str, headers: dict[str, str] | list[str] | None = None
    ) -> Malformed:
        """The error to raise; from now on there is nothing more in this buffer."""
        self._dead = True
        self._data = b""
        self._at = 0
        self._begun = None
        return Malformed(message, detail, _receipt_of(headers) if headers else "")

    def _no_command(self) -> Malformed:
        begun = bytes(self._data[self._at : self._at + COMMAND_BYTES_MAX])
        detail = (
            "A frame begins with a command in capital letters on a line of its own, not with"
            f" {_quote(begun.decode('utf-8', 'replace'))}."
        )
        return self._malformed("Not a STOMP frame", detail)

    def _no_empty_line(self) -> Malformed:
        detail = "A NUL came before the empty line that ends the headers of a frame."
        return self._malformed("Frame without an empty line", detail)

    def _bad_escape(self, line: str, escape: str, lines: list[str]) -> Malformed:
        known = r"\n, \c and \\" if self.version is V11 else r"\r, \n, \c and \\"
        detail = (
            f"STOMP {self.version} has {known}, not {_quote(escape)}; the header is {_quote(line)}."
        )
        return self._malformed("Undefined escape in a header", detail, lines)

    def _too_large(self, headers: dict[str, str], why: str) -> Malformed:
        detail = f"A frame may have {self.frame_bytes_max} bytes, and {why}."
        return self._malformed("Frame too large", detail, headers)

    def _length_is_wrong(self, frame: Frame) -> Malformed:
        detail = (
            f"No NUL follows the {self._body_bytes} bytes of body that the {frame.command}"
            " announces. content-length counts bytes, not characters, without the NUL."
        )
        return self._malformed("Wrong content-length", detail, frame.headers)


def _trim(text: str) -> str:
    return text.strip(_BLANKS)


_ESCAPES = re.compile(r"\\.?", re.DOTALL)
_MEANT_V11 = {r"\n": "\n", r"\c": ":", r"\\": "\\"}
_MEANT_V12 = {**_MEANT_V11, r"\r": "\r"}


def _unescape_v11(text: str) -> str:
    """The text that was meant. Raises KeyError with an escape that there is not."""
    return _ESCAPES.sub(lambda found: _MEANT_V11[found[0]], text)


def _unescape_v12(text: str) -> str:
    return _ESCAPES.sub(lambda found: _MEANT_V12[found[0]], text)


_QUOTED_CHARACTERS_MAX = 100


def _quote(text: str) -> str:
    """A text of the peer's, for people to read: on one line, and not too long."""
    dots = "..." if len(text) > _QUOTED_CHARACTERS_MAX else ""
    shown = (each if each.isprintable() else "\ufffd" for each in text[:_QUOTED_CHARACTERS_MAX])
    return f'"{"".join(shown)}{dots}"'


def _receipt_of(headers: dict[str, str] | list[str]) -> str:
    """The receipt that headers ask for, or lines of them that could not be read."""
    if isinstance(headers, dict):
        return headers.get("receipt", "")
    values = (line.partition(":")[2] for line in headers if line.startswith("receipt:"))
    value = next(values, "")
    return "" if "\\" in value else value  # its escapes may be what is wrong


# --- frames -> bytes ---


def escape(text: str, version: Version) -> str:
    """A header's value as ``version`` writes it.

    What it cannot write must not become another header or end the frame: NUL becomes a space in
    every version, and LF does in 1.0.
    """
    return _ESCAPERS[version](text)


# Chains, because most texts have nothing to replace; str.translate takes five times as long.
def _escape_v10(text: str) -> str:
    return text.replace("\n", " ").replace("\0", " ")


def _escape_v11(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace(":", r"\c").replace("\0", " ")


def _escape_v12(text: str) -> str:
    return _escape_v11(text).replace("\r", r"\r")


_ESCAPERS = {
    V10: _escape_v10,
    V11: _escape_v11,
    V12: _escape_v12,
}
_LEFT_OUT = ("", "content-length")


def encode_headers(headers: Iterable[tuple[str, str]], version: Version) -> bytes:
    """Headers as lines: a part of a frame that may stand in many, see :func:`append_message`.

    In 1.0 a name can have no colon: it becomes ``_``. Left out are headers without a name, and
    ``content-length``: what came from elsewhere must not say how long a body is here.
    """
    write = _ESCAPERS[version]
    if version is V10:
        headers = [(_trim(write(name)).replace(":", "_"), value) for name, value in headers]
    lines = [f"{write(name)}:{write(value)}\n" for name, value in headers if name not in _LEFT_OUT]
    return "".join(lines).encode()


def encode_head(command: str, headers: Iterable[tuple[str, str]], version: Version) -> bytes:
    """A command and headers, to which more headers may be added."""
    if command in _NOT_ESCAPED:
        version = V10
    return command.encode() + EOL + encode_headers(headers, version)


def append_message(
    out: bytearray, head: bytes, headers: bytes, body: bytes, content_length: bool = True
) -> None:
    """Append a frame that has ``head``, from :func:`encode_head`, more ``headers`` and ``body``.

    An LF goes behind it: other brokers write one, and old clients wait for it to end the frame.
    Without ``content_length`` the frame does not say how long its body is, which some clients take
    for a text; a body with a NUL says it all the same.
    """
    if content_length or _NUL in body:
        out += b"%b%bcontent-length:%d\n\n%b\0\n" % (head, headers, len(body), body)
    else:
        out += b"%b%b\n%b\0\n" % (head, headers, body)


def encode(
    command: str,
    headers: Iterable[tuple[str, str]],
    body: bytes = b"",
    version: Version = V12,
    content_length: bool = True,
) -> bytes:
    """One frame. ``content-length`` is added where there is a body."""
    out = bytearray()
    append_message(
        out, encode_head(command, headers, version), b"", body, content_length and bool(body)
    )
    return bytes(out)
