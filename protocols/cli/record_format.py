"""How records of streams are printed and where they begin: ``--format`` and ``--start``."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from ...broker.config import duration_ms
from ...broker.errors import InvalidArgument
from .format import compiled_pieces, headers_json, iso_time, safe_bytes
from .output import body_fields, json_line

if TYPE_CHECKING:
    from ...broker.recordreader import ReadStart
    from ...broker.streamrecord import Record

__all__ = [
    "RECORD_FIELDS",
    "RECORD_FORMAT_HELP",
    "START_HELP",
    "RecordFormatter",
    "record_fields",
    "record_start",
]

_Field = Callable[["Record"], bytes]

RECORD_FIELDS: dict[str, tuple[str, _Field]] = {
    "b": ("body", lambda r: r.body),
    "k": ("partition key", lambda r: r.raw_key),
    "s": ("shard", lambda r: b"%d" % r.shard),
    "n": ("number in the shard", lambda r: b"%d" % r.number),
    "h": ("headers as JSON", lambda r: json.dumps(headers_json(r.headers)).encode()),
    "t": ("time it came, unix ms", lambda r: b"%d" % r.time_ms),
    "T": ("time it came, ISO 8601", lambda r: iso_time(r.time_ms).encode()),
    "S": ("size of the body in bytes", lambda r: b"%d" % len(r.body)),
}
RECORD_FORMAT_HELP = "How to print a record: " + ", ".join(
    f"%{letter} {meaning}" for letter, (meaning, _) in RECORD_FIELDS.items()
)
START_HELP = (
    "earliest, latest, a number (with --shard), a time (2026-01-31T12:00Z), or 15m ago: -15m."
)


def record_start(text: str) -> "ReadStart":
    """What ``--start`` means. Raises click.BadParameter."""
    if text in ("earliest", "latest"):
        return text  # type: ignore[return-value]
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        if text.startswith("-"):
            return datetime.now(UTC) - timedelta(milliseconds=duration_ms(text[1:]))
        moment = datetime.fromisoformat(text)
    except (InvalidArgument, ValueError, OverflowError):
        raise click.BadParameter(f"{text!r} is not {START_HELP}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def record_fields(record: "Record") -> dict[str, Any]:
    """A record as --json shows it, and as an export has it."""
    return {
        "shard": record.shard,
        "number": record.number,
        "time_ms": record.time_ms,
        "key": record.key,
        "headers": headers_json(record.headers),
    } | body_fields("body", record.body)


class RecordFormatter:
    """Prints records as ``--format`` says; as a JSON line each with ``--json``."""

    def __init__(self, template: str, as_json: bool, on_terminal: bool) -> None:
        self._as_json = as_json
        self._on_terminal = on_terminal
        self._pieces = compiled_pieces(template, RECORD_FIELDS)

    def __call__(self, records: "Iterable[Record]") -> bytes:
        """The bytes to print for some records."""
        if self._as_json:
            return b"".join([json_line(record_fields(record)) for record in records])
        return b"".join([self._one(record) for record in records])

    def _one(self, record: "Record") -> bytes:
        made = [p if isinstance(p, bytes) else self._made(p, record) for p in self._pieces]
        return b"".join(made)

    def _made(self, field: _Field, record: "Record") -> bytes:
        value = field(record)
        return safe_bytes(value) if self._on_terminal else value
