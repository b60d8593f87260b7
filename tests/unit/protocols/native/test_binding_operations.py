"""What the operations about bindings hold survives the wire, and what is left out has a default."""

import msgspec
import pytest

from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import BindingInfo, Target
from braidmq.protocols.native.binding_operations import (
    Bind,
    BindingsReply,
    ListBindings,
    WireTarget,
)


def test_requests_have_defaults():
    bind = msgspec.msgpack.decode(msgspec.msgpack.encode([48, 1, "t", ["queue", "q"]]), type=Bind)
    assert bind == Bind(1, "t", WireTarget("queue", "q"), BindingSettings())
    assert bind.target.target() == Target("queue", "q")
    listed = msgspec.msgpack.decode(msgspec.msgpack.encode([51, 7]), type=ListBindings)
    assert listed == ListBindings(7, "", None, 0, 1000)


@pytest.mark.parametrize("request_", [0, -1, 2**32])
def test_a_request_has_a_number(request_):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode([51, request_]), type=ListBindings)


def test_a_reply_travels():
    info = BindingInfo(3, "a", Target("stream", "s"), BindingSettings(), "u", 5, True, 1, 2, 3)
    reply = BindingsReply(9, [info])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=BindingsReply) == reply
