"""A hundred trucks send their positions once; who needs them gets them, each truck's in order.

    python examples/trucks.py                          # a broker in this process, all in memory
    python examples/trucks.py braid://127.0.0.1:7450   # a daemon

Every position is published to `trucks/NUMBER/position`, once. Four things are bound to that:

    positions   a stream of 5 shards. The truck is the partition key, so all of a truck's positions
                are in one shard, in order; at most 5 consumers can share the work of a group.
    dispatch    a FIFO queue. The truck is the message group, so a truck's positions come in order
                and one at a time; up to 100 consumers can work side by side, one for each truck.
    audit, map  plain queues. Each gets every position: publish once, receive in all of them.

The program says how many worked in parallel, and ends with an error when any order was not kept.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from braidmq.broker import Broker
from braidmq.broker.face import BrokerFace
from braidmq.protocols import connect

TRUCKS = 100
POSITIONS = 20  # of each truck
SHARDS = 5
FIFO_CONSUMERS = 100
FILTER = "trucks/+/position"


class Work:
    """What consumers saw: whether each truck's positions came in order, and how many were busy."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}  # by truck: its last position
        self.count = 0
        self.busy: set[str] = set()
        self.busy_max = 0
        self.done = asyncio.Event()

    async def take(self, worker: str, truck: str, body: bytes) -> None:
        """Work on one position for a moment."""
        self.busy.add(worker)
        self.busy_max = max(self.busy_max, len(self.busy))
        number = int(body)
        if number != self.seen.get(truck, 0) + 1:
            raise AssertionError(f"truck {truck}: {number} after {self.seen.get(truck, 0)}")
        self.seen[truck] = number
        await asyncio.sleep(0.001)
        self.busy.discard(worker)
        self.count += 1
        if self.count == TRUCKS * POSITIONS:
            self.done.set()


async def drive(broker: BrokerFace, truck: int) -> None:
    """A truck: it publishes where it is, once."""
    name = f"truck-{truck}"
    for number in range(1, POSITIONS + 1):
        headers = {"partition-key": name, "group-id": name, "dedup-id": f"{name}-{number}"}
        await broker.publish(f"trucks/{truck}/position", str(number).encode(), headers=headers)


async def read_stream(broker: BrokerFace, work: Work, worker: str) -> None:
    """A member of the group `routes`: it has some of the shards, and checkpoints what it did."""
    async with broker.stream("positions").join("routes") as member:
        async for batch in member.batches(max=50):
            for record in batch.records:
                await work.take(worker, record.key, record.body)
            await batch.checkpoint()


async def work_queue(broker: BrokerFace, work: Work, worker: str) -> None:
    """One of many consumers of the FIFO queue."""
    async for message in broker.queue("dispatch").consume(prefetch=1):
        async with message:
            await work.take(worker, message.group, message.body)


async def count_queue(broker: BrokerFace, name: str) -> int:
    """How many positions a plain queue got."""
    count = 0
    while messages := await broker.queue(name).receive(max=500):
        await broker.queue(name).ack_many(messages)
        count += len(messages)
    return count


async def settle(tasks: list["asyncio.Task[None]"], work: Work) -> None:
    """Wait until all work is done, or a worker has failed."""
    done = asyncio.create_task(work.done.wait())
    try:
        await asyncio.wait([done, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in [done, *tasks]:
            task.cancel()
        await asyncio.gather(done, *tasks, return_exceptions=True)


@asynccontextmanager
async def broker_at(url: str) -> AsyncIterator[BrokerFace]:
    """The daemon at a URL, or without one a broker in this process."""
    if url:
        async with connect(url) as remote:
            yield remote
    else:
        async with Broker() as broker:
            yield broker


async def main(url: str) -> None:
    """Bind, publish, consume, count."""
    async with broker_at(url) as broker:
        await broker.declare_stream("positions", shards=SHARDS)
        await broker.declare_queue("dispatch", fifo=True)
        await broker.bind(FILTER, stream="positions")
        await broker.bind(FILTER, queue="dispatch")
        for name in ("audit", "map"):
            await broker.declare_queue(name)
            await broker.bind(FILTER, queue=name)

        await asyncio.gather(*(drive(broker, truck) for truck in range(TRUCKS)))
        print(f"published {TRUCKS * POSITIONS} positions of {TRUCKS} trucks, each once")

        work = Work()
        workers = [read_stream(broker, work, f"member {each}") for each in range(SHARDS + 2)]
        await settle([asyncio.create_task(each) for each in workers], work)
        print(f"stream: {work.count} in order, at most {work.busy_max} members at work")
        assert work.busy_max <= SHARDS

        work = Work()
        workers = [work_queue(broker, work, f"consumer {each}") for each in range(FIFO_CONSUMERS)]
        await settle([asyncio.create_task(each) for each in workers], work)
        print(f"FIFO queue: {work.count} in order, at most {work.busy_max} consumers at work")
        assert work.busy_max > SHARDS

        for name in ("audit", "map"):
            count = await count_queue(broker, name)
            print(f"queue {name}: {count}")
            assert count == TRUCKS * POSITIONS


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else ""))
