"""A broker on a virtual clock: the real core on a real log, driven step by step.

Nothing here sleeps: :meth:`Harness.settle` runs what is due now, :meth:`Harness.advance` moves the
clock. Used by unit tests, by the hypothesis models and by the simulation.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from braidmq.broker.access import SYSTEM, Access
from braidmq.broker.core import Core
from braidmq.broker.errors import BraidError
from braidmq.broker.lease import Consumer, Exclusivity
from braidmq.broker.limits import Limits
from braidmq.broker.message import Browsed, Delivery, Outgoing, Sent
from braidmq.broker.settings import QueueSettings
from braidmq.broker.verbs import QueueInfo, RedriveInfo
from braidmq.storage.log import Durability, Log
from braidmq.storage.memory import MemoryLog

__all__ = ["START_MS", "Clock", "Collector", "Harness", "sent"]

START_MS = 1_700_000_000_000


class Clock:
    """Virtual time and the queue of calls that a scheduler keeps."""

    def __init__(self) -> None:
        self.ms = START_MS
        self.calls: list[Callable[[], None]] = []
        self.timers: deque[tuple[int, Callable[[], None]]] = deque()  # in order: all delays are one

    def now_ms(self) -> int:
        return self.ms

    def soon(self, callback: Callable[[], None]) -> None:
        self.calls.append(callback)

    soon_from_thread = soon

    def later(self, delay_ms: int, callback: Callable[[], None]) -> None:
        """What may linger does so until time goes on: a crash finds it unwritten."""
        self.timers.append((self.ms + delay_ms, callback))

    def turn(self) -> bool:
        """Make the calls that are waiting; whether there were any."""
        calls, self.calls = self.calls, []
        while self.timers and self.timers[0][0] <= self.ms:
            calls.append(self.timers.popleft()[1])
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


def sent(results: list[Sent | BraidError]) -> list[Sent]:
    """The results of a send that must have gone well."""
    taken: list[Sent] = []
    for result in results:
        assert isinstance(result, Sent), result
        taken.append(result)
    return taken


class Harness:
    """A core, its log and its clock."""

    def __init__(
        self,
        log: Log | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        settle: Callable[[], bool] | None = None,
        memory: Log | None = None,
    ) -> None:
        self.clock = clock or Clock()
        self.log = log or MemoryLog()
        self.core = Core(self.log, limits or Limits(), Access(), self._work, memory)
        self._asked = False
        self._settle_more = settle or (lambda: False)
        self.report = self.log.open(self.core)
        self.core.epoch = self.report.epoch
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
        self,
        credit: int = 1000,
        name: str = "q",
        selector: str = "",
        priority: int = 0,
        exclusive: Exclusivity = Exclusivity.SHARED,
    ) -> tuple[Consumer, Collector]:
        sink = Collector()
        consumer = self.core.consume(
            SYSTEM, name, sink, credit, selector, None, self.clock.ms, priority, exclusive
        )
        self.settle()
        return consumer, sink

    def ack(self, *deliveries: Delivery, name: str = "q") -> list[BraidError | None]:
        receipts = [delivery.receipt for delivery in deliveries]
        results = self.core.ack(SYSTEM, name, receipts, self.clock.ms)[1]
        self.settle()
        return results

    def extend(
        self, *deliveries: Delivery, name: str = "q", lease_ms: int = 60_000
    ) -> list[BraidError | None]:
        receipts = [delivery.receipt for delivery in deliveries]
        results = self.core.extend(SYSTEM, name, receipts, lease_ms, self.clock.ms)
        self.settle()
        return results

    def dead_letter(
        self, *deliveries: Delivery, name: str = "q", reason: str = ""
    ) -> list[BraidError | None]:
        receipts = [delivery.receipt for delivery in deliveries]
        results = self.core.dead_letter(SYSTEM, name, receipts, reason, self.clock.ms)[1]
        self.settle()
        return results

    def cancel(self, consumer: Consumer, *unprocessed: Delivery) -> None:
        receipts = [delivery.receipt for delivery in unprocessed]
        self.core.cancel(consumer, receipts, self.clock.ms)
        self.settle()

    def credit(self, consumer: Consumer, count: int) -> None:
        self.core.credit(consumer, count)
        self.settle()

    def purge(self, name: str = "q") -> int:
        count = self.core.purge(SYSTEM, name, self.clock.ms)[1]
        self.settle()
        return count

    def update(self, name: str = "q", **changes: object) -> QueueInfo:
        info = self.core.update_queue(SYSTEM, name, changes, self.clock.ms)
        self.settle()
        return info

    def delete(self, name: str = "q", if_empty: bool = False) -> None:
        self.core.delete_queue(SYSTEM, name, if_empty, self.clock.ms)
        self.settle()

    def redrive(
        self, source: str = "dead", target: str = "", rate: float = 0, limit: int = 0
    ) -> RedriveInfo:
        return self.core.redrive(SYSTEM, source, target, rate, limit, self.clock.ms)

    def progress(self) -> RedriveInfo:
        """The redrive that was begun last."""
        return self.core.list_redrives(SYSTEM)[-1]

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

    def waiting(self, count: int = 1, name: str = "q", wait_ms: int = 20_000) -> Collector:
        """Begin a receive that may wait, and go on."""
        sink = Collector()
        self.core.receive(SYSTEM, name, sink, count, wait_ms, 0, "", "", None, self.clock.ms)
        self.settle()
        return sink

    def bodies(self, name: str = "q", state: str = "all") -> list[bytes]:
        """What is in a queue, in sequence order."""
        return [message.body for message in self.browse(name, state=state)]

    def drain(self, name: str = "q") -> list[bytes]:
        """Receive and acknowledge all that is ready; the bodies in order of delivery."""
        bodies: list[bytes] = []
        while taken := self.receive(10, name):
            bodies += [delivery.body for delivery in taken]
            self.ack(*taken, name=name)
        return bodies

    def info(self, name: str = "q") -> QueueInfo:
        return self.core.queue_info(SYSTEM, name)
