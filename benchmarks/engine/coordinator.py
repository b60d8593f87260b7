"""One run: everything declared, all load processes started, measured, ended, and put together.

The moments of a run, on the monotonic clock that all processes share::

      declare   fill     ready    go        begin             end          quiet
    -----|--------|--------|------|----------|-----------------|-------------|-----> reports
         names    backlog  all    |  warm-up |    measured     | rest arrives|

Rules:

1. Nobody is waited for without an end. What does not come in time is a problem of the run; when
   nothing can be measured at all, LoadFailed is raised.
2. The broker is looked at when the measurement begins, each second, and when it ends.
3. Consumers are told to finish when everything that was confirmed has arrived, or nothing has
   for ``patience_seconds``: only then it is lost.
4. Parts of a mixed scenario begin at one moment; each becomes a run of its own.
"""

import time
from collections.abc import Callable, Sequence
from math import ceil
from typing import Final

import msgspec

from ..drivers.driver import Refused
from ..drivers.registry import driver_for
from ..machine import busy_seconds
from ..peer import ServerFailed
from ..results.result import Run, Second
from . import merging
from .crew import Crew, LoadFailed, Worker
from .planning import Place, Plan, plan_of, reading_again
from .scenario import Scenario
from .server_use import ServerSample, between, growth_per_hour, sample
from .settling import settle
from .task import Order, Progress, Report, Task
from .validity import Cores, judge

__all__ = ["Target", "carry_out"]

_READY_SECONDS: Final = 60.0
_READY_CLIENTS: Final = 200.0  # clients that a process connects in a second, at the least
_GO_SECONDS: Final = 0.15  # from saying go until it is time
_POLL_SECONDS: Final = 0.05
_SPARE_SECONDS: Final = 30.0  # until reports are there, beyond what was planned
_REPORT_SECONDS: Final = 1_000.0  # of what was measured that a process reports in a second
_QUIET_SECONDS: Final = 1.0  # without anything new, where it is not sure how much there is to come
_SETTLE_SECONDS: Final = 0.5
_ARRIVAL_SECONDS_MAX: Final = 3_600.0  # as long as something new arrives

Hear = Callable[[Second], None]


class Target(msgspec.Struct, kw_only=True):
    """The broker that is measured."""

    system: str
    place: Place
    pid: int = 0  # 0: unknown
    core: int = -1  # where it was kept; -1: anywhere
    restart: Callable[[], int] | None = None


def carry_out(scenario: Scenario, target: Target, hear: Hear = lambda second: None) -> list[Run]:
    """Run it once: one run, or one for each part. Raises LoadFailed."""
    parts = scenario.parts or (scenario,)
    flows = [
        _Flow(part, plan_of(part, _place(target.place, number)))
        for number, part in enumerate(parts)
    ]
    with Crew() as crew:
        measured = _Measured(target, crew, flows, hear)
        measured.prepare()
        measured.carry_out()
    cores = measured.cores()
    runs = [flow.run(target, measured.samples, measured.begin, cores) for flow in flows]
    if scenario.parts:
        for run in runs:
            run.scenario = f"{scenario.name}: {run.scenario}"
    return runs


def _place(place: Place, number: int) -> Place:
    return msgspec.structs.replace(place, token=f"{place.token}p{number}")


class _Flow:
    """A scenario, or a part of one, while it is carried out."""

    def __init__(self, scenario: Scenario, plan: Plan) -> None:
        self.scenario = scenario
        self.plan = plan
        self.fillers: list[Worker] = []
        self.receivers: list[Worker] = []
        self.senders: list[Worker] = []
        self.figures: dict[str, float] = {}
        self.problems: list[str] = []
        self.seconds = plan.seconds
        self._arrived = 0
        self._arrived_at = 0.0

    @property
    def begins_unread(self) -> bool:
        """Whether consumers come only when the producers are done."""
        return self.scenario.shape == "publish"

    @property
    def is_idle(self) -> bool:
        """Whether it is about connections that do nothing."""
        return self.scenario.shape == "idle"

    @property
    def is_about_receiving(self) -> bool:
        """Whether it is over when the last message is there, and not with its confirmation."""
        return self.scenario.shape in ("flow", "drain")

    def workers(self) -> list[Worker]:
        """All that run now."""
        return [*self.receivers, *self.senders]

    def is_sent(self) -> bool:
        """Whether the senders are done, or can do no more."""
        return self.is_idle or all(worker.is_over for worker in self.senders)

    def expected(self) -> int:
        """How many messages have to arrive, over all sets."""
        accounts = [account for report in self._sent_by() for account in report.accounts]
        unsure = sum(last - first + 1 for each in accounts for first, last in each.unsure)
        return (sum(each.sent for each in accounts) - unsure) * max(1, len(self.plan.sets))

    def _sent_by(self) -> list[Report]:
        return [w.report for w in (*self.fillers, *self.senders) if w.report is not None]

    def has_arrived(self, now: float) -> bool:
        """Whether everything is there, or nothing more is to be hoped for."""
        if not self.receivers or all(worker.is_over for worker in self.receivers):
            return True
        if self.scenario.shape == "reply":  # those who asked have their answers
            return True
        arrived = sum(w.progress.distinct_all for w in self.receivers if w.progress is not None)
        if arrived != self._arrived or not self._arrived_at:
            self._arrived, self._arrived_at = arrived, now
        quiet = now - self._arrived_at
        knobs = self.scenario.knobs
        if quiet > knobs.patience_seconds + knobs.delay_ms / 1e3:
            return True
        if arrived < self.expected():
            return False
        return quiet > _QUIET_SECONDS if self._is_unsure() else True

    def _is_unsure(self) -> bool:
        """Whether more, or something twice, may come."""
        knobs = self.scenario.knobs
        is_open = any(account.unsure for each in self._sent_by() for account in each.accounts)
        return bool(is_open or knobs.kill_after_seconds or knobs.reject_percent)

    def run(
        self, target: Target, samples: Sequence[ServerSample], begin: float, cores: Cores
    ) -> Run:
        """What came of it."""
        scenario, knobs = self.scenario, self.scenario.knobs
        senders = [w.report for w in self.senders if w.report is not None]
        receivers = [w.report for w in self.receivers if w.report is not None]
        run = Run(
            scenario=scenario.name,
            system=target.system,
            scheme=target.place.url.partition(":")[0],
            repeat=0,
            knobs=msgspec.to_builtins(knobs),
            loop="closed" if knobs.closed or scenario.shape == "drain" else "open",
            seconds=self.seconds,
            server=between(samples),
            figures={**self.figures, **growth_per_hour(samples)},
            problems=self.problems,
        )
        for worker in self.receivers:  # what is measured is what the others notice
            if worker.task.stop_seconds and worker.report is not None:
                merging.forget_latencies(worker.report)
        merging.merge_into(run, senders, [] if self.begins_unread else receivers)
        if self.is_idle:  # what was counted were connections, before they were held
            run.published = run.confirmed = 0
        merging.add_samples(run, samples, begin)
        got = senders if scenario.shape == "reply" else receivers
        run.integrity = settle(got, self._sent_by(), self.plan.sets)
        judge(run, [*senders, *receivers], knobs.expect, cores)
        return run


class _Measured:
    """The course of a run."""

    def __init__(self, target: Target, crew: Crew, flows: Sequence[_Flow], hear: Hear) -> None:
        self._target = target
        self._pid = target.pid
        self._crew = crew
        self._flows = flows
        self._hear = hear
        self.samples: list[ServerSample] = []
        self.begin = 0.0  # of what is measured, as of the samples
        self._busy: list[float] = []
        self._go_ns = 0
        self._said: int | None = None  # the last second that was told

    def prepare(self) -> None:
        """Have everything there that has to be there before it begins. Raises LoadFailed."""
        for flow in self._flows:
            for wiring in flow.plan.declared:
                try:
                    driver_for(wiring.url).declare(wiring)
                except (OSError, Refused, ValueError) as error:
                    raise LoadFailed(f"{self._target.system} refused: {error}") from error
        for flow in self._flows:
            flow.fillers = self._started(flow.plan.fill)
            self._go(flow.fillers)
            count = sum(task.messages for task in flow.plan.fill)
            self._wait_reports(flow.fillers, _SPARE_SECONDS + count / 500)
        for flow in self._flows:
            if not flow.begins_unread:
                flow.receivers = self._started(flow.plan.receivers)
        for flow in self._flows:
            flow.senders = self._started(flow.plan.senders)

    def carry_out(self) -> None:
        """Measure, see everything arrive, and get the reports. Raises LoadFailed."""
        before = sample(self._pid, time.monotonic())
        self._go([worker for flow in self._flows for worker in flow.workers()])
        if any(flow.is_idle for flow in self._flows):
            self._hold(before)
        elif self._seconds():
            self._measure()
        else:
            self._drain()
        for flow in self._flows:
            if flow.begins_unread:
                flow.receivers = self._started(reading_again(flow.plan))
                self._go(flow.receivers)
        self._wait_arrived()
        self._finish()

    def cores(self) -> Cores:
        """How busy the broker's core was."""
        return Cores(
            is_pinned=self._target.core >= 0,
            load_cores=len(self._target.place.cores),
            is_known=bool(self._target.pid),
            broker_core_seconds=self._busy[-1] - self._busy[0] if self._busy else 0.0,
        )

    def _seconds(self) -> float:
        """That are measured."""
        return max(flow.seconds for flow in self._flows)

    def _started(self, tasks: Sequence[Task]) -> list[Worker]:
        """Start processes and wait until they are ready. Raises LoadFailed."""
        workers = self._crew.start(tasks)
        clients = max((len(task.wirings) for task in tasks), default=0)
        self._crew.wait_ready(workers, _READY_SECONDS + clients / _READY_CLIENTS)
        return workers

    def _go(self, workers: Sequence[Worker]) -> None:
        self._go_ns = time.monotonic_ns() + int(_GO_SECONDS * 1e9)
        self._crew.tell(workers, Order(go=self._go_ns))

    def _sample(self) -> None:
        self.samples.append(sample(self._pid, time.monotonic()))
        self._busy.append(busy_seconds(self._target.core) if self._target.core >= 0 else 0.0)

    def _measure(self) -> None:
        """From the begin of the window until the senders are done; the broker is looked at."""
        warmup = max(flow.plan.warmup_seconds for flow in self._flows)
        patience = max(flow.scenario.knobs.patience_seconds for flow in self._flows)
        begin = self.begin = self._go_ns / 1e9 + warmup
        end = begin + self._seconds()
        restarts = self._restarts(begin)
        looks = [begin + n for n in range(ceil(self._seconds()))] + [end]
        for moment in sorted({*looks, *restarts}):
            self._serve(lambda: False, moment - time.monotonic())
            if moment in restarts:
                self._sample()
                self._restart()
            self._sample()
        self._serve(lambda: all(f.is_sent() for f in self._flows), patience + _SPARE_SECONDS)

    def _restarts(self, begin: float) -> set[float]:
        """When the broker is killed."""
        after = {flow.scenario.knobs.kill_after_seconds for flow in self._flows}
        return {begin + seconds for seconds in after if seconds}

    def _restart(self) -> None:
        """Kill the broker and start it again; the load goes on. Raises LoadFailed."""
        if self._target.restart is None:
            raise LoadFailed(f"{self._target.system} cannot be killed and started again here")
        begun = time.monotonic()
        try:
            self._pid = self._target.pid = self._target.restart()
        except ServerFailed as error:
            raise LoadFailed(str(error)) from error
        for flow in self._flows:
            flow.figures["recovery_seconds"] = time.monotonic() - begun

    def _drain(self) -> None:
        """Until consumers have read everything that was there, and that came meanwhile."""
        begun = self.begin = self._go_ns / 1e9
        self._serve(lambda: False, begun - time.monotonic())
        self._sample()
        limit = max(
            flow.scenario.knobs.patience_seconds + flow.scenario.knobs.seconds + _SPARE_SECONDS
            for flow in self._flows
        )
        flows = self._flows
        while not self._serve(lambda: all(f.is_sent() and self._arrived(f) for f in flows), 1.0):
            self._sample()
            if time.monotonic() - begun > limit and not self._moves():
                break
        self._sample()

    def _moves(self) -> bool:
        """Whether messages still arrive."""
        return any(
            worker.progress is not None and worker.progress.received
            for flow in self._flows
            for worker in flow.receivers
        )

    def _hold(self, before: ServerSample) -> None:
        """Wait for all connections, then hold them. Raises LoadFailed."""
        flow = self._flows[0]
        wanted = flow.scenario.knobs.connections
        begun = self.begin = self._go_ns / 1e9
        limit = _SPARE_SECONDS + sum(s.seconds for s in flow.senders[0].task.steps)

        def connected() -> int:
            return sum(w.progress.clients for w in flow.senders if w.progress is not None)

        if not self._serve(lambda: connected() >= wanted, limit, poll=flow.senders):
            flow.problems.append(f"only {connected():,} of {wanted:,} connections were opened")
        flow.figures["connections_per_second"] = connected() / (time.monotonic() - begun)
        self._serve(lambda: False, _SETTLE_SECONDS)
        held_from = time.monotonic()
        self._sample()
        used = self.samples[0].memory_bytes - before.memory_bytes
        memory = {"memory_per_connection_bytes": used / max(1, connected())}
        flow.figures = {**memory, **flow.figures, "connections": float(connected())}
        while (rest := held_from + flow.seconds - time.monotonic()) > 0:
            self._serve(lambda: False, min(1.0, rest))
            self._sample()
        flow.seconds = time.monotonic() - held_from

    def _wait_arrived(self) -> None:
        """Until everything is there, or nothing more comes (rule 3)."""
        self._serve(lambda: all(self._arrived(f) for f in self._flows), _ARRIVAL_SECONDS_MAX)

    def _arrived(self, flow: _Flow) -> bool:
        return flow.has_arrived(time.monotonic())

    def _finish(self) -> None:
        """Get the reports. Raises LoadFailed."""
        workers = [worker for flow in self._flows for worker in flow.workers()]
        self._crew.tell([worker for worker in workers if not worker.is_over], Order(finish=True))
        self._wait_reports(workers, _SPARE_SECONDS + self._seconds() / _REPORT_SECONDS)
        for flow in self._flows:
            if not flow.plan.seconds:
                some = flow.receivers if flow.is_about_receiving else flow.senders
                last = max((w.report.last_ns for w in some if w.report), default=0)
                flow.seconds = max(0.001, (last - self._go_ns) / 1e9)

    def _wait_reports(self, workers: Sequence[Worker], seconds: float) -> None:
        """Raises LoadFailed."""
        done = self._serve(lambda: all(worker.is_over for worker in workers), seconds)
        self._crew.check()
        if not done:
            raise LoadFailed(f"a load process had no report after {seconds:,.0f} s")

    def _serve(
        self, until: Callable[[], bool], seconds: float, poll: Sequence[Worker] | None = None
    ) -> bool:
        """Listen, and ask consumers how they stand when somebody waits for them."""
        asked = 0.0

        def is_so() -> bool:
            nonlocal asked
            now = time.monotonic()
            if now - asked > _POLL_SECONDS:
                asked = now
                for flow in self._flows:
                    some = poll if poll is not None else flow.receivers if flow.is_sent() else []
                    self._crew.tell([each for each in some if not each.is_over], Order(poll=True))
            return until()

        done = self._crew.serve(is_so, seconds, self._say)
        self._crew.check()
        return done

    def _say(self, worker: Worker, progress: Progress) -> None:
        """Tell whoever watches, when a second is over for all."""
        workers = [each for flow in self._flows for each in flow.workers()]
        said = [(each.task.role, each.progress) for each in workers if each.progress is not None]
        second = min((each.second for _, each in said), default=0)
        is_new = self._said is None or second > self._said
        if not workers or len(said) < len(workers) or not is_new:
            return
        self._said = second
        cpu = 0.0
        if len(self.samples) > 1:
            before, now = self.samples[-2:]
            elapsed = max(1e-9, now.at_seconds - before.at_seconds)
            cpu = max(0.0, now.cpu_seconds - before.cpu_seconds) / elapsed
        self._hear(merging.live_second(said, cpu))
