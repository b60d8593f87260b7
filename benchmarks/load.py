"""The load process: a plan comes in as JSON, the run is carried out, what it found goes out.

A process of its own, so that it shares neither interpreter nor garbage with whoever prints the
table, and its CPU seconds are its own: ``python -m braidmq.benchmarks.load <plan >run``.
"""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable

import msgspec

from .local import CoreDriver, FaceDriver
from .meter import Meter, Plan, Run, plan_problems
from .native import NativeDriver
from .phases import Driver, carry_out

__all__ = ["LoadFailed", "execute", "start"]

_DRIVERS: dict[str, Callable[[Plan, Meter], Driver]] = {
    "native": NativeDriver,
    "face": FaceDriver,
    "core": CoreDriver,
}
_SPARE_SECONDS = 180.0  # to connect, to drain


class LoadFailed(Exception):
    """The load process ended badly; its own words."""


async def execute(plan: Plan) -> Run:
    """Carry a plan out on this event loop."""
    problems = plan_problems(plan)
    if problems:
        raise ValueError("; ".join(problems))
    meter = Meter(plan)
    return await carry_out(plan, _DRIVERS[plan.target](plan, meter), meter)


def start(plan: Plan) -> Run:
    """Carry a plan out in a process of its own. Raises LoadFailed."""
    command = [sys.executable, "-m", __name__]
    limit = plan.warmup + plan.seconds + plan.patience + _SPARE_SECONDS
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(plan), capture_output=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"the load process did not end within {limit:g} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise LoadFailed("\n".join(lines[-12:]) or f"exit status {done.returncode}")
    sys.stderr.write(done.stderr.decode("utf-8", "replace"))
    return msgspec.json.decode(done.stdout, type=Run)


def _main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    gc.freeze()
    if sys.platform == "win32":
        run = asyncio.run(execute(plan))
    else:
        import uvloop

        run = uvloop.run(execute(plan))
    sys.stdout.buffer.write(msgspec.json.encode(run))


if __name__ == "__main__":
    _main()
