"""--format: fields, escapes, and what a terminal never gets."""

import click
import pytest

from braidmq.broker.limits import Limits
from braidmq.broker.message import Browsed, Delivery, Headers, pack_headers
from braidmq.protocols.cli.format import (
    FIELDS,
    Formatter,
    message_fields,
    parse_receipt,
    receipt_text,
)

HEADERS: Headers = {"group-id": "g", "dedup-id": b"\xff", "x": "ä", "b": b"text"}
ATTRIBUTES = pack_headers(HEADERS, Limits())
DELIVERY = Delivery(7, 42, 3, 255, 1_700_000_000_123, ATTRIBUTES, b"body\x1b\n")
BROWSED = Browsed(7, "ready", 0, 255, 1_700_000_000_123, b"", b"\xff")


def printed(template: str, message=DELIVERY, on_terminal: bool = False) -> bytes:
    formatter = Formatter(template, False, on_terminal)
    formatter.instance = 1
    return formatter([message])


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("%b", b"body\x1b\n"),
        ("%i", b"0000000000000001" + b"00000000000000ff"),
        ("%s %r %S", b"7 3 6"),
        ("%t %T", b"1700000000123 2023-11-14T22:13:20.123Z"),
        ("%R %g %d", b"7:42 g /w=="),
        ("%h", b'{"group-id": "g", "dedup-id": {"base64": "/w=="}, "x": "\\u00e4", "b": "text"}'),
        (r"%%\n\t\r\0\\\e\x7F", b"%\n\t\r\0\\\x1b\x7f"),
        ("", b""),
        ("plain ä", "plain ä".encode()),
    ],
)
def test_fields_and_escapes(template, expected):
    assert printed(template) == expected


@pytest.mark.parametrize("template", ["%z", "%", "\\", r"\q", r"\x1"])
def test_what_stands_for_nothing(template):
    with pytest.raises(click.BadParameter, match="stands for nothing; known are %b"):
        printed(template)


def test_a_terminal_gets_no_control_characters_from_messages():
    assert printed(r"%b\e[0m", on_terminal=True) == b"body\\x1b\n\x1b[0m"
    assert printed("%b", BROWSED, on_terminal=True) == b"\\xff"


def test_every_field_works_on_both_kinds():
    for letter in FIELDS:
        assert isinstance(printed(f"%{letter}"), bytes)
        assert isinstance(printed(f"%{letter}", BROWSED), bytes)


def test_json_fields():
    fields = message_fields(DELIVERY, 1)
    assert fields["receipt"] == "7:42" and "state" not in fields
    assert fields["headers"]["dedup-id"] == {"base64": "/w=="}
    fields = message_fields(BROWSED, 1)
    assert fields["state"] == "ready" and "receipt" not in fields
    assert fields["body_base64"] == "/w=="


def test_receipts_there_and_back():
    assert parse_receipt(receipt_text(DELIVERY)) == DELIVERY.receipt
    assert receipt_text(BROWSED) == ""
    for text in ("", "1", "1:", "1:x", "-1:2", "1:2:3", "²:1"):
        with pytest.raises(click.BadParameter):
            parse_receipt(text)
