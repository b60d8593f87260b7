"""The report as a browser shows it: by itself, in both schemes, on any width, with tooltips."""

import random
from collections.abc import Iterator

import pytest

from braidmq.benchmarks.results.report import write_report
from tests.bench_results import a_result, a_run
from tests.browser import Browser, chromium, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A report with everything: peers, repeats, a sweep, doubts, and names that are no names."""
    runs = [
        a_run(
            system,
            repeat=repeat,
            per_second=int(rate * random.Random(repeat).uniform(0.9, 1.1)),
            scenario=scenario,
            invalid=["the load was late"] if system == "amqtt" else [],
        )
        for scenario in ("e2e", HOSTILE)
        for system, rate in (("braidmq", 4_000), ("mosquitto", 1_000), ("amqtt", 200))
        for repeat in range(3)
    ]
    runs += [
        a_run(scenario="sweep", knobs={"size": size}, per_second=rate)
        for size, rate in (("10", 900), ("1k", 500), ("100k", 30))
    ]
    runs[0].problems.append(HOSTILE)
    path = tmp_path_factory.mktemp("report") / "report.html"
    result = a_result(*runs, missing={HOSTILE: HOSTILE}, command=[HOSTILE])
    result.systems[0].settings[HOSTILE] = HOSTILE
    write_report({HOSTILE: result}, path)
    return path.as_uri()


# The contrast of two colours, as WCAG 2 has it.
CONTRAST = """
(() => {
  const light = (css) => {
    const [r, g, b] = css.match(/[0-9.]+/g).map(Number).map((v) => v / 255)
      .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [light(a), light(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const card = getComputedStyle(document.querySelector("figure")).backgroundColor;
  const least = (selector, property) => Math.min(...[...document.querySelectorAll(selector)]
    .map((each) => contrast(getComputedStyle(each)[property], card)));
  return {
    text: least("svg text", "fill"),
    lines: least(".line polyline", "stroke"),
    bars: least(".bar rect:not(.over)", "fill"),
    marks: least(".range circle", "fill"),
    words: least("figcaption h4, .note, td, th", "color"),
  };
})()
"""


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_in_both_schemes_and_asks_for_nothing(browser, page, is_dark):
    browser.open(page, is_dark=is_dark)
    least = browser.run(CONTRAST)
    assert least["text"] >= 4.5 and least["words"] >= 4.5, least
    assert min(least["lines"], least["bars"], least["marks"]) >= 3, least
    background = browser.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(int(v) for v in background[4:-1].split(",")) < 150) == is_dark
    # data: is the icon that is none.
    assert [url for url in browser.requests if not url.startswith("data:")] == [page]
    assert browser.complaints == []


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_bars_are_really_drawn(browser, page, is_dark):
    browser.open(page, is_dark=is_dark)
    x, y, colour = browser.run(
        "(() => { const bar = document.querySelector('.bar rect');"
        " const box = bar.getBoundingClientRect();"
        " return [box.x + 20 + scrollX, box.y + box.height / 2 + scrollY,"
        " getComputedStyle(bar).fill]; })()"
    )
    wanted = [int(value) for value in colour[4:-1].split(",")]
    assert browser.pixel(x, y) == pytest.approx(wanted, abs=3)
    assert browser.pixel(x, y) != browser.pixel(2, 2)


def test_paper_is_white(browser, page):
    browser.open(page, is_dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    browser.ask("Emulation.setEmulatedMedia", media="print", features=[dark])
    colours = browser.run(
        "['body', 'figure'].map((each) =>"
        " getComputedStyle(document.querySelector(each)).backgroundColor)"
    )
    browser.ask("Emulation.setEmulatedMedia", media="")
    assert colours == ["rgb(255, 255, 255)"] * 2


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_width_is_too_small(browser, page, width):
    browser.open(page, width=width)
    assert browser.run("document.documentElement.scrollWidth") == width
    boxes = browser.run(
        "[...document.querySelectorAll('figure > svg')].map((svg) => svg.getBoundingClientRect())"
        ".map((box) => [box.left, box.right, box.height])"
    )
    assert len(boxes) > 20
    assert all(left >= 0 and right <= width and height > 40 for left, right, height in boxes)


def test_every_kind_of_chart_is_there(browser, page):
    browser.open(page)
    titles = browser.run("[...document.querySelectorAll('h4')].map((each) => each.textContent)")
    for title in (
        "BraidMQ beside the best peer of each scenario",
        "Messages a second",
        "Latency: delivery",
        "Broker CPU for a message",
        "Broker memory (RSS)",
        "Throughput over time",
        "Latency by percentile",
        "Latency over time: mosquitto",
        "Latency p99",
    ):
        assert title in titles
    # Each has the same as a table, and a name for those who do not see it.
    charts, tables, labels = browser.run(
        "['figure', 'figure > details table', 'figure > svg[role=img][aria-label]']"
        ".map((each) => document.querySelectorAll(each).length)"
    )
    assert charts == tables == labels == len(titles)


def test_text_stays_text(browser, page):
    browser.open(page)
    assert browser.run("document.querySelectorAll('script').length") == 1
    assert browser.run("document.querySelectorAll('img').length") == 0
    headings = browser.run("[...document.querySelectorAll('h2')].map((each) => each.textContent)")
    assert HOSTILE in headings
    assert HOSTILE in browser.run("document.querySelector('#environment').textContent")


def test_a_pointer_is_told_what_is_there(browser, page):
    browser.open(page)
    x, y = browser.run(
        "(() => { const place = document.querySelector('.hit rect');"
        " place.scrollIntoView({behavior: 'instant', block: 'center'});"
        " const box = place.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    # Until it has scrolled, which hides the tip.
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    browser.hover(x, y)
    tip = browser.run(
        "(() => { const tip = document.getElementById('tip');"
        " return getComputedStyle(tip).visibility + ' ' + tip.textContent; })()"
    )
    assert tip.startswith("visible -1 s\nbraidmq: ") and "mosquitto: " in tip
    browser.hover(1, 1)
    assert not browser.run("document.getElementById('tip').classList.contains('shown')")
