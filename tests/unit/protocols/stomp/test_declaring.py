"""Queues that are declared because somebody uses them."""

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import InvalidArgument, NotFound, PermissionDenied
from braidmq.protocols.stomp.declaring import ensure_queue
from braidmq.protocols.stomp.destinations import Queue
from tests.stomp_peer import World

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


def test_it_is_declared_once():
    world = World()
    session = world.peer().session
    assert ensure_queue(session, Queue("a"), {}, world.harness.clock.ms)
    assert not ensure_queue(session, Queue("a"), {}, world.harness.clock.ms)


def test_one_that_is_there_stays_as_it_is():
    world = World()
    world.harness.declare("a", messages_max=7)
    session = world.peer(dialect="rabbitmq").session
    assert not ensure_queue(session, Queue("a"), {"x-max-length": "9"}, world.harness.clock.ms)
    assert world.harness.info("a").settings.messages_max == 7


def test_that_of_a_virtual_topic_is_bound():
    world = World()
    session = world.peer().session
    ensure_queue(session, Queue("c", "VirtualTopic/X"), {}, world.harness.clock.ms)
    (binding,) = world.harness.core.list_bindings(SYSTEM, "", None, 0, 10)
    assert (binding.filter, binding.target.name) == ("VirtualTopic/X", "c")


def test_one_that_is_to_exist_is_not_made():
    world = World()
    with pytest.raises(NotFound):
        ensure_queue(world.peer().session, Queue("a", existing=True), {}, world.harness.clock.ms)


def test_it_takes_the_right_to_declare():
    rules = (Rule("allow", ("queue:Send",), ("*",)),)
    world = World(users=(User("ann", SECRET, rules),))
    peer = world.peer(connect=False, certificate_user="ann")
    peer.ask("CONNECT", {})
    with pytest.raises(PermissionDenied, match="queue:Declare"):
        ensure_queue(peer.session, Queue("a"), {}, world.harness.clock.ms)


def test_headers_that_say_how_it_is_to_be_must_make_sense():
    world = World()
    session = world.peer(dialect="rabbitmq").session
    with pytest.raises(InvalidArgument):
        ensure_queue(session, Queue("a"), {"x-message-ttl": "soon"}, world.harness.clock.ms)
