"""The client has every verb of schedules, with the arguments that the verbs have."""

import inspect

from braidmq.broker.scheduleverbs import ScheduleVerbs
from braidmq.protocols.native.scheduleclient import ScheduleCalls


def test_the_client_has_every_verb_with_its_arguments():
    for name, verb in vars(ScheduleVerbs).items():
        if inspect.iscoroutinefunction(verb):
            own = inspect.signature(getattr(ScheduleCalls, name)).parameters
            assert list(own) == list(inspect.signature(verb).parameters)
