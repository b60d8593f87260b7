"""The native driver against our own daemon: what it publishes comes out, and is settled."""

import select
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from braidmq.benchmarks.drivers.driver import Client, Consumer, Producer, Refused, Wiring
from braidmq.benchmarks.drivers.native import (
    GroupMember,
    NativeDriver,
    NativeProducer,
    QueueConsumer,
)
from braidmq.benchmarks.server import ServerProcess
from braidmq.protocols import connect

DRIVER = NativeDriver()
_PATIENCE_SECONDS = 30.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ServerProcess(str(tmp_path_factory.mktemp("daemon"))) as server:
        yield server.url


class _Open:
    """Clients that are closed when a test is over."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    def producer(self, wiring: Wiring) -> Producer:
        self.clients.append(client := DRIVER.producer(wiring))
        return client

    def consumer(self, wiring: Wiring) -> Consumer:
        self.clients.append(client := DRIVER.consumer(wiring))
        return client


OPEN = _Open()


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    yield
    while OPEN.clients:
        OPEN.clients.pop().close()


def pump(until: Callable[[], Any], *clients: Any) -> None:
    """What the engine does: write what is to be written, feed what was read."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not until():
        assert time.monotonic() < end
        for client in clients:
            if client.out:
                del client.out[: client.socket.send(client.out)]
        for sock in select.select([each.socket for each in clients], [], [], 0.01)[0]:
            client = next(each for each in clients if each.socket is sock)
            data = sock.recv(65_536)
            assert data
            client.feed(data)


def got(consumer: Consumer, count: int) -> Callable[[], bool]:
    return lambda: len(consumer.bodies) == count


def flush(*clients: Client) -> None:
    """Have what was settled reach the broker, by asking for something behind it."""
    for client in clients:
        client.socket.setblocking(True)
        client.socket.sendall(client.out)
        client.out.clear()


async def left(url: str, queue: str) -> int:
    async with connect(url) as broker:
        return (await broker.queue(queue).info()).messages


async def settled(url: str, queue: str, remain: int = 0) -> bool:
    """Wait until so many messages are left."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while await left(url, queue) != remain and time.monotonic() < end:
        pass
    return await left(url, queue) == remain


def exchanged(wiring: Wiring, bodies: list[bytes], batch: int = 2, **more: Any) -> list[bytes]:
    """Publish bodies to names[0] while a consumer is there; what it got."""
    DRIVER.declare(wiring)
    consumer, producer = OPEN.consumer(wiring), OPEN.producer(wiring)
    for at in range(0, len(bodies), batch):
        producer.publish(bodies[at : at + batch], **more)
    pump(lambda: len(producer.confirmed) == len(bodies), producer)
    assert sorted(producer.confirmed) == list(range(len(bodies)))
    got: list[bytes] = []

    def all_there() -> bool:
        assert len(consumer.receipts) == len(consumer.bodies)
        if consumer.receipts:
            consumer.acknowledge(consumer.receipts)
        got.extend(consumer.bodies)
        consumer.bodies.clear()
        consumer.receipts.clear()
        return len(got) >= len(bodies)

    pump(all_there, consumer)
    flush(consumer)
    return got


BODIES = [b"%03d" % number for number in range(7)]


@pytest.mark.parametrize("kind", ["queue", "fifo", "topic", "stream"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("durable", [True, False])
def test_bodies_come_out(url: str, kind: Any, batch: int, durable: bool) -> None:
    wiring = Wiring(url=url, kind=kind, names=(f"out.{kind}",), durable=durable)
    assert exchanged(wiring, BODIES, batch) == BODIES


@pytest.mark.parametrize("kind", ["topic", "stream"])
def test_groups_acknowledge(url: str, kind: Any) -> None:
    wiring = Wiring(url=url, kind=kind, names=(f"group.{kind}",), group="g", from_start=True)
    assert exchanged(wiring, BODIES, 3) == BODIES


async def test_group_goes_on_behind_what_was_acknowledged(url: str) -> None:
    wiring = Wiring(
        url=url, kind="stream", names=("on",), group="g", from_start=True, prefetch=3, partitions=2
    )
    DRIVER.declare(wiring)
    producer = OPEN.producer(wiring)
    producer.publish(BODIES, keys=[str(number) for number in range(7)])
    pump(lambda: len(producer.confirmed) == 7, producer)
    one = OPEN.consumer(wiring)
    pump(lambda: len(one.bodies) >= 3, one)
    got = one.bodies[:2]
    one.acknowledge(one.receipts[:2])
    flush(one)
    two = OPEN.consumer(wiring)
    OPEN.clients.remove(one)
    one.close()
    more: list[bytes] = []

    def everything() -> bool:
        two.acknowledge(two.receipts)
        two.receipts.clear()
        more.extend(two.bodies)
        two.bodies.clear()
        return len({*got, *more}) == 7

    pump(everything, two)
    assert len(more) <= 6


async def test_acknowledged_messages_are_gone(url: str) -> None:
    wiring = Wiring(url=url, names=("gone", "gone.too"))
    exchanged(wiring, BODIES, to=1)
    assert await settled(url, "gone.too")


def test_credit_comes_back(url: str) -> None:
    wiring = Wiring(url=url, names=("credit",), prefetch=2)
    DRIVER.declare(wiring)
    consumer, producer = OPEN.consumer(wiring), OPEN.producer(wiring)
    producer.publish(BODIES)
    pump(lambda: len(consumer.bodies) == 2, producer, consumer)
    for count in range(1, 6):
        consumer.acknowledge(consumer.receipts[count - 1 : count])
        pump(got(consumer, 2 + count), producer, consumer)
    assert consumer.bodies == BODIES


def test_rejected_messages_become_dead_letters(url: str) -> None:
    wiring = Wiring(url=url, names=("sick",), dead_letter="dead", receives_max=2)
    DRIVER.declare(wiring)
    consumer, producer = OPEN.consumer(wiring), OPEN.producer(wiring)
    dead = OPEN.consumer(Wiring(url=url, names=("dead",)))
    producer.publish([b"poison"])
    for count in (1, 2):
        pump(got(consumer, count), producer, consumer)
        consumer.reject(consumer.receipts[-1:])
    pump(lambda: dead.bodies, producer, consumer, dead)
    assert dead.bodies == [b"poison"]


def test_delayed_message_comes_later(url: str) -> None:
    wiring = Wiring(url=url, names=("later",))
    DRIVER.declare(wiring)
    consumer, producer = OPEN.consumer(wiring), OPEN.producer(wiring)
    producer.publish([b"slow"], delay_ms=50)
    producer.publish([b"quick"])
    pump(lambda: len(consumer.bodies) == 2, producer, consumer)
    assert consumer.bodies == [b"quick", b"slow"]


def test_retained_message_waits_for_subscribers_by_wildcard(url: str) -> None:
    wiring = Wiring(url=url, kind="topic", names=("kept.a.b",), retain=True)
    producer = OPEN.producer(wiring)
    producer.publish([b"last"])
    pump(lambda: producer.confirmed, producer)
    consumer = OPEN.consumer(Wiring(url=url, kind="topic", names=("kept.*.b", "kept.#")))
    pump(lambda: consumer.bodies, consumer)
    assert consumer.bodies == [b"last"]


def test_durable_session_keeps_messages(url: str) -> None:
    wiring = Wiring(url=url, kind="topic", names=("session",), client_id="sleeper")
    OPEN.consumer(wiring)
    OPEN.clients.pop().close()
    producer = OPEN.producer(wiring)
    producer.publish([b"kept"])
    pump(lambda: producer.confirmed, producer)
    consumer = OPEN.consumer(wiring)
    pump(lambda: consumer.bodies, consumer)
    assert consumer.bodies == [b"kept"]
    consumer.acknowledge(consumer.receipts)
    flush(consumer)


def test_stream_is_read_from_where_it_ends(url: str) -> None:
    old = Wiring(url=url, kind="stream", names=("tail",), from_start=True)
    assert exchanged(old, BODIES) == BODIES
    new = Wiring(url=url, kind="stream", names=("tail",))
    late, early = OPEN.consumer(new), OPEN.consumer(old)
    producer = OPEN.producer(new)
    producer.publish([b"new"])
    pump(lambda: late.bodies and len(early.bodies) == 8, producer, late, early)
    assert late.bodies == [b"new"]
    assert early.bodies == [*BODIES, b"new"]


def test_what_the_broker_will_not_take_is_refused(url: str) -> None:
    wiring = Wiring(url=url, names=("ok", "missing"))
    DRIVER.declare(Wiring(url=url, names=("ok",)))
    producer = OPEN.producer(wiring)
    producer.publish([b"a", b"b"], to=1)
    producer.publish([b"c"])
    pump(lambda: producer.refused and producer.confirmed, producer)
    assert (producer.refused, producer.confirmed) == ([0, 1], [2])


@pytest.mark.parametrize("kind", ["queue", "stream"])
def test_consumer_of_nothing_is_refused(url: str, kind: Any) -> None:
    with pytest.raises(Refused, match="not-found"):
        OPEN.consumer(Wiring(url=url, kind=kind, names=("nothing",)))


@pytest.mark.parametrize("settle", [QueueConsumer.acknowledge, QueueConsumer.reject])
def test_who_settles_what_it_does_not_hold_is_refused(url: str, settle: Any) -> None:
    wiring = Wiring(url=url, names=("held",))
    DRIVER.declare(wiring)
    consumer = OPEN.consumer(wiring)
    settle(consumer, [(1, 2)])
    with pytest.raises(Refused, match="lease-lost: message 1 of queue held"):
        pump(lambda: False, consumer)


def test_only_of_a_shard_that_was_taken_away_a_checkpoint_may_fail() -> None:
    wiring = Wiring(url="braid://127.0.0.1:1", kind="stream", names=("s",), group="g")
    with socket.socket() as sock:
        member = GroupMember(sock, wiring)
        member.feed(b"\0\0\0\x0f\x94\x43\x02\xaalease-lost\xa0")
        with pytest.raises(Refused, match="not-found: gone"):
            member.feed(b"\0\0\0\x12\x94\x43\x02\xa9not-found\xa4gone")


def test_greeting(url: str) -> None:
    client = DRIVER.connect(Wiring(url=url))
    client.close()
    welcome = b"\0\0\0\x09\x97\x41\x01\x01\xa1b\x01\x01\x80"
    assert not DRIVER.is_greeted(welcome[:8])
    assert DRIVER.is_greeted(welcome)
    assert DRIVER.greeting(Wiring(url="braid://ada:secret@127.0.0.1:1")).endswith(
        b"\xa3ada\xc4\x06secret"
    )
    refusal = b"\0\0\0\x08\x94\x43\x00\xa1x\xa2no"
    with pytest.raises(Refused, match="x: no"):
        DRIVER.is_greeted(refusal)


def test_answers_name_requests_by_numbers_of_every_length() -> None:
    requests = [1, 127, 128, 255, 256, 65_535, 65_536, 70_000]
    with socket.socket() as sock:
        producer = NativeProducer(sock, Wiring(url="braid://127.0.0.1:1", names=("q",)))
        for _ in range(requests[-1]):
            producer.publish([b"x"])
        for request in requests:
            payload = msgspec.msgpack.encode((69, request, [(1, 1, False)], []))
            producer.feed(len(payload).to_bytes(4, "big") + payload)
    assert producer.confirmed == [request - 1 for request in requests]


def test_frames_may_be_cut_anywhere(url: str) -> None:
    wiring = Wiring(url=url, names=("cut",))
    DRIVER.declare(wiring)
    producer = OPEN.producer(wiring)
    producer.publish([b"a"])
    producer.publish([b"b"])
    sent = b"\0\0\0\x09\x94\x45%c\x91\x93\x01\x01\xc2\x90"
    data = (sent % 1) + (sent % 2)
    for place in range(len(data)):
        producer.feed(data[place : place + 1])
    assert producer.confirmed == [0, 1]
