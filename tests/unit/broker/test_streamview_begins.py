"""Where a view begins: with the records that it was declared for, and behind a loss."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.settings import QueueSettings
from braidmq.storage.cold import FileColdStore
from tests.broker_disk import DiskBroker
from tests.broker_harness import Collector
from tests.stream_client import StreamClient, without_what_followed
from tests.unit.broker.test_streamview import Views, bodies


def test_it_begins_at_the_oldest_or_at_the_newest_record_or_at_a_time():
    views = Views(start="latest")
    views.append(b"1")
    views.broker.advance(1_000)
    when = views.broker.clock.ms
    views.append(b"2")
    views.broker.advance(1)
    views.declare("latest", start="latest")
    views.declare("time", start="time", start_ms=when)
    views.declare("future", start="time", start_ms=when + 10**9)
    views.declare("earliest")
    views.broker.advance(1_000)
    views.append(b"3")
    for _ in range(2):
        assert views.broker.bodies("v") == [b"1", b"2", b"3"]
        assert views.broker.bodies("earliest") == [b"1", b"2", b"3"]
        assert views.broker.bodies("time") == [b"2", b"3"]
        assert views.broker.bodies("latest") == views.broker.bodies("future") == [b"3"]
        views.restart()


@pytest.mark.parametrize("answers", [True, False])
def test_a_time_may_have_to_be_looked_for_in_a_file(monkeypatch, answers):
    """Also by the next broker, when this one ends before it has an answer."""
    broker = DiskBroker(segment_bytes=2_048, cache_bytes_max=2_048)
    client = StreamClient(broker).declare()
    times = []
    for n in range(60):
        times.append(broker.clock.ms)
        client.append(b"%d" % n + b"." * 150)
        broker.advance(10)
    broker.rehome()
    assert client.shard().cold[-1].time_last_ms > times[20]
    if not answers:
        monkeypatch.setattr(FileColdStore, "seek", lambda *arguments: None)
    broker.declare("v", stream="s", start="time", start_ms=times[20])
    broker.settle()
    if not answers:
        assert broker.receive(10, "v") == []
        monkeypatch.undo()
    broker = broker.restarted()
    broker.settle()
    assert broker.info("v").ready == 40
    first = broker.receive(1, "v")[0]
    assert first.body.startswith(b"20")
    broker.ack(first, name="v")
    broker = broker.restarted()
    broker.settle()
    assert broker.receive(1, "v")[0].body.startswith(b"21")


def test_a_receive_that_does_not_wait_waits_until_it_is_known_where_to_begin():
    broker = DiskBroker(segment_bytes=2_048)
    client = StreamClient(broker).declare()
    for n in range(60):
        client.append(b"%d" % n + b"." * 150)
        broker.advance(10)
    broker.rehome()
    cold = client.shard().cold[-1]
    core, now_ms = broker.core, broker.clock.ms
    settings = QueueSettings(stream="s", start="time", start_ms=cold.time_first_ms + 1)
    core.declare_queue(SYSTEM, "v", settings, now_ms)
    sink = Collector()
    core.receive(SYSTEM, "v", sink, 1, 0, 0, "", "", None, now_ms)
    core.run(now_ms)
    assert not sink.batches
    broker.settle()
    assert len(sink.deliveries) == 1


def test_behind_a_loss_that_was_accepted_no_number_is_given_again():
    views = Views()
    views.append(b"1", b"2")
    views.declare("other")
    views.ack(*views.receive(1))

    def meanwhile() -> None:
        views.append(b"3", b"4", b"5")
        views.ack(*views.receive(2))

    views.broker = without_what_followed(views.broker, meanwhile)
    assert views.info().messages == 0  # but for 4 and 5, which are lost
    views.client = StreamClient(views.broker)
    assert views.client.append(b"6") == [(0, 6)]
    assert bodies(views.receive()) == [b"6"]
    assert bodies(views.broker.receive(10, "other")) == [b"1", b"2", b"6"]
    assert views.info("other").expired == 3 and views.info("other").damaged == 0
