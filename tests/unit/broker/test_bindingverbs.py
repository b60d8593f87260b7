"""What the verbs take and give travels as it is."""

import inspect

import msgspec

from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import BindingInfo, BindingVerbs, Target


def test_a_binding_travels():
    info = BindingInfo(
        3, "a/#", Target("stream", "s"), BindingSettings(where="a = 'b'"), "ann", 5, True, 1, 2, 3
    )
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=BindingInfo) == info


def test_every_verb_is_awaited_and_explained():
    verbs = {name: verb for name, verb in vars(BindingVerbs).items() if not name.startswith("_")}
    assert set(verbs) == {"bind", "unbind", "binding_info", "list_bindings"}
    assert all(inspect.iscoroutinefunction(verb) and verb.__doc__ for verb in verbs.values())
