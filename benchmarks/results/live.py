"""What a terminal shows while a run goes on: rates, latency, lag and errors, second by second.

Rules:

1. ``render`` is pure: what is known goes in, lines come out, none wider than it was told.
2. Nothing is written where nobody watches: without a terminal a ``LiveView`` is silent.
3. Only as many seconds are kept as a line can show.
"""

import os
from collections.abc import Callable, Sequence
from typing import Final, TextIO

import msgspec

from .result import Second

__all__ = ["SECONDS_MAX", "LiveState", "LiveView", "render", "sparkline"]

SECONDS_MAX: Final = 240  # as wide as a terminal is
_WIDTH_MIN: Final = 20
_WIDTH_UNKNOWN: Final = 80
_BARS: Final = "▁▂▃▄▅▆▇█"
_WIPE_LINE: Final = "\033[K"
_WIPE_BELOW: Final = "\033[J"


class LiveState(msgspec.Struct):
    """A run that goes on."""

    title: str  # scenario, system and repeat
    seconds: float  # that will be measured; 0: nobody knows
    recent: list[Second] = []
    errors: int = 0

    def take(self, second: Second) -> None:
        """Know of another second."""
        self.recent.append(second)
        del self.recent[:-SECONDS_MAX]
        self.errors += second.errors


def sparkline(values: Sequence[float], width: int) -> str:
    """The last ``width`` values as bars, the highest of them as high as a line."""
    shown = [max(0.0, value) for value in values[-width:]] if width > 0 else []
    top = max(shown, default=0.0)
    steps = len(_BARS) - 1
    return "".join(_BARS[round(steps * value / top) if top else 0] for value in shown)


def render(state: LiveState, width: int) -> list[str]:
    """The lines for a terminal that is ``width`` columns wide."""
    if not state.recent:
        return [_cut(f"{state.title}  starting", width)]
    now = state.recent[-1]
    rates = [each.received or each.confirmed or each.published for each in state.recent]
    figures = [
        f"in {now.confirmed or now.published:>9,}/s",
        f"out {now.received:>9,}/s",
        f"p50 {now.p50_ms:.2f}",
        f"p99 {now.p99_ms:.2f}",
        f"max {now.max_ms:.1f} ms",
        f"lag {now.lag_p99_ms:.2f} ms",
        f"cpu {now.server_cpu:.0%}",
        f"errors {state.errors:,}",
    ]
    scale = f" {max(rates):,}/s"
    return [
        _cut(f"{state.title}  {_progress(now.second, state.seconds)}", width),
        *_wrapped(figures, width),
        _cut("  " + sparkline(rates, width - 2 - len(scale)) + scale, width),
    ]


def _progress(second: int, seconds: float) -> str:
    if second < 0:
        return f"warming up, {-second} s"
    return f"{second + 1} of {seconds:g} s" if seconds else f"{second + 1} s"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(0, width - 1)] + "…"


def _wrapped(figures: Sequence[str], width: int) -> list[str]:
    """As few lines as hold the figures."""
    lines = [""]
    for figure in figures:
        if lines[-1] and len(lines[-1]) + 2 + len(figure) > width:
            lines.append("")
        lines[-1] += "  " + figure
    return [_cut(line, width) for line in lines]


class LiveView:
    """Draws what ``render`` gives over what it drew before.

    Args:
        stream: where to, a terminal; anything else gets nothing.
        columns: gives its width; by default, it is asked.
    """

    def __init__(self, stream: TextIO, columns: Callable[[], int] | None = None) -> None:
        self._stream = stream
        self._columns = columns or self._ask_width
        self._is_shown = stream.isatty()
        self._state: LiveState | None = None
        self._lines = 0

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """A run begins; ``title`` names it, ``seconds`` is how long it will be measured."""
        self._state = LiveState(title, seconds)
        self._draw()

    def second(self, second: Second) -> None:
        """Another second of it is over."""
        if self._state is not None:
            self._state.take(second)
            self._draw()

    def end(self) -> None:
        """Wipe it away."""
        self._state = None
        self._write([])

    def _ask_width(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            return _WIDTH_UNKNOWN

    def _draw(self) -> None:
        if self._is_shown and self._state is not None:
            self._write(render(self._state, max(_WIDTH_MIN, self._columns() - 1)))

    def _write(self, lines: Sequence[str]) -> None:
        if not self._is_shown:
            return
        up = f"\033[{self._lines}F" if self._lines else "\r"
        self._stream.write(up + "".join(f"{line}{_WIPE_LINE}\n" for line in lines) + _WIPE_BELOW)
        self._stream.flush()
        self._lines = len(lines)
