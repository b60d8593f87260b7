"""What a run of STOMP is asked to do, and what its load process found.

A ``StompPlan`` goes to the load process as JSON, a ``StompSide`` comes back. The process reads the
clock, its own CPU and the broker's at the same two moments, so that a figure is never of more time
than its cost.
"""

from typing import Any, Final, Literal

import msgspec

from .stream_plan import NUMBER_BYTES

__all__ = ["OURS", "StompPlan", "StompSide", "problems_of"]

OURS: Final = "braidmq"


class StompPlan(msgspec.Struct, kw_only=True, frozen=True):
    """One run against one system: pairs of a producer and a consumer, each on its connection."""

    system: str = OURS
    host: str = "127.0.0.1"
    port: int = 0
    server_pid: int = 0  # whose CPU seconds to count
    # stream: as fast as receipts come; paced: on a schedule, whatever the broker does.
    shape: Literal["stream", "paced"] = "stream"
    queue: str = "bench"  # of the first pair; a run has queues that nobody used before
    pairs: int = 1
    shared: bool = False  # all pairs use one queue; else each has its own
    window: int = 100  # messages of a producer that wait for their receipts
    prefetch: int = 1000  # messages that a consumer may have without acknowledging them
    size: int = 1024  # bytes of a body
    rate: float = 500.0  # paced: messages a second, of one pair
    seconds: float = 3.0
    warmup: float = 1.0
    patience: float = 20.0  # seconds without progress, then what is missing is lost
    seed: int = 1
    core: int = -1  # of the load process, -1: wherever the kernel likes

    @property
    def queues(self) -> list[str]:
        """The queue of each pair."""
        return [self.queue if self.shared else f"{self.queue}-{n}" for n in range(self.pairs)]


class StompSide(msgspec.Struct):
    """What a load process did."""

    confirmed: int = 0  # receipts within ``seconds``
    received: int = 0  # messages within ``seconds``, each acknowledged
    seconds: float = 0.0
    server_cpu: float = 0.0  # seconds of the broker within them
    load_cpu: float = 0.0  # seconds of the load process
    busy: float = 0.0  # seconds that any cores of the machine ran anything at all
    memory_bytes: int = 0  # of the broker at the end
    receipt: list[int] = []  # a dumped histogram, ns: from SEND, paced: from when it was due
    delivery: list[int] = []  # paced: from when a message was due until it was read
    lag: list[int] = []  # paced: how late the generator was, ns
    sent: int = 0  # of the whole run
    unconfirmed: int = 0  # without a receipt
    lost: int = 0  # never received
    duplicate: int = 0  # received once more, also when it had been acknowledged
    corrupt: int = 0  # changed, or out of order where a queue has one consumer
    pinned: bool = False

    @property
    def per_second(self) -> float:
        """Messages a second that were confirmed and received: the slower of both ends."""
        if self.seconds <= 0:
            return 0.0
        return min(self.confirmed, self.received) / self.seconds


_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("pairs", 1, 500),
    ("window", 1, 1_000),
    ("prefetch", 1, 30_000),
    ("size", NUMBER_BYTES, 65_536),
    ("rate", 1, 10_000),
    ("seconds", 0.05, 3_600),
    ("warmup", 0, 600),
)


def problems_of(plan: StompPlan) -> list[str]:
    """What is wrong with a plan, for people."""
    values: dict[str, Any] = msgspec.structs.asdict(plan)
    return [
        f"{name} is between {least} and {most}"
        for name, least, most in _RANGES
        if not least <= values[name] <= most
    ]
