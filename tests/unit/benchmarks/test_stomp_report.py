"""What is printed and written: ratios of rounds, what was left out, what was wrong."""

import msgspec

from braidmq.benchmarks import peer_report
from braidmq.benchmarks import stomp_report as module
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.machine import cores
from braidmq.benchmarks.stomp_plan import OURS, StompPlan, StompSide
from braidmq.benchmarks.stomp_report import FORMAT, stomp_report, stomp_row, text
from braidmq.benchmarks.stomp_scenarios import StompOutcome, StompScenario


def outcome(system, messages, **changes):
    receipt = Histogram()
    receipt.record(1_000_000, 10)
    side = StompSide(
        confirmed=messages,
        received=messages + 1,
        seconds=1.0,
        server_cpu=0.5,
        load_cpu=0.1,
        receipt=receipt.dump(),
    )
    return StompOutcome(system=system, side=side, **changes)


def test_ratios_are_of_the_same_round_to_the_better_peer_and_of_valid_ones():
    row = stomp_row(
        StompScenario("x", StompPlan()),
        {
            OURS: [outcome(OURS, 600), outcome(OURS, 900), outcome(OURS, 500)],
            "activemq": [
                outcome("activemq", 100),
                outcome("activemq", 300),
                outcome("activemq", 1),
            ],
            "rabbitmq": [
                outcome("rabbitmq", 200),
                outcome("rabbitmq", 100),
                outcome("rabbitmq", 1, invalid=["robbed"]),
            ],
        },
    )
    ours, activemq, rabbitmq = row.figures
    assert ours.ours is not None and (ours.ours.min, ours.ours.max) == (3.0, 3.0)
    assert activemq.ours is not None and activemq.ours.median == 6.0
    assert rabbitmq.ours is not None and rabbitmq.ours.max == 9.0
    assert activemq.broker_us == 5_000 and activemq.load_us == 1_000
    assert ours.receipt_ms.p99 and not ours.delivery_ms.count
    assert not row.failed


def test_alone_or_on_a_schedule_there_is_no_ratio():
    scenario = StompScenario("x", StompPlan())
    assert stomp_row(scenario, {OURS: [outcome(OURS, 9)]}).figures[0].ours is None
    assert stomp_row(scenario, {"activemq": [outcome("activemq", 9)]}).figures[0].ours is None
    paced = StompScenario("x", StompPlan(shape="paced"))
    both = {OURS: [outcome(OURS, 9)], "activemq": [outcome("activemq", 9)]}
    assert [each.ours for each in stomp_row(paced, both).figures] == [None, None]


def test_the_report_says_what_was_left_out_and_what_was_wrong(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_report, "_SYNC_SECONDS", 0.01)
    monkeypatch.setattr(module, "missing", lambda name: "is not there" * (name == "rabbitmq"))
    report = stomp_report([], False, str(tmp_path), {"seed": 1})
    assert list(report.systems) == [OURS, "activemq"]
    found = {
        OURS: [outcome(OURS, 200)],
        "activemq": [outcome("activemq", 100, problems=["1 lost of 2"], invalid=["late"])],
    }
    report.rows.append(stomp_row(StompScenario("some row", StompPlan()), found))
    assert report.failed
    words = text(report)
    for expected in (
        "left out: rabbitmq: is not there",
        "brokers and load may use all cores",
        "best: 2.00 (2.00-2.00)",
        "PROBLEM: some row, activemq: 1 lost of 2",
        "invalid: some row, activemq: late",
    ):
        assert expected in words
    decoded = msgspec.json.decode(msgspec.json.encode(report))
    assert decoded["format"] == FORMAT == 1
    assert set(decoded["rows"][0]["figures"][0]) == set(module.StompFigures.__struct_fields__)


def test_only_what_was_asked_for_is_looked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(peer_report, "_SYNC_SECONDS", 0.01)
    report = stomp_report([OURS], True, str(tmp_path), {})
    assert list(report.systems) == [OURS] and report.missing == []
    assert report.cores == cores()
