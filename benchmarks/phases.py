"""The course of a run, whatever it drives: warm up, measure, drain, compare.

With shape ``apart`` producers run first and alone, for ``warmup`` and ``seconds``; then consumers
empty the queue, every message acknowledged. With ``together`` both run at the same time, and what
is left at the end is drained outside the measurement. Either way every message is accounted for.
``fill`` leaves all messages in the queue, and the queue in the broker: only their number is known.
"""

import asyncio
import time
from typing import Final, Protocol

from .integrity import settle
from .meter import BUSY_PERCENT, LATE_MS, Meter, Phase, Plan, Run

__all__ = ["Driver", "carry_out"]

_LOOK_SECONDS: Final = 0.005
_ANSWER_SECONDS: Final = 20.0
_JUDGED_SECONDS_MIN: Final = 0.2  # CPU clocks are too coarse for less


class Driver(Protocol):
    """What puts the load on: over connections, or by calls."""

    @property
    def unanswered(self) -> int:
        """Sends that wait for their answer."""

    async def open(self) -> None:
        """Make the queue, and what is needed to produce."""

    def produce(self) -> None:
        """Begin to send."""

    def stop(self) -> None:
        """Send no more. What is under way gets its answer."""

    async def consume(self) -> None:
        """Begin to receive and to acknowledge."""

    async def finish(self) -> int:
        """Stop, delete the queue (but not after a fill); how many messages it still held."""

    def cpu_seconds(self) -> float:
        """What the broker has used so far."""

    async def syncs(self) -> tuple[int, float]:
        """How many commits were synced since the broker started, and the seconds they took."""


class _Watch:
    """Counts and clocks at the begin of a measurement."""

    def __init__(self, driver: Driver, meter: Meter) -> None:
        self._driver = driver
        self._meter = meter
        self.start_ns = meter.now_ns()
        self._confirmed = meter.confirmed
        self._settled = meter.settled
        self._server_cpu = driver.cpu_seconds()
        self._load_cpu = time.process_time()

    def _phase(self, messages: int, end_ns: int) -> Phase:
        return Phase(
            messages=messages,
            seconds=(end_ns - self.start_ns) / 1e9,
            server_cpu=self._driver.cpu_seconds() - self._server_cpu,
            load_cpu=time.process_time() - self._load_cpu,
        )

    def confirmed(self) -> Phase:
        """What went in since."""
        meter = self._meter
        phase = self._phase(meter.confirmed - self._confirmed, meter.now_ns())
        phase.latency = meter.confirming.dump()
        return phase

    def settled(self, end_ns: int) -> Phase:
        """What came out since, until ``end_ns``."""
        phase = self._phase(self._meter.settled - self._settled, end_ns)
        phase.latency = self._meter.acking.dump()
        return phase


async def carry_out(plan: Plan, driver: Driver, meter: Meter) -> Run:
    """Do it."""
    run = Run()
    await driver.open()
    try:
        await asyncio.sleep(0.05)
        if plan.shape == "together":
            await driver.consume()
        await _produce(plan, driver, meter, run)
        if plan.shape == "apart":
            watch = _Watch(driver, meter)
            await driver.consume()
            await _drain(plan, meter)
            run.consume = watch.settled(max(meter.settled_ns, watch.start_ns))
        elif plan.shape == "together":
            await _drain(plan, meter)
    finally:
        run.left_over = await driver.finish()
    _judge(plan, meter, run)
    return run


async def _produce(plan: Plan, driver: Driver, meter: Meter, run: Run) -> None:
    """Let producers run: the warm-up, then what is measured."""
    commits, sync_seconds = await driver.syncs()
    driver.produce()
    if not plan.messages:
        await asyncio.sleep(plan.warmup)
        meter.clear_latencies()
    watch = _Watch(driver, meter)
    end_ns = watch.start_ns + int(plan.seconds * 1e9)
    while meter.now_ns() < end_ns:
        await asyncio.sleep(min(_LOOK_SECONDS, plan.seconds))
        if plan.messages and meter.confirmed + meter.refused >= plan.messages:
            break
    run.produce = watch.confirmed()
    if plan.shape == "together":
        run.consume = watch.settled(meter.now_ns())
        run.delivery = meter.delivery.dump()
    run.lag = meter.lag.dump() if len(meter.lag) else []
    driver.stop()
    for _ in range(int(_ANSWER_SECONDS / _LOOK_SECONDS)):
        if not driver.unanswered:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    if driver.unanswered:
        meter.problem(f"{driver.unanswered} sends were not answered in {_ANSWER_SECONDS:g} s")
    commits_now, sync_seconds_now = await driver.syncs()
    run.committed = meter.confirmed
    run.commits, run.sync_seconds = commits_now - commits, sync_seconds_now - sync_seconds


async def _drain(plan: Plan, meter: Meter) -> None:
    """Wait until everything confirmed came out and is settled, or nothing moves any more."""
    ledger = meter.ledger
    seen, seen_ns = -1, meter.now_ns()
    while ledger.distinct < meter.confirmed or meter.settled < ledger.received - ledger.corrupt:
        progress = ledger.received + meter.settled
        if progress != seen:
            seen, seen_ns = progress, meter.now_ns()
        elif meter.now_ns() - seen_ns > plan.patience * 1e9:
            meter.problem(f"nothing came for {plan.patience:g} s")
            break
        await asyncio.sleep(_LOOK_SECONDS)


def _judge(plan: Plan, meter: Meter, run: Run) -> None:
    """Compare what went in and what came out; say when the generator was the bottleneck."""
    run.integrity = settle(meter.accounts, meter.ledger)
    if plan.shape == "fill":
        run.integrity.lost = max(0, run.integrity.confirmed - run.left_over)
    run.refused = meter.refused
    run.problems = meter.problems
    if plan.target != "native":
        return
    late_ms = meter.lag.quantile(0.99) / 1e6
    if late_ms > LATE_MS:
        run.invalid.append(f"the generator was late: p99 {late_ms:.1f} ms")
    for name, phase in (("producing", run.produce), ("consuming", run.consume)):
        if phase.seconds < _JUDGED_SECONDS_MIN:
            continue
        busy, server = (100 * cpu / phase.seconds for cpu in (phase.load_cpu, phase.server_cpu))
        if busy > BUSY_PERCENT and busy > server:
            run.invalid.append(f"the generator used {busy:.0f} % of a core while {name}")
