"""What is printed: tables, JSON, sizes and times; nothing that moves a terminal."""

import io
import json
import sys

import pytest

from braidmq.protocols.cli import output as module
from braidmq.protocols.cli.output import (
    Output,
    Progress,
    body_fields,
    json_line,
    printable,
    readable_bytes,
    readable_ms,
)


def test_control_characters_are_escaped():
    assert printable("plain ä") == "plain ä"
    assert printable("a\x1b[31m\r\n\u202e\udcff") == "a\\x1b[31m\\r\\n\\u202e\\udcff"
    assert printable("a\nb\tc", keep="\n") == "a\nb\\tc"


def test_bodies_are_text_or_base64():
    assert body_fields("body", "ä".encode()) == {"body": "ä"}
    assert body_fields("body", b"\xff") == {"body_base64": "/w=="}


def test_json_is_one_line_of_utf8_whatever_comes():
    assert json_line({"a": "ä\n"}) == '{"a": "ä\\n"}\n'.encode()
    assert json.loads(json_line({"a": b"x", "b": b"\xff", "c": {1}}))["a"] == {"value": "x"}
    assert json_line("\udcff") == b'"?"\n'


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (2**20, "1.0 MiB"), (2**50, "1024.0 TiB")]
)
def test_readable_bytes(count, text):
    assert readable_bytes(count) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(5, "5ms"), (30_000, "30s"), (90_000, "1m30s"), (90_061_000, "1d1h")]
)
def test_readable_ms(ms, text):
    assert readable_ms(ms) == text


def test_a_table_is_aligned_and_numbers_are_on_the_right(capsysbinary):
    rows = [{"name": "a", "n": 5, "on": True}, {"name": "bb\x1b", "n": 123, "on": None}]
    Output(False, False).rows(rows, ("name", "n", "on"))
    lines = capsysbinary.readouterr().out.decode().splitlines()
    assert lines == ["NAME      N  ON", "a         5  yes", "bb\\x1b  123"]
    Output(False, True).rows(rows[:1], ("name", "n"))
    assert capsysbinary.readouterr().out == b"a  5\n"
    Output(True, False).rows(rows[:1], ("name",))
    assert json.loads(capsysbinary.readouterr().out) == rows[:1]


def test_fields_and_documents(capsysbinary):
    Output(False, False).fields({"one": 1.25, "three": {"a": [1]}, "two": ""})
    assert capsysbinary.readouterr().out == b'one    1.2\nthree  {"a": [1]}\ntwo\n'
    Output(True, False).fields({"one": 1})
    Output(True, False).document([1], "text")
    Output(False, False).document([1], lambda: "text")
    Output(False, False).document([1])
    assert capsysbinary.readouterr().out == b'{"one": 1}\n[1]\ntext\n'


def test_notes_are_for_people_and_warnings_for_everybody(capsys):
    Output(False, False).note("one")
    Output(False, True).note("two")
    Output(True, False).note("three")
    Output(True, True).warn("four")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "one\nwarning: four\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_a_bar_on_a_terminal(monkeypatch, clock):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = Progress(Output(False, False), "moving", "bytes")
    clock.now += 2.0
    progress.update(2**20, 4 * 2**20)
    shown = terminal.getvalue()
    assert (
        "moving [#######----" in shown and " 25%  1.0 MiB of 4.0 MiB  512.0 KiB/s  6s left" in shown
    )
    progress.update(2**21, 4 * 2**20)  # too soon
    assert terminal.getvalue() == shown
    progress.finish()
    progress.finish()
    assert terminal.getvalue() == shown + "\r\x1b[K"


def test_no_bar_where_nobody_looks(monkeypatch, clock, capsys):
    Progress(Output(False, False), "moving").update(1, 2)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    Progress(Output(False, True), "moving").update(1, 2)
    assert terminal.getvalue() == "" and capsys.readouterr().out == ""


def test_a_line_a_second_with_json(clock, capsysbinary):
    progress = Progress(Output(True, False), "moving")
    for _ in range(25):
        clock.now += 0.1
        progress.update(50, 100)
    lines = [json.loads(line) for line in capsysbinary.readouterr().out.splitlines()]
    assert len(lines) == 2
    assert lines[0] == {
        "event": "progress",
        "what": "moving",
        "done": 50,
        "total": 100,
        "unit": "messages",
        "rate": pytest.approx(50, rel=0.2),
        "eta_seconds": pytest.approx(1, rel=0.2),
    }
