"""What is too old goes, what is too much goes, and nothing else does."""

from typing import Any

import pytest

from braidmq.broker import streamretention
from braidmq.broker.limits import Limits
from braidmq.storage.cold import FileColdStore
from braidmq.storage.errors import DiskFull
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.simdisk import run_steps
from tests.stream_client import StreamClient


def test_records_go_with_their_age():
    client = StreamClient(DiskBroker()).declare(retention_ms=10_000)
    for number in range(20):
        client.append(b"%d" % number)
        client.broker.advance(1_000)
    client.broker.advance(1_000)
    left = client.bodies()
    assert left == [b"%d" % number for number in range(20 - len(left), 20)]
    assert 9 <= len(left) <= 11
    client.broker.advance(30_000)
    assert client.bodies() == [] and client.shard().first == client.shard().next == 21
    assert client.append(b"next") == [(0, 21)]


def test_a_closed_shard_whose_last_records_were_lost_goes():
    client = StreamClient(DiskBroker()).declare(retention_ms=10_000)
    client.append(b"a")
    client.shard().reach(10)
    client.split(0)
    client.broker.advance(5_000)
    assert len(client.stream.shards) == 3
    client.broker.advance(30_000)
    assert [*client.stream.shards] == [1, 2] and client.append(b"b", hash_key=0) == [(1, 10)]


def test_zero_keeps_them_for_ever():
    client = StreamClient(Harness()).declare(retention_ms=0)
    client.append(b"a")
    client.broker.advance(10**7)
    assert client.bodies() == [b"a"]


def test_retention_may_be_changed():
    client = StreamClient(Harness()).declare(retention_ms=0)
    client.append(b"a")
    client.broker.advance(50_000)
    client.update(retention_ms=60_000)
    client.broker.advance(2_000)
    assert client.bodies() == [b"a"]
    client.update(retention_ms=10_000)
    client.broker.advance(2_000)
    assert client.bodies() == []


def filled_files(client: StreamClient, times: int = 30, gap_ms: int = 1_000) -> None:
    for _ in range(times):
        client.append(*[b"x" * 100] * 10)
        client.broker.advance(gap_ms)
    client.append(b"." * 5_000)  # seals the segment
    client.append(b"." * 5_000)
    client.broker.rehome()
    assert client.shard().cold


def test_a_file_is_searched_a_hundred_times_in_a_retention_time(monkeypatch):
    broker = DiskBroker()
    client = StreamClient(broker).declare()
    filled_files(client)
    seeks: list[int] = []
    original = FileColdStore.seek

    def seek(self: FileColdStore, *rest: Any) -> None:
        seeks.append(1)
        original(self, *rest)

    monkeypatch.setattr(FileColdStore, "seek", seek)
    client.update(retention_ms=1_000_000)
    broker.advance(1_000_000 - 20_000)
    assert client.shard().first > 1 and client.shard().cold, "in the middle of a file"
    assert 1 <= len(seeks) <= 3
    broker.advance(10_000)
    assert client.shard().first > 101


def test_a_file_goes_at_once_when_all_of_it_is_too_old():
    broker = DiskBroker()
    client = StreamClient(broker).declare()
    filled_files(client)
    paths = [name for name in broker.disk.names() if name.endswith(".seg")]
    client.update(retention_ms=1_000)
    broker.advance(5_000)
    assert client.shard().cold == []
    broker.rehome()
    assert not set(paths) & set(broker.disk.names())


def test_the_oldest_make_way_for_what_is_too_much():
    client = StreamClient(DiskBroker()).declare(2, retention_bytes=20_000)
    for number in range(60):
        client.append(b"%d" % number + b"." * 1_000, hash_key=(0, 2**127)[number % 2])
        client.broker.advance(700)
    client.broker.advance(2_000)
    assert 15_000 < client.stream.stored_bytes <= 20_000
    left = [int(body.split(b".")[0]) for index in (0, 1) for body in client.bodies(index)]
    assert min(left) >= 60 - len(left) - 3, "about the oldest of all shards"


def test_what_is_not_kept_yet_is_not_too_much():
    client = StreamClient(DiskBroker()).declare()
    client.broker.auto_commit = False
    client.append(b"a")
    client.core.streams.trim(client.shard(), 2)
    assert client.shard().first == 1


def test_a_closed_shard_goes_when_nothing_is_left_of_it_and_its_parents():
    """Whoever reads the parent finds the way, also by a shard in which nothing ever was."""
    client = StreamClient(DiskBroker()).declare(retention_ms=10_000)
    client.append(b"in 0")
    client.split(0)
    client.split(1)
    client.broker.advance(5_000)
    assert sorted(client.stream.shards) == [0, 1, 2, 3, 4]
    client.append(b"in 3", hash_key=0)
    assert client.chunk(0, 2).children == [1, 2]
    assert client.chunk(1, 2).children == [3, 4]
    client.broker.advance(7_000)
    assert sorted(client.stream.shards) == [2, 3, 4]
    assert client.bodies(3) == [b"in 3"]


def test_many_streams_are_swept_a_few_at_a_time(monkeypatch):
    monkeypatch.setattr(streamretention, "_SWEEP_SHARDS", 4)
    broker = Harness()
    clients = [StreamClient(broker, f"s{n}").declare(2, retention_ms=1_000) for n in range(9)]
    for client in clients:
        client.append(b"a")
    clients[3].delete()
    broker.advance(4_000)
    assert all(
        client.bodies(0) == client.bodies(1) == [] for client in clients if client is not clients[3]
    )


def test_records_are_released_a_few_in_a_turn(monkeypatch):
    monkeypatch.setattr(streamretention, "_RELEASES", 7)
    client = StreamClient(Harness()).declare(3)
    for number in range(50):
        client.append(b"%d" % number)
    log = client.broker.log
    client.core.delete_stream(client.who, "s")
    assert log.statistics().bytes_live_estimate > 0
    turns = 0
    while log.statistics().bytes_live_estimate and turns < 100:
        client.core.run(client.broker.clock.ms)
        turns += 1
    assert turns == 8


def test_a_full_disk_is_left_alone(monkeypatch):
    broker = DiskBroker()
    client = StreamClient(broker).declare()
    client.append(*[b"x" * 100] * 100)
    client.append(b"." * 5_000)

    def admit() -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(broker.log, "admit", admit)
        for job in broker.core.streams.jobs():
            with pytest.raises(DiskFull):
                run_steps(job)
        assert client.shard().cold == []
    broker.rehome()
    assert client.shard().cold, "as soon as there is room"


def test_nothing_moves_before_it_is_worth_a_file():
    limits = Limits(shard_hot_bytes_max=20_000)
    broker = DiskBroker(limits=limits)
    broker.core.limits = limits  # DiskBroker has all move
    client = StreamClient(broker).declare()
    client.append(*[b"x" * 100] * 100)
    client.append(b"." * 5_000)
    broker.rehome()
    assert client.shard().cold == []
    client.append(*[b"x" * 100] * 200)
    client.append(b"." * 5_000)
    broker.rehome()
    assert client.shard().cold


def test_a_slow_shard_does_not_stay_far_behind_the_end_of_the_log():
    limits = Limits(shard_hot_lag_bytes_max=30_000)
    broker = DiskBroker()
    broker.core.limits = limits
    slow = StreamClient(broker, "slow").declare()
    slow.append(b"a")
    fast = StreamClient(broker, "fast").declare()
    for moved in (False, True):
        for _ in range(5):
            fast.append(b"." * 4_000)
        broker.rehome()
        assert bool(slow.shard().cold) == moved
    assert slow.bodies() == [b"a"]
