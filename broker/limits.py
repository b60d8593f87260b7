"""Every maximum, in one place, with its unit.

A name ends in its unit and ``_max`` (or ``_min``). ``Limits`` are the ones an operator can change;
the module's constants are fixed by a format or by common sense. Each has a test that reaches it.
"""

import msgspec

__all__ = [
    "DELAY_MS_MAX",
    "NAME_BYTES_MAX",
    "PRIORITY_MAX",
    "RETENTION_MS_MAX",
    "TAGS_MAX",
    "TAG_BYTES_MAX",
    "VISIBILITY_TIMEOUT_MS_MAX",
    "Limits",
]

NAME_BYTES_MAX = 255
PRIORITY_MAX = 9
TAGS_MAX = 50
TAG_BYTES_MAX = 256
VISIBILITY_TIMEOUT_MS_MAX = 12 * 3600 * 1000
DELAY_MS_MAX = 365 * 24 * 3600 * 1000
RETENTION_MS_MAX = 10 * 365 * 24 * 3600 * 1000


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits an operator can set, ``[limits]`` in the configuration."""

    body_bytes_max: int = 4 * 1024 * 1024
    headers_bytes_max: int = 64 * 1024
    headers_count_max: int = 64
    batch_messages_max: int = 10_000
    receive_messages_max: int = 10_000
    receive_bytes_max: int = 8 * 1024 * 1024  # one message may be more
    receive_wait_ms_max: int = 60_000
    queues_max: int = 100_000
    consumers_per_queue_max: int = 10_000
    credit_max: int = 65_536
    in_flight_messages_max: int = 120_000
    fifo_lookahead_messages_max: int = 120_000
    group_bytes_max: int = 128
    dedup_id_bytes_max: int = 128
    dedup_ids_max: int = 1_000_000
    dedup_window_ms: int = 300_000
    receive_attempts_max: int = 10_000
    pending_bytes_max: int = 64 * 1024 * 1024
    memory_bytes_max: int = 1024 * 1024 * 1024
    cache_bytes_max: int = 64 * 1024 * 1024
    disk_free_bytes_min: int = 64 * 1024 * 1024
    reserve_bytes: int = 64 * 1024 * 1024
    browse_messages_max: int = 1_000
    redrive_tasks_max: int = 100
    connections_max: int = 10_000
    connections_unauthenticated_max: int = 1_000
    frame_bytes_max: int = 8 * 1024 * 1024
    frame_bytes_unauthenticated_max: int = 64 * 1024
    handshake_ms_max: int = 10_000
    heartbeat_ms_max: int = 600_000
    outbound_bytes_max: int = 8 * 1024 * 1024
    requests_in_flight_max: int = 4_096
