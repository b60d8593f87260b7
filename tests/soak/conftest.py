"""Prints the figures of the soak at the end of the run, also when it passed."""

import pytest

from tests.faults.campaign import print_figures


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    print_figures(terminalreporter, config)
