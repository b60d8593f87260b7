"""Scenarios: ours are in order, and a wrong one says what is wrong with it."""

from typing import Any

import pytest

from braidmq.benchmarks.engine.scenario import (
    NAMES,
    SHAPES,
    Scenario,
    ScenarioWrong,
    needs,
    read_scenario,
    scenario_path,
    with_settings,
    without,
)

GOOD = """
name = "mine"
description = "Mine."
shape = "flow"
protocols = ["braid"]
[knobs]
rate = "1k"
"""


@pytest.mark.parametrize("name", NAMES)
def test_every_scenario_of_ours_can_be_read(name):
    scenario = read_scenario(name)
    assert scenario.name == name
    assert scenario.description.endswith(".")
    assert "braid" in scenario.protocols


def test_there_is_no_file_without_a_place_in_the_order():
    assert {path.stem for path in scenario_path("e2e").parent.iterdir()} == set(NAMES)


def test_every_shape_is_used():
    assert {read_scenario(name).shape for name in NAMES} == set(SHAPES)


def test_a_file_of_ones_own_is_a_scenario_too(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD)
    assert read_scenario(str(file)).knobs.rate == "1k"


def test_settings_come_after_the_file():
    assert read_scenario("e2e", {"rate": "5k", "seed": 9}).knobs.rate == "5k"


def test_settings_of_a_mixed_scenario_are_those_of_its_parts():
    mixed = read_scenario("mixed", {"seconds": 2})
    assert [part.knobs.seconds for part in mixed.parts] == [2.0, 2.0, 2.0]
    assert needs(mixed) == {"queue", "topic", "stream"}


def test_an_unknown_scenario_is_named_with_the_nearest_one():
    with pytest.raises(ScenarioWrong, match="no scenario fannout; did you mean fanout"):
        read_scenario("fannout")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("rate", "rat"), "there is no knob rat; did you mean rate"),
        (("shape", "sharp"), "there is no setting sharp; did you mean shape"),
        (('"flow"', '"river"'), "shape is one of publish"),
        (('description = "Mine."', ""), "it needs a description"),
        (('name = "mine"', "name = 5"), "it needs a name"),
        (('["braid"]', '"braid"'), "protocols is a list of names"),
        (('["braid"]', "[]"), "it needs protocols"),
        (("[knobs]", "knobs = 5\n[other]"), "there is no setting other"),
        (('rate = "1k"', "consumers = 0"), "a flow scenario needs consumers"),
        (('"flow"', '"drain"'), "a drain scenario needs a backlog"),
        (('"flow"', '"mixed"'), "needs parts"),
        (('"flow"\n', '"mixed"\nparts = ["mixed"]\n'), "a part has no parts itself"),
        (('"flow"\n', '"mixed"\nparts = ["idle"]\n'), "idle: parts are of shapes publish, flow"),
        (('"1k"', '"1k'), "mine.toml"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(tmp_path, change, words):
    file = tmp_path / "mine.toml"
    file.write_text(GOOD.replace(*change))
    with pytest.raises(ScenarioWrong, match=words):
        read_scenario(str(file))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ScenarioWrong, match=r"gone\.toml"):
        read_scenario(str(tmp_path / "gone.toml"))


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("idle", {"rate": "max"}, "opened at a rate"),
        ("restart", {"rate": "max"}, "kill_after_seconds needs a rate"),
        ("connection-storm", {"rate": "max"}, "opened at a rate"),
        ("retained", {"backlog": 5}, "one for each topic"),
        (
            "request-reply",
            {"destinations": 1, "consumers": 1, "producers": 0},
            "a reply scenario needs producers",
        ),
    ],
)
def test_a_shape_asks_something_of_the_knobs(name, settings, words):
    with pytest.raises(ScenarioWrong, match=words):
        with_settings(read_scenario(name), settings)


class QueuesOnly:
    kinds = frozenset({"queue"})
    features = frozenset({"confirms", "delay"})


def test_what_a_driver_does_not_have_is_known_beforehand():
    driver: Any = QueuesOnly()
    assert without(read_scenario("pub"), driver) == set()
    assert without(read_scenario("pub"), driver, frozenset({"confirms"})) == {"confirms"}
    assert without(read_scenario("delay"), driver) == set()
    assert without(read_scenario("fanout"), driver) == {"topic"}
    assert without(read_scenario("dead-letters"), driver) == {"reject", "dead_letters"}
    assert without(read_scenario("idle"), driver) == set()
    assert without(read_scenario("idle", {"tls": True}), driver) == {"tls"}


def test_a_scenario_needs_what_its_knobs_need():
    knobs = {"kind": "topic", "qos": 2, "consumers": 4, "groups": 2, "retain": True, "closed": 1}
    scenario = with_settings(read_scenario("fanin", {"rate": "max"}), knobs)
    assert isinstance(scenario, Scenario)
    assert needs(scenario) == {"topic", "qos2", "groups", "retain", "confirms"}
