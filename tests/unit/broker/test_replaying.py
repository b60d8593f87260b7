"""What an archive keeps comes once more to what is bound: all that matches, in order, once."""

import json
from typing import Any

import pytest

from braidmq.broker import replaying
from braidmq.broker.access import SYSTEM
from braidmq.broker.message import unpack_headers
from braidmq.broker.streams import Appending
from braidmq.broker.webhook import WebhookSettings
from braidmq.storage.errors import DiskFull
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.fanout_harness import bind, declare_stream, publish, queues, records, send
from tests.replay_harness import archived, numbered, origins, replay, replays, run_replays


@pytest.fixture
def broker():
    return DiskBroker()


# --- what is replayed ---


def test_a_queue_that_was_bound_later_gets_what_was_published_before(broker):
    archived(broker)
    publish(broker, "orders/1", b"a", region="EU")
    time_ms = broker.clock.ms
    broker.advance(1_000)
    publish(broker, "bills/1", b"no")
    queues(broker, "q")
    bind(broker, "orders/#", "q")
    publish(broker, "orders/2", b"b")
    replay(broker, "orders/#", "q")
    info = run_replays(broker)
    assert (info.state, info.examined, info.replayed, info.remaining) == ("done", 3, 2, 0)
    assert broker.bodies("q") == [b"b", b"a", b"b"]
    assert origins(broker, "q") == ["", "archive/0/1", "archive/0/3"]
    headers = unpack_headers(broker.browse("q")[1].attributes)
    assert headers == {
        "topic": "orders/1",
        "region": "EU",
        "replayed": "1",
        "replayed-time": str(time_ms),
        "replayed-from": "archive/0/1",
    }


def test_the_start_counts_and_the_end_does_not(broker):
    archived(broker)
    queues(broker, "q")
    bind(broker, "#", "q")
    begin_ms = broker.clock.ms
    for body in numbered(5):
        publish(broker, "t", body)
        broker.advance(1_000)
    broker.purge("q")
    replay(broker, "#", "q", start_ms=begin_ms + 1_000, end_ms=begin_ms + 3_000)
    run_replays(broker)
    assert broker.bodies("q") == [b"1", b"2"]


def test_what_is_published_after_it_began_is_not_replayed(broker):
    archived(broker)
    queues(broker, "q")
    publish(broker, "t", *numbered(500))
    bind(broker, "#", "q")
    broker.advance(10)
    replay(broker, "#", "q", end_ms=broker.clock.ms + 10**9)
    broker.advance(2)
    publish(broker, "t", b"new")
    assert run_replays(broker).replayed == 500
    assert broker.bodies("q").count(b"new") == 1


def test_the_condition_of_the_binding_holds(broker):
    archived(broker)
    publish(broker, "t", b'{"n": 1}', b'{"n": 2}', b"no json", kind="x")
    publish(broker, "t", b'{"n": 1}', kind="y")
    queues(broker, "headers", "body")
    bind(broker, "t", "headers", where="kind = 'y'")
    bind(broker, "t", "body", policy='{"n": [1]}', scope="body")
    replay(broker, "t", "headers")
    replay(broker, "t", "body")
    assert [run_replays(broker).examined, replays(broker)[0].examined] == [4, 4]
    assert broker.bodies("headers") == [b'{"n": 1}']
    assert broker.bodies("body") == [b'{"n": 1}'] * 2


def test_a_selector_is_told_the_time_of_the_first_publication(broker):
    archived(broker)
    publish(broker, "t", b"old")
    old_ms = broker.clock.ms
    broker.advance(1_000)
    publish(broker, "t", b"new")
    queues(broker, "q")
    bind(broker, "t", "q", where=f"JMSTimestamp = {old_ms}")
    replay(broker, "t", "q")
    assert run_replays(broker).examined == 2
    assert broker.bodies("q") == [b"old"]


def test_records_that_came_by_no_topic_are_left_out(broker):
    archived(broker)
    batch = Appending([b"x", b"y"], [b"t", b"t"], [b"", b"\x81\xa5topic\xc4\x01t"])
    broker.core.append(SYSTEM, "archive", batch, broker.clock.ms)
    publish(broker, "t", b"z")
    queues(broker, "q")
    bind(broker, "#", "q")
    replay(broker, "#", "q")
    assert run_replays(broker).examined == 3
    assert broker.bodies("q") == [b"z"]


def test_parents_come_before_their_children(broker):
    archived(broker, shards=2)
    expected: dict[str, list[bytes]] = {f"t/{number}": [] for number in range(8)}

    def go(begin: int) -> None:
        for body in numbered(40, begin):
            topic = f"t/{int(body) % 8}"
            publish(broker, topic, body)
            expected[topic].append(body)

    go(0)
    broker.core.split_shard(SYSTEM, "archive", 0, "", broker.clock.ms)
    go(40)
    broker.core.merge_shards(SYSTEM, "archive", 3, 1, broker.clock.ms)
    go(80)
    broker.core.rescale_stream(SYSTEM, "archive", 3, broker.clock.ms)
    go(120)
    queues(broker, "q")
    bind(broker, "#", "q")
    replay(broker, "#", "q")
    assert run_replays(broker).replayed == 160
    found: dict[str, list[bytes]] = {}
    for each in broker.browse("q"):
        found.setdefault(str(unpack_headers(each.attributes)["topic"]), []).append(each.body)
    assert found == expected


def test_what_has_moved_to_files_is_replayed_too(broker):
    archived(broker)
    times = []
    for at in range(10):
        times.append(broker.clock.ms)
        publish(broker, "t", *(b"%d" % (at * 100 + n) + bytes(100) for n in range(100)))
        broker.advance(1_000)
    broker.rehome()
    assert broker.core.streams.get("archive").shards[0].cold
    queues(broker, "q")
    bind(broker, "#", "q")
    replay(broker, "#", "q", start_ms=times[4], end_ms=times[9])
    assert run_replays(broker).replayed == 500
    bodies = [m.rstrip(b"\0") for m in broker.drain("q")]
    assert bodies == numbered(500, 400)


def test_shards_that_are_gone_are_passed_over(broker):
    archived(broker)
    broker.core.update_stream(SYSTEM, "archive", {"retention_ms": 3_600_000}, broker.clock.ms)
    publish(broker, "t", b"old")
    broker.core.split_shard(SYSTEM, "archive", 0, "", broker.clock.ms)
    broker.advance(2 * 3_600_000)
    publish(broker, "t", b"new")
    publish(broker, "other", b"x")
    assert 0 not in broker.core.streams.get("archive").shards
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q")
    assert run_replays(broker).examined == 2
    assert broker.bodies("q") == [b"new"]


def test_what_is_not_kept_yet_is_waited_for(broker):
    archived(broker)
    queues(broker, "q")
    bind(broker, "t", "q")
    broker.settle()
    broker.auto_commit = False
    send(broker, "t", b"x")
    replay(broker, "t", "q")
    for at in range(20):  # the writer stands still
        broker.clock.ms += 1
        broker.core.run(broker.clock.ms)
        broker.core.tick(broker.clock.ms)
        assert replays(broker)[0].examined == 0, at
    broker.auto_commit = True
    assert run_replays(broker).replayed == 1


def test_records_that_go_while_they_are_read_are_passed_over(broker):
    archived(broker)
    publish(broker, "t", *numbered(10))
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q")
    (task,) = broker.core.replays._running.values()
    for _ in range(2):
        task.step(broker.clock.ms)
    assert task._read is not None
    shard = broker.core.streams.get("archive").shards[0]
    broker.core.streams.trim(shard, shard.next)
    assert (run_replays(broker).state, broker.bodies("q")) == ("done", [])


# --- targets ---


def test_a_fifo_queue_keeps_groups_and_swallows_nothing(broker):
    archived(broker, shards=4)
    queues(broker, "q", fifo=True, content_dedup=True)
    bind(broker, "#", "q")
    for number in range(60):
        headers = {"group_id": f"g{number % 3}", "dedup_id": f"d{number}"}
        publish(broker, f"t/{number % 7}", b"%d" % number, **headers)
    assert len(broker.drain("q")) == 60
    replay(broker, "#", "q")
    assert run_replays(broker).replayed == 60
    found: dict[str, list[int]] = {}
    while taken := broker.receive(10, "q"):
        for each in taken:
            found.setdefault(str(unpack_headers(each.attributes)["group-id"]), []).append(
                int(each.body)
            )
        broker.ack(*taken, name="q")
    assert found == {f"g{group}": list(range(group, 60, 3)) for group in range(3)}
    # What is published is known as before.
    publish(broker, "t/0", b"again", group_id="g0", dedup_id="d0")
    assert broker.bodies("q") == []


def test_a_stream_gets_it_by_its_key(broker):
    archived(broker)
    declare_stream(broker, "copy", 3)
    publish(broker, "a", *numbered(300))
    publish(broker, "b", *numbered(300, 1000), partition_key="k")
    bind(broker, "#", "copy", "stream")
    replay(broker, "#", "copy", "stream")
    run_replays(broker)
    found = records(broker, "copy")
    stream = broker.core.streams.get("copy")
    keys = {b"a": numbered(300), b"k": numbered(300, 1000)}
    for key, bodies in keys.items():
        shard = found[stream.place(key).index]
        assert [body for body in shard if body in bodies] == bodies
    assert sum(map(len, found.values())) == 600


def test_queues_and_streams_in_memory(broker):
    archived(broker)
    publish(broker, "t", *numbered(300))
    queues(broker, "q", durability=Durability.MEMORY)
    declare_stream(broker, "s", durability=Durability.MEMORY)
    bind(broker, "#", "q")
    bind(broker, "#", "s", "stream")
    replay(broker, "#", "q")
    replay(broker, "#", "s", "stream")
    run_replays(broker)
    assert broker.bodies("q") == records(broker, "s")[0] == numbered(300)


def test_an_envelope_names_the_same_message_each_time(broker):
    archived(broker)
    publish(broker, "t", b"x", region="EU")
    time_ms = broker.clock.ms
    broker.advance(5_000)
    queues(broker, "q")
    bind(broker, "t", "q", raw=False)
    for _ in range(2):
        replay(broker, "t", "q")
        run_replays(broker)
    one, two = (json.loads(body) for body in broker.bodies("q"))
    assert one == two and one["Message"] == "x" and one["TopicArn"] == "t"
    assert one["MessageAttributes"]["region"] == {"Type": "String", "Value": "EU"}
    assert one["MessageAttributes"]["replayed"] == {"Type": "String", "Value": "1"}
    assert one["Timestamp"].startswith("20") and time_ms < broker.clock.ms
    assert origins(broker, "q") == ["archive/0/1"] * 2


def test_delays_times_to_live_and_retention_of_the_queue(broker):
    archived(broker)
    publish(broker, "t", b"x")
    queues(broker, "late", delay_ms=1_000)
    queues(broker, "short", ttl_ms=2_000)
    queues(broker, "kept", retention_ms=5_000)
    for name in ("late", "short", "kept"):
        bind(broker, "t", name)
        replay(broker, "t", name)
    run_replays(broker)
    assert broker.receive(name="late") == []
    assert [broker.info(name).ready for name in ("short", "kept")] == [1, 1]
    broker.advance(2_000)
    assert len(broker.receive(name="late")) == 1
    assert broker.info("short").ready == 0
    broker.advance(70_000)
    assert broker.info("kept").ready == 0


def test_consumers_are_given_what_comes(broker):
    archived(broker)
    publish(broker, "t", *numbered(3))
    queues(broker, "q")
    bind(broker, "t", "q")
    _, sink = broker.consume(name="q")
    replay(broker, "t", "q")
    run_replays(broker)
    assert [each.body for each in sink.take()] == numbered(3)


def test_a_reader_of_a_stream_is_woken(broker):
    archived(broker)
    publish(broker, "t", b"x")
    declare_stream(broker, "s")
    bind(broker, "#", "s", "stream")
    answers: list[Any] = []
    broker.core.read_shard(
        *(SYSTEM, "s", 0, 1, 10, 1000, 60_000),
        *(lambda argument, chunk: answers.append(chunk), None, broker.clock.ms),
    )
    replay(broker, "#", "s", "stream")
    run_replays(broker)
    assert answers[0].count == 1


# --- it makes way ---


def test_a_full_queue_makes_it_wait(broker):
    archived(broker)
    publish(broker, "t", *numbered(5))
    queues(broker, "q", messages_max=2)
    bind(broker, "t", "q")
    replay(broker, "t", "q")
    broker.advance(5_000)
    assert broker.bodies("q") == numbered(2)
    assert replays(broker)[0].state == "running"
    for expected in ([b"0", b"1"], [b"2", b"3"]):
        assert broker.drain("q") == expected
        broker.advance(1_000)
    run_replays(broker)
    assert broker.bodies("q") == [b"4"]


def test_a_queue_that_drops_the_oldest_never_holds_more_than_it_may(broker):
    archived(broker)
    publish(broker, "t", *numbered(20))
    queues(broker, "q", messages_max=3, overflow="drop-oldest")
    bind(broker, "t", "q")
    replay(broker, "t", "q")
    assert run_replays(broker).replayed == 20
    assert broker.bodies("q") == [b"17", b"18", b"19"]


def test_a_stream_that_throttles_makes_it_wait(broker):
    archived(broker)
    publish(broker, "t", *numbered(25))
    declare_stream(broker, "s", shard_records_in_per_second=10)
    bind(broker, "t", "s", "stream")
    replay(broker, "t", "s", "stream")
    broker.advance(100)
    assert len(records(broker, "s")[0]) <= 11
    assert run_replays(broker).refused == 0
    assert records(broker, "s")[0] == numbered(25)


def test_an_archive_that_throttles_is_read_slowly(broker):
    archived(broker)
    publish(broker, "t", *(bytes(1_000) for _ in range(500)))
    broker.core.update_stream(
        SYSTEM, "archive", {"shard_bytes_out_per_second": 100_000}, broker.clock.ms
    )
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q")
    broker.advance(100)
    assert replays(broker)[0].replayed < 500
    assert run_replays(broker).replayed == 500


def test_what_is_too_large_is_left_out_and_counted(broker):
    archived(broker)
    publish(broker, "t", b"a", bytes(3_000), b"b")
    declare_stream(broker, "s", record_bytes_max=1_024)
    queues(broker, "q", bytes_max=1_500)
    bind(broker, "t", "s", "stream")
    bind(broker, "t", "q")
    replay(broker, "t", "s", "stream")
    replay(broker, "t", "q")
    run_replays(broker)
    assert [(each.replayed, each.refused) for each in replays(broker)] == [(2, 1)] * 2
    assert broker.bodies("q") == records(broker, "s")[0] == [b"a", b"b"]


def test_a_rate(broker):
    archived(broker)
    publish(broker, "t", *numbered(50))
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q", rate=10)
    broker.advance(2_050)
    assert len(broker.bodies("q")) == 21
    assert run_replays(broker).replayed == 50


def test_it_waits_while_much_is_to_be_written(broker, monkeypatch):
    archived(broker)
    publish(broker, "t", *numbered(5))
    queues(broker, "q")
    bind(broker, "t", "q")
    monkeypatch.setattr(replaying, "_LOG_BYTES_MAX", -1)
    replay(broker, "t", "q")
    broker.advance(1_000)
    assert replays(broker)[0].examined == 0
    monkeypatch.undo()
    assert run_replays(broker).replayed == 5


def test_it_waits_while_the_disk_is_full(broker, monkeypatch):
    archived(broker)
    publish(broker, "t", *numbered(5))
    queues(broker, "q")
    bind(broker, "t", "q")
    replay(broker, "t", "q")

    def admit() -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(broker.log, "admit", admit)
    broker.advance(5_000)
    assert (replays(broker)[0].state, broker.bodies("q")) == ("running", [])
    monkeypatch.undo()
    assert run_replays(broker).replayed == 5


def test_a_webhook_has_to_be_confirmed(broker):
    archived(broker)
    publish(broker, "t", b"x")
    settings = WebhookSettings(url="https://a.example")
    broker.core.declare_webhook(SYSTEM, "w", settings, broker.clock.ms)
    bind(broker, "t", "w", "webhook")
    replay(broker, "t", "w", "webhook")
    broker.advance(5_000)
    queue = broker.core.webhooks["w"]
    assert (replays(broker)[0].state, broker.bodies(queue.name)) == ("running", [])
    broker.core.ask_webhook(queue, "token", broker.clock.ms)
    broker.core.confirm_webhook("w", "token", broker.clock.ms)
    run_replays(broker)
    assert broker.bodies(queue.name) == [b"x"]
