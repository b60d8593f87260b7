"""Shared subscriptions: each message to one of the members, and to another when that one goes."""

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.limits import Limits
from braidmq.broker.publication import Subscription
from braidmq.broker.session import Session
from braidmq.broker.sharing import Share, share_name
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.topic_client import Client

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
SHARED = "$share/g/t/+"


@pytest.fixture
def broker():
    return DiskBroker()


def member(broker: Harness, name: str, expiry_ms: int = 0, **options) -> Client:
    client = Client(broker, name, **options)
    client.connect(expiry_ms=expiry_ms)
    client.subscribe(SHARED)
    return client


def publisher(broker: Harness) -> Client:
    client = Client(broker, "p")
    client.connect(expiry_ms=0)
    return client


def test_members_take_turns():
    share = Share("$share/g/t", "t", None)  # type: ignore[arg-type]
    sessions = [Session(str(number), "u", 0) for number in range(3)]
    for session in sessions:
        assert share.join(session, Subscription("t"))
        assert not share.join(session, Subscription("t", 1))
    assert share.next_member(lambda member: True) is None  # nobody is connected
    for session in sessions:
        session.sink = object()  # type: ignore[assignment]
    turns = [share.next_member(lambda member: True) for _ in range(6)]
    assert turns[:3] == turns[3:] and set(turns) == set(sessions)
    assert share.leave(sessions[0]) and not share.leave(sessions[0])
    turns = [share.next_member(lambda member: member is not sessions[1]) for _ in range(3)]
    assert turns == [sessions[2]] * 3
    sessions[2].sink = None
    assert share.next_member(lambda member: member is not sessions[1]) is None
    assert share_name("g", "a/b") == "$share/g/a/b"


def test_each_message_goes_to_one_member(broker):
    members = [member(broker, name, expiry_ms) for name, expiry_ms in (("a", 0), ("b", 60_000))]
    other = member(broker, "other")
    other.unsubscribe(SHARED)
    other.subscribe("$share/other/t/+")
    sender = publisher(broker)
    for number in range(40):
        sender.send("t/1", b"%d" % number, number % 3)
    got = [each.take_live() + each.ack() for each in members]
    assert sorted(got[0] + got[1]) == sorted(b"%d" % number for number in range(40))
    assert got[0] and got[1]
    assert len(other.take_live() + other.ack()) == 40
    assert broker.core.memory.statistics().bytes_live_estimate == 0


def test_what_a_member_did_not_acknowledge_goes_to_another(broker):
    first = member(broker, "a")
    sender = publisher(broker)
    for number in range(5):
        sender.send("t/1", b"%d" % number)
    assert first.ack(2) == [b"0", b"1"] and len(first.held) == 3
    second = member(broker, "b")
    assert not second.held
    first.disconnect()
    assert second.bodies() == [b"2", b"3", b"4"]
    assert [each.receives for _, each in second.held] == [2, 2, 2]


def test_messages_of_quality_0_are_lost_with_nobody_there(broker):
    client = member(broker, "a", 60_000)
    client.disconnect()
    sender = publisher(broker)
    sender.send("t/1", b"0", 0)
    sender.send("t/1", b"1", 1)
    assert broker.core.topics.dropped == 1
    client.connect()
    assert client.bodies() == [b"1"] and client.take_live() == []


def test_share_becomes_durable_with_its_first_durable_member(broker):
    volatile = member(broker, "v", credit=2)
    sender = publisher(broker)
    for number in range(4):
        assert sender.send("t/1", b"%d" % number)[0] is Durability.MEMORY
    durable = member(broker, "d", 60_000)
    assert durable.bodies() == [b"2", b"3"]  # what is in memory is for both
    assert sender.send("t/1", b"4")[0] is Durability.SYNC
    assert volatile.held or durable.held
    volatile.disconnect()
    assert sorted(durable.bodies()) == [b"0", b"1", b"2", b"3", b"4"]
    durable.disconnect()
    sender.send("t/1", b"5")
    broker = broker.restarted()
    durable = Client(broker, "d")
    durable.connect()
    assert sorted(durable.bodies()) == [b"4", b"5"]  # memory is gone
    assert durable.ack() and broker.core.shares[SHARED].live == 0


def test_share_stays_durable_until_its_last_member_goes(broker):
    durable, volatile = member(broker, "d", 60_000), member(broker, "v")
    assert durable.unsubscribe(SHARED)
    sender = publisher(broker)
    assert sender.send("t/1", b"x")[0] is Durability.SYNC
    assert b"x" in volatile.bodies()
    volatile.disconnect()
    assert not broker.core.shares and not broker.core.clients._shares
    assert sender.send("t/1", b"x") == (Durability.MEMORY, 0)
    durable.disconnect()
    broker.advance(60_000)
    assert broker.log.statistics().bytes_live_estimate == 0 and not broker.core._by_id


def test_share_without_durable_members_is_gone_after_a_restart(broker):
    durable, volatile = member(broker, "d", 60_000), member(broker, "v")
    durable.unsubscribe(SHARED)
    volatile.unsubscribe("nothing")
    publisher(broker).send("t/1", b"x")
    for _ in range(2):
        broker = broker.restarted()
        assert not broker.core.shares and len(broker.core._by_id) == 1
        broker.checkpoint()
    assert broker.log.statistics().bytes_live_estimate == 0


def test_share_survives_restart_checkpoint_and_compaction(broker):
    clients = [member(broker, name, 60_000, credit=3) for name in "ab"]
    sender = publisher(broker)
    expected = [b"%d" % number + b"." * 100 for number in range(60)]
    for body in expected:
        sender.send("t/1", body)
    got = clients[0].ack() + clients[1].ack()
    broker.checkpoint()
    while broker.compact():
        pass
    broker = broker.restarted()
    clients = [Client(broker, name, credit=3) for name in "ab"]
    for client in clients:
        client.connect()
    for _ in range(40):
        for client in clients:
            got += client.ack()
    assert sorted(got) == sorted(expected)


def test_options_of_a_member_can_be_changed(broker):
    client = member(broker, "a", 60_000)
    assert client.subscribe(SHARED, 0)
    assert broker.core.clients.subscriptions == 1
    publisher(broker).send("t/1", b"x")
    assert client.bodies() == [b"x"] and len(client.consumers) == 3  # each queue once, and its own
    client = Client(broker.restarted(), "a")
    client.connect()
    assert client.session.subscriptions == {SHARED: Subscription(SHARED, 0)}


def test_only_who_may_have_it_gets_it(broker):
    access = broker.core.access
    rule = Rule("allow", ("session:*", "topic:*"), ("#",))
    access.replace([User(name, HASH, (rule,)) for name in "ab"])
    clients = [member(broker, name, who=access.principal(name, name)) for name in "ab"]
    none = Rule("deny", ("topic:*",), ("t/secret",))
    access.replace([User("a", HASH, (rule, none)), User("b", HASH, (rule,))])
    sender = Client(broker, "p", SYSTEM)
    for _ in range(6):
        sender.send("t/secret", b"x", 0)
    assert clients[0].take_live() == [] and len(clients[1].take_live()) == 6
    assert broker.core.topics.dropped == 0
    clients[1].disconnect()
    sender.send("t/secret", b"x", 0)
    assert clients[0].take_live() == [] and broker.core.topics.dropped == 1


def test_shares_are_bounded():
    broker = Harness(limits=Limits(session_messages_max=3))
    client = member(broker, "a", credit=0)
    sender = publisher(broker)
    for number in range(5):
        sender.send("t/1", b"%d" % number)
    (share,) = broker.core.clients._shares.values()
    assert share.volatile.live == 3 and share.volatile.counters.dropped == 2
    client.broker.core.credit(client.consumers[-1], 10)
    broker.settle()
    assert client.bodies() == [b"2", b"3", b"4"]


def test_many_shares_with_deadlines_cost_no_more_than_they_should():
    """Alarms of queues that only a share knows are not sorted out again and again."""
    broker = Harness()
    client = Client(broker, "a", credit=0)
    client.connect(expiry_ms=0)
    for number in range(300):
        client.subscribe(f"$share/g/t/{number}")
    core = broker.core
    now = broker.clock.ms
    lists: dict[int, object] = {}
    for turn in range(3):
        for number in range(300):
            client.send(f"t/{number}", b"x", expire_ms=now + 100_000 - 1_000 * turn)
            lists[id(core._alarms)] = core._alarms
    assert len(core._alarms) <= 1_000 and len(lists) < 10
    broker.advance(100_000)
    assert sum(share.volatile.live for share in core.clients._shares.values()) == 0


def test_message_that_is_handed_over_to_a_member_keeps_its_end(broker):
    """QoS 2: it moves into the session of the member that it was sent to."""
    client = member(broker, "a", 60_000)
    publisher(broker).send("t/1", b"x", 2, expire_ms=broker.clock.ms + 5_000)
    ((consumer, delivery),) = client.held
    client.held.clear()
    broker.core.hand_over(consumer.queue, delivery.receipt, client.queue)
    broker.settle()
    assert client.bodies() == [b"x"] and broker.core.shares[SHARED].live == 0
    assert client.held[0][1].expire_ms == delivery.expire_ms
