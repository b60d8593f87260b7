"""What changed between two results, and what may not be said of it."""

import pytest

from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.results import compare
from braidmq.benchmarks.results.compare import (
    Gate,
    KnobsDiffer,
    comparison,
    comparison_text,
    failed_gates,
    idle_gates,
    parse_gate,
)
from tests.bench_results import a_result, a_run


def runs(*rates, **changes):
    return [
        a_run(repeat=number, per_second=per_second, **changes)
        for number, per_second in enumerate(rates)
    ]


def changes(found, where="e2e, braidmq, mqtt"):
    return {each.figure: each for each in found.changes if each.where == where}


def test_a_difference_that_is_shown():
    found = comparison(
        a_result(*runs(1000, 1010, 1020, 1030)), a_result(*runs(2000, 2020, 2040, 2060))
    )
    rate = changes(found)["rate"]
    assert rate.judged == (1015, 2030)
    assert rate.percent == pytest.approx(100)
    assert rate.p == pytest.approx(2 / 70) and rate.verdict == "more"
    assert rate.interval and rate.interval[0] < 2 < rate.interval[1]
    assert changes(found)["cpu"].verdict == "less"
    assert found.environments == found.knobs == found.unmatched == found.doubts == []
    text = comparison_text(found)
    assert "e2e, braidmq, mqtt  rate /s" in text and "+100.0 %" in text
    assert "figures that do not differ" in text


def test_none_that_is_shown():
    found = comparison(a_result(*runs(1, 3, 5, 7)), a_result(*runs(2, 4, 6, 8)))
    assert changes(found)["rate"].verdict == "no difference shown"
    assert "no difference shown" in comparison_text(found)


def test_too_few_repeats():
    found = comparison(a_result(*runs(1000, 1001, 1002)), a_result(*runs(9000, 9001, 9002)))
    rate = changes(found)["rate"]
    assert rate.verdict == "too few repeats to show a difference (p is 0.1 at least)"
    assert "by chance" not in comparison_text(found)
    [alone] = [
        each
        for each in comparison(a_result(a_run()), a_result(a_run())).changes
        if each.figure == "rate"
    ]
    assert alone.interval is None and "p is 1 at least" in alone.verdict


def test_knobs_that_differ_are_refused():
    one, other = a_result(*runs(9, knobs={"size": 1})), a_result(*runs(9, knobs={"size": 2}))
    with pytest.raises(KnobsDiffer, match="e2e, braidmq, mqtt: size: 1 and 2"):
        comparison(one, other)
    found = comparison(one, other, despite_knobs=True)
    assert "rate" in changes(found)
    assert "KNOBS DIFFER: e2e, braidmq, mqtt: size: 1 and 2" in comparison_text(found)


def test_neither_a_seed_nor_a_knob_that_one_file_does_not_know_is_a_difference():
    one = a_result(*runs(9, knobs={"size": 1, "seed": 1, "old": 3}))
    other = a_result(*runs(9, knobs={"size": 1, "seed": 2, "new": 4}))
    assert "rate" in changes(comparison(one, other))


def test_of_a_sweep_what_is_the_same():
    one = a_result(*(a_run(knobs={"size": size}) for size in (1, 2)))
    other = a_result(*(a_run(knobs={"size": size}) for size in (2, 3)))
    found = comparison(one, other)
    assert {each.where for each in found.changes} == {"e2e, braidmq, mqtt size=2"}
    assert found.unmatched == [
        "e2e, braidmq, mqtt size=1: only in the first",
        "e2e, braidmq, mqtt size=3: only in the second",
    ]


def test_what_only_one_has():
    found = comparison(a_result(a_run()), a_result(a_run("redis", "redis")))
    assert found.unmatched == [
        "e2e, braidmq, mqtt: only in the first",
        "e2e, redis, redis: only in the second",
    ]
    assert comparison_text(found).splitlines()[0] == "nothing in common"


def test_other_machines_and_versions_are_named():
    one, other = a_result(a_run()), a_result(a_run())
    other.environment.cpu = "another processor"
    other.environment.load_average = 9.0
    other.environment.versions["uvloop"] = "0.23"
    other.systems[0].version = "1.3"
    other.systems[0].settings["durability"] = "none"
    assert comparison(one, other).environments == [
        "cpu: a processor and another processor",
        "version of uvloop: 0.22 and 0.23",
        "braidmq: 1.2 and 1.3",
        "braidmq: durability: synced and none",
    ]


def test_invalid_runs_are_left_out_when_there_are_others_and_said():
    before = runs(1000, 1000)
    before[0].invalid.append("robbed")
    before[0].received = 1
    after = runs(1000)
    after[0].invalid.append("late")
    found = comparison(a_result(*before), a_result(*after))
    assert changes(found)["rate"].before == [1000]
    assert changes(found)["rate"].after == [1000]
    assert found.doubts == [
        "e2e, braidmq, mqtt, repeat 1 of the first: robbed",
        "e2e, braidmq, mqtt, repeat 1 of the second: late",
    ]


def test_repeats_that_broke_a_promise_are_left_out_when_there_are_others():
    broken = a_run(repeat=1, per_second=9_000, problems=["3 lost"], milliseconds=90)
    found = comparison(a_result(*runs(1000)), a_result(*runs(1000), broken))
    assert changes(found)["rate"].after == [1000]
    assert len(changes(found)["p99"].after) == 1
    assert found.doubts == ["e2e, braidmq, mqtt, repeat 2 of the second: 3 lost"]


def test_what_was_lost_in_one_repeat_is_not_left_out_for_being_wrong():
    lossy = a_run(repeat=2, integrity=Integrity(lost=5, duplicate=2), problems=["5 lost"])
    found = comparison(a_result(*runs(1000, 1000, 1000)), a_result(*runs(1000, 1000), lossy))
    assert changes(found)["lost"].after == [0, 0, 5]
    assert changes(found)["lost"].judged == (0, 5)
    assert changes(found)["duplicate"].judged == (0, 2)
    [failed] = failed_gates(found, [parse_gate("lost>0"), parse_gate("duplicate>2")])
    assert failed.startswith("FAILED lost>0: e2e, braidmq, mqtt: 0 -> 5")
    text = comparison_text(found)
    assert "mqtt  lost " in text and "mqtt  duplicate " in text


def test_chance_is_asked_only_for_what_is_shown(monkeypatch):
    asked = []
    monkeypatch.setattr(compare, "ratio_interval", lambda *both: asked.append(both))
    found = comparison(a_result(*runs(9, 9)), a_result(*runs(9, 9)))
    assert failed_gates(found, [parse_gate("max>0")]) and asked == []
    comparison_text(found)
    assert len(asked) == 6 < len(found.changes)


def test_a_latency_that_one_did_not_measure_did_not_get_better():
    found = comparison(a_result(a_run()), a_result(a_run(latency={})))
    assert "p99" not in changes(found)
    assert "e2e, braidmq, mqtt: p99 only in the first" in found.doubts


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("rate<-5%", Gate("rate", "<", -5.0, True)),
        (" p99 > 10.5 % ", Gate("p99", ">", 10.5, True)),
        ("lost>0", Gate("lost", ">", 0.0, False)),
    ],
)
def test_gates(text, gate):
    assert parse_gate(text) == gate
    assert str(gate) == text.replace(" ", "")


@pytest.mark.parametrize("text", ["rate", "rate=5%", "rate<-5%%", "rate<x", "speed<5%", ""])
def test_no_gates(text):
    with pytest.raises(ValueError, match=r"is not (like|one of)"):
        parse_gate(text)


def test_a_gate_of_a_figure_that_nobody_compared_is_idle():
    found = comparison(a_result(a_run()), a_result(a_run(latency={})))
    gates = [parse_gate(text) for text in ("p99>10%", "rate<-5%", "lost>0")]
    assert idle_gates(found, gates) == gates[:1]


def test_nothing_at_all_is_a_figure_too():
    dead = a_run(published=0, confirmed=0, received=0)
    found = comparison(a_result(dead), a_result(dead))
    assert failed_gates(found, [parse_gate("rate<100")])
    assert "rate /s" not in comparison_text(found)


def test_a_gate_fails_by_the_medians():
    lossy = a_run(per_second=900, integrity=Integrity(lost=2))
    found = comparison(a_result(*runs(1000)), a_result(lossy))
    assert failed_gates(found, [parse_gate("rate<-15%"), parse_gate("p99>900")]) == []
    slow, lost, _ = failed_gates(
        found, [parse_gate("rate<-5%"), parse_gate("lost>0"), parse_gate("lost>5%")]
    )
    assert slow.startswith("FAILED rate<-5%: e2e, braidmq, mqtt: 1,000 -> 900 (-10.0 %; too few")
    assert lost.startswith("FAILED lost>0: e2e, braidmq, mqtt: 0 -> 2 (+inf %")
    assert "lost" in comparison_text(found)
