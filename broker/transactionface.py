"""Transactions for people, in process and over the wire: ``async with broker.transaction() as tx``.

The steps are noted while the block runs, and asked for together at its end. What they mean, and how
they are checked, is in ``transaction.py``.
"""

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, Unpack

from .errors import InvalidArgument
from .message import PRIORITY_DEFAULT, HeaderMap, Sent
from .received import Received, finish
from .recordreader import Position
from .scheduleface import ScheduleOptions, scheduled
from .scheduleverbs import ScheduleInfo
from .streamface import NewRecord, Stream
from .transactionverbs import Ack, Append, DeadLetter, Nack, Publish, Result, Schedule, Send, Step
from .values import NewMessage, NewPublication, Seconds, SentMessage, milliseconds

if TYPE_CHECKING:
    from .face import BrokerFace, Queue

__all__ = ["Transaction"]

_Shown = SentMessage | int | Position | ScheduleInfo | None


class Transaction:
    """Steps that happen together or not at all, when the block ends.

    ::

        async with broker.transaction() as tx:
            tx.ack(message)
            tx.send("shipping", body)
            tx.publish("orders/shipped", body)

    The end of the block returns when all of it is kept. When the block raises or is cancelled,
    nothing happens, and what was received is still held. So it is when a step cannot be done:

    Raises (the end of the block):
        BraidError: what the step alone would raise; its ``step`` says which it was, from 0 on.
        LimitExceeded, TooLarge: also when there are too many steps (``transaction_steps_max``), or
            too much to write (``transaction_bytes_max``; over a connection also
            ``frame_bytes_max``).
        Disconnected: all of it may have happened, or nothing. What was received and acknowledged
            here comes again if nothing has.

    Attributes:
        results: of the steps, in order, when the block has ended: what ``send``, ``publish``,
            ``append``, ``schedule`` return when they are called alone; None for what was settled.
    """

    def __init__(self, broker: "BrokerFace") -> None:
        self.results: list[_Shown] = []
        self._broker = broker
        self._steps: list[Step] = []
        self._settling: list[Received] = []
        self._open = False

    def send(
        self,
        queue: "str | Queue",
        body: bytes,
        *,
        headers: HeaderMap | None = None,
        delay: Seconds | None = None,
        ttl: Seconds = 0,
        priority: int = PRIORITY_DEFAULT,
        group: str = "",
        dedup_id: str = "",
    ) -> None:
        """Send a message, as :meth:`Queue.send` does."""
        name = queue if isinstance(queue, str) else queue.name
        message = NewMessage(
            body=body,
            headers=headers or {},
            delay=delay,
            ttl=ttl,
            priority=priority,
            group=group,
            dedup_id=dedup_id,
        )
        self._add(Send(name, self._broker._outgoing(message)))

    def publish(
        self,
        topic: str,
        body: bytes,
        *,
        retain: bool = False,
        headers: HeaderMap | None = None,
        ttl: Seconds = 0,
        qos: Literal[0, 1] = 1,
    ) -> None:
        """Publish a message, as ``broker.publish`` does."""
        message = NewPublication(body=body, retain=retain, headers=headers or {}, ttl=ttl)
        self._add(Publish(topic, self._broker._posted(message), qos))

    def append(
        self,
        stream: str | Stream,
        body: bytes,
        *,
        key: str = "",
        headers: HeaderMap | None = None,
        hash_key: int | None = None,
    ) -> None:
        """Append a record, as :meth:`Stream.append` does."""
        name = stream.name if isinstance(stream, Stream) else stream
        record = NewRecord(body=body, key=key, headers=headers or {}, hash_key=hash_key)
        self._add(Append(name, Stream(self._broker, name)._columns([record], b"")))

    def ack(self, message: Received) -> None:
        """Done with a message: it is never delivered again."""
        self._settle(message, Ack(message._source, [message.receipt]))

    def nack(self, message: Received, delay: Seconds = 0) -> None:
        """Give a message back, to be delivered again after ``delay`` seconds."""
        delay_ms = milliseconds(delay, "delay")
        self._settle(message, Nack(message._source, [message.receipt], delay_ms))

    def dead_letter(self, message: Received, reason: str = "") -> None:
        """Move a message to its queue's dead-letter queue."""
        self._settle(message, DeadLetter(message._source, [message.receipt], reason))

    def schedule(self, body: bytes, **options: Unpack[ScheduleOptions]) -> None:
        """Have a message sent later, as ``broker.schedule`` does; it counts from when this ends."""
        self._add(Schedule(scheduled(self._broker.limits, body, **options)))

    def _settle(self, message: Received, step: Step) -> None:
        if message._broker is not self._broker:
            raise InvalidArgument("this message is of another broker")
        if message._source:  # else nobody holds it, and there is nothing to settle
            self._add(step)
            self._settling.append(message)

    def _add(self, step: Step) -> None:
        if not self._open:
            raise InvalidArgument("steps belong into `async with broker.transaction() as tx`")
        self._steps.append(step)

    async def __aenter__(self) -> Self:
        if self._steps or self.results:
            raise InvalidArgument("a transaction is entered once")
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open = False
        if error is None and self._steps:
            await finish(asyncio.ensure_future(self._commit()))

    async def _commit(self) -> None:
        results = await self._broker.verbs.transact(self._steps)
        self.results = [self._shown(result) for result in results]
        for message in self._settling:
            message._settle([None])

    def _shown(self, result: Result) -> _Shown:
        if isinstance(result, Sent):
            return SentMessage(self._broker.instance, result.id, result.seq, result.duplicate)
        return Position(*result[0]) if isinstance(result, list) else result
