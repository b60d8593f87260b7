"""What a stream can be told, and what it refuses to be told."""

import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.limits import RETENTION_MS_MAX, TAGS_MAX
from braidmq.broker.stream_settings import RECORD_BYTES_MAX, StreamSettings, stream_settings_from
from braidmq.storage.log import Durability


def test_defaults_are_fine():
    StreamSettings().check()
    assert StreamSettings().retention_ms == 24 * 3600 * 1000


@pytest.mark.parametrize(
    ("name", "most"),
    [
        ("retention_ms", RETENTION_MS_MAX),
        ("record_bytes_max", RECORD_BYTES_MAX),
        ("retention_bytes", 2**60),
        ("shard_bytes_in_per_second", 2**40),
        ("shard_records_in_per_second", 2**40),
        ("shard_bytes_out_per_second", 2**40),
    ],
)
def test_numbers_have_a_range(name, most):
    stream_settings_from({name: most}).check()
    for wrong in (most + 1, -1):
        with pytest.raises(InvalidArgument, match=name):
            stream_settings_from({name: wrong}).check()


@pytest.mark.parametrize("values", [{"colour": 1}, {"retention_ms": "1"}, {"durability": 9}])
def test_what_means_nothing_is_refused(values):
    with pytest.raises(InvalidArgument, match="stream settings"):
        stream_settings_from(values)


@pytest.mark.parametrize(
    "tags", [{str(n): "" for n in range(TAGS_MAX + 1)}, {"a": "x" * 256}, {"\ud800": ""}]
)
def test_tags_are_few_short_and_text(tags):
    with pytest.raises(InvalidArgument):
        StreamSettings(tags=tags).check()


def test_changes_are_laid_over_and_durability_stays():
    settings = StreamSettings(durability=Durability.OS, retention_bytes=5)
    assert settings.changed({"retention_ms": 7}) == StreamSettings(
        durability=Durability.OS, retention_bytes=5, retention_ms=7
    )
    assert settings.changed({"durability": Durability.OS}) == settings
    with pytest.raises(InvalidArgument, match="durability"):
        settings.changed({"durability": Durability.SYNC})
    with pytest.raises(InvalidArgument, match="retention_ms"):
        settings.changed({"retention_ms": -1})
