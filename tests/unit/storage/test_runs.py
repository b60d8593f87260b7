"""Runs are the very records that one would make one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage.record import decode_message, encode_message, record_is_intact, walk_records
from braidmq.storage.runs import encode_message_run

targets_of = st.lists(
    st.tuples(st.integers(1, 2**32 - 1), st.integers(1, 2**40)), min_size=1, max_size=5
)


@given(
    targets=targets_of,
    time_ms=st.integers(0, 2**60),
    attributes=st.binary(max_size=40),
    length=st.integers(0, 50),
    count=st.integers(1, 20),
    expire_ms=st.sampled_from([0, 1_800_000_000_000]),
)
def test_a_run_is_what_its_records_are_one_by_one(
    targets, time_ms, attributes, length, count, expire_ms
):
    bodies = [bytes([index]) * length for index in range(count)]
    records, size = encode_message_run(targets, time_ms, attributes, bodies, expire_ms)
    expected = b"".join(
        b"".join(
            encode_message(
                [(entity, seq + index) for entity, seq in targets],
                time_ms,
                attributes,
                body,
                0,
                expire_ms,
            )
        )
        for index, body in enumerate(bodies)
    )
    assert records == expected
    assert size * count == len(records)


def test_every_record_of_a_run_stands_alone():
    records, size = encode_message_run([(7, 1)], 5, b"ab", [b"one", b"two"])
    places = list(walk_records(records, 0, len(records)))
    assert places == [0, size]
    assert all(record_is_intact(records, at) for at in places)
    second = decode_message(records, size, 1000 + size)
    assert (second.targets, second.body, second.attributes) == (((7, 2),), b"two", b"ab")


def test_bodies_of_different_lengths_are_no_run():
    with pytest.raises(AssertionError):
        encode_message_run([(7, 1)], 5, b"", [b"one", b"three"])
