"""Which charts a scenario gets, and what a sweep is."""

import pytest

from braidmq.benchmarks.results.cases import cases
from braidmq.benchmarks.results.sections import (
    case_section,
    doubt_list,
    numbers_of,
    ratio_section,
    sweep_section,
    tones,
)
from tests.bench_results import a_result, a_run, histogram


def found(*runs):
    return cases({"file": a_result(*runs)})


def titles(markup):
    return [part.split("</h4>")[0] for part in str(markup).split("<h4>")[1:]]


def test_a_scenario():
    some = found(a_run(), a_run("mosquitto", figures={"recovery_seconds": 2.0}))
    section = case_section(some[0], "part-0", [0, 1])
    assert titles(section) == [
        "Messages a second",
        "Latency: delivery",
        "Broker CPU for a message",
        "Broker memory (RSS)",
        "Recovery",
        "Throughput over time",
        "Latency by percentile",
        "Latency over time: braidmq",
        "Latency over time: mosquitto",
    ]
    assert 'id="part-0"' in section and "as fast as it goes" in section


def test_a_scenario_that_measured_next_to_nothing():
    run = a_run(published=0, confirmed=0, received=0, latency={}, series=[], figures={"x_ms": 1.0})
    run.server.cpu_seconds = 0
    assert titles(case_section(found(run)[0], "a", [0])) == ["Broker memory (RSS)", "X"]


def test_a_fan_out_shows_what_goes_in_too():
    run = a_run()
    run.received *= 10
    assert "Messages in, a second" in titles(case_section(found(run)[0], "a", [0]))


def test_who_measured_another_latency_is_told_apart():
    other = a_run("redis", "redis", latency={"response": histogram(1, 2)}, problems=["all lost"])
    section = str(case_section(found(a_run(), other)[0], "a", [0, 1]))
    assert "Latency: delivery" in titles(section)
    assert "redis (response)" in section and "response: redis" in section


def test_a_storm_is_of_connections():
    run = a_run(latency={"connect": histogram(1, 2)})
    assert titles(case_section(found(run)[0], "a", [0]))[0] == "Connections a second"


def test_a_long_run_shows_whether_memory_grows():
    assert "Broker memory over time" in titles(case_section(found(a_run(seconds=30))[0], "a", [0]))
    run = a_run(seconds=30)
    run.series[0].server_bytes = 0  # nobody looked
    section = str(case_section(found(run)[0], "a", [0]))
    assert "<td>64 MiB</td>" in section and "<td>0 MiB</td>" not in section
    for second in run.series:
        second.server_bytes = 0
    assert "Broker memory over time" not in titles(case_section(found(run)[0], "a", [0]))


def test_knobs_that_differ_between_systems_are_told_apart():
    some = found(a_run(knobs={"qos": 1}), a_run("redis", "redis", knobs={"qos": 0}))
    assert "braidmq: 1; redis: 0" in case_section(some[0], "a", [0, 1])


def test_doubts_stand_where_the_figures_stand():
    some = found(a_run(problems=["3 lost"]), a_run("amqtt", invalid=["the load was <late>"]))
    section = str(case_section(some[0], "a", [0, 1]))
    assert "braidmq ✖" in section and "amqtt ⚠" in section
    broken, invalid = doubt_list(some[0].figures)
    assert "✖ broken</strong> braidmq: 3 lost" in broken
    assert "⚠ invalid</strong> amqtt: the load was &lt;late&gt;" in invalid
    assert doubt_list(found(a_run())[0].figures) == []


def test_a_system_keeps_its_tone_as_far_as_that_is_possible():
    some = found(
        a_run("mosquitto", scenario="one"),
        a_run(scenario="one"),
        a_run("redis", "redis", scenario="two"),
        a_run("braidmq", "braid", scenario="two"),
        a_run("mosquitto", scenario="two"),
        a_run("braidmq", "mqtt", scenario="two"),
    )
    tone = tones(some)
    by_label = [
        {each.label: shade for each, shade in zip(case.figures, tone(case), strict=True)}
        for case in some
    ]
    assert by_label[0] == {"braidmq": 0, "mosquitto": 1}
    assert by_label[1]["braidmq braid"] == 0 and by_label[1]["mosquitto"] == 1
    assert len(set(by_label[1].values())) == 4
    many = found(*(a_run(f"system {at}") for at in range(11)))[0]
    assert len(tones([many])(many)) == 11


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (("10", "1k", "1M"), [10, 1e3, 1e6]),
        (("1Ki", "4Ki"), [1024, 4096]),
        ((1, 2.5), [1, 2.5]),
        (("10", "big"), None),
        ((0, 1), None),
        (("5",), None),
    ],
)
def test_a_sweep_is_over_numbers(values, numbers):
    some = found(*(a_run(knobs={"size": value}) for value in values))
    assert numbers_of(some) == (("size", numbers) if numbers else None)


def test_two_knobs_at_once_are_no_sweep():
    some = found(a_run(knobs={"a": 1, "b": 1}), a_run(knobs={"a": 2, "b": 2}))
    assert numbers_of(some) is None


def test_a_sweep():
    some = found(
        *(
            a_run(knobs={"size": size}, per_second=rate, invalid=invalid)
            for size, rate, invalid in (("1k", 10, []), ("10", 100, ["robbed"]))
        ),
        a_run("mosquitto", knobs={"size": "10"}, figures={"x_bytes": 3.0}),
    )
    section = sweep_section(some, "part-1", tones(some))
    assert titles(section) == [
        "Messages a second",
        "Latency p50",
        "Latency p99",
        "Broker CPU for a message",
        "Broker memory (RSS)",
        "X",
    ]
    assert "cost as size grows" in section and "e2e size=10" in section and "robbed" in section
    # From the smallest value to the largest, whatever ran first.
    assert section.index('data-tip="10&#10;') < section.index('data-tip="1k&#10;')
    assert '<th scope="row">size</th>' not in section, "it is no knob that all have"


def test_ratios():
    some = found(
        a_run(per_second=400),
        a_run("mosquitto", per_second=100),
        a_run(scenario="slow", per_second=50),
        a_run("mosquitto", scenario="slow", per_second=100),
        a_run(scenario="alone"),
    )
    section = str(ratio_section(some))
    assert "e2e" in section and "4.00 (4.00-4.00)" in section and "alone" not in section
    assert 'class="range tone-0"' in section and 'class="range tone-1"' in section
    assert ratio_section(found(a_run())) is None


def test_a_ratio_that_is_not_to_be_believed_says_so():
    some = found(a_run(problems=["lost"]), a_run("mosquitto"))
    assert "e2e ✖" in str(ratio_section(some))
    some = found(a_run(), a_run("mosquitto", problems=["lost"]))
    assert "e2e ⚠" in str(ratio_section(some))
    some = found(a_run(), a_run("mosquitto"), a_run("amqtt", problems=["lost"]))
    assert "e2e" in str(ratio_section(some)) and "e2e ✖" not in str(ratio_section(some))
