"""Seconds into milliseconds, settings into values."""

from datetime import UTC, datetime, timedelta

import pytest

from braidmq.broker import InvalidArgument
from braidmq.broker.message import Browsed
from braidmq.broker.settings import QueueSettings
from braidmq.broker.values import (
    BrowsedMessage,
    QueueOptions,
    message_id,
    milliseconds,
    moment,
    setting_values,
)
from braidmq.storage.log import Durability


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (1, 1000), (0.0015, 2), (timedelta(days=1), 86_400_000), (1e6, 10**9)],
)
def test_seconds_become_milliseconds(value, expected):
    assert milliseconds(value, "delay") == expected


@pytest.mark.parametrize("value", [-1, -0.001, timedelta(seconds=-1), float("nan"), float("inf")])
def test_times_that_are_none_are_refused(value):
    with pytest.raises(InvalidArgument, match="delay"):
        milliseconds(value, "delay")


def test_text_is_no_time():
    with pytest.raises(InvalidArgument):
        milliseconds("5m", "delay")  # type: ignore[arg-type]


def test_a_message_has_one_name():
    assert message_id(0x0123456789ABCDEF, 4096) == "0123456789abcdef0000000000001000"
    assert len(message_id(2**64 - 1, 2**64 - 1)) == 32


def test_moments_have_a_zone():
    assert moment(1_500) == datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)


def test_settings_are_translated():
    options: QueueOptions = {
        "durability": "os",
        "visibility_timeout": timedelta(minutes=1),
        "ttl": 5,
        "max_receives": 3,
        "dead_letter": "dead",
    }
    assert setting_values(options) == {
        "durability": Durability.OS,
        "visibility_timeout_ms": 60_000,
        "ttl_ms": 5_000,
        "max_receives": 3,
        "dead_letter": "dead",
    }
    with pytest.raises(InvalidArgument, match="durability"):
        setting_values({"durability": "paper"})


def test_every_setting_has_an_option():
    options = setting_values(dict.fromkeys(QueueOptions.__annotations__, 0) | {"durability": "os"})
    assert set(options) | {"start_ms"} == set(QueueSettings.__struct_fields__)


def test_a_view_starts_at_a_word_or_at_a_time():
    assert setting_values({"start": "latest"}) == {"start": "latest"}
    when = datetime(2026, 5, 1, 12, tzinfo=UTC)
    start_ms = 1_777_636_800_000
    assert setting_values({"start": when}) == {"start": "time", "start_ms": start_ms}
    with pytest.raises(InvalidArgument, match="time zone"):
        setting_values({"start": datetime(2026, 5, 1)})


def test_a_browsed_message_tells_what_it_is():
    message = BrowsedMessage(Browsed(7, "ready", 2, 1, 1_500, b"\x81\xa1a\xa1b", b"body"), 1)
    assert (message.sequence, message.state, message.receives) == (7, "ready", 2)
    assert message.headers == {"a": "b"} and message.body == b"body"
    assert message.sent_at == moment(1_500) and message.id == message_id(1, 1)
    assert repr(message) == "<BrowsedMessage 7 ready, 4 bytes>"
