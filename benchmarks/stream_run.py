"""A run of streams or of fan-out over sockets: append, replay, tail, group, publish.

One loop serves all connections. What is measured begins when the warm-up is over: records, the
load's own CPU and the broker's, at the same moments.
"""

import os
import time
from typing import Final

from .histogram import Histogram
from .machine import busy_seconds
from .peer import cpu_seconds, memory_bytes
from .stream_exchange import Driver, Link, Loop
from .stream_plan import StreamPlan, StreamSide

__all__ = ["Window", "carry_out", "preload"]

_TURN_SECONDS: Final = 0.05
_PRELOAD_BATCH: Final = 500


class Window:
    """What is counted between two moments."""

    def __init__(self, plan: StreamPlan, side: StreamSide) -> None:
        self._pid = plan.server_pid or os.getpid()
        self._side = side
        self._core = plan.broker_core
        self._begun = self._cpu = self._load_cpu = self._busy = 0.0

    def open(self) -> None:
        """From now on."""
        self._begun = time.monotonic()
        self._cpu, self._load_cpu = cpu_seconds(self._pid), time.process_time()
        self._busy = busy_seconds(self._core)

    def close(self, records: int) -> None:
        """So many came within it."""
        side = self._side
        side.records = records
        side.seconds = time.monotonic() - self._begun
        side.server_cpu = cpu_seconds(self._pid) - self._cpu
        side.load_cpu = time.process_time() - self._load_cpu
        side.core_busy = busy_seconds(self._core) - self._busy
        side.memory_bytes = memory_bytes(self._pid)


def preload(plan: StreamPlan, driver: Driver) -> None:
    """Append ``plan.records``, in the order of the cycle. Raises Refused, OSError."""
    count, sent = 0, _PRELOAD_BATCH

    def go_on(link: Link, records: int) -> None:
        nonlocal count, sent
        count += records
        if sent < plan.records:
            sent += _PRELOAD_BATCH
            loop.send(link, link.exchange.request())

    loop = Loop([driver.appender(_PRELOAD_BATCH)], go_on)
    try:
        loop.start()
        while count < plan.records:
            loop.turn(_TURN_SECONDS)
    finally:
        loop.close()


def carry_out(plan: StreamPlan, driver: Driver) -> StreamSide:
    """Do what the plan's shape says. Raises Refused, OSError."""
    run = _Run(plan, driver)
    if plan.shape == "tail":
        run.tail()
    elif plan.shape == "group":
        run.group()
    elif plan.shape == "replay":
        run.replay()
    else:
        run.produce()
    run.side.latency = run.latency.dump()
    run.side.lag = run.lag.dump()
    return run.side


class _Run:
    """One plan, carried out with one driver."""

    def __init__(self, plan: StreamPlan, driver: Driver) -> None:
        self.plan = plan
        self.driver = driver
        self.side = StreamSide()
        self.window = Window(plan, self.side)
        self.count = 0
        self.latency = Histogram()
        self.lag = Histogram()

    def produce(self) -> None:
        """Append or publish, and compare with what is there at the end."""
        plan, driver, side = self.plan, self.driver, self.side
        fanout = plan.shape == "fanout"
        links = [
            driver.publisher() if fanout else driver.appender(plan.batch)
            for _ in range(plan.producers)
        ]

        def go_on(link: Link, records: int) -> None:
            self.count += records
            self.latency.record(time.monotonic_ns() - link.asked_ns)
            loop.send(link, link.exchange.request())

        loop = Loop(links, go_on)
        self._steadily(loop)
        side.confirmed = self.count
        side.lost = max(0, self.count - driver.stored())

    def replay(self) -> None:
        """Read all that is there, again and again."""

        def count(link: Link, records: int) -> None:
            self.count += records

        link = self.driver.replayer()
        self._steadily(Loop([link], count))
        self.side.corrupt = link.exchange.corrupt

    def _steadily(self, loop: Loop) -> None:
        """Serve a loop until the time is over."""
        plan = self.plan
        try:
            loop.start()
            end = time.monotonic() + plan.warmup
            while time.monotonic() < end:
                loop.turn(_TURN_SECONDS)
            self.latency.clear()
            before = self.count
            self.window.open()
            end = time.monotonic() + plan.seconds
            while time.monotonic() < end:
                loop.turn(_TURN_SECONDS)
            self.window.close(self.count - before)
        finally:
            loop.close()

    def group(self) -> None:
        """Have the members read all that is there, once."""
        plan, driver, side = self.plan, self.driver, self.side
        moved = time.monotonic()

        def count(link: Link, records: int) -> None:
            nonlocal moved
            self.count += records
            moved = time.monotonic()

        links = [driver.member(number) for number in range(plan.members)]
        loop = Loop(links, count)
        try:
            self.window.open()
            loop.start()
            while self.count < plan.records and time.monotonic() - moved < plan.patience:
                loop.turn(_TURN_SECONDS)
            self.window.close(self.count)
        finally:
            loop.close()
        side.corrupt = sum(link.exchange.corrupt for link in links)
        side.lost = max(0, plan.records - self.count)

    def tail(self) -> None:
        """Append single records when they are due; from then until they are read."""
        plan, driver = self.plan, self.driver
        writer, reader = driver.appender(1), driver.follower()
        read = 0
        interval_ns, begun_ns = 1e9 / plan.rate, 0
        first = round(plan.warmup * plan.rate)
        total = first + round(plan.seconds * plan.rate)

        def count(link: Link, records: int) -> None:
            nonlocal read
            if link is reader:
                now_ns = time.monotonic_ns()
                for number in range(max(read, first), min(read + records, total)):
                    self.latency.record(now_ns - begun_ns - round(number * interval_ns))
                read += records

        loop = Loop([writer, reader], count)
        try:
            loop.start([reader])
            sent = 0
            begun_ns = moved_ns = time.monotonic_ns()
            while read < total:
                now_ns = time.monotonic_ns()
                if sent < total:
                    moved_ns = now_ns
                if now_ns - moved_ns > plan.patience * 1e9:
                    break
                if sent == first:
                    self.window.open()
                due_ns = begun_ns + round(sent * interval_ns)
                if sent < total and now_ns >= due_ns:
                    self.lag.record(now_ns - due_ns)
                    loop.send(writer, writer.exchange.request())
                    sent += 1
                    continue
                loop.turn((due_ns - now_ns) / 1e9 if sent < total else _TURN_SECONDS)
            self.window.close(max(0, read - first))
        finally:
            loop.close()
        self.side.corrupt = reader.exchange.corrupt
        self.side.lost = total - read
