"""Where schedules wait: a queue of their own, in which each is a message that is held until due.

So bodies stay in the log, and a schedule costs the memory of a delayed message. A message is held
again in the same frame of the log in which what it sent stands, or it is taken out there: after a
crash it was sent and waits for its next time, or it was not, and still is due. Rules:

- A schedule's number is its sequence number here: it is never used again.
- What a queue calls the receives of a message is here how often it was sent. Handing it out is no
  reason to count; only :meth:`ScheduleQueue.go_on` does.
- The headers of the message stand, packed, beside the plan (:class:`Plan`) in a header map.
"""

import msgspec

from ..storage.log import Log
from ..storage.record import encode_delay, encode_receive
from .host import Host
from .limits import Limits
from .message import Delivery, Headers, Receipt, unpack_headers
from .message import pack_headers as pack
from .queue import Queue
from .schedule import Timing
from .scheduleverbs import Scheduled, ScheduleKind
from .settings import QueueSettings

__all__ = ["SCHEDULES_KIND", "SCHEDULES_NAME", "Plan", "ScheduleQueue", "plan_of", "with_plan"]

SCHEDULES_KIND = "schedules"  # of queues, on disk
SCHEDULES_NAME = "$schedules"
_PLAN, _HEADERS = "plan", "headers"


class Plan(msgspec.Struct, kw_only=True, frozen=True, gc=False, omit_defaults=True):
    """What there is to know of a schedule besides its message.

    The fields are those of ``Scheduled``, and ``user``: whose rights it has. It is on disk, where
    a default is what does not stand there: none of them may ever change.
    """

    kind: ScheduleKind
    name: str
    timing: Timing
    user: str
    created_ms: int
    ttl_ms: int = 0
    priority: int = 4
    group: str = ""
    dedup_id: str = ""
    retain: bool = False
    key: bytes = b""


_decode_plan = msgspec.msgpack.Decoder(Plan).decode


def with_plan(message: Scheduled, user: str, created_ms: int, limits: Limits) -> bytes:
    """The packed headers under which a schedule waits. Raises TooLarge, InvalidArgument."""
    plan = Plan(
        kind=message.kind,
        name=message.name,
        timing=message.timing,
        user=user,
        created_ms=created_ms,
        ttl_ms=message.ttl_ms,
        priority=message.priority,
        group=message.group,
        dedup_id=message.dedup_id,
        retain=message.retain,
        key=message.key,
    )
    headers: Headers = {_PLAN: msgspec.msgpack.encode(plan), _HEADERS: message.attributes}
    return pack(headers, limits)


def plan_of(attributes: bytes) -> tuple[Plan, bytes]:
    """What :func:`with_plan` made: the plan, and the packed headers of the message itself."""
    headers = unpack_headers(attributes)
    plan, inner = headers[_PLAN], headers[_HEADERS]
    assert isinstance(plan, bytes) and isinstance(inner, bytes)
    return _decode_plan(plan), inner


class ScheduleQueue(Queue):
    """All schedules. See the module; ``schedules.py`` is its only consumer."""

    def __init__(
        self, host: Host, id: int, name: str, settings: QueueSettings, log: Log, created_ms: int
    ) -> None:
        super().__init__(host, id, name, settings, log, created_ms)
        self._looked_at: list[dict[int, int]] = []  # by those who look on: see look_on

    def _log_receives(self, deliveries: list[Delivery]) -> None:
        """See the rules."""

    def due_by_number(self) -> dict[int, int]:
        """When each schedule that waits is due; the others are at work."""
        return {seq: due_ms for due_ms, seq in self.delayed.numbers() if self.slot(seq)}

    def look_on(self) -> dict[int, int]:
        """The same, and it follows what happens until :meth:`look_away`."""
        dues = self.due_by_number()
        self._looked_at.append(dues)
        return dues

    def look_away(self, dues: dict[int, int]) -> None:
        """Nobody looks at ``dues`` any more."""
        self._looked_at = [each for each in self._looked_at if each is not dues]

    def put(self, seq: int, lsn: int, size: int, due_ms: int, expire_ms: int, group: int) -> None:
        """See ``QueueState``."""
        super().put(seq, lsn, size, due_ms, expire_ms, group)
        for dues in self._looked_at:
            dues[seq] = due_ms

    def go_on(self, receipt: Receipt, fired: int, due_ms: int) -> None:
        """It was sent, so often by now, and is due again then: written down."""
        seq = receipt[0]
        self.log.append((encode_receive(self.id, fired, [seq]),))
        self.log.append((encode_delay(self.id, due_ms, [seq]),))
        self.note_receives(seq, fired)
        self.wait(receipt, due_ms)

    def wait(self, receipt: Receipt, due_ms: int) -> None:
        """Try it then. Nothing is written down: after a restart it is tried at once."""
        self.leases.take(*receipt)
        self.end_lease(receipt[0])
        self.hold(receipt[0], due_ms)
        for dues in self._looked_at:
            dues[receipt[0]] = due_ms
        self.set_alarm()
