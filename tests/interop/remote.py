"""A process that runs clients of a library of another language, driven by JSON lines.

A request is `{"id", ...}` and its answer `{"id", ...}`. What has no id is an event, for the client
that it names by its number. One process runs all clients of a language, because starting one takes
longer than most tests.
"""

import asyncio
import itertools
import json
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from .facade import GUARD_SECONDS

__all__ = ["Remote", "stop_all"]

_started: dict[tuple[str, ...], "Remote"] = {}


class Remote:
    """The process; its answers are read by a thread, since tests have a loop each.

    Attributes:
        numbers: of requests and clients. on_event: who is told of a client's events, by its number.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.on_event: dict[int, Callable[[dict[str, Any]], None]] = {}
        self.waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self.numbers = itertools.count(1)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    @staticmethod
    def of(*command: str) -> "Remote":
        """The process of this command, started when the first client needs it."""
        if command not in _started:
            _started[command] = Remote(command)
        return _started[command]

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if "id" not in told:
                listener = self.on_event.get(told["client"])
                if listener is not None:
                    listener(told)
                continue
            loop, future = self.waiting.pop(told["id"])
            loop.call_soon_threadsafe(self.settle, future, told)

    @staticmethod
    def settle(future: asyncio.Future[Any], told: dict[str, Any]) -> None:
        if not future.done():
            future.set_result(told)

    async def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        number = next(self.numbers)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.waiting[number] = (loop, future)
        self.process.stdin.write(json.dumps({"id": number, **request}) + "\n")
        self.process.stdin.flush()
        return await asyncio.wait_for(future, GUARD_SECONDS)

    def stop(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdin.close()
        self.process.stdout.close()


def stop_all() -> None:
    """End the processes, at the end of the tests."""
    while _started:
        _started.popitem()[1].stop()
