"""What an MQTT listener may be told."""

import msgspec
import pytest
from msgspec.structs import replace

from braidmq.broker.letters import TARGETS_MAX
from braidmq.broker.limits import Limits
from braidmq.broker.mqtt_options import OPTION_RANGES, MqttOptions
from braidmq.storage.log import RECORD_BYTES_MAX
from braidmq.storage.record import encode_message


@pytest.mark.parametrize("name", OPTION_RANGES)
def test_every_number_has_a_range(name):
    least, most = OPTION_RANGES[name]
    for value in (least, most):
        assert getattr(replace(MqttOptions(), **{name: value}), name) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"{name} is {value}; it is between {least} and"):
            replace(MqttOptions(), **{name: value})


def test_no_number_is_without_a_range():
    numbers = {
        field.name
        for field in msgspec.structs.fields(MqttOptions)
        if isinstance(field.default, int)
    }
    switches = {name for name in numbers if isinstance(getattr(MqttOptions(), name), bool)}
    assert numbers - switches == set(OPTION_RANGES)


@pytest.mark.parametrize("text", ["x" * 65_536, "a\0b", "é" * 32_768])
@pytest.mark.parametrize("name", ["server_reference", "response_information"])
def test_texts_that_no_packet_can_hold(name, text):
    with pytest.raises(ValueError, match=name):
        replace(MqttOptions(), **{name: text})


def test_all_that_is_wrong_is_told_at_once():
    with pytest.raises(
        ValueError, match=r"^receive_maximum is 0; .*, and maximum_qos is 3; .*, and resp"
    ):
        MqttOptions(receive_maximum=0, maximum_qos=3, response_information="\0")


def test_the_largest_packet_fits_into_a_record():
    """However many sessions get it, retained, and with an identifier of QoS 2."""
    most = OPTION_RANGES["maximum_packet_size_bytes"][1]
    targets = [(1, number) for number in range(TARGETS_MAX + 2)]
    attributes = bytes(Limits().headers_bytes_max)
    head, _ = encode_message(targets, 1, attributes, b"", 1, 1, 1, bytes(16), (1, 1))
    assert len(head) + most <= RECORD_BYTES_MAX
