"""What the operations about replays hold survives the wire, and what is left out has a default."""

import msgspec
import pytest

from braidmq.broker.bindingverbs import Target
from braidmq.broker.replayverbs import ReplayInfo, ReplayPolicy
from braidmq.protocols.native.binding_operations import WireTarget
from braidmq.protocols.native.replay_operations import (
    ListReplays,
    Replay,
    ReplaysReply,
    WirePolicy,
)


def test_requests_have_defaults():
    content = msgspec.msgpack.encode([14, 1, "t", ["queue", "q"], ["archive"]])
    replay = msgspec.msgpack.decode(content, type=Replay)
    assert replay == Replay(1, "t", WireTarget("queue", "q"), WirePolicy("archive"))
    assert replay.policy.policy() == ReplayPolicy("archive")
    listed = msgspec.msgpack.decode(msgspec.msgpack.encode([15, 7]), type=ListReplays)
    assert listed == ListReplays(7, 0)


@pytest.mark.parametrize("policy", [[], ["a", -1], ["a", 0, 2**53 + 1], ["a", 0, 0, "1"], [5]])
def test_a_policy_is_checked(policy):
    content = msgspec.msgpack.encode([14, 1, "t", ["queue", "q"], policy])
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(content, type=Replay)


def test_a_reply_travels():
    policy = ReplayPolicy("archive", 5, 9, 2.5)
    info = ReplayInfo(3, "a", Target("queue", "q"), policy, "ann", 7, "done", "", 4, 3, 2, 1)
    reply = ReplaysReply(9, [info])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=ReplaysReply) == reply
