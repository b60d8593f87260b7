"""No matter how a data directory was damaged, opening it starts or refuses with a reason.

Bits flip, files are cut, zeroed, swapped, glued together, renamed and removed, in a directory with
several segments, epochs and a checkpoint. BRAIDMQ_FUZZ_SECONDS makes it run longer.
"""

from collections.abc import Iterator
from itertools import pairwise, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage.block import encode_block
from braidmq.storage.coldfile import ColdFrame, encode_cold_frame
from braidmq.storage.streams import ColdFile, encode_cold, encode_cursor

from .budget import fuzz
from .log_targets import check_directory, check_parsers, files_of, original, remove_scratch


@pytest.fixture(scope="module", autouse=True)
def cleaned() -> Iterator[None]:
    yield
    remove_scratch()


@st.composite
def damages(draw: st.DrawFn) -> tuple[bool, dict[str, bytes | None]]:
    """Which directory, and the files of it that are different afterwards."""
    stopped = draw(st.booleans())
    source = original(stopped)
    names = files_of(source)
    changed: dict[str, bytes | None] = {}
    if draw(st.integers(0, 9)) == 0:
        # Mixed up whole. With other damage on top of it nothing could tell: records do not say
        # where they stand, and what is below the checkpoint is read one by one.
        name, other = draw(st.sampled_from(names)), draw(st.sampled_from(names))
        return stopped, {name: (source / "shard-00" / other).read_bytes()}
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(names))
        known = changed.get(name)
        content = known if known is not None else (source / "shard-00" / name).read_bytes()
        changed[name] = draw(damaged(content))
        if draw(st.integers(0, 9)) == 0:
            changed[draw(st.sampled_from(new_names(name)))] = content
    return stopped, changed


def new_names(name: str) -> list[str]:
    """Names that mean something to the log, or nearly."""
    return [
        "wal-0000000000000000-00000001.log",
        "wal-0000000000000400-00000002.log",
        "wal-ffffffffffffffff-ffffffff.log",
        "wal-0000000000000008-00000063.log",
        "ckpt-ffffffffffffffff.idx",
        "MANIFEST.tmp",
        f"{name}.lost",
        "notes.txt",
    ]


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes | None:
    kind = draw(st.sampled_from("flip flip flip cut zero noise swap glue remove".split()))
    size = len(content)
    at = draw(st.integers(0, max(0, size - 1)))
    length = draw(st.integers(1, 200))
    match kind:
        case "flip" if size:
            flipped = bytearray(content)
            flipped[at] ^= 1 << draw(st.integers(0, 7))
            return bytes(flipped)
        case "cut":
            return content[:at]
        case "zero":
            return content[:at] + bytes(length) + content[at + length :]
        case "noise":
            return content[:at] + draw(st.binary(max_size=200)) + content[at + length :]
        case "swap":
            other = draw(st.integers(0, max(0, size - 1)))
            return content[:at] + content[other : other + length] + content[at + length :]
        case "glue":
            return content + content[at : at + length]
        case "remove":
            return None
    return content


@fuzz(share=0.8, rate=70)
@given(damages())
def test_a_damaged_directory_starts_or_is_refused(damage):
    check_directory(*damage)


@fuzz(share=0.2, rate=1_000)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=100).map(lambda b: b"BQF1" + b)))
def test_parsers_answer_whatever_comes(data):
    check_parsers(data)


@fuzz(share=0.2, rate=1_000)
@given(
    st.lists(st.tuples(st.binary(max_size=5), st.binary(max_size=20)), min_size=1, max_size=6),
    st.binary(max_size=3),
    st.integers(0, 200),
    st.integers(0, 255),
)
def test_blocks_and_files_answer_whatever_was_changed_in_them(records, headers, at, byte):
    keys, bodies = zip(*records, strict=True)
    times = list(range(len(records)))
    block = bytearray(encode_block(7, 5, 9, keys, [headers] * len(records), bodies, times))
    block[at % len(block)] = byte
    check_parsers(bytes(block))
    frame = encode_cold_frame(ColdFrame(0, 5, len(records), len(block), 9, bytes(block)))
    check_parsers(frame)
    for record in (
        encode_cursor(1, 2, 3, 4, 5),
        encode_cold(ColdFile(7, 1, 5, 9, 99, 1, 2), (1, 2)),
    ):
        changed = bytearray(record)
        changed[at % len(changed)] = byte
        check_parsers(bytes(changed))


def test_segments_that_were_mixed_up_are_noticed():
    source = original(True)
    segments = [name for name in files_of(source) if name.startswith("wal-")]
    for name, other in pairwise(segments):
        content = (source / "shard-00" / other).read_bytes()
        assert check_directory(True, {name: content}) == "started after accepting loss"


def test_a_record_of_another_kind_is_damage_and_stops_nobody():
    """Mixed up and damaged in its first frame: the start cannot tell, so reading has to bear it."""
    source = original(True)
    segments = [name for name in files_of(source) if name.startswith("wal-")]
    for name, other in permutations(segments[:6], 2):
        content = bytearray((source / "shard-00" / other).read_bytes())
        content[143] ^= 1
        check_directory(True, {name: bytes(content)})


def test_what_is_not_damaged_starts():
    assert check_directory(True, {}) == "started"
    assert check_directory(False, {}) == "started"
    assert len(files_of(original(True))) > 3, "there should be several segments to damage"
