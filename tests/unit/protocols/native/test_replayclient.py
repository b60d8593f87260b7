"""The client has every verb of replays, with the arguments that the verbs have."""

import inspect

from braidmq.broker.replayverbs import ReplayVerbs
from braidmq.protocols.native.replayclient import ReplayCalls


def test_the_client_has_every_verb_with_its_arguments():
    for name, verb in vars(ReplayVerbs).items():
        if inspect.iscoroutinefunction(verb):
            own = inspect.signature(getattr(ReplayCalls, name)).parameters
            assert list(own) == list(inspect.signature(verb).parameters)
