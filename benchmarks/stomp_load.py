"""The load process of a run of STOMP.

``python -m braidmq.benchmarks.stomp_load`` reads a plan as JSON from its standard input and writes
what it found to its standard output. It is a process of its own, so that neither broker nor tool
delays it.
"""

import gc
import subprocess
import sys
from typing import Final

import msgspec

from .drivers.driver import Refused
from .machine import more_files, pin
from .stomp_plan import StompPlan, StompSide
from .stomp_run import carry_out

__all__ = ["StompLoadFailed", "start"]

_SPARE_SECONDS: Final = 120.0


class StompLoadFailed(Exception):
    """The load process ended badly; its own words."""


def start(plan: StompPlan) -> StompSide:
    """Carry a plan out in a process of its own. Raises StompLoadFailed."""
    command = [sys.executable, "-m", __name__]
    limit = plan.warmup + plan.seconds + plan.patience + _SPARE_SECONDS
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(plan), capture_output=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise StompLoadFailed(f"the load process did not end within {limit:g} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise StompLoadFailed("\n".join(lines[-6:]) or f"exit status {done.returncode}")
    return msgspec.json.decode(done.stdout, type=StompSide)


def _main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=StompPlan)
    more_files()
    is_pinned = pin(plan.core)
    gc.disable()
    try:
        side = carry_out(plan)
    except (OSError, Refused) as error:
        sys.exit(str(error) or type(error).__name__)
    side.pinned = is_pinned
    sys.stdout.buffer.write(msgspec.json.encode(side))


if __name__ == "__main__":
    _main()
