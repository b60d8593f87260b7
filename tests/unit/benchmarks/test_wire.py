"""The generator's own native connections, against answers made by the real codec."""

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.integrity import STAMP_BYTES, Account, Ledger, Stamper
from braidmq.benchmarks.meter import Meter, Plan
from braidmq.benchmarks.wire import Producer, Puller, Pusher, SendFrame, request_of
from braidmq.broker.errors import QueueFull
from braidmq.broker.message import Delivery, Sent
from braidmq.protocols.native import operations as op
from braidmq.protocols.native.frames import (
    FrameBuffer,
    append_deliveries,
    append_frame,
    append_sent,
    append_settled,
    decode_hello,
    decode_request,
)

PAYLOAD = b"p" * 40


class Transport:
    """Keeps what is written."""

    def __init__(self):
        self.frames = FrameBuffer(1 << 26)
        self.closed = False

    def write(self, data):
        self.frames.feed(bytes(data))

    def close(self):
        self.closed = True

    def requests(self):
        found = []
        while (payload := self.frames.next_frame()) is not None:
            found.append(decode_request(payload))
        return found


def answer(connection, fill, *arguments):
    out = bytearray()
    fill(out, *arguments)
    connection.data_received(bytes(out))


def opened(connection):
    transport = Transport()
    connection.connection_made(transport)
    first = transport.frames.next_frame()
    assert first is not None
    hello = decode_hello(first)
    welcome = op.Welcome(hello.request, 1, "test", 1, 1000, {})
    answer(connection, append_frame, welcome)
    assert connection.ready.done()
    return transport


def producer(**changes):
    plan = Plan(size=STAMP_BYTES + len(PAYLOAD), **changes)
    meter = Meter(plan)
    loop = asyncio.get_running_loop()
    return Producer(loop, meter, plan, meter.accounts[0], PAYLOAD), meter


def delivery(sequence, number):
    body = Stamper(0, PAYLOAD).stamp(number, 5) + PAYLOAD
    return Delivery(sequence, 9, 1, 1, 1, b"", body)


@given(st.integers(1, 300), st.integers(1, 0x7FFF), st.integers(0, 5000), st.text(max_size=300))
def test_a_send_frame_decodes_as_what_it_should_be(batch, request, size, queue):
    payload = b"x" * size
    frame = SendFrame(queue, payload, batch).fill(request, Stamper(3, payload), 100, 7)
    buffer = FrameBuffer(1 << 26)
    buffer.feed(frame)
    first = buffer.next_frame()
    assert first is not None
    send = msgspec.msgpack.decode(first, type=op.Send)
    assert buffer.next_frame() is None
    assert (send.request, send.queue, len(send.messages)) == (request, queue, batch)
    ledger, account = Ledger(), Account(3)
    account.sent = 100 + batch
    for message in send.messages:
        assert ledger.take(message.body) == 7
    assert (ledger.corrupt, ledger.duplicate, ledger.reordered) == (0, 0, 0)
    assert all(ledger.has(3, sequence) for sequence in range(100, 100 + batch))


@given(st.integers(0, 2**32 - 1))
def test_the_request_number_of_an_answer_is_found(request):
    out = bytearray()
    append_settled(out, request, [])
    assert request_of(memoryview(bytes(out))[4:]) == request


async def test_a_producer_keeps_its_window_full():
    connection, meter = producer(window=3, batch=2)
    transport = opened(connection)
    connection.start()
    first = transport.requests()
    assert [each.request for each in first] == [1, 2, 3]
    answer(connection, append_sent, 2, [Sent(1, 1), Sent(2, 2)])
    assert [each.request for each in transport.requests()] == [2]
    assert (meter.confirmed, meter.accounts[0].sent, connection.unanswered) == (2, 8, 3)
    connection.stop()
    for request in (1, 2, 3):
        answer(connection, append_sent, request, [Sent(1, 1), Sent(2, 2)])
    assert transport.requests() == []
    assert (meter.confirmed, connection.unanswered) == (8, 0)


async def test_refused_messages_are_not_expected_to_come_out():
    connection, meter = producer(batch=2)
    transport = opened(connection)
    connection.start()
    answer(connection, append_sent, 1, [Sent(1, 1), QueueFull("full")])
    assert (meter.confirmed, meter.refused, meter.accounts[0].unsure) == (1, 1, {1})
    answer(connection, append_frame, op.ErrorReply(1, "NotFound", "no queue"))
    assert meter.accounts[0].unsure == {1, 2, 3}
    assert any("NotFound" in text for text in meter.problems)
    assert len(transport.requests()) == 3


async def test_a_producer_ends_after_its_share():
    connection, meter = producer(messages=4, batch=2)
    transport = opened(connection)
    connection.start()
    for _ in range(2):
        answer(connection, append_sent, 1, [Sent(1, 1), Sent(2, 2)])
    assert len(transport.requests()) == 2
    assert meter.accounts[0].sent == 4


async def test_requests_that_were_never_answered_are_unsure():
    connection, meter = producer(window=2, batch=2)
    opened(connection)
    connection.start()
    answer(connection, append_sent, 1, [Sent(1, 1), Sent(2, 2)])
    connection.give_up()
    assert meter.accounts[0].unsure == {2, 3, 4, 5}


async def test_in_an_open_loop_latency_counts_from_when_it_was_due():
    connection, meter = producer(rate=100.0)
    transport = opened(connection)
    connection.start()
    assert transport.requests() == []
    now_ns = meter.now_ns()
    connection.due(now_ns - 10**9)
    connection.due(now_ns - 2 * 10**9)  # held back: the window is 1
    connection.on_read()
    assert len(transport.requests()) == 1
    answer(connection, append_sent, 1, [Sent(1, 1)])
    assert len(transport.requests()) == 1
    answer(connection, append_sent, 1, [Sent(2, 2)])
    assert transport.requests() == []
    assert meter.confirming.smallest >= 10**9
    assert meter.confirming.largest >= 2 * 10**9


async def test_a_pushed_consumer_acknowledges_and_gives_credit_again():
    plan = Plan(credit=50, ack_batch=2)
    meter = Meter(plan)
    connection = Pusher(asyncio.get_running_loop(), meter, plan)
    transport = opened(connection)
    connection.start()
    assert transport.requests() == [op.Consume(1, "bench", 50)]
    answer(connection, append_frame, op.DoneReply(1))
    answer(
        connection, append_deliveries, 1, False, [delivery(i + 10, i) for i in range(3)], 1 << 20
    )
    acks = transport.requests()
    assert [each.receipts for each in acks] == [[(10, 9), (11, 9)], [(12, 9)]]
    answer(connection, append_settled, acks[0].request, [None, None])
    assert transport.requests() == [op.Credit(1, 2)]
    answer(connection, append_settled, acks[1].request, [QueueFull("lost")])
    assert (meter.settled, meter.ledger.received) == (2, 3)
    assert meter.problems


async def test_a_pulling_consumer_asks_acknowledges_and_asks_again():
    plan = Plan(mode="pull", batch=5, window=2)
    meter = Meter(plan)
    connection = Puller(asyncio.get_running_loop(), meter, plan)
    transport = opened(connection)
    connection.start()
    assert [(each.request, each.max_messages) for each in transport.requests()] == [(1, 5), (3, 5)]
    out = bytearray()
    append_deliveries(out, 3, True, [delivery(1, 0), delivery(2, 1)], 1)
    connection.data_received(bytes(out))
    (ack,) = transport.requests()
    assert (ack.request, ack.receipts) == (4, [(1, 9), (2, 9)])
    answer(connection, append_settled, 4, [None, None])
    assert [each.request for each in transport.requests()] == [3]
    answer(connection, append_deliveries, 1, True, [], 1)
    assert [each.request for each in transport.requests()] == [1]
    assert (meter.settled, meter.ledger.distinct) == (2, 2)


async def test_a_refused_handshake_says_why():
    connection, _ = producer()
    connection.connection_made(Transport())
    answer(connection, append_frame, op.ErrorReply(0, "Unauthenticated", "who are you?"))
    with pytest.raises(ConnectionError, match="who are you"):
        await connection.ready


async def test_a_lost_connection_is_a_problem_unless_we_closed_it():
    connection, meter = producer()
    opened(connection)
    connection.connection_lost(None)
    assert len(meter.problems) == 1
    other, meter = producer()
    transport = opened(other)
    other.close()
    other.connection_lost(None)
    assert transport.closed
    assert meter.problems == []


async def test_a_connection_that_never_opened_fails():
    connection, _ = producer()
    connection.connection_made(Transport())
    connection.connection_lost(None)
    with pytest.raises(ConnectionError, match="closed"):
        await connection.ready
