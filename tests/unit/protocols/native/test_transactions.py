"""Transactions by the native protocol: requests in a request, answered by replies in a reply."""

import tracemalloc

import msgspec
import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.errors import InvalidArgument
from braidmq.broker.limits import Limits
from braidmq.protocols.native import operations as op
from braidmq.protocols.native.transactions import read_steps
from braidmq.storage.log import Durability
from tests.fanout_harness import declare_stream, records
from tests.mqtt_peer import World
from tests.schedule_harness import listed
from tests.unit.protocols.native.test_session import SECRET, O, Peer

HEADERS = msgspec.msgpack.encode({"h": "v"})


@pytest.fixture
def peer():
    peer = Peer()
    peer.harness.declare("q", dead_letter="dead", max_receives=9)
    peer.harness.declare("out")
    declare_stream(peer.harness, "s")
    return peer


def taken(peer, *bodies):
    """The receipts of messages that are sent and received."""
    peer.harness.send(*bodies)
    return [list(each.receipt) for each in peer.harness.receive(len(bodies))]


def refused(peer, *steps):
    """A transaction is refused because of its last step: the code, and what was said."""
    (reply,) = peer.ask(O["TRANSACT"], 7, steps)
    assert isinstance(reply, op.TransactedReply), reply
    assert (reply.request, reply.replies) == (7, [])
    ((index, code, text),) = [msgspec.structs.astuple(error) for error in reply.errors]
    assert index == len(steps) - 1
    assert text.startswith(f"step {len(steps)}")
    return code, text


def test_each_step_is_answered_as_the_request_alone(peer):
    one, two, three = taken(peer, b"1", b"2", b"3")
    steps = [
        [O["ACK"], 1, "q", [one]],
        [O["NACK"], 2, "q", [two], 0, False],
        [O["DEAD_LETTER"], 3, "q", [three], "why"],
        [O["SEND"], 4, "out", [[b"a", HEADERS, 0]]],
        [O["PUBLISH"], 5, "t", [[b"b", HEADERS, True]]],
        [O["APPEND"], 6, "s", [b"c", b"d"], [b"k", b""], [HEADERS, b""]],
        [O["SCHEDULE"], 7, "queue", "out", [1_000], b"e", HEADERS],
    ]
    (reply,) = peer.ask(O["TRANSACT"], 9, steps)
    assert (type(reply), reply.request, reply.errors) == (op.TransactedReply, 9, [])
    assert [each.request for each in reply.replies] == [1, 2, 3, 4, 5, 6, 7]
    names = "Settled Settled Settled Sent Published Appended Schedules"
    assert [type(each).__name__ for each in reply.replies] == [
        f"{name}Reply" for name in names.split()
    ]
    sent, published, appended, scheduled = reply.replies[3:]
    assert (sent.results[0].seq, published.results) == (1, [0])
    assert (appended.shards, appended.numbers) == ([0, 0], [1, 2])
    assert scheduled.schedules == listed(peer.harness)
    harness = peer.harness
    assert (harness.bodies("q"), harness.bodies("dead")) == ([b"2"], [b"3"])
    assert harness.bodies("out") == [b"a"]
    assert records(harness, "s") == {0: [b"c", b"d"]}
    assert harness.core.retained.tree.get("t") is not None


def test_it_is_answered_when_all_of_it_is_kept(peer):
    peer.harness.declare("memory", durability=Durability.MEMORY)
    for queue, waits in ("memory", False), ("out", True):
        peer.write([O["TRANSACT"], 9, [[O["SEND"], 1, queue, [[b"x"]]]]])
        early = peer.read(settle=False)
        assert len(early) == (not waits)
        assert len(peer.read()) == waits


def test_a_transaction_of_nothing_is_done_at_once(peer):
    (reply,) = peer.ask(O["TRANSACT"], 9, [])
    assert reply == op.TransactedReply(9)


def test_what_cannot_be_done_refuses_all_of_it_and_says_which_step_it_is(peer):
    (receipt,) = taken(peer, b"1")
    fine = [O["ACK"], 1, "q", [receipt]], [O["SEND"], 2, "out", [[b"x"]]]
    cases = [
        ([O["SEND"], 3, "none", [[b"x"]]], "not-found", "send 'none'"),
        ([O["ACK"], 3, "q", [receipt]], "lease-lost", "ack 'q'"),
        ([O["PUBLISH"], 3, "$SYS/t", [[b"x"]]], "permission-denied", "publish to"),
        ([O["SCHEDULE"], 3, "queue", "none", [1], b""], "not-found", "schedule to queue 'none'"),
        # What never becomes a step of the broker's:
        ([O["SEND"], 3, "out", [[b"x"], [b"y"]]], "invalid-argument", "one message"),
        ([O["SEND"], 3, "out", []], "invalid-argument", "one message"),
        ([O["PUBLISH"], 3, "t", []], "invalid-argument", "one message"),
        ([O["SEND"], 3, "out", [[b"x", b"\x01"]]], "invalid-argument", "headers"),
        ([O["PUBLISH"], 3, "t", [[b"x", b"\x01"]]], "invalid-argument", "headers"),
        ([O["APPEND"], 3, "s", [b"x"], [], [b"\x01"]], "invalid-argument", "headers"),
        ([O["SCHEDULE"], 3, "queue", "q", [1], b"", b"\x01"], "invalid-argument", "headers"),
        ([O["APPEND"], 3, "s", [b"x"], [], [], ["x"]], "invalid-argument", "hash key"),
        ([O["ACK"], 3, "q", [[1]]], "invalid-argument", "array"),
        ([O["PURGE"], 3, "q"], "invalid-argument", "step 3: "),
        ([O["TRANSACT"], 3, []], "invalid-argument", "step 3: "),
        (5, "invalid-argument", "step 3: "),
        ([], "invalid-argument", "step 3: "),
    ]
    for step, code, text in cases:
        found, said = refused(peer, *fine, step)
        assert found == code and text in said, (step, found, said)
    assert peer.harness.bodies("out") == []
    assert peer.harness.info("q").in_flight == 1


def test_what_is_no_list_of_steps_is_refused_as_any_request(peer):
    no_list: list[object] = ["x", 5, {}, None]
    for steps in no_list:
        assert peer.error(O["TRANSACT"], 9, steps) == (9, "invalid-argument")
    too_many = [0] * (op.BATCH_DECODED_MAX + 1)
    assert peer.error(O["TRANSACT"], 9, too_many) == (9, "invalid-argument")


def test_rights_are_those_of_the_user_step_by_step():
    rules = (Rule("allow", ("queue:Send",), ("out",)),)
    peer = Peer(users=[User("ada", SECRET, rules)], hello=False)
    peer.harness.declare("out")
    peer.harness.declare("other")
    peer.write([O["HELLO"], 1, 1, 1, "test", 0, "ada", b"secret"])
    peer.host.login[2](peer.harness.core.access.principal("ada"))
    (welcome,) = peer.read()
    assert isinstance(welcome, op.Welcome)
    fine = [O["SEND"], 1, "out", [[b"x"]]]
    for step in [O["SEND"], 2, "other", [[b"x"]]], [O["PUBLISH"], 2, "t", [[b"x"]]]:
        assert refused(peer, fine, step)[0] == "permission-denied"
    assert len(peer.ask(O["TRANSACT"], 3, [fine])[0].replies) == 1


def test_it_may_be_large():
    peer = Peer()
    peer.harness.declare("q")
    steps = [[O["SEND"], 1, "q", [[bytes(300_000)]]]] * 3
    assert len(peer.ask(O["TRANSACT"], 1, steps)[0].replies) == 3


def test_its_limits_are_the_brokers():
    peer = Peer(transaction_steps_max=4, transaction_bytes_max=4_000)
    peer.harness.declare("q")
    one = [O["SEND"], 1, "q", [[b"x"]]]
    assert len(peer.ask(O["TRANSACT"], 1, [one] * 4)[0].replies) == 4
    assert refused(peer, *[one] * 5)[0] == "limit-exceeded"
    assert refused(peer, *[one] * 3, [O["ACK"], 1, "q", [[1, 1]] * 2])[0] == "limit-exceeded"
    large = [O["SEND"], 1, "q", [[bytes(1_500)]]]
    assert refused(peer, *[large] * 3)[0] == "too-large"


def test_no_more_is_decoded_than_a_transaction_may_have():
    receipts = msgspec.Raw(msgspec.msgpack.encode([O["ACK"], 1, "q", [[1, 1]] * 3]))
    steps = read_steps([receipts] * 1_000, Limits(transaction_steps_max=10))
    assert len(steps) == 4
    broken = msgspec.Raw(b"\xc1")
    with pytest.raises(InvalidArgument, match="step 4") as caught:
        read_steps([receipts] * 3 + [broken], Limits(transaction_steps_max=10))
    assert caught.value.step == 3
    assert len(read_steps([receipts] * 4 + [broken], Limits(transaction_steps_max=10))) == 4


def test_a_frame_of_tiny_receipts_makes_us_allocate_little():
    ack = msgspec.msgpack.encode([O["ACK"], 1, "q", [[1, 1]] * 10_000])
    steps = [msgspec.Raw(ack)] * 200
    tracemalloc.start()
    try:
        read_steps(steps, Limits())
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_who_publishes_waits_for_slow_subscribers():
    world = World()
    slow = world.join("slow")
    slow.subscribe(("t", 0))
    peer = Peer(world.broker)
    slow.session.pause_writing()
    (reply,) = peer.ask(O["TRANSACT"], 1, [[O["PUBLISH"], 1, "t", [[b"x"]]]])
    assert isinstance(reply, op.TransactedReply)
    assert not peer.session.reading
