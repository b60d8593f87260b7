"""A consumer: checks what comes, and says that it is done with it.

Rules:

1. A consumer that works deals with one message after the other, each for ``work_ms``, while the
   loop goes on; it acknowledges each when it is done with it.
2. Acknowledgements go in requests of ``ack_batch``; what does not fill one goes after a moment.
3. A slow consumer reads nothing for a while: its socket fills up, as with a client that hangs.
4. Poisoned messages are rejected at once, and not counted as received.
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from ..drivers.driver import Consumer, Driver, Refused, Wiring
from .loop import Link, Loop
from .returning import Returning
from .tally import Tally
from .task import Task
from .tracking import Tracker, is_poisoned

__all__ = ["Consuming"]

_CLOCK_NS: Final = 1_000_000  # delays are asked for in whole milliseconds, by clocks that count so
_REST_NS: Final = 10_000_000  # acknowledgements that do not fill a request wait so long


class Consuming:
    """One of them, which shares messages with all of the same set ``share``.

    ``end`` is called when its connection is gone for good.
    """

    def __init__(
        self,
        task: Task,
        wiring: Wiring,
        share: int,
        driver: Driver,
        loop: Loop,
        tally: Tally,
        end: Callable[[], None],
    ) -> None:
        self._task = task
        self._wiring = wiring
        self._driver = driver
        self._loop = loop
        self._delay_ns = task.delay_ms * 1_000_000 if task.role == "consumers" else 0
        self._work_ns = int(task.work_ms * 1e6)
        self._at_work: deque[Any] = deque()  # receipts of what it has to deal with
        self._done: list[Any] = []  # receipts that are to be acknowledged
        self._is_resting = False  # they wait for more
        self._epoch = 0  # goes up with each connection: receipts of an older one mean nothing
        self._tally = tally
        self._tracker = Tracker(tally.sightings_of(share), task.keys)
        tally.trackers.append(self._tracker)
        self._end = end
        self._returning = Returning(loop, tally, self._connect, self.served)
        self._client: Consumer
        self._link: Link | None = None
        if not task.connects_at_go:
            self._connect()
            self._pause(True)  # what waits there is taken when the clock runs

    @property
    def is_alive(self) -> bool:
        """Whether it is connected, or will be again."""
        return self._link is not None or self._task.reconnects

    def begin(self) -> None:
        """Take what comes when the clock runs, which is known now."""
        task, go_ns = self._task, self._tally.go_ns
        if task.stop_seconds:
            stop_ns = go_ns + int(task.stop_after_seconds * 1e9)
            self._loop.at(stop_ns, lambda now_ns: self._pause(True))
            self._loop.at(stop_ns + int(task.stop_seconds * 1e9), lambda now_ns: self._pause(False))
        self._loop.at(go_ns, self._open)

    def _open(self, now_ns: int) -> None:
        """Take what comes, and what came with the handshake."""
        if self._task.connects_at_go:
            try:
                self._connect()
            except (OSError, Refused) as error:
                self._tally.problem(f"a consumer could not connect: {error}")
                self._end()
                return
        self._pause(False)
        if self._link is not None:
            self.served(self._loop.now_ns())

    def _connect(self) -> None:
        """Raises OSError, Refused."""
        self._client = self._driver.consumer(self._wiring)
        self._link = Link(self._loop, self._client, self)
        self._tally.clients += 1

    def _pause(self, is_paused: bool) -> None:
        if self._link is not None:
            self._link.pause(is_paused)

    def served(self, now_ns: int) -> None:
        """Take what came."""
        client = self._client
        if not client.bodies:
            return
        bodies, receipts = client.bodies, client.receipts
        if self._task.reject_percent:
            bodies, receipts = self._reject(bodies, receipts)
        due = self._tracker.take(bodies)
        if due:
            self._record(due, now_ns)
        tally = self._tally
        tally.timeline.current.received += len(bodies)
        tally.progressed(now_ns)
        if tally.begin_ns <= now_ns < tally.end_ns:
            tally.bytes_out += sum(map(len, bodies))
        self._deal_with(receipts, now_ns)
        client.bodies.clear()
        client.receipts.clear()

    def _record(self, due: list[int], now_ns: int) -> None:
        """Latencies of what came for the first time."""
        if self._delay_ns:
            due = [each + self._delay_ns for each in due]
            self._tally.early += sum(each > now_ns + _CLOCK_NS for each in due)
        timeline = self._tally.timeline
        low, high, histogram = timeline.bounds(due[0])
        if len(due) == 1:
            histogram.record(now_ns - due[0])
        elif low <= min(due) and max(due) < high:
            histogram.record_all([now_ns - each for each in due])
        else:
            for each in due:
                timeline.record(each, now_ns)

    def _reject(self, bodies: list[bytes], receipts: list[Any]) -> tuple[list[bytes], list[Any]]:
        """Reject what is poisoned; the others."""
        percent = self._task.reject_percent
        poisoned = [is_poisoned(body, percent) for body in bodies]
        rejected = [each for each, is_bad in zip(receipts, poisoned, strict=True) if is_bad]
        if rejected:
            self._client.reject(rejected)
            self._tally.rejected += len(rejected)
        return (
            [each for each, is_bad in zip(bodies, poisoned, strict=True) if not is_bad],
            [each for each, is_bad in zip(receipts, poisoned, strict=True) if not is_bad],
        )

    def _deal_with(self, receipts: list[Any], now_ns: int) -> None:
        if not self._work_ns:
            self._acknowledge(receipts)
            return
        if not self._at_work and receipts:
            self._work_on(now_ns)
        self._at_work.extend(receipts)

    def _work_on(self, now_ns: int) -> None:
        """Begin with the next message."""
        epoch = self._epoch

        def done(later_ns: int) -> None:
            if epoch != self._epoch:
                return
            self._acknowledge([self._at_work.popleft()])
            if self._at_work:
                # Its time counts from when the one before was due to be done.
                self._work_on(now_ns + self._work_ns)

        self._loop.at(now_ns + self._work_ns, done)

    def _acknowledge(self, receipts: list[Any]) -> None:
        batch = self._task.ack_batch
        if self._link is None or not receipts:
            return
        if not batch:
            self._client.acknowledge(receipts)
        else:
            done = self._done
            done += receipts
            while len(done) >= batch:
                self._client.acknowledge(done[:batch])
                del done[:batch]
            if done and not self._is_resting:
                self._is_resting = True
                self._loop.at(self._loop.now_ns() + _REST_NS, self._acknowledge_rest)
        self._link.touch()

    def _acknowledge_rest(self, now_ns: int) -> None:
        self._is_resting = False
        if self._done and self._link is not None:
            self._client.acknowledge(self._done)
            self._done.clear()
            self._link.touch()

    def written(self, now_ns: int) -> None:
        """Nobody waits for that."""

    def broken(self, words: str, now_ns: int) -> None:
        """What it held comes again, here or somewhere else."""
        self._link = None
        self.served(now_ns)
        self._epoch += 1
        self._at_work.clear()
        self._done.clear()
        self._tally.clients -= 1
        if self._task.reconnects:
            if self._wiring.kind == "stream" and not self._wiring.group:
                # Nobody else knows where it was: all comes again, but nothing is passed over.
                self._wiring = msgspec.structs.replace(self._wiring, from_start=True)
            self._returning.begin()
            return
        self._tally.problem(f"a consumer was disconnected: {words}")
        self._end()

    def finish(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.flush()
            self._link.close()
