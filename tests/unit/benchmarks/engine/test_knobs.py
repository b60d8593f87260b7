"""Settings: read from files and from the command line, checked once, told in plain words."""

import re
from pathlib import Path

import msgspec
import pytest

from braidmq.benchmarks.engine.knobs import (
    HELP,
    Knobs,
    KnobsWrong,
    knob_problems,
    knobs_from,
    measured_seconds,
    parse_setting,
    steps_of,
)
from braidmq.benchmarks.engine.task import Step


def test_every_knob_says_what_it_means():
    assert list(HELP) == list(Knobs.__struct_fields__)


def test_the_defaults_are_in_order():
    assert knob_problems(Knobs()) == []


def test_settings_of_a_file_and_of_the_command_line_are_the_same():
    by_file = knobs_from({"producers": 10, "rate": 1500, "tls": True, "seconds": 2, "size": 100})
    by_hand = dict(
        map(parse_setting, ["producers=10", "rate=1500", "tls=yes", "seconds=2", "size=100"])
    )
    assert knobs_from(by_hand) == by_file
    assert by_file == Knobs(producers=10, rate="1500", tls=True, seconds=2.0, size="100")


def test_numbers_may_be_short():
    assert knobs_from({"destinations": "10k", "rate": 0.5}) == Knobs(
        destinations=10_000, rate="0.5"
    )


def test_a_name_may_have_dashes_on_the_command_line():
    assert parse_setting("warmup-seconds = 2") == ("warmup_seconds", "2")


def test_settings_change_only_what_they_name():
    base = Knobs(producers=7)
    assert knobs_from({"consumers": 3}, base) == msgspec.structs.replace(base, consumers=3)


def test_an_unknown_knob_is_named_with_the_nearest_one():
    with pytest.raises(KnobsWrong, match="there is no knob producer; did you mean producers"):
        knobs_from({"producer": 3})


def test_all_problems_are_told_at_once():
    with pytest.raises(KnobsWrong) as caught:
        knobs_from({"kind": "heap", "qos": 3, "tls": "perhaps", "batch": 1.5, "rate": "quick"})
    words = str(caught.value)
    for part in ("kind is one of queue", "qos is between 0 and 2", "tls: 'perhaps' is neither"):
        assert part in words
    assert "batch: '1.5' is not a whole number" in words
    assert "rate: 'quick' is not a number" in words


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"closed": 10, "rate": "1k"}, "a loop is closed, or it keeps to a rate"),
        ({"kind": "fifo"}, "needs keys"),
        ({"wildcards": 10}, "wildcards are for topics"),
        ({"kind": "topic", "wildcards": 10, "consumers": 11}, "each consumer needs a filter"),
        ({"kind": "topic", "wildcards": 10, "matching": 2}, "at most consumers"),
        ({"kind": "topic", "consumers": 5, "destinations": 3}, "a multiple of destinations"),
        ({"retain": True}, "only topics retain"),
        ({"kind": "stream", "reject_percent": 5}, "can be rejected"),
        ({"kill_after_seconds": 5, "rate": "1k:3s,2k:2s"}, "less than what is measured"),
        ({"slow_consumers": 2}, "some of the consumers"),
        ({"kind": "stream", "groups": 3}, "each group needs a consumer"),
        ({"groups": 1}, "always share"),
        ({"batch": 10_000, "size": "1M"}, "batch times size"),
        ({"size": "file:/nowhere/sizes"}, "size: .*nowhere"),
        ({"producers": "10" * 9}, "producers is between 0 and 10,000"),
        ({"producers": ["a"]}, "is not what this knob takes"),
        ({"processes": 2, "producers": 3, "messages": 2}, "at least one for each producer"),
        ({"slo": "99"}, "slo: '99' is not an objective"),
        ({"key_distribution": "normal"}, "key_distribution: 'normal' is no distribution"),
    ],
)
def test_what_does_not_go_together_is_refused(settings, words):
    with pytest.raises(KnobsWrong, match=words):
        knobs_from(settings)


@pytest.mark.parametrize("text", ["size", "=5", " = 5"])
def test_a_setting_is_a_name_and_a_value(text):
    with pytest.raises(KnobsWrong, match="is not knob=value"):
        parse_setting(text)


def test_the_steps_are_those_of_the_rate():
    assert steps_of(Knobs(rate="1k", seconds=2)) == [Step(2, 1000)]
    assert steps_of(Knobs()) == []
    assert measured_seconds(Knobs(seconds=2)) == 2
    assert measured_seconds(Knobs(rate="1k:3s,2k:4s")) == 7


def test_the_documentation_has_every_knob_with_its_default():
    page = Path(__file__).parents[4] / "docs" / "benchmarks.md"
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", page.read_text(), re.MULTILINE)
    documented = {name: (default.strip(), text.strip()) for name, default, text in rows}
    for name, text in HELP.items():
        default = getattr(Knobs(), name)
        shown = str(default).lower() if isinstance(default, bool) else str(default)
        assert documented.get(name) == (shown, text)
