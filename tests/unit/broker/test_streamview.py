"""A view: what queues promise, on the records of a stream, and nothing of it in the stream."""

import random

import pytest

from braidmq.broker.access import SYSTEM, Access, Rule, User
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.errors import (
    Conflict,
    InvalidArgument,
    LeaseLost,
    NotFound,
    PermissionDenied,
)
from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from braidmq.broker.passwords import hash_password
from braidmq.broker.publishing import Posted
from braidmq.broker.streams import Appending
from braidmq.broker.values import message_id
from braidmq.storage.log import Durability
from braidmq.storage.memory import MemoryLog
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.stream_client import StreamClient

LOW, HIGH = 0, 2**128 - 1


class Views:
    """A broker with the stream ``s`` and the view ``v``."""

    def __init__(self, shards=1, broker=None, stream=None, **settings):
        self.broker = broker or DiskBroker(segment_bytes=2_048)
        self.client = StreamClient(self.broker).declare(shards, **(stream or {}))
        self.declare(**settings)

    def declare(self, name="v", **settings):
        info = self.broker.declare(name, stream="s", **settings)
        self.broker.settle()
        return info

    def append(self, *bodies, hash_key=LOW):
        self.client.append(*bodies, hash_key=hash_key)

    def restart(self, power=False):
        self.broker = self.broker.restarted(random.Random(3) if power else None)
        self.client = StreamClient(self.broker)

    def receive(self, count=10, **options):
        return self.broker.receive(count, "v", **options)

    def ack(self, *deliveries):
        assert self.broker.ack(*deliveries, name="v") == [None] * len(deliveries)

    def nack(self, *deliveries, **options):
        assert self.broker.nack(*deliveries, name="v", **options) == [None] * len(deliveries)

    def info(self, name="v"):
        return self.broker.info(name)

    @property
    def view(self):
        return self.broker.core.queues["v"]


def bodies(deliveries):
    return [delivery.body for delivery in deliveries]


def counts(info):
    return info.ready, info.delayed, info.in_flight


# What queues promise ------------------------------------------------------------------------


def test_records_are_received_in_order_and_gone_when_they_are_acknowledged():
    views = Views()
    views.append(b"1", b"2", b"3")
    views.append(b"4")
    assert counts(views.info()) == (4, 0, 0)
    taken = views.receive(3)
    assert bodies(taken) == [b"1", b"2", b"3"]
    assert [delivery.receives for delivery in taken] == [1, 1, 1]
    assert counts(views.info()) == (1, 0, 3)
    views.ack(*taken[:2])
    for power in (False, True):
        views.restart(power)
        assert counts(views.info()) == (2, 0, 0)
    again = views.receive()
    assert [(each.body, each.receives) for each in again] == [(b"3", 2), (b"4", 1)]
    assert views.client.bodies() == [b"1", b"2", b"3", b"4"], "the stream is as it was"


def test_records_that_came_before_the_credit_are_delivered():
    views = Views()
    consumer, sink = views.broker.consume(credit=0, name="v")
    views.append(b"1", b"2")
    assert not sink.deliveries
    views.broker.credit(consumer, 5)
    assert bodies(sink.take()) == [b"1", b"2"]


def test_a_lease_ends_by_its_deadline_and_can_be_extended():
    views = Views(visibility_timeout_ms=1_000)
    views.append(b"1", b"2")
    one, two = views.receive()
    views.broker.extend(two, name="v", lease_ms=5_000)
    views.broker.advance(2_000)
    (again,) = views.receive()
    assert (again.body, again.receives) == (b"1", 2)
    assert isinstance(views.broker.ack(one, name="v")[0], LeaseLost)
    views.ack(again, two)
    assert views.info().messages == 0


def test_what_comes_back_comes_after_its_delay_and_blocks_nobody():
    views = Views()
    views.append(b"1", b"2", b"3")
    one, two, three = views.receive()
    views.ack(three)
    views.nack(one, delay_ms=5_000)
    views.nack(two)
    views.append(b"4")
    assert counts(views.info()) == (2, 1, 0)
    assert bodies(views.receive()) == [b"2", b"4"]
    views.restart()
    assert counts(views.info()) == (2, 1, 0)
    views.broker.advance(4_900)
    assert bodies(views.receive()) == [b"2", b"4"]
    views.broker.advance(200)
    (again,) = views.receive()
    assert (again.body, again.receives) == (b"1", 2)


def test_after_so_many_receives_a_record_is_a_dead_letter():
    views = Views(max_receives=2, dead_letter="dead")
    views.append(b"bad", b"good")
    for _ in range(2):
        views.nack(*[each for each in views.receive() if each.body == b"bad"])
    assert views.broker.bodies("dead") == [b"bad"]
    assert views.receive() == []  # "good" is held
    views.restart()
    assert bodies(views.receive()) == [b"good"]
    assert views.broker.bodies("dead") == [b"bad"]


def test_a_consumer_is_pushed_what_comes_and_what_it_holds_comes_back_with_its_end():
    views = Views()
    views.append(b"1")
    consumer, sink = views.broker.consume(2, "v")
    views.append(b"2", b"3")
    assert bodies(sink.deliveries) == [b"1", b"2"]
    views.broker.credit(consumer, 1)
    assert bodies(sink.take()) == [b"1", b"2", b"3"]
    views.broker.cancel(consumer)
    assert [each.receives for each in views.receive()] == [2, 2, 2]


def test_consumers_take_turns():
    views = Views()
    _, one = views.broker.consume(1_000, "v")
    _, two = views.broker.consume(1_000, "v")
    for n in range(10):
        views.append(b"%d" % n)
    assert len(one.deliveries) == len(two.deliveries) == 5


def test_a_receive_waits_for_a_record_and_no_longer_than_it_may():
    views = Views()
    sink = views.broker.waiting(5, "v", wait_ms=1_000)
    views.append(b"1")
    assert bodies(sink.deliveries) == [b"1"]
    other = views.broker.waiting(5, "v", wait_ms=1_000)
    views.broker.advance(1_100)
    assert other.batches == [[]]


def test_nothing_is_delivered_before_it_is_kept():
    views = Views()
    sink = views.broker.waiting(5, "v")
    views.broker.auto_commit = False
    batch = Appending([b"1"], [b""])
    views.broker.core.append(SYSTEM, "s", batch, views.broker.clock.ms)
    views.broker.core.run(views.broker.clock.ms)
    assert sink.deliveries == [] and views.info().ready == 1
    views.broker.auto_commit = True
    views.broker.settle()
    assert bodies(sink.deliveries) == [b"1"]


def test_a_selector_chooses_by_headers_and_by_key():
    views = Views()
    headers = [pack_headers({"n": str(n % 3)}, Limits()) for n in range(9)]
    records = [b"%d" % n for n in range(9)]
    views.client.try_append(Appending(records, [b"k%d" % (n % 2) for n in range(9)], headers))
    assert bodies(views.receive(selector="n = '1'")) == [b"1", b"4", b"7"]
    assert bodies(views.receive(selector="\"partition-key\" = 'k0'")) == [b"0", b"2", b"6", b"8"]
    assert bodies(views.receive()) == [b"3", b"5"]
    _, sink = views.broker.consume(10, "v", selector="n = '9'")
    views.client.try_append(Appending([b"x", b"y"], [b"", b""], [headers[0], b"\x81\xa1n\xa19"]))
    assert bodies(sink.deliveries) == [b"y"]


@pytest.mark.parametrize("hash_key", [LOW, HIGH])
def test_a_selector_is_asked_about_the_time_and_the_id_and_no_record_has_a_priority(hash_key):
    views = Views(2)
    before_ms = views.broker.clock.ms
    views.append(b"1", hash_key=hash_key)
    views.broker.advance(1_000)
    views.append(b"2", hash_key=hash_key)
    last = views.broker.browse("v")[1]
    name = message_id(views.broker.core.instance, last.id)
    assert bodies(views.receive(selector=f"JMSMessageID = 'ID:{name}'")) == [b"2"]
    selector = f"JMSPriority = 4 AND JMSTimestamp = {before_ms}"
    assert bodies(views.receive(selector=selector)) == [b"1"]


def test_browsing_shows_all_that_is_left_and_changes_nothing():
    views = Views(2)
    for n in range(600):
        views.append(b"a%d" % n, hash_key=LOW)
    views.append(b"b0", b"b1", hash_key=HIGH)
    one, two, three = views.receive(3)
    views.ack(one)
    views.nack(two, delay_ms=1_000)
    found = views.broker.browse("v", limit=1_000)
    assert len(found) == 601 and [each.state for each in found[:3]] == [
        "delayed",
        "in-flight",
        "ready",
    ]
    assert [each.seq for each in found] == sorted(each.seq for each in found)
    assert bodies(found[-2:]) == [b"b0", b"b1"]
    page = views.broker.browse("v", after=found[99].seq, limit=5)
    assert page == found[100:105]
    assert counts(views.info()) == (599, 1, 1)
    assert three.seq == found[1].seq


def test_a_purge_leaves_what_comes_later():
    views = Views(2)
    views.append(*(b"%d" % n for n in range(700)))
    taken = views.receive(2)
    assert views.broker.purge("v") == 700
    assert counts(views.info()) == (0, 0, 0)
    assert isinstance(views.broker.ack(taken[0], name="v")[0], LeaseLost)
    views.append(b"new")
    views.restart()
    assert bodies(views.receive()) == [b"new"]
    assert len(views.client.bodies()) == 701


def test_views_do_not_see_each_other():
    views = Views()
    views.declare("w", start="latest")
    views.append(b"1", b"2")
    views.ack(*views.receive())
    deliveries = views.broker.receive(10, "w")
    assert bodies(deliveries) == [b"1", b"2"] and views.info().messages == 0
    assert deliveries[0].id == views.broker.browse("w")[0].id


def test_a_message_that_came_by_a_topic_is_a_record_like_others():
    views = Views()
    views.broker.core.bind(
        SYSTEM, "t/#", Target("stream", "s"), BindingSettings(), views.broker.clock.ms
    )
    views.broker.core.publish(SYSTEM, "t/a", [Posted(b"hello")], 1, views.broker.clock.ms)
    views.broker.settle()
    (delivery,) = views.receive()
    assert delivery.body == b"hello"
    views.ack(delivery)
    views.restart()
    assert views.receive() == []


# Where it begins, and what it may be told ----------------------------------------------------


def test_declaring_again_finds_it():
    views = Views(stream={"durability": Durability.OS})
    assert views.declare().settings.durability is Durability.OS
    with pytest.raises(Conflict, match="start"):
        views.declare(start="latest")
    with pytest.raises(NotFound, match="no stream"):
        views.broker.declare("w", stream="nowhere")
    info = views.broker.update("v", visibility_timeout_ms=1_000)
    assert info.settings.visibility_timeout_ms == 1_000 and info.settings.stream == "s"
    with pytest.raises(InvalidArgument, match="stream cannot be changed"):
        views.broker.update("v", stream="t")
    views.restart()
    assert views.info().settings == info.settings


def test_nothing_else_comes_into_a_view():
    views = Views(max_receives=1, dead_letter="dead")
    core, now_ms = views.broker.core, views.broker.clock.ms
    with pytest.raises(InvalidArgument, match="append to the stream"):
        views.broker.send(b"x", name="v")
    with pytest.raises(InvalidArgument, match="bind the stream"):
        core.bind(SYSTEM, "t", Target("queue", "v"), BindingSettings(), now_ms)
    with pytest.raises(InvalidArgument, match="bind the stream"):
        views.broker.declare("other")
        settings = BindingSettings(dead_letter="v")
        core.bind(SYSTEM, "t", Target("queue", "other"), settings, now_ms)
    with pytest.raises(InvalidArgument, match="shows a stream"):
        views.broker.declare("w", max_receives=1, dead_letter="v")
    with pytest.raises(InvalidArgument, match="stay there"):
        views.broker.redrive("v", "other")
    with pytest.raises(InvalidArgument, match="another queue"):
        views.broker.redrive("dead", "v")


def test_dead_letters_go_to_a_queue_that_is_named():
    views = Views(max_receives=1, dead_letter="dead")
    views.append(b"1")
    views.nack(*views.receive())
    views.broker.redrive("dead")
    views.broker.advance(100)
    assert views.broker.progress().state == "failed"
    views.broker.declare("second")
    views.broker.redrive("dead", "second")
    views.broker.advance(100)
    assert views.broker.bodies("second") == [b"1"] and views.broker.bodies("dead") == []


def test_a_stream_stays_as_long_as_it_is_shown():
    views = Views()
    with pytest.raises(Conflict, match="queue v"):
        views.client.delete()
    views.append(b"1")
    with pytest.raises(Conflict, match="1 messages"):
        views.broker.delete("v", if_empty=True)
    sink = views.broker.waiting(5, "v")
    views.ack(*sink.take())
    sink = views.broker.waiting(5, "v")
    views.broker.delete("v")
    assert isinstance(sink.error, NotFound)
    assert not views.client.stream.waiting
    views.client.delete()
    views.restart()
    assert "v" not in views.broker.core.queues


def principal(*rules):
    return Access([User("alice", hash_password("pass"), rules)]).principal("alice")


def test_whoever_declares_a_view_must_be_allowed_to_read_the_stream():
    views = Views()
    core, settings, now_ms = views.broker.core, views.view.settings, views.broker.clock.ms
    queues = Rule("allow", ("queue:*",), ("*",))
    with pytest.raises(PermissionDenied, match="stream:Read"):
        core.declare_queue(principal(queues), "w", settings, now_ms)
    read = Rule("allow", ("stream:Read",), ("s",))
    assert core.declare_queue(principal(queues, read), "w", settings, now_ms).lag == 0


# Shards -------------------------------------------------------------------------------------


def test_shards_take_turns_and_each_keeps_its_order():
    views = Views(2)
    for hash_key, letter in ((LOW, b"a"), (HIGH, b"b")):
        views.append(*(letter + b"%d" % n for n in range(50)), hash_key=hash_key)
    got = []
    for _ in range(10):
        batch = views.receive(10)
        views.ack(*batch)
        got.append({body[:1] for body in bodies(batch)})
    assert got == [{b"a"}, {b"b"}] * 5


def test_children_come_when_their_parents_are_through():
    views = Views()
    views.append(b"1", b"2")
    views.client.split(0)
    views.append(b"3", hash_key=LOW)
    views.append(b"4", hash_key=HIGH)
    views.client.merge(1, 2)
    views.append(b"5")
    for _ in range(2):
        got = []
        while batch := views.receive(1):
            got += bodies(batch)
        assert got[:2] == [b"1", b"2"] and set(got[2:4]) == {b"3", b"4"} and got[4:] == [b"5"]
        views.restart()


@pytest.mark.parametrize("turn", range(4))
def test_a_selector_finds_what_stands_in_a_child(turn):
    views = Views()
    views.append(*(b"%d" % n for n in range(300)))
    views.client.split(0)
    views.client.split(1)
    for _ in range(turn):
        assert views.receive(1, selector="n = '2'") == []  # whose turn it is changes
    batch = Appending([b"x"], [b""], [b"\x81\xa1n\xa11"], [LOW])
    views.client.try_append(batch)
    assert bodies(views.receive(1, selector="n = '1'")) == [b"x"]


def test_a_shard_that_is_held_up_holds_up_no_other():
    views = Views(2)
    views.append(b"1", hash_key=LOW)
    (one,) = views.receive()
    views.client.split(0)
    views.append(b"2", hash_key=LOW)
    views.append(b"3", hash_key=HIGH)
    assert sorted(bodies(views.receive()) + bodies(views.receive())) == [b"2", b"3"]
    views.nack(one)
    assert bodies(views.receive()) == [b"1"]


def test_what_the_stream_has_trimmed_is_gone_and_counted():
    views = Views()
    views.append(*(b"%d" % n for n in range(400)))
    taken = views.receive(3)
    views.nack(taken[0])
    views.client.core.streams.trim(views.client.shard(), 301)
    views.broker.settle()
    assert counts(views.info()) == (100, 0, 2)
    assert views.info().expired == 298
    views.ack(taken[1])
    views.nack(taken[2])
    assert bodies(views.receive(1)) == [b"300"]
    assert views.info().expired == 299
    views.restart()
    assert views.info().ready == 100 and views.info().expired == 0


def test_the_stream_ends_its_records_by_age():
    views = Views(stream={"retention_ms": 10_000})
    views.append(b"1")
    views.broker.advance(9_000)
    views.append(b"2")
    views.broker.advance(5_000)
    assert bodies(views.receive()) == [b"2"]


def test_lanes_go_with_their_shards():
    views = Views(2)
    for _ in range(30):
        views.append(b"x", hash_key=LOW)
        views.ack(*views.receive())
        views.client.rescale(3 - len(views.client.stream.open))
        views.client.update(retention_bytes=1)
        views.broker.advance(3_000)
        views.client.update(retention_bytes=0)
    assert len(views.view.shards) < 8
    assert views.view.next_code < 20, "codes are used again"
    views.append(b"last")
    views.restart()
    assert bodies(views.receive()) == [b"last"]


# Memory and storage -------------------------------------------------------------------------


def test_a_view_of_a_long_stream_is_small():
    views = Views()
    for n in range(20):
        views.append(*(b"%d" % (n * 1_000 + m) for m in range(1_000)))
    for _ in range(30):
        views.ack(*views.receive(100))
    assert views.view.live < 1_000
    assert sum(map(len, (lane.pages for lane in views.view.shards.values()))) <= 2
    assert views.info().ready == 17_000 and views.info().lag == 17_000
    size = sum(len(content) for _, content in views.view.snapshot())
    assert size < 2_000


def test_so_many_records_are_known_at_once_and_no_more():
    limits = Limits(in_flight_messages_max=20, view_lookahead_messages_max=10)
    views = Views(broker=DiskBroker(limits=limits))
    views.append(*(b"%d" % n for n in range(100)))
    held = views.receive(20) + views.receive(20)
    assert len(held) == 20
    views.nack(*held, delay_ms=10_000)
    more = views.receive(20)
    assert len(more) == 10 and views.view.live == 30, "the rest waits for room"
    waiting = views.broker.waiting(5, "v")
    assert waiting.deliveries == []
    views.ack(*more[:3])
    assert bodies(waiting.deliveries) == [b"30", b"31", b"32"]


def test_what_was_read_ahead_is_forgotten_when_nobody_asks():
    views = Views()
    views.append(*(b"%d" % n for n in range(100)))
    views.receive(1)
    assert views.view.reader.keeps
    views.broker.advance(6_000)
    assert not views.view.reader.keeps


def test_nothing_in_the_log_is_kept_because_of_a_view():
    views = Views()
    views.append(b"x" * 500)
    view = views.view
    assert list(view.lsns()) == [] and list(view.references(0, 2**62)) == []
    for n in range(40):
        views.append(b"%d" % n * 100)
    taken = views.receive(20)
    views.broker.rehome()
    views.broker.checkpoint()
    assert views.broker.log.statistics().segments <= 3
    views.ack(*taken)
    views.restart()
    assert views.info().ready == 41 - len(taken)


def test_a_damaged_record_is_held_and_blocks_nobody():
    broker = DiskBroker(segment_bytes=2_048, cache_bytes_max=2_048)
    views = Views(2, broker)
    views.append(b"first" + b"." * 150)
    for n in range(30):
        views.append(b"%d" % n + b"." * 150, hash_key=HIGH)
    damaged = []
    broker.core.on_damage = lambda queue, seq, error: damaged.append((queue, seq))
    broker.rehome()
    path = next(name for name in broker.disk.names() if name.endswith(".seg"))
    broker.disk.damage(path, 100)
    got = bodies(broker.receive(50, "v")) + bodies(broker.receive(50, "v"))
    assert len(got) + len(damaged) == 31 and damaged
    assert views.info().damaged == len(damaged) == views.info().delayed


def test_the_view_of_a_stream_in_memory_begins_anew():
    views = Views(stream={"durability": Durability.MEMORY})
    assert views.info().settings.durability is Durability.MEMORY
    views.append(b"1", b"2")
    views.declare("latest", start="latest", durability=Durability.MEMORY)
    views.ack(*views.receive(1))
    views.client.split(0)
    views.append(b"3")
    views.restart()
    assert views.info().messages == 0
    views.append(b"4")
    assert bodies(views.receive()) == [b"4"] == views.broker.bodies("latest")


def test_without_files_it_is_the_same():
    views = Views(broker=Harness(MemoryLog()))
    views.append(b"1", b"2")
    one, two = views.receive()
    views.ack(one)
    views.nack(two)
    assert bodies(views.receive()) == [b"2"]


def test_when_too_many_wait_it_looks_again_by_and_by():
    broker = DiskBroker(limits=Limits(stream_reads_waiting_max=1))
    views = Views(2, broker)
    sink = broker.waiting(5, "v", wait_ms=20_000)
    views.append(b"1", hash_key=LOW)
    views.append(b"2", hash_key=HIGH)
    broker.advance(2_500)
    assert sink.batches and len(sink.batches[0]) >= 1
    rest = broker.receive(5, "v")
    assert sorted(bodies(sink.deliveries) + bodies(rest)) == [b"1", b"2"]
