"""How received messages are printed: ``--format``, in the manner of kcat.

A format is compiled once into pieces, bytes and fields, so that printing a message joins bytes.
"""

import base64
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from ...broker.message import (
    DEDUP_ID,
    GROUP_ID,
    TOPIC,
    Browsed,
    Delivery,
    Headers,
    unpack_headers,
)
from ...broker.publishing import Published
from ...broker.values import message_id
from .output import body_fields, json_line

__all__ = [
    "FIELDS",
    "FORMAT_HELP",
    "Formatter",
    "compiled_pieces",
    "headers_json",
    "iso_time",
    "message_fields",
    "parse_receipt",
    "receipt_text",
    "safe_bytes",
]

F = TypeVar("F")

Message = Delivery | Browsed
Field = Callable[[Message, Headers, int], bytes]

_TOKEN = re.compile(r"%(.)|\\(x[0-9a-fA-F]{2}|.)|%$|\\$", re.DOTALL)
_ESCAPES = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\", "e": b"\x1b"}


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else base64.b64encode(value).decode()


def headers_json(headers: Headers) -> dict[str, Any]:
    """Headers for JSON; a value in bytes that are not UTF-8 becomes ``{"base64": ...}``."""
    plain: dict[str, Any] = {}
    for name, value in headers.items():
        if isinstance(value, bytes):
            try:
                plain[name] = value.decode()
            except UnicodeDecodeError:
                plain[name] = {"base64": base64.b64encode(value).decode()}
        else:
            plain[name] = value
    return plain


def iso_time(time_ms: int) -> str:
    """Unix ms as ISO 8601."""
    seconds, ms = divmod(time_ms, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{ms:03d}Z"


def receipt_text(message: Message) -> str:
    """What ``braidmq ack`` takes; nothing for a message that was only looked at."""
    return f"{message.seq}:{message.token}" if isinstance(message, Delivery) else ""


def parse_receipt(text: str) -> tuple[int, int]:
    """The receipt that :func:`receipt_text` wrote."""
    found = re.fullmatch(r"([0-9]{1,20}):([0-9]{1,20})", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a receipt, which looks like 17:42")
    return int(found[1]), int(found[2])


FIELDS: dict[str, tuple[str, Field]] = {
    "b": ("body", lambda m, h, n: m.body),
    "h": ("headers as JSON", lambda m, h, n: json.dumps(headers_json(h)).encode()),
    "i": ("message id", lambda m, h, n: message_id(n, m.id).encode()),
    "s": ("sequence number in the queue", lambda m, h, n: b"%d" % m.seq),
    "t": ("time it was sent, unix ms", lambda m, h, n: b"%d" % m.time_ms),
    "T": ("time it was sent, ISO 8601", lambda m, h, n: iso_time(m.time_ms).encode()),
    "r": ("how often it was received", lambda m, h, n: b"%d" % m.receives),
    "R": ("receipt, for braidmq ack", lambda m, h, n: receipt_text(m).encode()),
    "g": ("message group", lambda m, h, n: _text(h.get(GROUP_ID, "")).encode()),
    "d": ("deduplication id", lambda m, h, n: _text(h.get(DEDUP_ID, "")).encode()),
    "p": ("topic it was published to", lambda m, h, n: _text(h.get(TOPIC, "")).encode()),
    "S": ("size of the body in bytes", lambda m, h, n: b"%d" % len(m.body)),
}
FORMAT_HELP = "How to print a message: " + ", ".join(
    f"%{letter} {meaning}" for letter, (meaning, _) in FIELDS.items()
)


class Formatter:
    """Prints messages as ``--format`` says; as a JSON line each with ``--json``."""

    def __init__(self, template: str, as_json: bool, on_terminal: bool) -> None:
        self._as_json = as_json
        self._on_terminal = on_terminal
        self._pieces = compiled_pieces(template, FIELDS)
        self.instance = 0  # the other half of message ids, known once connected

    def __call__(self, messages: Sequence[Message]) -> bytes:
        """The bytes to print for some messages."""
        return b"".join(map(self._one, messages))

    def _one(self, message: Message) -> bytes:
        if self._as_json:
            return json_line(message_fields(message, self.instance))
        headers = unpack_headers(message.attributes)
        return b"".join(
            piece
            if isinstance(piece, bytes)
            else self._safe(piece(message, headers, self.instance))
            for piece in self._pieces
        )

    def _safe(self, value: bytes) -> bytes:
        return safe_bytes(value) if self._on_terminal else value


def safe_bytes(value: bytes) -> bytes:
    """The text for a terminal: without control characters."""
    text = value.decode("utf-8", "backslashreplace")
    return "".join(
        character
        if character.isprintable() or character in "\n\t"
        else character.encode("unicode_escape").decode()
        for character in text
    ).encode()


def compiled_pieces(template: str, fields: Mapping[str, tuple[str, F]]) -> list[bytes | F]:
    """A format as bytes and what makes them; ``fields`` has the letters behind %."""
    pieces: list[bytes | F] = []
    at = 0
    for found in _TOKEN.finditer(template):
        pieces.append(template[at : found.start()].encode())
        field, escape = found.groups()
        at = found.end()
        if field == "%":
            pieces.append(b"%")
        elif field in fields:
            pieces.append(fields[field][1])
        elif escape and escape in _ESCAPES:
            pieces.append(_ESCAPES[escape])
        elif escape and len(escape) == 3:
            pieces.append(bytes.fromhex(escape[1:]))
        else:
            known = " ".join(f"%{letter}" for letter in fields)
            raise click.BadParameter(
                f"{found[0]!r} stands for nothing; known are {known} %% \\n \\t \\r \\0 \\e \\xHH",
                param_hint="--format",
            )
    pieces.append(template[at:].encode())
    return [piece for piece in pieces if piece]


def message_fields(message: Message, instance: int) -> dict[str, Any]:
    """A message as --json shows it."""
    if isinstance(message, Published):
        return _published_fields(message)
    fields: dict[str, Any] = {
        "id": message_id(instance, message.id),
        "sequence": message.seq,
        "receives": message.receives,
        "time_ms": message.time_ms,
        "headers": headers_json(unpack_headers(message.attributes)),
    }
    if isinstance(message, Browsed):
        fields["state"] = message.state
    else:
        fields["receipt"] = receipt_text(message)
    return fields | body_fields("body", message.body)


def _published_fields(message: Published) -> dict[str, Any]:
    headers = unpack_headers(message.attributes)
    return {
        "topic": headers.pop(TOPIC, ""),
        "time_ms": message.time_ms,
        "retained": message.retained,
        "receives": message.receives,
        "headers": headers_json(headers),
    } | body_fields("body", message.body)
