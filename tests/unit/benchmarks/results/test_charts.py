"""Charts as elements: where things stand, and that they do not stand on each other."""

import re
import xml.etree.ElementTree as ET
from itertools import pairwise

from braidmq.benchmarks.results.axes import linear, logarithmic, ms_words, rate_words, timeline
from braidmq.benchmarks.results.charts import (
    Bar,
    Line,
    Range,
    bar_chart,
    line_chart,
    range_chart,
)


def read(figure):
    """As XML, which is stricter than HTML."""
    return ET.fromstring(figure)


def found(tree, name, class_=""):
    return [
        each for each in tree.iter(name) if class_ in each.get("class", "").split() or not class_
    ]


def chart_of(*lines, **options):
    return read(
        line_chart("title", "note", lines, timeline(0, 3), linear([100], rate_words), **options)
    )


def rows(tree):
    return [[cell.text or "" for cell in row] for row in tree.iter("tr")]


def test_lines():
    tree = chart_of(
        Line("ours", 0, [(0, 50), (1, 100), (3, 0)], [(0, 40, 60), (1, 90, 100), (3, 0, 1)]),
        Line("theirs", 1, [(0, 10), (3, 20)]),
        Line("nobody", 2, []),
        mark=(1.0, "begin"),
    )
    [svg] = found(tree, "svg")
    assert svg.get("aria-label") == "title: ours, theirs"
    ours, theirs = found(tree, "polyline")
    points = [tuple(map(float, pair.split(","))) for pair in ours.get("points", "").split()]
    assert points[0][0] < points[1][0] < points[2][0]
    assert points[1][1] < points[0][1] < points[2][1]  # 100 is at the top
    assert len(theirs.get("points", "").split()) == 2
    assert len(found(tree, "polygon", "band")) == 1
    assert [each.find("text").text for each in found(tree, "g", "mark")] == ["begin"]
    assert rows(tree) == [
        ["", "ours", "theirs"],
        ["0 s", "50/s", "10/s"],
        ["1 s", "100/s", ""],
        ["3 s", "0/s", "20/s"],
    ]
    tips = [each.get("data-tip") for each in found(tree, "g", "hit")]
    assert tips[:2] == ["0 s\nours: 50/s\ntheirs: 10/s", "1 s\nours: 100/s"]


def test_labels_at_the_ends_of_lines_do_not_lie_on_each_other():
    lines = [Line(f"system {at}", at, [(0, 1), (3, at / 10)]) for at in range(8)]
    labels = found(chart_of(*lines), "g", "label")
    heights = [float(each.find("text").get("y")) for each in labels]
    assert len(heights) == 8
    assert all(later - before >= 12.9 for before, later in pairwise(heights))
    assert max(heights) < 210 and min(heights) > 0


def test_long_names_are_cut_and_a_single_point_is_seen():
    tree = chart_of(Line("a very long name of a system", 0, [(1, 50)]))
    [label] = found(tree, "g", "label")
    assert label.find("text").text == "a very long …"
    assert len(found(tree, "circle")) == 1
    assert found(chart_of(Line("x", 0, [(0, 1), (1, 1)])), "circle") == []
    assert len(found(chart_of(Line("x", 0, [(0, 1), (1, 1)], has_marks=True)), "circle")) == 2


def test_columns_under_the_pointer_touch():
    tree = chart_of(Line("x", 0, [(0, 1), (1, 1), (3, 1)]))
    boxes = [each.find("rect") for each in found(tree, "g", "hit")]
    spans = [(float(box.get("x")), float(box.get("width"))) for box in boxes]
    for (begin, width), (following, _) in pairwise(spans):
        assert abs(begin + width - following) < 0.1


def test_bars():
    tree = read(
        bar_chart(
            "title",
            "note",
            [Bar("ours", 0, 100, 80, 200), Bar("theirs", 1, 50, 50, 50), Bar("none", 2, 0, 0, 0)],
            rate_words,
        )
    )
    bars = found(tree, "g", "bar")
    widths = [float(each.find("rect").get("width")) for each in bars]
    assert widths == [210, 105, 1]  # the whisker to 200 is as wide as the chart
    assert len(found(tree, "g", "whisker")) == 1
    assert bars[0].get("data-tip") == "ours: 100/s\nlowest 80/s, highest 200/s"
    assert rows(tree)[1] == ["ours", "100/s", "80/s", "200/s"]
    [svg] = found(tree, "svg")
    assert svg.get("aria-label") == "title: ours 100/s, theirs 50/s, none 0/s"
    assert found(read(bar_chart("nothing", "", [], rate_words)), "svg")


def test_ranges():
    axis = logarithmic([1, 100], ms_words)
    tree = read(
        range_chart("title", "note", [Range("ours", 0, [("p50", 1), ("p99", 10)], "1 to 10")], axis)
    )
    [row] = found(tree, "g", "range")
    places = [
        float(re.findall(r"[0-9.]+", each.get("transform", ""))[0])
        for each in row
        if each.get("transform")
    ]
    assert places == [8.0, 210.0]
    assert rows(tree) == [["", "p50", "p99"], ["ours", "1 ms", "10 ms"]]
    assert found(tree, "line", "at") == []
    tree = read(range_chart("t", "", [Range("o", 0, [("m", 2)], "")], axis, shapes="▏", mark=10.0))
    assert [float(each.get("x1", 0)) for each in found(tree, "line", "at")] == [210.0]
    assert found(read(range_chart("nothing", "", [], axis)), "svg")
