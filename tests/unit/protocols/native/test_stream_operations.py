"""The operations about streams: numbers, and columns that come out as they went in."""

from typing import get_args

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import TooLarge
from braidmq.broker.groupverbs import GroupEvent
from braidmq.broker.streamreading import Chunk
from braidmq.broker.streamverbs import Start
from braidmq.protocols.native import frames, operations
from braidmq.protocols.native import stream_operations as op

NUMBERS = st.integers(0, 2**63 - 1)
COUNTS = st.integers(0, 2**32 - 1)
COLUMN = st.lists(st.binary(max_size=20), max_size=5)
CHUNKS = st.builds(
    Chunk, COLUMN, COUNTS, COUNTS, NUMBERS, NUMBERS, st.booleans(), st.lists(COUNTS, max_size=3)
)


def through_the_wire(message):
    out = bytearray()
    frames.append_frame(out, message)
    view = memoryview(bytes(out))[frames.LENGTH_BYTES :]
    decode = frames.decode_reply if message.__struct_config__.tag > 63 else frames.decode_request
    return decode(view)


def test_every_operation_has_its_number_in_the_table():
    kinds = [*get_args(op.Request), *get_args(op.Reply)]
    assert sorted(kind.__struct_config__.tag for kind in kinds) == sorted(op.OPERATIONS.values())
    assert op.OPERATIONS.items() <= operations.OPERATIONS.items()
    assert set(get_args(op.Request)) <= set(get_args(operations.Request))


@given(COLUMN, COLUMN, COLUMN, st.lists(st.text(max_size=40), max_size=5))
def test_columns_come_out_as_they_went_in(bodies, keys, headers, hash_keys):
    request = op.Append(7, "s", bodies, keys, headers, hash_keys)
    assert through_the_wire(request) == request


@given(CHUNKS, st.booleans(), COUNTS)
def test_a_chunk_comes_out_as_it_went_in(chunk, last, shard):
    reply = through_the_wire(op.ChunkReply(7, last, shard, op.wire_chunk(chunk)))
    assert (reply.last, reply.shard) == (last, shard)
    assert msgspec.structs.astuple(reply.chunk) == msgspec.structs.astuple(chunk)
    event = op.WireGroupEvent("records", shard, 1 << 40, 9, op.wire_chunk(chunk))
    assert through_the_wire(op.GroupEventReply(7, event)).event == event


def test_what_the_decoder_makes_is_what_the_core_takes():
    assert issubclass(op.WireChunk, Chunk) and issubclass(op.WireGroupEvent, GroupEvent)
    request = through_the_wire(op.JoinGroup(7, "s", "g", op.WireStart("time", 0, 5)))
    kept = request.start.start()
    assert type(kept) is Start and kept == Start("time", 0, 5)
    assert msgspec.json.encode(kept) == b'{"kind":"time","number":0,"time_ms":5}'


def test_appended_keeps_the_order_and_names_the_refused():
    out = bytearray()
    frames.append_appended(out, 7, [(3, 1), TooLarge("large"), (0, 2**40)])
    frames.append_appended(out, 8, [(1, 5), (1, 6)])
    buffer = frames.FrameBuffer(1_000)
    buffer.feed(bytes(out))
    found = [frames.decode_reply(buffer.next_frame()) for _ in range(2)]  # type: ignore[arg-type]
    assert found == [
        op.AppendedReply(7, [3, 0, 0], [1, 0, 2**40], [op.WireRefusal(1, "too-large", "large")]),
        op.AppendedReply(8, [1, 1], [5, 6], []),
    ]
