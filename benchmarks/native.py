"""The load over ``braid://``: connections, and the pacing of an open loop.

Open loop: every request has a time at which it should be sent, whatever the broker does, and its
latency counts from then on (so a broker that stalls cannot hide it: no coordinated omission). A
tick each millisecond sends all that is due. How late a tick is for what it sends is the generator's
own lag, recorded apart; a request held back because the window is full is the broker's.
"""

import asyncio
import random
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

from ..protocols.native.client import PORT, connect
from .integrity import STAMP_BYTES
from .meter import Meter, Plan
from .peer import cpu_seconds
from .wire import Connection, Producer, Puller, Pusher

__all__ = ["NativeDriver"]

_TICK_SECONDS: Final = 0.001
_C = TypeVar("_C", bound=Connection)


class NativeDriver:
    """Producers and consumers, each a connection. See ``phases.Driver``."""

    def __init__(self, plan: Plan, meter: Meter) -> None:
        self._plan = plan
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._producers: list[Producer] = []
        self._consumers: list[Pusher | Puller] = []
        self._control = connect(plan.url)
        self._random = random.Random(plan.seed)
        self._pacing: asyncio.TimerHandle | None = None
        self._start_ns = 0
        self._made = 0  # open loop: requests so far

    @property
    def unanswered(self) -> int:
        """Sends that wait for their answer."""
        return sum(producer.unanswered for producer in self._producers)

    def cpu_seconds(self) -> float:
        """What the broker has used so far."""
        return cpu_seconds(self._plan.server_pid)

    async def syncs(self) -> tuple[int, float]:
        """Synced commits so far, and the seconds they took."""
        log = (await self._control.info()).log
        return int(log.get("synced_commits", 0)), float(log.get("sync_seconds_total", 0))

    async def open(self) -> None:
        """Make the queue; connect the producers."""
        plan = self._plan
        await self._control.__aenter__()
        await self._control.declare_queue(plan.queue, durability=plan.durability)
        for account in self._meter.accounts:
            payload = self._random.randbytes(plan.size - STAMP_BYTES)
            producer = Producer(self._loop, self._meter, plan, account, payload)
            self._producers.append(await self._connect(producer))

    async def _connect(self, connection: _C) -> _C:
        parts = urlsplit(self._plan.url)
        connection.user = unquote(parts.username or "")
        connection.password = unquote(parts.password or "").encode()
        await self._loop.create_connection(
            lambda: connection,
            parts.hostname or "127.0.0.1",
            PORT if parts.port is None else parts.port,
        )
        async with asyncio.timeout(10):
            await connection.ready
        return connection

    def produce(self) -> None:
        """Begin to send."""
        if self._plan.rate:
            self._start_ns = self._meter.now_ns()
            self._tick()
        for producer in self._producers:
            producer.start()

    def _tick(self) -> None:
        """Send what is due."""
        now_ns = self._meter.now_ns()
        step_ns = 1e9 * self._plan.batch / self._plan.rate
        due = int((now_ns - self._start_ns) / step_ns) + 1
        producers = self._producers
        for number in range(self._made, due):
            intended_ns = self._start_ns + int(number * step_ns)
            self._meter.lag.record(now_ns - intended_ns)
            producers[number % len(producers)].due(intended_ns)
        self._made = due
        for producer in producers:
            producer.on_read()
        self._pacing = self._loop.call_later(_TICK_SECONDS, self._tick)

    def stop(self) -> None:
        """Send no more."""
        if self._pacing is not None:
            self._pacing.cancel()
        for producer in self._producers:
            producer.stop()

    async def consume(self) -> None:
        """Connect the consumers, then begin."""
        plan = self._plan
        kind = Pusher if plan.mode == "push" else Puller
        for _ in range(plan.consumers):
            self._consumers.append(await self._connect(kind(self._loop, self._meter, plan)))
        for consumer in self._consumers:
            consumer.start()

    async def finish(self) -> int:
        """Hang up; delete the queue; how many messages it still held."""
        self.stop()
        for producer in self._producers:
            producer.give_up()
        everybody: list[Connection] = [*self._producers, *self._consumers]
        for connection in everybody:
            connection.close()
        queue = self._control.queue(self._plan.queue)
        try:
            left = (await queue.info()).messages
            if self._plan.shape != "fill":
                await queue.delete()
        finally:
            await self._control.__aexit__(None, None, None)
        return left
