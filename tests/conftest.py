"""What every test shares: the event loops that async tests run on, and what hypothesis generates.

The daemon runs on uvloop, an embedding application mostly on plain asyncio, and the two differ in
when callbacks run and when a transport writes. So async unit tests run on both; the longer tests
run on the daemon's loop only. BRAIDMQ_TEST_LOOPS=asyncio (or uvloop, or both with a comma between)
decides for a whole run.

What hypothesis generates is the same in every run of `make test`, so that a run fails for what was
changed and for nothing else; BRAIDMQ_FUZZ_SECONDS, which `make fuzz` sets, has it look for more.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.figures import print_figures

# No example is too slow: how long one takes says more about the machine than about the code.
settings.register_profile(
    "braidmq",
    parent=settings.get_profile("default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.register_profile(
    "braidmq-repeatable", parent=settings.get_profile("braidmq"), derandomize=True, database=None
)
searching = int(os.environ.get("BRAIDMQ_FUZZ_SECONDS", "0")) > 0
settings.load_profile("braidmq" if searching else "braidmq-repeatable")

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
try:
    import uvloop
except ImportError:  # Windows: the daemon runs on asyncio there
    DAEMON_LOOP = "asyncio"
else:
    LOOPS["uvloop"] = uvloop.new_event_loop
    DAEMON_LOOP = "uvloop"

UNIT_TESTS = Path(__file__).parent / "unit"


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Name the loops of one async test; pytest-asyncio runs it once on each."""
    wanted = os.environ.get("BRAIDMQ_TEST_LOOPS")
    if wanted:
        return {name: LOOPS[name] for name in wanted.split(",")}
    if item.path.is_relative_to(UNIT_TESTS):
        return LOOPS
    return {DAEMON_LOOP: LOOPS[DAEMON_LOOP]}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    print_figures(terminalreporter)
