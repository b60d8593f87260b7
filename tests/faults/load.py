"""Producers and consumers for the audit: all kinds of queues under load while the broker breaks.

Every actor has a connection of its own and keeps the journal; when the connection goes it notes
what it does not know, and ends. The next run of the broker gets new actors, which carry on: what
is unknown is sent again where that makes no double (FIFO, with deduplication ids), and partly
where it does.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Collection
from types import TracebackType
from typing import Any

import msgpack

from .audit import EVERY_QUEUE, INFO, LEASE_MS, QUEUES, Entry, Hold, QueueJournal
from .journal import body_of
from .wire import (
    ACK,
    CANCEL,
    CREDIT,
    DECLARE_QUEUE,
    NACK,
    QUEUE_INFO,
    SEND,
    Delivered,
    Gone,
    Refusal,
    Wire,
)

__all__ = ["ENDING_CODES", "Load", "declare", "drain", "message_counts"]

UNKNOWN_CODES = {"broker-failed", "disconnected"}  # refused, but perhaps taken before
ENDING_CODES = UNKNOWN_CODES | {"unavailable"}
BATCH_MESSAGES_MAX = 12
WINDOW = 3  # batches of a producer in flight
FIFO_GROUPS = 5
DRAIN_SECONDS_MAX = 120.0  # a hang, not a measure
Held = tuple[list[int], Hold]  # a receipt, and what it is for
_numbers = itertools.count(1)  # of connections, receives and messages, in the whole process


async def declare(port: int) -> None:
    """Make the queues, or find them as they were."""
    wire = await Wire.open(port)
    for name, settings in QUEUES.items():
        await wire.call(DECLARE_QUEUE, name, settings)
    wire.abort()


async def message_counts(port: int) -> dict[str, int]:
    """What the broker says how many messages each queue has, in whatever state."""
    wire = await Wire.open(port)
    counts = {}
    for name in EVERY_QUEUE:
        info = (await wire.call(QUEUE_INFO, name))[2][0]
        counts[name] = info["ready"] + info["delayed"] + info["in_flight"]
    wire.abort()
    return counts


class Load:
    """``async with Load(port, journal, rng):`` keeps the broker busy until the end of the block.

    ``queues`` are those that get messages; all of them if it is not given.
    """

    def __init__(
        self,
        port: int,
        journal: QueueJournal,
        rng: random.Random,
        queues: Collection[str] = tuple(QUEUES),
    ) -> None:
        self._port = port
        self._queues = queues
        self._journal = journal
        self._rng = rng
        self._actors: list[asyncio.Task[None]] = []
        self._stopping = False

    async def __aenter__(self) -> "Load":
        behaviours: list[Awaitable[None]] = [self._produce(queue) for queue in self._queues]
        behaviours += [
            self._push("standard", nack=0.1, hang_up=0.02),
            self._push("relaxed", nack=0.05, hang_up=0.02),
            self._push("later", nack=0.0, hang_up=0.02),
            self._push("poison", nack=0.7, hang_up=0.0),
            self._pull("standard", lease_ms=0, leave=0.0),
            self._pull("brief", lease_ms=QUEUES["brief"]["visibility_timeout_ms"], leave=0.2),
            self._pull("groups.fifo", lease_ms=0, leave=0.0),
            self._pull("groups.fifo", lease_ms=0, leave=0.0),
            self._pull("poison-dead", lease_ms=0, leave=0.0),
        ]
        self._actors = [asyncio.ensure_future(self._act(each)) for each in behaviours]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping = True
        for actor in self._actors:
            actor.cancel()
        ended = await asyncio.gather(*self._actors, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    async def ended(self) -> None:
        """Wait until every connection is gone."""
        await asyncio.wait(self._actors)

    async def _act(self, behaviour: Awaitable[None]) -> None:
        try:
            await behaviour
        except Gone:
            pass
        except Refusal as refusal:
            if refusal.code not in ENDING_CODES:
                raise

    # --- producers ---

    async def _produce(self, queue: str) -> None:
        wire = await Wire.open(self._port)
        journal, rng = self._journal, self._rng
        fifo = QUEUES[queue].get("fifo", False)
        pending: set[asyncio.Task[None]] = set()
        undecided = [
            entry
            for entry in journal.entries.values()
            if entry.queue == queue and not entry.ok and entry.attempts[INFO]
        ]
        again = undecided if fifo else [e for e in undecided if rng.random() < 0.3]
        again = [entry for entry in again if entry.attempts[INFO] < 20]
        try:
            for start in range(0, len(again), BATCH_MESSAGES_MAX):
                await self._send(wire, queue, again[start : start + BATCH_MESSAGES_MAX])
            while not wire.gone:
                batch = [self._entry(queue) for _ in range(rng.randint(1, BATCH_MESSAGES_MAX))]
                if fifo:
                    await self._send(wire, queue, batch)
                    if rng.random() < 0.1:
                        await self._send(wire, queue, batch)  # the same ids once more
                else:
                    pending.add(asyncio.ensure_future(self._send(wire, queue, batch)))
                if len(pending) >= WINDOW:
                    _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.sleep(rng.random() * 0.01)
        finally:
            wire.abort()
            await asyncio.gather(*pending, return_exceptions=True)

    def _entry(self, queue: str) -> Entry:
        rng = self._rng
        number = next(_numbers)
        entry = Entry(queue, f"to-{queue}", number, {"number": str(number), "pad": "x" * 20})
        if QUEUES[queue].get("fifo"):
            entry.group = f"group-{rng.randrange(FIFO_GROUPS)}"
            entry.dedup = f"id-{number}"
        if queue == "later":
            entry.delay_ms = rng.choice([20, 80, 200, 600])
        return entry

    async def _send(self, wire: Wire, queue: str, batch: list[Entry]) -> None:
        journal = self._journal
        messages = []
        for entry in batch:
            size = entry.number % 13 * 40 + (20_000 if entry.number % 97 == 0 else 8)
            headers = msgpack.packb(entry.headers, use_bin_type=True)
            delay_ms = entry.delay_ms or -1
            body = body_of(entry.producer, entry.number, size)
            messages.append([body, headers, delay_ms, 0, 4, entry.group, entry.dedup])
            journal.invoke(entry)
        try:
            reply = await wire.ask(SEND, queue, messages)
        except Refusal as refusal:
            taken = journal.unknown if refusal.code in UNKNOWN_CODES else journal.fail
            for entry in batch:
                taken(entry)
            journal.counts[f"refused {refusal.code}"] += 1
            await asyncio.sleep(0.02)
            return
        except Gone:
            for entry in batch:
                journal.unknown(entry)
            return
        except asyncio.CancelledError:
            for entry in batch:
                journal.unknown(entry)
            raise
        for entry, result in zip(batch, reply[2], strict=True):
            if result is None:
                journal.fail(entry)
            else:
                journal.ok(entry, result[0], bool(result[2]))

    # --- consumers ---

    async def _push(self, queue: str, nack: float, hang_up: float) -> None:
        """Messages are pushed; now and then it hangs up, or cancels, with messages in hand."""
        journal, rng = self._journal, self._rng
        while True:
            wire = await Wire.open(self._port)
            connection = next(_numbers)
            receive = next(_numbers)
            held: list[Held] = []
            arrived = asyncio.Event()
            take = _taker(journal, queue, connection, receive, held, arrived)
            try:
                number = await wire.consume(queue, 40, take)
                while True:
                    await arrived.wait()
                    arrived.clear()
                    if rng.random() < hang_up:
                        break
                    batch = held[:]
                    held.clear()
                    back = [each for each in batch if rng.random() < nack]
                    await self._give_back(wire, queue, back)
                    kept = [each for each in batch if each not in back]
                    await _settle(wire, journal, queue, kept)
                    wire.post(CREDIT, number, len(batch))
                    if rng.random() < hang_up:
                        journal.receives_dead.add(receive)
                        await wire.call(CANCEL, number)
                        break
            finally:
                journal.connections_dead.add(connection)
                wire.abort()

    async def _pull(self, queue: str, lease_ms: int, leave: float) -> None:
        """Receives batches under a lease; leaves some to expire."""
        journal, rng = self._journal, self._rng
        wire = await Wire.open(self._port)
        connection = next(_numbers)
        try:
            while True:
                most = rng.randint(1, 10)
                held = await _receive(wire, journal, queue, most, 50, lease_ms, connection)
                if queue == "groups.fifo" and rng.random() < 0.1:
                    await self._give_back(wire, queue, held)
                    continue
                kept = [each for each in held if rng.random() >= leave]
                await _settle(wire, journal, queue, kept)
        finally:
            wire.abort()

    async def _give_back(self, wire: Wire, queue: str, held: list[Held]) -> None:
        if not held:
            return
        for _, hold in held:
            hold.given_back = True
        await wire.call(NACK, queue, [receipt for receipt, _ in held])


def _taker(
    journal: QueueJournal,
    queue: str,
    connection: int,
    receive: int,
    held: list[Held],
    arrived: asyncio.Event,
) -> Delivered:
    """What takes the messages of a push consumer, while their bytes are being parsed."""

    def take(messages: list[list[Any]], last: bool) -> None:
        for message in messages:
            hold = journal.delivered(queue, message, connection, receive, 0.0, 0)
            if hold is not None:
                held.append((message[:2], hold))
        arrived.set()

    return take


async def _receive(
    wire: Wire,
    journal: QueueJournal,
    queue: str,
    most: int,
    wait_ms: int,
    lease_ms: int,
    connection: int,
) -> list[Held]:
    """Receive once under a lease; ``lease_ms`` 0 is the queue's own."""
    held: list[Held] = []
    receive = next(_numbers)
    asked_at = time.monotonic()
    lasts_ms = lease_ms or LEASE_MS

    def take(message: list[Any]) -> None:
        hold = journal.delivered(queue, message, connection, receive, asked_at, lasts_ms)
        if hold is not None:
            held.append((message[:2], hold))

    await wire.receive(queue, most, wait_ms, lease_ms, take)
    return held


async def _settle(wire: Wire, journal: QueueJournal, queue: str, held: list[Held]) -> None:
    """Acknowledge, and note what the broker says."""
    if not held:
        return
    for _, hold in held:
        journal.ack_invoke(hold)
    try:
        reply = await wire.ask(ACK, queue, [receipt for receipt, _ in held])
    except (Gone, Refusal, asyncio.CancelledError):
        for _, hold in held:
            journal.ack_unknown(hold)
        raise
    refused = {error[0]: error[1] for error in (reply[2] if len(reply) > 2 else [])}
    for index, (_, hold) in enumerate(held):
        if index in refused:
            journal.ack_refused(hold, refused[index])
        else:
            journal.ack_ok(hold)


async def drain(port: int, journal: QueueJournal) -> None:
    """Receive and acknowledge until every queue is empty, and close that chapter of the journal.

    Nothing else may have used the broker since it started.
    """
    wire = await Wire.open(port)
    connection = next(_numbers)
    until = time.monotonic() + DRAIN_SECONDS_MAX
    while any((await message_counts(port)).values()):
        if time.monotonic() > until:
            journal.find("stuck", f"not to be received: {await message_counts(port)}")
            break
        for queue in EVERY_QUEUE:
            while held := await _receive(wire, journal, queue, 500, 20, LEASE_MS, connection):
                await _settle(wire, journal, queue, held)
    else:
        journal.emptied()
    wire.abort()
