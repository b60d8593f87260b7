"""The server's side of the messages of queues in the native protocol. Part of ``session.py``.

A consumer is named by the number of its CONSUME. The core never knows of more credit of one than
about ``DELIVER_BYTES`` worth of messages, and of none while the peer does not read: that bounds
what waits here.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from ...broker.errors import BraidError, InvalidArgument, Overloaded
from ...broker.message import Browsed, Delivery, check_attributes
from . import operations as op
from .frames import (
    append_browsed,
    append_deliveries,
    append_frame,
    append_sent,
    append_sent_run,
    append_settled,
)

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core
    from ...broker.lease import Consumer
    from ...broker.limits import Limits
    from ...storage.log import Durability
    from ..session import Host

__all__ = ["DELIVER_BYTES", "WINDOW_FIRST_MESSAGES", "Push", "QueueRequests"]

DELIVER_BYTES = 1024 * 1024
WINDOW_FIRST_MESSAGES = 16  # credit passed on before the size of the messages is known


class Push:
    """A CONSUME: how much credit the client gave, and how much of it the core knows about."""

    __slots__ = ("consumer", "granted", "hungry", "request", "wanted", "window")

    def __init__(self, request: int, wanted: int) -> None:
        self.request = request
        self.consumer: Consumer | None = None
        self.wanted = wanted  # given by the client, not yet passed on
        self.granted = 0  # passed on, not yet used
        self.window = WINDOW_FIRST_MESSAGES  # the most that may be passed on at a time
        self.hungry = True  # stands in the list of those to pass credit on for


class QueueRequests:
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    finished: bool
    _core: "Core"
    _host: "Host"
    _limits: "Limits"
    _who: "Principal"
    _out: bytearray
    _open: dict[int, Any]
    _unanswered: int
    _sends: bool
    _peer_is_slow: bool
    _hungry: list[Push]
    _surplus: "list[tuple[Consumer, list[Delivery]]]"

    def _answers(self, level: "Durability", count: int = 1) -> bytearray:
        raise NotImplementedError

    def _check_new(self, request: int) -> None:
        raise NotImplementedError

    def _error(self, request: int, error: BraidError) -> None:
        raise NotImplementedError

    # --- what the core calls ---

    def deliver(self, consumer: "Consumer", deliveries: list[Delivery]) -> None:
        """Send leased messages to whoever asked for them."""
        tag = consumer.tag
        out = self._out
        if isinstance(tag, Push):
            before = len(out)
            append_deliveries(out, tag.request, False, deliveries, DELIVER_BYTES)
            count = len(deliveries)
            tag.granted -= count
            average = (len(out) - before) // count + 1
            tag.window = max(1, min(DELIVER_BYTES // average, self._limits.credit_max))
            self._feed_later(tag)
        else:
            assert isinstance(tag, int)
            del self._open[tag]
            if deliveries and (self._peer_is_slow or len(out) > self._limits.outbound_bytes_max):
                self._surplus.append((consumer, deliveries))
            else:
                append_deliveries(out, tag, True, deliveries, DELIVER_BYTES)
        self._host.wake()

    def closed(self, consumer: "Consumer", error: BraidError) -> None:
        """The queue is gone, or cannot be read."""
        tag = consumer.tag
        request = tag.request if isinstance(tag, Push) else tag
        assert isinstance(request, int)
        self._open.pop(request, None)
        self._error(request, error)
        self._host.wake()

    def _on_browsed(self, request: object, result: list[Browsed] | BraidError) -> None:
        assert isinstance(request, int)
        if self.finished:
            return
        self._unanswered -= 1
        if isinstance(result, BraidError):
            self._error(request, result)
        elif self._peer_is_slow or len(self._out) > self._limits.outbound_bytes_max:
            self._error(request, Overloaded("read what was answered, then ask again"))
        else:
            append_browsed(self._out, request, result, DELIVER_BYTES)
        self._host.wake()

    # --- what the session calls ---

    def _feed_later(self, push: Push) -> None:
        if push.wanted and not push.hungry:
            push.hungry = True
            self._hungry.append(push)

    def _pass_credit_on(self) -> None:
        hungry = self._hungry
        self._hungry = []
        for push in hungry:
            push.hungry = False
            count = min(push.wanted, push.window - push.granted)
            if count > 0 and push.consumer is not None:
                push.wanted -= count
                push.granted += count
                self._core.credit(push.consumer, count)

    def _return_surplus(self, now_ms: int) -> None:
        """Give back what was received while too much waits here; the client may ask again."""
        surplus = self._surplus
        self._surplus = []
        for consumer, deliveries in surplus:
            receipts = [delivery.receipt for delivery in deliveries]
            with suppress(BraidError):  # the queue, or the right to it, may be gone
                self._core.nack(self._who, consumer.queue_name, receipts, 0, False, now_ms)
            append_deliveries(self._out, cast(int, consumer.tag), True, (), DELIVER_BYTES)

    def _give_messages(self, push: Push, count: int) -> None:
        push.wanted = min(push.wanted + count, self._limits.credit_max - push.granted)
        self._feed_later(push)

    # --- one method per operation ---

    def on_send(self, request: op.Send, now_ms: int) -> None:
        for message in request.messages:
            if message.attributes:
                check_attributes(message.attributes, self._limits)
        level, results = self._core.send(self._who, request.queue, request.messages, now_ms)
        append_sent(self._answers(level), request.request, results)
        self._sends = True

    def on_sends(
        self, like: op.Send, requests: list[int], bodies: list[bytes], now_ms: int
    ) -> None:
        """SENDs that differ from ``like``, which was handled, in request and body."""
        [message] = like.messages
        try:
            level, taken = self._core.send_run(self._who, like.queue, message, bodies, now_ms)
            if taken:
                append_sent_run(self._answers(level, len(requests)), requests, taken)
                return
        except BraidError as error:
            for request in requests:
                self._error(request, error)
            return
        fields = message.delay_ms, message.ttl_ms, message.priority, message.group, message.dedup_id
        for request, body in zip(requests, bodies, strict=True):
            again = op.WireOutgoing(body, message.attributes, *fields)
            try:
                self.on_send(op.Send(request, like.queue, [again]), now_ms)
            except BraidError as error:
                self._error(request, error)

    def on_receive(self, request: op.Receive, now_ms: int) -> None:
        self._check_new(request.request)
        self._open[request.request] = self._core.receive(
            self._who,
            request.queue,
            self,
            request.max_messages,
            request.wait_ms,
            request.lease_ms,
            request.selector,
            request.attempt,
            request.request,
            now_ms,
        )

    def on_consume(self, request: op.Consume, now_ms: int) -> None:
        self._check_new(request.request)
        if request.credit > self._limits.credit_max:
            raise InvalidArgument(f"credit is at most {self._limits.credit_max}")
        push = Push(request.request, request.credit)
        push.consumer = self._core.consume(
            self._who,
            request.queue,
            self,
            0,
            request.selector,
            push,
            now_ms,
            request.priority,
            request.exclusive,
        )
        self._open[request.request] = push.consumer
        self._hungry.append(push)
        append_frame(self._out, op.DoneReply(request.request))

    def on_ack(self, request: op.Ack, now_ms: int) -> None:
        level, errors = self._core.ack(self._who, request.queue, request.receipts, now_ms)
        append_settled(self._answers(level), request.request, errors)

    def on_nack(self, request: op.Nack, now_ms: int) -> None:
        level, errors = self._core.nack(
            self._who, request.queue, request.receipts, request.delay_ms, request.counted, now_ms
        )
        append_settled(self._answers(level), request.request, errors)

    def on_extend(self, request: op.Extend, now_ms: int) -> None:
        errors = self._core.extend(
            self._who, request.queue, request.receipts, request.lease_ms, now_ms
        )
        append_settled(self._out, request.request, errors)

    def on_dead_letter(self, request: op.DeadLetter, now_ms: int) -> None:
        level, errors = self._core.dead_letter(
            self._who, request.queue, request.receipts, request.reason, now_ms
        )
        append_settled(self._answers(level), request.request, errors)

    def on_browse(self, request: op.Browse, now_ms: int) -> None:
        self._core.browse(
            self._who,
            request.queue,
            request.after,
            request.limit,
            request.selector,
            request.state,
            self._on_browsed,
            request.request,
        )
        self._unanswered += 1

    def on_purge(self, request: op.Purge, now_ms: int) -> None:
        level, count = self._core.purge(self._who, request.queue, now_ms)
        append_frame(self._answers(level), op.CountReply(request.request, count))
