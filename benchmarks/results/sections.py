"""The parts of a report on scenarios: charts of one, of a sweep, and of the ratios of all."""

from collections.abc import Callable, Collection, Sequence
from operator import attrgetter
from typing import Any, Final

from ..engine.quantities import parse_number
from ..summary import Spread, spread, times
from .axes import (
    Axis,
    Words,
    byte_words,
    figure_words,
    linear,
    logarithmic,
    mib_words,
    ms_words,
    number_words,
    rate_words,
    tail,
    timeline,
    times_words,
    us_words,
)
from .cases import BROKEN, INVALID, OURS, Case, Figures, quantile_ms
from .charts import TONES, Bar, Line, Range, bar_chart, line_chart, range_chart
from .markup import Markup, element, folded, table
from .plots import rate_over_time, spectrum, worst_over_time
from .result import METRICS, Second

__all__ = ["case_section", "doubt_list", "numbers_of", "ratio_section", "sweep_section", "tones"]

_AHEAD, _BEHIND = 0, 1  # tones
_SECONDS_TO_GROW: Final = 30
_LOOPS: Final = {
    "open": "open loop: on a schedule",
    "closed": "closed loop: waits for answers",
    "saturation": "as fast as it goes",
}
_ASKED_FIRST: Final = ("rate", "size", "qos")  # knobs


def tones(cases: Sequence[Case]) -> Callable[[Case], list[int]]:
    """A tone for each of a case's systems: the same in all charts, as far as that is possible."""
    systems = dict.fromkeys(each.system for case in cases for each in case.figures)
    by_system = {system: at for at, system in enumerate({OURS: None, **systems})}

    def of_case(case: Case) -> list[int]:
        found: list[int] = []
        for each in case.figures:
            wanted = by_system[each.system] % TONES
            free = [tone for tone in range(TONES) if tone not in found] or [wanted]
            found.append(wanted if wanted in free else free[-1])
        return found

    return of_case


def case_section(case: Case, anchor: str, colours: Sequence[int]) -> Markup:
    """Everything about a scenario with its knobs."""
    figures = list(zip(case.figures, colours, strict=True))
    return element(
        "section",
        element("h2", case.title),
        _chips(case),
        doubt_list(case.figures),
        element("div", _overview(figures, case.metric), class_="charts short"),
        element("div", _course(figures, case.metric), class_="charts"),
        _knobs(case),
        id=anchor,
    )


def doubt_list(figures: Sequence[Figures]) -> list[Markup]:
    """What is wrong with systems, and with their figures."""
    found = []
    for class_, word, said in (
        ("said bad", f"{BROKEN} broken", [(each.label, each.problems) for each in figures]),
        ("said", f"{INVALID} invalid", [(each.label, each.invalid) for each in figures]),
    ):
        items = [
            element("li", element("strong", word), f" {label}: {'; '.join(texts)}")
            for label, texts in said
            if texts
        ]
        if items:
            found.append(element("ul", items, class_=class_))
    return found


def _chips(case: Case, varied: Collection[str] = ()) -> Markup:
    """The knobs that people ask for first."""
    run = case.figures[0].runs[0]
    repeats = max(len(each.runs) for each in case.figures)
    shown = [
        _LOOPS[case.loop],
        f"{repeats} repeat{'s' if repeats > 1 else ''} of {round(run.seconds, 2):g} s",
        *(
            f"{name} {run.knobs[name]}"
            for name in _ASKED_FIRST
            if name in run.knobs and name not in varied
        ),
    ]
    return element("ul", [element("li", text) for text in shown], class_="chips")


def _knobs(case: Case, varied: Collection[str] = ()) -> Markup:
    """Every knob that is not varied; systems with knobs of their own have them apart."""
    knobs: dict[str, dict[str, Any]] = {}
    for each in case.figures:
        for name, value in each.runs[0].knobs.items():
            knobs.setdefault(name, {})[each.label] = value
    rows = []
    for name, by_label in knobs.items():
        if name in varied:
            continue
        values = {repr(value) for value in by_label.values()}
        text = (
            str(next(iter(by_label.values())))
            if len(values) == 1
            else "; ".join(f"{label}: {value}" for label, value in by_label.items())
        )
        rows.append((name, text))
    return element("div", folded("all knobs", table(rows, class_="words")), class_="card")


_Toned = Sequence[tuple[Figures, int]]


def _name(each: Figures, metric: str = "") -> str:
    """As a row is called: with its doubts, and its latency where that is not the others'."""
    other = f"({each.metric})" if metric and metric != each.metric else ""
    return " ".join(filter(None, (each.label, other, each.mark)))


def _bars(
    figures: _Toned, of: Callable[[Figures], Spread], title: str, note: str, words: Words
) -> Markup | None:
    spreads = [(each, tone, of(each)) for each, tone in figures]
    if not any(found.max for _, _, found in spreads):
        return None
    bars = [
        Bar(_name(each), tone, found.median, found.min, found.max) for each, tone, found in spreads
    ]
    return bar_chart(title, note, bars, words)


def _overview(figures: _Toned, metric: str) -> list[Markup | None]:
    """Systems side by side."""
    high, low = "higher is better; whiskers: repeats", "lower is better; whiskers: repeats"
    names = dict.fromkeys(name for each, _ in figures for name in each.figures)
    has_other_in = any(
        abs(each.rate_in.median - each.rate.median) > 0.02 * each.rate.median for each, _ in figures
    )
    what = "Connections" if metric == "connect" else "Messages"
    return [
        _bars(figures, lambda each: each.rate, f"{what} a second", high, rate_words),
        _bars(figures, lambda each: each.rate_in, "Messages in, a second", high, rate_words)
        if has_other_in
        else None,
        _latency_ranges(figures, metric),
        _bars(figures, lambda each: each.server_us, "Broker CPU for a message", low, us_words),
        _bars(figures, lambda each: each.memory, "Broker memory (RSS)", low, byte_words),
        *(
            _bars(figures, _figure_of(name), title, "whiskers: repeats", words)
            for name in names
            for title, words in [figure_words(name)]
        ),
    ]


def _latency_ranges(figures: _Toned, metric: str) -> Markup | None:
    ranges = []
    for each, tone in figures:
        if points := list(each.quantiles.items()):
            text = " · ".join(ms_words(value) for _, value in points[:-1])
            ranges.append(Range(_name(each, metric), tone, points, text))
    if not ranges:
        return None
    axis = logarithmic([value for each in ranges for _, value in each.points], ms_words)
    return range_chart(
        f"Latency: {metric}",
        "● p50  ◆ p99  ▲ p99.9  ▮ max; lower is better",
        ranges,
        axis,
    )


def _course(figures: _Toned, metric: str) -> list[Markup | None]:
    """How it went over time, and how latencies are spread."""
    rates = [Line(each.label, tone, *rate_over_time(each.runs)) for each, tone in figures]
    return [
        _time_chart("Throughput over time", rates, rate_words),
        _spectrum(figures, metric),
        *_latency_courses(figures),
        _memory_course(figures),
    ]


def _memory_course(figures: _Toned) -> Markup | None:
    """Whether memory grows, of runs that are long enough to tell."""
    if max(run.seconds for each, _ in figures for run in each.runs) < _SECONDS_TO_GROW:
        return None
    lines = [
        Line(each.label, tone, *worst_over_time(each.runs, _mebibytes_then))
        for each, tone in figures
    ]
    return _time_chart("Broker memory over time", lines, mib_words)


def _mebibytes_then(second: Second) -> float:
    return second.server_bytes / 2**20


def _time_chart(title: str, lines: Sequence[Line], words: Words) -> Markup | None:
    """Lines of all systems, from 0; None where there is nothing."""
    if not any(line.points for line in lines):
        return None
    note = "median of the repeats, shaded from min to max"
    y = linear(_heights(lines), words)
    return line_chart(title, note, lines, _time_axis(lines), y, _warm_up(lines))


def _heights(lines: Sequence[Line]) -> list[float]:
    """All that an axis has to hold."""
    ends = [end for line in lines for _, *both in line.band for end in both]
    return ends + [y for line in lines for _, y in line.points]


def _time_axis(lines: Sequence[Line]) -> Axis:
    seconds = [x for line in lines for x, _ in line.points] or [0.0]
    return timeline(min(seconds), max(seconds))


def _warm_up(lines: Sequence[Line]) -> tuple[float, str] | None:
    is_warmed = any(x < 0 for line in lines for x, _ in line.points)
    return (0.0, "measured from here") if is_warmed else None


def _spectrum(figures: _Toned, metric: str) -> Markup | None:
    lines = [
        Line(
            each.label if each.metric == metric else f"{each.metric}: {each.label}",
            tone,
            spectrum(each.runs, each.metric),
        )
        for each, tone in figures
    ]
    places = [x for line in lines for x, _ in line.points]
    if not places:
        return None
    y = logarithmic(_heights(lines), ms_words)
    return line_chart("Latency by percentile", METRICS[metric], lines, tail(max(places)), y)


def _latency_courses(figures: _Toned) -> list[Markup]:
    """A chart for each system, all with one axis."""
    charted = []
    for each, tone in figures:
        lines = [
            Line(name, tone, *worst_over_time(each.runs, attrgetter(f"{name}_ms")))
            for name in ("p50", "p99", "max")
        ]
        if any(line.points for line in lines):
            charted.append((each, lines))
    every = [line for _, lines in charted for line in lines]
    x, y = _time_axis(every), logarithmic(_heights(every), ms_words)
    note = "of messages due in a second; shaded: repeats"
    return [
        line_chart(f"Latency over time: {each.label}", note, lines, x, y, _warm_up(lines))
        for each, lines in charted
    ]


# --- sweeps ---


def numbers_of(cases: Sequence[Case]) -> tuple[str, list[float]] | None:
    """The one knob by which cases of a scenario differ, and its values; None: it is no sweep."""
    names = {name for case in cases for name in case.varied}
    if len(cases) < 2 or len(names) != 1:
        return None
    [name] = names
    found = [_number(case.varied[name]) for case in cases]
    values = [value for value in found if value is not None and value > 0]
    return (name, values) if len(values) == len(cases) else None


def _number(value: object) -> float | None:
    """A knob's number, which may be spelled 10k."""
    try:
        return parse_number(str(value))
    except ValueError:
        return None


def sweep_section(
    cases: Sequence[Case], anchor: str, colours: Callable[[Case], Sequence[int]]
) -> Markup:
    """How cost grows with a knob."""
    swept = numbers_of(cases)
    assert swept is not None
    name, values = swept
    by_value = sorted(zip(values, cases, strict=True), key=lambda pair: pair[0])
    tone_of = {
        each.label: tone
        for case in cases
        for each, tone in zip(case.figures, colours(case), strict=True)
    }
    x = logarithmic(values, number_words)
    others = dict.fromkeys(name for case in cases for each in case.figures for name in each.figures)
    charts = [
        _sweep_chart(title, [_swept(by_value, *toned, of) for toned in tone_of.items()], x, words)
        for title, of, words in (
            ("Messages a second", lambda each: each.rate, rate_words),
            ("Latency p50", _quantile(0.5), ms_words),
            ("Latency p99", _quantile(0.99), ms_words),
            ("Broker CPU for a message", lambda each: each.server_us, us_words),
            ("Broker memory (RSS)", _mebibytes, mib_words),
            *(
                (title, _figure_of(other), words)
                for other in others
                for title, words in [figure_words(other)]
            ),
        )
    ]
    return element(
        "section",
        element("h2", f"{cases[0].scenario}: cost as {name} grows"),
        _chips(cases[0], {name}),
        [
            [element("h3", case.title), doubt]
            for case in cases
            for doubt in [doubt_list(case.figures)]
            if doubt
        ],
        element("div", charts, class_="charts"),
        _knobs(cases[0], {name}),
        id=anchor,
    )


def _swept(
    by_value: Sequence[tuple[float, Case]], label: str, tone: int, of: Callable[[Figures], Spread]
) -> Line:
    """A figure of one system at each value of the knob."""
    some = [
        (value, found)
        for value, case in by_value
        for each in case.figures
        if each.label == label and (found := of(each)).median > 0
    ]
    points = [(value, found.median) for value, found in some]
    band = [(value, found.min, found.max) for value, found in some]
    return Line(label, tone, points, band, has_marks=True)


def _quantile(share: float) -> Callable[[Figures], Spread]:
    return lambda each: spread([quantile_ms(run, each.metric, share) for run in each.runs])


def _figure_of(name: str) -> Callable[[Figures], Spread]:
    return lambda each: each.figures.get(name, spread([]))


def _mebibytes(each: Figures) -> Spread:
    """For axes whose ticks are decimal."""
    found = each.memory
    return Spread(*(value / 2**20 for value in (found.median, found.min, found.max)))


def _sweep_chart(title: str, lines: Sequence[Line], x: Axis, words: Words) -> Markup | None:
    if not any(line.points for line in lines):
        return None
    note = "both axes logarithmic; shaded: repeats"
    return line_chart(title, note, lines, x, logarithmic(_heights(lines), words))


# --- ratios ---


def ratio_section(cases: Sequence[Case]) -> Markup | None:
    """Ours beside the best peer, in every scenario."""
    ranges = []
    for case in cases:
        measure = case.measure.name.removesuffix("_bytes").replace("_", " ")
        for each in case.figures:
            if not each.is_ours or each.ratio is None:
                continue
            label = ", ".join(filter(None, (case.title, each.label.removeprefix(OURS).strip())))
            about = "" if measure == "rate" else f"({measure})"
            name = " ".join(filter(None, (label, each.ratio_mark, about)))
            ratio = each.ratio
            points = [("median", ratio.median), ("min", ratio.min), ("max", ratio.max)]
            tone = _AHEAD if ratio.median >= 1 else _BEHIND
            ranges.append(Range(name, tone, points, times(ratio)))
    if not ranges:
        return None
    axis = logarithmic(
        [value for each in ranges for _, value in each.points] + [0.5, 2.0], times_words
    )
    chart = range_chart(
        "BraidMQ beside the best peer of each scenario",
        "times as good, repeat by repeat; right of 1 x BraidMQ is better",
        ranges,
        axis,
        shapes="●▏▏",
        mark=1.0,
    )
    return element("div", chart, class_="ratios")
