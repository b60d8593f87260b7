"""An engine for tests of drivers: carries the bytes of clients, with none of the clocks."""

import contextlib
import select
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from braidmq.benchmarks.drivers.driver import Client, Consumer, Driver, Producer, Wiring
from braidmq.benchmarks.systems.system import Running, System

AWKWARD = b"\0\r\n\xff -+$*:\r\nMSG RESERVED 1 1\r\n"  # what a parser could stumble over


def bodies_for(count: int, size: int = 100) -> list[bytes]:
    """Bodies that differ, and hold every byte that means something to somebody."""
    filler = (AWKWARD * (size // len(AWKWARD) + 1))[:size]
    return [b"%d:%b" % (number, filler) for number in range(count)]


def cuts() -> st.SearchStrategy[list[int]]:
    """Where what a broker says is cut into pieces."""
    return st.lists(st.integers(0, 400), max_size=8)


def feed(client: Client, data: bytes, cuts: Iterable[int] = ()) -> None:
    """Feed what a broker says, in pieces."""
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for begin, end in pairwise(edges):
        if begin < end:
            client.feed(data[begin:end])


def said(client: Client) -> bytes:
    """What a client says, as if it were written."""
    text = bytes(client.out)
    client.out.clear()
    return text


@contextlib.contextmanager
def connected(*clients: Any) -> Iterator[Any]:
    """Clients that are closed at the end."""
    try:
        yield clients
    finally:
        for client in clients:
            client.close()
            assert client.socket.fileno() == -1


def carry(clients: Iterable[Client], until: Callable[[], bool], seconds: float = 30.0) -> None:
    """Carry bytes until a condition holds. Raises Refused, TimeoutError."""
    by_socket = {client.socket: client for client in clients}
    deadline = time.monotonic() + seconds
    while not until():
        if time.monotonic() > deadline:
            raise TimeoutError("what was waited for did not happen")
        writing = [sock for sock, client in by_socket.items() if client.out]
        readable, writable, _ = select.select(by_socket, writing, [], 0.05)
        for sock in readable:
            _read(by_socket[sock])
        for sock in writable:
            client = by_socket[sock]
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                del client.out[: sock.send(client.out)]


def _read(client: Client) -> None:
    """Feed what is there; of TLS, also what is decrypted already, of which select knows nothing."""
    sock = client.socket
    while True:
        try:
            data = sock.recv(65_536)
        except ssl.SSLWantReadError:
            return
        assert data, "the broker hung up"
        client.feed(data)
        if not (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return


def publish_all(producer: Producer, bodies: Sequence[bytes], batch: int = 100, to: int = 0) -> None:
    """Publish, and wait until all is confirmed, or written where nothing is."""
    already = len(producer.confirmed)
    for at in range(0, len(bodies), batch):
        producer.publish(bodies[at : at + batch], to)
    if producer.confirms:
        carry([producer], lambda: len(producer.confirmed) - already >= len(bodies))
        assert sorted(producer.confirmed[already:]) == list(range(already, already + len(bodies)))
    carry([producer], lambda: not producer.out)
    assert not producer.refused


def take(consumer: Consumer) -> tuple[list[bytes], list[Any]]:
    """Empty the lists, as the engine does."""
    assert len(consumer.bodies) == len(consumer.receipts)
    found = consumer.bodies.copy(), consumer.receipts.copy()
    consumer.bodies.clear()
    consumer.receipts.clear()
    return found


def receive(consumers: Sequence[Consumer], count: int) -> dict[int, list[bytes]]:
    """Receive and acknowledge until so many came, and all was written: what each got."""
    found: dict[int, list[bytes]] = {number: [] for number in range(len(consumers))}

    def have_come() -> bool:
        for number, consumer in enumerate(consumers):
            bodies, receipts = take(consumer)
            if receipts:
                consumer.acknowledge(receipts)
            found[number] += bodies
        return sum(map(len, found.values())) >= count

    carry(consumers, have_come)
    carry(consumers, lambda: not any(consumer.out for consumer in consumers))
    return found


def check_queues(driver: Driver, wiring: Wiring, left: Callable[[str], int]) -> None:
    """A thousand messages through both queues of a wiring, until nothing is left in them."""
    driver.declare(wiring)
    driver.connect(wiring).close()
    first, second = bodies_for(600), bodies_for(400, 5_000)
    with connected(driver.producer(wiring), driver.consumer(wiring)) as (producer, consumer):
        publish_all(producer, first)
        publish_all(producer, second, to=1)
        found = receive([consumer], 1_000)[0]
        assert sorted(found) == sorted(first + second)
        carry([consumer], lambda: not any(left(name) for name in wiring.names))


def check_redelivery(driver: Driver, wiring: Wiring) -> None:
    """Two consumers share a queue, and what was rejected comes again."""
    driver.declare(wiring)
    bodies = bodies_for(200)
    with connected(driver.producer(wiring), driver.consumer(wiring)) as (producer, consumer):
        publish_all(producer, bodies)
        carry([consumer], lambda: bool(consumer.bodies))
        rejected, receipts = take(consumer)
        consumer.reject(receipts)
        with connected(driver.consumer(wiring)) as (other,):
            found = receive([consumer, other], len(bodies))
        assert found[0] and found[1]
        assert set(rejected) <= set(found[0] + found[1])
        assert sorted(found[0] + found[1]) == sorted(bodies)


def check_stream(driver: Driver, wiring: Wiring) -> None:
    """One reads all of a stream, one what comes, and the two members of its group share it."""
    everyone = replace(wiring, group="")
    driver.declare(wiring)
    bodies = bodies_for(1_000)
    with connected(driver.producer(everyone)) as (producer,):
        publish_all(producer, bodies[:500])
        tail, replay = (
            driver.consumer(everyone),
            driver.consumer(replace(everyone, from_start=True)),
        )
        members = driver.consumer(wiring), driver.consumer(wiring)
        with connected(tail, replay, *members):
            publish_all(producer, bodies[500:])
            assert receive([tail], 500)[0] == bodies[500:]
            assert receive([replay], 1_000)[0] == bodies
            shared = receive(members, 1_000)
            assert sorted(shared[0] + shared[1]) == sorted(bodies)


def check_restart(system: System, driver: Driver, scheme: str, directory: str) -> Running:
    """What was confirmed is there after the system was killed: how it ran."""
    bodies = bodies_for(10)
    with contextlib.ExitStack() as stack:
        running = system.start(stack, directory, True)
        assert running.version == system.version()
        wiring = Wiring(url=running.urls[scheme], names=("q",))
        driver.declare(wiring)
        with connected(driver.producer(wiring)) as (producer,):
            publish_all(producer, bodies)
        assert running.restart is not None
        assert running.restart() != running.pid
        with connected(driver.consumer(wiring)) as (consumer,):
            assert receive([consumer], len(bodies))[0] == bodies
    return running
