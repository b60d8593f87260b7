"""What happens to a publication where its topic is bound to queues and streams.

:meth:`Fanout.plan` tells who takes it, as far as its headers say; :meth:`Fanout.address` adds, for
each message, those who ask about its body, and puts all of them on letters (``letters.py``), which
are posted together. Rules:

- A target gets a message once, however many bindings match: as it is, if one of these is raw,
  else in an envelope.
- Who made a binding must be allowed to subscribe to the topic and to send to the target, at the
  time of the publication. Otherwise nothing is delivered.
- A target that refuses, because it is full, does not make the publication fail for others, as in
  SNS. What it refused goes to the binding's dead-letter queue, if it has one; else it is dropped.
  Both are counted. It goes there behind the frame that the others share.
- In a FIFO queue the message's group is its header ``group-id``, else its topic; its header
  ``dedup-id`` identifies it. A queue that had it before does not get it again, others do.
- Bindings take messages of every quality, for who binds a queue wants to keep them. One of QoS 0
  promises its publisher nothing; it is dropped while the broker is overloaded.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..storage.log import Durability
from .bindings import Bindable, Binding, Bundle
from .dedup import group_hash
from .envelope import envelope, envelope_attributes, message_name
from .errors import BraidError, Throttled, TooLarge
from .fifo import FifoQueue
from .filter_policy import decode_body
from .letters import TARGET_BYTES, TARGETS_MAX, Letter, post
from .message import (
    DEAD_LETTER_QUEUE,
    DEAD_LETTER_REASON,
    DEAD_LETTER_TIME,
    DEDUP_ID,
    GROUP_ID,
    OWN_HEADERS,
    Headers,
    Outgoing,
    overlay,
    pack_headers,
    unpack_headers,
)
from .overflow import make_room
from .publication import Publication
from .queue import Queue
from .shard import Shard
from .stream import Stream
from .streamreading import partition_key
from .webhookqueue import WebhookQueue

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Fanout", "Plan", "send_action"]

_MEMORY = Durability.MEMORY


class Plan:
    """Who takes a publication by bindings.

    Attributes:
        plain: queues that take all its messages as they are. streams: bindings to such streams.
        special: bindings that take all of them, but each in its way.
        asking: bundles with conditions on the body.
        level: what its messages have to wait for, so far. matched: how many take one, at most.
        shards: those of ``streams`` that take it. touched, records: which queues got a message in
            their own way, and how many of them each shard got.
    """

    __slots__ = (
        "_headers",
        "asking",
        "level",
        "matched",
        "plain",
        "publication",
        "records",
        "refused",
        "seen",
        "shards",
        "special",
        "streams",
        "touched",
    )

    def __init__(self, publication: Publication) -> None:
        self.publication = publication
        self.plain: Sequence[Queue] = ()
        self.streams: list[Binding] = []
        self.shards: list[tuple[Stream, Shard]] = []
        self.special: list[Binding] = []
        self.asking: list[Bundle] = []
        self.level = _MEMORY
        self.matched = 0
        self.seen: set[Bindable] | None = None  # with several bundles: who has it as it is
        self.touched: dict[Queue, None] = {}
        self.records: dict[tuple[Stream, Shard], int] = {}
        self.refused: list[tuple[Binding, bytes, BraidError]] = []
        self._headers: Headers | None = None

    @property
    def is_empty(self) -> bool:
        """Nobody takes anything."""
        return not (self.plain or self.streams or self.special or self.asking)

    @property
    def is_plain(self) -> bool:
        """Everybody takes everything as it is."""
        return not (self.special or self.asking)

    @property
    def is_simple(self) -> bool:
        """The same, and they are queues, as many as one record has room for."""
        return self.is_plain and not self.shards and len(self.plain) <= TARGETS_MAX // 2

    @property
    def headers(self) -> Headers:
        """The headers of the messages, unpacked when they are first asked for."""
        if self._headers is None:
            self._headers = unpack_headers(self.publication.attributes)
        return self._headers


class Fanout:
    """The bindings of a broker, at work. See the module.

    Attributes:
        filters: those that are bound; their version says whether something may have changed.
        dropped, dead_lettered: messages that targets refused, since the broker started.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._access = engine.access
        self._bindings = engine.bindings
        self.filters = engine.bindings.router
        self.dropped = self.dead_lettered = 0

    def bundles(self, topic: str) -> tuple[Bundle, ...]:
        """The bindings of a topic whose makers may have what is published to it."""
        found = self.filters.match(topic) if self._bindings.by_id else ()
        return tuple(each for each in found if self.may(each.user, "topic:Subscribe", topic))

    def may(self, user: str, action: str, name: str) -> bool:
        """Whether a user has a right; nobody has who is gone."""
        try:
            return self._access.owner(user, "").allows(action, name)
        except BraidError:
            return False

    # Who --------------------------------------------------------------------------------------

    def plan(self, bundles: Sequence[Bundle], publication: Publication, now_ms: int) -> Plan:
        """Who takes the messages of a publication."""
        plan = Plan(publication)
        version = self._access.version
        for bundle in bundles:
            if bundle.version != version:
                self._refresh(bundle, version)
            self._choose(plan, bundle, now_ms)
        several = len(bundles) > 1
        if several:
            plan.plain = list(dict.fromkeys(plan.plain))
            plan.streams = _unseen(plan.streams, set())
        if plan.streams:
            self._place(plan)
        if several:
            plan.seen = {*plan.plain, *(binding.target for binding in plan.streams)}
            plan.special = _unseen(plan.special, plan.seen)
        plan.matched = len(plan.plain) + len(plan.streams) + len(plan.special)
        return plan

    def _refresh(self, bundle: Bundle, version: int) -> None:
        bundle.refresh(version, lambda target: self.may_send(bundle.user, target))

    def may_send(self, user: str, target: Bindable) -> bool:
        """Whether a user may put messages into a target, and it takes any at all."""
        if isinstance(target, WebhookQueue) and not target.webhook.confirmed_ms:
            return False
        return self.may(user, send_action(target), target.name)

    def _choose(self, plan: Plan, bundle: Bundle, now_ms: int) -> None:
        plain, streams, special = bundle.plain, bundle.streams, bundle.special
        if len(bundle.by_headers):
            headers = plan.headers
            plain, streams, special = plain[:], streams[:], special[:]
            for binding in bundle.by_headers.by_headers(headers):
                assert binding.condition is not None
                matches = binding.condition.matches_headers
                if not binding.allowed or not matches(headers, now_ms):
                    continue
                target = binding.target
                if not binding.plain:
                    special.append(binding)
                    continue
                plan.level = max(plan.level, target.settings.durability)
                if isinstance(target, Stream):
                    streams.append(binding)
                else:
                    plain.append(target)
        plan.level = max(plan.level, bundle.level)
        plan.plain = [*plan.plain, *plain] if plan.plain else plain
        plan.streams = [*plan.streams, *streams] if plan.streams else streams
        plan.special = [*plan.special, *special] if plan.special else special
        if len(bundle.by_body):
            plan.asking.append(bundle)

    def _asked(self, plan: Plan, body: bytes) -> list[Binding]:
        """Those who take a message because of its body."""
        document = decode_body(body)
        return [
            binding
            for bundle in plan.asking
            for binding in bundle.by_body.by_body(document or {})
            if binding.allowed
            and binding.condition is not None
            and binding.condition.matches_body(document)
        ]

    def _place(self, plan: Plan) -> None:
        """Find the shards: all messages of a publication have the same partition key."""
        attributes = plan.publication.attributes
        key = partition_key(attributes)
        largest = max(map(len, plan.publication.bodies)) + len(attributes)
        streams, plan.streams = plan.streams, []
        for binding in streams:
            stream = binding.target
            assert isinstance(stream, Stream)
            if largest > stream.settings.record_bytes_max:
                plan.special = [*plan.special, binding]
            else:
                plan.streams.append(binding)
                plan.shards.append((stream, stream.place(key)))

    # What -------------------------------------------------------------------------------------

    def deliver(self, plan: Plan | None, base: Letter, now_ms: int) -> None:
        """Post a message to all who take it, and to those who are on ``base`` already.

        Raises:
            TooLarge: see :func:`letters.post`. Nobody has it then.
        """
        engine = self._engine
        bytes_max = engine.limits.fanout_bytes_max
        if plan is None:
            post(engine.log, (base,), now_ms, bytes_max)
            return
        bindings = plan.special
        if plan.asking:
            bindings = bindings + self._asked(plan, base.body)
            if plan.seen is not None:
                bindings = _unseen(bindings, plan.seen)
            matched = len(plan.plain) + len(plan.streams) + len(bindings)
            plan.matched = max(plan.matched, matched)
        base.queues.extend(plan.plain)
        base.shards.extend(shard for _, shard in plan.shards)
        logged: dict[object, Letter] = {}
        volatile: dict[object, Letter] = {}
        if bindings:
            # Room is made before anybody has a number: what makes way may go to another of them.
            bindings = [each for each in bindings if self._has_room(plan, each, base, now_ms)]
            enveloped = self._enveloped(plan, bindings, base.body, now_ms)
            for binding in bindings:
                others = volatile if _is_volatile(binding.target) else logged
                self._address(plan, binding, base, enveloped, others, now_ms)
        letters = [base] if base.queues or base.shards or base.more else []
        letters.extend(logged.values())
        if letters:
            post(engine.log, letters, now_ms, bytes_max)
        if volatile:
            post(engine.memory, list(volatile.values()), now_ms, bytes_max)

    def _has_room(self, plan: Plan, binding: Binding, base: Letter, now_ms: int) -> bool:
        target = binding.target
        size = len(base.attributes) + len(base.body)
        try:
            if _is_volatile(target):
                self._engine.admit(memory=True)
            if isinstance(target, Queue):
                if target.settings.messages_max or target.settings.bytes_max:
                    make_room(target, size, now_ms)
            elif size > target.settings.record_bytes_max:
                raise TooLarge(f"stream {target.name} takes no record of {size} bytes")
            else:
                shard = target.place(partition_key(base.attributes))
                if not self._engine.streams.let_in(target, shard, size, now_ms):
                    raise Throttled(f"shard {shard.index} of stream {target.name} is busy")
        except BraidError as error:
            plan.refused.append((binding, base.body, error))
            return False
        return True

    def _enveloped(
        self, plan: Plan, bindings: Sequence[Binding], body: bytes, now_ms: int
    ) -> tuple[bytes, bytes]:
        """Headers and body of the message in an envelope; made only if somebody wants that."""
        if all(binding.settings.raw for binding in bindings):
            return b"", b""
        engine, headers = self._engine, plan.headers
        name = message_name(engine.instance, engine.log.next_lsn)
        content = envelope(plan.publication.topic, headers, body, name, now_ms)
        return envelope_attributes(headers), content

    def _address(
        self,
        plan: Plan,
        binding: Binding,
        base: Letter,
        enveloped: tuple[bytes, bytes],
        others: dict[object, Letter],
        now_ms: int,
    ) -> None:
        """Put a target on the letter that is right for it: ``base``, or one of ``others``."""
        target, raw = binding.target, binding.settings.raw
        try:
            if isinstance(target, Stream):
                key = (raw, 0, base.expire_ms, 0, b"")
            else:
                key = self._terms(plan, binding, target, base, now_ms)
        except _Duplicate:
            binding.duplicates += 1
            return
        except BraidError as error:
            plan.refused.append((binding, base.body, error))
            return
        _, due_ms, expire_ms, group, dedup = key
        letter = others.get(key)
        if raw and not due_ms and expire_ms == base.expire_ms and not _is_volatile(target):
            if not group or not base.group or (group, dedup) == (base.group, base.dedup):
                base.group, base.dedup = group or base.group, dedup or base.dedup
                letter = base
        if letter is None:
            attributes, body = (base.attributes, base.body) if raw else enveloped
            letter = others[key] = Letter(attributes, body, due_ms, expire_ms, group, dedup)
        if isinstance(target, Stream):
            shard = target.place(partition_key(base.attributes))
            letter.shards.append(shard)
            plan.records[target, shard] = plan.records.get((target, shard), 0) + 1
        else:
            letter.queues.append(target)
            plan.touched[target] = None

    def _terms(
        self, plan: Plan, binding: Binding, queue: Queue, base: Letter, now_ms: int
    ) -> tuple[bool, int, int, int, bytes]:
        """How a queue takes a message: what its record says besides headers and body.

        Raises _Duplicate, LimitExceeded.
        """
        settings = queue.settings
        due_ms, group, dedup = now_ms + settings.delay_ms if settings.delay_ms else 0, 0, b""
        if isinstance(queue, FifoQueue):
            name = str(plan.headers.get(GROUP_ID) or plan.publication.topic)
            dedup_id = str(plan.headers.get(DEDUP_ID) or "")
            known, dedup = queue.deduplicate(name, dedup_id, base.body, now_ms)
            if known is not None:
                raise _Duplicate
            due_ms, group = queue.next_due_ms(now_ms), group_hash(name)
        expire_ms = plan.publication.expire_ms
        if not expire_ms and settings.ttl_ms:
            expire_ms = now_ms + settings.ttl_ms
        return binding.settings.raw, due_ms, expire_ms, group, dedup

    def weigh(
        self, plan: Plan, queues: Sequence[Queue], body: bytes, now_ms: int
    ) -> tuple[Sequence[Binding], int]:
        """What :meth:`deliver` would do with a message that ``queues`` get too; nothing happens.

        Returns the bindings that take it each in its way, and how many bytes would be written at
        most, dead letters included.

        Raises:
            TooLarge: as :meth:`deliver`.
        """
        publication = plan.publication
        bindings = plan.special
        if plan.asking:
            bindings = [*bindings, *self._asked(plan, body)]
            if plan.seen is not None:
                bindings = _unseen(bindings, plan.seen)
        base = Letter(publication.attributes, body, 0, publication.expire_ms)
        base.queues = [*queues, *plan.plain]
        enveloped = self._enveloped(plan, bindings, body, now_ms)
        letters: dict[object, Letter] = {}
        buried = 0
        for binding in bindings:
            target, raw = binding.target, binding.settings.raw
            due_ms, alike = 0, None
            if isinstance(target, FifoQueue):
                alike = target.settings.content_dedup, target.settings.dedup_scope
            if isinstance(target, Queue):
                due_ms = max(target.due_ms(now_ms), now_ms + target.settings.delay_ms)
            key = raw, due_ms, target.settings.ttl_ms if isinstance(target, Queue) else 0, alike
            letter = letters.get(key)
            if letter is None:
                content = (base.attributes, body) if raw else enveloped
                letter = letters[key] = Letter(*content)
            if isinstance(target, Queue):
                letter.queues.append(target)
            buried += base.content if binding.settings.dead_letter else 0
        size = base.size + TARGET_BYTES * len(plan.shards)
        size += sum(letter.size for letter in letters.values()) + TARGET_BYTES * len(bindings)
        if letters and size > self._engine.limits.fanout_bytes_max:
            raise TooLarge(
                f"{size} bytes to write for one message,"
                f" at most {self._engine.limits.fanout_bytes_max}"
            )
        return bindings, size + buried

    # Afterwards -------------------------------------------------------------------------------

    def finish(self, plan: Plan, now_ms: int) -> Durability:
        """All messages of a publication were posted: what they have to wait for."""
        engine, level = self._engine, plan.level
        for binding, body, error in plan.refused:
            level = max(level, self._refused(plan, binding, body, error, now_ms))
        plan.refused.clear()
        self._settle(plan.plain, plan, now_ms)
        for queue in plan.touched:
            if queue.logged:
                level = max(level, queue.settings.durability)
            queue.trim_wheels(plan.publication.count)
            queue.set_alarm()
        self._settle(list(plan.touched), plan, now_ms)
        for stream, shard in plan.shards:
            engine.streams.taken(stream, shard, plan.publication.count)
        for (stream, shard), count in plan.records.items():
            level = max(level, stream.settings.durability)
            engine.streams.taken(stream, shard, count)
        return level if plan.publication.qos else _MEMORY

    def _settle(self, queues: Sequence[Queue], plan: Plan, now_ms: int) -> None:
        """Have queues deliver what they got, and let it grow old."""
        expires = plan.publication.expire_ms
        for queue in queues:
            if queue.consumers:
                self._engine.changed(queue)
            if expires:
                queue.trim_wheels(plan.publication.count)
                queue.set_alarm()
            retention_ms = queue.settings.retention_ms
            if retention_ms and not queue.sweep_ms:
                queue.sweep_ms = now_ms + retention_ms
                queue.set_alarm()

    def _refused(
        self, plan: Plan, binding: Binding, body: bytes, error: BraidError, now_ms: int
    ) -> Durability:
        """Put what a target did not take into the dead-letter queue, if there is one."""
        engine = self._engine
        name = binding.settings.dead_letter
        queue = engine.queues.get(name) if name else None
        if queue is not None and self.may(binding.user, "queue:Send", name):
            why: Headers = {
                DEAD_LETTER_QUEUE: binding.target.name,
                DEAD_LETTER_REASON: error.code,
                DEAD_LETTER_TIME: str(now_ms),
            }
            attributes = overlay(plan.publication.attributes, pack_headers(why, OWN_HEADERS))
            group = ""
            if queue.fifo:
                group = str(plan.headers.get(GROUP_ID) or plan.publication.topic)
            message = Outgoing(body, attributes, group=group)
            if not isinstance(queue.send([message], now_ms)[0], BraidError):
                engine.changed(queue)
                binding.dead_lettered += 1
                self.dead_lettered += 1
                return queue.settings.durability if queue.logged else _MEMORY
        binding.dropped += 1
        self.dropped += 1
        return _MEMORY


class _Duplicate(Exception):
    """A queue had the message before."""


def send_action(target: Bindable) -> str:
    """What somebody must be allowed to do to a target to put messages there."""
    return "stream:Append" if isinstance(target, Stream) else "queue:Send"


def _is_volatile(target: Bindable) -> bool:
    return target.settings.durability is _MEMORY


def _unseen(bindings: Sequence[Binding], seen: set[Bindable]) -> list[Binding]:
    """One binding for each target that is not among ``seen``: a raw one, if there is one."""
    chosen: dict[Bindable, Binding] = {}
    for each in bindings:
        before = chosen.get(each.target)
        if each.target not in seen and (before is None or not before.settings.raw):
            chosen[each.target] = each
    return list(chosen.values())
