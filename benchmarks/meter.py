"""What a run is asked to do, what is counted while it does, and what it found.

A ``Plan`` goes to the load process as JSON, a ``Run`` comes back. In between, the drivers
(``native.py``, ``local.py``) count into one ``Meter``.
"""

import time
from typing import Final, Literal

import msgspec

from .histogram import Histogram
from .integrity import STAMP_BYTES, Account, Integrity, Ledger

__all__ = ["BUSY_PERCENT", "LATE_MS", "Meter", "Phase", "Plan", "Run", "plan_problems"]

LATE_MS: Final = 5.0  # p99 of how late the generator may be for its own schedule
BUSY_PERCENT: Final = 90.0  # of a core: then the generator may be what is measured

_TARGETS: Final = ("native", "face", "core")
_DURABILITIES: Final = ("sync", "os", "memory")
_SHAPES: Final = ("apart", "together", "fill")
_MODES: Final = ("push", "pull")


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """One run: who sends what, how, for how long."""

    target: str = "native"  # native: over braid://; face, core: in the load's own process
    url: str = ""  # native: where
    server_pid: int = 0  # native: whose CPU seconds to count, 0: unknown
    directory: str = ""  # face, core: the data directory, "": in memory
    queue: str = "bench"
    durability: Literal["sync", "os", "memory"] = "sync"
    producers: int = 1
    consumers: int = 1
    size: int = 1024
    batch: int = 1  # messages in a SEND, and in a RECEIVE
    window: int = 1  # requests on their way, of each producer (and of each pulling consumer)
    rate: float = 0  # messages a second of all producers, 0: closed loop, as fast as answers come
    seconds: float = 2.0
    warmup: float = 0.5
    messages: int = 0  # stop after so many, 0: when the time is over
    shape: str = "apart"  # apart: produce, then drain; together: both at once; fill: only produce
    mode: str = "push"
    credit: int = 1000  # of each pushed consumer
    ack_batch: int = 0  # receipts in an ACK, 0: all that came in one frame
    patience: float = 10.0  # seconds without progress, then what is missing is lost
    seed: int = 1


class Phase(msgspec.Struct):
    """What was measured while messages went in, or came out."""

    messages: int = 0
    seconds: float = 0.0
    latency: list[int] = []  # a dumped histogram: request to answer, ns
    server_cpu: float = 0.0  # seconds; in process: of the whole process
    load_cpu: float = 0.0  # seconds of the load process

    @property
    def per_second(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds else 0.0


class Run(msgspec.Struct):
    """What a run found."""

    produce: Phase = msgspec.field(default_factory=Phase)
    consume: Phase = msgspec.field(default_factory=Phase)
    delivery: list[int] = []  # together: from when it was sent, or was meant to be, to delivery
    lag: list[int] = []  # open loop: how late the generator was, ns
    integrity: Integrity = msgspec.field(default_factory=Integrity)
    refused: int = 0  # answered by an error
    left_over: int = 0  # in the queue at the end
    commits: int = 0  # with fdatasync, while messages went in, the warm-up included
    sync_seconds: float = 0.0  # spent in those
    committed: int = 0  # messages confirmed meanwhile
    problems: list[str] = []  # unexpected errors of connections and requests
    invalid: list[str] = []  # why the figures say more about the generator than about the broker


class Meter:
    """Everything that a run counts. Drivers add to it; the phases look at it."""

    def __init__(self, plan: Plan) -> None:
        self.accounts = [Account(number) for number in range(plan.producers)]
        self.ledger = Ledger()
        self.confirming = Histogram()  # send to answer
        self.acking = Histogram()  # ack to answer
        self.delivery = Histogram()  # stamp to delivery
        self.lag = Histogram()
        self.confirmed = 0
        self.settled = 0  # acks answered
        self.settled_ns = 0  # when the last one was
        self.refused = 0
        self.problems: list[str] = []

    def clear_latencies(self) -> None:
        """The warm-up is over."""
        for histogram in (self.confirming, self.acking, self.delivery, self.lag):
            histogram.clear()

    def confirm(self, account: Account, count: int, latency_ns: int) -> None:
        """``count`` messages of a producer were confirmed by one answer."""
        account.confirmed += count
        self.confirmed += count
        self.confirming.record(latency_ns)

    def settle(self, count: int, now_ns: int, latency_ns: int) -> None:
        """``count`` acknowledgements were confirmed by one answer."""
        self.settled += count
        self.settled_ns = now_ns
        self.acking.record(latency_ns)

    def deliver(self, body: bytes, now_ns: int) -> None:
        """A message came out."""
        sent_ns = self.ledger.take(body)
        if sent_ns >= 0:
            self.delivery.record(now_ns - sent_ns)

    def problem(self, text: str) -> None:
        """Keep what went wrong; the first ones are enough."""
        if len(self.problems) < 10:
            self.problems.append(text)

    @staticmethod
    def now_ns() -> int:
        """The clock of all stamps."""
        return time.monotonic_ns()


def plan_problems(plan: Plan) -> list[str]:
    """What is wrong with a plan, for people."""
    wrong = []
    for name, allowed in (
        ("target", _TARGETS),
        ("durability", _DURABILITIES),
        ("shape", _SHAPES),
        ("mode", _MODES),
    ):
        if getattr(plan, name) not in allowed:
            wrong.append(f"{name} is one of {', '.join(allowed)}")
    for name, least, most in (
        ("producers", 1, 10_000),
        ("consumers", 1, 10_000),
        ("size", STAMP_BYTES, 4 * 1024 * 1024),
        ("batch", 1, 10_000),
        ("window", 1, 4_096),
        ("credit", 1, 65_536),
        ("ack_batch", 0, 10_000),
        ("rate", 0, 10_000_000),
        ("seconds", 0.01, 3_600),
        ("warmup", 0, 600),
        ("messages", 0, 100_000_000),
    ):
        if not least <= getattr(plan, name) <= most:
            wrong.append(f"{name} is between {least} and {most}")
    if plan.batch * (plan.size + 64) > 8 * 1024 * 1024:
        wrong.append("batch times size is at most 8 MiB, the largest frame")
    if plan.target == "native" and not plan.url.startswith("braid://"):
        wrong.append("the load needs a URL like braid://127.0.0.1:7450")
    if plan.rate and plan.target != "native":
        wrong.append("rate is for the native target; in process, generator and broker are one")
    return wrong
