"""How the daemon's log looks: text on a terminal, JSON lines otherwise, always on stderr.

1. One record is one line, whatever the message holds: control characters are escaped. Only a stack
   has lines of its own, and those are indented (in JSON: a list).
2. What looks like a secret is masked here once more, although nobody should log one.

``extra={"fields": {...}}`` adds fields, ``extra={"stack_lines": [...]}`` a stack.
"""

import json
import logging
import re
import sys
import time
from typing import Any, TextIO

from .output import printable

__all__ = ["JsonFormatter", "TextFormatter", "configure", "masked", "set_level"]

_SECRETS = (
    (re.compile(r"\$(argon2id|scrypt)\$[^\s'\"]+"), r"$\1$(hidden)"),
    (re.compile(r"(\w://[^/\s:@]*):[^/\s@]*@"), r"\1:(hidden)@"),
)
_MESSAGE_CHARACTERS_MAX = 8_192
_PACKAGE = "braidmq"
_COLORS = {"WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[31;1m"}


def masked(text: str) -> str:
    """The text without what looks like a secret."""
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def _clean(text: str) -> str:
    if len(text) > _MESSAGE_CHARACTERS_MAX:
        text = text[:_MESSAGE_CHARACTERS_MAX] + "..."
    return printable(masked(text))


def _stack(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """The lines of the exception, or of the stack that came along."""
    lines: list[str] = list(getattr(record, "stack_lines", ()))
    if record.exc_info:
        lines += formatter.formatException(record.exc_info).splitlines()
    if record.stack_info:
        lines += record.stack_info.splitlines()
    return [_clean(line) for line in lines]


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields: dict[str, Any] = getattr(record, "fields", {})
    return {name: _clean(v) if isinstance(v, str) else v for name, v in fields.items()}


def _time(record: logging.LogRecord, separator: str) -> str:
    stamp = time.strftime(f"%Y-%m-%d{separator}%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


class TextFormatter(logging.Formatter):
    """For people: time, level, message, fields."""

    def __init__(self, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        text = _clean(record.getMessage())
        for name, value in _fields(record).items():
            text += (
                f"  {name}={value}" if isinstance(value, str) else f"  {name}={_json_text(value)}"
            )
        level = f"{record.levelname:<8}"
        if self._color and record.levelname in _COLORS:
            level = f"{_COLORS[record.levelname]}{level}\x1b[0m"
        lines = [f"{_time(record, ' ')} {level} {text}", *_stack(self, record)]
        return "\n    ".join(lines)


class JsonFormatter(logging.Formatter):
    """For programs: one object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record, "T"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _clean(record.getMessage()),
        }
        entry.update((name, v) for name, v in _fields(record).items() if name not in entry)
        stack = _stack(self, record)
        if stack:
            entry["stack"] = stack
        return _json_text(entry)


def _json_text(value: object) -> str:
    return json.dumps(value, default=lambda other: _clean(str(other)))


def configure(level: str, form: str, stream: TextIO | None = None) -> None:
    """Send the log to ``stream`` (stderr), as ``[log]`` of the configuration says."""
    import os

    stream = sys.stderr if stream is None else stream
    terminal = stream.isatty()
    handler = logging.StreamHandler(stream)
    if form == "json" or (form == "auto" and not terminal):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(TextFormatter(terminal and not os.environ.get("NO_COLOR")))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # other people's libraries
    logging.captureWarnings(True)
    set_level(level)


def set_level(level: str) -> None:
    """Change what is logged."""
    logging.getLogger(_PACKAGE).setLevel(level.upper())
