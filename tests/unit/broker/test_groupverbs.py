"""The verbs of groups: every implementation has every verb, and events travel."""

import inspect

import msgspec

from braidmq.broker.groupverbs import GroupEvent, GroupVerbs
from braidmq.broker.localverbs import LocalVerbs
from braidmq.broker.streamreading import Chunk


def test_every_verb_is_there_with_the_same_parameters():
    for name, verb in inspect.getmembers(GroupVerbs, inspect.isfunction):
        if name.startswith("_"):
            continue
        assert getattr(LocalVerbs, name) is not verb
        signature = inspect.signature(getattr(LocalVerbs, name))
        assert list(signature.parameters) == list(inspect.signature(verb).parameters), name


def test_an_event_travels_as_it_stands():
    event = GroupEvent("records", 3, 1 << 40, chunk=Chunk([b"block"], 1, 2, 9, 17, True, [4, 5]))
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=GroupEvent) == event
