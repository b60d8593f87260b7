"""A broker seen from this process, and the same over a wire: every face is tested on both."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from braidmq.broker import Broker, BrokerFace, Limits, SessionPolicy
from braidmq.protocols import connect, serve

__all__ = ["opened"]


@asynccontextmanager
async def opened(
    where: str,
    limits: Limits | None = None,
    path: str | None = None,
    sessions: SessionPolicy | None = None,
) -> AsyncIterator[BrokerFace]:
    """A new broker, "local" or "remote"."""
    async with Broker(path, limits=limits, sessions=sessions) as local:
        if where == "local":
            yield local
        else:
            async with serve(local, "braid://127.0.0.1:0", grace=0) as server:
                async with connect(server.urls[0]) as remote:
                    yield remote
