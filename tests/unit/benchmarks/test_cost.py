"""What a message costs: counted on a broker that runs, and told as a table."""

import pytest

from braidmq.benchmarks.cost import Case, Cost, cases, cost_report, cost_text, measure
from braidmq.benchmarks.peer import find_program


def case(name: str, scheme: str) -> Case:
    return next(each for each in cases() if each.name == name and each.scheme == scheme)


def test_every_case_can_be_told_from_the_others():
    every = list(cases())
    assert len({(each.name, each.scheme) for each in every}) == len(every)
    assert {each.scheme for each in every} == {"braid", "mqtt", "stomp"}


@pytest.mark.skipif(not find_program("strace"), reason="strace is not installed")
def test_a_case(tmp_path):
    """Without instructions: a broker under callgrind takes too long to start."""
    said: list[str] = []
    chosen = [case("queue, one by one", "braid")]
    (found,) = measure(chosen, 40, str(tmp_path), said.append, instructions=False)
    assert found.system_calls["pwritev2"] >= 0.9, "each SEND waits for a write of its own"
    assert found.system_calls["read"] >= 1.8
    assert said == [f"{name}: queue, one by one, braid" for name in ("system calls", "cpu")]


def test_the_table(tmp_path):
    costs = [
        Cost("one", "mqtt", 20.5, {"write": 3.0, "futex": 1.5}, 1000.0, {"libx.so": 1000.0}),
        Cost("two", "braid", 1.0, {"write": 1.0}),
    ]
    lines = cost_text(cost_report(costs, 10, str(tmp_path))).splitlines()
    assert lines[3].split() == ["one", "mqtt", "20.5", "4.5", "1,000"]
    assert lines[4].split() == ["two", "braid", "1.0", "1.0", "-"]
    assert lines[6:9] == [
        "one, mqtt:",
        "  calls: write 3.00, futex 1.50",
        "  instructions: libx.so 100%",
    ]
    assert lines[9:] == ["two, braid:", "  calls: write 1.00"]
