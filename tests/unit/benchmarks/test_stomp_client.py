"""What is sent and understood, without a socket; and what a queue still has."""

import pytest

from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.stomp_client import (
    Consuming,
    Producing,
    StompCycle,
    connect,
    consumer,
    disconnect,
    leftover,
    producer,
)
from tests.stomp_stub import StompStub

CYCLE = StompCycle(40, 1)
HOST = "127.0.0.1"


def messages(first, count):
    """As a broker sends them, a line feed behind each."""
    head = b"MESSAGE\nack:n-%d\ndestination:/queue/q\nmessage-id:%d\ncontent-length:40\n\n"
    return b"".join(
        head % (number, number) + CYCLE.bodies.bodies[number] + b"\0\n"
        for number in range(first, first + count)
    )


def fed(exchange, answer, piece):
    """Feed an answer in pieces: (records, what was sent)."""
    data, records, sent = bytearray(), 0, b""
    for at in range(0, len(answer), piece):
        data += answer[at : at + piece]
        count, following = exchange.feed(data)
        records += count
        sent += following
    return records, sent


def test_a_frame_is_a_persistent_message_with_a_receipt():
    frames = Producing(CYCLE, "q", 2).request()
    first, second, rest = *frames.split(b"SEND\n")[1:], b""
    assert first == (
        b"destination:/queue/q\npersistent:true\nreceipt:0\ncontent-length:40\n\n"
        + CYCLE.bodies.bodies[0]
        + b"\0"
    )
    assert b"receipt:1\n" in second and not rest


def test_messages_begin_again_at_the_end_of_the_cycle():
    producing = Producing(CYCLE, "q", 1)
    length = len(CYCLE.ends)
    producing.frames(length - 1)
    frames = producing.frames(3)
    assert [b"receipt:%d\n" % n in frames for n in (length - 1, 0, 1, 2)] == [True] * 3 + [False]
    assert frames.count(b"SEND\n") == 3 and producing.sent == length + 2


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_receipts_are_counted_and_named(piece):
    producing = Producing(CYCLE, "q", 3)
    answer = b"RECEIPT\nreceipt-id:0\n\n\0\nRECEIPT\nreceipt-id:12\n\n\0"
    assert fed(producing, answer, piece) == (2, b"")
    assert producing.answered[-1] == 12


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_an_error_is_told(piece):
    error = b"\nERROR\nmessage:no room\n\nGo elsewhere.\0"
    for exchange in (Producing(CYCLE, "q", 1), Consuming(CYCLE, ordered=True)):
        with pytest.raises(Refused, match=r"ERROR / message:no room / Go elsewhere\."):
            fed(exchange, error, piece)


@pytest.mark.parametrize("piece", [1, 7, 100, 100_000])
def test_messages_are_checked_and_acknowledged_one_by_one(piece):
    consuming = Consuming(CYCLE, ordered=True)
    records, sent = fed(consuming, messages(0, 20), piece)
    assert records == 20 and consuming.corrupt == 0
    assert sent == b"".join([b"ACK\nid:n-%d\n\n\0" % number for number in range(20)])
    fed(consuming, messages(21, 1), piece)
    assert consuming.corrupt == 1


def test_without_order_any_message_will_do_and_each_is_counted():
    consuming = Consuming(CYCLE, ordered=False)
    fed(consuming, messages(5, 2) + messages(6, 1), 1000)
    assert consuming.corrupt == 0
    assert consuming.came == {b"%015d" % 5: 1, b"%015d" % 6: 2}
    fed(consuming, messages(3, 1).replace(b"MESSAGE", b"X")[:-3] + b"\n\0\n", 1000)
    assert consuming.corrupt == 1


def test_a_message_that_cannot_be_acknowledged_is_refused():
    with pytest.raises(Refused, match="1 messages have 0 ack headers"):
        fed(Consuming(CYCLE, ordered=True), messages(0, 1).replace(b"ack:", b"alas:"), 1000)


def test_who_refuses_is_quoted():
    with StompStub("refuses") as broker, pytest.raises(Refused, match="no room"):
        connect(HOST, broker.port)


def test_what_a_queue_still_has_is_counted_and_taken():
    with StompStub() as broker:
        link = producer(connect(HOST, broker.port), CYCLE, "q", 3)
        link.socket.setblocking(True)
        link.send(link.exchange.request())
        disconnect(link.socket)
        assert leftover(HOST, broker.port, "q") == 3
        assert leftover(HOST, broker.port, "q") == 0


def test_a_consumer_has_subscribed_when_it_is_there():
    with StompStub() as broker:
        link = consumer(connect(HOST, broker.port), CYCLE, "q", 7, ordered=True)
        assert [each.prefetch for each in broker.readers[b"/queue/q"]] == [7]
        link.socket.setblocking(True)
        disconnect(link.socket)
