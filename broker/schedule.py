"""When a scheduled message is sent: pure arithmetic on unix milliseconds.

The words are those of ActiveMQ (``AMQ_SCHEDULED_DELAY``, ``_PERIOD``, ``_REPEAT``, ``_CRON``):

- a delay: once, that long after it was scheduled;
- a period and repeats: so many times more, a period after each other. Without a delay the first
  one comes after a period;
- a cron expression: at the times it names, in UTC. With a delay, that long after each of them; with
  a period and repeats, each of them begins a burst, which ends at the latest where the next begins.

All times are on a grid that is fixed once and for all, so they do not drift. What was missed is not
made up for one by one: the next time is the first one on the grid that lies ahead. A plain schedule
still fires as often as it was to, later; of a burst, what was missed is left out.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec

from .errors import InvalidArgument
from .limits import DELAY_MS_MAX

__all__ = ["CRON_CHARACTERS_MAX", "REPEAT_MAX", "Timing"]

CRON_CHARACTERS_MAX = 256
REPEAT_MAX = 60_000  # what a queue can count of a message, with room to spare
_FIELDS = 5  # of a cron expression: its times are whole minutes


class Timing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """When to send. See the module.

    Attributes:
        delay_ms, period_ms: up to ``DELAY_MS_MAX``.
        repeat: how many times more than once, up to ``REPEAT_MAX``; -1: for ever.
        cron: minute, hour, day of the month, month, day of the week; "": none.
    """

    delay_ms: int = 0
    period_ms: int = 0
    repeat: int = 0
    cron: str = ""

    def check(self) -> None:
        """Raise InvalidArgument for what is out of range, or does not go together."""
        if not 0 <= self.delay_ms <= DELAY_MS_MAX:
            raise InvalidArgument(f"a delay is between 0 and {DELAY_MS_MAX} ms")
        if not 0 <= self.period_ms <= DELAY_MS_MAX:
            raise InvalidArgument(f"a period is between 0 and {DELAY_MS_MAX} ms")
        if not -1 <= self.repeat <= REPEAT_MAX:
            raise InvalidArgument(f"repeats are between 0 and {REPEAT_MAX}, or -1: for ever")
        if self.repeat and not self.period_ms:
            raise InvalidArgument("what is repeated has a period")
        if self.cron:
            if self.repeat < 0:
                raise InvalidArgument("with a cron expression, repeats are counted")
            _check_cron(self.cron)

    def first_ms(self, created_ms: int) -> int:
        """The first time of what was scheduled at ``created_ms``; 0: never."""
        if not self.cron:
            return created_ms + self._lead_ms
        begin_ms = next(_times(self.cron, created_ms), 0)
        return begin_ms + self._lead_ms if begin_ms else 0

    def next_ms(self, created_ms: int, fired: int, now_ms: int) -> int:
        """The first time after ``now_ms``, once it has fired ``fired`` times; 0: never."""
        if self.cron:
            return self._next_by_cron(created_ms, now_ms)
        if not fired:
            return self.first_ms(created_ms)
        if 0 <= self.repeat < fired:
            return 0
        return self._on_grid(self.first_ms(created_ms), now_ms)

    @property
    def _lead_ms(self) -> int:
        """From when it is scheduled, or a time of the cron expression, to the first one."""
        if self.cron and not self.repeat:
            return self.delay_ms
        return self.delay_ms or self.period_ms

    def _on_grid(self, first_ms: int, now_ms: int) -> int:
        """The first time after ``now_ms`` on the grid that begins at ``first_ms``."""
        if now_ms < first_ms:
            return first_ms
        return first_ms + ((now_ms - first_ms) // self.period_ms + 1) * self.period_ms

    def _next_by_cron(self, created_ms: int, now_ms: int) -> int:
        lead_ms = self._lead_ms
        begun_ms = next(_times(self.cron, now_ms - lead_ms, back=True), 0)
        if begun_ms <= created_ms:
            return self.first_ms(created_ms)
        next_ms = next(_times(self.cron, begun_ms), 0)
        next_ms += lead_ms if next_ms else 0
        if self.repeat:
            first_ms = begun_ms + lead_ms
            again_ms = self._on_grid(first_ms, now_ms)
            last_ms = first_ms + self.repeat * self.period_ms
            if again_ms <= last_ms and (again_ms < next_ms or not next_ms):
                return again_ms
        return next_ms


def _check_cron(cron: str) -> None:
    if len(cron) > CRON_CHARACTERS_MAX or not cron.isascii() or len(cron.split()) != _FIELDS:
        raise InvalidArgument(
            f"a cron expression has {_FIELDS} fields (minute, hour, day of the month, month, day"
            f" of the week), and at most {CRON_CHARACTERS_MAX} ASCII characters"
        )
    next(_times(cron, 0), 0)


def _times(cron: str, from_ms: int, back: bool = False) -> Iterator[int]:
    """The times that an expression names: those after ``from_ms``, or from it on ``back``."""
    try:
        from cronsim import CronSim, CronSimError
    except ModuleNotFoundError:
        raise InvalidArgument(
            "cron expressions need the package cronsim: install braidmq[schedules]"
        ) from None
    begin = datetime.fromtimestamp(from_ms // 1000, UTC)
    if back:
        begin += timedelta(seconds=1)
    try:
        found = CronSim(cron, begin, reverse=back)
    except CronSimError as error:
        raise InvalidArgument(f"the cron expression {cron!r}: {error}") from None
    for time in found:
        yield int(time.timestamp()) * 1000
