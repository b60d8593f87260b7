"""Bindings in this process: a verb returns when what it did is kept."""

import inspect

from braidmq.broker import Broker
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import BindingVerbs, Target
from braidmq.broker.localbindings import LocalBindings


def test_every_verb_is_there_with_its_arguments():
    for name, verb in vars(BindingVerbs).items():
        if inspect.iscoroutinefunction(verb):
            own = inspect.signature(getattr(LocalBindings, name))
            assert list(own.parameters) == list(inspect.signature(verb).parameters)


async def test_a_binding_is_there_after_a_restart(tmp_path):
    target = Target("queue", "q")
    async with Broker(tmp_path / "data") as broker:
        await broker.declare_queue("q")
        made = await broker.verbs.bind("t", target, BindingSettings(where="a = 'b'"))
        await broker.verbs.bind("u", target, BindingSettings())
        await broker.verbs.unbind("u", target)
    async with Broker(tmp_path / "data") as broker:
        assert await broker.verbs.list_bindings() == [made]
        assert await broker.verbs.binding_info("t", target) == made
        assert await broker.publish("t", b"x", headers={"a": "b"}) == 1
