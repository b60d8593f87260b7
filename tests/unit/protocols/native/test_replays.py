"""Replays by the native protocol: every operation is answered with what it made."""

import pytest

from tests.fanout_harness import bind, publish
from tests.replay_harness import archived, run_replays
from tests.unit.protocols.native.test_session import O, Peer

Q = ("queue", "q")


@pytest.fixture
def peer():
    peer = Peer()
    peer.harness.declare("q")
    archived(peer.harness)
    bind(peer.harness, "t", "q", where="a = 'b'")
    publish(peer.harness, "t", b"x", a="b")
    peer.harness.purge("q")
    return peer


def test_one_is_begun_listed_and_stopped(peer):
    (reply,) = peer.ask(O["REPLAY"], 1, "t", Q, ("archive", 5, 0, 0.5))
    (info,) = reply.replays
    assert (info.filter, info.state) == ("t", "running")
    assert (info.policy.start_ms, info.policy.rate) == (5, 0.5)
    (listed,) = peer.ask(O["LIST_REPLAYS"], 2)
    assert [each.id for each in listed.replays] == [info.id]
    (reply,) = peer.ask(O["LIST_REPLAYS"], 3, info.id)
    assert [each.state for each in reply.replays] == ["cancelled"]
    peer.ask(O["REPLAY"], 4, "t", Q, ("archive",))
    assert run_replays(peer.harness).replayed == 1
    assert set(peer.harness.bodies("q")) == {b"x"}


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("u", Q, ("archive",)), "not-found"),
        (("t", Q, ("none",)), "not-found"),
        (("t", Q, ("archive", 9, 3)), "invalid-argument"),
        (("t", Q, ("archive", -1)), "invalid-argument"),
        (("t", Q, ()), "invalid-argument"),
        (("t", Q), "invalid-argument"),
    ],
)
def test_what_makes_no_sense_is_refused(peer, fields, code):
    assert peer.error(O["REPLAY"], 1, *fields) == (1, code)
    assert peer.error(O["LIST_REPLAYS"], 2, 99) == (2, "not-found")
