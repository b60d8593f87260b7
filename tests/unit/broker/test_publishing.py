"""Messages into publications: runs of equal ones, headers that tell the truth, limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import BraidError, InvalidArgument, TooLarge
from braidmq.broker.limits import RETENTION_MS_MAX, Limits
from braidmq.broker.message import pack_headers, unpack_headers
from braidmq.broker.publication import PlainPublication
from braidmq.broker.publishing import Batch, Posted, batches, live_messages

LIMITS = Limits(body_bytes_max=4, headers_bytes_max=64)
NOW_MS = 1_000_000
HEADERS = [b"", pack_headers({"a": "1"}, Limits()), pack_headers({"b": b"2"}, Limits())]


def batch(*messages, qos=1):
    found = list(batches("t", messages, qos, LIMITS, NOW_MS))
    assert all(isinstance(each, Batch) for each in found)
    return found


def test_equal_messages_in_a_row_are_one_publication():
    found = batch(Posted(b"1"), Posted(b"2"), Posted(b"3", HEADERS[1]), Posted(b"4", ttl_ms=5))
    assert [list(each.bodies) for each in found] == [[b"1", b"2"], [b"3"], [b"4"]]
    assert [each.expire_ms for each in found] == [0, 0, NOW_MS + 5]
    assert [unpack_headers(each.attributes) for each in found] == [
        {"topic": "t"},
        {"a": "1", "topic": "t"},
        {"topic": "t"},
    ]


def test_a_retained_message_stands_alone():
    found = batch(Posted(b"1", retain=True), Posted(b"2", retain=True), Posted(b"3"))
    assert [each.count for each in found] == [1, 1, 1]
    assert [each.retain for each in found] == [True, True, False]
    assert unpack_headers(found[0].attributes) == {"topic": "t", "mqtt-retain": "1"}


def test_a_publisher_cannot_lie_about_the_message():
    lies = pack_headers({"topic": "x", "mqtt-qos": "2", "mqtt-retain": "1", "a": "b"}, Limits())
    (one,) = batch(Posted(b"", lies))
    assert unpack_headers(one.attributes) == {"topic": "t", "a": "b"}
    (zero,) = batch(Posted(b""), qos=0)
    assert unpack_headers(zero.attributes) == {"topic": "t", "mqtt-qos": "0"}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (Posted(bytes(5)), TooLarge),
        (Posted(b"", bytes(65)), TooLarge),
        (Posted(b"", ttl_ms=-1), InvalidArgument),
        (Posted(b"", ttl_ms=RETENTION_MS_MAX + 1), InvalidArgument),
    ],
)
def test_what_cannot_be_published_is_an_error_of_its_own(message, error):
    found = list(batches("t", [Posted(b"1"), message, Posted(b"2")], 1, LIMITS, NOW_MS))
    assert [type(each) for each in found] == [Batch, error, Batch]
    assert list(batches("t", [Posted(bytes(4))], 1, LIMITS, NOW_MS))


POSTED = st.builds(
    Posted,
    st.binary(max_size=6),
    st.sampled_from(HEADERS),
    st.booleans(),
    st.integers(-1, 2),
)


@given(st.lists(POSTED, max_size=20))
def test_every_message_has_its_place(messages):
    results: list[tuple[bytes, bool] | None] = []
    for each in batches("t", messages, 1, LIMITS, NOW_MS):
        if isinstance(each, BraidError):
            results.append(None)
        else:
            assert each.count == len(each.bodies) > 0
            results.extend((body, each.retain) for body in each.bodies)
    good = [len(m.body) <= 4 and m.ttl_ms >= 0 for m in messages]
    expected = [
        (m.body, m.retain) if fits else None for m, fits in zip(messages, good, strict=True)
    ]
    assert results == expected


def test_live_subscribers_get_the_same_objects():
    publication = PlainPublication("t", b"x", HEADERS[1], 1, False, NOW_MS + 5)
    first = live_messages(publication, NOW_MS)
    assert live_messages(publication, NOW_MS + 1) is first
    (message,) = first
    assert (message.body, message.time_ms, message.expire_ms) == (b"x", NOW_MS, NOW_MS + 5)
    assert (message.queue, message.retained, message.id) == ("", False, 0)


def test_a_publication_knows_whether_its_bodies_have_one_length():
    def uniform(*bodies: bytes) -> bool:
        return Batch("t", bodies, b"", 1, False, 0).uniform

    assert uniform(b"a", b"b") and not uniform(b"a", b"bc") and not uniform(b"a")
