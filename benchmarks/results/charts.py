"""Charts as SVG: lines, bars, and ranges, each with a title, labels and the same as a table.

Rules:

1. Nothing is told by colour alone: lines are labelled where they end and dashed in their own way,
   points of a range have shapes of their own.
2. Colours are the page's (``tone-0`` to ``tone-7`` of report.css), so they follow its scheme.
3. What a pointer shows is also in the table below the chart.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

import msgspec

from .axes import Axis, Words
from .markup import Child, Markup, element, folded, table

__all__ = ["TONES", "Bar", "Line", "Range", "bar_chart", "line_chart", "range_chart"]

TONES: Final = 8

_WIDTH: Final = 420
_LEFT: Final = 46
_RIGHT: Final = 100  # room for labels at the ends of lines
_TOP: Final = 10
_PLOT_HEIGHT: Final = 190
_BOTTOM: Final = 24
_LABEL_HEIGHT: Final = 13
_LABEL_LETTERS: Final = 16
_ROW_HEIGHT: Final = 42
_BAR_TOP: Final = 18
_BAR_HEIGHT: Final = 12


class Line(msgspec.Struct):
    """Points of one name; ``band`` is how far repeats were apart: x, lowest, highest."""

    name: str
    tone: int
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()
    has_marks: bool = False  # a dot on each point


class Bar(msgspec.Struct):
    """A figure of one system, and how far its repeats were apart."""

    name: str
    tone: int
    value: float
    low: float
    high: float


class Range(msgspec.Struct):
    """Figures of one system on one axis: shape, name and value of each."""

    name: str
    tone: int
    points: Sequence[tuple[str, float]]
    text: str


def _figure(
    title: str, note: str, picture: Markup, head: Sequence[str], rows: Sequence[Sequence[str]]
) -> Markup:
    """A chart with its words, and the same as a table."""
    return element(
        "figure",
        element("figcaption", element("h4", title), element("p", note, class_="note")),
        picture,
        folded("as a table", table(rows, head)),
    )


def _svg(height: float, label: str, *children: Child) -> Markup:
    return element(
        "svg",
        *children,
        viewBox=f"0 0 {_WIDTH} {height:g}",
        role="img",
        aria_label=label,
    )


def _text(x: float, y: float, words: str, **attributes: str | None) -> Markup:
    return element("text", words, x=x, y=y, **attributes)


def _row(y: float, kind: str, each: "Bar | Range", text: str, tip: str, *drawn: Child) -> Markup:
    """What is drawn for one system, with its name and words above, and a tip all over it."""
    return element(
        "g",
        *drawn,
        _text(0, y + 12, each.name, class_="name"),
        _text(_WIDTH, y + 12, text, class_="value", text_anchor="end"),
        element("rect", x=0, y=y, width=_WIDTH, height=_ROW_HEIGHT, class_="over"),
        class_=f"{kind} tone-{each.tone}",
        data_tip=tip,
    )


# --- lines ---


def line_chart(
    title: str,
    note: str,
    lines: Sequence[Line],
    x: Axis,
    y: Axis,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """Lines over a common axis; ``mark`` is a place on it that has a name."""

    def across(value: float) -> float:
        return _LEFT + x.at(value) * (_WIDTH - _LEFT - _RIGHT)

    def down(value: float) -> float:
        return _TOP + (1 - y.at(value)) * _PLOT_HEIGHT

    drawn = [line for line in lines if line.points]
    places = sorted({place for line in drawn for place, _ in line.points})
    picture = _svg(
        _TOP + _PLOT_HEIGHT + _BOTTOM,
        f"{title}: {', '.join(line.name for line in drawn)}",
        _grid(x, y, across, down),
        _marked(mark, across) if mark else None,
        [_band(line, across, down) for line in drawn],
        [_path(line, across, down) for line in drawn],
        _end_labels(drawn, down),
        _hits(drawn, places, x, y, across),
    )
    by_place = [dict(line.points) for line in drawn]
    rows = [
        [x.words(place), *(y.words(at[place]) if place in at else "" for at in by_place)]
        for place in places
    ]
    return _figure(title, note, picture, ["", *(line.name for line in drawn)], rows)


_Map = Callable[[float], float]


def _grid(x: Axis, y: Axis, across: _Map, down: _Map) -> Markup:
    right, bottom = _WIDTH - _RIGHT, _TOP + _PLOT_HEIGHT
    return element(
        "g",
        [
            element("line", x1=_LEFT, x2=right, y1=down(value), y2=down(value))
            for value, _ in y.ticks
        ],
        [_text(_LEFT - 6, down(value) + 3.5, words, text_anchor="end") for value, words in y.ticks],
        [
            element("line", x1=across(value), x2=across(value), y1=bottom, y2=bottom + 4)
            for value, _ in x.ticks
        ],
        [
            _text(across(value), bottom + 16, words, text_anchor="middle")
            for value, words in x.ticks
        ],
        class_="grid",
    )


def _marked(mark: tuple[float, str], across: _Map) -> Markup:
    place = across(mark[0])
    return element(
        "g",
        element("line", x1=place, x2=place, y1=_TOP, y2=_TOP + _PLOT_HEIGHT),
        _text(place + 4, _TOP + 8, mark[1]),
        class_="mark",
    )


def _band(line: Line, across: _Map, down: _Map) -> Markup | None:
    if len(line.band) < 2:
        return None
    top = [f"{across(x):.1f},{down(high):.1f}" for x, _, high in line.band]
    bottom = [f"{across(x):.1f},{down(low):.1f}" for x, low, _ in reversed(line.band)]
    return element("polygon", points=" ".join(top + bottom), class_=f"band tone-{line.tone}")


def _path(line: Line, across: _Map, down: _Map) -> Markup:
    places = [(across(x), down(y)) for x, y in line.points]
    dots = [
        element("circle", cx=x, cy=y, r=3)
        for x, y in (places if line.has_marks or len(places) == 1 else ())
    ]
    return element(
        "g",
        element("polyline", points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places)),
        dots,
        class_=f"line tone-{line.tone}",
    )


def _end_labels(lines: Sequence[Line], down: _Map) -> list[Markup]:
    """The names where the lines end, pushed apart where they would lie on each other."""
    wanted = sorted((down(line.points[-1][1]), at) for at, line in enumerate(lines))
    placed: list[tuple[float, int]] = []
    for y, at in wanted:
        placed.append((max(y, placed[-1][0] + _LABEL_HEIGHT) if placed else y, at))
    limit = float(_TOP + _PLOT_HEIGHT)
    for position in range(len(placed) - 1, -1, -1):
        y, at = placed[position]
        placed[position] = (min(y, limit), at)
        limit = placed[position][0] - _LABEL_HEIGHT
    x = _WIDTH - _RIGHT + 6
    return [
        element(
            "g",
            element("line", x1=x, x2=x + 12, y1=y, y2=y),
            _text(x + 16, y + 3.5, _shortened(lines[at].name)),
            class_=f"label line tone-{lines[at].tone}",
        )
        for y, at in placed
    ]


def _shortened(name: str) -> str:
    return name if len(name) <= _LABEL_LETTERS - 3 else name[: _LABEL_LETTERS - 4] + "…"


def _hits(
    lines: Sequence[Line], places: Sequence[float], x: Axis, y: Axis, across: _Map
) -> list[Markup]:
    """For each place an invisible column that says what is there."""
    by_place = [dict(line.points) for line in lines]
    edges = [
        _LEFT,
        *((across(a) + across(b)) / 2 for a, b in pairwise(places)),
        _WIDTH - _RIGHT,
    ]
    found = []
    for at, place in enumerate(places):
        tip = [x.words(place)]
        for line, points in zip(lines, by_place, strict=True):
            if place in points:
                tip.append(f"{line.name}: {y.words(points[place])}")
        hair = across(place)
        found.append(
            element(
                "g",
                element(
                    "rect",
                    x=edges[at],
                    y=_TOP,
                    width=max(0.0, edges[at + 1] - edges[at]),
                    height=_PLOT_HEIGHT,
                ),
                element("line", x1=hair, x2=hair, y1=_TOP, y2=_TOP + _PLOT_HEIGHT),
                class_="hit",
                data_tip="\n".join(tip),
            )
        )
    return found


# --- bars ---


def bar_chart(title: str, note: str, bars: Sequence[Bar], words: Words) -> Markup:
    """A bar for each system from 0, with a whisker from the lowest to the highest repeat."""
    top = max((max(bar.value, bar.high) for bar in bars), default=0.0) or 1.0
    picture = _svg(
        len(bars) * _ROW_HEIGHT + 2,
        f"{title}: " + ", ".join(f"{bar.name} {words(bar.value)}" for bar in bars),
        [_bar(bar, at * _ROW_HEIGHT, top, words) for at, bar in enumerate(bars)],
    )
    rows = [[bar.name, *(words(each) for each in (bar.value, bar.low, bar.high))] for bar in bars]
    return _figure(title, note, picture, ["", "median", "min", "max"], rows)


def _bar(bar: Bar, y: float, top: float, words: Words) -> Markup:
    text = words(bar.value)
    middle = y + _BAR_TOP + _BAR_HEIGHT / 2
    low, high = (_WIDTH * each / top for each in (bar.low, bar.high))
    whisker = None
    if bar.high > bar.low:
        whisker = element(
            "g",
            [
                element(
                    "path",
                    d=f"M{low:.1f} {middle:g}H{high:.1f}M{low:.1f} {middle - 4:g}v8"
                    f"M{high:.1f} {middle - 4:g}v8",
                    class_=class_,
                )
                for class_ in ("halo", None)
            ],
            class_="whisker",
        )
    tip = f"{bar.name}: {text}\nlowest {words(bar.low)}, highest {words(bar.high)}"
    width = max(1.0, _WIDTH * bar.value / top)
    box = element("rect", x=0, y=y + _BAR_TOP, width=width, height=_BAR_HEIGHT, rx=2)
    return _row(y, "bar", bar, text, tip, box, whisker)


# --- ranges ---

# What a point of a range may look like, around 0, 0, by the letter that stands for it in words.
_SHAPES: Final = {
    "●": Markup('<circle r="5"/>'),
    "◆": Markup('<path d="M0 -6 6 0 0 6 -6 0Z"/>'),
    "▲": Markup('<path d="M-5 5 0 -5 5 5Z"/>'),
    "▮": Markup('<path d="M-1.5 -7h3v14h-3Z"/>'),
    "▏": Markup('<path d="M-.8 -5h1.6v10h-1.6Z"/>'),
}


def range_chart(
    title: str,
    note: str,
    ranges: Sequence[Range],
    axis: Axis,
    shapes: str = "●◆▲▮",
    mark: float | None = None,
) -> Markup:
    """Points of each system on a common axis, joined by a line; ``mark``: what stands out."""
    height = len(ranges) * _ROW_HEIGHT
    inner = _WIDTH - 16

    def across(value: float) -> float:
        return 8 + axis.at(value) * inner

    grid = element(
        "g",
        [
            element("line", x1=across(value), x2=across(value), y1=0, y2=height)
            for value, _ in axis.ticks
        ],
        [
            _text(
                across(value),
                height + 16,
                words,
                text_anchor="start" if not at else "end" if at == len(axis.ticks) - 1 else "middle",
            )
            for at, (value, words) in enumerate(axis.ticks)
        ],
        class_="grid",
    )
    names = [name for name, _ in ranges[0].points] if ranges else []
    picture = _svg(
        height + _BOTTOM,
        f"{title}: " + ", ".join(f"{each.name} {each.text}" for each in ranges),
        grid,
        element("line", x1=across(mark), x2=across(mark), y1=0, y2=height, class_="at")
        if mark is not None
        else None,
        [_range(each, shapes, at * _ROW_HEIGHT, axis, across) for at, each in enumerate(ranges)],
    )
    rows = [[each.name, *(axis.words(value) for _, value in each.points)] for each in ranges]
    return _figure(title, note, picture, ["", *names], rows)


def _range(each: Range, shapes: str, y: float, axis: Axis, across: _Map) -> Markup:
    middle = y + _BAR_TOP + _BAR_HEIGHT / 2
    values = [value for _, value in each.points]
    low, high = across(min(values)), across(max(values))
    tip = "\n".join([each.name, *(f"{name}: {axis.words(value)}" for name, value in each.points)])
    line = element("line", x1=low, x2=high, y1=middle, y2=middle)
    points = [
        element("g", _SHAPES[shape], transform=f"translate({across(value):.1f} {middle:g})")
        for (_, value), shape in zip(each.points, shapes, strict=False)
    ]
    return _row(y, "range", each, each.text, tip, line, points)
