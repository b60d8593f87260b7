"""An engine for tests of drivers: carries the bytes of clients, with none of the clocks."""

import contextlib
import select
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from braidmq.benchmarks.drivers.driver import Client, Consumer, Producer

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
