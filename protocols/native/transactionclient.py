"""The client's side of transactions in the native protocol. Part of ``client.py``.

A transaction is one request, in one frame. When the connection ends before it is answered, all of
it has happened or nothing, and it is not asked for again.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import msgspec

from ...broker.errors import LimitExceeded, TooLarge, error_from_code
from ...broker.limits import Limits
from ...broker.transactionverbs import (
    Ack,
    Append,
    DeadLetter,
    Nack,
    Publish,
    Result,
    Schedule,
    Send,
    Step,
)
from .batches import ENVELOPE_BYTES, message_fields, posted_fields
from .operations import (
    BATCH_DECODED_MAX,
    OPERATIONS,
    PublishedReply,
    SentReply,
    SettledReply,
    TransactedReply,
)
from .scheduleclient import schedule_fields
from .stream_operations import AppendedReply
from .streamclient import record_fields

__all__ = ["TransactionCalls"]

_O: Final = OPERATIONS


class _Caller(Protocol):
    limits: Limits

    async def call(self, operation: str, *fields: object) -> Any: ...


class TransactionCalls:
    """The verb of transactions."""

    async def transact(self: _Caller, steps: Sequence[Step]) -> list[Result]:
        if len(steps) > BATCH_DECODED_MAX:
            raise LimitExceeded(f"a transaction has at most {BATCH_DECODED_MAX} steps")
        packed = msgspec.msgpack.encode([_request(n, step) for n, step in enumerate(steps, 1)])
        room = self.limits.frame_bytes_max - ENVELOPE_BYTES
        if len(packed) > room:
            raise TooLarge(f"over a connection, a transaction has at most {room} bytes")
        reply: TransactedReply = await self.call("TRANSACT", msgspec.Raw(packed))
        for error in reply.errors:
            refusal = error_from_code(error.code, error.text)
            refusal.step = error.index
            raise refusal
        return [_result(each) for each in reply.replies]


def _request(number: int, step: Step) -> tuple[object, ...]:
    """The request that does a step alone."""
    match step:
        case Send():
            return _O["SEND"], number, step.queue, [message_fields(step.message)]
        case Publish():
            return _O["PUBLISH"], number, step.topic, [posted_fields(step.message)], step.qos
        case Append():
            fields = record_fields(step.batch, range(len(step.batch.bodies)))
            return _O["APPEND"], number, step.stream, *fields
        case Ack():
            return _O["ACK"], number, step.queue, step.receipts
        case Nack():
            fields = step.queue, step.receipts, step.delay_ms, step.counted
            return _O["NACK"], number, *fields
        case DeadLetter():
            return _O["DEAD_LETTER"], number, step.queue, step.receipts, step.reason
        case Schedule():
            return _O["SCHEDULE"], number, *schedule_fields(step.message)


def _result(reply: Any) -> Result:
    """What the reply to that request says."""
    result: Result
    if isinstance(reply, SentReply | PublishedReply):
        (result,) = reply.results
    elif isinstance(reply, AppendedReply):
        result = list(zip(reply.shards, reply.numbers, strict=True))
    elif isinstance(reply, SettledReply):
        result = None
    else:
        (result,) = reply.schedules
    return result
