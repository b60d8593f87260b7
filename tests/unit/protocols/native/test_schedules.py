"""Schedules by the native protocol: every operation is answered with what it made."""

import pytest

from braidmq.storage.errors import LogFailed
from tests.unit.protocols.native.test_session import O, Peer


@pytest.fixture
def peer():
    peer = Peer()
    peer.harness.declare("q")
    return peer


def test_one_is_made_listed_shown_and_removed(peer):
    (reply,) = peer.ask(O["SCHEDULE"], 1, "queue", "q", [1_000, 10, 3, ""], b"x", b"", 5, 6)
    (made,) = reply.schedules
    assert (made.id, made.name, made.timing.repeat, made.body) == (1, "q", 3, b"")
    (reply,) = peer.ask(O["LIST_SCHEDULES"], 2)
    assert reply.schedules == [made]
    (reply,) = peer.ask(O["LIST_SCHEDULES"], 3, 0, made.next_ms)
    assert reply.schedules == []
    (reply,) = peer.ask(O["SCHEDULE_INFO"], 4, 1)
    assert reply.schedules[0].body == b"x"
    (reply,) = peer.ask(O["UNSCHEDULE"], 5, 1)
    assert type(reply).__name__ == "DoneReply" and reply.request == 5
    peer.ask(O["SCHEDULE"], 6, "queue", "q", [1_000], b"x")
    (reply,) = peer.ask(O["UNSCHEDULE_BETWEEN"], 7)
    assert (reply.request, reply.count) == (7, 1)


@pytest.mark.parametrize(
    ("operation", "fields", "code"),
    [
        ("SCHEDULE", ("queue", "none", [1], b""), "not-found"),
        ("SCHEDULE", ("queue", "q", [0, 0, 0, "@x"], b""), "invalid-argument"),
        ("SCHEDULE", ("queue", "q", [1], b"", b"\x01"), "invalid-argument"),
        ("SCHEDULE", ("session", "q", [1], b""), "invalid-argument"),
        ("LIST_SCHEDULES", (0, 0, 0, 0), "invalid-argument"),
        ("SCHEDULE_INFO", (9,), "not-found"),
        ("UNSCHEDULE", (9,), "not-found"),
        ("UNSCHEDULE_BETWEEN", (-1,), "invalid-argument"),
    ],
)
def test_what_makes_no_sense_is_refused(peer, operation, fields, code):
    assert peer.error(O[operation], 3, *fields) == (3, code)


def test_who_does_not_read_is_told_to(peer):
    peer.ask(O["SCHEDULE"], 1, "queue", "q", [1_000], b"x")
    peer.session._peer_is_slow = True
    assert peer.error(O["LIST_SCHEDULES"], 2) == (2, "overloaded")


def test_a_log_that_fails_is_told(peer):
    peer.ask(O["SCHEDULE"], 1, "queue", "q", [1_000], b"x")
    peer.harness.core.fail(LogFailed("broken"))
    assert peer.error(O["UNSCHEDULE"], 2, 1) == (2, "broker-failed")
