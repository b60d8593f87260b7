"""What tests of the load process share: real processes, and clients and links that are not real."""

import heapq
import subprocess
import sys
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.engine.loop import Loop
from braidmq.benchmarks.engine.task import (
    Line,
    Order,
    Progress,
    Report,
    Task,
    decode_line,
    encode_line,
)
from braidmq.benchmarks.engine.tracking import filling
from braidmq.benchmarks.integrity import STAMP_BYTES, Stamper

SECOND = 1_000_000_000
GO = 1_000 * SECOND


class LoadProcess:
    """``with LoadProcess(task) as process: ...``"""

    def __init__(self, task: Task) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "braidmq.benchmarks.engine.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.progress: list[Progress] = []
        self.say(task)

    def say(self, message: Any) -> None:
        self._stdin.write(encode_line(message))
        self._stdin.flush()

    def hear(self) -> Line:
        return decode_line(self._stdout.readline())

    def ready(self) -> Self:
        """Wait until it is."""
        line = self.hear()
        assert line.ready is not None, line.failed
        return self

    def go(self) -> Self:
        """Wait until it is ready, then begin."""
        self.ready().say(Order(go=time.monotonic_ns()))
        return self

    def report(self) -> Report:
        while (line := self.hear()).report is None:
            assert line.progress is not None
            self.progress.append(line.progress)
        return line.report

    def await_arrival(self, messages: int) -> None:
        """Until so many different messages came, over all sets."""
        end = time.monotonic() + 20
        while not (self.progress and self.progress[-1].distinct_all >= messages):
            assert time.monotonic() < end, self.progress[-1:]
            self.say(Order(poll=True))
            line = self.hear()
            assert line.progress is not None, line
            self.progress.append(line.progress)

    def finish(self) -> Report:
        """Tell it to."""
        self.say(Order(finish=True))
        return self.report()

    def end(self) -> int:
        """Close its input; its exit status."""
        self._stdin.close()
        return self._process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._process.kill()
        self.end()
        self._stdout.close()


def go_together(*processes: LoadProcess) -> None:
    """Begin when all are ready."""
    for process in processes:
        process.ready()
    go_ns = time.monotonic_ns()
    for process in processes:
        process.say(Order(go=go_ns))


class FakeSocket:
    """Only a number."""

    def fileno(self) -> int:
        return -1


class FakeClient:
    """A client, both ways, of no broker: tests look at what it was told, and put in what comes."""

    confirms = True

    def __init__(self) -> None:
        self.out = bytearray()
        self.socket: Any = FakeSocket()
        self.confirmed: list[int] = []
        self.refused: list[int] = []
        self.bodies: list[bytes] = []
        self.receipts: list[Any] = []
        self.published: list[tuple[list[bytes], int, list[str], int]] = []
        self.acknowledged: list[list[Any]] = []
        self.rejected: list[Any] = []
        self.is_closed = False

    def feed(self, data: bytes) -> None: ...

    def close(self) -> None:
        self.is_closed = True

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        self.published.append((list(bodies), to, list(keys), delay_ms))

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        self.acknowledged.append(list(receipts))

    def reject(self, receipts: Sequence[Any]) -> None:
        self.rejected += receipts


class FakeDriver:
    """Gives out fake clients; ``failures`` of them cannot connect."""

    kinds: Any = frozenset()
    features: Any = frozenset()

    def __init__(self) -> None:
        self.clients: list[FakeClient] = []
        self.wirings: list[Wiring] = []  # as many
        self.failures = 0

    @property
    def client(self) -> FakeClient:
        return self.clients[-1]

    def _client(self, wiring: Wiring) -> Any:
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError("nobody is there")
        self.clients.append(FakeClient())
        self.wirings.append(wiring)
        return self.clients[-1]

    def declare(self, wiring: Wiring) -> None: ...

    def connect(self, wiring: Wiring) -> Any:
        return self._client(wiring)

    def greeting(self, wiring: Wiring) -> bytes:
        return b"hello\n"

    def is_greeted(self, data: bytes) -> bool:
        return data.endswith(b"\n")

    def producer(self, wiring: Wiring) -> Any:
        return self._client(wiring)

    def consumer(self, wiring: Wiring) -> Any:
        return self._client(wiring)


class VirtualLoop(Loop):
    """A loop without sockets, whose time is the test's."""

    def __init__(self) -> None:
        super().__init__()
        self.time_ns = GO

    def now_ns(self) -> int:  # type: ignore[override]
        return self.time_ns

    def register(self, descriptor: int, callback: Any, events: int = 1) -> None: ...

    def watch(self, descriptor: int, events: int) -> None: ...

    def forget(self, descriptor: int) -> None: ...

    def pass_time(self, nanoseconds: int) -> None:
        """Do all that is due meanwhile, each at its time."""
        end_ns = self.time_ns + nanoseconds
        while self._timers and self._timers[0][0] <= end_ns:
            self.time_ns, _, call = heapq.heappop(self._timers)
            call(self.time_ns)
        self.time_ns = end_ns


def a_task(**changes: Any) -> Task:
    """A producer of a queue, without warming up."""
    wiring = Wiring(url="fake://127.0.0.1:1", names=("a",))
    plain: dict[str, Any] = {"role": "producers", "wirings": (wiring,), "warmup_seconds": 0}
    return Task(**{**plain, **changes})


def body(sequence: int, producer: int = 0, size: int = 100, due_ns: int = GO) -> bytes:
    """A sound message."""
    payload = filling(4_000, 1)[: size - STAMP_BYTES]
    return Stamper(producer, payload).stamp(sequence, due_ns) + payload
