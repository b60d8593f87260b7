"""What the broker holds, and how the log brings it back: the apply side of ``core.py``.

Everything that owns messages has a number (its *entity* in the log) that is never used again, and
a name that may be. There are six kinds of queues, told apart by the ``kind`` in their definition:

    queue      declared by somebody
    view       declared, too: it shows the records of a stream (``streamview.py``)
    webhook    of a webhook, which a sender empties (``webhook.py``)
    session    of a durable session (``session.py``)
    share      of a shared subscription, made and ended with its members (``sharing.py``); also
               the one of ``delaying.py``
    schedules  the one where schedules wait (``schedulequeue.py``)

and the retained messages (``retained.py``), whose number is fixed, as is that of all wills
(``willstore.py``). Streams and their shards have numbers as well; they stand in
``streamstore.py``. Queues of durability ``memory`` keep their definition in the log and their
messages in a log of their own that has no files; its LSNs start above every other.
"""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ..storage.cold import ColdFile
from ..storage.log import Durability, Log, Reference
from ..storage.record import (
    ACK,
    COLD,
    CURSOR,
    DEFINITION,
    DELAY,
    LINK,
    MESSAGE,
    PURGE,
    RECEIVE,
    STREAM,
    MessageRecord,
    decode_ack,
    decode_definition,
    decode_delay,
    decode_link,
    decode_message,
    decode_purge,
    decode_receive,
)
from ..storage.streams import decode_cold, decode_cursor
from .bindings import BINDINGS, Bindable, BindingDefinition, Bindings
from .fifo import FifoQueue
from .group import GroupDefinition
from .groupstore import GROUP, GroupStore
from .index import LSN_MASK, Page
from .message import TOPIC, unpack_headers
from .queue import Queue
from .replaystore import REPLAYS, ReplayDefinition, ReplayStore
from .retained import RETAINED, RETAINED_ENTITY, RetainedStore, end_ms
from .schedulequeue import SCHEDULES_KIND, ScheduleQueue
from .session import Session, SessionDefinition, SessionQueue, SubscriptionDefinition
from .settings import QueueSettings
from .shard import BLOCKS, SHARD, STREAM_SECTION, Shard
from .state import PAGE, QUEUE
from .stream import StreamDefinition
from .streamstore import StreamStore
from .streamview import StreamView, ViewHost
from .viewdefinition import ViewDefinition
from .webhook import WebhookDefinition, webhook_name
from .webhookqueue import WebhookQueue
from .willstore import WILL_ENTITY, WILLS, WillDefinition, WillStore

__all__ = ["QueueDefinition", "Registry"]

_META = 0  # section kind; the others stand in state.py
_INNER = ("share", SCHEDULES_KIND)  # kinds of queues that nobody has declared


class QueueDefinition(msgspec.Struct, kw_only=True):
    """The content of a DEFINITION record and of a QUEUE section."""

    kind: str
    name: str
    settings: QueueSettings
    created_ms: int
    id: int = 0
    lanes: dict[int, int] = {}


class _Meta(msgspec.Struct):
    next_id: int


_Definition = (
    BindingDefinition
    | GroupDefinition
    | QueueDefinition
    | ReplayDefinition
    | SessionDefinition
    | StreamDefinition
    | SubscriptionDefinition
    | ViewDefinition
    | WebhookDefinition
    | WillDefinition
)


class _Kind(msgspec.Struct):
    kind: str


class Registry:
    """What there is, by name and by number. Implements :class:`storage.log.Replay`.

    Attributes:
        queues: those that somebody declared. sessions: the durable ones, and those connected.
        shares: queues of shared subscriptions, by ``$share/GROUP/FILTER``, and the broker's own.
        webhooks: by their names; they are among the queues, too, by ``$webhook/NAME``.
    """

    def __init__(self, log: Log, memory: Log) -> None:
        self.log = log
        self.memory = memory
        self.queues: dict[str, Queue] = {}
        self.sessions: dict[str, Session] = {}
        self.shares: dict[str, Queue] = {}
        self.webhooks: dict[str, WebhookQueue] = {}
        self.retained = RetainedStore(log)
        self.stream_store = StreamStore(log, memory, self.shard_gone)
        self.group_store = GroupStore(log, self.stream_store)
        self.bindings = Bindings(self._bound)
        self.replay_store = ReplayStore()
        self.will_store = WillStore()
        self._by_id: dict[int, Queue] = {}
        self._next_id = 1
        self._trash: list[tuple[Log, Page]] = []  # of purged and deleted queues, to be released
        self._live = False  # replay is over

    def host(self) -> ViewHost:
        """Who the queues turn to."""
        raise NotImplementedError

    def changed(self, queue: Queue) -> None:
        """A live queue points at records that are not kept yet: deliver when they are."""
        raise NotImplementedError

    def shard_gone(self, shard: Shard, lsns: Sequence[int], files: Sequence[ColdFile]) -> None:
        """What nobody needs any more of a shard is to be released."""
        raise NotImplementedError

    # Apply ------------------------------------------------------------------------------------

    def define(self, id: int, definition: QueueDefinition) -> Queue:
        """Apply: the queue is there, with these settings."""
        queue = self._by_id.get(id)
        if queue is not None:
            queue.configure(definition.settings)
            self.bindings.target_changed(id)
            return queue
        kind = FifoQueue if definition.settings.fifo else Queue
        if definition.kind == SCHEDULES_KIND:
            kind = ScheduleQueue
        memory = definition.settings.durability is Durability.MEMORY
        log = self.memory if memory else self.log
        queue = kind(
            self.host(), id, definition.name, definition.settings, log, definition.created_ms
        )
        names = self.shares if definition.kind in _INNER else self.queues
        names[queue.name] = queue
        queue.kind = definition.kind
        self._enter(id, queue)
        return queue

    def define_session(self, id: int, definition: SessionDefinition) -> SessionQueue:
        """Apply: the session is there, and durable."""
        queue = self._by_id.get(id)
        if queue is None:
            session = self.sessions.get(definition.name)
            if session is None or session.queue is not None:
                session = Session(definition.name, definition.user, definition.created_ms)
            session.durability = definition.durability
            settings = QueueSettings(durability=definition.durability)
            queue = session.queue = SessionQueue(self.host(), id, session, settings, self.log)
            self.sessions[session.name] = session
            self._enter(id, queue)
        assert isinstance(queue, SessionQueue)
        queue.session.restore(definition)
        return queue

    def define_webhook(self, id: int, definition: WebhookDefinition) -> WebhookQueue:
        """Apply: the webhook is there, with these settings, confirmed or not."""
        queue = self._by_id.get(id)
        if queue is None:
            queue = WebhookQueue(self.host(), id, definition, self.log)
            self.queues[queue.name] = self.webhooks[webhook_name(queue.name)] = queue
            self._enter(id, queue)
        assert isinstance(queue, WebhookQueue)
        queue.define(definition.webhook)
        self.bindings.target_changed(id)
        return queue

    def define_view(self, id: int, definition: ViewDefinition) -> StreamView | None:
        """Apply: the view is there, with these settings and lanes; None: its stream is gone."""
        queue = self._by_id.get(id)
        if queue is None:
            stream = self.stream_store.by_id.get(definition.stream)
            if stream is None:
                return None  # while replaying: the log will delete the view further on
            queue = self.queues[definition.name] = StreamView(self.host(), id, definition, stream)
            self._enter(id, queue)
        else:
            assert isinstance(queue, StreamView)
            queue.define(definition)
        return queue

    def _enter(self, id: int, queue: Queue) -> None:
        if not self._live:
            queue.begin_replay()
        self._by_id[id] = queue
        self._next_id = max(self._next_id, id + 1)

    def _name(self, queue: Queue) -> None:
        """Have the queue by its name, which replay may have taken away.

        A queue of the same name was deleted before this one was made; when the checkpoint knows
        this one already, replay meets the other one, and its end, later.
        """
        if isinstance(queue, SessionQueue):
            self.sessions[queue.session.name] = queue.session
        elif queue.kind in _INNER:
            self.shares[queue.name] = queue
        else:
            self.queues[queue.name] = queue
        if isinstance(queue, WebhookQueue):
            self.webhooks[webhook_name(queue.name)] = queue

    def _define(self, id: int, content: bytes) -> None:
        """Apply the content of a DEFINITION record."""
        definition = _decode_definition(content)
        if isinstance(definition, QueueDefinition):
            self.define(id, definition)
        elif isinstance(definition, SessionDefinition):
            self.define_session(id, definition)
        elif isinstance(definition, StreamDefinition):
            stream = self.stream_store.define(id, definition)
            highest = max((shard.id for shard in stream.shards.values()), default=id)
            self._next_id = max(self._next_id, highest + 1)
        elif isinstance(definition, GroupDefinition):
            self.group_store.define(id, definition)
        elif isinstance(definition, WebhookDefinition):
            self.define_webhook(id, definition)
        elif isinstance(definition, ViewDefinition):
            self.define_view(id, definition)
        elif isinstance(definition, BindingDefinition):
            self.bindings.define(id, definition)
        elif isinstance(definition, ReplayDefinition):
            self.replay_store.define(id, definition)
        elif isinstance(definition, WillDefinition):
            self.will_store.define(definition)
        else:
            queue = self._by_id.get(id)
            if isinstance(queue, SessionQueue):
                queue.session.change_subscription(definition)

    def _bound(self, id: int) -> Bindable | None:
        """What a binding's target is, by its entity."""
        return self._by_id.get(id) or self.stream_store.by_id.get(id)

    def undefine(self, id: int) -> Queue | None:
        """Apply: the queue is gone, with its messages; or the binding is."""
        self.bindings.undefine(id)
        self.bindings.target_gone(id)
        self.replay_store.undefine(id)
        queue = self._by_id.pop(id, None)
        if queue is None:
            return None
        for names in (self.queues, self.shares):
            if names.get(queue.name) is queue:
                del names[queue.name]
        if isinstance(queue, WebhookQueue) and self.webhooks.get(webhook_name(queue.name)) is queue:
            del self.webhooks[webhook_name(queue.name)]
        if isinstance(queue, SessionQueue):
            session = queue.session
            if self.sessions.get(session.name) is session:
                del self.sessions[session.name]
        self.discard_pages(queue, queue.bounds())
        return queue

    def discard_pages(self, queue: Queue, bounds: list[int]) -> None:
        """Apply: all messages below the bounds are gone."""
        pages = queue.purge(bounds)
        if self._live:
            self._trash.extend((queue.log, page) for page in pages if page.live)

    def apply(self, lsn: int, kind: int, buffer: bytes, at: int) -> None:
        """Apply one record; it may already be part of the state."""
        if kind == MESSAGE:
            self._apply_message(lsn, buffer, at)
        elif kind == STREAM:
            self.stream_store.put(lsn, buffer, at)
        elif kind == ACK:
            ack = decode_ack(buffer, at)
            queue = self._by_id.get(ack.entity)
            if queue is not None:
                for seq in ack.sequences:
                    queue.settle(seq, ack.reason)
            elif ack.entity == RETAINED_ENTITY:
                for number in ack.sequences:
                    self.retained.remove(number)
            elif ack.entity == WILL_ENTITY:
                for number in ack.sequences:
                    self.will_store.remove(number)
        elif kind == RECEIVE:
            receive = decode_receive(buffer, at)
            queue = self._by_id.get(receive.entity)
            if queue is not None:
                for seq in receive.sequences:
                    queue.note_receives(seq, receive.count)
        elif kind == LINK:
            self._apply_link(lsn, buffer, at)
        elif kind == DELAY:
            delay = decode_delay(buffer, at)
            queue = self._by_id.get(delay.entity)
            if queue is not None:
                for seq in delay.sequences:
                    queue.hold(seq, delay.due_ms)
        elif kind == PURGE:
            purge = decode_purge(buffer, at)
            queue = self._by_id.get(purge.entity)
            if queue is not None:
                self.discard_pages(queue, purge.bounds)
            else:
                self.stream_store.trim(purge.entity, purge.bounds[0])
        elif kind == DEFINITION:
            record = decode_definition(buffer, at)
            self._next_id = max(self._next_id, record.entity + 1)
            if record.content:
                self._define(record.entity, record.content)
                return
            self.group_store.undefine(record.entity)
            if self.stream_store.undefine(record.entity) is None:
                self.undefine(record.entity)
            else:
                self.bindings.target_gone(record.entity)
        elif kind == COLD:
            cold = decode_cold(buffer, at)
            self.stream_store.rehome(cold.file, cold.replaces)
        elif kind == CURSOR:
            self.group_store.set_cursor(decode_cursor(buffer, at))
        else:
            raise ValueError(f"record type {kind} at lsn {lsn} is not known to this version")

    def _apply_message(self, lsn: int, buffer: bytes, at: int) -> None:
        message = decode_message(buffer, at, lsn)
        size = len(message.attributes) + len(message.body)
        shards = self.stream_store.shards
        for entity, seq in message.targets:
            queue = self._by_id.get(entity)
            if entity == RETAINED_ENTITY:
                self._apply_retained(seq, message, size)
            elif entity == WILL_ENTITY:
                self.will_store.remove(seq)
            elif message.replaces:
                self._apply_move(queue, seq, message.replaces, lsn)
            elif entity in shards:
                shards[entity].put(seq, 1, lsn, message.length, message.time_ms)
            elif queue is not None:
                queue.put(seq, lsn, size, message.due_ms, message.expire_ms, message.group)
                if message.dedup and isinstance(queue, FifoQueue):
                    queue.remember(message.dedup, message.time_ms, lsn, seq)

    def _apply_link(self, lsn: int, buffer: bytes, at: int) -> None:
        link = decode_link(buffer, at, lsn)
        target = self._by_id.get(link.target)
        if link.replaces:
            self._apply_move(target, link.target_seq, link.replaces, lsn)
            return
        source = self._by_id.get(link.source)
        size = 0
        if source is not None:
            size = source.remove(link.source_seq)[2]
        elif not link.source:
            size = link.source_seq  # see Core.link
        if target is not None:
            target.put_linked(link.target_seq, link.message_lsn, size, link.group, lsn)

    def _apply_retained(self, number: int, message: MessageRecord, size: int) -> None:
        if not message.replaces:
            topic = str(unpack_headers(message.attributes)[TOPIC])
            lifetime_ms = self.host().limits.retained_expiry_ms
            ends_ms = end_ms(message.time_ms, message.expire_ms, lifetime_ms)
            self.retained.put(number, topic, message.lsn, size, ends_ms)
            return
        moved = self.retained.move(number, message.replaces, message.lsn)
        if self._live:
            self.log.release(message.replaces if moved else message.lsn)

    def _apply_move(self, queue: Queue | None, seq: int, old_lsn: int, new_lsn: int) -> None:
        """Compaction copied a record. Of old and new, the one that is not needed is released."""
        moved = queue is not None and queue.move(seq, old_lsn, new_lsn)
        if self._live:
            self.log.release(old_lsn if moved else new_lsn)
            if queue is not None and moved:
                self.changed(queue)

    def entities(self) -> Iterable[Queue]:
        """Every queue of every kind."""
        return self._by_id.values()

    # Checkpoint and recovery ------------------------------------------------------------------

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """Everything, as sections: see :meth:`storage.log.Replay.snapshot`."""
        yield _META, msgspec.msgpack.encode(_Meta(self._next_id))
        yield from self.retained.snapshot()
        yield from self.stream_store.snapshot()
        yield from self.group_store.snapshot()
        yield from self.bindings.snapshot()
        yield from self.replay_store.snapshot()
        yield from self.will_store.snapshot()
        for queue in list(self._by_id.values()):
            if queue.id in self._by_id:
                yield from queue.snapshot()

    def load(self, kind: int, content: bytes) -> None:
        """Take back one section."""
        if kind == _META:
            self._next_id = msgspec.msgpack.decode(content, type=_Meta).next_id
        elif kind == QUEUE:
            definition = _decode_definition(content)
            if isinstance(definition, SessionDefinition):
                self.define_session(definition.id, definition).load_lanes(definition.lanes)
            elif isinstance(definition, WebhookDefinition):
                self.define_webhook(definition.id, definition).load_lanes(definition.lanes)
            elif isinstance(definition, ViewDefinition):
                view = self.define_view(definition.id, definition)
                assert view is not None, "streams stand in front of queues"
                view.load_lanes(definition.lanes)
            else:
                assert isinstance(definition, QueueDefinition)
                self.define(definition.id, definition).load_lanes(definition.lanes)
        elif kind == RETAINED:
            self.retained.load(content)
        elif kind == BINDINGS:
            self.bindings.load(content)
        elif kind == REPLAYS:
            self.replay_store.load(content)
        elif kind == WILLS:
            self.will_store.load(content)
        elif kind in (STREAM_SECTION, SHARD, BLOCKS):
            self.stream_store.load(kind, content)
        elif kind == GROUP:
            self.group_store.load(content)
        else:
            queue = self._by_id[int.from_bytes(content[:4], "little")]
            if kind == PAGE:
                queue.load_page(content)
            else:
                queue.load_section(kind, content)

    def finish(self) -> None:
        """Everything was loaded and applied."""
        self.log.adopt_many(self.retained.finish_replay())
        for queue in self._by_id.values():
            self._name(queue)
            queue.finish_replay()
            if queue.logged:
                for lsns in queue.lsns():
                    self.log.adopt_many(lsns)
        self.stream_store.finish()
        self.group_store.finish()
        self.bindings.finish()
        self._live = True

    def references(self, first: int, end: int) -> Iterator[list[Reference]]:
        """Who needs a record with first <= lsn < end."""
        yield from self.retained.references(first, end)
        for queue in list(self._by_id.values()):
            if queue.logged and queue.id in self._by_id:
                yield from queue.references(first, end)

    def empty_trash(self, pages: int) -> bool:
        """Release the messages of a few pages that were purged; whether there are more."""
        for _ in range(min(pages, len(self._trash))):
            log, page = self._trash.pop()
            log.release_many([slot & LSN_MASK for slot in page.slots if slot])
            if page.links is not None:
                held = zip(page.slots, page.links, strict=False)
                log.release_many([link for slot, link in held if slot and link])
        return bool(self._trash)


_KINDS: dict[str, type[_Definition]] = {
    "binding": BindingDefinition,
    "group": GroupDefinition,
    "queue": QueueDefinition,
    "replay": ReplayDefinition,
    "schedules": QueueDefinition,
    "share": QueueDefinition,
    "session": SessionDefinition,
    "stream": StreamDefinition,
    "subscription": SubscriptionDefinition,
    "view": ViewDefinition,
    "webhook": WebhookDefinition,
    "will": WillDefinition,
}


def _decode_definition(content: bytes) -> _Definition:
    kind = _KINDS[msgspec.msgpack.decode(content, type=_Kind).kind]
    return msgspec.msgpack.decode(content, type=kind)
