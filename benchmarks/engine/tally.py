"""What a load process counts, and how it says so."""

import time
from typing import Final

from ..histogram import Histogram
from .task import Progress, Report, Role, Task
from .timeline import Timeline, Window
from .tracking import Sightings, Tracker

__all__ = ["MAIN", "Tally"]

# The metric that the seconds of a run show.
MAIN: Final[dict[Role, str]] = {
    "producers": "response",
    "consumers": "delivery",
    "echo": "delivery",
    "requesters": "reply",
    "connections": "connect",
}
_PROBLEMS_MAX: Final = 10


class Tally:
    """Everything that is counted in a process; its actors add to it.

    Attributes:
        go_ns: when it began; the window is from ``begin_ns`` to ``end_ns``.
        timeline: of the main metric.
        response: from when a message was due until it was confirmed.
        clients: that are connected now.
    """

    def __init__(self, task: Task, go_ns: int) -> None:
        self._task = task
        self.role = task.role
        self.main = "delay" if task.role == "consumers" and task.delay_ms else MAIN[task.role]
        self.sightings: dict[int, Sightings] = {}
        self.trackers: list[Tracker] = []
        self.clients = 0
        self.confirmed = 0
        self.refused = 0
        self.rejected = 0
        self.early = 0
        self.reconnects = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.last_ns = 0
        self.problems: list[str] = []
        self.go(go_ns)

    def go(self, go_ns: int) -> None:
        """Count from then on."""
        task = self._task
        begin_ns = go_ns + int(task.warmup_seconds * 1e9)
        self.go_ns = go_ns
        self.begin_ns = begin_ns
        self.end_ns = begin_ns + int(task.seconds * 1e9)
        self.timeline = Timeline(begin_ns, task.seconds)
        self.timeline.turn(go_ns)
        self.service = Window(begin_ns, task.seconds)
        self.lag = Window(begin_ns, task.seconds)
        self.response: Timeline | Window = self.timeline
        if task.role != "producers":
            self.response = Window(begin_ns, task.seconds)
        self._lag_now = Histogram()  # of what was begun in this second
        self._lag_p99_ms: dict[int, float] = {}  # by second, of those that are over
        self._cpu_begin = time.process_time()
        self._cpu_end = -1.0

    def problem(self, words: str) -> None:
        """Keep what went wrong; the first ones are enough."""
        self.timeline.current.errors += 1
        if words not in self.problems and len(self.problems) < _PROBLEMS_MAX:
            self.problems.append(words)

    def progressed(self, now_ns: int) -> None:
        """Something was confirmed or received."""
        self.last_ns = now_ns

    def late(self, due_ns: int, now_ns: int) -> None:
        """Something that was due is begun."""
        self.lag.record(due_ns, now_ns)
        self._lag_now.record(now_ns - due_ns)

    def turn(self, now_ns: int) -> None:
        """A second is over."""
        self._note_lag()
        self.timeline.turn(now_ns)

    def _note_lag(self) -> None:
        """Sum up how late this second was."""
        if self._lag_now:
            self._lag_p99_ms[self.timeline.second] = self._lag_now.quantile(0.99) / 1e6
            self._lag_now.clear()

    def begin_window(self, now_ns: int) -> None:
        """The warm-up is over."""
        self._cpu_begin = time.process_time()

    def end_window(self, now_ns: int) -> None:
        """What is measured is over."""
        self._cpu_end = time.process_time()

    @property
    def distinct(self) -> int:
        """Different messages received, over all sets."""
        return sum(each.distinct for each in self.sightings.values())

    def sightings_of(self, share: int) -> Sightings:
        """What a set received."""
        return self.sightings.setdefault(share, Sightings())

    def progress(self, second: int) -> Progress:
        """How it stands after a second, which is the last whole one."""
        counts = self.timeline.counts_of(second)
        latency = self.timeline.latency_of(second)
        return Progress(
            second=second,
            published=counts.published,
            confirmed=counts.confirmed,
            received=counts.received,
            errors=counts.errors,
            lag_p99_ms=self._lag_p99_ms.get(second, 0.0),
            p50_ms=latency.quantile(0.5) / 1e6,
            p99_ms=latency.quantile(0.99) / 1e6,
            max_ms=latency.largest / 1e6,
            distinct_all=self.distinct,
            clients=self.clients,
        )

    def report(self, clients: int) -> Report:
        """What was found, but for the accounts of producers."""
        counts, latencies = self.timeline.window()
        metrics = {self.main: latencies, "service": self.service.histogram}
        metrics["lag"] = self.lag.histogram
        if isinstance(self.response, Window):
            metrics["response"] = self.response.histogram
        self._note_lag()
        series = self.timeline.series()
        for second in series:
            second.lag_p99_ms = self._lag_p99_ms.get(second.second, 0.0)
        cpu_end = self._cpu_end if self._cpu_end >= 0 else time.process_time()
        return Report(
            role=self.role,
            clients=clients,
            published=counts.published,
            confirmed=counts.confirmed,
            received=counts.received,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            last_ns=self.last_ns,
            main=self.main,
            latency={name: each.dump() for name, each in metrics.items() if each},
            series=series,
            seen={share: each.report() for share, each in self.sightings.items()},
            received_all=sum(each.received for each in self.trackers),
            duplicate=sum(each.duplicate for each in self.sightings.values()),
            reordered=sum(each.reordered for each in self.trackers),
            corrupt=sum(each.corrupt for each in self.trackers),
            rejected=self.rejected,
            refused=self.refused,
            early=self.early,
            reconnects=self.reconnects,
            cpu_seconds=cpu_end - self._cpu_begin,
            lag_p99_ms=self.lag.histogram.quantile(0.99) / 1e6,
            problems=self.problems,
        )
