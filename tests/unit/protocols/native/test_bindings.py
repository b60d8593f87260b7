"""Bindings by the native protocol: every operation is answered with what it made."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.publishing import Posted
from braidmq.protocols.native import operations as op
from braidmq.protocols.native.bindings import LIST_BINDINGS_MAX
from tests.unit.protocols.native.test_session import O, Peer

Q = ("queue", "q")


@pytest.fixture
def peer():
    peer = Peer()
    for name in ("q", "r"):
        peer.harness.declare(name)
    return peer


def test_a_binding_is_made_changed_shown_listed_and_ended(peer):
    (reply,) = peer.ask(O["BIND"], 1, "t/#", Q)
    assert reply.bindings[0].target == Target("queue", "q")
    assert reply.bindings[0].settings == BindingSettings()
    (reply,) = peer.ask(O["BIND"], 2, "t/#", Q, {"where": "a = 'b'", "dead_letter": "r"})
    assert reply.bindings[0].settings.where == "a = 'b'"
    (shown,) = peer.ask(O["BINDING_INFO"], 3, "t/#", Q)
    assert shown.bindings == reply.bindings
    peer.ask(O["BIND"], 4, "u", ("queue", "r"), {"policy": '{"n": [1]}', "scope": "body"})
    (reply,) = peer.ask(O["LIST_BINDINGS"], 5, "", None, 0, LIST_BINDINGS_MAX + 1)
    assert [each.filter for each in reply.bindings] == ["t/#", "u"]
    (reply,) = peer.ask(O["LIST_BINDINGS"], 6, "", ("queue", "r"))
    assert [each.filter for each in reply.bindings] == ["u"]
    (reply,) = peer.ask(O["LIST_BINDINGS"], 7, "", None, shown.bindings[0].id)
    assert [each.filter for each in reply.bindings] == ["u"]
    peer.harness.core.publish(SYSTEM, "u", [Posted(b'{"n": 1}')], 1, peer.harness.clock.ms)
    assert peer.harness.bodies("r") == [b'{"n": 1}']
    assert isinstance(peer.ask(O["UNBIND"], 8, "u", ("queue", "r"))[0], op.DoneReply)
    assert peer.error(O["UNBIND"], 9, "u", ("queue", "r")) == (9, "not-found")
    assert peer.error(O["BINDING_INFO"], 10, "u", ("queue", "r")) == (10, "not-found")


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("t/#x", Q), "invalid-argument"),
        (("t", ("queue", "none")), "not-found"),
        (("t", ("nothing", "q")), "invalid-argument"),
        (("t", ("queue",)), "invalid-argument"),
        (("t", "q"), "invalid-argument"),
        (("t", Q, {"colour": "blue"}), "invalid-argument"),
        (("t", Q, {"where": 5}), "invalid-argument"),
        (("t", Q, {"where": "a ="}), "invalid-argument"),
        (("t", Q, {"policy": "{"}), "invalid-argument"),
        (("t", Q, {"scope": "all"}), "invalid-argument"),
    ],
)
def test_what_makes_no_sense_is_refused(peer, fields, code):
    assert peer.error(O["BIND"], 1, *fields) == (1, code)
    assert not peer.harness.core.bindings.by_id
