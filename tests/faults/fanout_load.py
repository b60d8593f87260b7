"""Who publishes to the topic of the fan-out, and who takes messages out of the queues."""

import asyncio
import itertools
import random

import msgpack

from .audit import INFO, LEASE_MS
from .fanout_audit import FAN_TOPIC, KINDS, Publication
from .load import UNKNOWN_CODES
from .stream_audit import StreamJournal
from .stream_wire import PUBLISH, StreamWire
from .wire import ACK, QUEUE_INFO, Gone, Refusal

__all__ = ["empty", "publish", "pull"]

GROUPS = 3  # of each publisher
_numbers = itertools.count(1)  # of publications, in the whole process


async def publish(port: int, journal: StreamJournal, rng: random.Random, name: str) -> None:
    """Publish one message after the other, some of them twice. Raises Gone."""
    wire = await StreamWire.open(port)
    try:
        unknown = [each for each in journal.fan.open.values() if each.outcome == INFO]
        for publication in unknown:  # whoever kept the id may ask again
            if publication.group.startswith(name):
                await _publish(wire, journal, [_again(publication)])
        while not wire.gone:
            batch = [_publication(rng, name) for _ in range(rng.choice([1, 1, 1, 4]))]
            await _publish(wire, journal, batch)
            if rng.random() < 0.2:
                await _publish(wire, journal, [_again(each) for each in batch])
            await asyncio.sleep(rng.random() * 0.04)
    finally:
        wire.abort()


def _publication(rng: random.Random, name: str) -> Publication:
    number = next(_numbers)
    size = rng.choice([8, 8, 100, 2_000])
    group = f"{name}-{rng.randrange(GROUPS)}"
    return Publication(number, rng.choice(KINDS), size, group, dedup=f"id-{number}")


def _again(publication: Publication) -> Publication:
    number = next(_numbers)
    kind, size, group = publication.kind, publication.size, publication.group
    return Publication(number, kind, size, group, publication.dedup)


async def _publish(wire: StreamWire, journal: StreamJournal, batch: list[Publication]) -> None:
    fan = journal.fan
    messages = []
    for each in batch:
        headers = {"kind": each.kind, "group-id": each.group, "dedup-id": each.dedup}
        headers["partition-key"] = each.group
        messages.append([each.body, msgpack.packb(headers)])
        fan.invoke(each)
    try:
        answer = await wire.ask(PUBLISH, FAN_TOPIC, messages)
    except Refusal as refusal:
        for each in batch:
            (fan.unknown if refusal.code in UNKNOWN_CODES else fan.fail)(each)
        journal.counts[f"refused {refusal.code}"] += 1
        await asyncio.sleep(0.02)
        return
    except (Gone, asyncio.CancelledError):
        for each in batch:
            fan.unknown(each)
        raise
    for each, matched in zip(batch, answer[2], strict=True):
        (fan.fail if matched is None else fan.ok)(each)


async def pull(port: int, journal: StreamJournal, rng: random.Random, queue: str) -> None:
    """Take messages out of a queue. Raises Gone."""
    wire = await StreamWire.open(port)
    try:
        while True:
            await _take_some(wire, journal, queue, rng.randint(1, 20), wait_ms=1_000)
            await asyncio.sleep(rng.random() * 0.05)
    finally:
        wire.abort()


async def empty(wire: StreamWire, journal: StreamJournal, queue: str, guard: float) -> None:
    """Take all out of a queue that nobody else has a hand in. Raises Gone.

    ``guard``: seconds, after which what did not come is taken for missing.
    """
    while _left((await wire.call(QUEUE_INFO, queue))[2][0]):
        if not await _take_some(wire, journal, queue, 1_000, wait_ms=int(guard * 1000)):
            journal.find("stuck", f"{queue} has messages, and delivers none")
            break


def _left(info: dict[str, int]) -> int:
    return info["ready"] + info["delayed"] + info["in_flight"]


async def _take_some(
    wire: StreamWire, journal: StreamJournal, queue: str, most: int, wait_ms: int
) -> int:
    numbers: list[int] = []
    receipts: list[list[int]] = []

    def take(message: list[int]) -> None:
        numbers.append(journal.fan.in_queue(queue, message))
        receipts.append(message[:2])

    await wire.receive(queue, most, wait_ms, LEASE_MS, take)
    if receipts:
        journal.fan.ack_invoke(queue, numbers)
        errors = (await wire.call(ACK, queue, receipts))[2:]
        refused = {index for index, *_ in (errors[0] if errors else [])}
        if refused:
            journal.find("stolen", f"{queue}: {len(refused)} of {len(receipts)} acknowledgements")
        journal.fan.ack_ok(queue, [n for at, n in enumerate(numbers) if at not in refused])
    return len(receipts)
