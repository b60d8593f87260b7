"""What the verbs take and give travels as it is."""

import inspect

import msgspec

from braidmq.broker.bindingverbs import Target
from braidmq.broker.replayverbs import ReplayInfo, ReplayPolicy, ReplayVerbs


def test_a_replay_travels():
    policy = ReplayPolicy("archive", 5, 9, 2.5)
    info = ReplayInfo(3, "a/#", Target("queue", "q"), policy, "ann", 7, "failed", "why", 4, 3, 2, 1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=ReplayInfo) == info


def test_every_verb_is_awaited_and_explained():
    verbs = {name: verb for name, verb in vars(ReplayVerbs).items() if not name.startswith("_")}
    assert set(verbs) == {"replay", "list_replays", "cancel_replay"}
    assert all(inspect.iscoroutinefunction(verb) and verb.__doc__ for verb in verbs.values())
