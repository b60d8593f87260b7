"""A producer: sends what is due, or as answers come, and keeps account of what became of it.

Rules:

1. Open loop: what is due while too many messages wait for their confirmations is held back, and
   sent as these come; its latency counts from when it was due all the same.
2. Closed loop: as many messages are under way as the window holds; due is when they are sent.
3. What was sent and never answered (the run ended, the connection broke), and what was refused, is
   *unsure*: it may have been taken or not.
4. Where the protocol does not confirm, written is the most that is known, and counts as that.
"""

from collections import deque
from collections.abc import Callable

from ..drivers.driver import Driver, Producer, Wiring
from ..integrity import STAMP_BYTES, Stamper
from .loop import Link, Loop
from .returning import Returning
from .tally import Tally
from .task import AccountReport, Task, turn

__all__ = ["Producing", "Quota", "ranges"]


class Quota:
    """What all producers of a process may still send together.

    Attributes:
        left: messages.
        is_over: nobody sends any more.
    """

    def __init__(self, messages: int) -> None:
        self.left = messages or 1 << 62
        self.is_over = False

    def take(self, count: int) -> int:
        """How many of these may be sent."""
        count = min(count, self.left)
        self.left -= count
        if not self.left:
            self.is_over = True
        return count


class Producing:
    """One of them.

    Its ``number`` is in its stamps, and ``contents`` is what may stand behind them; ``end`` is
    called when its connection is gone for good.
    """

    def __init__(
        self,
        task: Task,
        place: int,
        driver: Driver,
        loop: Loop,
        tally: Tally,
        end: Callable[[], None],
        quota: Quota,
        contents: bytes,
    ) -> None:
        self.number = task.first_number + place
        self._task = task
        self._wiring: Wiring = task.wirings[place]
        self._driver = driver
        self._loop = loop
        self._quota = quota
        self._contents = contents
        self._bodies: dict[int, tuple[Stamper, bytes]] = {}  # by length: what is behind a stamp
        self._limit = task.window or task.inflight
        self._is_filling = False  # closed loop: it has begun
        self._tally = tally
        self._moments: dict[int, tuple[int, int]] = {}  # unanswered: when due, when sent
        self._held: deque[int] = deque()  # when those were due
        self._base = 0  # the sequence of the client's message 0
        self._requests = 0
        self._sent = 0
        self._confirmed = 0
        self._unsure: list[int] = []
        self._end = end
        self._returning = Returning(loop, tally, self._connect, self._go_on)
        self._client: Producer
        self._link: Link | None = None
        self._connect()

    def _connect(self) -> None:
        """Raises OSError, Refused."""
        self._client = self._driver.producer(self._wiring)
        self._link = Link(self._loop, self._client, self)
        self._base = self._sent
        self._tally.clients += 1

    @property
    def is_alive(self) -> bool:
        """Whether it is connected, or will be again."""
        return self._link is not None or self._task.reconnects

    @property
    def is_settled(self) -> bool:
        """Whether nothing is waited for: all is answered, or nobody is there to answer."""
        return not self.is_alive or not (self._moments or self._held)

    def due(self, due_ns: int, now_ns: int) -> None:
        """Open loop: a request is due."""
        if self._held or self._link is None or self._room() < self._task.batch:
            self._held.append(due_ns)
        else:
            self._send(due_ns, now_ns)

    def fill(self, now_ns: int) -> None:
        """Closed loop: send until the window is full."""
        self._is_filling = True
        batch = min(self._task.batch, self._limit)
        while not self._quota.is_over and self._link is not None and self._room() >= batch:
            self._send(now_ns, now_ns)

    def _room(self) -> int:
        return max(self._limit, self._task.batch) - len(self._moments)

    def _send(self, due_ns: int, now_ns: int) -> None:
        task, first = self._task, self._sent
        batch = min(task.batch, self._limit) if task.window else task.batch
        count = self._quota.take(batch)
        if not count or self._link is None:
            return
        body = self._body
        if count == 1:
            bodies = [body(first, due_ns)]
            self._moments[first - self._base] = due_ns, now_ns
        else:
            bodies = [body(sequence, due_ns) for sequence in range(first, first + count)]
            numbers = range(first - self._base, first - self._base + count)
            self._moments.update(dict.fromkeys(numbers, (due_ns, now_ns)))
        keys: list[str] = []
        if task.keys:
            length = len(task.keys)
            keys = [task.keys[turn(self.number, first + n, length)] for n in range(count)]
        to = self._requests % len(self._wiring.names)
        self._client.publish(bodies, to, keys, task.delay_ms)
        self._requests += 1
        self._sent = first + count
        self._tally.timeline.current.published += count
        self._link.touch()

    def _body(self, sequence: int, due_ns: int) -> bytes:
        """A message, with its stamp."""
        sizes = self._task.sizes
        size = sizes[turn(self.number, sequence, len(sizes))] if len(sizes) > 1 else sizes[0]
        body = self._bodies.get(size)
        if body is None:
            contents = self._contents[: size - STAMP_BYTES]
            body = self._bodies[size] = Stamper(self.number, contents), contents
        stamper, behind = body
        return stamper.stamp(sequence, due_ns) + behind

    def served(self, now_ns: int) -> None:
        """Take confirmations, and go on."""
        self._take(now_ns)
        self._go_on(now_ns)

    def _take(self, now_ns: int) -> None:
        client = self._client
        if client.confirmed:
            self._confirm(client.confirmed, now_ns)
            client.confirmed.clear()
        if client.refused:
            for number in client.refused:
                moment = self._moments.pop(number, None)
                if moment is not None:
                    self._unsure.append(self._base + number)
            self._tally.refused += len(client.refused)
            self._tally.problem("the broker refused messages")
            client.refused.clear()

    def written(self, now_ns: int) -> None:
        """All is written."""
        if not self._client.confirms and self._moments:
            self._confirm(list(self._moments), now_ns)
            self._go_on(now_ns)

    def _go_on(self, now_ns: int) -> None:
        while self._held and self._link is not None and self._room() >= self._task.batch:
            self._send(self._held.popleft(), now_ns)
        if self._is_filling:
            self.fill(now_ns)

    def _confirm(self, numbers: list[int], now_ns: int) -> None:
        tally, pop = self._tally, self._moments.pop
        unanswered = len(self._moments)
        last: tuple[int, int] | None = None
        times = 0
        for number in numbers:
            moment = pop(number, None)
            if moment is last:  # of the same request
                times += 1
                continue
            if last is not None:
                self._answered(last, now_ns, times)
            last, times = moment, 1
        if last is not None:
            self._answered(last, now_ns, times)
        count = unanswered - len(self._moments)
        if count < len(numbers):
            tally.problem("the broker confirmed a message that was not sent")
        self._confirmed += count
        tally.confirmed += count
        tally.timeline.current.confirmed += count
        tally.progressed(now_ns)
        if tally.begin_ns <= now_ns < tally.end_ns:
            tally.bytes_in += self._bytes_of(numbers)

    def _answered(self, moment: tuple[int, int], now_ns: int, times: int) -> None:
        self._tally.response.record(moment[0], now_ns, times)
        self._tally.service.record(moment[1], now_ns, times)

    def _bytes_of(self, numbers: list[int]) -> int:
        sizes = self._task.sizes
        if len(sizes) == 1:
            return sizes[0] * len(numbers)
        base, length = self._base, len(sizes)
        return sum(sizes[turn(self.number, base + number, length)] for number in numbers)

    def broken(self, words: str, now_ns: int) -> None:
        """What is unanswered stays so; perhaps connect again."""
        self._take(now_ns)  # what was confirmed before it broke
        self._link = None
        self._tally.clients -= 1
        self._give_up(now_ns)
        if self._task.reconnects:
            self._returning.begin()
            return
        self._tally.problem(f"a producer was disconnected: {words}")
        self._end()

    def _give_up(self, now_ns: int) -> None:
        """What is unanswered took at least until now."""
        for number, (due_ns, _) in self._moments.items():
            self._unsure.append(self._base + number)
            self._tally.response.record(due_ns, now_ns)
        self._moments.clear()

    def finish(self, now_ns: int) -> AccountReport:
        """Hang up; what became of everything."""
        self._give_up(now_ns)
        for due_ns in self._held:
            self._tally.response.record(due_ns, now_ns, self._task.batch)
        if self._link is not None:
            self._link.close()
        return AccountReport(
            producer=self.number,
            sent=self._sent,
            confirmed=self._confirmed,
            unsure=ranges(self._unsure),
        )


def ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Numbers as ranges from, to (inclusive)."""
    found: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1] = found[-1][0], number
        else:
            found.append((number, number))
    return found
