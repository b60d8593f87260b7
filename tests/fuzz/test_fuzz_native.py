"""No matter what bytes come, a native connection answers or ends, and harms no other.

hypothesis makes the bytes: noise, sound requests with odd fields, and sound requests that were
damaged. BRAIDMQ_FUZZ_SECONDS makes it run longer.
"""

import struct
import tracemalloc

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from braidmq.broker.errors import BraidError
from braidmq.broker.limits import Limits
from braidmq.broker.message import check_attributes
from braidmq.protocols.native import frames

from .budget import fuzz
from .wire_targets import FRAME_BYTES_MAX, Rig, check_frames

NUMBERS = st.one_of(
    st.integers(-2, 12),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([2**31, 2**32 - 1, 2**32, 2**53, 2**63]),
)
NAMES = st.sampled_from(["q", "f", "s", "dead", "none", "", "*", "$x", "a b", "x" * 300, "\0"])
SCALARS = st.one_of(
    NUMBERS,
    NAMES,
    st.none(),
    st.booleans(),
    st.floats(),
    st.text(max_size=9),
    st.binary(max_size=9),
)
ATTRIBUTES = st.one_of(
    st.binary(max_size=20),
    st.dictionaries(st.text(max_size=4), SCALARS, max_size=3).map(msgpack.packb),
)
MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.binary(max_size=30)),
        st.tuples(
            *(st.binary(max_size=30), ATTRIBUTES, NUMBERS, NUMBERS, NUMBERS),
            *(st.sampled_from(["", "g", "x" * 200]), st.sampled_from(["", "d", "x" * 200])),
        ),
        st.lists(SCALARS, max_size=8),
    ),
    max_size=6,
)
RECEIPTS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4)
SETTINGS = st.dictionaries(
    st.sampled_from(
        "fifo durability visibility_timeout_ms delay_ms ttl_ms max_receives dead_letter overflow"
        " messages_max tags unknown".split()
    ),
    SCALARS,
    max_size=3,
)
SELECTORS = st.sampled_from(["", "a = 1", "a = ", "NOT NOT a", "(" * 50, "a LIKE '%'", "\0"])
SHARDS = st.integers(0, 3)
COLUMN = st.lists(st.one_of(st.binary(max_size=9), ATTRIBUTES), max_size=4)
HASH_KEYS = st.lists(st.sampled_from(["", "0", "-1", str(2**128 - 1), str(2**128)]), max_size=4)
STARTS = st.one_of(
    st.tuples(st.sampled_from("earliest latest at after time".split()), NUMBERS, NUMBERS),
    st.lists(SCALARS, max_size=4),
)
PLACES = st.lists(st.tuples(SHARDS, NUMBERS), max_size=3)
STREAM_SETTINGS = st.dictionaries(
    st.sampled_from(
        "durability retention_ms retention_bytes record_bytes_max shard_records_in_per_second"
        " shard_bytes_out_per_second unknown".split()
    ),
    NUMBERS,
    max_size=2,
)
FIELDS = st.one_of(SCALARS, MESSAGES, RECEIPTS, SETTINGS, SELECTORS)
IDS = st.integers(0, 40)


def steps() -> st.SearchStrategy[tuple]:
    """Requests that mostly can be steps of a transaction."""
    message = st.tuples(st.binary(max_size=30), ATTRIBUTES)
    return st.one_of(
        st.tuples(st.sampled_from([3, 25]), IDS, NAMES, st.lists(message, max_size=2)),
        st.tuples(st.just(38), IDS, NAMES, COLUMN, COLUMN, COLUMN, HASH_KEYS),
        st.tuples(st.just(8), IDS, NAMES, RECEIPTS),
        st.tuples(st.just(9), IDS, NAMES, RECEIPTS, NUMBERS, st.booleans()),
        st.tuples(st.just(11), IDS, NAMES, RECEIPTS, NAMES),
        st.tuples(
            *(st.just(96), IDS, st.sampled_from(["queue", "topic", "stream"]), NAMES),
            *(st.lists(NUMBERS, max_size=3), st.binary(max_size=9), ATTRIBUTES),
        ),
    )


def requests() -> st.SearchStrategy[list]:
    """Requests that mostly make sense."""
    plausible = st.one_of(
        st.tuples(st.just(3), IDS, NAMES, MESSAGES),
        st.tuples(st.just(4), IDS, NAMES, NUMBERS, NUMBERS, NUMBERS, SELECTORS, NAMES),
        st.tuples(st.just(5), IDS, NAMES, st.integers(0, 80), SELECTORS),
        st.tuples(st.just(6), IDS, NUMBERS),
        st.tuples(st.just(7), IDS, IDS, RECEIPTS),
        st.tuples(st.sampled_from([8, 9]), IDS, NAMES, RECEIPTS),
        st.tuples(st.sampled_from([10, 11]), IDS, NAMES, RECEIPTS, FIELDS),
        st.tuples(st.just(12), IDS, NAMES, NUMBERS, NUMBERS, SELECTORS, NAMES),
        st.tuples(st.sampled_from([16, 17]), IDS, NAMES, SETTINGS),
        st.tuples(st.just(21), IDS, NAMES, NAMES, SCALARS, NUMBERS),
        st.tuples(st.sampled_from([33, 34]), IDS, NAMES, STREAM_SETTINGS, NUMBERS),
        st.tuples(st.sampled_from([35, 36, 37]), IDS, NAMES),
        st.tuples(st.just(38), IDS, NAMES, COLUMN, COLUMN, COLUMN, HASH_KEYS),
        st.tuples(st.just(39), IDS, NAMES, SHARDS, STARTS),
        st.tuples(st.just(40), IDS, NAMES, SHARDS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
        st.tuples(st.just(41), IDS, NAMES, PLACES, NUMBERS, st.booleans(), st.booleans()),
        st.tuples(st.sampled_from([42, 43, 44]), IDS, NAMES, SHARDS, SHARDS),
        st.tuples(st.just(45), IDS, NAMES, NAMES, STARTS, NUMBERS, NUMBERS),
        st.tuples(st.sampled_from([46, 52]), IDS, SHARDS, NUMBERS),
        st.tuples(st.just(47), IDS, IDS, SHARDS, NUMBERS, NUMBERS),
        st.tuples(st.sampled_from([53, 54, 63]), IDS, NAMES, NAMES),
        st.tuples(st.just(55), IDS, NAMES, NAMES, STARTS, NUMBERS, st.booleans()),
        st.tuples(st.just(101), IDS, st.lists(st.one_of(steps(), FIELDS), max_size=6)),
    )
    odd = st.tuples(st.integers(-1, 80), FIELDS, FIELDS, FIELDS)
    return st.lists(st.one_of(plausible, plausible, odd).map(list), max_size=12)


def packed(messages: list[list]) -> bytes:
    payloads = [msgpack.packb(message, use_bin_type=True) for message in messages]
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Frames, as they are or damaged."""
    data = bytearray(draw(requests().map(packed)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from("flip insert delete repeat".split())):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "delete":
                del data[at : at + draw(st.integers(1, 8))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


CUTS = st.lists(st.integers(0, 2**16), max_size=6)


@fuzz(share=0.25, rate=250)
@given(st.one_of(st.binary(max_size=300), streams()), CUTS)
@example(b"\xff\xff\xff\xff", [])
@example(struct.pack(">I", FRAME_BYTES_MAX + 1), [2])
@example(b"\0\0\0\0", [1, 2, 3])
def test_frames_are_cut_and_decoded_or_refused(data, cuts):
    check_frames(data, cuts)


@fuzz(share=0.15, rate=80)
@given(streams())
def test_frames_do_not_depend_on_where_reads_end(data):
    data = data[:400]
    for cut in range(len(data)):
        check_frames(data, [cut])


@fuzz(share=0.1, rate=800)
@given(st.one_of(st.binary(max_size=200), ATTRIBUTES))
def test_attributes_are_taken_or_refused(data):
    try:
        check_attributes(data, Limits())
    except BraidError:
        pass


@fuzz(share=0.5, rate=60)
@given(st.lists(st.tuples(streams(), st.booleans(), CUTS), min_size=1, max_size=4))
def test_a_hostile_connection_harms_no_other(attacks):
    rig = Rig()
    for data, greet, cuts in attacks:
        rig.attack(data, greet, cuts)


BOMBS = {
    "an array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "4 GiB of bytes": b"\x93\x03\x01\xc6\xff\xff\xff\xff",
    "a batch of 4 billion": b"\x94\x03\x01\xa1q\xdd\xff\xff\xff\xff",
    "a tower of arrays": b"\x94\x03\x01\xa1q" + b"\x91" * 100_000,
    "a tower of maps": b"\x94\x10\x01\xa1q" + b"\x81\xa1a" * 30_000,
    "empty arrays": b"\x94\x03\x01\xa1q\xdd\0\0\xff\xff" + b"\x90" * 65_535,
    "tiny messages": b"\x94\x03\x01\xa1q\xdd\0\0\xff\xff" + b"\x91\xc4\0" * 65_535,
    "many receipts": b"\x94\x08\x01\xa1q\xdd\0\0\xff\xff" + b"\x92\0\0" * 65_535,
    "an extension": b"\x94\x03\x01\xa1q\xc9\xff\xff\xff\xff\x05",
}


@pytest.mark.parametrize("payload", BOMBS.values(), ids=BOMBS.keys())
def test_no_frame_takes_much_more_memory_than_it_has_bytes(payload):
    tracemalloc.start()
    try:
        try:
            frames.decode_request(memoryview(payload))
        except (frames.Malformed, frames.Refused):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(payload) + 65_536, f"{peak} bytes for a frame of {len(payload)}"
