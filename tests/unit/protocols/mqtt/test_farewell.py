"""The last packet says as much as the client takes, and never less than why."""

import pytest

from braidmq.protocols.mqtt import farewell
from braidmq.protocols.mqtt.reasons import Reason
from tests.conformance import packets as p
from tests.conformance.packets import V5, V31, V311
from tests.mqtt_peer import split

MOVED = Reason.SERVER_MOVED


def only(data, version=V5):
    (packet,), rest = split(data, version)
    assert not rest
    return packet


def test_a_goodbye_gives_the_reason_and_a_text_if_there_is_room():
    packet = only(farewell.goodbye(0x8D, "too long", 100))
    assert (packet.reason, packet.get(p.REASON_STRING)) == (0x8D, "too long")
    most = len(packet.raw)
    assert farewell.goodbye(0x8D, "too long", most) == packet.raw
    packet = only(farewell.goodbye(0x8D, "too long", most - 1))
    assert (packet.reason, packet.properties) == (0x8D, [])
    assert only(farewell.goodbye(0x8D, "", 100)).properties == []


def test_a_refusal_leaves_out_the_text_first_and_then_the_other_server():
    def told(most):
        packet = only(farewell.refusal(V5, MOVED, "moved", "there", most))
        assert packet.reason == 0x9D
        return packet.get(p.REASON_STRING), packet.get(p.SERVER_REFERENCE)

    assert told(100) == ("moved", "there")
    assert told(20) == (None, "there")
    assert told(12) == (None, None)


def test_the_other_server_is_told_to_whoever_shall_go_there():
    packet = only(farewell.refusal(V5, Reason.NOT_AUTHORIZED, "", "there", 100))
    assert packet.properties == []


@pytest.mark.parametrize("version", [V31, V311])
def test_before_mqtt_5_a_refusal_is_a_return_code(version):
    answer = farewell.refusal(version, Reason.NOT_AUTHORIZED, "no", "there", 100)
    assert answer == b"\x20\2\0\5"
