"""Records: what is encoded comes back, and garbage is refused in one documented way."""

import struct
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage import record
from braidmq.storage.record import (
    ACK,
    DEFINITION,
    DELAY,
    LINK,
    MESSAGE,
    PURGE,
    RECEIVE,
    RECORD_BYTES_MIN,
    decode_ack,
    decode_content,
    decode_definition,
    decode_delay,
    decode_link,
    decode_message,
    decode_purge,
    decode_receive,
    encode_ack,
    encode_definition,
    encode_delay,
    encode_link,
    encode_message,
    encode_moved_link,
    encode_moved_message,
    encode_purge,
    encode_receive,
    record_is_intact,
    record_length,
    record_type,
    walk_records,
)

u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
lsns = st.integers(1, 2**60)
targets = st.lists(st.tuples(u32, u64), max_size=5)
sequences = st.one_of(
    st.lists(u64, min_size=1, max_size=50, unique=True),
    st.builds(
        lambda first, count: list(range(first, first + count)),
        st.integers(0, 2**63),
        st.integers(1, 200),
    ),
)
messages = st.fixed_dictionaries(
    {
        "targets": targets,
        "time_ms": u64,
        "attributes": st.binary(max_size=300),
        "body": st.binary(max_size=300),
        "due_ms": u64,
        "expire_ms": u64,
        "group": u64,
        "dedup": st.one_of(st.just(b""), st.binary(min_size=16, max_size=16)),
        "moved": st.one_of(st.none(), st.tuples(lsns, lsns)),
    }
)

DECODERS = {
    MESSAGE: lambda buffer, at: decode_message(bytes(buffer), at, 7),
    LINK: lambda buffer, at: decode_link(buffer, at, 7),
    ACK: decode_ack,
    RECEIVE: decode_receive,
    DELAY: decode_delay,
    PURGE: decode_purge,
    DEFINITION: decode_definition,
}


def test_every_type_has_a_decoder_here():
    numbers = [MESSAGE, ACK, LINK, RECEIVE, DELAY, PURGE, DEFINITION]
    assert numbers == [1, 2, 3, 4, 5, 6, 7]  # on disk: never to change
    assert set(DECODERS) == set(numbers)


@given(messages, lsns, st.binary(max_size=20))
def test_a_message_comes_back(fields, lsn, before):
    head, body = encode_message(**fields)
    assert body is fields["body"]
    buffer = before + head + body + b"behind"
    at = len(before)
    assert record_is_intact(buffer, at)
    assert record_type(buffer, at) == MESSAGE
    message = decode_message(buffer, at, lsn)
    for name in ("time_ms", "attributes", "body", "due_ms", "expire_ms", "group", "dedup"):
        assert getattr(message, name) == fields[name]
    assert message.targets == tuple(fields["targets"])
    assert message.length == len(head) + len(body) == record_length(buffer, at)
    origin, replaces = fields["moved"] or (lsn, 0)
    assert (message.lsn, message.origin, message.replaces) == (lsn, origin, replaces)


@given(messages, lsns, st.binary(max_size=20))
def test_what_a_consumer_gets_is_what_the_whole_record_says(fields, lsn, before):
    buffer = before + b"".join(encode_message(**fields)) + b"behind"
    message = decode_message(buffer, len(before), lsn)
    content = decode_content(buffer, len(before), lsn)
    assert content.id == message.origin
    for name in ("time_ms", "expire_ms", "attributes", "body"):
        assert getattr(content, name) == getattr(message, name)


@given(messages, lsns, lsns, lsns, targets)
def test_a_moved_message_keeps_its_id_through_every_move(fields, one, two, three, left):
    message = decode_message(b"".join(encode_message(**fields)), 0, one)
    for lsn in (two, three):
        before = message
        message = decode_message(b"".join(encode_moved_message(before, left)), 0, lsn)
        assert message.replaces == before.lsn
        assert message.origin == before.origin
        assert message.targets == tuple(left)
        assert (message.body, message.attributes) == (fields["body"], fields["attributes"])
        assert (message.due_ms, message.dedup) == (fields["due_ms"], fields["dedup"])


@pytest.mark.parametrize(
    ("encode", "decode", "kind"),
    [
        (encode_ack, decode_ack, ACK),
        (encode_receive, decode_receive, RECEIVE),
        (encode_delay, decode_delay, DELAY),
    ],
)
@given(entity=u32, value=u64, numbers=sequences)
def test_sequences_come_back_in_order(encode, decode, kind, entity, value, numbers):
    buffer = encode(entity, value, numbers)
    assert record_is_intact(buffer)
    assert record_type(buffer) == kind
    found = decode(b"x" + buffer, 1)
    got_entity, got_value, got = (getattr(found, name) for name in found.__struct_fields__)
    assert (got_entity, got_value, got) == (entity, value, sorted(numbers))


def test_a_long_run_of_sequences_is_a_short_record():
    assert len(encode_ack(1, 0, range(100_000))) == 40


@given(u32, st.lists(u64, max_size=20))
def test_a_purge_comes_back_lane_by_lane(entity, bounds):
    found = decode_purge(encode_purge(entity, bounds), 0)
    assert (found.entity, found.bounds) == (entity, bounds)


@given(u32, u64, u32, u64, lsns, u64, u64, st.binary(max_size=300), lsns, lsns)
def test_a_link_comes_back_and_so_does_its_copy(
    source, source_seq, target, target_seq, message, time_ms, group, attributes, lsn, new
):
    fields = (source, source_seq, target, target_seq, message, time_ms, group)
    link = decode_link(encode_link(*fields, attributes), 0, lsn)
    assert (link.source, link.source_seq, link.target, link.target_seq) == fields[:4]
    assert (link.message_lsn, link.time_ms, link.group) == fields[4:]
    assert (link.attributes, link.replaces, link.lsn) == (attributes, 0, lsn)
    moved = decode_link(encode_moved_link(link), 0, new)
    assert (moved.replaces, moved.lsn, moved.attributes) == (lsn, new, attributes)
    assert moved.message_lsn == message


@given(u32, st.binary(max_size=300))
def test_a_definition_comes_back(entity, content):
    found = decode_definition(encode_definition(entity, content), 0)
    assert (found.entity, found.content) == (entity, content)


@given(st.lists(messages, max_size=5))
def test_records_back_to_back_are_walked(fields):
    records = [b"".join(encode_message(**each)) for each in fields]
    payload = b"".join(records)
    found = list(walk_records(b"xx" + payload, 2, 2 + len(payload)))
    starts = [2 + sum(map(len, records[:index])) for index in range(len(records))]
    assert found == starts
    for stray in (b"x", bytes(9), bytes(10), b"\xff" * 10):
        with pytest.raises(ValueError, match=r"stray|record of"):
            list(walk_records(payload + stray, 0, len(payload) + len(stray)))


@given(messages, st.data())
def test_a_flipped_bit_is_noticed(fields, data):
    buffer = bytearray(b"".join(encode_message(**fields)))
    at = data.draw(st.integers(0, len(buffer) - 1))
    buffer[at] ^= 1 << data.draw(st.integers(0, 7))
    assert not record_is_intact(bytes(buffer))


@given(st.sampled_from(sorted(DECODERS)), st.binary(max_size=120), st.booleans())
def test_garbage_in_a_sealed_record_is_a_value_error_or_a_record(kind, content, cut):
    """No matter what the fields say: ValueError, or a value, and no great allocation."""
    body = bytes([kind]) + content
    if len(body) < RECORD_BYTES_MIN - 8:
        body += bytes(RECORD_BYTES_MIN - 8 - len(body))
    buffer = struct.pack("<II", 8 + len(body), crc32(body)) + body
    assert record_is_intact(buffer)
    if cut:
        buffer = buffer[: len(buffer) // 2 + 4]
    try:
        found = DECODERS[kind](buffer, 0)
    except ValueError:
        return
    assert type(found).__module__ == record.__name__


@given(st.binary(max_size=100), st.integers(0, 100))
def test_garbage_is_not_intact(buffer, at):
    assert not record_is_intact(buffer, at) or at + record_length(buffer, at) <= len(buffer)


def test_a_range_without_end_is_refused_before_it_is_built():
    head = struct.pack("<BBHIQQQ", ACK, 1, 0, 1, 0, 0, 2**63)
    buffer = struct.pack("<II", 8 + len(head), crc32(head)) + head
    with pytest.raises(ValueError, match="a range of sequences"):
        decode_ack(buffer, 0)
