"""A connection that asks for much: it waits, or is refused, and harms nobody else."""

from braidmq.broker.limits import Limits
from braidmq.protocols.native import operations as op
from tests.unit.protocols.native.test_session import O, Peer


def test_requests_that_look_at_every_queue_take_a_turn_each():
    peer = Peer()
    peer.declare()
    for fields in ((O["LIST_QUEUES"],), (O["BROKER_INFO"],), (O["DELETE_QUEUE"],)):
        rest = ("nothing",) if fields[0] == O["DELETE_QUEUE"] else ()
        peer.write(*((*fields, request, *rest) for request in (5, 6, 7)))
        turns = 1
        while peer.session.backlog:
            peer.session.proceed(peer.harness.clock.ms)
            turns += 1
        assert turns == 3
        assert [reply.request for reply in peer.read()] == [5, 6, 7]


def test_browsed_messages_are_refused_while_the_peer_does_not_read():
    peer = Peer()
    peer.declare()
    peer.send(b"a")
    peer.write((O["BROWSE"], 5, "q"))
    peer.session.pause_writing()
    (reply,) = peer.read()
    assert isinstance(reply, op.ErrorReply) and (reply.request, reply.code) == (5, "overloaded")
    peer.session.resume_writing()
    (reply,) = peer.ask(O["BROWSE"], 6, "q")
    assert [message.body for message in reply.messages] == [b"a"]


def test_surplus_of_a_queue_that_was_deleted_harms_nobody():
    peer = Peer()
    peer.declare()
    peer.declare("gone")
    peer.send(b"a")
    peer.send(b"b", queue="gone")
    peer.write((O["RECEIVE"], 5, "gone", 1), (O["RECEIVE"], 6, "q", 1))
    peer.session.pause_writing()
    peer.harness.settle()
    peer.harness.delete("gone")
    first, second = peer.read()
    assert (first.request, first.messages) == (5, [])
    assert (second.request, second.messages) == (6, [])
    assert peer.harness.info().ready == 1


def test_browse_answers_with_a_limited_number_of_bytes():
    peer = Peer(receive_bytes_max=1_000)
    peer.declare()
    peer.send(*[b"x" * 400] * 7)
    sizes, after = [], 0
    while True:
        (reply,) = peer.ask(O["BROWSE"], 5, "q", after, Limits().browse_messages_max)
        if not reply.messages:
            break
        sizes.append(len(reply.messages))
        after = reply.messages[-1].seq
    assert sizes == [3, 3, 1]
