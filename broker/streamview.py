"""A queue view: a stream consumed as a queue, without a copy of its records.

A view has a visibility timeout, acknowledgements, receive counts, redelivery, delays after a nack,
selectors, browsing and dead letters, as every queue has; its messages are the records of a stream.
Any number of views, groups and readers use one stream and do not see each other. Rules:

- What the log keeps of a view is what became of records: ACK, RECEIVE and DELAY, with the lane and
  the record's number as the sequence. Nothing in the log is referred to; see ``viewlane.py``.
- Records are admitted as consumers need them, and only what readers of the stream may see. At most
  ``in_flight_messages_max`` and ``view_lookahead_messages_max`` records are known at one time, so
  a view of a billion records is small; a selector looks no further ahead than that.
- New records come in the order of their shard, shards take turns, and a shard of a split or merge
  comes when its parents are through. What was given back comes again when its time has come, and
  nothing waits for it.
- A dead letter is a copy, because the stream lets go of the record: a MESSAGE of the dead-letter
  queue with the record's sequence as a second target, which settles it here. Both or none.
- What the stream has trimmed is gone here too, and counts as expired, but stays with whoever holds
  it until then.
- What a view has admitted was kept: where a loss was accepted, no number of it is given again.
- Every statement is absolute, also that about the lanes: a definition names all of them. A lane's
  code is used again only for numbers that were never in it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from struct import Struct
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from ..storage.cold import ColdFile
from ..storage.errors import StorageError
from ..storage.record import MessageContent, encode_purge
from .errors import BraidError, InvalidArgument
from .group import record_time_ms
from .host import Host
from .index import HELD, LEASED, LSN_MASK, Lane, Page
from .lease import Consumer
from .message import PRIORITY_DEFAULT, Delivery, Outgoing, Sent
from .queue import Queue
from .state import COUNTS, LANE_SHIFT, NUMBER_MASK, QUEUE, WHEEL
from .stream import Stream
from .viewburials import BURY_MS, Burials
from .viewdefinition import ViewDefinition, ViewShard, reshaped
from .viewdelays import Delays
from .viewlane import VIEW_PAGE, ViewLane, record_slot, section_code
from .viewreader import ViewReader
from .viewtip import Tip

if TYPE_CHECKING:
    from .streams import Streams

__all__ = ["StreamView", "ViewHost"]

_ADMIT_MESSAGES = 256  # of a shard in one go
_IDLE_MS = 5_000  # before what was read ahead is forgotten
_RETRY_MS = 1_000  # before what could not be done is tried again
_SECTION = Struct("<IIQ")
_PAIR = Struct("<QQ")
_DOOMED = 2  # which WHEEL section: 0 is delayed, 1 expiring


class ViewHost(Host, Protocol):
    """What a view needs of the broker around it."""

    streams: "Streams"
    now_ms: int

    def later(self, call: Callable[[], None]) -> None:
        """Call back in another turn."""

    def write_definition(self, id: int, definition: object) -> None:
        """Append a definition to the broker's log."""

    def bury_record(
        self,
        view: "StreamView",
        seq: int,
        message: MessageContent,
        reason: str,
        receives: int,
        now_ms: int,
    ) -> bool:
        """Copy a record into the dead-letter queue and settle it; False: there is no room now."""


class StreamView(Queue):
    """A queue that shows the records of a stream. See the module."""

    kind = "view"
    is_told = False
    host: ViewHost
    reader: ViewReader

    def __init__(self, host: ViewHost, id: int, definition: ViewDefinition, stream: Stream) -> None:
        self.stream = stream
        self.shards: dict[int, ViewLane] = {}  # the lanes, by code
        super().__init__(
            host, id, definition.name, definition.settings, stream.log, definition.created_ms
        )
        self.delayed = Delays()
        self.let_go = _nothing
        self.spent: dict[int, int] = {}
        self.next_code = 0
        self._busy: deque[ViewLane] = deque()
        self._stalled: list[ViewLane] = []
        self._turns: deque[ViewLane] = deque()  # all lanes, for selectors
        self.burials = Burials(self)
        self._reshaped = False
        self._idle_ms = self._retry_ms = 0
        self._seeking = 0  # lanes
        self.define(definition)

    def make_reader(self, loaded: Callable[[StorageError | None], None]) -> ViewReader:
        """Who reads its records, and calls ``loaded`` when one has come from disk."""
        return ViewReader(self.log, self.shards, self.host.later, loaded)

    def frontier(self) -> int:
        """What is admitted may be delivered."""
        return LSN_MASK

    def send(
        self, messages: Sequence[Outgoing], now_ms: int, more: Sequence[tuple[int, int]] = ()
    ) -> list[Sent | BraidError]:
        """Nothing is sent to a view. Raises InvalidArgument."""
        raise InvalidArgument(
            f"queue {self.name} shows the stream {self.stream.name}: append to the stream instead"
        )

    # Lanes ------------------------------------------------------------------------------------

    def define(self, definition: ViewDefinition) -> None:
        """Apply: these are its settings and its lanes."""
        self.settings = definition.settings
        self.spent, self.next_code = definition.spent, definition.next_code
        before = self.shards.copy()
        shards = {shard.id: shard for shard in self.stream.shards.values()}
        shards |= {lane.shard.id: lane.shard for lane in before.values()}
        self.shards.clear()
        self.by_code.clear()
        for each in definition.shards:
            code, id, start = each.code, each.shard, each.start
            lane = before.get(code)
            if lane is None or lane.shard.id != id:
                shard = shards.get(id)
                if shard is None:
                    continue  # it is gone, and all that the view has of it
                # What is only in memory begins anew.
                lane = ViewLane(code, shard, start if self.logged else min(start, shard.next))
            self.shards[code] = self.by_code[code] = lane
        self.lanes = list(self.by_code.values())
        self._turns = deque(self.shards.values())
        self.bytes = sum(page.bytes for lane in self.lanes for page in lane.pages.values())
        by_index = {lane.shard.index: lane for lane in self.shards.values()}
        for lane in by_index.values():
            lane.parents.clear()
            lane.children.clear()
        for lane in by_index.values():
            for index in lane.shard.definition.parents:
                if index in by_index:
                    lane.parents.append(by_index[index])
                    by_index[index].children.append(lane)

    def _described(self) -> ViewDefinition:
        return ViewDefinition(
            name=self.name,
            settings=self.settings,
            created_ms=self.created_ms,
            stream=self.stream.id,
            shards=[ViewShard(each.code, each.shard.id, each.start) for each in self._turns],
            spent=self.spent,
            next_code=self.next_code,
        )

    def definition(self) -> dict[str, Any]:
        """What a DEFINITION record says of it."""
        return msgspec.structs.asdict(self._described())

    def open(self) -> None:
        """Begin to work: everything is recovered, or it was declared just now."""
        self.host.streams.watchers.setdefault(self.stream.id, {})[self] = None
        self._follow()
        for lane in self.shards.values():
            if self.settings.start == "time" and lane.next == lane.start:
                self._seek(lane)
        self.burials.start()

    def close(self) -> None:
        """It is deleted: nothing waits for its stream any more."""
        self.host.streams.watchers.get(self.stream.id, {}).pop(self, None)
        for lane in self.shards.values():
            if lane.tip is not None:
                self.host.streams.cancel(lane.tip)
        self.forget_leases()
        self._idle_ms = self._retry_ms = 0

    def resharded(self, stream: Stream) -> None:
        """The stream has other shards: see ``StreamWatcher``."""
        self._reshaped = True
        self.host.wake(self)

    def ended(self, stream: Stream) -> None:
        """The stream was deleted, which is refused as long as it has views."""

    def _follow(self) -> None:
        """Have a lane for each shard, and none for a shard that is gone."""
        self._reshaped = False
        there = self.stream.shards
        gone = [
            lane.shard
            for lane in self._turns
            if lane.shard.index not in there and not self._trim(lane).live
        ]
        definition = reshaped(self._described(), self.stream, gone)
        if definition is not None:
            if self.logged:
                self.host.write_definition(self.id, definition)
            self.define(definition)
            self._busy = deque(filter(self._is_there, self._busy))
            self._stalled = list(filter(self._is_there, self._stalled))
        for lane in sorted(self._turns, key=_index):
            if lane.tip is None and not lane.stalled:
                self._enter_child(lane)

    def _is_there(self, lane: ViewLane) -> bool:
        return self.shards.get(lane.code) is lane

    def _enter_child(self, lane: ViewLane) -> None:
        """A lane's turn may come when all of its parents are through."""
        if all(each.opened and each.admitted and not each.busy for each in lane.parents):
            self._enter(lane)

    def _enter(self, lane: ViewLane) -> None:
        """Something in the lane may be ready."""
        if not lane.busy:
            lane.opened = lane.busy = True
            self._busy.append(lane)

    # Where it begins --------------------------------------------------------------------------

    def _seek(self, lane: ViewLane) -> None:
        """Go to the first record that came at the time when the view is to begin."""
        time_ms = min(self.settings.start_ms, self.created_ms)
        found = lane.shard.number_at(time_ms)
        if not isinstance(found, ColdFile):
            self._jump(lane, found)
            return
        lane.seeking = True
        self._seeking += 1
        cold = lane.shard.log.cold
        assert cold is not None
        cold.seek(found, time_ms, self._sought, lane)

    def _sought(self, lane: object, number: int | None, error: StorageError | None) -> None:
        assert isinstance(lane, ViewLane)
        lane.seeking = False
        self._seeking -= 1
        if number is not None and self._is_there(lane):
            self._jump(lane, number)
        self._enter_child(lane)
        self._settled()

    def _jump(self, lane: ViewLane, number: int) -> None:
        if number > lane.next:
            if self.logged:
                self.log.append((encode_purge(self.id, [lane.base | number]),))
            self.purge([lane.base | number])

    # Apply ------------------------------------------------------------------------------------

    def put(self, seq: int, lsn: int, size: int, due_ms: int, expire_ms: int, group: int) -> None:
        """A record was copied to a dead-letter queue: it is gone."""
        self.remove(seq)

    def remove(self, seq: int, size: int = -1) -> tuple[int, int, int]:
        """A record is gone. See ``QueueState``; so are the next three."""
        self._reach(seq)
        return super().remove(seq, size)

    def note_receives(self, seq: int, count: int) -> None:
        self._reach(seq)
        super().note_receives(seq, count)

    def hold(self, seq: int, due_ms: int) -> None:
        self._reach(seq)
        if due_ms != BURY_MS or self._replay_holds is not None:
            super().hold(seq, due_ms)
        elif self.slot(seq):
            lane, number = self._place(seq)
            receives = lane.receives(number)
            spent = 0 < self.settings.max_receives <= receives
            self.burials.recover(seq, "max-receives" if spent else "rejected", receives)

    def hold_for_good(self, seq: int) -> None:
        """A record is not to be delivered any more, but is not settled yet."""
        lane, number = self._place(seq)
        slot = lane.slot(number)
        if not slot & HELD:
            lane.set_slot(number, slot | HELD)
            self.held += 1

    def purge(self, bounds: list[int]) -> list[Page]:
        """Everything below the bounds is gone. There is nothing to be released."""
        for bound in bounds:
            lane = self.shards.get(bound >> LANE_SHIFT)
            if lane is not None:
                for page in lane.drop_below(bound & NUMBER_MASK):
                    self.bytes -= page.bytes
                    self.held -= sum(1 for slot in page.slots if slot & HELD)
                lane.skip_to(bound & NUMBER_MASK)
        self.delayed.trim(self.slot, 0)
        return []

    def _place(self, seq: int) -> tuple[ViewLane, int]:
        return self.shards[seq >> LANE_SHIFT], seq & NUMBER_MASK

    def _reach(self, seq: int) -> None:
        """What a record of the log speaks of was admitted, and all before it in its lane."""
        if self._replay_holds is None:
            return
        lane = self.shards.get(seq >> LANE_SHIFT)
        number = seq & NUMBER_MASK
        if lane is not None and lane.next <= number and lane.shard.first <= number:
            lane.skip_to(lane.shard.first)
            self.bytes += lane.fill_to(number + 1)

    def _trim(self, lane: ViewLane) -> ViewLane:
        """Let go of what cannot be read any more and nobody holds."""
        gone = lane.skip_missing()
        first = min(lane.shard.present(0), lane.next)
        for number in lane.live_numbers():
            if number >= first:
                break
            if not lane.slot(number) & LEASED:
                self.remove(lane.base | number)
                gone += 1
        self.counters.expired += gone
        return lane

    # Dispatch ---------------------------------------------------------------------------------

    def dispatch(self, now_ms: int) -> None:
        """Lease records to the consumers whose turn it is, as far as their credit goes."""
        if self._reshaped:
            self._follow()
        if self._stalled and self._room() > 0:
            self._enter_stalled()
        super().dispatch(now_ms)
        if self.reader.keeps:
            self._idle_ms = now_ms + _IDLE_MS
            self.set_alarm()

    def _let_wait(self, now_ms: int) -> None:
        if not self._seeking:  # else there may be something as soon as it is known where to begin
            super()._let_wait(now_ms)

    def _enter_stalled(self) -> None:
        stalled, self._stalled = self._stalled, []
        for lane in stalled:
            lane.stalled = False
            self._enter(lane)

    def _gather(
        self, consumer: Consumer, most: int, budget: int, now_ms: int
    ) -> tuple[list[Delivery], int]:
        gathered = super()._gather(consumer, most, budget, now_ms)
        if not self.reader.loading:
            self._busy.rotate(-1)
            self._turns.rotate(-1)
        return gathered

    def _find_ready(self, consumer: Consumer, frontier: int) -> tuple[Lane, int] | None:
        while self._busy:
            lane = self._busy[0]
            number = lane.first_returned() if lane.returned else -1
            if number < 0:
                number = lane.cursor = lane.first_ready(lane.cursor)
            if number < lane.next:
                if number >= lane.shard.first:
                    return lane, number
                self._trim(lane)
            elif not self._admit(lane):
                self._leave(lane)
        return None

    def _find_matching(self, consumer: Consumer, frontier: int) -> tuple[Lane, int] | None:
        progress = True
        while progress:  # all of a lane was admitted: that may be what others wait for
            progress = False
            for lane in self._turns:
                while True:
                    number = lane.first_ready(consumer.positions.get(lane.base, 0))
                    consumer.positions[lane.base] = number
                    if number < lane.next:
                        if number >= lane.shard.first:
                            return lane, number
                        self._trim(lane)
                    elif self._admit(lane):
                        progress = True
                    else:
                        self._watch(lane)
                        break
        return None

    def ready_again(self, lane: Lane, number: int) -> None:
        super().ready_again(lane, number)
        assert isinstance(lane, ViewLane)
        self._enter(lane)

    def _room(self) -> int:
        """How many records more may be admitted."""
        limits = self.host.limits
        return limits.in_flight_messages_max + limits.view_lookahead_messages_max - self.live

    def _admit(self, lane: ViewLane) -> bool:
        """Admit some more records of a shard; False when there is none, or no room."""
        if lane.seeking or not _may_begin(lane):
            return False
        before = lane.next
        self.counters.expired += lane.skip_missing()
        self.bytes += lane.admit(min(_ADMIT_MESSAGES, self._room()))
        return lane.next > before

    def _leave(self, lane: ViewLane) -> None:
        """Nothing in the lane that has its turn is ready."""
        self._busy.popleft()
        lane.busy = False
        if lane.shard.closed and lane.admitted:
            for child in lane.children:
                self._enter_child(child)
        else:
            self._watch(lane)

    def _watch(self, lane: ViewLane) -> None:
        """Hear of it when there is more to be admitted."""
        if lane.tip is not None or lane.stalled or lane.seeking or not _may_begin(lane):
            return
        if lane.next < lane.shard.readable():
            lane.stalled = True
            self._stalled.append(lane)
        elif not (lane.shard.closed and lane.admitted):
            lane.tip = Tip(self.host.streams, self.stream, lane, self._came)
            self.host.streams.wait(lane.tip)

    def _came(self, lane: ViewLane, error: BraidError | None) -> None:
        """There may be more to be admitted, or it cannot be waited for now."""
        lane.tip = None
        if not self._is_there(lane):
            return
        if error is not None:
            lane.stalled = True
            self._stalled.append(lane)
            self._retry_ms = self.host.now_ms + _RETRY_MS
            self.set_alarm()
            return
        self._enter(lane)
        if self.hungry:
            self.host.wake(self)

    # Time -------------------------------------------------------------------------------------

    def tick(self, now_ms: int) -> None:
        """Do what is due. See ``Queue``."""
        if 0 < self._idle_ms <= now_ms:
            self._idle_ms = 0
            self.reader.forget()
        if 0 < self._retry_ms <= now_ms:
            self._retry_ms = 0
            self._enter_stalled()
            self.host.wake(self)
        if 0 < self.burials.retry_ms <= now_ms:
            self.burials.step()
        super().tick(now_ms)

    def next_due(self) -> int | None:
        """When :meth:`tick` should be called next."""
        times = (super().next_due(), self._idle_ms, self._retry_ms, self.burials.retry_ms)
        return min((due for due in times if due), default=None)

    # As it is ---------------------------------------------------------------------------------

    def priority(self, seq: int) -> int:
        return PRIORITY_DEFAULT

    def unread(self) -> int:
        """How many records stand in the stream that were not admitted yet."""
        for lane in self.shards.values():
            self._trim(lane)
        return sum(lane.unread for lane in self.shards.values())

    def lag(self) -> int:
        """How many records nobody was given yet."""
        lanes = self.shards.values()
        return sum(lane.unread + lane.next - lane.first_ready(lane.cursor) for lane in lanes)

    def bounds(self) -> list[int]:
        """What a purge of everything says: the next record of each shard."""
        lanes = self.shards.values()
        return [lane.base | max(lane.shard.next, lane.next) for lane in lanes]

    def forget_leases(self) -> None:
        super().forget_leases()
        self.burials.waiting.clear()

    def oldest_ms(self) -> int:
        """When the oldest record was appended, or about; 0: there is none."""
        times = [record_time_ms(lane.shard, lane.first_live(0)) for lane in self._turns]
        return min(filter(None, times), default=0)

    def sequences(self, after: int) -> Iterator[int]:
        """What there is to browse: see ``QueueState``."""
        for lane in sorted(self.shards.values(), key=lambda lane: lane.base):
            self._trim(lane)
            first = max(after + 1 - lane.base, 0)
            for number in lane.live_numbers(first):
                yield lane.base | number
            number = max(first, lane.next)
            while number < lane.shard.readable():
                yield lane.base | number
                number += 1

    def shown(self, seq: int) -> int:
        """The slot of a record, admitted or not; 0: it is gone."""
        lane, number = self.shards.get(seq >> LANE_SHIFT), seq & NUMBER_MASK
        if lane is None or number < lane.shard.present(number):
            return 0
        return lane.slot(number) if number < lane.next else record_slot(lane.code, number)

    # Checkpoint and recovery ------------------------------------------------------------------

    def finish_replay(self) -> None:
        """Everything is loaded and applied. See ``QueueState``."""
        for lane in self.shards.values():
            if self.logged:
                lane.shard.reach(lane.next)
            self._trim(lane)
            for first, end in lane.shard.holes:
                for number in takewhile(end.__gt__, lane.live_numbers(first)):
                    self.remove(lane.base | number)
        self.counters.expired = 0
        super().finish_replay()

    def lsns(self) -> Iterator[Any]:
        """No position in the log is needed by a view."""
        return iter(())

    def references(self, first: int, end: int) -> Iterator[Any]:
        """No record of the log is needed by a view."""
        return iter(())

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """The view as sections: see :meth:`QueueState.snapshot`."""
        yield QUEUE, self._definition()
        if not self.logged:
            return
        lanes = list(self.shards.values())
        held = [(0, key, bucket) for key, bucket in self.delayed.sections()]
        held += [(_DOOMED, seq, b"") for seq in self.burials.waiting]
        counts = [_PAIR.pack(seq, lease.receives) for seq, lease in self.leases.by_seq.items()]
        for lane in lanes:
            for index in list(lane.pages):
                if index in lane.pages:
                    yield VIEW_PAGE, lane.page_section(self.id, index)
        for which, key, content in held:
            yield WHEEL, _SECTION.pack(self.id, which, key) + content
        yield COUNTS, _SECTION.pack(self.id, 0, 0) + b"".join(counts)

    def load_lanes(self, lanes: dict[int, int]) -> None:
        """Take back the lanes of a QUEUE section."""
        for code, number in lanes.items():
            lane = self.shards.get(code)
            if lane is not None:
                lane.next = lane.cursor = number

    def load_section(self, kind: int, content: bytes) -> None:
        """Take back a VIEW_PAGE, WHEEL or COUNTS section."""
        if kind == VIEW_PAGE:
            lane = self.shards.get(section_code(content))
            if lane is not None:
                self.bytes += lane.load_page(content)
            return
        _, which, key = _SECTION.unpack_from(content)
        if kind == WHEEL and which == _DOOMED:
            assert self._replay_holds is not None
            self._replay_holds[key] = BURY_MS
        else:
            super().load_section(kind, content)


def _nothing(lsns: list[int]) -> None:
    """There is nothing to release."""


def _may_begin(lane: ViewLane) -> bool:
    return all(parent.admitted for parent in lane.parents)


def _index(lane: ViewLane) -> int:
    return lane.shard.index
