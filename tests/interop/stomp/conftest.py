"""A broker on the loop of the test, for STOMP over TCP and WebSocket, and clients of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from braidmq.broker.config import Listener
from braidmq.broker.stomp_options import StompOptions

from .facade import Client, Kind

Join = Callable[..., Awaitable[Client]]


class Served:
    """A broker and where it listens."""

    def __init__(self, broker: Any, urls: list[str]) -> None:
        self.broker = broker
        self.urls = urls

    def url(self, kind: Kind) -> str:
        return self.urls[kind.websocket]


@pytest.fixture
async def start_stomp(start) -> Callable[..., Awaitable[Served]]:
    """start_stomp(dialect, ...): a broker for STOMP and HTTP, and what else is wanted."""

    async def run(dialect: Any = "activemq", *more: Any, beats: int = 1000, **options: Any):
        stomp = StompOptions(dialect=dialect, heart_beat_ms_min=beats)
        own = [Listener(url=f"{scheme}://127.0.0.1:0", stomp=stomp) for scheme in ("stomp", "http")]
        served = await start(*own, *more, **options)
        return Served(served.broker, served.urls)

    return run


@pytest.fixture
async def activemq(start_stomp) -> Served:
    """A broker that lets everybody do everything."""
    served: Served = await start_stomp("activemq")
    return served


@pytest.fixture(params=["activemq", "rabbitmq"])
async def served(request, start_stomp) -> Served:
    """Each of the two in turn, for what both dialects have in common."""
    found: Served = await start_stomp(request.param)
    return found


@pytest.fixture
async def rabbitmq(start_stomp) -> Served:
    served: Served = await start_stomp("rabbitmq")
    return served


@pytest.fixture
async def enter() -> AsyncIterator[Join]:
    """enter(kind, served, ...): a client that is connected. It is ended after the test."""
    opened: list[Client] = []

    async def connect(kind: Kind, served: Served, **options: Any) -> Client:
        why = kind.missing()
        if why:
            pytest.skip(why)
        client = kind(served.url(kind), **options)
        opened.append(client)
        await client.connect()
        return client

    yield connect
    await asyncio.gather(*(client.vanish() for client in opened), return_exceptions=True)
