"""A broker on the loop of the test, for MQTT and WebSocket, and clients that get ended."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from braidmq.broker import Broker
from braidmq.protocols import serve

from .facade import Client, Kind
from .remote import stop_all

Join = Callable[..., Awaitable[Any]]


@pytest.fixture(autouse=True, scope="session")
def processes() -> Iterator[None]:
    yield
    stop_all()


class Served:
    """A broker and where it listens."""

    def __init__(self, broker: Broker, urls: list[str]) -> None:
        self.broker = broker
        self.urls = urls

    def url(self, kind: Kind) -> str:
        return self.urls[kind.websocket]


@pytest.fixture
async def start() -> AsyncIterator[Callable[..., Awaitable[Served]]]:
    """start(mqtt listener, http listener, users=..., jwt=...): a broker in memory."""
    async with AsyncExitStack() as stack:

        async def run(*listeners: Any, jwt: Any = None, **options: Any) -> Served:
            listeners = listeners or ("mqtt://127.0.0.1:0", "http://127.0.0.1:0")
            broker = await stack.enter_async_context(Broker(**options))
            server = await stack.enter_async_context(serve(broker, *listeners, jwt=jwt, grace=1))
            return Served(broker, server.urls)

        yield run


@pytest.fixture
async def served(start: Callable[..., Awaitable[Served]]) -> Served:
    """A broker that lets everybody do everything."""
    return await start()


class Clients:
    """Opens clients, and ends those that the test did not."""

    def __init__(self) -> None:
        self._open: list[Client] = []

    async def join(self, kind: Kind, url: str, **options: Any) -> Client:
        """A client that is connected. Raises Refused."""
        return await self.open(kind(url, **options))

    async def open(self, client: Client) -> Client:
        why = client.kind.missing()
        if why:
            pytest.skip(why)
        self.present = await client.connect()
        self._open.append(client)
        return client

    async def leave(self, client: Client) -> None:
        self._open.remove(client)
        await client.leave()

    async def vanish(self, client: Client) -> None:
        self._open.remove(client)
        await client.vanish()

    async def end(self) -> None:
        await asyncio.gather(*(client.vanish() for client in self._open))


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    every = Clients()
    yield every
    await every.end()


@pytest.fixture
def join(served: Served, clients: Clients) -> Join:
    """join(kind, ...): a client of the broker that lets everybody in."""

    async def connect(kind: Kind, **options: Any) -> Client:
        return await clients.join(kind, served.url(kind), **options)

    return connect
