"""What a STOMP listener grants."""

import pytest

from braidmq.broker.config import ConfigInvalid, file_layer, load
from braidmq.broker.config_listener import Listener
from braidmq.broker.stomp_options import HEART_BEAT_MS_MAX, StompOptions


@pytest.mark.parametrize("ms", [0, 1, HEART_BEAT_MS_MAX])
def test_what_can_be_set(ms):
    assert StompOptions(heart_beat_ms_min=ms).heart_beat_ms_min == ms


@pytest.mark.parametrize("ms", [-1, HEART_BEAT_MS_MAX + 1])
def test_what_is_out_of_range(ms):
    with pytest.raises(ValueError, match="heart_beat_ms_min"):
        StompOptions(heart_beat_ms_min=ms)


def from_text(text):
    return load(file_layer("test.toml", text)).config


def test_a_listeners_own_go_over_those_of_all():
    config = from_text(
        "stomp.heart_beat_ms_min = 50\n"
        "listeners = ['stomp://127.0.0.1', 'braid://127.0.0.1',"
        " {url = 'ws://127.0.0.1', stomp = {dialect = 'rabbitmq'}}]\n"
    )
    stomp, braid, http = config.listeners
    assert stomp.stomp == StompOptions(heart_beat_ms_min=50)
    assert braid.stomp == StompOptions()
    assert http.stomp == StompOptions(dialect="rabbitmq", heart_beat_ms_min=50)
    assert Listener(url="stomps://127.0.0.1").speaks_stomp


@pytest.mark.parametrize(
    "text",
    [
        "stomp.dialect = 'artemis'",
        "listeners = [{url = 'mqtt://127.0.0.1', stomp = {dialect = 'rabbitmq'}}]",
    ],
)
def test_what_makes_no_sense_is_refused(text):
    with pytest.raises(ConfigInvalid, match="stomp"):
        from_text(text)
