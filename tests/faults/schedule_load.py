"""Clients that have messages sent later, remove some of that, and take what comes.

Schedules are made over STOMP, with the headers of ActiveMQ, and over the native protocol, as
``braidmq schedule`` does; they are removed both ways. Everything is noted in the step in which its
bytes are written or parsed, so that a client can be cancelled anywhere.
"""

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from .audit import FAIL, INFO, OK
from .journal import parse_body
from .schedule_audit import PLACES, Listed, Planned, ScheduleJournal, Timing
from .stomp_wire import Frame, StompWire
from .stomp_wire import Gone as StompGone
from .wire import Gone, Refusal, Wire

__all__ = [
    "Client",
    "NativePlanner",
    "Remover",
    "StompPlanner",
    "Taker",
    "connect",
    "declare",
    "list_all",
    "now_ms",
    "unschedule_all",
]

DECLARE_QUEUE = 16
SCHEDULE, LIST_SCHEDULES, SCHEDULE_INFO, UNSCHEDULE, UNSCHEDULE_BETWEEN = 96, 97, 98, 99, 100
UNKNOWN_CODES = {"broker-failed", "disconnected", "unavailable"}
DESTINATIONS = {"queue": "/queue/schedule.out", "topic": "/topic/schedule.told"}
MANAGEMENT = "/topic/ActiveMQ.Scheduler.Management"
WINDOW = 10  # schedules that are not confirmed
FOR_EVER_MAX = 6  # schedules that nobody removed yet
FOR_EVER_SHARE = 0.3
PAGE = 500
REMOVED_SHARE = 0.7  # of the schedules that a remover thinks of


def now_ms() -> int:
    """The time, as the broker counts it."""
    return time.time_ns() // 1_000_000


def with_end(rng: random.Random) -> Timing:
    """When to send, once or some times."""
    delay_ms = rng.choice([1, 20, 100, 250])
    if rng.random() < 0.4:
        return Timing(delay_ms)
    return Timing(rng.choice([0, delay_ms]), rng.randint(10, 80), rng.randint(1, 6))


def by_cron(rng: random.Random) -> Timing:
    """When to send, by cron; some with a burst each time."""
    if rng.random() < 0.7:
        return Timing(cron="* * * * *")
    return Timing(rng.choice([0, 100]), 130, 2, "* * * * *")


def _gone(error: Gone | Refusal) -> StompGone:
    """What all clients here raise when the broker is gone, or about to go."""
    if isinstance(error, Refusal) and error.code not in UNKNOWN_CODES:
        raise error
    return StompGone(str(error))


async def connect(port: int) -> Wire:
    """A connection of the native protocol. Raises StompGone."""
    try:
        return await Wire.open(port)
    except (Gone, Refusal) as error:
        raise _gone(error) from error


@asynccontextmanager
async def asking(port: int) -> AsyncIterator[Wire]:
    """A connection of the native protocol, for a while. Raises StompGone."""
    wire = await connect(port)
    try:
        yield wire
    except (Gone, Refusal) as error:
        raise _gone(error) from error
    finally:
        wire.abort()


async def declare(port: int) -> None:
    """Make the queue, or find it as it was. Raises StompGone."""
    async with asking(port) as wire:
        await wire.call(DECLARE_QUEUE, PLACES["queue"], {})


async def list_all(port: int, journal: ScheduleJournal) -> tuple[set[int], list[Listed]]:
    """The numbers of all schedules, and what is told of those at rest. Raises StompGone."""
    found: list[Listed] = []
    ids: set[int] = set()
    async with asking(port) as wire:
        while page := (await wire.call(LIST_SCHEDULES, 0, 0, max(ids, default=0), PAGE))[2]:
            ids.update(info["id"] for info in page)
        for id in sorted(ids):
            try:
                first, second = [(await wire.call(SCHEDULE_INFO, id))[2][0] for _ in range(2)]
            except Refusal as refusal:
                if refusal.code in UNKNOWN_CODES:
                    raise
                continue  # it was its last time
            key = parse_body(first["body"]) or ("", 0)
            listed = journal.listed(key, id, first["created_ms"], first["fired"], first["next_ms"])
            # While it is sent, one time may be counted that the next one does not know of yet.
            if listed is not None and first == second:
                found.append(listed)
    return ids, found


async def unschedule_all(port: int) -> None:
    """End all that is left. Raises StompGone."""
    async with asking(port) as wire:
        await wire.call(UNSCHEDULE_BETWEEN)


class Client(ABC):
    """Whoever does something. ``ports``: native, STOMP."""

    def __init__(self, journal: ScheduleJournal, rng: random.Random, name: str) -> None:
        self.journal = journal
        self.rng = rng
        self.name = name

    @abstractmethod
    async def run(self, ports: list[int]) -> None:
        """Be busy until the broker is gone. Raises StompGone."""

    @abstractmethod
    def hang_up(self) -> None:
        """Go without a word, or see that the broker went."""


class StompClient(Client):
    """One connection of STOMP at a time."""

    wire: StompWire | None = None

    async def connect(self, port: int, client_id: str = "") -> StompWire:
        """Begin anew. Raises StompGone."""
        self.hang_up()
        self.wire = await StompWire.open(port, client_id)
        return self.wire

    def hang_up(self) -> None:
        if self.wire is not None:
            self.wire.abort()
            self.journal.ended(self.wire.error)
            self.wire = None

    async def until_answered(self, wire: StompWire, most: int) -> None:
        """Wait until few enough receipts are awaited. Raises StompGone."""
        while wire.unanswered > most:  # noqa: ASYNC110 - the receipts are many, and told at once
            await asyncio.sleep(0.001)
        if wire.gone:
            raise StompGone(self.name)


class Planner(Client):
    """Makes schedules, one after the other."""

    count = 0

    def without_end(self) -> Timing:
        """When to send, for ever."""
        return by_cron(self.rng)

    def next_one(self, place: str = "", timing: Timing | None = None) -> Planned:
        """The next schedule, about to be asked for."""
        rng = self.rng
        self.count += 1
        everybody = self.journal.planned.values()
        for_ever = sum(not each.timing.times and not each.removed_ms for each in everybody)
        if timing is None:
            endless = for_ever < FOR_EVER_MAX and rng.random() < FOR_EVER_SHARE
            timing = self.without_end() if endless else with_end(rng)
        place = place or rng.choice([*PLACES])
        return self.journal.plan(Planned(place, self.name, self.count, timing))

    async def rest(self) -> None:
        await asyncio.sleep(self.rng.random() * 0.03)


class StompPlanner(Planner, StompClient):
    """By the headers of ActiveMQ."""

    async def run(self, ports: list[int]) -> None:
        wire = await self.connect(ports[1])
        while True:
            self.send(wire, self.next_one())
            await self.until_answered(wire, WINDOW)
            await self.rest()

    def send(self, wire: StompWire, planned: Planned) -> Planned:
        """SEND it. Raises StompGone."""
        timing = planned.timing
        said = {
            "AMQ_SCHEDULED_DELAY": timing.delay_ms,
            "AMQ_SCHEDULED_PERIOD": timing.period_ms,
            "AMQ_SCHEDULED_REPEAT": timing.repeat,
            "AMQ_SCHEDULED_CRON": timing.cron,
        }
        headers = {"destination": DESTINATIONS[planned.place], "persistent": "true"}
        headers |= {name: str(value) for name, value in said.items() if value}
        answered = partial(self.journal.made, planned)
        try:
            wire.post("SEND", headers, planned.body, answered)
        except StompGone:
            answered(INFO)
            raise
        return planned


class NativeClient(Client):
    """One connection of the native protocol at a time."""

    native: Wire | None = None

    async def open(self, port: int) -> Wire:
        """Begin anew. Raises StompGone."""
        self.hang_up()
        self.native = await connect(port)
        return self.native

    def hang_up(self) -> None:
        if self.native is not None:
            self.native.abort()
            self.native = None


def _outcome(answer: "asyncio.Future[list[Any]]") -> str:
    error = None if answer.cancelled() else answer.exception()
    if answer.cancelled() or isinstance(error, Gone):
        return INFO
    if isinstance(error, Refusal):
        return INFO if error.code in UNKNOWN_CODES else FAIL
    return OK


class NativePlanner(Planner, NativeClient):
    """As ``braidmq schedule add``."""

    def without_end(self) -> Timing:
        rng = self.rng
        if rng.random() < 0.5:
            return by_cron(rng)
        return Timing(rng.choice([0, 50]), rng.randint(40, 150), -1)

    async def run(self, ports: list[int]) -> None:
        wire = await self.open(ports[0])
        while not wire.gone:
            await asyncio.wait([self._schedule(wire, self.next_one())])
            await self.rest()
        raise StompGone(self.name)

    def _schedule(self, wire: Wire, planned: Planned) -> "asyncio.Future[list[Any]]":
        timing = planned.timing
        times = [timing.delay_ms, timing.period_ms, timing.repeat, timing.cron]
        answer = wire.ask(SCHEDULE, planned.place, PLACES[planned.place], times, planned.body)

        def answered(answer: "asyncio.Future[list[Any]]") -> None:
            outcome = _outcome(answer)
            self.journal.made(planned, outcome)
            if outcome == OK:
                (info,) = answer.result()[2]
                self.journal.identified(planned, info["id"], info["created_ms"])

        answer.add_done_callback(answered)
        return answer


class Remover(NativeClient, StompClient):
    """Removes some schedules of which the number is known, in one way or the other."""

    async def run(self, ports: list[int]) -> None:
        wire = await self.open(ports[0])
        journal, rng = self.journal, self.rng
        while not wire.gone:
            await asyncio.sleep(rng.random() * 0.04)
            live = [
                each
                for each in journal.by_id.values()
                if each.is_sought and not each.removals and not each.is_done
            ]
            if not live or rng.random() > REMOVED_SHARE:
                continue
            planned = rng.choice(live)
            if rng.random() < 0.5:
                await self._by_stomp(ports[1], planned)
            else:
                await self._by_number(wire, planned)
        raise StompGone(self.name)

    async def _by_number(self, wire: Wire, planned: Planned) -> None:
        self.journal.remove(planned)
        answer = wire.ask(UNSCHEDULE, planned.id)
        answer.add_done_callback(
            lambda answer: self.journal.removed(planned, _outcome(answer), now_ms())
        )
        await asyncio.wait([answer])

    async def _by_stomp(self, port: int, planned: Planned) -> None:
        """To have ActiveMQ's topic remove what has ended meanwhile ends the connection."""
        wire = await self.connect(port)
        headers = {"destination": MANAGEMENT, "AMQ_SCHEDULER_ACTION": "REMOVE"}
        headers["scheduledJobId"] = str(planned.id)
        self.journal.remove(planned)
        outcomes: list[str] = []

        def answered(outcome: str) -> None:
            outcomes.append(outcome)
            self.journal.removed(planned, outcome, now_ms())

        wire.post("SEND", headers, answered=answered)
        with suppress(StompGone):
            await self.until_answered(wire, 0)
        if outcomes == [FAIL]:
            wire.error = None  # it is what was asked for
        StompClient.hang_up(self)

    def hang_up(self) -> None:
        NativeClient.hang_up(self)
        StompClient.hang_up(self)


class Taker(StompClient):
    """Takes what comes from a place, and acknowledges it."""

    def __init__(
        self, journal: ScheduleJournal, rng: random.Random, place: str, hang_up_share: float = 0.0
    ) -> None:
        super().__init__(journal, rng, f"from-{place}")
        self.place = place
        self._hang_up_share = hang_up_share
        self._waiting: list[str] = []

    async def subscribe(self, ports: list[int]) -> StompWire:
        """Connect, and have what is there sent. Raises StompGone."""
        self._waiting.clear()
        wire = await self.connect(ports[1], "schedule-taker" if self.place == "topic" else "")
        wire.hear(self.name, self._on_message)
        headers = {"id": self.name, "destination": DESTINATIONS[self.place]}
        headers |= {"ack": "client-individual", "activemq.prefetchSize": "200"}
        if self.place == "topic":
            headers["activemq.subscriptionName"] = "told"
        await wire.ask("SUBSCRIBE", headers)
        return wire

    def _on_message(self, frame: Frame) -> None:
        self.journal.delivered(self.place, frame)
        self._waiting.append(frame.headers["ack"])

    def settle(self) -> None:
        """Acknowledge what came. Raises StompGone."""
        assert self.wire is not None
        waiting, self._waiting = self._waiting, []
        for ack in waiting:
            self.wire.post("ACK", {"id": ack}, answered=lambda outcome: None)

    async def run(self, ports: list[int]) -> None:
        while True:
            wire = await self.subscribe(ports)
            while self.rng.random() >= self._hang_up_share:
                await asyncio.sleep(self.rng.random() * 0.03)
                self.settle()
                await self.until_answered(wire, WINDOW)
