"""The header map: what goes in comes out, and nothing else gets in."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument, TooLarge
from braidmq.broker.limits import Limits
from braidmq.broker.message import (
    Delivery,
    Outgoing,
    check_attributes,
    is_text,
    overlay,
    pack_headers,
    unpack_headers,
)

TEXTS = st.text(max_size=20).filter(is_text)
MAPS = st.dictionaries(TEXTS.filter(bool), TEXTS | st.binary(max_size=20), max_size=8)


@given(MAPS, MAPS)
def test_headers_come_back_and_overlay_as_dicts_do(first, second):
    limits = Limits()
    one, two = pack_headers(first, limits), pack_headers(second, limits)
    assert unpack_headers(one) == first
    assert unpack_headers(overlay(one, two)) == first | second
    if one:
        check_attributes(one, limits)


def test_no_headers_are_no_bytes():
    assert pack_headers({}, Limits()) == b"" and unpack_headers(b"") == {}
    assert overlay(b"", b"\x80") == b"\x80" and overlay(b"\x80", b"") == b"\x80"


@pytest.mark.parametrize("headers", [{"": "x"}, {"a": 1}, {1: "a"}, {"a": None}, {"a": "\ud800"}])
def test_only_texts_and_bytes_are_headers(headers):
    with pytest.raises(InvalidArgument):
        pack_headers(headers, Limits())


def test_headers_have_limits_of_count_and_size():
    limits = Limits(headers_count_max=2, headers_bytes_max=20)
    packed = pack_headers({"a": "b", "c": "d"}, limits)
    check_attributes(packed, limits)
    for headers in ({"a": "", "b": "", "c": ""}, {"a": "x" * 20}):
        with pytest.raises(TooLarge):
            pack_headers(headers, limits)
        with pytest.raises(TooLarge):
            check_attributes(pack_headers(headers, Limits()), limits)


@given(st.binary(max_size=60))
def test_packed_headers_of_a_peer_are_checked(data):
    try:
        check_attributes(data, Limits())
    except (InvalidArgument, TooLarge):
        return
    headers = unpack_headers(data)
    assert all(isinstance(name, str) and name for name in headers)
    assert all(isinstance(value, str | bytes) for value in headers.values())


@pytest.mark.parametrize("value", [1, None, [], {"": "x"}, {"a": 1}, {1: "a"}, {"a": ["b"]}])
def test_packed_headers_of_the_wrong_shape_are_refused(value):
    with pytest.raises(InvalidArgument):
        check_attributes(msgspec.msgpack.encode(value), Limits())


def test_text_is_what_utf8_can_say():
    assert is_text("") and is_text("größer 🦔") and not is_text("a\ud800")


def test_receipt_is_sequence_and_token():
    assert Delivery(3, 9, 1, 5, 0, b"", b"").receipt == (3, 9)
    assert Outgoing(b"x").priority == 4 and Outgoing(b"x").delay_ms == -1
