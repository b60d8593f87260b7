"""A tip waits as a read does, is called once, and reads nothing."""

import pytest

from braidmq.broker.errors import LimitExceeded, NotFound
from braidmq.broker.limits import Limits
from braidmq.broker.viewlane import ViewLane
from braidmq.broker.viewtip import Tip
from tests.broker_disk import DiskBroker
from tests.stream_client import StreamClient


@pytest.fixture
def client():
    return StreamClient(DiskBroker()).declare()


def wait(client):
    lane = ViewLane(0, client.shard(), client.shard().next)
    came = []
    tip = Tip(client.core.streams, client.stream, lane, lambda lane, error: came.append(error))
    client.core.streams.wait(tip)
    client.broker.settle()
    return tip, came


def test_it_hears_of_records_that_are_kept(client):
    tip, came = wait(client)
    assert came == []
    client.append(b"a")
    client.append(b"b")
    assert came == [None] and tip.closed
    assert client.core.streams.read == 0


def test_it_hears_of_the_end_of_its_shard(client):
    _, came = wait(client)
    client.split(0)
    assert came == [None]


def test_it_hears_of_nothing_when_it_was_cancelled(client):
    tip, came = wait(client)
    client.core.streams.cancel(tip)
    client.append(b"a")
    assert came == []


def test_it_ends_with_its_stream(client):
    _, came = wait(client)
    client.delete()
    assert len(came) == 1 and isinstance(came[0], NotFound)


def test_it_is_told_when_too_many_wait():
    client = StreamClient(DiskBroker(limits=Limits(stream_reads_waiting_max=1))).declare()
    _, first = wait(client)
    _, second = wait(client)
    assert first == [] and len(second) == 1 and isinstance(second[0], LimitExceeded)
