"""Reads that wait: all of them end, with records, with an error, or because their time is over."""

import pytest

from braidmq.broker.errors import BraidError, BrokerFailed, LimitExceeded, NotFound
from braidmq.broker.limits import Limits
from braidmq.broker.streamreading import Chunk
from braidmq.storage.errors import LogFailed
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.stream_client import StreamClient, batch_of, records_of

LEVELS = list(Durability)


def bodies(answers: list[Chunk | BraidError]) -> list[bytes]:
    (answer,) = answers
    assert isinstance(answer, Chunk), answer
    return [record.body for record in records_of(answer)]


def waiting(client: StreamClient) -> int:
    return client.core.streams._waiting.count


@pytest.fixture(params=LEVELS, ids=lambda level: level.name)
def client(request) -> StreamClient:
    return StreamClient(DiskBroker()).declare(durability=request.param)


def test_a_read_at_the_end_gets_what_comes(client):
    _, answers = client.begin(wait_ms=10_000)
    client.broker.settle()
    assert waiting(client) == 1 and not answers
    client.append(b"a", b"b")
    assert bodies(answers) == [b"a", b"b"] and waiting(client) == 0


def test_records_wake_it_when_they_are_kept_and_not_before():
    client = StreamClient(DiskBroker()).declare()
    broker = client.broker
    broker.auto_commit = False
    _, answers = client.begin(wait_ms=10_000)
    broker.settle()
    client.core.append(client.who, "s", batch_of(b"a"), broker.clock.ms)
    _, late = client.begin(wait_ms=10_000)
    Harness.settle(broker)
    assert not answers and not late and waiting(client) == 2
    broker.auto_commit = True
    broker.settle()
    assert bodies(answers) == bodies(late) == [b"a"]


def test_its_time_may_be_over(client):
    _, answers = client.begin(wait_ms=500)
    client.broker.advance(499)
    assert not answers
    client.broker.advance(1)
    assert bodies(answers) == [] and waiting(client) == 0
    assert not client.stream.waiting, "nothing is left of it"


@pytest.mark.parametrize("end", ["deadline", "deletion", "failure"])
def test_a_bug_in_who_waits_is_no_other_ones_problem(client, end):
    faults: list[Exception] = []
    client.core.on_fault = faults.append
    read, _ = client.begin(wait_ms=1_000)
    read._answer = lambda argument, chunk: 1 // 0
    _, answers = client.begin(wait_ms=1_000)
    client.broker.settle()
    if end == "deadline":
        client.broker.advance(1_000)
    elif end == "deletion":
        client.delete()
    else:
        client.core.fail(LogFailed("gone"))
        client.broker.settle()
    assert len(answers) == 1 and [type(fault) for fault in faults] == [ZeroDivisionError]


def test_many_give_up_at_once(client):
    answers = [client.begin(wait_ms=500)[1] for _ in range(2_000)]
    client.broker.advance(500)
    assert all(bodies(each) == [] for each in answers)


def test_a_cancelled_read_is_not_answered(client):
    read, answers = client.begin(wait_ms=500)
    client.broker.settle()
    client.core.streams.cancel(read)
    client.core.streams.cancel(read)
    client.append(b"a")
    client.broker.advance(1_000)
    assert not answers and waiting(client) == 0


def test_a_closed_shard_ends_it_and_names_the_children(client):
    _, answers = client.begin(wait_ms=500)
    client.broker.settle()
    client.split()
    (chunk,) = answers
    assert isinstance(chunk, Chunk)
    assert (chunk.ended, chunk.children, chunk.count, chunk.next) == (True, [1, 2], 0, 1)


def test_the_end_of_a_shard_is_told_when_no_power_cut_takes_it_back():
    client = StreamClient(DiskBroker()).declare(durability=Durability.OS)
    broker = client.broker
    _, answers = client.begin(wait_ms=500)
    broker.settle()
    broker.auto_commit = False
    client.core.split_shard(client.who, client.name, 0, "", broker.clock.ms)
    client.core.when_kept(Durability.OS, lambda *_: None, None)
    broker.settle()
    assert broker.log.durable_lsn < broker.log.written_lsn and not answers
    broker.auto_commit = True
    broker.settle()
    (chunk,) = answers
    assert isinstance(chunk, Chunk) and chunk.ended


def test_a_deleted_stream_ends_it(client):
    _, waits = client.begin(wait_ms=500)
    client.broker.settle()
    _, begun = client.begin(wait_ms=500)
    client.delete()
    assert isinstance(waits[0], NotFound) and isinstance(begun[0], NotFound)
    assert waiting(client) == 0


def test_a_failed_broker_ends_it(client):
    _, waits = client.begin(wait_ms=500)
    client.broker.settle()
    _, begun = client.begin(wait_ms=500)
    client.core.fail(LogFailed("the disk is gone"))
    client.broker.clock.turn()
    client.core.run(client.broker.clock.ms)
    assert isinstance(waits[0], BrokerFailed) and isinstance(begun[0], BrokerFailed)
    assert waiting(client) == 0


def test_only_so_many_may_wait():
    client = StreamClient(Harness(limits=Limits(stream_reads_waiting_max=3))).declare()
    answers = [client.begin(wait_ms=500)[1] for _ in range(4)]
    client.broker.settle()
    assert [len(each) for each in answers] == [0, 0, 0, 1]
    assert isinstance(answers[3][0], LimitExceeded)
    client.append(b"a")
    assert all(bodies(each) == [b"a"] for each in answers[:3])


def test_deadlines_of_reads_that_are_over_do_not_pile_up(client):
    for number in range(1, 1_000):
        _, answers = client.begin(number=number, wait_ms=60_000)
        client.broker.settle()
        client.append(b"a")
        assert bodies(answers) == [b"a"]
    assert len(client.core.streams._waiting._deadlines) < 200


def test_a_read_that_waits_again_has_one_deadline(client):
    """It is woken when its shard is trimmed, or by what is for others."""
    client.begin(wait_ms=60_000)
    client.broker.settle()
    for _ in range(200):
        client.core.streams._waiting.wake(client.stream, 0)
        client.broker.settle()
    assert waiting(client) == 1 and len(client.core.streams._waiting._deadlines) == 1


def test_a_shard_that_a_deadline_left_without_reads_can_be_dropped():
    client = StreamClient(DiskBroker()).declare(retention_ms=5_000)
    client.append(b"a")
    client.begin(number=2, wait_ms=100)
    client.broker.advance(200)
    client.split()
    client.broker.advance(20_000)
    assert sorted(client.stream.shards) == [1, 2]
