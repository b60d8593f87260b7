"""How long a fuzz test runs: about BRAIDMQ_FUZZ_SECONDS for each target, short in `make test`."""

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings

__all__ = ["SECONDS", "fuzz"]

SECONDS = int(os.environ.get("BRAIDMQ_FUZZ_SECONDS", "0"))
_SECONDS_DEFAULT = 2.0


def fuzz(share: float, rate: int) -> Callable[[Any], Any]:
    """Settings for a test with ``share`` of its target's time, about ``rate`` examples a second."""
    examples = int((SECONDS or _SECONDS_DEFAULT) * share * rate)
    return settings(
        max_examples=max(examples, 20),
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
