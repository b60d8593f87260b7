"""A run of STOMP over sockets: pairs of a producer and a consumer, at full speed or on a schedule.

One loop serves all connections. What is measured begins when the warm-up is over; both last so long
that every window was answered once. Then producers stop, consumers read what is there, and the
queues have to be empty: what was confirmed and did not come is lost, what comes again after it was
acknowledged is a duplicate.
"""

import os
import select
import time
from collections import Counter
from typing import Final, cast

from .histogram import Histogram
from .machine import busy_seconds
from .peer import cpu_seconds, memory_bytes
from .stomp_client import (
    Consuming,
    Producing,
    StompCycle,
    connect,
    consumer,
    disconnect,
    leftover,
    producer,
)
from .stomp_plan import StompPlan, StompSide
from .stream_exchange import Link, Loop

__all__ = ["carry_out"]

_TURN_SECONDS: Final = 0.05
_PARTING_SECONDS: Final = 60.0


def carry_out(plan: StompPlan) -> StompSide:
    """Do what the plan says. Raises Refused, OSError."""
    run = _Paced(plan) if plan.shape == "paced" else _Run(plan)
    run.carry_out()
    run.side.receipt = run.receipt.dump()
    return run.side


class _Window:
    """What is counted between two moments."""

    def __init__(self, plan: StompPlan, side: StompSide) -> None:
        self._pid = plan.server_pid or os.getpid()
        self._side = side
        self._begun = self._cpu = self._load_cpu = self._busy = 0.0

    def open(self) -> None:
        """From now on."""
        self._begun = time.monotonic()
        self._cpu, self._load_cpu = cpu_seconds(self._pid), time.process_time()
        self._busy = _busy_seconds()

    def close(self, confirmed: int, received: int) -> None:
        """So many came within it."""
        side = self._side
        side.confirmed, side.received = confirmed, received
        side.seconds = time.monotonic() - self._begun
        side.server_cpu = cpu_seconds(self._pid) - self._cpu
        side.load_cpu = time.process_time() - self._load_cpu
        side.busy = _busy_seconds() - self._busy
        side.memory_bytes = memory_bytes(self._pid)


def _busy_seconds() -> float:
    """How long cores ran anything, all of them together."""
    return sum(busy_seconds(core) for core in range(os.cpu_count() or 1))


class _Run:
    """One plan at full speed: each receipt is followed by the next message."""

    def __init__(self, plan: StompPlan) -> None:
        self.plan = plan
        self.side = StompSide()
        self.window = _Window(plan, self.side)
        self.receipt = Histogram()
        self.delivery = Histogram()
        self.confirmed = 0
        self.received = 0
        self.moved = time.monotonic()
        self.sending = True
        cycle = StompCycle(plan.size, plan.seed)
        self.length = len(cycle.ends)
        self.consumers = [
            consumer(connect(plan.host, plan.port), cycle, queue, plan.prefetch, not plan.shared)
            for queue in plan.queues
        ]
        self.producers = [
            producer(connect(plan.host, plan.port), cycle, queue, plan.window)
            for queue in plan.queues
        ]
        self.times = {link: [0] * self.length for link in self.producers}  # ns, by number
        self.loop = Loop([*self.consumers, *self.producers], self.take)

    def carry_out(self) -> None:
        """Measure, then look at what is left."""
        plan = self.plan
        for link in self.producers:
            self.send(link, plan.window)
        self._serve(plan.warmup)
        self.receipt.clear()
        confirmed, received = self.confirmed, self.received
        self.window.open()
        self._serve(plan.seconds)
        self.window.close(self.confirmed - confirmed, self.received - received)
        self.sending = False
        self.finish()

    def send(self, link: Link, count: int) -> None:
        """Send the next messages of a producer."""
        exchange = cast(Producing, link.exchange)
        first = exchange.sent % self.length
        self.loop.send(link, exchange.frames(count))
        times, now_ns = self.times[link], link.asked_ns
        for number in range(first, first + count):
            times[number % self.length] = now_ns

    def take(self, link: Link, records: int) -> None:
        """Receipts came, or messages."""
        self.moved = time.monotonic()
        exchange = link.exchange
        if not isinstance(exchange, Producing):
            self.received += records
            return
        self.confirmed += records
        now_ns, times = time.monotonic_ns(), self.times[link]
        for number in exchange.answered:
            self.receipt.record(now_ns - times[number])
        if self.sending:
            self.send(link, records)

    def _serve(self, seconds: float) -> None:
        """So long, and until as much as all windows hold was answered: they come in waves."""
        end = time.monotonic() + seconds
        confirmed, received = self.confirmed, self.received
        windows = self.plan.pairs * self.plan.window
        while not self._is_stuck():
            answered = min(self.confirmed - confirmed, self.received - received)
            if answered >= windows and time.monotonic() >= end:
                break
            self.loop.turn(_TURN_SECONDS)

    def _is_stuck(self) -> bool:
        """Whether nothing came for too long."""
        return time.monotonic() - self.moved > self.plan.patience

    def finish(self) -> None:
        """Read what was sent, and see that nothing else is there."""
        plan, side = self.plan, self.side
        side.sent = sum(cast(Producing, link.exchange).sent for link in self.producers)
        self.moved = time.monotonic()
        while min(self.confirmed, self.received) < side.sent and not self._is_stuck():
            self.loop.turn(_TURN_SECONDS)
        side.unconfirmed = side.sent - self.confirmed
        side.lost, side.duplicate = self._differences()
        side.corrupt = sum(link.exchange.corrupt for link in self.consumers)
        for link in self.consumers + self.producers:
            link.socket.settimeout(_PARTING_SECONDS)
            link.flush()
            disconnect(link.socket)
        self.loop.close()
        for queue in dict.fromkeys(plan.queues):
            side.duplicate += leftover(plan.host, plan.port, queue)

    def _differences(self) -> tuple[int, int]:
        """How many messages did not come, and how many came that were not due."""
        if not self.plan.shared:  # they came in order, or are corrupt
            more = self.received - self.side.sent
            return max(0, -more), max(0, more)
        due: Counter[int] = Counter()
        for link in self.producers:
            due.update(
                number % self.length for number in range(cast(Producing, link.exchange).sent)
            )
        came: Counter[int] = Counter()
        for link in self.consumers:
            for name, count in cast(Consuming, link.exchange).came.items():
                came[int(name) if name.isdigit() else -1] += count
        return (due - came).total(), (came - due).total()


class _Paced(_Run):
    """One plan on a schedule: every message has a time when it is due."""

    def carry_out(self) -> None:
        """Send when it is time; from then until the receipt, and until it is read."""
        plan, loop, link = self.plan, self.loop, self.producers[0]
        exchange = cast(Producing, link.exchange)
        times = self.times[link]
        lag, interval_ns = Histogram(), 1e9 / plan.rate
        first = round(plan.warmup * plan.rate)
        total = first + round(plan.seconds * plan.rate)
        sockets = [each.socket for each in self.consumers + self.producers]
        confirmed = received = 0
        self.sending = False
        begun_ns = time.monotonic_ns()
        while exchange.sent < total:
            now_ns = time.monotonic_ns()
            due_ns = begun_ns + round(exchange.sent * interval_ns)
            if now_ns < due_ns:
                select.select(sockets, (), (), (due_ns - now_ns) / 1e9)  # epoll counts whole ms
                loop.turn(0)
                continue
            if exchange.sent == first:
                for histogram in (self.receipt, self.delivery, lag):
                    histogram.clear()
                confirmed, received = self.confirmed, self.received
                self.window.open()
            times[exchange.sent % self.length] = due_ns
            lag.record(now_ns - due_ns)
            loop.send(link, exchange.frames(1))
        self.window.close(self.confirmed - confirmed, self.received - received)
        self.finish()
        self.side.delivery, self.side.lag = self.delivery.dump(), lag.dump()

    def take(self, link: Link, records: int) -> None:
        """Receipts came, or messages: those in order, or they are corrupt."""
        if link in self.consumers:
            now_ns, times = time.monotonic_ns(), self.times[self.producers[0]]
            for number in range(self.received, self.received + records):
                self.delivery.record(now_ns - times[number % self.length])
        super().take(link, records)
