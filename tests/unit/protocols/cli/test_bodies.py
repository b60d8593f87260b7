"""Where bodies and headers come from: what ``send`` and ``publish`` share."""

import io

import click
import pytest

from braidmq.broker.message import unpack_headers
from braidmq.protocols.cli import bodies


def test_headers_are_packed():
    packed = bodies.packed_headers(["a=1", "b=x=y"], "text/plain")
    assert unpack_headers(packed) == {"a": "1", "b": "x=y", "content-type": "text/plain"}
    assert bodies.packed_headers([], None) == b""


@pytest.mark.parametrize("header", ["a", "=1", ""])
def test_headers_have_a_name_and_a_value(header):
    with pytest.raises(click.BadParameter, match="NAME=VALUE"):
        bodies.packed_headers([header], None)


def test_a_body_is_an_argument_or_a_file(tmp_path):
    (tmp_path / "body").write_bytes(b"\xff")
    assert bodies.read_body("text", None) == b"text"
    assert bodies.read_body(None, str(tmp_path / "body")) == b"\xff"
    with pytest.raises(click.UsageError, match="exclude each other"):
        bodies.read_body("text", str(tmp_path / "body"))


async def test_lines_come_without_their_ends():
    found = [
        line async for lines in bodies.lines_read(io.BytesIO(b"a\r\nb\n\nd")) for line in lines
    ]
    assert found == [b"a", b"b", b"", b"d"]
    assert [lines async for lines in bodies.lines_read(io.BytesIO(b""))] == []
