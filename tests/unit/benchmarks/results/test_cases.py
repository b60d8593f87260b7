"""Which runs belong together, which are rivals, and what is left of them."""

from typing import Any

import pytest

from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.results.cases import (
    BROKEN,
    INVALID,
    cases,
    main_metric,
    memory,
    quantile_ms,
    rate,
    rate_in,
    rate_out,
    server_us,
)
from braidmq.benchmarks.results.result import ServerUse
from braidmq.benchmarks.summary import Spread
from tests.bench_results import a_result, a_run, histogram


def case_of(*runs):
    [case] = cases({"file": a_result(*runs)})
    return case


def test_rates():
    run = a_run(seconds=2, published=100, confirmed=80, received=60)
    assert (rate_in(run), rate_out(run), rate(run)) == (40, 30, 30)
    run = a_run(seconds=2, published=100, confirmed=0, received=0)
    assert (rate_in(run), rate_out(run), rate(run)) == (50, 0, 50)
    run.seconds = 0.0
    assert rate(run) == 0


def test_what_a_message_costs_the_broker():
    run = a_run(received=1_000, confirmed=10, server=ServerUse(cpu_seconds=0.5))
    assert server_us(run) == 500
    run.received = 0
    assert server_us(run) == 50_000
    run.confirmed = run.published = 0
    assert server_us(run) == 0
    assert memory(a_run(server=ServerUse(memory_end_bytes=7))) == 7


def test_the_latency_a_scenario_is_about_is_one_that_all_measured():
    both = a_run(latency={"response": histogram(1), "delivery": histogram(2), "lag": histogram(3)})
    one = a_run(latency={"response": histogram(4), "delivery": [], "lag": histogram(1)})
    assert main_metric([both]) == "delivery"
    assert main_metric([both, one]) == "response"
    assert main_metric([both, one, a_run(latency={})]) == "response"
    assert (
        main_metric([one, a_run(latency={"reply": histogram(1), "lag": histogram(1)})]) == "reply"
    )
    assert main_metric([a_run(latency={"lag": histogram(1)})]) == ""
    one.problems.append("all were lost")
    assert main_metric([both, one]) == "delivery"
    assert main_metric([one]) == "response"
    assert quantile_ms(one, "response", 0.5) == 4.0
    assert quantile_ms(one, "delivery", 0.5) == 0.0


def test_repeats_are_boiled_down():
    runs = [
        a_run(repeat=number, per_second=per_second, integrity=Integrity(lost=1), invalid=["busy"])
        for number, per_second in enumerate((300, 100, 200))
    ]
    [each] = case_of(*runs).figures
    assert each.rate == each.rate_in == each.rate_out == Spread(200, 100, 300)
    assert each.integrity.lost == 3
    assert each.latency.count == 1500
    assert list(each.quantiles) == ["p50", "p99", "p99.9", "max"]
    assert case_of(a_run(latency={})).figures[0].quantiles == {}
    assert each.invalid == ["busy"] and each.mark == INVALID
    assert each.ratio is None


def test_a_ratio_is_to_the_best_rival_of_the_same_valid_repeat():
    case = case_of(
        a_run("mosquitto", repeat=0, per_second=100),
        a_run("mosquitto", repeat=1, per_second=400),
        a_run("amqtt", repeat=0, per_second=200),
        a_run("amqtt", repeat=1, per_second=50, invalid=["robbed"]),
        a_run(repeat=0, per_second=600),
        a_run(repeat=1, per_second=800),
        a_run(repeat=2, per_second=9_000),  # nobody else had a third one
        a_run(repeat=3, per_second=9_000),
        a_run("amqtt", repeat=3, problems=["all were lost"]),
    )
    assert case.measure.name == "rate"
    ratios = {each.label: each.ratio for each in case.figures}
    assert list(ratios) == ["braidmq", "mosquitto", "amqtt"]
    assert ratios["braidmq"] == Spread(3.0, 3.0, 3.0)
    assert ratios["mosquitto"] == Spread(4.0, 2.0, 6.0)
    assert ratios["amqtt"] == Spread(3.0, 3.0, 3.0)  # neither the invalid one nor the broken one


def test_a_ratio_is_marked_when_no_repeat_of_it_is_sound():
    late: dict[str, Any] = {"invalid": ["late"]}
    lossy: dict[str, Any] = {"problems": ["1 lost"]}

    def marked(*runs):
        ours = case_of(*runs).figures[0]
        assert ours.is_ours
        return ours.ratio_mark

    assert marked(a_run(), a_run("redis")) == ""
    assert marked(a_run(), a_run("redis", **late)) == INVALID
    assert marked(a_run(**late), a_run("redis")) == INVALID
    assert marked(a_run(**lossy), a_run("redis")) == BROKEN
    assert marked(a_run(), a_run(repeat=1, **lossy), a_run("redis"), a_run("redis", repeat=1)) == ""
    assert marked(a_run(repeat=2), a_run("redis", repeat=1)) == ""  # there is no ratio


def test_a_peer_that_never_kept_its_promise_is_no_rival_where_others_did():
    honest = a_run("redis", per_second=100)
    lossy = a_run("amqtt", per_second=900, problems=["1 lost"])
    ours, redis, amqtt = case_of(a_run(per_second=300), honest, lossy).figures
    assert (ours.ratio, ours.ratio_mark) == (Spread(3.0, 3.0, 3.0), "")
    assert (redis.label, redis.ratio) == ("redis", Spread(3.0, 3.0, 3.0))
    assert amqtt.ratio == Spread(300 / 900, 300 / 900, 300 / 900)
    assert [each.mark for each in (ours, redis, amqtt)] == ["", "", BROKEN]
    ours, _ = case_of(a_run(per_second=300), lossy).figures
    assert (ours.ratio, ours.ratio_mark) == (amqtt.ratio, INVALID)


def test_rivals_speak_one_protocol_or_each_its_own():
    case = case_of(
        a_run("redis", "redis", per_second=100),
        a_run("braidmq", "mqtt", per_second=800),
        a_run("braidmq", "braid", per_second=300),
        a_run("mosquitto", "mqtt", per_second=200),
    )
    found = {each.label: each.ratio.median for each in case.figures if each.ratio}
    assert found == {"braidmq braid": 3.0, "redis": 3.0, "braidmq mqtt": 4.0, "mosquitto": 4.0}
    alone = case_of(a_run("braidmq", "stomp"), a_run("mosquitto", "mqtt", per_second=500))
    assert [each.ratio and each.ratio.median for each in alone.figures] == [2.0, 2.0]


def test_where_the_rate_is_given_latency_is_compared():
    case = case_of(
        a_run(loop="open", latency={"delivery": histogram(1.0)}),
        a_run("mosquitto", loop="open", latency={"delivery": histogram(0.5)}),
    )
    assert case.measure.name == "delivery p50" and case.loop == "open"
    assert case.figures[0].ratio and case.figures[0].ratio.median == 0.5


def test_what_has_no_rate_is_compared_by_its_own_figure():
    nothing: dict[str, Any] = {"published": 0, "confirmed": 0, "received": 0, "latency": {}}
    case = case_of(
        a_run(figures={"connection_bytes": 3_000.0}, **nothing),
        a_run("mosquitto", figures={"connection_bytes": 750.0}, **nothing),
    )
    assert case.figures[0].ratio == Spread(0.25, 0.25, 0.25)
    assert case.figures[0].figures == {"connection_bytes": Spread(3_000, 3_000, 3_000)}
    case = case_of(
        a_run(figures={"connections_per_second": 3_000.0}, **nothing),
        a_run("mosquitto", figures={"connections_per_second": 750.0}, **nothing),
    )
    assert case.figures[0].ratio == Spread(4.0, 4.0, 4.0)
    assert case_of(a_run(**nothing)).figures[0].ratio is None


def test_what_a_scenario_is_about_counts_more_than_its_rate():
    case = case_of(
        a_run(figures={"recovery_seconds": 0.5}, loop="open"),
        a_run("mosquitto", figures={"reconnects": 3.0, "recovery_seconds": 2.0}, loop="open"),
    )
    assert case.measure.name == "recovery_seconds"
    assert case.figures[0].ratio == Spread(4.0, 4.0, 4.0)
    assert case_of(a_run(figures={"recovery_seconds": 1.0}), a_run("x")).measure.name == "rate"


def test_a_sweep_is_several_cases():
    runs = [a_run(knobs={"size": size, "seed": at}) for at, size in enumerate((10, 100, 10))]
    found = cases({"file": a_result(*runs)})
    assert [case.title for case in found] == ["e2e size=10", "e2e size=100"]
    assert [len(case.figures[0].runs) for case in found] == [2, 1]


def test_knobs_that_differ_between_systems_are_no_sweep():
    case = case_of(a_run(knobs={"qos": 1}), a_run("redis", "redis", knobs={"qos": 0}))
    assert case.title == "e2e"


@pytest.mark.parametrize("knobs", [{"size": "200", "rate": "max"}, {"size": "1000"}])
def test_two_files(knobs):
    found = cases({"a": a_result(a_run()), "b": a_result(a_run(knobs=knobs), a_run("redis"))})
    if knobs["size"] == "200":
        [case] = found
        # The redis of another file was another day: no ratio to ours of that one.
        assert [(each.label, bool(each.ratio)) for each in case.figures] == [
            ("braidmq (a)", False),
            ("braidmq (b)", True),
            ("redis", True),
        ]
    else:
        assert [case.varied["size"] for case in found] == ["200", "1000"]
