"""What a message must be like: each limit is reached, and one more is refused."""

import pytest

from braidmq.broker.errors import InvalidArgument, TooLarge
from braidmq.broker.intake import check_for_fifo, check_for_standard, with_ids
from braidmq.broker.limits import DELAY_MS_MAX, PRIORITY_MAX, RETENTION_MS_MAX, Limits
from braidmq.broker.message import Outgoing, pack_headers, unpack_headers

LIMITS = Limits(body_bytes_max=8, headers_bytes_max=8, group_bytes_max=4, dedup_id_bytes_max=4)


@pytest.mark.parametrize("check", [check_for_standard, check_for_fifo])
def test_bodies_headers_and_times_to_live_have_limits(check):
    check(Outgoing(b"x" * 8, b"y" * 8, ttl_ms=RETENTION_MS_MAX), LIMITS)
    for message in (Outgoing(b"x" * 9), Outgoing(b"", b"y" * 9)):
        with pytest.raises(TooLarge):
            check(message, LIMITS)
    for ttl_ms in (-1, RETENTION_MS_MAX + 1):
        with pytest.raises(InvalidArgument):
            check(Outgoing(b"", ttl_ms=ttl_ms), LIMITS)


@pytest.mark.parametrize(
    "fields",
    [
        {"delay_ms": -2},
        {"delay_ms": DELAY_MS_MAX + 1},
        {"priority": -1},
        {"priority": PRIORITY_MAX + 1},
        {"group": "g"},
        {"dedup_id": "d"},
    ],
)
def test_standard_queue_refuses(fields):
    with pytest.raises(InvalidArgument):
        check_for_standard(Outgoing(b"", **fields), LIMITS)


@pytest.mark.parametrize("group", ["12345", "ééé", "\ud800"])
def test_queue_with_group_affinity_takes_groups_up_to_the_limit(group):
    kept = check_for_standard(Outgoing(b"", group="éé"), LIMITS, sticky=True)
    assert unpack_headers(kept) == {"group-id": "éé"}
    for message in (Outgoing(b"", group=group), Outgoing(b"", group="g", dedup_id="d")):
        with pytest.raises(InvalidArgument):
            check_for_standard(message, LIMITS, sticky=True)


def test_ids_become_headers():
    headers = pack_headers({"a": "b", "group-id": "x"}, Limits())
    assert unpack_headers(with_ids(Outgoing(b"", headers, group="g", dedup_id="d"))) == {
        "a": "b",
        "group-id": "g",
        "dedup-id": "d",
    }
    assert with_ids(Outgoing(b"", headers)) == headers and with_ids(Outgoing(b"")) == b""


def test_standard_queue_takes_delays_and_priorities():
    check_for_standard(Outgoing(b"", delay_ms=0), LIMITS)
    check_for_standard(Outgoing(b"", delay_ms=DELAY_MS_MAX), LIMITS)
    check_for_standard(Outgoing(b"", priority=PRIORITY_MAX), LIMITS)


@pytest.mark.parametrize(
    "fields",
    [
        {"delay_ms": 0},
        {"priority": 5},
        {"group": "12345"},
        {"group": "ééé"},
        {"dedup_id": "12345"},
        {"group": "\ud800"},
        {"dedup_id": "\ud800"},
    ],
)
def test_fifo_queue_refuses(fields):
    with pytest.raises(InvalidArgument):
        check_for_fifo(Outgoing(b"", **fields), LIMITS)


def test_fifo_queue_takes_groups_and_ids():
    check_for_fifo(Outgoing(b"", group="éé", dedup_id="1234"), LIMITS)
    check_for_fifo(Outgoing(b""), LIMITS)
