"""Redis Streams: what is sent and understood."""

import pytest

from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.redis_stream import Asking, Entries, Member
from braidmq.benchmarks.stream_cycle import StreamCycle

CYCLE = StreamCycle(40, 5, 1)


def entries(first, count):
    parts = [b"*%d\r\n" % count]
    for number in range(first, first + count):
        head = b"*2\r\n$15\r\n1700000000000-%d\r\n*2\r\n$1\r\nb\r\n$40\r\n" % number
        parts.append(head + CYCLE.bodies[number % len(CYCLE)] + b"\r\n")
    return b"".join(parts)


def fed(exchange, answer, piece=7):
    """Feed an answer in small pieces: (records, what was sent)."""
    data, records, sent = bytearray(), 0, b""
    for at in range(0, len(answer), piece):
        data += answer[at : at + piece]
        count, following = exchange.feed(data)
        records += count
        sent += following
    return records, sent


def test_requests_in_turn_and_answers_counted_by_lines():
    asking = Asking([b"a", b"b"], records=5, lines=10)
    assert [asking.request() for _ in range(3)] == [b"a", b"b", b"a"]
    answer = b"$17\r\n1700000000000-10\r\n" * 10
    assert fed(asking, answer) == (10, b"")
    with pytest.raises(Refused, match="OOM"):
        fed(asking, b"$3\r\n1-0\r\n-OOM no memory\r\n")


def test_a_range_is_read_to_its_end_and_again():
    reading = Entries(CYCLE, 40, b"XRANGE", again=True)
    assert b"$1\r\n-\r\n" in reading.request()
    records, sent = fed(reading, entries(0, 500))
    assert records == 500 and b"(1700000000000-499" in sent
    records, sent = fed(reading, entries(500, 3))
    assert records == 3 and b"$1\r\n-\r\n" in sent
    assert fed(reading, entries(0, 500))[0] == 500
    assert reading.corrupt == 0
    fed(reading, entries(1, 500))
    assert reading.corrupt == 500
    with pytest.raises(Refused, match="WRONG"):
        fed(reading, b"-WRONGTYPE\r\n")


def test_a_tail_goes_on_behind_the_last_entry():
    reading = Entries(CYCLE, 40, b"XREAD", again=False)
    assert b"0-0" in reading.request()
    records, sent = fed(reading, b"*1\r\n*2\r\n$5\r\nbench\r\n" + entries(0, 2))
    assert records == 2 and b"1700000000000-1\r\n" in sent


def test_a_member_confirms_what_it_read_before_that_counts():
    member = Member(CYCLE, 40, b"c1")
    assert b"XREADGROUP" in member.request()
    answer = b"*1\r\n*2\r\n$5\r\nbench\r\n" + entries(0, 3)
    records, sent = fed(member, answer)
    assert records == 0
    assert sent.startswith(b"*6\r\n$4\r\nXACK") and sent.count(b"1700000000000-") == 3
    assert fed(member, b":3\r\n" + answer)[0] == 3
    with pytest.raises(Refused, match="2 of 3"):
        fed(member, b":2\r\n")
    assert fed(Member(CYCLE, 40, b"c2"), b"*-1\r\n") == (0, b"")
