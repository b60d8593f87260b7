"""What a STOMP listener grants: ``[stomp]``, and ``[listeners.stomp]`` for one listener.

What STOMP shares with the other dialects (queues, topics, frames, subscriptions) is limited in
``limits.py``.
"""

from typing import Literal

import msgspec

__all__ = ["HEART_BEAT_MS_MAX", "StompOptions"]

HEART_BEAT_MS_MAX = 24 * 3600 * 1000


class StompOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Options of STOMP 1.0, 1.1 and 1.2. Raises ValueError, naming what is out of range.

    Attributes:
        dialect: whose conventions hold: ``activemq`` or ``rabbitmq``; see docs/stomp.md.
        heart_beat_ms_min: shortest time between heart-beats, either way; a client that asks for
            more often gets this, and one that asks for none gets none. 0 allows none at all.
    """

    dialect: Literal["activemq", "rabbitmq"] = "activemq"
    heart_beat_ms_min: int = 1_000

    def __post_init__(self) -> None:
        if not 0 <= self.heart_beat_ms_min <= HEART_BEAT_MS_MAX:
            raise ValueError(
                f"heart_beat_ms_min is {self.heart_beat_ms_min}; it is between 0 and"
                f" {HEART_BEAT_MS_MAX}"
            )
