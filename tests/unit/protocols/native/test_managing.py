"""Managing queues by the native protocol: every operation is answered with what it made."""

from braidmq.protocols.native import operations as op
from braidmq.protocols.native.managing import LIST_QUEUES_MAX
from tests.unit.protocols.native.test_session import O, Peer


def test_a_queue_is_made_changed_shown_and_deleted():
    peer = Peer()
    (reply,) = peer.ask(O["DECLARE_QUEUE"], 1, "q", {"max_receives": 2, "dead_letter": "dead"})
    assert reply.queues[0].settings.max_receives == 2
    (reply,) = peer.ask(O["UPDATE_QUEUE"], 2, "q", {"max_receives": 3})
    assert reply.queues[0].settings.max_receives == 3
    (reply,) = peer.ask(O["QUEUE_INFO"], 3, "q")
    assert reply.queues[0].name == "q"
    (reply,) = peer.ask(O["LIST_QUEUES"], 4, "", "", LIST_QUEUES_MAX + 1)
    assert [info.name for info in reply.queues] == ["dead", "q"]
    assert isinstance(peer.ask(O["DELETE_QUEUE"], 5, "q")[0], op.DoneReply)
    assert peer.error(O["QUEUE_INFO"], 6, "q") == (6, "not-found")


def test_redrives_are_begun_listed_and_cancelled():
    peer = Peer()
    peer.declare("dead")
    peer.send(b"x", queue="dead")
    (reply,) = peer.ask(O["REDRIVE"], 1, "dead", "", 0.001)
    id = reply.redrives[0].id
    assert [info.id for info in peer.ask(O["LIST_REDRIVES"], 2)[0].redrives] == [id]
    (reply,) = peer.ask(O["CANCEL_REDRIVE"], 3, id)
    assert reply.redrives[0].state in ("cancelled", "failed", "done")


def test_the_broker_tells_about_itself():
    (reply,) = Peer().ask(O["BROKER_INFO"], 1)
    assert (reply.broker.connections, reply.broker.sessions) == (3, 0)
