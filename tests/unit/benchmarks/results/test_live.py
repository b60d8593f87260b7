"""A run that goes on, on a terminal of any width, and nowhere else."""

import fcntl
import io
import os
import pty
import struct
import termios

from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.results.live import (
    SECONDS_MAX,
    LiveState,
    LiveView,
    render,
    sparkline,
)
from braidmq.benchmarks.results.result import Second


class Terminal(io.StringIO):
    def isatty(self):
        return True


def second(number, **changes):
    return Second(
        **{"second": number, "confirmed": 12_345, "received": 12_000, "p50_ms": 0.25, **changes}
    )


def test_a_second_says_everything():
    state = LiveState("e2e, braidmq, 1 of 3", 10.0)
    state.take(second(0, errors=2))
    state.take(second(1, p99_ms=1.5, max_ms=20.0, lag_p99_ms=0.07, server_cpu=0.9, errors=3))
    title, figures, bars = render(state, 200)
    assert title == "e2e, braidmq, 1 of 3  2 of 10 s"
    for words in ("12,345/s", "12,000/s", "p50 0.25", "p99 1.50", "max 20.0 ms", "lag 0.07 ms"):
        assert words in figures
    assert "cpu 90%" in figures and "errors 5" in figures
    assert bars == "  ██ 12,000/s"


def test_what_is_not_there_yet_is_said():
    state = LiveState("pub, braidmq", 0.0)
    assert render(state, 80) == ["pub, braidmq  starting"]
    state.take(second(-2))
    assert render(state, 80)[0] == "pub, braidmq  warming up, 2 s"
    state.take(second(4))
    assert render(state, 80)[0] == "pub, braidmq  5 s"


def test_what_only_writes_shows_what_it_writes():
    state = LiveState("pub", 1.0)
    state.take(Second(second=0, published=70))
    assert "in        70/s" in render(state, 100)[1]
    assert render(state, 100)[-1].endswith("█ 70/s")


@given(st.integers(20, 200), st.text(max_size=99), st.integers(0, 10**9))
def test_no_line_is_wider_than_the_terminal(width, title, rate):
    state = LiveState(title, 1.0)
    for number in range(3):
        state.take(second(number, received=rate))
    assert max(len(line) for line in render(state, width)) <= width


def test_as_much_is_kept_as_can_be_shown():
    state = LiveState("soak", 1.0)
    for number in range(SECONDS_MAX + 5):
        state.take(second(number, errors=1))
    assert len(state.recent) == SECONDS_MAX
    assert state.recent[-1].second == SECONDS_MAX + 4
    assert state.errors == SECONDS_MAX + 5


def test_bars():
    assert sparkline([0, 1, 2, 7], 10) == "▁▂▃█"
    assert sparkline([9, 1, 1], 2) == "██"
    assert sparkline([0, 0], 9) == "▁▁"
    assert sparkline([], 9) == sparkline([1], 0) == ""


def test_it_draws_over_what_it_drew_and_wipes_it_away():
    terminal = Terminal()
    view = LiveView(terminal, lambda: 200)
    view.begin("e2e", 3.0)
    view.second(second(0))
    drawn = terminal.getvalue()
    assert drawn.startswith("\re2e  starting\033[K\n\033[J\033[1Fe2e  1 of 3 s")
    view.end()
    assert terminal.getvalue() == drawn + "\033[3F\033[J"
    view.second(second(1))  # of nothing that goes on
    assert terminal.getvalue() == drawn + "\033[3F\033[J"


def test_a_terminal_is_asked_how_wide_it_is():
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 31, 0, 0))
        with open(slave, "w", closefd=False) as terminal:
            LiveView(terminal).begin("x" * 99)
        shown = os.read(master, 1_000).decode()
        assert "x" * 29 + "…" in shown and "x" * 30 not in shown
    finally:
        os.close(master)
        os.close(slave)


def test_one_that_does_not_know_is_80_wide():
    terminal = Terminal()
    LiveView(terminal).begin("x" * 99)
    assert "x" * 78 + "…" in terminal.getvalue() and "x" * 79 not in terminal.getvalue()


def test_nobody_watches():
    file = io.StringIO()
    view = LiveView(file, lambda: 80)
    view.begin("e2e")
    view.second(second(0))
    view.end()
    assert file.getvalue() == ""
