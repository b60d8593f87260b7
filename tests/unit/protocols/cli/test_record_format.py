"""How records are printed, and where they begin."""

import json
from datetime import UTC, datetime, timedelta

import click
import pytest

from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from braidmq.broker.streamrecord import Record
from braidmq.protocols.cli.record_format import (
    RECORD_FIELDS,
    RecordFormatter,
    record_fields,
    record_start,
)

RECORD = Record(3, 7, 1_000, b"k", pack_headers({"a": "b"}, Limits()), b"body")


def test_every_field():
    template = "|".join(f"%{letter}" for letter in RECORD_FIELDS) + r"\t%%\n"
    printed = RecordFormatter(template, False, False)([RECORD, RECORD])
    line = b'body|k|3|7|{"a": "b"}|1000|1970-01-01T00:00:01.000Z|4\t%\n'
    assert printed == line * 2


def test_json_holds_everything():
    line = RecordFormatter("", True, False)([RECORD])
    assert json.loads(line) == record_fields(RECORD)
    assert record_fields(RECORD)["headers"] == {"a": "b"}
    binary = Record(0, 1, 0, b"", b"", b"\xff")
    assert record_fields(binary)["body_base64"] == "/w=="


def test_a_terminal_gets_no_control_characters():
    evil = Record(0, 1, 0, b"\x1b", b"", b"\x1b[2J\n")
    assert RecordFormatter("%k%b", False, True)([evil]) == b"\\x1b\\x1b[2J\n"
    assert RecordFormatter("%b", False, False)([evil]) == b"\x1b[2J\n"


def test_a_format_that_stands_for_nothing_is_refused():
    with pytest.raises(click.BadParameter, match="%r"):
        RecordFormatter("%r", False, False)


def test_starts():
    assert record_start("earliest") == "earliest" and record_start("latest") == "latest"
    assert record_start("4711") == 4711
    assert record_start("2026-01-31T12:00Z") == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert record_start("2026-01-31") == datetime(2026, 1, 31, tzinfo=UTC)
    before = datetime.now(UTC)
    found = record_start("-15m")
    assert isinstance(found, datetime)
    assert before <= found + timedelta(minutes=15) <= datetime.now(UTC)
    for wrong in ("", "soon", "-", "-x", "-1", "٣", "2026-13-01", "-999999999999d"):
        with pytest.raises(click.BadParameter):
            record_start(wrong)
