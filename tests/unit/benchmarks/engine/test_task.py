"""The words between coordinator and worker survive the pipe."""

import msgspec
import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.engine.task import (
    AccountReport,
    Line,
    Order,
    Report,
    Seen,
    Step,
    Task,
    decode_line,
    encode_line,
    turn,
)


def test_task_comes_through() -> None:
    task = Task(
        role="producers",
        wirings=(Wiring(url="braid://127.0.0.1:1", names=("a", "b")),),
        steps=(Step(1.0, 1000.0), Step(2.0, 5000.0)),
        keys=("x", "y"),
    )
    line = encode_line(task)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert msgspec.json.decode(line, type=Task) == task


def test_unknown_knob_is_named() -> None:
    with pytest.raises(msgspec.ValidationError, match="wormup"):
        msgspec.json.decode(b'{"role": "echo", "wirings": [], "wormup": 1}', type=Task)


def test_report_comes_through() -> None:
    report = Report(
        role="consumers",
        clients=1,
        seen={3: {7: Seen(below=5, beyond=b"\x00\xff")}},
        accounts=[AccountReport(producer=7, sent=9, unsure=[(3, 4)])],
    )
    line = encode_line(Line(report=report))
    assert decode_line(line) == Line(report=report)
    assert b"failed" not in line


def test_orders_are_told_apart() -> None:
    assert msgspec.json.decode(b'{"finish": true}', type=Order) == Order(finish=True)
    assert encode_line(Order(go=12)) == b'{"go":12}\n'


def test_line_that_is_none() -> None:
    with pytest.raises(ValueError):
        decode_line(b"Traceback")


def test_producers_begin_at_different_places() -> None:
    places = [turn(2, sequence, 10) for sequence in range(10)]
    assert sorted(places) == list(range(10))
    assert turn(1, 0, 10) != turn(2, 0, 10)
