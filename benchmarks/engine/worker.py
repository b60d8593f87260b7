"""A process that makes load: ``python -m braidmq.benchmarks.engine.worker``. See ``task.py``.

Rules:

1. It is one thread with one loop (``loop.py``), and collects no garbage while it measures.
2. Its schedule and its clock are its own; when to begin is the coordinator's.
3. It ends when its input does.
"""

import gc
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from ..drivers.driver import Driver, Refused, Wiring
from ..drivers.registry import driver_for
from ..machine import more_files
from .connecting import Dialing
from .consuming import Consuming
from .loop import Loop
from .producing import Producing, Quota
from .replying import Echo
from .schedule import Arrival, poisson, uniform
from .tally import Tally
from .task import Line, Order, Ready, Task, encode_line
from .tracking import filling

__all__ = ["Worker", "main"]

_LOOK_NS: Final = 10_000_000  # how often to look whether a run is over
_CONTROL_BYTES: Final = 65_536
_ORPHANED: Final = 3  # exit status


class Worker:
    """Does what a task says. ``say`` gets the lines for the coordinator."""

    def __init__(self, task: Task, loop: Loop, say: Callable[[Any], None]) -> None:
        self._task = task
        self._loop = loop
        self._say = say
        self._quota = Quota(task.messages)
        self._producers: list[Producing] = []
        self._receivers: list[Consuming | Echo] = []
        self._dialing: Dialing | None = None
        self._tally = Tally(task, loop.now_ns())
        self._is_begun = False
        self._arrivals: Iterator[Arrival] = iter(())
        self._arrival: Arrival | None = None  # the next one
        self._go_ns = 0
        self._is_finished = False  # it was told to end, or has no client left
        driver = driver_for(task.wirings[0].url)
        match task.role:
            case "producers":
                self._make_producers(driver)
            case "consumers":
                self._make_consumers(driver, task.wirings)
            case "requesters":
                self._make_consumers(driver, task.replies)
                self._make_producers(driver)
            case "echo":
                self._make_echoes(driver)
            case "connections":
                self._dialing = Dialing(task, driver, loop, self._tally)

    def _make_producers(self, driver: Driver) -> None:
        task, around = self._task, (self._loop, self._tally, self._lost)
        contents = filling(max(task.sizes), task.seed)
        for place in range(len(task.wirings)):
            client = Producing(task, place, driver, *around, self._quota, contents)
            self._producers.append(client)

    def _make_consumers(self, driver: Driver, wirings: Sequence[Wiring]) -> None:
        task, around = self._task, (self._loop, self._tally, self._lost)
        shares = task.share or (0,) * len(wirings)
        for wiring, share in zip(wirings, shares, strict=True):
            self._receivers.append(Consuming(task, wiring, share, driver, *around))

    def _make_echoes(self, driver: Driver) -> None:
        task, around = self._task, (self._loop, self._tally, self._lost)
        for place in range(len(task.wirings)):
            self._receivers.append(Echo(task, place, driver, *around))

    def take(self, order: Order) -> None:
        """What the coordinator says."""
        if order.go is not None and not self._is_begun:
            self._go(order.go)
        if order.poll and self._is_begun:
            self._say(Line(progress=self._tally.progress(self._tally.timeline.second - 1)))
        if order.finish:
            self._is_finished = self._quota.is_over = True

    def _go(self, go_ns: int) -> None:
        """Everything counts from then on."""
        task, loop = self._task, self._loop
        gc.collect()
        gc.freeze()
        gc.disable()
        self._go_ns = go_ns
        self._is_begun = True
        tally = self._tally
        tally.go(go_ns)
        for receiver in self._receivers:
            receiver.begin()
        if task.steps:
            self._arrivals = self._schedule()
            self._arrival = next(self._arrivals, None)
            loop.at(go_ns, self._pace)
        elif task.window:
            loop.at(go_ns, self._fill)
            loop.at(tally.end_ns, self._stop)
        loop.at(tally.begin_ns, tally.begin_window)
        loop.at(tally.end_ns, tally.end_window)
        loop.at(tally.timeline.turns_ns, self._tick)
        loop.at(go_ns, self._look)

    def _schedule(self) -> Iterator[Arrival]:
        task = self._task
        clients = 1 if self._dialing is not None else len(task.wirings)
        everybody = task.share_clients or clients
        if task.arrivals == "poisson":
            place = task.share_place
            return poisson(task.steps, task.batch, place, clients, everybody, task.seed)
        return uniform(task.steps, task.batch, task.share_place, clients, everybody)

    def _pace(self, now_ns: int) -> None:
        """Send all that is due."""
        tally = self._tally
        since_ns = now_ns - self._go_ns
        arrival, arrivals = self._arrival, self._arrivals
        while arrival is not None and arrival[0] <= since_ns and not self._quota.is_over:
            due_ns = self._go_ns + arrival[0]
            tally.late(due_ns, now_ns)
            if self._dialing is not None:
                self._dialing.due(due_ns, now_ns)
            else:
                self._producers[arrival[1]].due(due_ns, now_ns)
            arrival = next(arrivals, None)
        self._arrival = arrival
        if self._dialing is not None and self._dialing.is_complete:
            self._quota.is_over = True
        if arrival is None or self._quota.is_over:
            self._stop(now_ns)
        else:
            self._loop.at(self._go_ns + arrival[0], self._pace)

    def _fill(self, now_ns: int) -> None:
        """Closed loop: begin."""
        for producer in self._producers:
            producer.fill(now_ns)

    def _stop(self, now_ns: int) -> None:
        """Nothing more is sent, but for what is held back."""
        self._quota.is_over = True

    def _tick(self, now_ns: int) -> None:
        """A second is over."""
        tally = self._tally
        before = tally.timeline.second
        tally.turn(now_ns)
        self._say(Line(progress=tally.progress(before)))
        self._loop.at(tally.timeline.turns_ns, self._tick)

    def _lost(self) -> None:
        """A client is gone for good."""
        if not any(client.is_alive for client in (*self._producers, *self._receivers)):
            self._is_finished = True

    def _look(self, now_ns: int) -> None:
        """Whether the run is over."""
        if self._is_over(now_ns):
            self._loop.is_over = True
            self._say(Line(report=self._report(self._loop.now_ns())))
        else:
            self._loop.at(now_ns + _LOOK_NS, self._look)

    def _is_over(self, now_ns: int) -> bool:
        tally = self._tally
        if self._is_finished:
            return True
        if not self._quota.is_over or self._task.connections:
            return False
        # Who produces ends by itself, when everything is answered or nobody answers any more.
        if self._task.role == "requesters" and tally.distinct < tally.confirmed:
            is_settled = False
        elif self._dialing is not None:
            is_settled = self._dialing.is_settled
        else:
            is_settled = all(each.is_settled for each in self._producers)
        patience_ns = int(self._task.patience_seconds * 1e9)
        return is_settled or now_ns > max(tally.last_ns, self._go_ns) + patience_ns

    def _report(self, now_ns: int) -> Any:
        tally = self._tally
        accounts = [producer.finish(now_ns) for producer in self._producers]
        for receiver in self._receivers:
            receiver.finish()
        if self._dialing is not None:
            self._dialing.finish()
        report = tally.report(self.clients or tally.clients)
        report.accounts = accounts
        return report

    @property
    def clients(self) -> int:
        """How many are connected before it begins."""
        return len(self._producers) + len(self._receivers)


class _Control:
    """The coordinator's lines."""

    def __init__(self) -> None:
        self._heard = b""
        self.worker: Worker | None = None

    def _lines(self) -> list[bytes]:
        """What came, at least one byte; the process ends with its input."""
        data = os.read(sys.stdin.fileno(), _CONTROL_BYTES)
        if not data:
            os._exit(_ORPHANED)
        *lines, self._heard = (self._heard + data).split(b"\n")
        return lines

    def task(self) -> Task:
        """The first line; there is no other before it is answered. Raises ValueError."""
        while True:
            for line in self._lines():
                return msgspec.json.decode(line, type=Task)

    def read(self, events: int) -> None:
        """Further lines."""
        for line in self._lines():
            assert self.worker is not None
            self.worker.take(msgspec.json.decode(line, type=Order))


def _say(message: Any) -> None:
    try:
        sys.stdout.buffer.write(encode_line(message))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os._exit(_ORPHANED)


def main() -> None:
    """Be a load process."""
    if not hasattr(select, "epoll"):
        _say(Line(failed="load processes need epoll, which only Linux has"))
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the coordinator's to end
    loop = Loop()
    control = _Control()
    try:
        task = control.task()
        more_files()
        if task.cores and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, task.cores)
        control.worker = worker = Worker(task, loop, _say)
    except (OSError, Refused, ValueError) as error:
        _say(Line(failed=str(error) or repr(error)))
        return
    loop.register(sys.stdin.fileno(), control.read)
    _say(Line(ready=Ready(clients=worker.clients)))
    loop.run()


if __name__ == "__main__":
    main()
