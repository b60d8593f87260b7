"""The load processes of an MQTT run, and how the tool talks to them.

``python -m braidmq.benchmarks.mqtt_load publish|subscribe|idle`` reads a plan from the first line
of its standard input. It writes "ready" when the load may begin (a publisher: when it has begun,
the subscriber: when all subscriptions stand), reads how many messages were sent from the second
line (subscriber) or the end of its input, and writes what it found as JSON.

Publisher and subscriber are processes of their own, so that neither delays the other behind one
interpreter lock, and both are kept on one core while the broker has another.
"""

import contextlib
import gc
import os
import selectors
import subprocess
import sys
from types import TracebackType

import msgspec

from .drivers.driver import Refused
from .drivers.mqtt_packets import Malformed
from .machine import more_files, pin
from .mqtt_plan import Plan, Side
from .mqtt_publisher import publish
from .mqtt_subscriber import hold_idle, subscribe

__all__ = ["LoadProcess", "LoadProcessFailed"]

_READY = b"ready\n"
_SPARE_SECONDS = 300.0


class LoadProcessFailed(Exception):
    """A load process ended badly; its own words."""


class LoadProcess:
    """``with LoadProcess("publish", plan) as side: ...``: one of the processes."""

    def __init__(self, role: str, plan: Plan) -> None:
        self._role = role
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LoadProcess":
        command = [sys.executable, "-m", __name__, self._role]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if self._role != "publish":
            self.go()
        return self

    @property
    def pid(self) -> int:
        """The process."""
        return self._running().pid

    def go(self) -> None:
        """Hand the plan over; a publisher waits for that, the others get it at once."""
        self._write(msgspec.json.encode(self._plan))

    def wait_ready(self) -> None:
        """Until it said so. Raises LoadProcessFailed."""
        process = self._running()
        assert process.stdout is not None
        if process.stdout.readline() != _READY:
            self._failed()

    def tell(self, sent: int) -> None:
        """Say how many messages were sent."""
        self._write(b"%d" % sent)

    def result(self) -> Side:
        """What it found. Raises LoadProcessFailed."""
        process = self._running()
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            self._failed()
        return msgspec.json.decode(line, type=Side)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def _write(self, line: bytes) -> None:
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(line + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            self._failed()

    def _failed(self) -> None:
        process = self._running()
        assert process.stderr is not None
        process.kill()
        lines = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        raise LoadProcessFailed("\n".join(lines[-6:]) or "a load process ended without a word")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        process = self._running()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if error is not None:
            process.kill()
        try:
            process.wait(_SPARE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class _Tool:
    """The tool, as its processes see it: what it says on the standard input."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._selector.register(0, selectors.EVENT_READ)
        self._sent = -1

    def told(self) -> int:
        """How many messages were sent, -1 as long as nobody said so."""
        if self._sent < 0 and self._selector.select(0):
            self._sent = int(os.read(0, 64) or b"0")
        return self._sent

    @staticmethod
    def say(words: bytes) -> None:
        """Tell the tool."""
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.buffer.write(words)
            sys.stdout.buffer.flush()


def _main() -> None:
    plan_line = b""
    while not plan_line.endswith(b"\n"):
        plan_line += os.read(0, 1)
    plan, tool = msgspec.json.decode(plan_line, type=Plan), _Tool()
    more_files()
    is_pinned = pin(plan.core)
    gc.disable()
    try:
        if sys.argv[1] == "publish":
            side = publish(plan, lambda: tool.say(_READY))
        elif sys.argv[1] == "idle":
            side = hold_idle(plan, lambda: tool.say(_READY), tool.told)
        else:
            side = subscribe(plan, lambda: tool.say(_READY), tool.told)
    except (OSError, Refused, Malformed) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    side.pinned = is_pinned
    tool.say(msgspec.json.encode(side) + b"\n")


if __name__ == "__main__":
    _main()
