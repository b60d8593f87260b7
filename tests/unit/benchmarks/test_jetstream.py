"""JetStream: what is sent and understood."""

import pytest

from braidmq.benchmarks import jetstream
from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.jetstream import Publishing, Pulling, Pushed
from braidmq.benchmarks.stream_cycle import StreamCycle

CYCLE = StreamCycle(40, 5, 1)


def messages(first, count, inbox=b"_INBOX.1"):
    return b"".join(
        b"MSG %b 1 $JS.ACK.BENCH.members.1.%d.%d.17.0 40\r\n%b\r\n"
        % (inbox, number, number, CYCLE.bodies[number % len(CYCLE)])
        for number in range(first, first + count)
    )


def fed(exchange, answer, piece=7):
    """Feed an answer in small pieces: (records, what was sent)."""
    data, records, sent = bytearray(), 0, b""
    for at in range(0, len(answer), piece):
        data += answer[at : at + piece]
        count, following = exchange.feed(data)
        records += count
        sent += following
    return records, sent


def test_answers_are_counted_and_pings_answered():
    single = Publishing([b"a", b"b"], records=1, answers=1)
    assert [single.request() for _ in range(3)] == [b"a", b"b", b"a"]
    ack = b'MSG _INBOX.1 1 30\r\n{"stream":"BENCH","seq":1}\r\n'
    records, sent = fed(single, ack + b"PING\r\n" + ack)
    assert (records, sent) == (2, b"PONG\r\n")
    with pytest.raises(Refused, match="no space"):
        fed(single, b'MSG _INBOX.1 1 30\r\n{"error":{"description":"no space"}}\r\n', 1000)


def test_atomic_batches_have_ids_of_their_own():
    atomic = Publishing([b"x" + jetstream._BATCH_ID], records=500, answers=1, number=3)
    first, second = atomic.request(), atomic.request()
    assert first != second and b"@" not in first and len(first) == 17
    assert fed(atomic, b'MSG i 1 9\r\n{"seq":500,"batch":"x"}\r\n') == (500, b"")


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
def test_what_is_pushed_is_checked_and_pushed_again(piece):
    pushed = Pushed(CYCLE, b"_INBOX.1", 40, 20)
    assert b"CONSUMER.DURABLE.CREATE.BENCH._INBOX-1-1 " in pushed.request()
    records, sent = fed(pushed, messages(0, 20), piece)
    assert records == 20
    assert b"CONSUMER.DELETE.BENCH._INBOX-1-1 " in sent and b"BENCH._INBOX-1-2 " in sent
    assert fed(pushed, messages(0, 10), piece) == (10, b"")
    assert pushed.corrupt == 0
    fed(pushed, messages(11, 1), piece)
    assert pushed.corrupt == 1


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
def test_what_is_pulled_is_acknowledged_one_by_one(piece):
    pulling = Pulling(CYCLE, b"_INBOX.1", 40, 10)
    asked = pulling.request()
    records, sent = fed(pulling, messages(1, 10), piece)
    assert records == 10
    assert sent.count(b"PUB $JS.ACK.BENCH.members.1.") == 10 and sent.endswith(asked)
    assert b"PUB $JS.ACK.BENCH.members.1.7.7.17.0 0\r\n\r\n" in sent
    assert pulling.corrupt == 0
