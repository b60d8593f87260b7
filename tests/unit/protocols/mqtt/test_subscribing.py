"""SUBSCRIBE and UNSUBSCRIBE, and the retained messages that follow."""

import errno

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.limits import Limits
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V5, V311
from tests.mqtt_peer import World


def retain(world, count, size=1, qos=1, prefix="r"):
    peer = world.join("retainer")
    for number in range(count):
        body = str(number).encode().ljust(size, b".")
        packet = p.publish(f"{prefix}/{number}", body, qos=qos, packet_id=1, retain=True)
        peer.send(packet)
        if qos == 2:
            peer.send(p.ack(p.PUBREL, 1))
    peer.send(p.disconnect())


def received(peer, answer=True):
    """All messages, acknowledged as they come."""
    found = []
    while got := peer.take():
        for packet in got:
            if packet.kind == p.PUBLISH:
                found.append(packet)
                if packet.qos and answer:
                    peer.send(p.ack(p.PUBACK if packet.qos == 1 else p.PUBREC, packet.packet_id))
            elif packet.kind == p.PUBREL:
                peer.send(p.ack(p.PUBCOMP, packet.packet_id))
    return found


# --- the answer ---


def test_each_filter_is_answered_for_itself():
    world = World(limits=Limits(subscriptions_per_session_max=3))
    peer = world.join(options={"filters_per_subscribe_max": 6, "maximum_qos": 1})
    filters = [("a", 2), ("b/#/c", 0), ("b", 0), ("$share//x", 0), ("c", 1), ("d", 0), ("e", 0)]
    assert peer.subscribe(*filters) == [1, 0x8F, 0, 0x8F, 1, 0x97, 0x97]
    peer.send(p.unsubscribe("a", "no", "a"))
    assert peer.take()[0].codes == [0, 0x11, 0x11]


@pytest.mark.parametrize("size", [1, 58])
def test_an_answer_that_is_too_large_loses_its_text_first(size):
    world = World()
    peer = world.join(properties=[(p.MAXIMUM_PACKET_SIZE, 120)])
    peer.send(p.subscribe(*[("a/#/" + "x" * 40, 0)] * size))
    (answer,) = peer.take()
    assert answer.codes == [0x8F] * size
    assert (answer.get(p.REASON_STRING) is None) == (size > 1)
    peer.session.out.packet_bytes_max = 20
    peer.send(p.subscribe(*[("a", 0)] * 60))
    assert peer.closed and peer.take()[-1].reason == 0x95


def test_reasons_are_not_explained_to_who_asked_for_none():
    world = World()
    peer = world.join(properties=[(p.REQUEST_PROBLEM_INFO, 0)])
    peer.send(p.subscribe(("a/#/b", 0)))
    assert peer.take()[0].properties == []
    peer.send(p.publish("$x", b"", qos=1))
    assert peer.take()[0].properties == []


def test_a_durable_subscription_is_answered_when_it_is_kept():
    world = World(DiskBroker())
    retain(world, 1)
    peer = world.join(**DURABLE)
    world.broker.auto_commit = False
    peer.feed(p.subscribe(("r/#", 1)))
    assert not peer.inbox
    world.broker.auto_commit = True
    assert peer.kinds() == ["SUBACK", "PUBLISH"]


# --- retained messages ---


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("qos", [0, 1, 2])
@pytest.mark.parametrize("window", [1, 5])
def test_retained_messages_come_as_fast_as_the_client_takes_them(durable, qos, window):
    world = World()
    retain(world, 20, qos=2)
    expiry = [(p.SESSION_EXPIRY, 300)] if durable else []
    peer = world.join(clean=False, properties=[(p.RECEIVE_MAXIMUM, window), *expiry])
    peer.send(p.subscribe(("r/#", qos)))
    assert peer.inbox[0].kind == p.SUBACK
    if qos:
        assert len(peer.inbox) == 1 + window
        queue = world.core.sessions["c"].queue
        assert queue is None or queue.live <= window
    found = received(peer)
    assert sorted(int(each.payload) for each in found) == list(range(20))
    assert all(each.retain and each.qos == qos for each in found)


def test_retained_messages_that_are_large_wait_for_a_client_that_is_slow():
    world = World()
    retain(world, 100, size=100_000)
    peer = world.join()
    peer.session.pause_writing()
    peer.feed(p.subscribe(("r/#", 0)))
    world.settle()
    assert peer.session.out.out_bytes < 1_000
    seen = 0
    while peer.session.subscribing.busy:
        peer.session.resume_writing()
        before = len(peer.sent)
        peer.flush()
        assert len(peer.sent) - before < 500_000
        peer.session.pause_writing()
        world.settle()
        seen += 1
    peer.session.resume_writing()
    peer.flush()
    assert len(received(peer)) == 100 and seen > 10


@pytest.mark.parametrize(
    ("handling", "first", "again"), [(0, 2, 2), (p.RETAIN_IF_NEW, 2, 0), (p.RETAIN_NEVER, 0, 0)]
)
def test_retain_handling(handling, first, again):
    world = World()
    retain(world, 2)
    peer = world.join()
    peer.send(p.subscribe(("r/+", 1 | handling)))
    assert len(received(peer)) == first
    peer.send(p.subscribe(("r/+", handling)))
    assert len(received(peer)) == again
    peer.send(p.unsubscribe("r/+"), p.subscribe(("r/+", handling)))
    assert len(received(peer)) == first


def test_who_subscribes_again_and_again_without_answering_costs_one_search():
    world = World()
    retain(world, 10)
    peer = world.join(properties=[(p.RECEIVE_MAXIMUM, 1)])
    for _ in range(50):
        peer.send(p.subscribe(("r/#", 1)))
    assert len(peer.session.subscribing._sought) == 1
    peer.send(p.unsubscribe("r/#"))
    assert not peer.session.subscribing.busy


def test_a_shared_subscription_is_given_no_retained_messages():
    world = World()
    retain(world, 2)
    peer = world.join()
    peer.subscribe(("$share/g/r/#", 1))
    assert peer.take() == []


@pytest.mark.parametrize("version", [V311, V5])
def test_the_expiry_of_a_retained_message_counts_down(version):
    world = World()
    sender = world.join("s", keep_alive=0)
    found = [(p.MESSAGE_EXPIRY, 30)]
    sender.send(p.publish("r/1", b"1", qos=1, retain=True, properties=found))
    sender.send(p.disconnect())
    world.advance(10_000)
    peer = world.join("c", version)
    peer.send(p.subscribe(("r/#", 1), version=version))
    (message,) = received(peer)
    assert message.get(p.MESSAGE_EXPIRY) == (20 if version == V5 else None)
    world.advance(30_000)
    peer = world.join("d", version)
    peer.send(p.subscribe(("r/#", 1), version=version))
    assert received(peer) == []


def test_retained_messages_end_with_the_log():
    broker = DiskBroker()
    world = World(broker)
    retain(world, 5)
    peer = world.join(clean=False, properties=[(p.SESSION_EXPIRY, 300), (p.RECEIVE_MAXIMUM, 1)])
    peer.send(p.subscribe(("r/#", 1)))
    (message,) = [each for each in peer.take() if each.kind == p.PUBLISH]
    broker.disk.fail_at = dict.fromkeys(range(broker.disk.calls, 9_999), errno.EIO)
    other = world.join("other")
    other.send(p.publish("x", b"", qos=1, retain=True))
    peer.send(p.ack(p.PUBACK, message.packet_id))
    assert world.core.failed is not None and peer.closed


# --- options ---


def test_no_local_and_retain_as_published():
    world = World()
    peer, other = world.join("c"), world.join("other")
    peer.subscribe(("a", 1 | p.NO_LOCAL | p.RETAIN_AS_PUBLISHED), ("b", 1))
    for each in (peer, other):
        each.send(p.publish("a", b"1", retain=True), p.publish("b", b"2", retain=True))
    got = [(each.topic, each.retain) for each in peer.take()]
    assert got == [("b", False), ("a", True), ("b", False)]


@pytest.mark.parametrize("overlapping", ["once", "each"])
def test_subscription_identifiers(overlapping):
    world = World()
    peer = world.join(options={"overlapping": overlapping})
    for number, filter in enumerate(("a", "a/#", "+"), 1):
        peer.subscribe((filter, number - 1), properties=[(p.SUBSCRIPTION_ID, number)])
    peer.send(p.publish("a", b"", qos=2))
    got = [each for each in peer.take() if each.kind == p.PUBLISH]
    told = sorted((each.qos, sorted(each.all(p.SUBSCRIPTION_ID))) for each in got)
    assert told == ([(2, [1, 2, 3])] if overlapping == "once" else [(0, [1]), (1, [2]), (2, [3])])


def test_rights_are_looked_at_for_what_is_retained():
    secret = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
    world = World()
    retain(world, 3)
    rules = (Rule("allow", ("*",), ("*",)), Rule("deny", ("topic:Subscribe",), ("r/1",)))
    world.core.access.replace([User("u", secret, rules)])
    peer = world.dial()
    peer.connect("c", username="u", password="x")
    assert peer.login is not None
    peer.login[2](world.core.access.principal("u"))
    peer.take()
    peer.send(p.subscribe(("r/#", 1)))
    assert sorted(each.topic for each in received(peer)) == ["r/0", "r/2"]
