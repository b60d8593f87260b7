"""What an MQTT listener may be told."""

import msgspec
import pytest
from msgspec.structs import replace

from braidmq.broker.mqtt_options import OPTION_RANGES, MqttOptions


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
