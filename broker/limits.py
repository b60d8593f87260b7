"""Every maximum, in one place, with its unit.

A name ends in its unit and ``_max`` (or ``_min``). ``Limits`` are the ones an operator can change;
the module's constants are fixed by a format or by common sense. Each has a test that reaches it.
``SessionPolicy`` says what is done with a session's messages at its limits, and how safe they are.
"""

from typing import Literal

import msgspec

__all__ = [
    "CONSUMER_PRIORITY_MAX",
    "DELAY_MS_MAX",
    "NAME_BYTES_MAX",
    "PARTITION_KEY_BYTES_MAX",
    "PRIORITY_MAX",
    "RETENTION_MS_MAX",
    "TAGS_MAX",
    "TAG_BYTES_MAX",
    "VISIBILITY_TIMEOUT_MS_MAX",
    "ZERO_ALLOWED",
    "Limits",
    "SessionPolicy",
]

NAME_BYTES_MAX = 255
PRIORITY_MAX = 9
CONSUMER_PRIORITY_MAX = 2**31 - 1  # and as far below 0; RabbitMQ: an integer
TAGS_MAX = 50
TAG_BYTES_MAX = 256
VISIBILITY_TIMEOUT_MS_MAX = 12 * 3600 * 1000
DELAY_MS_MAX = 365 * 24 * 3600 * 1000
PARTITION_KEY_BYTES_MAX = 1_024  # Kinesis: 256 characters
RETENTION_MS_MAX = 10 * 365 * 24 * 3600 * 1000

# Limits that may be 0: no waiting, no reserve, or no limit at all. Elsewhere 0 would switch a limit
# off without saying so, or refuse everything.
ZERO_ALLOWED = frozenset(
    "connections_per_address_max connects_per_address_per_minute_max dedup_window_ms"
    " disk_free_bytes_min receive_wait_ms_max reserve_bytes retained_expiry_ms".split()
)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits an operator can set, ``[limits]`` in the configuration."""

    body_bytes_max: int = 4 * 1024 * 1024
    headers_bytes_max: int = 64 * 1024
    headers_count_max: int = 128
    batch_messages_max: int = 10_000
    receive_messages_max: int = 10_000
    receive_bytes_max: int = 8 * 1024 * 1024  # one message may be more
    receive_wait_ms_max: int = 60_000
    queues_max: int = 100_000
    consumers_per_queue_max: int = 10_000
    queues_per_subscription_max: int = 1_000  # of one that names them by wildcards
    credit_max: int = 65_536
    in_flight_messages_max: int = 120_000
    fifo_lookahead_messages_max: int = 120_000
    sticky_groups_max: int = 1_024  # what a queue tells apart, if it has group affinity
    sticky_lookahead_messages_max: int = 20_000  # parked for consumers that have no credit
    view_lookahead_messages_max: int = 10_000  # records of a stream, besides those in flight
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
    replay_tasks_max: int = 100
    topic_bytes_max: int = 1_024
    topic_levels_max: int = 128
    subscriptions_max: int = 1_000_000
    subscriptions_per_session_max: int = 1_000
    shared_groups_max: int = 10_000
    filter_shapes_max: int = 1_024  # places of + and # in filters: steps of a match at each level
    filter_shapes_per_session_max: int = 128  # as many as one filter can have, no more
    bindings_max: int = 100_000
    bindings_per_filter_max: int = 10_000
    fanout_bytes_max: int = 64 * 1024 * 1024  # of the records that one message becomes
    transaction_steps_max: int = 10_000  # messages, records, receipts, schedules
    transaction_bytes_max: int = 64 * 1024 * 1024  # of the records that it becomes
    schedules_max: int = 100_000
    schedules_bytes_max: int = 1024 * 1024 * 1024  # of the messages that are scheduled
    match_cache_topics_max: int = 10_000
    match_cache_targets_max: int = 500_000  # of all of these topics; each takes up to 200 bytes
    sessions_max: int = 100_000
    session_messages_max: int = 100_000
    session_bytes_max: int = 256 * 1024 * 1024
    session_expiry_ms_max: int = 365 * 24 * 3600 * 1000
    live_queue_messages_max: int = 1_000  # what no log holds: it must stay small
    live_queue_bytes_max: int = 8 * 1024 * 1024
    retained_messages_max: int = 1_000_000
    retained_bytes_max: int = 1024 * 1024 * 1024
    retained_message_bytes_max: int = 1024 * 1024
    retained_expiry_ms: int = 0
    streams_max: int = 10_000
    shards_max: int = 100_000  # of all streams
    shards_per_stream_max: int = 10_000  # that are open
    stream_reads_waiting_max: int = 100_000
    # What a shard has in the log moves to its files when that is more, or so far from its end.
    shard_hot_bytes_max: int = 8 * 1024 * 1024
    shard_hot_lag_bytes_max: int = 256 * 1024 * 1024
    groups_per_stream_max: int = 1_000
    members_per_group_max: int = 1_000
    group_release_ms: int = 10_000  # for a member to finish with a shard that is to move
    webhooks_max: int = 10_000
    connections_max: int = 10_000
    connections_unauthenticated_max: int = 1_000
    # Off unless asked for: a whole site may stand behind one address.
    connections_per_address_max: int = 0
    connects_per_address_per_minute_max: int = 0
    frame_bytes_max: int = 8 * 1024 * 1024
    frame_bytes_unauthenticated_max: int = 64 * 1024
    handshake_ms_max: int = 10_000
    heartbeat_ms_max: int = 600_000
    outbound_bytes_max: int = 8 * 1024 * 1024
    requests_in_flight_max: int = 4_096


class SessionPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the messages of sessions are kept, ``[sessions]`` in the configuration.

    ``overflow`` is what happens to a message for a session that is at ``session_messages_max`` or
    ``session_bytes_max``: the oldest one makes way, or the new one is not kept, or its publisher is
    refused. ``durability`` is that of queues: ``sync`` is on disk when it is acknowledged, ``os``
    survives the process but not a power cut.
    """

    overflow: Literal["drop-oldest", "drop-newest", "refuse"] = "drop-oldest"
    durability: Literal["sync", "os"] = "sync"
