"""What was received: messages, held until they are settled, and the consumers they come from.

The same for queues and for topics (``face.py``, ``topicface.py``), in process and over the wire.
"""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

from .errors import BraidError, InvalidArgument, LeaseLost
from .lease import Exclusivity
from .message import GROUP_ID, Delivery, Headers, Receipt, unpack_headers
from .values import ExclusivityName, Seconds, message_id, milliseconds, moment
from .verbs import Consumption, Verbs

if TYPE_CHECKING:
    from .face import Queue
    from .topicface import TopicFace

__all__ = ["Flow", "Message", "MessageConsumer", "Received", "Reception", "finish"]

_T = TypeVar("_T")
M = TypeVar("M", bound="Received")
D = TypeVar("D", bound=Delivery)

_EXCLUSIVITIES: dict[str, Exclusivity] = {each.name.lower(): each for each in Exclusivity}


async def finish(task: "asyncio.Task[_T]") -> _T:
    """Wait for the end of ``task`` even when cancelled meanwhile; then be cancelled."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # seen
        raise cancelled
    return task.result()


class Received:
    """A received message: yours until you settle it, or until its lease ends.

    ``async with message:`` acknowledges it at the end, and gives it back when the block raises or
    is cancelled.

    Attributes:
        body: the bytes that were sent.
        receives: how often it was received, this time included.
        settled: whether it was acknowledged, given back or dead-lettered here.
    """

    __slots__ = ("_broker", "_delivery", "_headers", "_reception", "_source", "settled")

    def __init__(
        self,
        broker: "TopicFace",
        source: str,
        delivery: Delivery,
        reception: "Reception[Any, Any] | None",
    ) -> None:
        self._broker = broker
        self._source = source  # the queue that settles it
        self._delivery = delivery
        self._reception = reception
        self._headers: Headers | None = None
        self.settled = False

    @property
    def body(self) -> bytes:
        return self._delivery.body

    @property
    def receives(self) -> int:
        return self._delivery.receives

    @property
    def id(self) -> str:
        """32 hex digits, unique in the whole world; kept through every hop."""
        return message_id(self._broker.instance, self._delivery.id)

    @property
    def headers(self) -> Headers:
        """The header map: text or bytes by name."""
        if self._headers is None:
            self._headers = unpack_headers(self._delivery.attributes)
        return self._headers

    @property
    def sent_at(self) -> datetime:
        """When the broker took it, UTC."""
        return moment(self._delivery.time_ms)

    @property
    def receipt(self) -> Receipt:
        """What proves that the message is held here."""
        return self._delivery.receipt

    @property
    def _verbs(self) -> Verbs:
        return self._broker.verbs

    async def ack(self) -> None:
        """Done with it: it is never delivered again. Raises LeaseLost if it is not yours."""
        self._settle(await self._verbs.ack(self._source, [self.receipt]))

    async def nack(self, delay: Seconds = 0) -> None:
        """Give it back, to be delivered again after ``delay`` seconds. Raises LeaseLost."""
        delay_ms = milliseconds(delay, "delay")
        self._settle(await self._verbs.nack(self._source, [self.receipt], delay_ms))

    async def extend(self, lease: Seconds) -> None:
        """Hold it for ``lease`` seconds from now on. Raises LeaseLost."""
        lease_ms = milliseconds(lease, "lease")
        (error,) = await self._verbs.extend(self._source, [self.receipt], lease_ms)
        if error is not None:
            raise error

    def _settle(self, results: list[BraidError | None]) -> None:
        (error,) = results
        if error is None or isinstance(error, LeaseLost):
            if not self.settled:
                self.settled = True
                if self._reception is not None:
                    self._reception.one_settled()
        if error is not None:
            raise error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.settled:
            return
        if error is None:
            await self.ack()
            return
        try:
            await finish(asyncio.ensure_future(self.nack()))
        except BraidError as failure:
            error.add_note(f"and the message could not be given back: {failure}")


class Message(Received):
    """A message of a queue. See :class:`Received`.

    Attributes:
        sequence: its number in the queue.
    """

    __slots__ = ()

    def __init__(
        self, queue: "Queue", delivery: Delivery, consumer: "MessageConsumer | None" = None
    ) -> None:
        super().__init__(queue.broker, queue.name, delivery, consumer)

    def __repr__(self) -> str:
        return f"<Message {self.sequence} of {self._source}, {len(self.body)} bytes>"

    @property
    def sequence(self) -> int:
        return self._delivery.seq

    @property
    def group(self) -> str:
        """The message group of a FIFO queue, "" for none."""
        return str(self.headers.get(GROUP_ID, ""))

    async def dead_letter(self, reason: str = "") -> None:
        """Move it to the queue's dead-letter queue now. Raises LeaseLost, or InvalidArgument."""
        self._settle(await self._verbs.dead_letter(self._source, [self.receipt], reason))


class Flow(Protocol[D]):
    """What ``Consumption`` and ``TopicConsumption`` have in common."""

    async def next(self) -> list[D]:
        """Wait for the next deliveries."""

    def credit(self, count: int) -> None:
        """Allow ``count`` more messages."""

    async def close(self) -> None:
        """Stop. All it still holds goes back."""


class Reception(Generic[M, D]):
    """Messages as they come: ``async for message in ...``

    At most ``prefetch`` messages are held at a time; each settled one makes room for another. They
    are held as long as this lives: when the loop ends by ``break``, an exception or cancellation,
    everything unsettled goes back, what was not handed out yet without counting as received. Over
    a connection it resumes by itself when that comes back.

    Use it with ``async with ... as messages: async for message in messages: ...`` to decide the
    moment of the end.
    """

    def __init__(self, prefetch: int) -> None:
        if prefetch < 1:
            raise InvalidArgument("prefetch is at least 1")
        self._prefetch = prefetch
        self._flow: Flow[D] | None = None
        self._ready: list[D] = []  # the next one is the last
        self._settled = 0
        self._closed = False
        self._managed = False
        self._closing: asyncio.Future[None] | None = None

    async def _start(self) -> Flow[D]:
        """Ask the broker for messages."""
        raise NotImplementedError

    async def _stop(self) -> None:
        """End what was started; what is ready was not handed out."""
        raise NotImplementedError

    def _message(self, delivery: D) -> M:
        """What is handed out."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._managed = True
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def __aiter__(self) -> AsyncIterator[M]:
        task = None if self._managed else asyncio.current_task()
        try:
            if task is not None:
                # An exception leaves this generator where it is until it is collected, which a
                # task that keeps its exception may put off for ever.
                task.add_done_callback(self._on_task_done)
            flow = await self._open()
            while not self._closed:
                if not self._ready:
                    self._ready = (await flow.next())[::-1]
                    continue
                yield self._message(self._ready.pop())
        finally:
            if task is not None:
                task.remove_done_callback(self._on_task_done)
                await self.close()

    def _on_task_done(self, task: "asyncio.Task[object]") -> None:
        self._closing = asyncio.ensure_future(self.close())

    async def close(self) -> None:
        """Give everything back that is not settled. Closing twice is fine."""
        if self._closed:
            return
        self._closed = True
        if self._flow is not None:
            await finish(asyncio.ensure_future(self._stop()))

    async def _open(self) -> Flow[D]:
        if self._closed:
            raise InvalidArgument("this consumer was closed")
        if self._flow is None:
            opening = asyncio.ensure_future(self._start())
            try:
                self._flow = await finish(opening)
            except asyncio.CancelledError:
                if opening.exception() is None:
                    await finish(asyncio.ensure_future(opening.result().close()))
                raise
        return self._flow

    def one_settled(self) -> None:
        """Make room for another message, some at a time."""
        self._settled += 1
        if self._settled * 4 >= self._prefetch and not self._closed:
            assert self._flow is not None
            self._flow.credit(self._settled)
            self._settled = 0


class MessageConsumer(Reception[Message, Delivery]):
    """The messages of a queue, as they come. See :class:`Reception`."""

    def __init__(
        self,
        queue: "Queue",
        prefetch: int,
        where: str,
        priority: int,
        exclusive: ExclusivityName,
    ) -> None:
        super().__init__(prefetch)
        if exclusive not in _EXCLUSIVITIES:
            raise InvalidArgument(f"exclusive is one of {', '.join(_EXCLUSIVITIES)}")
        self._queue = queue
        self._wishes = where, priority, _EXCLUSIVITIES[exclusive]
        self._consumption: Consumption | None = None

    async def _start(self) -> Consumption:
        verbs = self._queue.broker.verbs
        self._consumption = await verbs.consume(self._queue.name, self._prefetch, *self._wishes)
        return self._consumption

    async def _stop(self) -> None:
        assert self._consumption is not None
        receipts = [delivery.receipt for delivery in self._ready]
        self._ready = []
        await self._consumption.close(receipts)

    def _message(self, delivery: Delivery) -> Message:
        return Message(self._queue, delivery, self)
