"""The daemon under constant load with churn: nothing it holds may grow, and space comes back.

Connections come and go, queues are made and deleted, messages of all sizes are sent, received,
given back and acknowledged, at about the same rate all the time. Between the first and the last
third of the run, memory, file descriptors, threads and files stay where they are, up to the slack
that is named below; what is on disk is bounded, because every message is consumed.

BRAIDMQ_SOAK_SECONDS makes it long (`make soak`); in `make test` it is a smoke test of itself.
"""

import asyncio
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.faults.daemon import Daemon
from tests.faults.wire import ACK, CONSUME, DECLARE_QUEUE, NACK, QUEUE_INFO, SEND, Gone, Wire
from tests.figures import figures
from tests.soak.samples import (
    SAMPLE_SECONDS,
    SECONDS,
    Sample,
    check_growth,
    line,
    sample,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc of the daemon"),
]

RECLAIM_SECONDS_MAX = 60.0  # a hang, not a measure
DELETE_QUEUE, PING = 18, 2


class Churn:
    """Clients that come and go for as long as they are told to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.sent = 0
        self.settled = 0
        self.connections = 0
        self.queues = 0

    async def produce(self, queue: str, rng: random.Random) -> None:
        """About the same number of messages a second, over a connection now and then renewed."""
        while True:
            wire = await self.connect()
            for _ in range(rng.randint(5, 40)):
                group = f"g{rng.randrange(50)}" if queue.endswith("fifo") else ""
                sizes = [rng.choice([50, 200, 1_000, 8_000]) for _ in range(10)]
                batch = [[bytes(size), b"", -1, 0, 4, group, ""] for size in sizes]
                reply = await wire.call(SEND, queue, batch)
                assert not reply[3:] or not reply[3], reply
                self.sent += len(batch)
                await asyncio.sleep(0.02)
            wire.abort()

    async def consume(self, queue: str, rng: random.Random) -> None:
        """Takes everything; gives a little back; leaves without a word."""
        while True:
            wire = await self.connect()
            for _ in range(rng.randint(5, 40)):
                held: list[list[Any]] = []
                await wire.receive(queue, 50, 100, 5_000, held.append)
                back = [message[:2] for message in held if rng.random() < 0.05]
                done = [message[:2] for message in held if message[:2] not in back]
                if back:
                    await wire.call(NACK, queue, back)
                if done:
                    await wire.call(ACK, queue, done)
                self.settled += len(done)
            wire.abort()

    async def come_and_go(self, rng: random.Random) -> None:
        """Connections that do little, and queues that live shortly."""
        while True:
            wire = await self.connect()
            name = f"short-{rng.randrange(10**9)}"
            await wire.call(DECLARE_QUEUE, name, {})
            await wire.call(SEND, name, [[b"x"] for _ in range(10)])
            wire.post(CONSUME, 900, name, 5)
            await wire.call(PING)
            await wire.call(DELETE_QUEUE, name)
            self.queues += 1
            wire.abort()
            await asyncio.sleep(0.05)

    async def connect(self) -> Wire:
        self.connections += 1
        return await Wire.open(self.port)


async def messages_waiting(port: int) -> int:
    wire = await Wire.open(port)
    infos = [(await wire.call(QUEUE_INFO, name))[2][0] for name in ("plain", "groups.fifo")]
    wire.abort()
    return sum(info["ready"] + info["delayed"] + info["in_flight"] for info in infos)


async def observe(daemon: Daemon, data: Path) -> list[Sample]:
    """Sample until the time is over."""
    samples = []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        await asyncio.sleep(SAMPLE_SECONDS)
        samples.append(sample(daemon.pid, data, await messages_waiting(daemon.port)))
    return samples


async def test_nothing_grows_under_constant_load(tmp_path, request):
    data = tmp_path / "data"
    async with Daemon(data, tmp_path) as daemon:
        wire = await Wire.open(daemon.port)
        await wire.call(DECLARE_QUEUE, "plain", {})
        await wire.call(DECLARE_QUEUE, "groups.fifo", {"fifo": True})
        wire.abort()
        churn = Churn(daemon.port)
        rng = random.Random(20)
        actors = [
            asyncio.ensure_future(each)
            for each in (
                churn.produce("plain", rng),
                churn.produce("groups.fifo", rng),
                churn.consume("plain", rng),
                churn.consume("plain", rng),
                churn.consume("groups.fifo", rng),
                churn.come_and_go(rng),
            )
        ]
        try:
            samples = await observe(daemon, data)
        finally:
            for actor in actors:
                actor.cancel()
            ended = await asyncio.gather(*actors, return_exceptions=True)
        assert not [e for e in ended if not isinstance(e, asyncio.CancelledError | Gone)], ended
        assert await daemon.stop() == 0, daemon.log
    figures(
        request,
        f"sent {churn.sent}, settled {churn.settled}, connections {churn.connections},"
        f" queues made and deleted {churn.queues}, {line(samples)}",
    )
    assert churn.settled > churn.sent / 2, "the consumers did not keep up: this measures nothing"
    check_growth(samples)


async def test_the_space_of_consumed_messages_comes_back(tmp_path, request):
    data = tmp_path / "data"
    async with Daemon(data, tmp_path) as daemon:
        wire = await Wire.open(daemon.port)
        await wire.call(DECLARE_QUEUE, "plain", {})
        await wire.call(SEND, "plain", [[b"kept"]])
        most = 0
        for _ in range(40):
            held: list[list[Any]] = []
            await wire.call(SEND, "plain", [[bytes(2 * 1024 * 1024)]])
            await wire.receive("plain", 10, 1_000, 60_000, held.append)
            await wire.call(ACK, "plain", [m[:2] for m in held if m[6] != b"kept"])
            most = max(most, sample(daemon.pid, data, 0).disk_bytes)
        until = time.monotonic() + RECLAIM_SECONDS_MAX
        while (now := sample(daemon.pid, data, 0).disk_bytes) > most // 2:
            assert time.monotonic() < until, f"{now} bytes are still taken: {os.listdir(data)}"
            await asyncio.sleep(0.2)
        wire.abort()
        assert await daemon.stop() == 0, daemon.log
    figures(request, f"at most {most / 1e6:.1f} MB on disk, {now / 1e6:.1f} MB after it was used")
