"""SEND: messages to queues, topics and streams, in batches.

SENDs to one destination that follow each other are put together, as far as they were read at once,
and go to the broker in one call when something else comes, or nothing more. A composite destination
and a transaction are done as a whole, or not at all.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ...broker.errors import BraidError
from ...broker.fifo import FifoQueue
from ...broker.message import (
    GROUP_ID,
    PARTITION_KEY,
    PRIORITY_DEFAULT,
    Outgoing,
    pack_headers,
)
from ...broker.publishing import Posted
from ...broker.schedule import Timing
from ...broker.scheduleverbs import Scheduled, ScheduleKind
from ...broker.sendrun import RUN_MESSAGES_MIN
from ...broker.streams import Appending
from ...broker.transactionverbs import Append, Publish, Schedule, Send, Step
from ...storage.log import Durability
from .declaring import ensure_queue
from .destinations import (
    Queue,
    Queues,
    ReplyQueue,
    ReplyTopic,
    Stream,
    Target,
    TempQueue,
    TempTopic,
    Topic,
)
from .dialects import Refused
from .frames import Frame, FrameBuffer
from .headers import Sending
from .runs import SendShape, receipts_for
from .scheduling import ACTION, MANAGEMENT, manage

if TYPE_CHECKING:
    from .session import StompSession

__all__ = ["Sender"]

Plain = Queue | Topic | Stream
_Item = Outgoing | Posted | tuple[bytes, bytes, bytes]  # of a stream: body, key, headers


class _Pattern(msgspec.Struct, frozen=True):
    """A message that was sent, for those that have the same headers."""

    headers: dict[str, str]
    target: Plain
    queue: object  # that the target was; another one of its name may be of another kind
    item: _Item


class Sender:
    """What one client sends. Part of a session, which owns it."""

    __slots__ = (
        "_destination",
        "_is_learnt",
        "_items",
        "_pattern",
        "_receipts",
        "_session",
        "_shape",
        "_target",
    )

    def __init__(self, session: "StompSession") -> None:
        self._session = session
        self._destination = ""  # of the batch
        self._target: Plain | None = None
        self._items: list[_Item] = []
        self._receipts: list[str | None] = []
        self._pattern: _Pattern | None = None
        self._shape: SendShape | None = None  # of frames that have this pattern
        self._is_learnt = False  # the shape, as far as there is one

    def on_send(self, frame: Frame, now_ms: int) -> None:
        """Take a message."""
        session, headers = self._session, frame.headers
        session.server.received += 1
        receipt = headers.pop("receipt", None)
        if "content-length" in headers:
            headers["content-length"] = ""  # that it is there may say something; its value is used
        pattern = self._pattern
        if pattern is not None and headers == pattern.headers and self._begin(pattern, now_ms):
            item: _Item = _copy(pattern.item, frame.body)
            if not self._is_learnt:  # the second one already: there may be many
                self._is_learnt = True
                self._shape = SendShape.learn(session.head)
        elif "transaction" in headers:
            self._send_in_transaction(frame, receipt, now_ms)
            return
        else:
            target = self._target_of(frame, receipt, now_ms)
            if target is None:
                return
            sending = session.headers.sending(headers, now_ms, session.temporary.reply_address)
            if self._is_for_later(target, sending):
                self.flush(now_ms)
                if session.is_open:
                    message = self._scheduled(target, sending, frame.body)
                    session.core.schedule(session.who, message, now_ms)
                    session.check_congestion()
                    session.answer(Durability.SYNC, receipt)
                return
            item = self._item(target, sending, frame.body)
            self._pattern = self._shape = None
            self._is_learnt = False
            if not sending.ttl_ms:  # the time that is left differs from one to the next
                self._pattern = _Pattern(headers, target, self._queue_of(target), item)
        self._items.append(item)
        self._receipts.append(receipt)
        if len(self._items) >= session.limits.batch_messages_max:
            self.flush(now_ms)

    def take_run(self, frames: FrameBuffer, most: int, now_ms: int) -> int:
        """Take frames that are like the last one but for receipt and body; how many there were."""
        shape, pattern = self._shape, self._pattern
        if shape is None or pattern is None or not self._begin(pattern, now_ms):
            return 0
        session = self._session
        ids, bodies = frames.sends(shape, min(most, session.limits.batch_messages_max))
        count = len(bodies)
        if not count:
            return 0
        session.server.received += count
        if isinstance(pattern.item, Outgoing) and count >= RUN_MESSAGES_MIN:
            self.flush(now_ms)
            if not session.is_open or self._hand_over_run(pattern, ids, bodies, now_ms):
                return count
        elif len(self._items) + count > session.limits.batch_messages_max:
            self.flush(now_ms)
        if session.is_open and self._begin(pattern, now_ms):
            self._items += [_copy(pattern.item, body) for body in bodies]
            self._receipts += [each.decode() for each in ids] if ids else [None] * count
            if len(self._items) >= session.limits.batch_messages_max:
                self.flush(now_ms)
        return count

    def _hand_over_run(
        self, pattern: _Pattern, ids: list[bytes], bodies: list[bytes], now_ms: int
    ) -> bool:
        """Send messages of a queue at once; False: one by one."""
        session, item = self._session, pattern.item
        assert isinstance(item, Outgoing)
        try:
            name = pattern.target.name
            level, taken = session.core.send_run(session.who, name, item, bodies, now_ms)
        except BraidError as error:
            session.fail_with(error, ids[0].decode() if ids else "")
            return True
        if not taken:
            return False
        if ids:
            session.answer_all(level, receipts_for(ids), len(ids))
        session.check_congestion()
        return True

    def _begin(self, pattern: _Pattern, now_ms: int) -> bool:
        """Go on with a batch, or begin one, to the target of a pattern; False: that has changed."""
        target = pattern.target
        if self._target is not target:
            self.flush(now_ms)
            if not self._session.is_open or self._queue_of(target) is not pattern.queue:
                return False
            self._target, self._destination = target, pattern.headers["destination"]
        return True

    def _queue_of(self, target: Plain) -> object:
        return self._session.core.queues.get(target.name) if isinstance(target, Queue) else None

    def _target_of(self, frame: Frame, receipt: str | None, now_ms: int) -> Plain | None:
        """The target of the batch that goes on or begins; None: the message was dealt with."""
        destination = frame.headers.get("destination", "")
        if self._target is None or destination != self._destination:
            self.flush(now_ms)
            if not self._session.is_open:
                return None
            targets = self._targets(destination, frame.headers, now_ms)
            if targets == [MANAGEMENT] and self._manages(frame.headers):
                manage(self._session, frame.headers, receipt, now_ms)
                return None
            if len(targets) != 1:
                self._send_all(targets, frame, receipt, now_ms)
                return None
            self._target, self._destination = targets[0], destination
        return self._target

    def _manages(self, headers: dict[str, str]) -> bool:
        """Whether a message to the topic for it manages schedules."""
        return ACTION in headers and bool(self._session.dialect.period_header)

    def _send_in_transaction(self, frame: Frame, receipt: str | None, now_ms: int) -> None:
        session, headers = self._session, frame.headers
        session.transactions.check_open(headers)
        self.flush(now_ms)
        if not session.is_open:
            return
        targets = self._targets(headers.get("destination", ""), headers, now_ms)
        if targets == [MANAGEMENT] and self._manages(headers):
            manage(session, headers, receipt, now_ms)  # at once, as ActiveMQ does
            return
        steps = self._steps(targets, frame, now_ms)
        session.transactions.add(headers, steps, len(frame.body))
        session.answer(Durability.MEMORY, receipt)

    def flush(self, now_ms: int) -> None:
        """Do what was put together."""
        target, items, receipts = self._target, self._items, self._receipts
        self._target, self._destination = None, ""
        if target is None or not items:
            return
        self._items, self._receipts = [], []
        session = self._session
        try:
            level, results = self._hand_over(target, items, now_ms)
        except BraidError as error:
            session.fail_with(error, receipts[0] or "")
            return
        for receipt, result in zip(receipts, results, strict=True):
            if isinstance(result, BraidError):
                session.fail_with(result, receipt or "")
                return
            if receipt is not None:
                session.answer(level, receipt)
        session.check_congestion()

    def _hand_over(
        self, target: Plain, items: list[_Item], now_ms: int
    ) -> tuple[Durability, Sequence[object]]:
        session = self._session
        core, who = session.core, session.who
        if isinstance(target, Queue):
            return core.send(who, target.name, items, now_ms)  # type: ignore[arg-type]
        if isinstance(target, Stream):
            bodies, keys, packed = zip(*items, strict=True)
            return core.append(who, target.name, Appending(bodies, keys, packed), now_ms)
        with session.publishing(now_ms):
            return core.publish(who, target.name, items, 1, now_ms)  # type: ignore[arg-type]

    # --- where to ---

    def _targets(self, destination: str, headers: dict[str, str], now_ms: int) -> list[Plain]:
        """Where a message goes; nowhere, if it is an answer to who is gone. Raises BraidError."""
        session = self._session
        if not destination:
            raise Refused("SEND without a destination", "A SEND has the header destination.\n")
        found: list[Plain] = []
        for target in session.server.targets(destination, session.dialect):
            plain = self._plain(target)
            if isinstance(plain, Queue):
                ensure_queue(session, plain, headers, now_ms)
            if plain is not None:
                found.append(plain)
        return found

    def _plain(self, target: Target) -> Plain | None:
        session = self._session
        match target:
            case TempQueue() | TempTopic():
                return session.temporary.resolve(target)
            case ReplyTopic(name=name):
                return Topic(name)
            case ReplyQueue(name=name):
                if name in session.core.queues:
                    return Queue(name, existing=True)
                session.server.unanswerable += 1
                return None
            case _:
                assert not isinstance(target, Queues)  # those are for SUBSCRIBE
                return target

    # --- what is sent ---

    def _item(self, target: Plain, sending: Sending, body: bytes) -> _Item:
        session = self._session
        headers = sending.headers
        if isinstance(target, Stream):
            key = headers.pop(PARTITION_KEY, "") or headers.get(GROUP_ID, "")
            packed = pack_headers(headers, session.limits)
            return body, key if isinstance(key, bytes) else key.encode(), packed
        attributes = pack_headers(headers, session.limits)
        if isinstance(target, Topic):
            return Posted(body, attributes, sending.retain, sending.ttl_ms)
        queue = session.core.queues.get(target.name)
        return sending.outgoing(body, attributes, isinstance(queue, FifoQueue))

    def _steps(self, targets: list[Plain], frame: Frame, now_ms: int) -> list[Step]:
        """The same as steps of a transaction."""
        session = self._session
        steps: list[Step] = []
        for target in targets:
            sending = session.headers.sending(
                frame.headers, now_ms, session.temporary.reply_address
            )
            if self._is_for_later(target, sending):
                steps.append(Schedule(self._scheduled(target, sending, frame.body)))
                continue
            item = self._item(target, sending, frame.body)
            if isinstance(item, Outgoing):
                steps.append(Send(target.name, item))
            elif isinstance(item, Posted):
                steps.append(Publish(target.name, item))
            else:
                body, key, packed = item
                steps.append(Append(target.name, Appending([body], [key], [packed])))
        return steps

    def _send_all(
        self, targets: list[Plain], frame: Frame, receipt: str | None, now_ms: int
    ) -> None:
        """Send to all, or to none."""
        session = self._session
        level = Durability.MEMORY
        if targets:
            steps = self._steps(targets, frame, now_ms)
            with session.publishing(now_ms):
                level, _ = session.core.transact(session.who, steps, now_ms)
            session.check_congestion()
        session.answer(level, receipt)

    def _is_for_later(self, target: Plain, sending: Sending) -> bool:
        """Whether a message is a schedule, rather than one that waits in its queue."""
        if sending.timing is not None:
            return True
        if self._session.dialect.period_header:  # there even a delay is something to list
            return sending.delay_ms > 0
        return sending.delay_ms >= 0 and not isinstance(target, Queue)

    def _scheduled(self, target: Plain, sending: Sending, body: bytes) -> Scheduled:
        """A message that is to be sent later, once or often."""
        asked = sending.timing or Timing()
        timing = msgspec.structs.replace(asked, delay_ms=max(sending.delay_ms, 0))
        sending.delay_ms = -1
        item = self._item(target, sending, body)
        kind: ScheduleKind
        attributes, key = b"", b""
        if isinstance(item, Outgoing):
            kind, attributes = "queue", item.attributes
        elif isinstance(item, Posted):
            kind, attributes = "topic", item.attributes
        else:
            kind = "stream"
            _, key, attributes = item
        return Scheduled(
            kind=kind,
            name=target.name,
            timing=timing,
            body=body,
            attributes=attributes,
            ttl_ms=sending.ttl_ms,
            priority=item.priority if isinstance(item, Outgoing) else PRIORITY_DEFAULT,
            group=item.group if isinstance(item, Outgoing) else "",
            dedup_id=item.dedup_id if isinstance(item, Outgoing) else "",
            retain=sending.retain,
            key=key,
        )


def _copy(item: _Item, body: bytes) -> _Item:
    """The same with another body."""
    if isinstance(item, Outgoing):
        return Outgoing(
            body,
            item.attributes,
            item.delay_ms,
            item.ttl_ms,
            item.priority,
            item.group,
            item.dedup_id,
        )
    if isinstance(item, Posted):
        return Posted(body, item.attributes, item.retain, item.ttl_ms)
    return body, item[1], item[2]
