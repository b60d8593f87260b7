"""Settings: every one has a range, and some need each other."""

import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.limits import (
    DELAY_MS_MAX,
    NAME_BYTES_MAX,
    RETENTION_MS_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    VISIBILITY_TIMEOUT_MS_MAX,
)
from braidmq.broker.settings import QueueSettings, check_name, settings_from
from braidmq.storage.log import Durability

RANGES = {
    "visibility_timeout_ms": VISIBILITY_TIMEOUT_MS_MAX,
    "delay_ms": DELAY_MS_MAX,
    "ttl_ms": RETENTION_MS_MAX,
    "retention_ms": RETENTION_MS_MAX,
    "max_receives": 65_535,
    "messages_max": 2**40,
    "bytes_max": 2**50,
}


@pytest.mark.parametrize("name", RANGES)
def test_numbers_have_a_range(name):
    for good in (0, RANGES[name]):
        settings_from({name: good, "dead_letter": "d"}).check()
    for bad in (-1, RANGES[name] + 1):
        with pytest.raises(InvalidArgument, match=name):
            settings_from({name: bad, "dead_letter": "d"}).check()


@pytest.mark.parametrize(
    "settings",
    [
        {"overflow": "explode"},
        {"dedup_scope": "world", "fifo": True},
        {"content_dedup": True},
        {"dedup_scope": "group"},
        {"max_receives": 1},
        {"dead_letter_expired": True},
        {"overflow": "dead-letter"},
        {"dead_letter": "a b"},
        {"tags": {str(number): "" for number in range(TAGS_MAX + 1)}},
        {"tags": {"a": "x" * TAG_BYTES_MAX}},
        {"tags": {"a": "\ud800"}},
        {"stream": "a b"},
        {"group_affinity": True, "fifo": True},
        {"stream": "s", "fifo": True},
        {"stream": "s", "group_affinity": True},
        {"stream": "s", "delay_ms": 1},
        {"stream": "s", "ttl_ms": 1},
        {"stream": "s", "retention_ms": 1},
        {"stream": "s", "messages_max": 1},
        {"stream": "s", "bytes_max": 1},
        {"stream": "s", "dead_letter": "d", "dead_letter_expired": True},
        {"stream": "s", "start": "tomorrow"},
        {"stream": "s", "start": "time"},
        {"stream": "s", "start": "latest", "start_ms": 1},
        {"stream": "s", "start": "time", "start_ms": -1},
        {"start": "latest"},
    ],
)
def test_settings_that_do_not_go_together_are_refused(settings):
    with pytest.raises(InvalidArgument):
        QueueSettings(**settings).check()


def test_tags_may_be_as_many_and_as_long_as_the_limit():
    tags = {f"{number:02}": "x" * (TAG_BYTES_MAX - 2) for number in range(TAGS_MAX)}
    QueueSettings(tags=tags).check()


def test_values_of_the_wrong_type_are_refused_by_name():
    for values in ({"delay_ms": "soon"}, {"nonsense": 1}, {"tags": [1]}, {"durability": 7}):
        with pytest.raises(InvalidArgument, match=next(iter(values))):
            settings_from(values)


def test_changes_are_laid_over_and_checked():
    settings = QueueSettings(delay_ms=5)
    assert settings.changed({"ttl_ms": 7}) == QueueSettings(delay_ms=5, ttl_ms=7)
    assert settings.changed({"fifo": False}) == settings
    assert settings.changed({"group_affinity": True}).group_affinity
    view = QueueSettings(stream="s", start="time", start_ms=1)
    view.check()
    for name, value in (("stream", "t"), ("start", "latest"), ("start_ms", 2)):
        with pytest.raises(InvalidArgument, match=f"{name} cannot be changed"):
            view.changed({name: value})
    for changes in ({"fifo": True}, {"durability": Durability.OS}, {"max_receives": 3}):
        with pytest.raises(InvalidArgument):
            settings.changed(changes)


def test_names_are_printable_and_no_wildcards():
    for good in ("a", "orders.fifo", "größe/🦔", "x" * NAME_BYTES_MAX, "a$b"):
        check_name(good)
    for bad in ("", "x" * (NAME_BYTES_MAX + 1), "é" * 128, "a\n", "a b", "#", "+", "*", "?", "$a"):
        with pytest.raises(InvalidArgument):
            check_name(bad)
    with pytest.raises(InvalidArgument, match="topic"):
        check_name("\ud800", "topic")
