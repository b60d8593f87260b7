"""The course of a run, with a driver that does what it is told."""

import pytest

from braidmq.benchmarks import phases
from braidmq.benchmarks.integrity import Stamper
from braidmq.benchmarks.meter import Meter, Plan
from braidmq.benchmarks.phases import carry_out


class Fake:
    """Confirms everything at once, and delivers what ``fate`` makes of it."""

    def __init__(self, plan, meter, fate=lambda bodies: bodies):
        self.plan, self.meter, self.fate = plan, meter, fate
        self.unanswered = 0
        self.calls = []
        self.bodies = []

    async def open(self):
        self.calls.append("open")

    def produce(self):
        self.calls.append("produce")
        (account,) = self.meter.accounts
        stamper = Stamper(0, b"")
        for sequence in range(self.plan.messages):
            self.bodies.append(stamper.stamp(sequence, self.meter.now_ns()))
            account.sent += 1
            self.meter.confirm(account, 1, 1000)
        if self.plan.shape == "together":
            self._deliver()

    def stop(self):
        self.calls.append("stop")

    async def consume(self):
        self.calls.append("consume")
        if self.plan.shape == "apart":
            self._deliver()

    def _deliver(self):
        now_ns = self.meter.now_ns()
        for body in self.fate(self.bodies):
            self.meter.deliver(body, now_ns)
            self.meter.settle(1, now_ns, 2000)

    async def finish(self):
        self.calls.append("finish")
        return 5 if self.plan.shape == "fill" else 0

    def cpu_seconds(self):
        return 0.0

    async def syncs(self):
        return len(self.bodies) // 5, len(self.bodies) / 100


class Broken(Fake):
    def produce(self):
        raise RuntimeError("no")


def plan(**changes):
    fields = {"url": "braid://h", "messages": 10, "seconds": 5, "patience": 0.05, **changes}
    return Plan(**fields)


async def run(fate=lambda bodies: bodies, **changes):
    wanted = plan(**changes)
    meter = Meter(wanted)
    driver = Fake(wanted, meter, fate)
    return await carry_out(wanted, driver, meter), driver


async def test_apart_produces_then_consumes():
    found, driver = await run()
    assert driver.calls == ["open", "produce", "stop", "consume", "finish"]
    assert found.integrity.received == found.integrity.confirmed == 10
    assert found.consume.messages == 10
    assert found.problems == found.invalid == []
    assert (found.commits, found.committed, found.sync_seconds) == (2, 10, 0.1)


async def test_together_consumes_first_and_measures_delivery():
    found, driver = await run(shape="together")
    assert driver.calls == ["open", "consume", "produce", "stop", "finish"]
    assert found.delivery
    assert found.integrity.lost == 0


async def test_what_never_comes_is_lost_after_some_patience():
    found, _ = await run(lambda bodies: bodies[:-3])
    assert found.integrity.lost == 3
    assert found.problems == ["nothing came for 0.05 s"]


async def test_a_fill_only_knows_how_many_are_left():
    found, driver = await run(shape="fill")
    assert driver.calls == ["open", "produce", "stop", "finish"]
    assert (found.left_over, found.integrity.lost) == (5, 5)


async def test_a_warm_up_is_not_measured():
    found, _ = await run(messages=0, warmup=0.01, seconds=0.02)
    assert found.produce.messages == 0


async def test_sends_that_are_never_answered_are_a_problem(monkeypatch):
    monkeypatch.setattr(phases, "_ANSWER_SECONDS", 0.02)
    wanted = plan()
    driver = Fake(wanted, Meter(wanted))
    driver.unanswered = 2
    found = await carry_out(wanted, driver, driver.meter)
    assert found.problems == ["2 sends were not answered in 0.02 s"]


async def test_a_late_generator_makes_the_run_invalid():
    wanted = plan()
    driver = Fake(wanted, Meter(wanted))
    driver.meter.lag.record(50_000_000)
    found = await carry_out(wanted, driver, driver.meter)
    assert found.invalid[0].startswith("the generator was late: p99 50.")


async def test_the_driver_is_finished_even_when_it_fails():
    wanted = plan()
    driver = Broken(wanted, Meter(wanted))
    with pytest.raises(RuntimeError):
        await carry_out(wanted, driver, driver.meter)
    assert driver.calls[-1] == "finish"
