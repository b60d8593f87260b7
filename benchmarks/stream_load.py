"""The load process of a run of streams or of fan-out.

``python -m braidmq.benchmarks.stream_load`` reads a plan as JSON from its standard input and
writes what it found to its standard output. It is a process of its own, so that neither broker nor
tool delays it. ``load`` appends what will be read, before what is measured; a broker may be
ended and started in between.
"""

import gc
import subprocess
import sys
from collections.abc import Callable
from typing import Final, Literal

import msgspec

from .drivers.driver import Refused
from .jetstream import JetStreamDriver
from .machine import more_files, pin
from .redis_stream import RedisDriver
from .stream_cycle import StreamCycle
from .stream_exchange import Driver
from .stream_native import NativeStreamDriver
from .stream_plan import IN_PROCESS, OURS, StreamPlan, StreamSide
from .stream_run import carry_out, preload

__all__ = ["StreamLoadFailed", "Task", "execute", "start"]

_DRIVERS: Final[dict[str, Callable[[StreamPlan, StreamCycle], Driver]]] = {
    OURS: NativeStreamDriver,
    "redis": RedisDriver,
    "jetstream": JetStreamDriver,
}
_SPARE_SECONDS: Final = 300.0

Task = Literal["preload", "measure"]


class StreamLoadFailed(Exception):
    """The load process ended badly; its own words."""


def start(plan: StreamPlan, task: Task = "measure") -> StreamSide:
    """Carry a plan out in a process of its own. Raises StreamLoadFailed."""
    command = [sys.executable, "-m", __name__, task]
    limit = plan.warmup + plan.seconds + plan.patience + _SPARE_SECONDS
    try:
        done = subprocess.run(
            command, input=msgspec.json.encode(plan), capture_output=True, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise StreamLoadFailed(f"the load process did not end within {limit:g} s") from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise StreamLoadFailed("\n".join(lines[-6:]) or f"exit status {done.returncode}")
    return msgspec.json.decode(done.stdout, type=StreamSide)


def execute(plan: StreamPlan, task: Task) -> StreamSide:
    """Carry a plan out in this process. Raises Refused, OSError."""
    cycle = StreamCycle(plan.size, plan.batch, plan.seed)
    if plan.system == IN_PROCESS:
        from .stream_local import carry_out_here  # loads a broker, which a peer's run spares

        return carry_out_here(plan, cycle)
    driver = _DRIVERS[plan.system](plan, cycle)
    driver.prepare()
    if task == "preload":
        preload(plan, driver)
        return StreamSide()
    return carry_out(plan, driver)


def _main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=StreamPlan)
    more_files()
    is_pinned = pin(plan.core)
    gc.disable()
    try:
        side = execute(plan, "preload" if sys.argv[1] == "preload" else "measure")
    except (OSError, Refused) as error:
        sys.exit(str(error))
    side.pinned = is_pinned
    sys.stdout.buffer.write(msgspec.json.encode(side))


if __name__ == "__main__":
    _main()
