"""The figures of long tests, printed at the end of the run, also of those that passed.

A test says ``figures(request, "sent 100, lost 0")``. The line travels in the test's report, because
with several processes (``pytest -n``) only reports get to the one that prints.
"""

import pytest

__all__ = ["figures", "print_figures"]

_PROPERTY = "figures"


def figures(request: pytest.FixtureRequest, text: str) -> None:
    """Have a line of figures printed at the end of the test run."""
    request.node.user_properties.append((_PROPERTY, f"{request.node.name}: {text}"))


def print_figures(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines of all tests that ran, in the order of the tests."""
    ended = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    lines = [
        text
        for report in sorted(ended, key=lambda report: report.nodeid)
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, text in report.user_properties
        if name == _PROPERTY
    ]
    if lines:
        terminalreporter.section("figures")
    for line in lines:
        terminalreporter.write_line(str(line))
