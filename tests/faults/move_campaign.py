"""A campaign for transactions of the native protocol: messages are moved, or they are not.

Producers send numbers to ``in``. Movers receive some of them and, in one TRANSACT each, acknowledge
them, send each to ``out`` and ``copy``, and schedule it for ``later``. What must hold when nobody
is at work, see docs/reliability.md:

lost         a number that was taken, and is neither in ``in`` nor in ``out``; or one whose move was
             confirmed, and that is not in ``out``
doubled      a number that is there twice
torn         a number that is in one of ``out``, ``copy`` and ``later``, and not in the others
phantom      a number that nobody sent, or that a transaction moved which was refused
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from .actors import busy_until
from .campaign import Campaign, Fault
from .daemon import Daemon
from .journal import Journal, body_of, parse_body
from .load import ENDING_CODES
from .waiting import GUARD_SECONDS
from .wire import (
    ACK,
    BROWSE,
    DECLARE_QUEUE,
    LIST_SCHEDULES,
    NACK,
    SCHEDULE,
    SEND,
    TRANSACT,
    Gone,
    Refusal,
    Wire,
)

__all__ = ["MoveCampaign", "MoveJournal"]

_IN = "in"
_TARGETS = "out", "copy", "later"
_MOVERS = 3
_REFUSED_SHARE = 0.1  # of the transactions have a step at the end that nobody can do
_PAGE = 500
_WHO = "mover"


class MoveJournal(Journal):
    """What was confirmed, and the counters of what must not be."""

    BROKEN = "lost doubled torn phantom".split()

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[int] = set()  # to be taken
        self.taken: set[int] = set()  # confirmed
        self.moved: set[int] = set()  # confirmed
        self.may_be_moved: set[int] = set()  # by a transaction that was not refused

    def figures(self) -> str:
        """Also how much was done."""
        counts = self.counts
        return f"acked {counts['acked']}, refused {counts['refused']}, {super().figures()}"

    def audit(self, found: dict[str, list[bytes]]) -> None:
        """All that is there, by queue."""
        numbers: dict[str, Counter[int]] = {}
        for queue, bodies in found.items():
            parsed = [parse_body(body) for body in bodies]
            numbers[queue] = Counter(each[1] for each in parsed if each is not None)
            if None in parsed:
                self.find("phantom", f"a body in {queue} that nobody sent")
        waiting, (out, copy, later) = numbers[_IN], [numbers[queue] for queue in _TARGETS]
        for number in sorted(self.asked | set().union(*numbers.values())):
            places = {queue: counts[number] for queue, counts in numbers.items()}
            if number not in self.asked:
                self.find("phantom", f"{number} in {places}")
            elif not out[number] == copy[number] == later[number]:
                self.find("torn", f"{number} in {places}")
            elif waiting[number] + out[number] > 1:
                self.find("doubled", f"{number} in {places}")
            elif out[number] and number not in self.may_be_moved:
                self.find("phantom", f"{number} was moved by what was refused: {places}")
            elif number in self.moved and not out[number]:
                self.find("lost", f"the move of {number}")
            elif number in self.taken and not waiting[number] + out[number]:
                self.find("lost", f"{number}")


class MoveCampaign(Campaign):
    """See :class:`Campaign`."""

    GONE = (Gone, Refusal)
    BUSY_ACKED_MAX = 300
    journal: MoveJournal

    def __init__(self, data: Path, scratch: Path, seed: int) -> None:
        super().__init__(data, scratch, seed, MoveJournal())
        self._numbers = itertools.count(1)

    async def look(self, daemon: Daemon) -> None:
        wire = await Wire.open(daemon.port)
        for queue in (_IN, *_TARGETS):
            await wire.call(DECLARE_QUEUE, queue, {"visibility_timeout_ms": 600_000})
        wire.abort()

    async def under_load(self, daemon: Daemon, fault: Fault) -> None:
        behaviours = [self._produce, *[self._move] * _MOVERS]
        wires: list[Wire] = []
        actors = [self._act(each, daemon.port, wires) for each in behaviours]

        def hang_up() -> None:
            for wire in wires:
                wire.abort()

        await busy_until(fault(daemon), actors, Gone, hang_up)

    async def _act(
        self, behaviour: Callable[[Wire], Awaitable[None]], port: int, wires: list[Wire]
    ) -> None:
        wire = await Wire.open(port)
        wires.append(wire)
        try:
            while True:
                await behaviour(wire)
        except Refusal as refusal:
            if refusal.code not in ENDING_CODES:
                raise

    async def _produce(self, wire: Wire) -> None:
        numbers = [next(self._numbers) for _ in range(self.rng.randint(1, 8))]
        self.journal.asked.update(numbers)
        await wire.call(SEND, _IN, [[body_of(_WHO, number, 40)] for number in numbers])
        self.journal.taken.update(numbers)
        await asyncio.sleep(self.rng.random() * 0.01)

    async def _move(self, wire: Wire) -> None:
        journal = self.journal
        held: list[list[Any]] = []
        await wire.receive(_IN, self.rng.randint(1, 6), 50, 0, held.append)
        if not held:
            return
        receipts = [message[:2] for message in held]
        bodies = [message[6] for message in held]
        numbers = [parsed[1] for parsed in map(parse_body, bodies) if parsed is not None]
        steps: list[list[Any]] = [[ACK, 1, _IN, receipts]]
        for body in bodies:
            steps += [[SEND, 2, "out", [[body]]], [SEND, 3, "copy", [[body]]]]
            steps.append([SCHEDULE, 4, "queue", "later", [1], body])
        refused = self.rng.random() < _REFUSED_SHARE
        if refused:
            steps.append([SEND, 5, "nowhere", [[b""]]])
        else:
            journal.may_be_moved.update(numbers)
        _, _, replies, *errors = await wire.call(TRANSACT, steps)
        if not any(errors):
            assert len(replies) == len(steps) and not refused
            journal.moved.update(numbers)
            journal.counts["acked"] += len(numbers)
            return
        (((index, code, text),),) = errors
        if not refused or code != "not-found":
            raise Refusal(code, text)
        assert index == len(steps) - 1 and not replies
        journal.counts["refused"] += 1
        await wire.call(NACK, _IN, receipts)

    async def drain(self, daemon: Daemon) -> None:
        wire = await Wire.open(daemon.port)
        async with asyncio.timeout(GUARD_SECONDS):
            while (await wire.call(LIST_SCHEDULES))[2]:  # noqa: ASYNC110 - who else would know?
                await asyncio.sleep(0.01)
        self.journal.audit({queue: await _bodies(wire, queue) for queue in (_IN, *_TARGETS)})
        wire.abort()

    def expect_write_errors(self) -> None:
        """Those are known by their codes."""


async def _bodies(wire: Wire, queue: str) -> list[bytes]:
    found: list[bytes] = []
    after = 0
    while page := (await wire.call(BROWSE, queue, after, _PAGE))[3]:
        found += [message[6] for message in page]
        after = page[-1][0]
    return found
