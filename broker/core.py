"""The broker's decisions, without sockets, files or a clock: everything the dialects call.

Rules:

- Every operation takes the principal and passes the gate first (``who.check``).
- Plain synchronous calls. What has to wait comes back by a callback from :meth:`Core.run`,
  :meth:`Core.tick` or the log, never from within the call that asked.
- Decide, then apply: records are appended to the log, then applied by the methods of
  ``registry.py`` and ``state.py`` that recovery uses.
- Time comes in as ``now_ms``, unix time that never goes back.
"""

from collections.abc import Sequence
from typing import Any, cast

import msgspec

from ..storage.log import Durability
from ..storage.record import encode_definition, encode_link, encode_purge
from .access import BROKER_NAME, Principal
from .errors import BraidError, Conflict, InvalidArgument, LeaseLost, LimitExceeded, NotFound
from .feed import MEMORY_PREFIX
from .groupcore import GroupCore
from .lease import Consumer, Exclusivity, Sink
from .limits import CONSUMER_PRIORITY_MAX, VISIBILITY_TIMEOUT_MS_MAX
from .message import Browsed, Delivery, Outgoing, Receipt, Sent, is_text
from .queue import Queue
from .reading import Answer, Browse, ReadMany
from .redrive import Redrive
from .registry import QueueDefinition
from .replaycore import ReplayCore
from .schedulecore import ScheduleCore
from .selectors import Selector
from .sendrun import Taken, send_alike, send_run
from .settings import QueueSettings, check_name
from .stream import Stream
from .streamview import StreamView
from .transaction import transact
from .transactionverbs import Result, Step
from .verbs import BrokerInfo, QueueInfo, RedriveInfo
from .viewdefinition import first_definition
from .webhookcore import WebhookCore

__all__ = ["Core"]

Results = tuple[Durability, list[BraidError | None]]

_STATES = ("all", "ready", "delayed", "in-flight")
_REASON_CHARACTERS_MAX = 256


class Core(ReplayCore, ScheduleCore, GroupCore, WebhookCore):
    """One broker. See the module's rules, and ``engine.py`` for what drives it.

    What can be asked about topics and sessions stands in ``topiccore.py``, about streams in
    ``streamcore.py``, about groups in ``groupcore.py``, about webhooks in ``webhookcore.py``,
    about bindings in ``bindingcore.py``, about replays in ``replaycore.py``,
    about schedules in ``schedulecore.py``.
    """

    # Queues -----------------------------------------------------------------------------------

    def queue(self, name: str) -> Queue:
        """The queue of that name. Raises NotFound, BrokerFailed."""
        if self.failed is not None:
            raise self.failed
        queue = self.queues.get(name)
        if queue is None:
            raise NotFound(f"there is no queue {name!r}")
        return queue

    def _source(self, who: Principal, name: str) -> Queue:
        """The queue to receive from: also the client's own session, by ``$session/NAME``.

        Raises NotFound, PermissionDenied, BrokerFailed.
        """
        if not name.startswith("$session/"):
            who.check("queue:Receive", name)
            return self.queue(name)
        session = self.sessions.get(name.removeprefix("$session/"))
        if self.failed is not None:
            raise self.failed
        if session is None or session.queue is None or session.user != who.name:
            raise NotFound(f"there is no session {name!r} of yours")
        return session.queue

    def holder(self, who: Principal, name: str) -> Queue:
        """The queue to settle messages of: also one of a share. Raises as :meth:`_source` does."""
        if name.startswith(("$share/", MEMORY_PREFIX)):
            return self._shared_queue(who, name)
        return self._source(who, name)

    def attach(self, queue: Queue, sink: Sink, credit: int, tag: object) -> Consumer:
        """Have messages of a session or a share pushed; who asks was let in to the session."""
        consumer = Consumer(queue.name, sink, credit, 0, None, tag)
        queue.add(consumer)
        self.advising.consumer_added(queue, consumer)
        self.changed(queue)
        return consumer

    def link(self, lsn: int, queue: Queue, attributes: bytes, size: int) -> None:
        """Put a message of ``size`` bytes that stands in the log into a session's queue as well."""
        seq = queue.lane(0).next
        # It comes from no queue: where its sequence there would stand is the size.
        record = encode_link(0, size, queue.id, seq, lsn, self.now_ms, 0, attributes)
        link = queue.log.append((record,), 1)
        queue.log.adopt(lsn)
        queue.put_linked(seq, lsn, size, 0, link)
        self.changed(queue)

    def hand_over(self, source: Queue, receipt: Receipt, target: Queue) -> None:
        """Move a message that is held into another queue, so that nobody else can get it."""
        lease = source.leases.take(*receipt)
        if lease is not None:
            source.end_lease(receipt[0])
            self.move_message(source, receipt[0], target, b"", self.now_ms)

    def declare_queue(
        self, who: Principal, name: str, settings: QueueSettings, now_ms: int
    ) -> QueueInfo:
        """Make the queue, and its dead-letter queue, or find it with these very settings."""
        who.check("queue:Declare", name)
        check_name(name)
        settings.check()
        stream = None
        if settings.stream:
            who.check("stream:Read", settings.stream)
            stream = self.streams.get(settings.stream)
            # What becomes of records is as safe as the records are.
            settings = msgspec.structs.replace(settings, durability=stream.settings.durability)
        found = self.queues.get(name)
        if found is not None:
            if found.settings != settings:
                raise Conflict(f"queue {name} exists with other {_difference(found, settings)}")
            return self._info(found)
        self._declare_dead_letter(who, name, settings, "", now_ms)
        if stream is not None:
            return self._info(self._declare_view(name, settings, stream, now_ms))
        return self._info(self._declare(name, settings, now_ms))

    def _declare(self, name: str, settings: QueueSettings, now_ms: int) -> Queue:
        self._check_room()
        definition = QueueDefinition(kind="queue", name=name, settings=settings, created_ms=now_ms)
        id = self.take_id()
        self.write_definition(id, definition)
        queue = self.define(id, definition)
        self.advising.declared(queue)
        self.queue_watch.declared(queue)
        return queue

    def _declare_view(
        self, name: str, settings: QueueSettings, stream: Stream, now_ms: int
    ) -> Queue:
        self._check_room()
        definition = first_definition(name, settings, stream, now_ms)
        id = self.take_id()
        self.write_definition(id, definition)
        view = self.define_view(id, definition)
        assert view is not None
        view.open()
        self.advising.declared(view)
        self.queue_watch.declared(view)
        return view

    def _check_room(self) -> None:
        self.admit()
        if len(self.queues) >= self.limits.queues_max:
            raise LimitExceeded(f"there are {len(self.queues)} queues, as many as there may be")

    def _declare_dead_letter(
        self, who: Principal, name: str, settings: QueueSettings, before: str, now_ms: int
    ) -> None:
        """See to it that the queue named in ``dead_letter`` is there and fits.

        Whoever names another queue than ``before`` sends messages there from now on.
        """
        target = settings.dead_letter
        if not target:
            return
        if target == name:
            raise InvalidArgument("a queue cannot be its own dead-letter queue")
        found = self.queues.get(target)
        if found is None:
            who.check("queue:Declare", target)
            self._declare(
                target, QueueSettings(fifo=settings.fifo, durability=settings.durability), now_ms
            )
            return
        if target != before:
            who.check("queue:Send", target)
        if isinstance(found, StreamView):
            raise InvalidArgument(f"queue {target} shows a stream: nothing else comes there")
        if found.fifo != settings.fifo:
            raise InvalidArgument("a FIFO queue's dead letters go to a FIFO queue, and only they")
        elif found.logged != (settings.durability is not Durability.MEMORY):
            raise InvalidArgument("a memory queue's dead letters go to a memory queue")

    def update_queue(
        self, who: Principal, name: str, changes: dict[str, Any], now_ms: int
    ) -> QueueInfo:
        """Change settings; messages that are there keep the times they were given."""
        who.check("queue:Declare", name)
        queue = self.queue(name)
        check_name(name)  # a webhook's queue is changed and deleted with the webhook
        settings = queue.settings.changed(changes)
        self._declare_dead_letter(who, name, settings, queue.settings.dead_letter, now_ms)
        definition = queue.definition() | {"settings": settings}
        self.write_definition(queue.id, definition)
        self._define(queue.id, msgspec.msgpack.encode(definition))
        queue.sweep_ms = now_ms if settings.retention_ms else 0
        queue.set_alarm()
        self.wake(queue)
        return self._info(queue)

    def delete_queue(self, who: Principal, name: str, if_empty: bool, now_ms: int) -> None:
        """Delete the queue and its messages. Conflict while others send dead letters there."""
        who.check("queue:Delete", name)
        queue = self.queue(name)
        check_name(name)
        users = [q.name for q in self.queues.values() if q.settings.dead_letter == name]
        if users:
            raise Conflict(f"queue {name} is the dead-letter queue of {', '.join(users[:5])}")
        if self.bindings.are_buried_in(name):
            raise Conflict(f"queue {name} is the dead-letter queue of a binding")
        count = queue.unread() + queue.live
        if if_empty and count:
            raise Conflict(f"queue {name} holds {count} messages")
        self.log.append((encode_definition(queue.id, b""),))
        self.retire(queue)

    def queue_info(self, who: Principal, name: str) -> QueueInfo:
        """The queue as it is now."""
        who.check("queue:Describe", name)
        return self._info(self.queue(name))

    def list_queues(self, who: Principal, prefix: str, after: str, limit: int) -> list[QueueInfo]:
        """Those queues that the principal may see, by name, a page at a time."""
        if not 1 <= limit <= 1000:
            raise InvalidArgument("a page has 1 to 1000 queues")
        names = sorted(name for name in self.queues if name > after and name.startswith(prefix))
        shown: list[QueueInfo] = []
        for name in names:
            if len(shown) == limit:
                break
            if who.allows("queue:Describe", name):
                shown.append(self._info(self.queues[name]))
        return shown

    def _info(self, queue: Queue) -> QueueInfo:
        counters = queue.counters
        unread = queue.unread()
        live, leased, held = queue.live, len(queue.leases), queue.held
        return QueueInfo(
            name=queue.name,
            settings=queue.settings,
            ready=unread + live - leased - held,
            delayed=held,
            in_flight=leased,
            bytes=queue.bytes,
            consumers=len(queue.consumers),
            sent=counters.sent,
            delivered=counters.delivered,
            acknowledged=counters.acknowledged,
            returned=counters.returned,
            expired=counters.expired,
            dropped=counters.dropped,
            dead_lettered=counters.dead_lettered,
            duplicates=counters.duplicates,
            created_ms=queue.created_ms,
            oldest_ms=queue.oldest_ms(),
            damaged=counters.damaged,
            lag=queue.lag() if isinstance(queue, StreamView) else 0,
        )

    # Messages ---------------------------------------------------------------------------------

    def send(
        self,
        who: Principal,
        name: str,
        messages: Sequence[Outgoing],
        now_ms: int,
        more: Sequence[tuple[int, int]] = (),
    ) -> tuple[Durability, list[Sent | BraidError]]:
        """Take messages; each result stands once :meth:`when_kept` calls back for the level.

        ``more`` are targets that only the records know: what is kept with each message or not at
        all. A duplicate (FIFO), and what waits in memory, has no record that could tell of them.
        """
        who.check("queue:Send", name)
        queue = self.queue(name)
        self.admit(not queue.logged)
        if len(messages) > self.limits.batch_messages_max:
            raise LimitExceeded(f"a batch has at most {self.limits.batch_messages_max} messages")
        results = [] if more else send_alike(queue, messages, now_ms)
        if not results:
            results = queue.send(messages, now_ms, more)
        self.changed(queue)
        return queue.settings.durability, results

    def send_run(
        self, who: Principal, name: str, like: Outgoing, bodies: Sequence[bytes], now_ms: int
    ) -> tuple[Durability, list[Taken]]:
        """Take messages like ``like`` with these bodies, all; none was: ask :meth:`send`."""
        who.check("queue:Send", name)
        queue = self.queue(name)
        self.admit(not queue.logged)
        taken = send_run(queue, like, bodies, now_ms)
        if taken:
            self.changed(queue)
        return queue.settings.durability, taken

    def receive(
        self,
        who: Principal,
        name: str,
        sink: Sink,
        max_messages: int,
        wait_ms: int,
        lease_ms: int,
        selector: str,
        attempt: str,
        tag: object,
        now_ms: int,
    ) -> Consumer:
        """Lease up to ``max_messages`` once; ``sink.deliver`` is called exactly once."""
        queue = self._source(who, name)
        limits = self.limits
        if not 1 <= max_messages <= limits.receive_messages_max:
            raise InvalidArgument(f"a receive takes 1 to {limits.receive_messages_max} messages")
        if not 0 <= wait_ms <= limits.receive_wait_ms_max:
            raise InvalidArgument(f"a receive waits 0 to {limits.receive_wait_ms_max} ms")
        if not 0 <= lease_ms <= VISIBILITY_TIMEOUT_MS_MAX:
            raise InvalidArgument(f"a lease lasts 0 to {VISIBILITY_TIMEOUT_MS_MAX} ms")
        lease_ms = lease_ms or max(queue.settings.visibility_timeout_ms, 1)
        chosen = Selector.parse(selector) if selector else None
        consumer = Consumer(name, sink, max_messages, lease_ms, chosen, tag)
        consumer.one_shot = True
        consumer.deadline_ms = now_ms + wait_ms
        consumer.attempt = attempt
        held = queue.repeat(attempt, lease_ms, now_ms) if attempt else []
        if held:
            consumer.queue = queue
            seqs = iter([seq for seq, _ in held])
            ReadMany(queue, seqs, self.later, self._repeat, (consumer, dict(held))).start()
        else:
            queue.add(consumer)
        return consumer

    def _repeat(self, argument: object, found: list[Browsed] | BraidError) -> None:
        """Give the messages of an earlier receive attempt again, to whom they belong."""
        consumer, tokens = cast("tuple[Consumer, dict[int, int]]", argument)
        if consumer.closed:
            return
        consumer.closed = True
        if isinstance(found, BraidError):
            consumer.end(found)
            return
        deliveries = [
            Delivery(m.seq, tokens[m.seq], m.receives, m.id, m.time_ms, m.attributes, m.body)
            for m in found
        ]
        consumer.deliver(deliveries)

    def consume(
        self,
        who: Principal,
        name: str,
        sink: Sink,
        credit: int,
        selector: str,
        tag: object,
        now_ms: int,
        priority: int = 0,
        exclusive: Exclusivity = Exclusivity.SHARED,
    ) -> Consumer:
        """Have messages pushed, as far as the credit goes, until :meth:`cancel`.

        Those of the highest priority are served first. Conflict when the consumer, or another one,
        is to be the sole one. See ``turns.py``.
        """
        queue = self._source(who, name)
        if not 0 <= credit <= self.limits.credit_max:
            raise InvalidArgument(f"credit is between 0 and {self.limits.credit_max}")
        if abs(priority) > CONSUMER_PRIORITY_MAX:
            raise InvalidArgument(f"a priority is at most {CONSUMER_PRIORITY_MAX} above or below 0")
        chosen = Selector.parse(selector) if selector else None
        consumer = Consumer(name, sink, credit, 0, chosen, tag)
        consumer.priority = priority
        consumer.exclusive = exclusive
        queue.add(consumer)
        self.advising.consumer_added(queue, consumer)
        return consumer

    def credit(self, consumer: Consumer, count: int) -> None:
        """Let a consumer have ``count`` messages more."""
        if not 0 <= count <= self.limits.credit_max:
            raise InvalidArgument(f"credit is between 0 and {self.limits.credit_max}")
        if not consumer.closed and consumer.queue is not None and self.failed is None:
            consumer.queue.feed(consumer, count)

    def ack(self, who: Principal, name: str, receipts: Sequence[Receipt], now_ms: int) -> Results:
        """Settle messages for good."""
        queue = self.holder(who, name)
        return queue.settings.durability, queue.ack(receipts)

    def nack(
        self,
        who: Principal,
        name: str,
        receipts: Sequence[Receipt],
        delay_ms: int,
        counted: bool,
        now_ms: int,
    ) -> Results:
        """Give messages back."""
        queue = self.holder(who, name)
        return queue.settings.durability, queue.nack(receipts, delay_ms, counted, now_ms)

    def extend(
        self, who: Principal, name: str, receipts: Sequence[Receipt], lease_ms: int, now_ms: int
    ) -> list[BraidError | None]:
        """Hold messages for ``lease_ms`` from now on; 0 gives them back at once."""
        queue = self.holder(who, name)
        if not 0 <= lease_ms <= VISIBILITY_TIMEOUT_MS_MAX:
            raise InvalidArgument(f"a lease lasts 0 to {VISIBILITY_TIMEOUT_MS_MAX} ms")
        if not lease_ms:
            return queue.nack(receipts, 0, True, now_ms)
        return queue.extend(receipts, lease_ms, now_ms)

    def purge(self, who: Principal, name: str, now_ms: int) -> tuple[Durability, int]:
        """Delete all messages, whatever their state; how many they were."""
        who.check("queue:Purge", name)
        queue = self.queue(name)
        count = queue.unread() + queue.live
        bounds = queue.bounds()
        if queue.logged:
            self.log.append((encode_purge(queue.id, bounds),))
        self.discard_pages(queue, bounds)
        queue.forget_leases()
        self.later(self._release_trash)
        return queue.settings.durability, count

    def browse(
        self,
        who: Principal,
        name: str,
        after: int,
        limit: int,
        selector: str,
        state: str,
        callback: Answer,
        argument: object,
    ) -> None:
        """Look at messages; ``callback(argument, messages or error)`` comes later."""
        who.check("queue:Browse", name)
        queue = self.queue(name)
        if not 1 <= limit <= self.limits.browse_messages_max:
            raise InvalidArgument(f"a page has 1 to {self.limits.browse_messages_max} messages")
        if state not in _STATES:
            raise InvalidArgument(f"a state is one of {', '.join(_STATES)}")
        chosen = Selector.parse(selector) if selector else None
        Browse(queue, after, limit, chosen, state, self.later, callback, argument).start()

    def transact(
        self, who: Principal, steps: Sequence[Step], now_ms: int
    ) -> tuple[Durability, list[Result]]:
        """Do all steps, in their order, or none; the results stand as those of :meth:`send` do.

        Raises what the first step that cannot be done would raise, with its number as ``step``.
        See ``transaction.py``.
        """
        return transact(self, who, steps, now_ms)

    # Dead letters -----------------------------------------------------------------------------

    def dead_letter(
        self, who: Principal, name: str, receipts: Sequence[Receipt], reason: str, now_ms: int
    ) -> Results:
        """Move leased messages to the dead-letter queue now."""
        queue = self.holder(who, name)
        if not queue.settings.dead_letter:
            raise InvalidArgument(f"queue {name} has no dead-letter queue")
        if len(reason) > _REASON_CHARACTERS_MAX or not is_text(reason):
            raise InvalidArgument(f"a reason has at most {_REASON_CHARACTERS_MAX} characters")
        results: list[BraidError | None] = []
        for seq, token in receipts:
            lease = queue.leases.take(seq, token)
            if lease is None:
                results.append(LeaseLost(f"message {seq} of queue {name} is not yours"))
                continue
            results.append(None)
            queue.end_lease(seq)
            self.bury(queue, seq, reason or "rejected", lease.receives, now_ms)
        self.wake(queue)
        return queue.settings.durability, results

    def redrive(
        self, who: Principal, source: str, target: str, rate: float, limit: int, now_ms: int
    ) -> RedriveInfo:
        """Begin to move messages out of a dead-letter queue, ``rate`` a second (0: no limit)."""
        who.check("queue:Redrive", source)
        queue = self.queue(source)
        if isinstance(queue, StreamView):
            raise InvalidArgument(f"queue {source} shows a stream: its records stay there")
        if not 0 <= rate <= 1_000_000 or limit < 0:
            raise InvalidArgument("a rate is between 0 and 1000000 messages a second")
        if target == source:
            raise InvalidArgument("a redrive moves messages to another queue")
        running = [task for task in self._redrives.values() if task.state == "running"]
        if len(running) >= self.limits.redrive_tasks_max:
            raise LimitExceeded(f"{len(running)} redrives are running, as many as may")
        if any(task.source is queue for task in running):
            raise Conflict(f"a redrive of {source} is running already")

        def move(queue: Queue, seq: int, name: str) -> None:
            self._redrive_one(who, queue, seq, name)

        if target:
            self._redrive_target(who, queue, target)
        self._redrive_count += 1
        task = Redrive(self._redrive_count, queue, target, rate, limit, move, now_ms)
        while len(self._redrives) >= 2 * self.limits.redrive_tasks_max:
            ended = next(id for id, each in self._redrives.items() if each.state != "running")
            del self._redrives[ended]
        self._redrives[task.id] = task
        self._redrive_now_ms = self._redrive_due_ms = now_ms
        self._ask()
        return task.info()

    def _redrive_target(self, who: Principal, source: Queue, name: str) -> Queue:
        if not name:
            raise InvalidArgument(f"messages of {source.name} do not say where they came from")
        who.check("queue:Send", name)
        target = self.queue(name)
        if isinstance(target, StreamView):
            raise InvalidArgument(f"queue {name} shows a stream: name another queue to send to")
        if target.fifo != source.fifo or target.logged != source.logged:
            raise InvalidArgument(f"messages of {source.name} do not fit into queue {name}")
        return target

    def _redrive_one(self, who: Principal, source: Queue, seq: int, name: str) -> None:
        who.check("queue:Redrive", source.name)
        target = self._redrive_target(who, source, name)
        self.move_message(source, seq, target, b"", self._redrive_now_ms)

    def list_redrives(self, who: Principal) -> list[RedriveInfo]:
        """Redrives that run or ended lately."""
        return [
            task.info()
            for task in self._redrives.values()
            if who.allows("queue:Redrive", task.source.name)
        ]

    def cancel_redrive(self, who: Principal, id: int) -> RedriveInfo:
        """Stop a redrive; what was moved stays moved."""
        task = self._redrives.get(id)
        if task is None:
            raise NotFound(f"there is no redrive {id}")
        who.check("queue:Redrive", task.source.name)
        if task.state == "running":
            task.state = "cancelled"
        return task.info()

    def broker_info(self, who: Principal, now_ms: int, connections: int) -> BrokerInfo:
        """The broker as it is now."""
        who.check("broker:Describe", BROKER_NAME)
        return BrokerInfo(
            version=self.version,
            instance=self.instance,
            uptime_seconds=(now_ms - self.started_ms) / 1000,
            queues=len(self.queues),
            messages=sum(queue.live + queue.unread() for queue in self.queues.values()),
            connections=connections,
            log=msgspec.structs.asdict(self.log.statistics()),
            sessions=len(self.sessions),
            subscriptions=self.clients.subscriptions,
            retained=len(self.topics.retained),
            published=self.topics.published,
            dropped=self.topics.dropped,
        )


def _difference(queue: Queue, settings: QueueSettings) -> str:
    """Name the settings that differ, with both values."""
    new = msgspec.to_builtins(settings)
    old = msgspec.to_builtins(queue.settings)
    return ", ".join(
        f"{name} ({old[name]!r}, not {new[name]!r})" for name in old if old[name] != new[name]
    )
