"""The server's side of transactions in the native protocol. Part of ``session.py``.

A TRANSACT holds requests as they are in frames of their own, and is answered by their replies. They
are decoded one by one, and no further than a transaction may go: a frame of tiny receipts would
become a heap of objects.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from ...broker import transactionverbs as step
from ...broker.errors import BraidError, InvalidArgument, at_step
from ...broker.message import Sent, check_attributes
from ...broker.scheduleverbs import ScheduleInfo
from . import operations as op
from . import schedule_operations as schedule_op
from . import stream_operations as stream_op
from .frames import append_frame, decode_step
from .streams import appending

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core
    from ...broker.limits import Limits
    from ...storage.log import Durability

__all__ = ["TransactionRequests", "read_steps"]

_O: Final = op.OPERATIONS


def read_steps(requests: Sequence[msgspec.Raw], limits: "Limits") -> list[step.Step]:
    """The steps that these are, but none behind the one that makes them too many.

    That one is refused by :meth:`Core.transact`. Raises InvalidArgument, TooLarge.
    """
    steps: list[step.Step] = []
    count = 0
    for index, raw in enumerate(requests):
        try:
            request = decode_step(raw)
            steps.append(_read(request, limits))
        except BraidError as error:
            raise at_step(error, index) from None
        count += _size(request)
        if count > limits.transaction_steps_max:
            break
    return steps


def _size(request: op.Step) -> int:
    """How many messages, records or receipts."""
    if isinstance(request, stream_op.Append):
        return len(request.bodies)
    if isinstance(request, op.Ack | op.Nack | op.DeadLetter):
        return len(request.receipts)
    return 1


def _read(request: op.Step, limits: "Limits") -> step.Step:
    match request:
        case op.Send(queue=queue, messages=[message]):
            _check(message.attributes, limits)
            return step.Send(queue, message)
        case op.Publish(topic=topic, messages=[post], qos=qos):
            _check(post.attributes, limits)
            return step.Publish(topic, post, qos)
        case op.Send() | op.Publish():
            raise InvalidArgument("as a step, SEND and PUBLISH have one message")
        case stream_op.Append():
            return step.Append(request.stream, appending(request, limits))
        case op.Ack():
            return step.Ack(request.queue, request.receipts)
        case op.Nack():
            return step.Nack(request.queue, request.receipts, request.delay_ms, request.counted)
        case op.DeadLetter():
            return step.DeadLetter(request.queue, request.receipts, request.reason)
        case schedule_op.Schedule():
            _check(request.attributes, limits)
            return step.Schedule(request.message())


def _check(attributes: bytes, limits: "Limits") -> None:
    if attributes:
        check_attributes(attributes, limits)


def _reply(number: int, result: step.Result) -> tuple[object, ...]:
    """What the request of a step is answered by."""
    if isinstance(result, Sent):
        return _O["SENT"], number, [(result.id, result.seq, result.duplicate)]
    if isinstance(result, ScheduleInfo):
        return _O["SCHEDULES"], number, [result]
    if isinstance(result, list):
        shards, numbers = zip(*result, strict=True)
        return _O["APPENDED"], number, shards, numbers
    if result is None:
        return _O["SETTLED"], number
    return _O["PUBLISHED"], number, [result]


class TransactionRequests:
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    _core: "Core"
    _limits: "Limits"
    _who: "Principal"
    _out: bytearray
    _sends: bool

    def _answers(self, level: "Durability") -> bytearray:
        raise NotImplementedError

    def _wait_for_slow(self, now_ms: int) -> None:
        raise NotImplementedError

    def on_transact(self, request: op.Transact, now_ms: int) -> None:
        number = request.request
        try:
            steps = read_steps(request.steps, self._limits)
            self._core.topics.slow.clear()  # what others, who do not wait, have left there
            level, results = self._core.transact(self._who, steps, now_ms)
        except BraidError as error:
            if error.step < 0:
                raise
            refusal = op.ItemError(error.step, error.code, str(error))
            append_frame(self._out, op.TransactedReply(number, [], [refusal]))
            return
        self._wait_for_slow(now_ms)
        replies = [_reply(index, result) for index, result in enumerate(results, 1)]
        append_frame(self._answers(level), (_O["TRANSACTED"], number, replies))
        self._sends = True
