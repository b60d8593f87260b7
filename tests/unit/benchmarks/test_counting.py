"""Counts of system calls and instructions: of a program whose work is known."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from braidmq.benchmarks.counting import (
    CountingFailed,
    Instructions,
    SystemCalls,
    by_object,
    callgrind_prefix,
    parse_strace,
)
from braidmq.benchmarks.peer import find_program

LINES = 50

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 53.52    0.000137           1        78        37 futex
 24.61    0.000063           1        46           epoll_pwait
------ ----------- ----------- --------- --------- ----------------
100.00    0.000200           1       124        37 total
"""

CALLGRIND = """\
# callgrind format
events: Ir
summary: 1015

ob=(1) /usr/lib/libone.so
fl=(1) one.c
fn=(1) first
10 5
+2 10
cob=(2) /usr/bin/two
cfn=(2) second
calls=3 40
+1 700

ob=(2)
fn=(2)
40 700
* 100
0x4fa 200

totals: 1015
"""


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not find_program(program), reason=f"{program} is not installed")


@contextmanager
def echoing(*prefix: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program that reads a line and writes it, again and again."""
    command = [*prefix, find_program("cat")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        try:
            echo(cat, 1)
            yield cat
        finally:
            cat.kill()


def echo(cat: subprocess.Popen[bytes], count: int) -> None:
    assert cat.stdin
    assert cat.stdout
    for number in range(count):
        cat.stdin.write(b"%d\n" % number)
        cat.stdin.flush()
        assert cat.stdout.readline() == b"%d\n" % number


def test_a_table_of_strace():
    assert parse_strace(STRACE) == {"futex": 78, "epoll_pwait": 46}
    assert parse_strace("") == Counter()


def test_a_file_of_callgrind():
    assert by_object(CALLGRIND.splitlines()) == {"libone.so": 15, "two": 1000}


@needs("strace")
def test_system_calls_of_a_process(tmp_path: Path):
    with echoing() as cat, SystemCalls(cat.pid, str(tmp_path)) as calls:
        echo(cat, LINES)
    assert calls.counts["write"] == LINES
    assert LINES <= calls.counts["read"] <= LINES + 1  # one more is being waited for


@needs("strace")
def test_a_process_that_is_gone(tmp_path: Path):
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    with pytest.raises(CountingFailed, match=r"strace could not attach: .*No such process"):
        SystemCalls(gone.pid, str(tmp_path)).__enter__()


@needs("valgrind")
def test_instructions_of_a_process(tmp_path: Path):
    with echoing(*callgrind_prefix(str(tmp_path))) as cat:
        totals = []
        for lines in (LINES, 10 * LINES):
            with Instructions(cat.pid, str(tmp_path)) as counted:
                echo(cat, lines)
            totals.append(counted.objects.total())
    assert 5 * totals[0] < totals[1] < 15 * totals[0], "it grows with the work"
    assert not [path for path in tmp_path.glob("callgrind.out.*") if path.stat().st_size]


@needs("valgrind")
def test_a_process_that_is_not_under_callgrind(tmp_path: Path):
    with echoing() as cat, pytest.raises(CountingFailed, match=r"callgrind_control: .*"):
        Instructions(cat.pid, str(tmp_path)).__enter__()


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("braidmq.benchmarks.counting.find_program", lambda name: "")
    with pytest.raises(CountingFailed, match=r"valgrind is not installed \(apt install valgrind\)"):
        callgrind_prefix(str(tmp_path))
    with pytest.raises(CountingFailed, match=r"strace is not installed \(apt install strace\)"):
        SystemCalls(os.getpid(), str(tmp_path)).__enter__()
