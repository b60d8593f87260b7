"""Records as people get them."""

from datetime import UTC, datetime

from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from braidmq.broker.streamreading import Chunk
from braidmq.broker.streamrecord import chunk_records
from braidmq.storage.block import encode_block


def test_a_record_is_decoded_when_it_is_looked_at():
    headers = pack_headers({"tenant": "a"}, Limits())
    block = encode_block(7, 5, 1_000, ["kö".encode(), b""], [headers, b""], [b"one", b"two"])
    first, second = chunk_records(Chunk([block], 0, 2, 7, 0), 3)
    assert (first.shard, first.number, first.key, first.body) == (3, 5, "kö", b"one")
    assert first.headers == {"tenant": "a"} and first.time == datetime.fromtimestamp(1, UTC)
    assert (second.number, second.key, second.headers) == (6, "", {})
    assert repr(second) == "<Record 6 of shard 3, 3 bytes>"


def test_a_chunk_may_begin_and_end_within_a_block():
    blocks = [
        encode_block(7, first, 1, [b""] * 3, None, [b"%d" % n for n in range(first, first + 3)])
        for first in (1, 4, 7)
    ]
    chunk = Chunk(blocks, 2, 5, 8, 0)
    assert [record.number for record in chunk_records(chunk, 0)] == [3, 4, 5, 6, 7]
    assert [record.body for record in chunk_records(Chunk(blocks[:1], 0, 1, 2, 0), 0)] == [b"1"]
