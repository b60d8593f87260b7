"""What a stream is told to do: its settings, checked once, in one place.

Times are milliseconds here and on the wire; the Python face takes seconds or ``timedelta``.
"""

from typing import Any

import msgspec

from ..storage.log import Durability
from .errors import InvalidArgument
from .limits import RETENTION_MS_MAX, TAG_BYTES_MAX, TAGS_MAX
from .message import is_text

__all__ = [
    "KINESIS_BYTES_IN_PER_SECOND",
    "KINESIS_BYTES_OUT_PER_SECOND",
    "KINESIS_RECORDS_IN_PER_SECOND",
    "RECORD_BYTES_MAX",
    "StreamSettings",
    "stream_settings_from",
]

RECORD_BYTES_MAX = 16 * 1024 * 1024  # the most that record_bytes_max can be set to
_RATE_MAX = 2**40
_DAY_MS = 24 * 3600 * 1000

# What a shard of Kinesis lets through: set these three for the strict mode.
KINESIS_BYTES_IN_PER_SECOND = 1024 * 1024
KINESIS_RECORDS_IN_PER_SECOND = 1_000
KINESIS_BYTES_OUT_PER_SECOND = 2 * 1024 * 1024


class StreamSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set on a stream. Zero means "none" for times and maxima."""

    durability: Durability = Durability.SYNC  # cannot be changed later
    retention_ms: int = _DAY_MS  # no record can be read for longer; 0: for ever
    retention_bytes: int = 0  # of the whole stream: the oldest records make way
    record_bytes_max: int = 1024 * 1024  # of a record: key, headers and body
    shard_bytes_in_per_second: int = 0  # throttle beyond that, each shard by itself
    shard_records_in_per_second: int = 0
    shard_bytes_out_per_second: int = 0
    tags: dict[str, str] = {}

    def check(self) -> None:
        """Raise InvalidArgument when a setting is out of range."""
        for name, least, most in (
            ("retention_ms", 0, RETENTION_MS_MAX),
            ("retention_bytes", 0, 2**60),
            ("record_bytes_max", 1, RECORD_BYTES_MAX),
            ("shard_bytes_in_per_second", 0, _RATE_MAX),
            ("shard_records_in_per_second", 0, _RATE_MAX),
            ("shard_bytes_out_per_second", 0, _RATE_MAX),
        ):
            if not least <= getattr(self, name) <= most:
                raise InvalidArgument(f"{name} is between {least} and {most}")
        if len(self.tags) > TAGS_MAX:
            raise InvalidArgument(f"a stream has at most {TAGS_MAX} tags")
        tags = [name + value for name, value in self.tags.items()]
        if not all(is_text(tag) and len(tag.encode()) <= TAG_BYTES_MAX for tag in tags):
            raise InvalidArgument(f"a tag has at most {TAG_BYTES_MAX} bytes of UTF-8 in all")

    def changed(self, changes: dict[str, Any]) -> "StreamSettings":
        """These settings with ``changes`` laid over them, checked."""
        if "durability" in changes and changes["durability"] != self.durability:
            raise InvalidArgument("durability cannot be changed after a stream is declared")
        settings = stream_settings_from(msgspec.structs.asdict(self) | changes)
        settings.check()
        return settings


def stream_settings_from(values: dict[str, Any]) -> StreamSettings:
    """Build settings from plain values (wire, TOML, JSON); InvalidArgument names what is wrong."""
    try:
        return msgspec.convert(values, StreamSettings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"stream settings: {error}") from None
