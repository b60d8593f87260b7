"""Records that are appended together with something else."""

import random
from typing import Any

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import (
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Throttled,
    TooLarge,
)
from braidmq.broker.limits import PARTITION_KEY_BYTES_MAX, Limits
from braidmq.broker.session import INBOUND
from braidmq.broker.streamonce import append_once
from braidmq.storage.log import Durability
from braidmq.storage.record import decode_message
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.group_client import declare_stream, read_all


class Client:
    def publish(self, publication, match):
        raise AssertionError("nobody publishes")

    def attach(self, queue, subscription):
        raise AssertionError("it subscribes to nothing")

    def replaced(self):
        raise AssertionError("nobody else comes")

    def ended(self, reason):
        raise AssertionError("nobody ends it")


def once(broker, body, key="k", more=(), who=SYSTEM, headers=None, name="s"):
    found = append_once(broker.core, who, name, key, headers or {}, body, more, broker.clock.ms)
    broker.settle()
    return found


def session_of(broker):
    clients = broker.core.clients
    session, _ = clients.open(SYSTEM, "c", Client(), False, 60_000, broker.clock.ms)
    broker.settle()
    return session


@pytest.mark.parametrize("power_cut", [None, random.Random(1)])
def test_both_are_kept(power_cut):
    broker = DiskBroker()
    declare_stream(broker, 4)
    queue = session_of(broker).queue
    level, (shard, number) = once(
        broker, b"x", "key", [(queue.id, INBOUND | 7)], headers={"a": "b"}
    )
    assert level is Durability.SYNC
    broker = broker.restarted(power_cut)
    (record,) = read_all(broker)
    assert (record.shard, record.number) == (shard, number)
    assert (record.key, record.body, record.headers["a"]) == ("key", b"x", "b")
    assert broker.core.streams.get("s").place(b"key").index == shard
    queue = broker.core.sessions["c"].queue
    assert queue is not None and queue.inbound == {7}


def test_what_moves_to_a_file_stays_as_it_is():
    broker = DiskBroker()
    declare_stream(broker, 1)
    for number in range(40):
        once(broker, bytes(200), str(number))
    before = read_all(broker)
    broker.checkpoint()
    broker.rehome()
    assert broker.core.streams.get("s").shards[0].cold
    assert read_all(broker) == before
    assert [record.key for record in before] == [str(number) for number in range(40)]


def test_what_is_refused_leaves_nothing():
    broker = Harness()
    declare_stream(broker, 1, shard_records_in_per_second=1, record_bytes_max=100)
    broker.core.access.replace([User("ada", rules=(Rule("allow", ("stream:Read",), ("*",)),))])
    ada = broker.core.access.principal("ada")
    at = broker.log.next_lsn
    for error, fields in (
        (PermissionDenied, {"who": ada}),
        (NotFound, {"name": "none"}),
        (InvalidArgument, {"key": ""}),
        (InvalidArgument, {"key": "k" * (PARTITION_KEY_BYTES_MAX + 1)}),
        (TooLarge, {"body": bytes(101)}),
    ):
        with pytest.raises(error):
            once(broker, **{"body": b"x", **fields})
    assert broker.log.next_lsn == at
    once(broker, b"x")
    with pytest.raises(Throttled):
        once(broker, b"y")
    assert [record.body for record in read_all(broker)] == [b"x"]


def test_both_are_one_record():
    broker = Harness()
    declare_stream(broker, 1)
    at = broker.log.next_lsn
    once(broker, b"x", more=[(99, INBOUND | 7)])
    extent = broker.log.get(at)
    assert extent is not None
    message = decode_message(extent.buffer, at - extent.start, at)
    shard = broker.core.streams.get("s").shards[0]
    assert message.targets == ((shard.id, 1), (99, INBOUND | 7))
    assert list(shard.lsns) == [at]


def test_it_is_refused_while_too_much_waits_to_be_written():
    broker = DiskBroker(limits=Limits(pending_bytes_max=100))
    declare_stream(broker, 1)
    broker.auto_commit = False
    with pytest.raises(Overloaded):
        for _ in range(5):
            append_once(broker.core, SYSTEM, "s", "k", {}, bytes(99), (), broker.clock.ms)


def test_a_stream_in_memory_keeps_nothing_else():
    broker = Harness()
    declare_stream(broker, 1, Durability.MEMORY, shard_records_in_per_second=1)
    level, position = once(broker, b"x", more=[(99, INBOUND | 7)])
    assert (level, position) == (Durability.MEMORY, (0, 1))
    with pytest.raises(Throttled):
        once(broker, b"y")
    (record,) = read_all(broker)
    assert (record.key, record.body) == ("k", b"x")


def test_who_waits_at_the_end_of_the_shard_hears_of_it():
    broker = Harness()
    declare_stream(broker, 1)
    chunks: list[Any] = []
    broker.core.read_shard(
        SYSTEM,
        "s",
        0,
        1,
        10,
        1000,
        5000,
        lambda _, chunk: chunks.append(chunk),
        None,
        broker.clock.ms,
    )
    broker.settle()
    assert not chunks
    once(broker, b"x")
    assert [chunk.count for chunk in chunks] == [1]
