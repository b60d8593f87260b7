"""What an MQTT run is asked to do, and what its two load processes found.

A ``Plan`` goes to the publishing and to the subscribing process as JSON; each answers with a
``Side``. Rates are not what a process claims at its end: a side keeps samples of its count and of
its CPU, and ``Side.between`` reads both off at the same two moments, the steady middle of the run.
"""

from bisect import bisect_left
from typing import Any, Final, Literal, NamedTuple

import msgspec

__all__ = ["SAMPLE_NS", "SEQUENCE_BYTES", "Plan", "Progress", "Sample", "Side", "problems_of"]

SAMPLE_NS: Final = 10_000_000
SEQUENCE_BYTES: Final = 16  # of a payload: its sequence number, then when it was due
_PACKET_IDS: Final = 65_535


class Plan(msgspec.Struct, kw_only=True, frozen=True):
    """One run against one broker."""

    host: str = "127.0.0.1"
    port: int = 0
    version: Literal[4, 5] = 4  # the protocol level: 4 is MQTT 3.1.1
    # stream: as fast as it goes, within the window for QoS 1; paced: on a schedule; idle: connect.
    shape: Literal["stream", "paced", "idle"] = "stream"
    qos: Literal[0, 1] = 0  # of the publisher
    deliver_qos: int = -1  # of the subscriptions, -1: as the publisher's
    size_min: int = 100  # bytes of a payload
    size_max: int = 100
    topics: int = 1
    window: int = 1000  # QoS 1: messages not acknowledged yet
    rate: float = 1000.0  # paced: messages a second
    subscribers: int = 1  # connections
    subscriptions: int = 0  # wildcard filters of all connections, 0: one # for each
    matches: int = 1  # subscriptions that want a message: with wildcard filters, 0, 1 or all
    offline: bool = False  # the subscriber is away while messages come
    connections: int = 10_000  # idle
    seconds: float = 3.0
    warmup: float = 0.7
    patience: float = 10.0  # seconds without progress, then what is missing is lost
    seed: int = 1
    apart: bool = True  # broker and load have a core each; else they share one
    core: int = -1  # of the load processes, -1: wherever the kernel likes

    @property
    def subscribe_qos(self) -> int:
        """The QoS that subscriptions ask for."""
        return self.qos if self.deliver_qos < 0 else self.deliver_qos

    @property
    def delivered_qos(self) -> int:
        """The QoS that deliveries have."""
        return min(self.qos, self.subscribe_qos)


class Sample(NamedTuple):
    """Where a process stood."""

    time_ns: int
    messages: int
    cpu_ns: int


class Progress(NamedTuple):
    """What happened between two moments."""

    seconds: float
    messages: int
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds if self.seconds > 0 else 0.0


class Side(msgspec.Struct):
    """What a load process did."""

    started_ns: int = 0  # monotonic: one clock for all processes of a machine
    stopped_ns: int = 0
    count: int = 0  # publisher: sent; subscriber: received, of all connections
    wanted: int = 0  # subscriber: what should have come
    acknowledged: int = 0
    lost: int = 0
    duplicate: int = 0
    reordered: int = 0
    corrupt: int = 0
    latency: list[int] = []  # a dumped histogram, ns
    lag: list[int] = []  # paced: how late the publisher was
    samples: list[Sample] = []
    problems: list[str] = []
    pinned: bool = False

    def at(self, time_ns: int) -> Sample:
        """Count and CPU at a moment, between two samples in proportion."""
        samples = self.samples
        if not samples:
            return Sample(time_ns, 0, 0)
        place = bisect_left(samples, time_ns, key=lambda sample: sample.time_ns)
        if place == 0:
            return samples[0]
        if place == len(samples):
            return Sample(time_ns, *samples[-1][1:])
        before, after = samples[place - 1], samples[place]
        part = (time_ns - before.time_ns) / (after.time_ns - before.time_ns)
        count = before.messages + round(part * (after.messages - before.messages))
        return Sample(time_ns, count, round(before.cpu_ns + part * (after.cpu_ns - before.cpu_ns)))

    def between(self, begin_ns: int, end_ns: int) -> Progress:
        """What was done from one moment to another."""
        begin, end = self.at(begin_ns), self.at(end_ns)
        seconds, cpu_ns = (end_ns - begin_ns) / 1e9, end.cpu_ns - begin.cpu_ns
        return Progress(seconds, end.messages - begin.messages, cpu_ns / 1e9)


_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("size_min", SEQUENCE_BYTES, 65_536),
    ("size_max", SEQUENCE_BYTES, 65_536),
    ("topics", 1, 10_000),
    ("window", 1, _PACKET_IDS // 4),
    ("rate", 1, 100_000),
    ("subscribers", 0, 1_000),
    ("subscriptions", 0, 1_000_000),
    ("connections", 1, 50_000),
    ("seconds", 0.05, 3_600),
    ("warmup", 0, 600),
)


def problems_of(plan: Plan) -> list[str]:
    """What is wrong with a plan, for people."""
    values: dict[str, Any] = msgspec.structs.asdict(plan)
    wrong = [
        f"{name} is between {least} and {most}"
        for name, least, most in _RANGES
        if not least <= values[name] <= most
    ]
    if plan.size_min > plan.size_max:
        wrong.append("size_min is at most size_max")
    if plan.subscriptions and plan.matches not in (0, 1, plan.subscribers):
        wrong.append("with subscriptions, matches is 0, 1 or the number of subscribers")
    return wrong
