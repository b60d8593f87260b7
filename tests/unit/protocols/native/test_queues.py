"""Consumers: what credit the core knows of, how they are served. The rest is in test_session.py."""

import pytest

from braidmq.broker.lease import Exclusivity
from braidmq.protocols.native import operations as op
from braidmq.protocols.native import queues
from tests.unit.protocols.native.test_session import O, Peer


@pytest.fixture
def peer():
    peer = Peer()
    peer.declare()
    return peer


def test_credit_reaches_the_core_in_small_parts(peer):
    peer.harness.send(*[b"x" * 100_000 for _ in range(200)])
    peer.write((O["CONSUME"], 5, "q", 200))
    peer.session.data_to_send(0)
    peer.harness.settle()
    assert peer.harness.info().in_flight == queues.WINDOW_FIRST_MESSAGES
    data = peer.session.data_to_send(0)
    assert len(data) < 2 * queues.DELIVER_BYTES
    peer.harness.settle()
    in_flight = peer.harness.info().in_flight
    assert queues.WINDOW_FIRST_MESSAGES < in_flight <= queues.WINDOW_FIRST_MESSAGES + 11


def test_a_consumer_says_how_it_is_to_be_served(peer):
    assert peer.ask(O["CONSUME"], 5, "q", 10, "", -1, 2) == [op.DoneReply(5)]
    (consumer,) = peer.harness.core.queue("q").consumers
    assert (consumer.priority, consumer.exclusive) == (-1, Exclusivity.SOLE)
    assert peer.error(O["CONSUME"], 6, "q", 10) == (6, "conflict")
    peer.ask(O["CANCEL"], 7, 5)
    assert peer.error(O["CONSUME"], 8, "q", 10, "", 2**31) == (8, "invalid-argument")
    assert peer.error(O["CONSUME"], 8, "q", 10, "", 0, 3) == (8, "invalid-argument")
    assert peer.ask(O["CONSUME"], 8, "q", 10, "", 0, 1, "of a later version") == [op.DoneReply(8)]


def test_a_client_that_does_not_read_gets_no_more(peer):
    peer.ask(O["CONSUME"], 5, "q", 1_000)
    peer.session.pause_writing()
    peer.harness.send(*[b"x"] * 100)
    assert sum(len(reply.messages) for reply in peer.read()) == queues.WINDOW_FIRST_MESSAGES
    peer.session.resume_writing()
    assert sum(len(reply.messages) for reply in peer.read()) == 100 - queues.WINDOW_FIRST_MESSAGES
