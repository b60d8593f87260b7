"""A broker on a virtual clock: the real core on a real log, driven step by step.

Nothing here sleeps: :meth:`Harness.settle` runs what is due now, :meth:`Harness.advance` moves the
clock. Used by unit tests, by the hypothesis models and by the simulation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from braidmq.broker.access import SYSTEM, Access
from braidmq.broker.core import Core
from braidmq.broker.errors import BraidError
from braidmq.broker.lease import Consumer
from braidmq.broker.limits import Limits
from braidmq.broker.message import Browsed, Delivery, Outgoing, Sent
from braidmq.broker.settings import QueueSettings
from braidmq.broker.verbs import QueueInfo
from braidmq.storage.log import Durability, Log
from braidmq.storage.memory import MemoryLog

__all__ = ["Clock", "Collector", "Harness"]

START_MS = 1_700_000_000_000


class Clock:
    """Virtual time and the queue of calls that a scheduler keeps."""

    def __init__(self) -> None:
        self.ms = START_MS
        self.calls: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        return self.ms

    def soon(self, callback: Callable[[], None]) -> None:
        self.calls.append(callback)

    soon_from_thread = soon

    def turn(self) -> bool:
        """Make the calls that are waiting; whether there were any."""
        calls, self.calls = self.calls, []
        for call in calls:
            call()
        return bool(calls)


@dataclass
class Collector:
    """A sink that keeps what it is given."""

    deliveries: list[Delivery] = field(default_factory=list)
    batches: list[list[Delivery]] = field(default_factory=list)
    error: BraidError | None = None

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        self.batches.append(deliveries)
        self.deliveries.extend(deliveries)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        self.error = error

    def take(self) -> list[Delivery]:
        """What came since the last call."""
        taken, self.deliveries, self.batches = self.deliveries, [], []
        return taken


class Harness:
    """A core, its log and its clock."""

    def __init__(
        self,
        log: Log | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        settle: Callable[[], bool] | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.log = log or MemoryLog()
        self.core = Core(self.log, limits or Limits(), Access(), self._work)
        self._asked = False
        self._settle_more = settle or (lambda: False)
        self.report = self.log.open(self.core)
        self.core.start(self.clock)

    def _work(self) -> None:
        self._asked = True

    def settle(self) -> None:
        """Run everything that can happen without time going on."""
        for _ in range(100_000):
            busy = self.clock.turn()
            busy = self._settle_more() or busy
            due = self.core.next_deadline()
            if due is not None and due <= self.clock.ms:
                self.core.tick(self.clock.ms)
                busy = True
            if self._asked:
                self._asked = False
                self.core.run(self.clock.ms)
                busy = True
            if not busy:
                return
        raise AssertionError("the broker does not come to rest")

    def advance(self, ms: int) -> None:
        """Let time go on, deadline by deadline."""
        end = self.clock.ms + ms
        self.settle()
        while True:
            due = self.core.next_deadline()
            if due is None or due > end:
                break
            self.clock.ms = max(due, self.clock.ms)
            self.settle()
        self.clock.ms = end
        self.settle()

    # Verbs, as the system user ----------------------------------------------------------------

    def declare(self, name: str = "q", **settings: object) -> QueueInfo:
        values = {"durability": Durability.SYNC} | settings
        return self.core.declare_queue(
            SYSTEM,
            name,
            QueueSettings(**values),  # type: ignore[arg-type]
            self.clock.ms,
        )

    def send(self, *bodies: bytes, name: str = "q", **fields: object) -> list[Sent | BraidError]:
        messages = [Outgoing(body, **fields) for body in bodies]  # type: ignore[arg-type]
        results = self.core.send(SYSTEM, name, messages, self.clock.ms)[1]
        self.settle()
        return results

    def receive(
        self,
        count: int = 1,
        name: str = "q",
        wait_ms: int = 0,
        lease_ms: int = 0,
        selector: str = "",
        attempt: str = "",
    ) -> list[Delivery]:
        sink = Collector()
        self.core.receive(
            SYSTEM,
            name,
            sink,
            count,
            wait_ms,
            lease_ms,
            selector,
            attempt,
            None,
            self.clock.ms,
        )
        self.settle()
        if sink.error is not None:
            raise sink.error
        return sink.deliveries

    def consume(
        self, credit: int = 1000, name: str = "q", selector: str = ""
    ) -> tuple[Consumer, Collector]:
        sink = Collector()
        consumer = self.core.consume(SYSTEM, name, sink, credit, selector, None, self.clock.ms)
        self.settle()
        return consumer, sink

    def ack(self, *deliveries: Delivery, name: str = "q") -> list[BraidError | None]:
        receipts = [delivery.receipt for delivery in deliveries]
        results = self.core.ack(SYSTEM, name, receipts, self.clock.ms)[1]
        self.settle()
        return results

    def nack(
        self, *deliveries: Delivery, name: str = "q", delay_ms: int = 0, counted: bool = True
    ) -> list[BraidError | None]:
        receipts = [delivery.receipt for delivery in deliveries]
        results = self.core.nack(SYSTEM, name, receipts, delay_ms, counted, self.clock.ms)[1]
        self.settle()
        return results

    def browse(
        self,
        name: str = "q",
        after: int = 0,
        limit: int = 1000,
        selector: str = "",
        state: str = "all",
    ) -> list[Browsed]:
        answers: list[list[Browsed] | BraidError] = []
        self.core.browse(
            SYSTEM,
            name,
            after,
            limit,
            selector,
            state,
            lambda argument, answer: answers.append(answer),
            None,
        )
        self.settle()
        (answer,) = answers
        if isinstance(answer, BraidError):
            raise answer
        return answer

    def info(self, name: str = "q") -> QueueInfo:
        return self.core.queue_info(SYSTEM, name)
