"""How fast somebody outside may be called: a circuit breaker and a rate limit.

Both are plain state machines. Time comes in as an argument and never goes back; they hold a few
numbers each, whatever happens.
"""

__all__ = ["CircuitBreaker", "RateLimit"]

_OPEN_DOUBLINGS_MAX = 32  # far beyond every maximum; keeps the shift small


class CircuitBreaker:
    """Stops calling a target that keeps failing, and tries it again with a single call.

    closed      calls go through; ``failures_max`` failures in a row open it
    open        no calls, for ``open_ms``, twice as long each time in a row, at most ``open_ms_max``
    half-open   one call at a time: its success closes the breaker, its failure opens it again

    Args:
        failures_max: failures in a row that open it; 0: it never opens.
        open_ms: how long it stays open at first.
        open_ms_max: how long at most.
    """

    __slots__ = (
        "_failures",
        "_open_until_ms",
        "_opened",
        "_probing",
        "failures_max",
        "open_ms",
        "open_ms_max",
    )

    def __init__(self, failures_max: int, open_ms: int, open_ms_max: int) -> None:
        self.failures_max = failures_max
        self.open_ms = open_ms
        self.open_ms_max = open_ms_max
        self._failures = 0  # in a row
        self._opened = 0  # times in a row
        self._open_until_ms = 0
        self._probing = False

    def state(self, now_ms: int) -> str:
        """``closed``, ``open`` or ``half-open``."""
        if not self._opened:
            return "closed"
        return "open" if now_ms < self._open_until_ms else "half-open"

    def allows(self, now_ms: int) -> int | None:
        """How many calls may be begun now beside those that run; None: any number."""
        state = self.state(now_ms)
        if state == "closed":
            return None
        return 0 if state == "open" or self._probing else 1

    def due_ms(self) -> int:
        """When an open breaker becomes half-open, unix ms; 0 when it is closed."""
        return self._open_until_ms if self._opened else 0

    def begin(self, now_ms: int) -> None:
        """A call that was allowed begins."""
        if self.state(now_ms) == "half-open":
            self._probing = True

    def abandon(self) -> None:
        """A call that was begun was not made after all: nothing was learned."""
        self._probing = False

    def succeeded(self) -> None:
        """A call ended well."""
        self._failures = self._opened = self._open_until_ms = 0
        self._probing = False

    def failed(self, now_ms: int) -> bool:
        """A call failed; whether this has opened the breaker."""
        if self._opened:
            # What was begun before it opened says nothing about the time since.
            if not self._probing:
                return False
            self._probing = False
        else:
            self._failures += 1
            if not self.failures_max or self._failures < self.failures_max:
                return False
        doublings = min(self._opened, _OPEN_DOUBLINGS_MAX)
        self._open_until_ms = now_ms + min(self.open_ms << doublings, self.open_ms_max)
        self._opened += 1
        self._failures = 0
        return True


class RateLimit:
    """At most ``per_second_max`` calls a second, as many of them at once; 0: no limit."""

    __slots__ = ("_left_milli", "_seen_ms", "per_second_max")

    def __init__(self, per_second_max: int) -> None:
        self.per_second_max = per_second_max
        self._left_milli = 1_000 * per_second_max  # calls left, in thousandths: exact in ms
        self._seen_ms = 0

    def allows(self, now_ms: int) -> int | None:
        """How many calls may be begun now; None: any number."""
        if not self.per_second_max:
            return None
        self._refill(now_ms)
        return self._left_milli // 1_000

    def begin(self, now_ms: int) -> None:
        """A call that was allowed begins."""
        if self.per_second_max:
            self._refill(now_ms)
            self._left_milli -= 1_000
            assert self._left_milli >= 0, "a call was begun that was not allowed"

    def due_ms(self, now_ms: int) -> int:
        """When the next call is allowed, unix ms."""
        allowed = self.allows(now_ms)
        if allowed is None or allowed > 0:
            return now_ms
        return now_ms - (self._left_milli - 1_000) // self.per_second_max

    def _refill(self, now_ms: int) -> None:
        passed_ms = now_ms - self._seen_ms
        full = 1_000 * self.per_second_max
        self._left_milli = min(full, self._left_milli + passed_ms * self.per_second_max)
        self._seen_ms = now_ms
