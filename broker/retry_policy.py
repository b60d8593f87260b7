"""When a delivery that failed is tried again: the retry policy of a webhook.

The policy has the phases and the limits of what Amazon SNS calls ``healthyRetryPolicy``:

    immediately     ``no_delay_retries`` without any delay
    pre-backoff     ``min_delay_retries``, each ``min_delay_ms`` after the failure before
    backoff         the rest, from ``min_delay_ms`` to ``max_delay_ms`` by the backoff function
    post-backoff    ``max_delay_retries``, each ``max_delay_ms`` after the failure before

SNS publishes the names of its backoff functions, not their formulas. Ours, for the j-th of m + 1
retries (j from 0), where linear and arithmetic go from min to max in m steps:

    linear        equal steps
    arithmetic    steps that grow by equal amounts: j (j + 1) / (m (m + 1)) of the way
    geometric     each delay is the one before times a fixed factor, so that the last is max
    exponential   each delay is twice the one before, and at most max

Everything is arithmetic on numbers: no clock, no chance.
"""

import math
from typing import Literal

import msgspec

from .errors import InvalidArgument

__all__ = ["DELAY_TARGET_MS_MAX", "RETRIES_MAX", "TOTAL_DELAY_MS_MAX", "RetryPolicy"]

RETRIES_MAX = 100
DELAY_TARGET_MS_MIN = 1_000
DELAY_TARGET_MS_MAX = 3_600_000
TOTAL_DELAY_MS_MAX = 3_600_000  # of all retries together


class RetryPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How often and when to try again. The default: 3 retries, 20 seconds apart.

    SNS calls these minDelayTarget, maxDelayTarget (seconds there), numRetries, numNoDelayRetries,
    numMinDelayRetries, numMaxDelayRetries and backoffFunction.
    """

    min_delay_ms: int = 20_000
    max_delay_ms: int = 20_000
    retries: int = 3  # of all phases together
    no_delay_retries: int = 0
    min_delay_retries: int = 0
    max_delay_retries: int = 0
    backoff: Literal["linear", "arithmetic", "geometric", "exponential"] = "linear"

    def check(self) -> None:
        """Raise InvalidArgument when a value is out of range or two do not go together."""
        if not DELAY_TARGET_MS_MIN <= self.min_delay_ms <= self.max_delay_ms <= DELAY_TARGET_MS_MAX:
            raise InvalidArgument(
                f"delays of retries: {DELAY_TARGET_MS_MIN} <= min_delay_ms <= max_delay_ms"
                f" <= {DELAY_TARGET_MS_MAX}"
            )
        if not 0 <= self.retries <= RETRIES_MAX:
            raise InvalidArgument(f"retries is between 0 and {RETRIES_MAX}")
        phases = (self.no_delay_retries, self.min_delay_retries, self.max_delay_retries)
        if min(phases) < 0 or sum(phases) > self.retries:
            raise InvalidArgument(
                "no_delay_retries, min_delay_retries and max_delay_retries are not negative, and"
                " together at most retries"
            )
        total_ms = sum(self.delay_ms(number) or 0 for number in range(1, self.retries + 1))
        if total_ms > TOTAL_DELAY_MS_MAX:
            raise InvalidArgument(
                f"all retries together wait {total_ms} ms, at most {TOTAL_DELAY_MS_MAX} are allowed"
            )

    def delay_ms(self, attempt: int) -> int | None:
        """How long to wait after the ``attempt``-th attempt (from 1) failed; None: give up."""
        assert attempt >= 1, "attempts are counted from 1"
        if attempt > self.retries:
            return None
        at = attempt - 1 - self.no_delay_retries
        if at < 0:
            return 0
        at -= self.min_delay_retries
        if at < 0:
            return self.min_delay_ms
        count = self.retries - self.no_delay_retries - self.min_delay_retries
        count -= self.max_delay_retries
        return self._backoff_ms(at, count - 1) if at < count else self.max_delay_ms

    def _backoff_ms(self, step: int, last: int) -> int:
        """The delay of a retry in the backoff phase, whose steps are 0 to ``last``."""
        least, most = self.min_delay_ms, self.max_delay_ms
        if self.backoff == "exponential":
            return min(most, least << step)
        if last == 0:
            return least
        if self.backoff == "geometric":
            return round(least * math.pow(most / least, step / last))
        if self.backoff == "arithmetic":
            return least + (most - least) * step * (step + 1) // (last * (last + 1))
        return least + (most - least) * step // last
