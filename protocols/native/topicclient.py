"""The client's side of topics and sessions in the native protocol. Part of ``client.py``."""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol, cast

from ...broker.errors import BraidError
from ...broker.limits import Limits
from ...broker.publishing import Posted
from ...broker.verbs import Interest, LevelInfo, SessionInfo, TopicConsumption, TopicInfo
from .batches import note_published, posted_fields, split_posted
from .consumption import Holder, RemoteFlow, RemoteSubscription, Wire
from .operations import OPERATIONS, SubscribedReply

__all__ = ["TopicCalls"]


class _Caller(Holder, Protocol):
    """What ``NativeClient`` has for all its verbs."""

    limits: Limits
    flows: dict[RemoteFlow[Any], None]

    async def connected(self) -> Wire:
        """The connection, once it is there and takes more."""

    async def call(self, operation: str, *fields: object) -> Any:
        """Ask once."""

    async def read(self, operation: str, *fields: object) -> Any:
        """Ask for what changes nothing, again if need be."""


class TopicCalls:
    """The verbs of topics and sessions."""

    async def publish(
        self: _Caller, topic: str, messages: Sequence[Posted], qos: int = 1
    ) -> list[int | BraidError]:
        wire = await self.connected()
        batches, results = split_posted(topic, messages, self.limits)
        calls = [
            wire.call(
                OPERATIONS["PUBLISH"], topic, [posted_fields(messages[at]) for at in batch], qos
            )
            for batch in batches
        ]
        replies = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls)
        for batch, reply in zip(batches, replies, strict=True):
            note_published(results, batch, reply)
        return cast(list[int | BraidError], results)

    async def subscribe(self: _Caller, interest: Interest, credit: int) -> TopicConsumption:
        wire = await self.connected()
        subscription = RemoteSubscription(self, interest, credit)
        self.flows[subscription] = None
        subscription.attach(wire)
        try:
            reply = await asyncio.shield(subscription.opened)
        except BaseException:
            subscription.abandon()
            raise
        assert isinstance(reply, SubscribedReply)
        subscription.resumed = reply.resumed
        return subscription

    async def unsubscribe(self: _Caller, durable: str) -> None:
        await self.call("UNSUBSCRIBE", durable)

    async def list_topics(
        self: _Caller, filter: str = "#", after: str = "", limit: int = 1000
    ) -> list[TopicInfo]:
        found: list[TopicInfo] = (await self.read("LIST_TOPICS", filter, after, limit)).topics
        return found

    async def topic_tree(
        self: _Caller, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[LevelInfo]:
        found: list[LevelInfo] = (await self.read("TOPIC_TREE", prefix, after, limit)).levels
        return found

    async def list_sessions(
        self: _Caller, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[SessionInfo]:
        reply = await self.read("LIST_SESSIONS", prefix, after, limit)
        found: list[SessionInfo] = reply.sessions
        return found

    async def session_info(self: _Caller, name: str) -> SessionInfo:
        info: SessionInfo = (await self.read("SESSION_INFO", name)).sessions[0]
        return info

    async def kick_session(self: _Caller, name: str, discard: bool = False) -> None:
        await self.call("KICK_SESSION", name, discard)
