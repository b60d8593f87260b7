"""The verbs: what is told of a queue adds up, and every implementation has every verb."""

import inspect

from braidmq.broker.localverbs import LocalVerbs
from braidmq.broker.settings import QueueSettings
from braidmq.broker.verbs import QueueInfo, Verbs
from braidmq.protocols.native.client import NativeClient


def test_messages_are_those_of_all_states():
    info = QueueInfo("q", QueueSettings(), 1, 2, 4, *[0] * 12)
    assert info.messages == 7


def test_every_implementation_has_every_verb_with_the_same_parameters():
    for name, verb in inspect.getmembers(Verbs, inspect.isfunction):
        if name.startswith("_"):
            continue
        for kind in (LocalVerbs, NativeClient):
            assert name in dir(kind) and getattr(kind, name) is not verb
            signature = inspect.signature(getattr(kind, name))
            assert list(signature.parameters) == list(inspect.signature(verb).parameters), name
