"""Limits: all in one place, all positive, and named after their unit."""

import re
from pathlib import Path

import msgspec
import pytest

import braidmq.broker.limits as module
from braidmq.broker.limits import ZERO_ALLOWED, Limits, SessionPolicy

UNITS = re.compile(r"_(bytes|ms|messages|count|tasks)(_max|_min)?$|_(bytes|ms)_unauth|_max$|_MAX$")


def test_every_limit_is_a_positive_number_with_a_unit():
    for name, value in msgspec.structs.asdict(Limits()).items():
        assert isinstance(value, int) and value >= (name not in ZERO_ALLOWED), name
        assert UNITS.search(name), name
    for name in module.__all__:
        if name.endswith("_MAX"):
            assert getattr(module, name) > 0, name
    assert set(Limits.__struct_fields__) >= ZERO_ALLOWED


def test_limits_are_frozen_and_strict():
    with pytest.raises(AttributeError):
        Limits().body_bytes_max = 1  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"body_bytes": 1}, Limits)


def test_sessions_lose_their_oldest_messages_and_nothing_in_a_power_cut():
    assert msgspec.structs.asdict(SessionPolicy()) == {
        "overflow": "drop-oldest",
        "durability": "sync",
    }
    for wrong in ({"overflow": "none"}, {"durability": "memory"}, {"x": 1}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, SessionPolicy)


# Those of queues; what stands in neither list is of listeners, the log or the configuration.
QUEUE_LIMITS = [
    "body_bytes_max",
    "headers_bytes_max",
    "headers_count_max",
    "batch_messages_max",
    "receive_messages_max",
    "receive_bytes_max",
    "receive_wait_ms_max",
    "queues_max",
    "consumers_per_queue_max",
    "credit_max",
    "in_flight_messages_max",
    "fifo_lookahead_messages_max",
    "sticky_groups_max",
    "sticky_lookahead_messages_max",
    "view_lookahead_messages_max",
    "group_bytes_max",
    "dedup_id_bytes_max",
    "dedup_ids_max",
    "receive_attempts_max",
    "pending_bytes_max",
    "memory_bytes_max",
    "browse_messages_max",
    "redrive_tasks_max",
    "transaction_steps_max",
    "transaction_bytes_max",
    "schedules_max",
    "schedules_bytes_max",
]


# Those of topics, sessions, shares and retained messages.
TOPIC_LIMITS = [
    "topic_bytes_max",
    "topic_levels_max",
    "subscriptions_max",
    "subscriptions_per_session_max",
    "shared_groups_max",
    "filter_shapes_max",
    "filter_shapes_per_session_max",
    "bindings_max",
    "bindings_per_filter_max",
    "replay_tasks_max",
    "fanout_bytes_max",
    "match_cache_topics_max",
    "match_cache_targets_max",
    "sessions_max",
    "session_messages_max",
    "session_bytes_max",
    "session_expiry_ms_max",
    "live_queue_messages_max",
    "live_queue_bytes_max",
    "retained_messages_max",
    "retained_bytes_max",
    "retained_message_bytes_max",
    "retained_expiry_ms",
]


STREAM_LIMITS = [
    "streams_max",
    "shards_max",
    "shards_per_stream_max",
    "stream_reads_waiting_max",
    "shard_hot_bytes_max",
    "shard_hot_lag_bytes_max",
]

GROUP_LIMITS = [
    "groups_per_stream_max",
    "members_per_group_max",
    "group_release_ms",
]


@pytest.mark.parametrize("name", QUEUE_LIMITS + TOPIC_LIMITS + STREAM_LIMITS + GROUP_LIMITS)
def test_every_limit_of_the_core_is_reached_by_a_test(name):
    assert name in msgspec.structs.asdict(Limits())
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    assert sum(f"{name}=" in text or f").{name}" in text for text in texts) or any(
        f"limits.{name} + 1" in text for text in texts
    )
