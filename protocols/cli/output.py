"""What a command prints: results on stdout, everything else on stderr.

1. With ``--json`` stdout holds JSON and nothing else: one document, or one line for each message
   or step of a command that goes on for a while.
2. Text from elsewhere (names, headers, bodies) never reaches a terminal with control characters.
3. A bar or a prompt appears on a terminal only. NO_COLOR switches colours off.
"""

import base64
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import click

__all__ = [
    "Output",
    "Progress",
    "body_fields",
    "json_line",
    "printable",
    "readable_bytes",
    "readable_ms",
]

_BAR_WIDTH = 30


def printable(text: str, keep: str = "") -> str:
    """The text with control characters and other invisible ones escaped."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in keep else _escaped(character)
        for character in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def json_line(value: object) -> bytes:
    """One line of JSON."""
    text = json.dumps(value, ensure_ascii=False, separators=(", ", ": "), default=_plain)
    return text.encode("utf-8", "replace") + b"\n"


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return body_fields("value", value)
    return str(value)


def body_fields(name: str, body: bytes) -> dict[str, str]:
    """The body as text under ``name``, or, when it is not UTF-8, as ``name_base64``."""
    try:
        return {name: body.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(body).decode()}


def readable_bytes(count: float) -> str:
    """1234567 as ``1.2 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def readable_ms(ms: float) -> str:
    """90000 as ``1m30s``; the two largest units."""
    if ms < 1000:
        return f"{ms:.0f}ms"
    parts, rest = [], int(ms // 1000)
    for unit, seconds in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, seconds)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


class Output:
    """Where a command sends what it has to say. Made from ``--json`` and ``-q``."""

    def __init__(self, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet

    @property
    def on_terminal(self) -> bool:
        """Whether somebody looks at stdout."""
        return sys.stdout.isatty()

    def document(self, value: object, text: str | Callable[[], str] = "") -> None:
        """The result: ``value`` with --json, else ``text``."""
        if self.as_json:
            self.raw(json_line(value))
        else:
            text = text if isinstance(text, str) else text()
            if text:
                click.echo(text)

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
        """A table of some columns; with --json a list of everything there is."""
        if self.as_json:
            self.raw(json_line(rows))
            return
        cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
        head = [column.upper().replace("_", " ") for column in columns]
        seen = cells if self.quiet else [head, *cells]
        widths = [max(map(len, column)) for column in zip(*seen, strict=True)]
        right = [
            bool(rows) and all(isinstance(row.get(column), int | float) for row in rows)
            for column in columns
        ]
        if not self.quiet:
            click.echo(click.style(_aligned(head, widths, right), bold=True), color=self._color())
        for line in cells:
            click.echo(_aligned(line, widths, right))

    def fields(self, value: Mapping[str, Any]) -> None:
        """One thing with its properties, a line each; with --json one object."""
        if self.as_json:
            self.raw(json_line(value))
            return
        width = max(map(len, value), default=0)
        for name, item in value.items():
            click.echo(f"{name:<{width}}  {_cell(item)}".rstrip())

    def raw(self, data: bytes) -> None:
        """Bytes as they are, at once."""
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    def note(self, text: str) -> None:
        """Something for people, not part of the result."""
        if not self.quiet and not self.as_json:
            click.echo(text, err=True)

    def warn(self, text: str) -> None:
        """Something that should not be overlooked."""
        head = click.style("warning: ", fg="yellow")
        click.echo(f"{head}{text}", err=True, color=self._color(sys.stderr))

    @staticmethod
    def _color(stream: Any = None) -> bool | None:
        if os.environ.get("NO_COLOR"):
            return False
        return None if stream is None else bool(stream.isatty())


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, dict | list):
        return printable(json.dumps(value, ensure_ascii=False))
    return printable(str(value))


def _aligned(cells: Iterable[str], widths: Iterable[int], right: Iterable[bool]) -> str:
    parts = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(parts).rstrip()


class Progress:
    """How far a long work is: a bar on a terminal, a line a second with --json, else silence."""

    def __init__(self, output: Output, label: str, unit: str = "messages") -> None:
        self._output = output
        self._label = label
        self._unit = unit
        self._bar = not output.as_json and not output.quiet and sys.stderr.isatty()
        self._began = time.monotonic()
        self._shown = self._began if output.as_json else 0.0
        self._drawn = False

    def update(self, done: float, total: float) -> None:
        """Call it as often as you like; it shows at most ten times a second."""
        now = time.monotonic()
        if not (self._bar or self._output.as_json):
            return
        if now - self._shown < (0.1 if self._bar else 1.0):
            return
        self._shown = now
        rate = done / max(now - self._began, 0.001)
        seconds_left = (total - done) / rate if rate and total > done else 0.0
        if self._bar:
            self._draw(done, total, rate, seconds_left)
            return
        report = {
            "event": "progress",
            "what": self._label,
            "done": done,
            "total": total,
            "unit": self._unit,
            "rate": round(rate, 1),
            "eta_seconds": round(seconds_left, 1),
        }
        self._output.raw(json_line(report))

    def _draw(self, done: float, total: float, rate: float, seconds_left: float) -> None:
        share = min(done / total, 1.0) if total else 1.0
        filled = int(share * _BAR_WIDTH)
        show = readable_bytes if self._unit == "bytes" else "{:,.0f}".format
        left = readable_ms(math.ceil(seconds_left) * 1000)
        line = (
            f"{self._label} [{'#' * filled}{'-' * (_BAR_WIDTH - filled)}] {share:4.0%}"
            f"  {show(done)} of {show(total)}  {show(rate)}/s  {left} left"
        )
        click.echo(f"\r\x1b[K{line}", err=True, nl=False)
        self._drawn = True

    def finish(self) -> None:
        """Take the bar away."""
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._drawn = False
