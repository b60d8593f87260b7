"""What the tests of cold files share: blocks to put in, and a way to say what came out."""

from collections.abc import Iterable, Sequence

from braidmq.storage.block import Block, decode_block, encode_block

SHARD = 7

Row = tuple[int, int, bytes, bytes]  # number, time_ms, key, body


def make_block(first: int, bodies: Sequence[bytes], time_ms: int = 1000) -> Block:
    """A block of records a millisecond apart."""
    keys = [b"key %d" % (first + index) for index in range(len(bodies))]
    times = list(range(len(bodies)))
    return decode_block(encode_block(SHARD, first, time_ms, keys, None, bodies, times))


def make_blocks(
    first: int, count: int, records: int = 3, body_bytes: int = 10, step_ms: int = 100
) -> list[Block]:
    """``count`` blocks that follow each other; their bodies differ, and do not compress well."""
    blocks = []
    for index in range(count):
        number = first + index * records
        bodies = [
            (b"%d." % ((number + n) * 2_654_435_761 % 2**61) * (body_bytes // 4 + 1))[:body_bytes]
            for n in range(records)
        ]
        blocks.append(make_block(number, bodies, 1000 + index * step_ms))
    return blocks


def rows(blocks: Iterable[Block]) -> list[Row]:
    """Every record, whatever blocks they are in."""
    return [
        (record.number, record.time_ms, record.key, record.body)
        for block in blocks
        for record in decode_block(block.bytes).records()
    ]
