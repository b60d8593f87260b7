"""The client has every verb of bindings, with the arguments that the verbs have."""

import inspect

from braidmq.broker.bindingverbs import BindingVerbs
from braidmq.protocols.native.bindingclient import BindingCalls


def test_the_client_has_every_verb_with_its_arguments():
    for name, verb in vars(BindingVerbs).items():
        if inspect.iscoroutinefunction(verb):
            own = inspect.signature(getattr(BindingCalls, name)).parameters
            assert list(own) == list(inspect.signature(verb).parameters)
            defaults = [each.default for each in own.values()]
            assert defaults == [e.default for e in inspect.signature(verb).parameters.values()]
