"""One replay at work: from the shards of an archive to the target of a binding.

Rules:

- Shards are read one behind the other, by their numbers: so parents come before children, and what
  has one partition key comes in its order. A message without a key has its group as the key.
- A record is replayed if its topic matches the binding's filter, the binding's condition holds,
  and the user who replays may subscribe to that topic. It comes as what is published comes to the
  target, but is not deduplicated: that it was there before is the point of it.
- A batch of messages and how far the replay is then are one frame of the log.
- It makes way: for a target that is full, for what is published meanwhile, for a disk without
  room it waits, and drops nothing. Only what is too large for the target is left out, and counted.
- When its binding or its archive is gone, or the user lost a right, it has failed.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from ..storage.log import Durability
from ..storage.record import encode_definition
from .access import Principal
from .bindings import Bindable, Binding
from .dedup import group_hash
from .envelope import envelope, envelope_attributes, message_name
from .errors import (
    BraidError,
    NotFound,
    QueueFull,
    Throttled,
    TooLarge,
    Unavailable,
)
from .fanout import send_action
from .fifo import FifoQueue
from .filter_policy import decode_body
from .letters import Letter, post_in_turn
from .message import (
    GROUP_ID,
    REPLAYED,
    REPLAYED_FROM,
    REPLAYED_TIME,
    TOPIC,
    Headers,
    overlay,
    unpack_headers,
)
from .overflow import make_room
from .queue import Queue
from .replaystore import ReplayDefinition
from .replayverbs import ReplayInfo, ReplayState
from .shard import Shard
from .stream import Stream
from .streamreading import Chunk, ShardRead, partition_key
from .streamrecord import Record, chunk_records
from .streamstart import find_time
from .topic import matches
from .webhookqueue import WebhookQueue

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Replay", "replay_info"]

_STEP_RECORDS = 200  # looked at before others have their turn
_READ_RECORDS = 1_000
_READ_BYTES = 256 * 1024
_NOTED_RECORDS = 10_000  # looked at before it is written down even if none was replayed
_LOG_BYTES_MAX = 1024 * 1024  # that wait to be written: with more, what is published goes first
_WAIT_MS = 5  # for the log to go on
_PAUSE_MS = 500  # for a target that is full, or a disk
_PAUSE_MS_MAX = 2**40


class Replay:
    """See the module. How far it is stands in the store, under ``id``.

    Attributes:
        due_ms: when to call :meth:`step`; 0: when something was read, which it says itself.
    """

    def __init__(self, engine: "Engine", id: int, now_ms: int) -> None:
        self.id = id
        self.due_ms = now_ms
        self._engine = engine
        self._store = engine.replay_store
        self._begun_ms = now_ms
        self._begun_at = self.definition.replayed
        self._records: Sequence[Record] = ()
        self._at = 0  # of the records, the next to look at
        self._read: ShardRead | None = None
        self._error: BraidError | None = None  # of reading
        self._unwritten = 0  # records that were looked at since that was written down

    @property
    def definition(self) -> ReplayDefinition:
        """All that is known of it."""
        return self._store.by_id[self.id]

    @property
    def running(self) -> bool:
        """It has not ended."""
        definition = self._store.by_id.get(self.id)
        return definition is not None and definition.state == "running"

    def step(self, now_ms: int) -> None:
        """Do what is due, and say in ``due_ms`` when to go on."""
        self.due_ms = 0
        engine = self._engine
        if self._error is not None:
            self.end("failed", str(self._error))
            return
        try:
            binding, archive, who = self._parties()
            if engine.log.pending_bytes > _LOG_BYTES_MAX:
                self.due_ms = now_ms + _WAIT_MS
                return
            engine.admit(binding.target.settings.durability is Durability.MEMORY)
            if self._at < len(self._records):
                self._replay(binding, who, now_ms)
            else:
                self._go_on(archive, now_ms)
        except Unavailable:
            self.due_ms = now_ms + _PAUSE_MS
        except BraidError as error:
            self.end("failed", str(error))

    def end(self, state: ReplayState, error: str = "") -> None:
        """It is over; written down."""
        if self._read is not None:
            self._engine.streams.cancel(self._read)
            self._read = None
        self._records = ()
        self._write(msgspec.structs.replace(self.definition, state=state, error=error))

    def _parties(self) -> tuple[Binding, Stream, Principal]:
        """Raises NotFound, PermissionDenied, Unauthenticated."""
        engine, definition = self._engine, self.definition
        binding = engine.bindings.by_id.get(definition.binding)
        archive = engine.stream_store.by_id.get(definition.archive)
        if binding is None:
            raise NotFound(f"{definition.filter!r} is not bound any more")
        if archive is None:
            raise NotFound(f"stream {definition.policy.archive} was deleted")
        who = engine.access.owner(definition.user, "")
        who.check("stream:Read", archive.name)
        who.check(send_action(binding.target), binding.target.name)
        return binding, archive, who

    def _write(self, definition: ReplayDefinition) -> None:
        self._engine.write_definition(self.id, definition)
        self._store.define(self.id, definition)
        self._unwritten = 0

    # Reading ----------------------------------------------------------------------------------

    def _go_on(self, archive: Stream, now_ms: int) -> None:
        """Read on, or find out where."""
        definition = self.definition
        shard = _shard_from(archive, definition.shard)
        if shard is None:
            self.end("done")
            return
        if shard.index != definition.shard:
            definition = msgspec.structs.replace(definition, shard=shard.index, number=0)
            self._store.define(self.id, definition)
        if not definition.number:
            find_time(shard, definition.policy.start_ms, self._found)
            return
        number = shard.present(definition.number)
        if number >= shard.next:
            self._leave_shard(now_ms)
        elif number >= shard.readable():
            self.due_ms = now_ms + _WAIT_MS  # what stands there is not kept yet
        else:
            streams = self._engine.streams
            read = ShardRead(
                *(streams, archive, shard, number, _READ_RECORDS, _READ_BYTES, now_ms),
                *(self._came, shard),
            )
            try:
                streams.begin(read)
            except Throttled:
                self.due_ms = now_ms + _PAUSE_MS
                return
            self._read = read

    def _leave_shard(self, now_ms: int) -> None:
        self._records = ()
        definition = self.definition
        after = msgspec.structs.replace(definition, shard=definition.shard + 1, number=0)
        if self._unwritten:
            self._write(after)
        else:
            self._store.define(self.id, after)
        self.due_ms = now_ms + 1

    def _found(self, number: int | BraidError) -> None:
        """A shard is to be read from ``number`` on."""
        if not self.running:
            return
        if isinstance(number, BraidError):
            self._error = number
        else:
            self._store.define(self.id, msgspec.structs.replace(self.definition, number=number))
        self._engine.replays.soon(self)

    def _came(self, shard: object, chunk: Chunk | BraidError) -> None:
        """Records were read."""
        self._read = None
        assert isinstance(shard, Shard)
        if isinstance(chunk, BraidError):
            self._error = chunk
        else:
            self._records, self._at = chunk_records(chunk, shard.index), 0
            if not chunk.count:
                after = msgspec.structs.replace(self.definition, number=chunk.next)
                self._store.define(self.id, after)
        self._engine.replays.soon(self)

    # Replaying --------------------------------------------------------------------------------

    def _replay(self, binding: Binding, who: Principal, now_ms: int) -> None:
        """Post what may go of the records that were read."""
        definition, target = self.definition, binding.target
        if isinstance(target, WebhookQueue) and not target.webhook.confirmed_ms:
            self.due_ms = now_ms + _PAUSE_MS
            return
        begin, quota = self._at, self._quota(target, now_ms)
        letters: list[Letter] = []
        refused = 0
        over = full = False
        while self._at < len(self._records) and self._at - begin < _STEP_RECORDS:
            if len(letters) >= quota:
                break
            record = self._records[self._at]
            if record.time_ms >= definition.policy.end_ms:
                over = True
                break
            try:
                letter = self._letter(record, binding, who, now_ms)
            except TooLarge:
                refused += 1
            except (QueueFull, Throttled):
                full = True
                break
            else:
                letters.extend([letter] if letter is not None else [])
            self._at += 1
        self._note(target, letters, self._at - begin, refused, now_ms)
        if over:
            self._leave_shard(now_ms)
        else:
            self.due_ms = now_ms + _PAUSE_MS if full else self._next_ms(now_ms)

    def _quota(self, target: Bindable, now_ms: int) -> int:
        """How many messages may go now."""
        definition = self.definition
        quota = _STEP_RECORDS
        if rate := definition.policy.rate:
            due = int((now_ms - self._begun_ms) * rate / 1000) + 1
            quota = min(quota, due - (definition.replayed - self._begun_at))
        if isinstance(target, Queue) and _is_limited(target):
            quota = min(quota, 1)  # room for one is made when the one before is in
        return quota

    def _next_ms(self, now_ms: int) -> int:
        """When to go on, by the rate."""
        definition = self.definition
        pause_ms = 0.0
        if rate := definition.policy.rate:
            # Divided by next to nothing it is infinite, which is no time.
            pause_ms = min((definition.replayed - self._begun_at) * 1000 / rate, _PAUSE_MS_MAX)
        return max(now_ms + 1, self._begun_ms + int(pause_ms))

    def _letter(
        self, record: Record, binding: Binding, who: Principal, now_ms: int
    ) -> Letter | None:
        """The message that a record was, for the binding's target; None: it is not for it.

        Raises QueueFull, Throttled, TooLarge.
        """
        headers = unpack_headers(record.raw_headers)
        topic = headers.get(TOPIC)
        if not isinstance(topic, str) or not matches(binding.filter, topic):
            return None
        if not who.allows("topic:Subscribe", topic) or not _holds(binding, headers, record):
            return None
        definition = self.definition
        origin: Headers = {
            REPLAYED: "1",
            REPLAYED_TIME: str(record.time_ms),
            REPLAYED_FROM: f"{definition.policy.archive}/{record.shard}/{record.number}",
        }
        headers |= origin
        if binding.settings.raw:
            letter = Letter(msgspec.msgpack.encode(headers), record.body)
        else:
            # The same whenever it is replayed.
            name = message_name(definition.archive << 32 | record.shard, record.number)
            content = envelope(topic, headers, record.body, name, record.time_ms)
            outside = overlay(envelope_attributes(headers), msgspec.msgpack.encode(origin))
            letter = Letter(outside, content)
        if isinstance(binding.target, Stream):
            self._address_stream(letter, binding.target, partition_key(record.raw_headers), now_ms)
        else:
            group = str(headers.get(GROUP_ID) or topic)
            _address_queue(letter, binding.target, group, now_ms)
        return letter

    def _address_stream(self, letter: Letter, stream: Stream, key: bytes, now_ms: int) -> None:
        size = len(letter.attributes) + len(letter.body)
        if size > stream.settings.record_bytes_max:
            raise TooLarge(f"stream {stream.name} takes no record of {size} bytes")
        shard = stream.place(key)
        if not self._engine.streams.let_in(stream, shard, size, now_ms):
            raise Throttled(f"shard {shard.index} of stream {stream.name} is busy")
        letter.shards.append(shard)

    def _note(
        self, target: Bindable, letters: Sequence[Letter], examined: int, refused: int, now_ms: int
    ) -> None:
        """Post messages, and with them how far this is now."""
        before, log = self.definition, self._engine.log
        if not examined:
            return
        definition = msgspec.structs.replace(
            before,
            number=self._records[self._at - 1].number + 1,
            examined=before.examined + examined,
            replayed=before.replayed + len(letters),
            refused=before.refused + refused,
        )
        self._unwritten += examined
        if not letters:
            if self._unwritten >= _NOTED_RECORDS:
                self._write(definition)
            else:
                self._store.define(self.id, definition)
        elif target.settings.durability is Durability.MEMORY:
            post_in_turn(self._engine.memory, letters, (), now_ms)
            self._write(definition)
        else:
            note = encode_definition(self.id, msgspec.msgpack.encode(definition))
            post_in_turn(log, letters, (note,), now_ms)
            self._store.define(self.id, definition)
            self._unwritten = 0
        if letters:
            self._settle(target, letters, now_ms)

    def _settle(self, target: Bindable, letters: Sequence[Letter], now_ms: int) -> None:
        """Have the target deliver what it got, and let it grow old."""
        engine = self._engine
        if isinstance(target, Stream):
            for letter in letters:
                engine.streams.taken(target, letter.shards[0], 1)
            return
        engine.changed(target)
        target.trim_wheels(len(letters))
        if target.settings.retention_ms and not target.sweep_ms:
            target.sweep_ms = now_ms + target.settings.retention_ms
        target.set_alarm()


def _shard_from(archive: Stream, index: int) -> Shard | None:
    """The first shard from ``index`` on of which something is left."""
    if index not in archive.shards:
        index = min((each for each in archive.shards if each > index), default=-1)
    return archive.shards.get(index)


def _is_limited(queue: Queue) -> bool:
    return bool(queue.settings.messages_max or queue.settings.bytes_max)


def _holds(binding: Binding, headers: Headers, record: Record) -> bool:
    """Whether the condition holds."""
    condition = binding.condition
    if condition is None:
        return True
    if condition.on_body:
        return condition.matches_body(decode_body(record.body))
    return condition.matches_headers(headers, record.time_ms)


def _address_queue(letter: Letter, queue: Queue, group: str, now_ms: int) -> None:
    settings = queue.settings
    size = len(letter.attributes) + len(letter.body)
    if _is_limited(queue):
        if 0 < settings.bytes_max < size:
            raise TooLarge(f"queue {queue.name} has no room for {size} bytes")
        make_room(queue, size, now_ms)
    if isinstance(queue, FifoQueue):
        letter.due_ms, letter.group = queue.next_due_ms(now_ms), group_hash(group)
    elif settings.delay_ms:
        letter.due_ms = now_ms + settings.delay_ms
    if settings.ttl_ms:
        letter.expire_ms = now_ms + settings.ttl_ms
    letter.queues.append(queue)


def replay_info(definition: ReplayDefinition, id: int, archive: Stream | None) -> ReplayInfo:
    """How far a replay is; ``archive``: None when it is gone."""
    remaining = 0
    if definition.state == "running" and archive is not None:
        for shard in archive.shards.values():
            if shard.index >= definition.shard:
                here = definition.number if shard.index == definition.shard else 0
                remaining += shard.next - max(shard.first, here)
    return ReplayInfo(
        id=id,
        filter=definition.filter,
        target=definition.target,
        policy=definition.policy,
        user=definition.user,
        created_ms=definition.created_ms,
        state=definition.state,
        error=definition.error,
        examined=definition.examined,
        remaining=remaining,
        replayed=definition.replayed,
        refused=definition.refused,
    )
