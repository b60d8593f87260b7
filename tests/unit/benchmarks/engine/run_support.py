"""A run as tests of its parts need it."""

from typing import Any

from braidmq.benchmarks.results.result import Run

__all__ = ["a_run"]


def a_run(**changes: Any) -> Run:
    """A run of a second that found nothing."""
    plain: dict[str, Any] = {
        **{"scenario": "e2e", "system": "braidmq", "scheme": "braid", "repeat": 0},
        **{"knobs": {}, "loop": "open", "seconds": 1.0},
    }
    return Run(**{**plain, **changes})
