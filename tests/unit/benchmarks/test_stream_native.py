"""Our own broker over its protocol: what is sent and understood, and the daemon itself."""

import msgspec
import pytest

from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.stream_cycle import StreamCycle
from braidmq.benchmarks.stream_native import Following, NativeStreamDriver, Sharing, Writing
from braidmq.benchmarks.stream_plan import OURS, StreamPlan
from braidmq.benchmarks.stream_scenarios import run_once
from braidmq.protocols.native.operations import DoneReply, ErrorReply
from braidmq.protocols.native.stream_operations import (
    AppendedReply,
    ChunkReply,
    GroupEventReply,
    WireChunk,
    WireGroupEvent,
    WireRefusal,
)
from braidmq.storage.block import encode_block

CYCLE = StreamCycle(40, 5, 1)


def framed(*messages):
    parts = [msgspec.msgpack.encode(each) for each in messages]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def fed(exchange, answer, piece=7):
    """Feed an answer in small pieces: (records, what was sent)."""
    data, records, sent = bytearray(), 0, b""
    for at in range(0, len(answer), piece):
        data += answer[at : at + piece]
        count, following = exchange.feed(data)
        records += count
        sent += following
    return records, sent


def chunk(first, count):
    bodies = CYCLE.bodies[first - 1 : first - 1 + count]
    block = encode_block(1, first, 0, [b""] * count, None, bodies)
    return WireChunk([block], 0, count, first + count, 0)


def test_appends_are_counted_and_refusals_told():
    writing = Writing([b"a", b"b"], 3)
    assert [writing.request() for _ in range(3)] == [b"a", b"b", b"a"]
    good = AppendedReply(1, [0, 0, 0], [1, 2, 3])
    assert fed(writing, framed(good, good)) == (6, b"")
    with pytest.raises(Refused, match="busy"):
        fed(writing, framed(AppendedReply(1, [0], [0], [WireRefusal(0, "Throttled", "busy")])))
    with pytest.raises(Refused, match="no such"):
        fed(writing, framed(ErrorReply(1, "NotFound", "no such stream")))


def test_a_tail_gives_credit_back_and_begins_again_at_the_end():
    following = Following(CYCLE, until_end=True)
    first = following.request()
    records, sent = fed(following, framed(DoneReply(1), ChunkReply(1, False, 0, chunk(1, 5))))
    assert records == 5 and sent
    records, sent = fed(following, framed(ChunkReply(1, True, 0, chunk(6, 2))))
    assert records == 2 and len(sent) == len(first)
    fed(following, framed(ChunkReply(2, False, 0, chunk(1, 5))))
    assert following.corrupt == 0
    fed(following, framed(ChunkReply(2, False, 0, chunk(1, 5))))
    assert following.corrupt == 5


def test_a_member_counts_what_its_checkpoint_kept():
    member = Sharing(CYCLE, 500)
    member.request()
    assigned = GroupEventReply(1, WireGroupEvent("assigned", 0, 7, 1))
    event = GroupEventReply(1, WireGroupEvent("records", 0, 7, 1, chunk(1, 4)))
    records, sent = fed(member, framed(assigned, event))
    assert records == 0 and sent
    records, sent = fed(member, framed(DoneReply(2)))
    assert records == 4 and sent
    assert member.corrupt == 0


def test_nobody_there_is_told():
    with pytest.raises(OSError, match="refused"):
        NativeStreamDriver(StreamPlan(port=1), CYCLE).prepare()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"batch": 1, "producers": 3},
        {"shape": "replay", "durability": "os"},
        {"shape": "replay", "durability": "os", "restarted": True},
        {"shape": "tail"},
        {"shape": "group", "shards": 3},
        {"shape": "fanout", "targets": 7, "producers": 3},
    ],
)
def test_the_daemon_loses_nothing(tmp_path, changes):
    plan = StreamPlan(system=OURS, seconds=0.2, warmup=0.05, records=20_000, **changes)
    found = run_once(plan, str(tmp_path))
    assert found.problems == []
    assert found.side.per_second > 0 and found.side.lost == found.side.corrupt == 0
