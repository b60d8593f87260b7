"""Which test shows which normative statement; `make conformance` prints the table.

Every id of both specifications is either carried by a test or stands in not_applicable.py with its
reason, and never both; `problems` tells what is not so.
"""

from collections.abc import Iterator

import pytest

from .not_applicable import NOT_APPLICABLE
from .requirements import VERSIONS, all_requirements, covered


def problems(
    known: dict[str, list[str]],
    tests: dict[tuple[str, str], list[str]],
    excused: dict[str, dict[str, str]],
) -> Iterator[str]:
    """What keeps the table from being complete and consistent."""
    for version, ids in known.items():
        for each in ids:
            carried, reason = (version, each) in tests, each in excused[version]
            if not carried and not reason:
                yield f"{version} {each}: no test carries it, and no reason says why"
            if carried and reason:
                yield f"{version} {each}: {tests[version, each][0]} shows it: remove the reason"
    for version, each in tests:
        if each not in known[version]:
            yield f"{version} {each}: no such id, carried by {tests[version, each][0]}"
    for version, reasons in excused.items():
        for each in reasons:
            if each not in known[version]:
                yield f"{version} {each}: no such id, in not_applicable.py"


def print_table(report: pytest.TerminalReporter) -> None:
    """Every id with the tests that show it, and which of those failed in this run."""
    known, tests = all_requirements(), covered()
    failed = {
        each.nodeid.partition("[")[0].removeprefix("tests/conformance/")
        for kind in ("failed", "error")
        for each in report.stats.get(kind, [])
    }
    for version, ids in known.items():
        shown = sum((version, each) in tests for each in ids)
        report.section(f"MQTT {VERSIONS[version]}: {len(ids)} statements, {shown} shown by tests")
        for each in ids:
            names = [
                f"{test} FAILED" if test in failed else test
                for test in tests.get((version, each), [])
            ]
            reason = NOT_APPLICABLE[version].get(each, "MISSING")
            report.line(f"{each:15} {', '.join(names) or f'not of a server: {reason}'}")
