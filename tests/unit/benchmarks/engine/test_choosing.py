"""Which systems a scenario is run on, and by which protocols."""

import pytest

from braidmq.benchmarks.engine.choosing import Choice, choices
from braidmq.benchmarks.engine.scenario import read_scenario
from braidmq.benchmarks.systems.registry import SYSTEMS
from tests.unit.benchmarks.engine.fake_systems import Absent, Present


@pytest.fixture(autouse=True)
def systems(monkeypatch):
    monkeypatch.setitem(SYSTEMS, "absent", Absent())
    monkeypatch.setitem(SYSTEMS, "present", Present())


def test_a_system_is_spoken_with_by_the_first_protocol_it_has():
    found, missing = choices(read_scenario("retained"), ["present"])
    assert (found, missing) == ([Choice("present", "mqtt")], {})
    found, _ = choices(read_scenario("retained"), ["present/braid"])
    assert found == [Choice("present", "braid")]


def test_what_cannot_take_part_is_named_with_the_reason():
    _, missing = choices(read_scenario("fanin"), ["absent"])
    assert missing == {"absent": "absent is not installed (apt install absent)"}
    _, missing = choices(read_scenario("stream-tail"), ["present/mqtt"])
    assert missing == {"present/mqtt": "has no stream"}


def test_without_names_it_is_everybody_and_some_by_every_protocol():
    found, missing = choices(read_scenario("fanin"), every_protocol_of={"present"})
    assert Choice("present", "braid") in found and Choice("present", "mqtt") in found
    assert Choice("braidmq", "braid") in found and Choice("braidmq", "mqtt") not in found
    assert "absent" in missing and "present" not in missing
    found, _ = choices(read_scenario("fanin"), ["present"], every_protocol_of={"present"})
    assert [choice.scheme for choice in found] == ["braid", "mqtt"]


@pytest.mark.parametrize("name", ["kafka", "present/amqp"])
def test_who_is_unknown_is_refused(name):
    with pytest.raises(ValueError, match=r"no system kafka|serves braid, mqtt, not amqp"):
        choices(read_scenario("e2e"), [name])


def test_a_url_is_a_system_of_its_own():
    found, _ = choices(read_scenario("e2e"), url="braid://localhost:7450")
    assert found == [Choice("localhost:7450", "braid", "braid://localhost:7450")]
    found, missing = choices(read_scenario("stream-tail"), url="mqtt://localhost:1883")
    assert (found, missing) == ([], {"mqtt://localhost:1883": "has no stream"})
    with pytest.raises(ValueError, match="no driver speaks"):
        choices(read_scenario("e2e"), url="gopher://localhost")
