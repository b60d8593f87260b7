"""Prints the figures of the fault tests at the end of the run, also of those that passed."""

import pytest

from .campaign import print_figures


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    print_figures(terminalreporter, config)
