"""Request and reply: who asks, and who answers with the same body.

Whoever answers acknowledges a request when its reply is confirmed: a request is never lost between
the two. The stamp of a body tells whose request it is, and so where the reply goes.
"""

from collections.abc import Callable
from typing import Any

from ..drivers.driver import Consumer, Driver, Producer
from ..integrity import STAMP, STAMP_BYTES
from .loop import Link, Loop
from .tally import Tally
from .task import Task
from .tracking import Tracker

__all__ = ["Echo"]

_number_of = STAMP.unpack_from


class _Answers:
    """The connection that replies go out on, as the loop sees it."""

    def __init__(self, echo: "Echo") -> None:
        self._echo = echo

    def served(self, now_ns: int) -> None:
        """Replies were confirmed."""
        self._echo.confirmed()

    def written(self, now_ns: int) -> None:
        """Replies went out."""
        self._echo.written_out()

    def broken(self, words: str, now_ns: int) -> None:
        """No reply goes out any more."""
        self._echo.broken(words, now_ns)


class Echo:
    """Answers requests: a consumer and a producer, each a connection.

    ``end`` is called when one of them is gone.
    """

    def __init__(
        self,
        task: Task,
        place: int,
        driver: Driver,
        loop: Loop,
        tally: Tally,
        end: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._names = len(task.replies[place].names)
        self._tally = tally
        self._tracker = Tracker(tally.sightings_of(0))
        tally.trackers.append(self._tracker)
        self._end = end
        self._receipts: dict[int, Any] = {}  # of requests, by the numbers of their replies
        self._replies = 0
        self._is_over = False
        self._producer: Producer = driver.producer(task.replies[place])
        try:
            self._consumer: Consumer = driver.consumer(task.wirings[place])
        except BaseException:
            self._producer.close()
            raise
        self._out = Link(loop, self._producer, _Answers(self))
        self._in = Link(loop, self._consumer, self)
        self._in.pause(True)  # until the clock runs
        tally.clients += 1

    @property
    def is_alive(self) -> bool:
        """Whether both connections are there."""
        return not self._is_over

    def begin(self) -> None:
        """Answer what comes when the clock runs, which is known now."""
        self._loop.at(self._tally.go_ns, self._open)

    def _open(self, now_ns: int) -> None:
        if not self._is_over:
            self._in.pause(False)
            self.served(self._loop.now_ns())

    def served(self, now_ns: int) -> None:
        """Answer what came."""
        bodies, receipts = self._consumer.bodies, self._consumer.receipts
        if not bodies:
            return
        tally = self._tally
        for due_ns in self._tracker.take(bodies):
            tally.timeline.record(due_ns, now_ns)
        for body, receipt in zip(bodies, receipts, strict=True):
            to = _number_of(body)[0] if len(body) >= STAMP_BYTES else 0
            if to >= self._names:
                tally.problem("a request came from somebody who is not there")
                continue
            self._producer.publish([body], to)
            self._receipts[self._replies] = receipt
            self._replies += 1
        tally.timeline.current.received += len(bodies)
        tally.timeline.current.published += len(bodies)
        tally.progressed(now_ns)
        bodies.clear()
        receipts.clear()
        self._out.touch()

    def confirmed(self) -> None:
        """Acknowledge what was answered."""
        producer = self._producer
        self._acknowledge(producer.confirmed)
        producer.confirmed.clear()
        if producer.refused:
            for number in producer.refused:  # their requests stay with the broker
                self._receipts.pop(number, None)
            self._tally.refused += len(producer.refused)
            self._tally.problem("the broker refused replies")
            producer.refused.clear()

    def written_out(self) -> None:
        """Where nothing is confirmed, written is the most that is known."""
        if not self._producer.confirms:
            self._acknowledge(list(self._receipts))

    def _acknowledge(self, numbers: list[int]) -> None:
        receipts = [self._receipts.pop(each) for each in numbers if each in self._receipts]
        if len(receipts) < len(numbers):
            self._tally.problem("the broker confirmed a reply that was not sent")
        self._tally.confirmed += len(receipts)
        self._tally.timeline.current.confirmed += len(receipts)
        if receipts:
            self._consumer.acknowledge(receipts)
            self._in.touch()

    def written(self, now_ns: int) -> None:
        """Nobody waits for acknowledgements."""

    def broken(self, words: str, now_ns: int) -> None:
        """Both connections end."""
        if not self._is_over:
            self._tally.clients -= 1
            self._tally.problem(f"who answers was disconnected: {words}")
            self.finish()
            self._end()

    def finish(self) -> None:
        """Hang up."""
        self._is_over = True
        for link in (self._out, self._in):
            link.flush()
            link.close()
