"""Topics for people: publish, subscribe, request and reply, the same in process and over the wire.

The part of a broker's face that is about topics and sessions; the rules are those of ``face.py``.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterable
from functools import partial
from operator import attrgetter
from typing import Any, Literal, overload

from .errors import BraidError, InvalidArgument, LimitExceeded, NoResponders, Unavailable
from .limits import Limits
from .message import CORRELATION_ID, REPLY_TO, TOPIC, HeaderMap, pack_headers
from .paging import paged
from .publishing import Posted, Published
from .received import Flow, Received, Reception, finish
from .values import NewPublication, Seconds, milliseconds
from .verbs import Interest, LevelInfo, SessionInfo, TopicConsumption, TopicInfo, Verbs

__all__ = ["REPLY_PREFIX", "TopicFace", "TopicMessage", "TopicMessages"]

REPLY_PREFIX = "reply/"  # answers come to reply/RANDOM/NUMBER
_CHUNK_MESSAGES = 1_000  # publish_many publishes so many at a time
_CHUNK_BYTES = 1024 * 1024
_RANDOM_BYTES = 12
_ANSWERS_PREFETCHED = 256


class TopicMessage(Received):
    """A message of a topic.

    One for a durable or shared subscription is held until it is settled, like a message of a
    queue. For any other :meth:`ack` and :meth:`nack` do nothing, so the code is the same.

    Attributes:
        topic: what it was published to.
        retained: whether it was there before the subscription.
    """

    __slots__ = ("retained",)

    def __init__(
        self, broker: "TopicFace", published: Published, messages: "TopicMessages | None" = None
    ) -> None:
        super().__init__(broker, published.queue, published, messages)
        self.retained = published.retained
        if not published.queue:
            self._settle([None])

    def __repr__(self) -> str:
        return f"<TopicMessage of {self.topic}, {len(self.body)} bytes>"

    @property
    def topic(self) -> str:
        return str(self.headers.get(TOPIC, ""))

    @property
    def id(self) -> str:
        """32 hex digits, unique in the whole world; "" for what no log holds."""
        return super().id if self._delivery.id else ""

    async def ack(self) -> None:
        """Done with it: it is never delivered again. Raises LeaseLost if it is not yours."""
        if self._source:
            await super().ack()

    async def nack(self, delay: Seconds = 0) -> None:
        """Give it back, to be delivered again after ``delay`` seconds. Raises LeaseLost."""
        if self._source:
            await super().nack(delay)

    async def extend(self, lease: Seconds) -> None:
        """Hold it for ``lease`` seconds from now on. Raises LeaseLost."""
        if self._source:
            await super().extend(lease)

    async def reply(self, body: bytes, *, headers: HeaderMap | None = None) -> bool:
        """Answer a request: whether somebody waits for it.

        Raises InvalidArgument when the message asks for no answer.
        """
        topic = self.headers.get(REPLY_TO)
        if not topic or not isinstance(topic, str):
            raise InvalidArgument("this message asks for no answer: it has no header reply-to")
        named = dict(headers or {})
        correlation = self.headers.get(CORRELATION_ID)
        if correlation is not None:
            named[CORRELATION_ID] = correlation
        return await self._broker.publish(topic, body, headers=named) > 0


class TopicMessages(Reception[TopicMessage, Published]):
    """The messages of a subscription, as they come: ``async for message in messages: ...``

    See :class:`Reception`. Use ``async with broker.subscribe(...) as messages``: the subscription
    is there when the block begins.
    """

    def __init__(self, broker: "TopicFace", interest: Interest, prefetch: int) -> None:
        super().__init__(prefetch)
        self._broker = broker
        self._interest = interest
        self._consumption: TopicConsumption | None = None

    @property
    def dropped(self) -> int:
        """How many live messages were dropped because they were not taken quickly enough."""
        return 0 if self._consumption is None else self._consumption.dropped

    @property
    def resumed(self) -> bool:
        """Whether the durable session was there before."""
        return self._consumption is not None and self._consumption.resumed

    async def _start(self) -> Flow[Published]:
        verbs = self._broker.verbs
        self._consumption = await verbs.subscribe(self._interest, self._prefetch)
        return self._consumption

    async def _stop(self) -> None:
        assert self._consumption is not None
        ready, self._ready = self._ready, []
        await self._consumption.close(ready)

    def _message(self, delivery: Published) -> TopicMessage:
        return TopicMessage(self._broker, delivery, self)


class _Inbox:
    """Where the answers to a program's requests come: one subscription for all of them."""

    def __init__(self, broker: "TopicFace") -> None:
        self._prefix = f"{REPLY_PREFIX}{secrets.token_urlsafe(_RANDOM_BYTES)}/"
        self._broker = broker
        self._waiting: dict[str, asyncio.Future[TopicMessage]] = {}
        self._count = 0
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._reader = asyncio.create_task(self._read())

    @property
    def is_over(self) -> bool:
        """Whether no answer will come any more."""
        return self._reader.done()

    async def _read(self) -> None:
        interest = Interest((self._prefix + "+",), retained=False)
        messages = TopicMessages(self._broker, interest, _ANSWERS_PREFETCHED)
        end: BraidError = Unavailable("the broker was closed")
        try:
            async with messages:
                self._opened.set_result(None)
                async for message in messages:
                    waiting = self._waiting.pop(message.topic, None)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
        except BraidError as error:
            end = error
        finally:
            futures: list[asyncio.Future[Any]] = [self._opened, *self._waiting.values()]
            for future in futures:
                if not future.done():
                    future.set_exception(end)
                    future.exception()  # seen, if nobody waits any more

    async def ask(self, topic: str, body: bytes, headers: HeaderMap, ttl_ms: int) -> TopicMessage:
        """Publish a request and wait for the first answer."""
        await asyncio.shield(self._opened)
        most = self._broker.limits.requests_in_flight_max
        if len(self._waiting) >= most:
            raise LimitExceeded(f"at most {most} requests wait for their answers")
        self._count += 1
        address = f"{self._prefix}{self._count}"
        waiting: asyncio.Future[TopicMessage] = asyncio.get_running_loop().create_future()
        self._waiting[address] = waiting
        named = {**headers, REPLY_TO: address, CORRELATION_ID: str(self._count)}
        try:
            if not await self._broker.publish(topic, body, headers=named, ttl=ttl_ms / 1000):
                raise NoResponders(f"nobody is subscribed to {topic}")
            return await waiting
        finally:
            self._waiting.pop(address, None)

    async def close(self) -> None:
        """No more requests."""
        self._reader.cancel()
        await asyncio.wait([self._reader])


class TopicFace:
    """What a broker can be asked about topics and sessions."""

    _inbox: _Inbox | None = None

    @property
    def verbs(self) -> Verbs:
        """The verbs below these methods: batches, milliseconds, packed headers."""
        raise NotImplementedError

    @property
    def instance(self) -> int:
        """Half of every message's id: which log it is in."""
        raise NotImplementedError

    @property
    def limits(self) -> Limits:
        """The broker's limits."""
        raise NotImplementedError

    # --- publishing ---

    async def publish(
        self,
        topic: str,
        body: bytes,
        *,
        retain: bool = False,
        headers: HeaderMap | None = None,
        ttl: Seconds = 0,
        qos: Literal[0, 1] = 1,
    ) -> int:
        """Publish a message: how many subscriptions it matched.

        Returns when all durable ones have it on disk.

        Args:
            retain: keep it for those who subscribe later; an empty body takes away what was kept.
            headers: text names, text or bytes values.
            ttl: seconds after which it is not delivered any more; 0: none.
            qos: 0 gives it to those who are there now, and waits for nothing.

        Raises:
            InvalidArgument, PermissionDenied, TooLarge, LimitExceeded (retained messages),
            QueueFull (if sessions refuse what they have no room for): it was not taken.
            StorageFull, Overloaded: not taken; trying again later can succeed.
            Disconnected: it may or may not have been taken.
        """
        message = NewPublication(body=body, retain=retain, headers=headers or {}, ttl=ttl)
        (result,) = await self.verbs.publish(topic, [self._posted(message)], qos)
        if isinstance(result, BraidError):
            raise result
        return result

    @overload
    async def publish_many(
        self, topic: str, messages: Iterable[bytes | NewPublication], *, qos: Literal[0, 1] = 1
    ) -> list[int]: ...

    @overload
    async def publish_many(
        self,
        topic: str,
        messages: Iterable[bytes | NewPublication],
        *,
        qos: Literal[0, 1] = 1,
        return_errors: Literal[True],
    ) -> list[int | BraidError]: ...

    async def publish_many(
        self,
        topic: str,
        messages: Iterable[bytes | NewPublication],
        *,
        qos: Literal[0, 1] = 1,
        return_errors: bool = False,
    ) -> list[int] | list[int | BraidError]:
        """Publish messages to one topic, in order and in few commits; one result for each.

        If some are refused, the others are published all the same, and the first refusal is
        raised, or with ``return_errors`` stands in its place in the list.
        """
        chunks: list[list[Posted]] = [[]]
        size = 0
        for message in messages:
            posted = self._posted(
                NewPublication(body=message) if isinstance(message, bytes) else message
            )
            size += len(posted.body)
            if len(chunks[-1]) >= _CHUNK_MESSAGES or (size > _CHUNK_BYTES and chunks[-1]):
                chunks.append([])
                size = len(posted.body)
            chunks[-1].append(posted)
        results: list[int | BraidError] = []
        for chunk in chunks:
            results += await self.verbs.publish(topic, chunk, qos) if chunk else ()
        counts = [result for result in results if not isinstance(result, BraidError)]
        if return_errors:
            return results
        refused = [result for result in results if isinstance(result, BraidError)]
        if refused:
            refused[0].add_note(f"{len(refused)} of {len(results)} messages were refused")
            raise refused[0]
        return counts

    def _posted(self, message: NewPublication) -> Posted:
        if not isinstance(message, NewPublication) or not isinstance(message.body, bytes):
            kind = type(getattr(message, "body", message)).__name__
            raise InvalidArgument(f"a body is bytes, not {kind}")
        return Posted(
            message.body,
            pack_headers(message.headers, self.limits),
            message.retain,
            milliseconds(message.ttl, "ttl"),
        )

    # --- subscribing ---

    def subscribe(
        self,
        *filters: str,
        durable: str = "",
        share: str = "",
        expiry: Seconds = 0,
        retained: bool = True,
        prefetch: int = 32,
    ) -> TopicMessages:
        """Messages of the topics that match: ``async with broker.subscribe("a/+") as messages:``

        Args:
            filters: topics; ``+`` stands for one level, ``#`` at the end for all further ones.
            durable: the name of a session that keeps messages while nobody is there. It has
                exactly these filters; with none it goes on with those that it has.
            share: a group whose members share the messages: each goes to one of them.
            expiry: seconds that a durable session outlives its connection; 0: as long as may be.
            retained: whether what the topics retain comes first, where a subscription is new.
            prefetch: how many messages are held here at a time.

        A message that several filters match comes once. Without ``durable`` and ``share`` nothing
        is kept: what the program does not take in time is dropped, and counted in ``dropped``.
        """
        expiry_ms = milliseconds(expiry, "expiry")
        interest = Interest(tuple(filters), durable, share, expiry_ms, retained)
        return TopicMessages(self, interest, prefetch)

    async def unsubscribe(self, durable: str) -> None:
        """End a durable subscription: its session and what waits there. Raises NotFound."""
        await self.verbs.unsubscribe(durable)

    # --- request and reply ---

    async def request(
        self,
        topic: str,
        body: bytes,
        *,
        timeout: Seconds = 10,
        headers: HeaderMap | None = None,
    ) -> TopicMessage:
        """Publish a message that asks for an answer, and wait for the first one.

        The answer comes to a topic below ``reply/``, which is for this program only. Nobody gets
        the request any more once ``timeout`` seconds are over.

        Raises:
            NoResponders: nobody is subscribed to the topic; told at once.
            TimeoutError: no answer came in time. Others as :meth:`publish` and :meth:`subscribe`.
        """
        ttl_ms = milliseconds(timeout, "timeout")
        if not ttl_ms:
            raise InvalidArgument("timeout is more than 0")
        if self._inbox is None or self._inbox.is_over:
            self._inbox = _Inbox(self)
        async with asyncio.timeout(ttl_ms / 1000):
            return await self._inbox.ask(topic, body, headers or {}, ttl_ms)

    async def close_inbox(self) -> None:
        """Wait for no more answers. Whoever closes the broker or the connection calls it."""
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            await finish(asyncio.ensure_future(inbox.close()))

    # --- looking ---

    def list_topics(self, filter: str = "#") -> AsyncIterator[TopicInfo]:
        """The topics that match and retain a message, as far as you may see them, by name."""
        return paged(partial(self.verbs.list_topics, filter), attrgetter("topic"))

    def topic_tree(self, prefix: str = "") -> AsyncIterator[LevelInfo]:
        """The levels that come next after ``prefix``, in retained topics and in filters."""
        return paged(partial(self.verbs.topic_tree, prefix), attrgetter("level"))

    def sessions(self, prefix: str = "") -> AsyncIterator[SessionInfo]:
        """The sessions that you may see, of all protocols, by name."""
        return paged(partial(self.verbs.list_sessions, prefix), attrgetter("name"))

    async def session(self, name: str) -> SessionInfo:
        """A session as it is now, with its filters. Raises NotFound."""
        return await self.verbs.session_info(name)

    async def kick(self, name: str, *, discard: bool = False) -> None:
        """End a client's connection, and with ``discard`` its session too. Raises NotFound."""
        await self.verbs.kick_session(name, discard)
