"""Bytes to frames and back: what is read, what is refused, and what is fatal."""

import random
import tracemalloc

import msgpack
import pytest

from braidmq.broker.errors import InvalidArgument, LeaseLost, QueueFull, TooLarge
from braidmq.broker.message import Browsed, Delivery, Sent
from braidmq.protocols.native import frames
from braidmq.protocols.native import operations as op


def framed(payload):
    return len(payload).to_bytes(4, "big") + payload


def packed(*fields):
    return memoryview(msgpack.packb(fields))


def replies(out):
    buffer = frames.FrameBuffer(10**9)
    buffer.feed(bytes(out))
    found = []
    while (view := buffer.next_frame()) is not None:
        found.append(frames.decode_reply(view))
    assert len(buffer) == 0
    return found


# --- frames ---


def test_a_stream_is_cut_into_the_same_frames_however_it_arrives():
    payloads = [bytes([n % 256]) * n for n in (1, 2, 0, 300, 5, 1000, 3)]
    stream = b"".join(framed(payload) for payload in payloads)
    chance = random.Random(1)
    for _ in range(200):
        buffer = frames.FrameBuffer(1000)
        found, at = [], 0
        while at < len(stream):
            size = chance.choice([1, 2, 3, 7, 100, 2000])
            buffer.feed(stream[at : at + size])
            at += size
            while True:
                expected = buffer.has_frame()
                view = buffer.next_frame()
                assert expected == (view is not None)
                if view is None:
                    break
                found.append(bytes(view))
                del view
        assert found == payloads
        assert len(buffer) == 0


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_a_large_frame_is_a_frame(size):
    message = (69, 1, [bytes(size)] * 3)
    small, large = bytearray(b"before"), bytearray(b"before")
    frames.append_frame(small, message)
    frames.append_large_frame(large, message)
    assert small == large == b"before" + framed(msgpack.packb(message))


def test_more_may_come_while_somebody_still_looks_at_a_frame():
    """An error in a reference cycle does, until the collector comes."""
    buffer = frames.FrameBuffer(100)
    stream = framed(b"one") + framed(b"two") + framed(b"three")
    views = []
    for at in range(0, len(stream), 5):
        buffer.feed(stream[at : at + 5])
        while (view := buffer.next_frame()) is not None:
            views.append(view)
    assert views == [b"one", b"two", b"three"]


def test_a_frame_that_is_too_long_is_refused_by_its_length_alone():
    buffer = frames.FrameBuffer(100)
    buffer.feed((101).to_bytes(4, "big"))
    assert buffer.has_frame()
    with pytest.raises(frames.Malformed) as caught:
        buffer.next_frame()
    assert isinstance(caught.value.error, TooLarge)


def test_a_frame_of_exactly_the_limit_is_taken():
    buffer = frames.FrameBuffer(100)
    buffer.feed(framed(b"x" * 100))
    assert len(buffer.next_frame() or b"") == 100


def test_append_frame_leaves_what_was_there():
    out = bytearray(b"before")
    frames.append_frame(out, op.Pong(7))
    assert out == b"before" + framed(b"\x92\x42\x07")


# --- requests ---


def test_a_send_becomes_messages():
    request = frames.decode_request(packed(3, 9, "q", [[b"a"], [b"b", b"", 5, 6, 7, "g", "d"]]))
    assert request == op.Send(
        9, "q", [op.WireOutgoing(b"a"), op.WireOutgoing(b"b", b"", 5, 6, 7, "g", "d")]
    )


def test_elements_of_a_later_version_are_skipped():
    assert frames.decode_request(packed(2, 9, "new", [1, 2], {"a": 1})) == op.Ping(9)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x92\x02",
        b"\x92\x02\x01\x01",
        b"\x81\x01\x02",
        b"\x02",
        b"\x90",
        b"\x91\x02",
        b"\x92\x02\xa1a",
        b"\x92\x02\xff",
        b"\x92\x02\xcf" + b"\xff" * 8,
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff\x02\x01",
        b"\x93\x02\x01" + b"\x91" * 100_000,
    ],
    ids=range(14),
)
def test_what_is_no_array_of_an_operation_and_a_request_is_malformed(payload):
    with pytest.raises(frames.Malformed) as caught:
        frames.decode_request(memoryview(payload))
    assert isinstance(caught.value.error, InvalidArgument)


@pytest.mark.parametrize(
    "fields",
    [
        (99, 5),
        (0, 5),
        (-1, 5),
        (1, 5, 1, 1, "x"),  # a second HELLO
        (66, 5),  # a reply
        (3, 5, "q"),
        (3, 5, 7, []),
        (3, 5, "q", [["text"]]),
        (3, 5, "q", [[]]),
        (3, 5, "q", [[b"x", "text"]]),
        (3, 5, "q", [[b"x", b"", "soon"]]),
        (4, 5, "q", -1),
        (4, 5, "q", 2**32),
        (8, 5, "q", [[1]]),
        (8, 5, "q", [[1, "x"]]),
        (16, 5, "q", {"unknown": 1}),
        (16, 5, "q", {"durability": 9}),
        (17, 5, "q", {"tags": {"a": 1}}),
        (17, 5, "q", {str(n): n for n in range(65)}),
    ],
    ids=str,
)
def test_a_sound_frame_that_makes_no_sense_is_refused_by_its_request(fields):
    with pytest.raises(frames.Refused) as caught:
        frames.decode_request(packed(*fields))
    assert caught.value.request == 5
    assert isinstance(caught.value.error, InvalidArgument)


def test_text_that_is_not_utf8_is_refused():
    with pytest.raises(frames.Refused):
        frames.decode_request(memoryview(b"\x94\x03\x05\xa2\xff\xff\x90"))


def test_extension_types_are_refused_where_a_value_is_expected():
    with pytest.raises(frames.Refused):
        frames.decode_request(packed(3, 5, "q", [[msgpack.ExtType(1, b"x")]]))


def test_only_a_send_may_be_large():
    filler = b"x" * frames.FRAME_BYTES_SMALL_MAX
    assert isinstance(frames.decode_request(packed(3, 5, "q", [[filler]])), op.Send)
    with pytest.raises(frames.Malformed):
        frames.decode_request(packed(2, 5, filler))


@pytest.mark.parametrize(
    "payload",
    [
        b"\x94\x03\x05\xa1q" + b"\xdd\x00\x7f\xff\xff" + b"\x90" * 0x7FFFFF,  # 8 Mi empty messages
        b"\x94\x03\x05\xa1q" + b"\xdd\x00\x40\x00\x00" + b"\x91\xc4\x00" * 0x200000,
        b"\x94\x03\x05\xa1q\xdd\xff\xff\xff\xff",
        b"\x94\x03\x05\xdb\xff\xff\xff\xff",
        b"\x94\x03\x05\xa1q\x91\x91\xc6\xff\xff\xff\xff",
        b"\x93\x65\x05" + b"\xdd\x00\x7f\xff\xff" + b"\xc0" * 0x7FFFFF,  # 8 Mi steps
        b"\x93\x65\x05\xdd\xff\xff\xff\xff",
    ],
    ids=range(7),
)
def test_a_hostile_frame_makes_us_allocate_little(payload):
    view = memoryview(payload)
    tracemalloc.start()
    try:
        with pytest.raises((frames.Malformed, frames.Refused)):
            frames.decode_request(view)
        assert tracemalloc.get_traced_memory()[1] < 2 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_first_frame_must_be_a_hello():
    hello = frames.decode_hello(packed(1, 1, 1, 1, "me"))
    assert (hello.client, hello.user, hello.password, hello.heartbeat_ms) == ("me", "", b"", 0)
    for fields in [(2, 1), (1, 1), (1, 1, 1, 1, "x" * 257), (1, 0, 1, 1, "x")]:
        with pytest.raises(frames.Malformed):
            frames.decode_hello(packed(*fields))


# --- replies ---


def test_sent_keeps_the_order_and_names_the_refused():
    out = bytearray()
    frames.append_sent(out, 4, [Sent(1, 2), QueueFull("full"), Sent(2**40, 4, True)])
    assert replies(out) == [
        op.SentReply(
            4,
            [op.WireSent(1, 2, False), None, op.WireSent(2**40, 4, True)],
            [op.ItemError(1, "queue-full", "full")],
        )
    ]


def test_settled_is_silent_about_what_went_well():
    out = bytearray()
    frames.append_settled(out, 4, [None, LeaseLost("lost"), None])
    frames.append_settled(out, 5, [None] * 1000)
    assert replies(out) == [
        op.SettledReply(4, [op.ItemError(1, "lease-lost", "lost")]),
        op.SettledReply(5, []),
    ]


def test_deliveries_are_split_by_size_and_only_the_end_says_last():
    out = bytearray()
    deliveries = [Delivery(n, n, 1, n, n, b"", b"x" * 400) for n in range(10)]
    frames.append_deliveries(out, 4, True, deliveries, 1000)
    found = replies(out)
    assert [len(each.messages) for each in found] == [3, 3, 3, 1]
    assert [each.last for each in found] == [False, False, False, True]
    assert [m.seq for each in found for m in each.messages] == list(range(10))


def test_no_deliveries_are_an_answer_too():
    out = bytearray()
    frames.append_deliveries(out, 4, True, [], 1000)
    assert replies(out) == [op.Deliver(4, True, [])]


def test_browsed_messages_are_split_by_size_too():
    out = bytearray()
    page = [Browsed(n, "ready", 0, n, n, b"", b"x" * 400) for n in range(4)]
    frames.append_browsed(out, 4, page, 500)
    assert [(len(each.messages), each.last) for each in replies(out)] == [(2, False), (2, True)]


def test_a_reply_of_a_later_version_is_refused_and_garbage_is_malformed():
    with pytest.raises(frames.Refused):
        frames.decode_reply(packed(100, 5))
    with pytest.raises(frames.Malformed):
        frames.decode_reply(memoryview(b"\xc1"))
