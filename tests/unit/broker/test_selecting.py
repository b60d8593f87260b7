"""What is no header of a message, asked for by selectors, wherever a queue asks them."""

import pytest

from braidmq.broker import selecting
from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery, pack_headers
from braidmq.broker.values import message_id
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness, sent

INSTANCE = 0xB41D


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    harness.core.instance = INSTANCE
    harness.declare()
    return harness


def bodies(deliveries: list[Delivery]) -> list[bytes]:
    return [each.body for each in deliveries]


@pytest.mark.parametrize("sticky", [False, True])
def test_receive_consume_and_browse_know_the_priority(broker, sticky):
    broker.declare("p", group_affinity=sticky)
    for priority in (0, 4, 7, 9):
        broker.send(b"%d" % priority, name="p", priority=priority)
    assert [each.body for each in broker.browse("p", selector="JMSPriority >= 7")] == [b"7", b"9"]
    assert bodies(broker.receive(9, "p", selector="JMSPriority = 7")) == [b"7"]
    _, sink = broker.consume(9, "p", "JMSPriority < 5")
    assert bodies(sink.take()) == [b"4", b"0"]


@pytest.mark.parametrize("sticky", [False, True])
def test_the_id_is_the_one_that_the_sender_was_told(broker, sticky):
    broker.declare("i", group_affinity=sticky)
    first, second = sent(broker.send(b"1", b"2", name="i"))
    for result, body in ((second, b"2"), (first, b"1")):
        selector = f"JMSMessageID = 'ID:{message_id(INSTANCE, result.id)}'"
        assert [each.body for each in broker.browse("i", selector=selector)] == [body]
        assert bodies(broker.receive(2, "i", selector=selector)) == [body]


def test_the_time_is_when_the_broker_took_it(broker):
    begin_ms = broker.clock.ms
    broker.send(b"old")
    broker.advance(1_000)
    broker.send(b"new")
    for selector, body in ((f"JMSTimestamp > {begin_ms}", b"new"), ("JMSTimestamp > 0", b"old")):
        assert bodies(broker.receive(2, selector=selector)) == [body]


def test_fields_are_the_same_after_a_restart_and_in_the_dead_letter_queue():
    broker = DiskBroker()
    broker.declare("dead")
    broker.declare(dead_letter="dead")
    took_ms = broker.clock.ms
    (result,) = sent(broker.send(b"x", priority=8))
    broker.dead_letter(*broker.receive())
    broker = broker.restarted()
    broker.core.instance = INSTANCE
    name = message_id(INSTANCE, result.id)
    selector = f"JMSPriority = 8 AND JMSTimestamp = {took_ms} AND JMSMessageID = 'ID:{name}'"
    assert bodies(broker.receive(1, "dead", selector=selector)) == [b"x"]


def test_the_selector_of_a_groups_consumer_is_asked_with_fields(broker):
    broker.declare("g", group_affinity=True)
    _, urgent = broker.consume(9, "g", "JMSPriority = 9")
    broker.send(b"first", name="g", group="a", priority=9)
    _, rest = broker.consume(9, "g", priority=1)  # it is asked first
    broker.send(b"dull", name="g", group="a", priority=0)  # the group's consumer leaves it out
    broker.send(b"last", name="g", group="a", priority=9)
    assert bodies(urgent.take()) == [b"first", b"last"]
    assert bodies(rest.take()) == [b"dull"]


def test_fields_are_put_together_only_for_those_who_ask(broker, monkeypatch):
    def refuse(instance: int, number: int) -> str:
        raise AssertionError("nobody asked for it")

    broker.declare("g", group_affinity=True)
    headers = pack_headers({"n": "1"}, Limits())
    for name in ("q", "g"):
        broker.send(b"x", name=name, attributes=headers)
    with monkeypatch.context() as patch:
        patch.setattr(selecting, "message_id", refuse)
        for name in ("q", "g"):
            assert len(broker.browse(name, selector="n = 1")) == 1
            assert bodies(broker.receive(1, name, selector="n = 1")) == [b"x"]
        with pytest.raises(AssertionError):
            broker.browse(selector="n = 1 AND JMSMessageID = ''")
