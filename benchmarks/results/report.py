"""One HTML file that holds a report and needs nothing else: no network, no library.

Rules:

1. Whatever makes a figure worth less than it looks stands where the figure stands.
2. The page may not ask for anything: its policy forbids every request, and every script but ours.
3. Text comes from files that others wrote: it goes through ``markup.element``, which escapes it.
"""

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..summary import Spread, times
from .axes import byte_words, ms_words, number_words, us_words
from .cases import BROKEN, INVALID, RATIO_NOTE, Case, Figures, cases
from .markup import Child, Markup, element, folded, scrolled, table
from .result import Result
from .sections import case_section, numbers_of, ratio_section, sweep_section, tones

__all__ = ["html_report", "write_report"]

_HERE = Path(__file__).parent


def write_report(results: Mapping[str, Result], path: str | Path) -> None:
    """Write the report of results (by the names of their files). Raises OSError, ValueError."""
    Path(path).write_text(html_report(results), encoding="utf-8")


def html_report(results: Mapping[str, Result]) -> str:
    """The whole page. Raises ValueError for a histogram that is none, OSError without our files."""
    found = cases(results)
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    style = (_HERE / "report.css").read_text(encoding="utf-8")
    title = _title(found)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_policy(script)),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(style)),
    )
    body = element(
        "body",
        element("div", _header(title, results), _parts(results, found), class_="page"),
        element("div", id="tip", role="status", aria_hidden="true"),
        element("script", Markup(script)),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{body}</html>\n'


def _policy(script: str) -> str:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _title(found: Sequence[Case]) -> str:
    names = dict.fromkeys(case.scenario for case in found)
    systems = dict.fromkeys(each.system for case in found for each in case.figures)
    what = found[0].scenario if len(names) == 1 else f"{len(names)} scenarios"
    return f"{what}: {', '.join(systems)}" if found else "no runs"


def _header(title: str, results: Mapping[str, Result]) -> Markup:
    first = next(iter(results.values()))
    machine = first.environment
    return element(
        "header",
        element("h1", title),
        element(
            "p",
            f"braidmq bench · {first.begun} · {machine.cpu}, {machine.cores} cores"
            f" · {machine.kernel} · {machine.python}",
            class_="quiet",
        ),
        _facts(results),
    )


def _facts(results: Mapping[str, Result]) -> Markup:
    """The verdict in a few numbers."""
    runs = [run for result in results.values() for run in result.runs]
    lost = sum(run.integrity.lost for run in runs)
    changed = sum(run.integrity.corrupt for run in runs)
    # Where at most once was promised, a loss breaks nothing.
    is_bad = any(run.integrity.lost and run.problems for run in runs)
    broken = sum(bool(run.problems) for run in runs)
    invalid = sum(bool(run.invalid) for run in runs)

    def fact(count: int, words: str, doubt: str = "") -> Markup:
        text = f"{count:,}" if count < 10**6 else number_words(count)
        return element("li", element("b", text), element("span", words), class_=doubt or None)

    return element(
        "ul",
        fact(sum(run.integrity.received or run.integrity.sent for run in runs), "messages checked"),
        fact(lost, "lost", "bad" if is_bad else "doubt" if lost else "good"),
        fact(changed, "corrupt", "bad" if changed else "good"),
        fact(len(runs), "runs"),
        fact(broken, "broke a promise", "bad" if broken else "good"),
        fact(invalid, "not to be believed", "doubt" if invalid else "good"),
        class_="facts",
    )


def _parts(results: Mapping[str, Result], found: Sequence[Case]) -> list[Markup | None]:
    by_scenario: dict[str, list[Case]] = {}
    for case in found:
        by_scenario.setdefault(case.scenario, []).append(case)
    colours = tones(found)
    parts: list[tuple[str, Markup]] = []
    for some in by_scenario.values():
        anchor = f"part-{len(parts)}"
        if numbers_of(some) is not None:
            parts.append((some[0].scenario, sweep_section(some, anchor, colours)))
            continue
        for case in some:
            parts.append((case.title, case_section(case, f"part-{len(parts)}", colours(case))))
    links = [element("a", name, href=f"#part-{at}") for at, (name, _) in enumerate(parts)]
    links.append(element("a", "environment", href="#environment"))
    return [
        element("nav", links, aria_label="parts of this report"),
        element(
            "section",
            element("h2", "Summary"),
            _missing(results),
            ratio_section(found),
            _summary(found),
        ),
        *(part for _, part in parts),
        element(
            "section",
            element("h2", "Environment"),
            [_environment(file, result) for file, result in results.items()],
            id="environment",
        ),
    ]


def _missing(results: Mapping[str, Result]) -> Markup | None:
    texts = dict.fromkeys(
        f"{name}: {why}" for result in results.values() for name, why in result.missing.items()
    )
    if not texts:
        return None
    items = [element("li", element("strong", "left out"), f" {text}") for text in texts]
    return element("ul", items, class_="said")


# --- the table ---

_HEAD = (
    *("scenario", "system", "in/s", "out/s", "x braidmq", "latency", "p50", "p99", "p99.9", "max"),
    *("CPU", "RSS", "lost", "twice", "order", "bad"),
)
_CLASSES = {BROKEN: "broken", INVALID: "doubted"}


def _summary(found: Sequence[Case]) -> Markup:
    rows = [
        _row(case if not at else None, each)
        for case in found
        for at, each in enumerate(case.figures)
    ]
    summary = element(
        "table",
        element("thead", element("tr", [element("th", name, scope="col") for name in _HEAD])),
        element("tbody", rows),
        class_="two",
    )
    notes = (
        *(line.strip() for line in RATIO_NOTE),
        "CPU: of the broker, for a message.",
        "Medians, in small print from the lowest to the highest repeat.",
    )
    return element(
        "div",
        scrolled(summary),
        element("p", " ".join(notes), class_="note"),
        class_="card",
    )


def _row(case: Case | None, each: Figures) -> Markup:
    integrity = each.integrity
    counts = (
        (integrity.lost, bool(each.problems)),
        (integrity.duplicate, False),
        (integrity.reordered, False),
        (integrity.corrupt, True),
    )
    return element(
        "tr",
        element("th", case.title if case else "", scope="row"),
        element(
            "th",
            f"{each.label} {each.mark}".strip(),
            scope="row",
            class_=_CLASSES.get(each.mark),
        ),
        [_rate_cell(spread) for spread in (each.rate_in, each.rate_out)],
        _ratio_cell(each),
        element("td", each.metric or "–"),
        [element("td", text) for text in map(ms_words, each.quantiles.values())]
        or [element("td", "–")] * 4,
        element("td", us_words(each.server_us.median) if each.server_us.median else "–"),
        element("td", byte_words(each.memory.median) if each.memory.median else "–"),
        [
            element("td", f"{count:,}", class_="broken" if count and wrong else None)
            for count, wrong in counts
        ],
        class_="first" if case else None,
    )


def _rate_cell(spread: Spread) -> Markup:
    if not spread.max:
        return element("td", "–")
    ends = [number_words(each) for each in (spread.min, spread.max)]
    apart = element("small", f" {'-'.join(ends)}") if ends[0] != ends[1] else None
    return element("td", number_words(spread.median), apart)


def _ratio_cell(each: Figures) -> Markup:
    if each.ratio is None:
        return element("td", "")
    middle, _, apart = times(each.ratio).partition(" ")
    return element(
        "td", element("b", middle) if each.is_ours else middle, element("small", " " + apart)
    )


# --- where it is from ---


def _environment(file: str, result: Result) -> Markup:
    machine = result.environment
    again = shlex.join(["braidmq", *result.command])
    rows: list[tuple[str, Child]] = [
        ("file", file),
        ("begun", result.begun),
        ("command", element("code", again)),
        ("seed", str(result.seed)),
        ("commit", machine.commit or "unknown"),
        ("processor", f"{machine.cpu}, {machine.cores} cores"),
        ("kernel", machine.kernel),
        ("Python", machine.python),
        ("versions", ", ".join(f"{name} {text}" for name, text in machine.versions.items())),
        ("filesystem", machine.filesystem or "unknown"),
        ("load before", f"{machine.load_average:g}"),
    ]
    systems = [
        (
            f"{each.name} {each.version}",
            "; ".join(f"{name}: {text}" for name, text in each.settings.items()) or "as installed",
        )
        for each in result.systems
    ]
    return element(
        "div",
        element("div", table(rows, class_="words"), class_="card"),
        element("h3", "Systems and their settings"),
        element("div", table(systems, class_="words"), class_="card"),
        element("h3", "What made the load"),
        element("div", _generators(result), class_="card"),
    )


def _generators(result: Result) -> Markup:
    """Each process that made load, and how late it was: whether the load was the limit."""
    rows = []
    for run in result.runs:
        for each in run.generators:
            share = each.cpu_seconds / run.seconds if run.seconds else 0.0
            rows.append(
                [
                    f"{run.scenario}, {run.system}, repeat {run.repeat + 1}",
                    f"{each.role}, {each.clients:,} clients",
                    f"{share:.0%} of a core",
                    f"p99 {ms_words(each.lag_p99_ms)} late",
                ]
            )
    return folded(f"{len(rows)} processes", table(rows))
