"""The audit of schedules: what was confirmed is sent as often as it was to be, whatever happens.

Each time of a schedule is a message with an id of its own, so what comes again after a crash is
told from what was sent again. What must hold:

lost      a schedule was confirmed, and one of its times was not sent, or it is not there any more
doubled   more times were sent than there are, or one of them twice
early     a time was sent before it was due
removed   a time was sent after the removal was confirmed, or the schedule is still there
phantom   a message of a schedule that nobody made, or that was refused
corrupt   a body, a header or a number of a schedule that differs from what it was
cut       the broker refused or hung up on a client that did nothing wrong
"""

from dataclasses import dataclass, field

from .audit import FAIL, INFO, INVOKE, OK
from .journal import Journal, body_of, parse_body
from .stomp_wire import Frame

__all__ = ["CRON_EVERY_MS", "PLACES", "Listed", "Planned", "ScheduleJournal", "Timing"]

PLACES = {"queue": "schedule.out", "topic": "schedule/told"}
CRON_EVERY_MS = 500  # "* * * * *", see QUICK_CRON
SHUTTING_DOWN = "shutting down"

Key = tuple[str, int]  # planner, number


@dataclass(frozen=True, slots=True)
class Timing:
    """When to send, as ``docs/schedules.md`` has it; without anything, at once and no schedule."""

    delay_ms: int = 0
    period_ms: int = 0
    repeat: int = 0
    cron: str = ""

    @property
    def times(self) -> int:
        """How often; 0: for ever."""
        return 0 if self.cron or self.repeat < 0 else self.repeat + 1


@dataclass(slots=True, eq=False)
class Planned:
    """A schedule, by what its planner and the takers of its messages know.

    Attributes:
        outcome: of making it. id: its number, once it is known. first_ms: when it is first due.
        firings: message-id -> when it was sent.
        removals: what became of attempts to remove it. removed_ms: when that was confirmed.
    """

    place: str
    planner: str
    number: int
    timing: Timing
    outcome: str = INVOKE
    id: int = 0
    first_ms: int = 0
    firings: dict[str, int] = field(default_factory=dict)
    removals: list[str] = field(default_factory=list)
    removed_ms: int = 0

    @property
    def name(self) -> str:
        return f"{self.planner}|{self.number} ({self.timing}, schedule {self.id})"

    @property
    def body(self) -> bytes:
        return body_of(self.planner, self.number, 40 + self.number % 7 * 100)

    @property
    def is_sought(self) -> bool:
        """Whether all its times must come: it was confirmed or seen, and nobody removed it."""
        seen = self.outcome == OK or self.firings
        return bool(seen) and not {OK, INFO, INVOKE} & {*self.removals}

    @property
    def is_done(self) -> bool:
        return 0 < self.timing.times <= len(self.firings)


@dataclass(frozen=True, slots=True)
class Listed:
    """What the broker says of a schedule: so often it was sent, and next then (0: now)."""

    planned: Planned
    fired: int
    next_ms: int


class ScheduleJournal(Journal):
    """What happened, and the counters of what must not."""

    BROKEN = "lost doubled early removed phantom corrupt cut".split()

    def __init__(self) -> None:
        super().__init__()
        self.expects_errors = False
        self.planned: dict[Key, Planned] = {}
        self.by_id: dict[int, Planned] = {}
        self._claims: list[Listed] = []

    # Making and removing ----------------------------------------------------------------------

    def plan(self, planned: Planned) -> Planned:
        """What asks for it goes out now."""
        self.planned[planned.planner, planned.number] = planned
        return planned

    def made(self, planned: Planned, outcome: str) -> None:
        """What became of that."""
        planned.outcome = outcome = self._certain(outcome)
        self.counts["acked"] += outcome == OK
        self.counts["unknown"] += outcome == INFO

    def identified(self, planned: Planned, id: int, created_ms: int = 0) -> None:
        """Its number is known, and perhaps since when it is there."""
        if planned.id not in (0, id):
            self.find("corrupt", f"{planned.name} is also schedule {id}")
        planned.id = id
        self.by_id[id] = planned
        timing = planned.timing
        if created_ms and not timing.cron:
            planned.first_ms = created_ms + (timing.delay_ms or timing.period_ms)

    def remove(self, planned: Planned) -> None:
        """What asks for its removal goes out now."""
        planned.removals.append(INVOKE)

    def removed(self, planned: Planned, outcome: str, now_ms: int) -> None:
        """What became of that; FAIL: it is not there."""
        planned.removals[-1] = outcome = self._certain(outcome)
        if outcome == OK:
            planned.removed_ms = now_ms
            self.counts["acked"] += 1
            self.counts["removals"] += 1
        elif outcome == FAIL and not planned.timing.times:
            self.find("lost", f"{planned.name} cannot be removed: it is gone")

    def _certain(self, outcome: str) -> str:
        """When the disk fails, what is refused may have been done before that."""
        return INFO if outcome == FAIL and self.expects_errors else outcome

    def ended(self, error: Frame | None) -> None:
        """A connection is gone; ``error`` is what the broker said."""
        text = error.headers.get("message", "") if error is not None else SHUTTING_DOWN
        if SHUTTING_DOWN not in text and not self.expects_errors:
            self.find("cut", str(error))

    # Looking ----------------------------------------------------------------------------------

    def unlisted(self, ids: set[int]) -> None:
        """After a start these are there, and no others: who is not has to be done."""
        for planned in self.planned.values():
            if planned.id in ids:
                # An attempt to remove it that nobody answered was none, then.
                planned.removals = [each for each in planned.removals if each == OK]
            elif planned.outcome == OK and not planned.timing.times and planned.is_sought:
                self.find("lost", f"{planned.name} is not there any more")

    def listed(self, key: Key, id: int, created_ms: int, fired: int, next_ms: int) -> Listed | None:
        """A schedule is there after a start."""
        planned = self.planned.get(key)
        if planned is None or planned.outcome == FAIL:
            self.find("phantom", f"schedule {id} of {key} is there")
            return None
        planned.outcome = OK
        self.identified(planned, id, created_ms)
        if planned.removed_ms:
            self.find("removed", f"{planned.name} is still there")
        return Listed(planned, fired, next_ms)

    def claimed(self, listed: list[Listed]) -> None:
        """What the broker has said of schedules is kept: to be held against what came."""
        self._claims += [each for each in listed if each.next_ms]

    # Receiving --------------------------------------------------------------------------------

    def delivered(self, place: str, frame: Frame) -> None:
        """A message came from there."""
        self.counts["delivered"] += 1
        key = parse_body(frame.body)
        if key is None:
            self.find("corrupt", f"{place}: {frame.headers} {frame.body[:60]!r}")
            return
        planned = self.planned.get(key)
        if planned is None or planned.outcome == FAIL:
            self.find("phantom", f"{key} came from {place}: {frame.headers}")
            return
        if frame.body != planned.body or place != planned.place:
            self.find("corrupt", f"{planned.name} came from {place}: {frame}")
        if planned.timing != Timing():
            self.identified(planned, int(frame.headers["scheduledJobId"]))
        name, sent_ms = frame.headers["message-id"], int(frame.headers["timestamp"])
        if name in planned.firings:
            self.counts["redelivered"] += 1
            return
        self.counts["sent"] += 1
        planned.firings[name] = sent_ms
        if 0 < planned.removed_ms < sent_ms:
            self.find("removed", f"{planned.name} was sent at {sent_ms}")
        if 0 < planned.timing.times < len(planned.firings):
            self.find("doubled", f"{planned.name} came {len(planned.firings)} times")

    # The verdict ------------------------------------------------------------------------------

    def missing(self) -> list[Planned]:
        """Those of which not all came yet, as far as there is an end."""
        return [
            planned
            for planned in self.planned.values()
            if planned.timing.times and planned.is_sought and not planned.is_done
        ]

    def ending(self) -> None:
        """What has an end came to it, and all that is left is about to be removed."""
        self._check_missing()
        for planned in self.planned.values():
            planned.removals.append(INFO)

    def _check_missing(self) -> None:
        for planned in self.missing():
            self.find("lost", f"{planned.name} came {len(planned.firings)} times")

    def emptied(self) -> None:
        """All was sent and came, and nothing is there any more: hold it against what was due."""
        self._check_missing()
        for claim in self._claims:
            self._check_claim(claim)
        for planned in self.planned.values():
            self._check_times(planned)
        self.counts["schedules"] += len(self.planned)
        self.counts["for ever"] += sum(not each.timing.times for each in self.planned.values())
        self.counts["claims"] += len(self._claims)
        self._claims.clear()
        self.planned.clear()
        self.by_id.clear()

    def _check_claim(self, claim: Listed) -> None:
        """Nothing is sent early: so whatever was sent before its next time is what it counted."""
        planned = claim.planned
        came = sum(sent_ms < claim.next_ms for sent_ms in planned.firings.values())
        if came != claim.fired:
            kind = "lost" if came < claim.fired else "doubled"
            text = f"was sent {claim.fired} times before {claim.next_ms}, and {came} came"
            self.find(kind, f"{planned.name} {text}")

    def _check_times(self, planned: Planned) -> None:
        """No two are sent for one time of the grid, and none before its time."""
        timing = planned.timing
        if timing.cron and timing.period_ms:
            return  # a burst: what it counted says enough
        first_ms, every_ms = planned.first_ms, timing.period_ms
        if timing.cron:
            first_ms, every_ms = 0, CRON_EVERY_MS
        elif not first_ms:
            return
        last = -1
        for sent_ms in sorted(planned.firings.values()):
            step = (sent_ms - first_ms) // (every_ms or 1)
            if step < 0:
                self.find("early", f"{planned.name} was sent at {sent_ms}, not {first_ms}")
            elif step == last and every_ms:
                self.find("doubled", f"{planned.name} was sent again at {sent_ms}")
            last = step

    def figures(self) -> str:
        """The line of figures."""
        told = ["schedules", "for ever", "acked", "unknown", "removals", "claims"]
        told += ["sent", "delivered", "redelivered"]
        return ", ".join([*(f"{kind} {self.counts[kind]}" for kind in told), super().figures()])
