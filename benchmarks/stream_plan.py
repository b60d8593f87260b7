"""What a run of streams or of fan-out is asked to do, and what its load process found.

A ``StreamPlan`` goes to the load process as JSON, a ``StreamSide`` comes back. The process reads
the clock, its own CPU and the broker's at the same two moments, so that a figure is never of more
time than its cost.
"""

from typing import Any, Final, Literal

import msgspec

__all__ = [
    "HOT_BYTES",
    "IN_PROCESS",
    "NUMBER_BYTES",
    "OURS",
    "StreamPlan",
    "StreamSide",
    "problems_of",
]

OURS: Final = "braidmq"
HOT_BYTES: Final = 64 * 1024  # of a shard outside of files, where old records are measured
IN_PROCESS: Final = "in process"  # ours as well: the system that needs no server

NUMBER_BYTES: Final = 16  # of a body: a mark, and its number


class StreamPlan(msgspec.Struct, kw_only=True, frozen=True):
    """One run against one system."""

    system: str = "braidmq"
    host: str = "127.0.0.1"
    port: int = 0
    server_pid: int = 0  # whose CPU seconds to count; 0: it runs in the load's own process
    directory: str = ""  # in process: where the data goes
    # append: batches, each sent when the one before it is kept; replay: read all that is there,
    # again and again; tail: append on a schedule, read along; group: members share what is there;
    # fanout: publish to bound queues.
    shape: Literal["append", "replay", "tail", "group", "fanout"] = "append"
    durability: Literal["sync", "os"] = "sync"  # os: confirmed before it is on stable storage
    size: int = 100  # bytes of a body
    batch: int = 500  # records in a request
    producers: int = 1  # connections, each with one request under way
    members: int = 4  # of the group
    shards: int = 1
    targets: int = 1  # fanout: queues that get each message
    records: int = 1_000_000  # replay, group: how many are there
    rate: float = 1_000.0  # tail: records a second
    restarted: bool = False  # replay: the broker was ended and started after the records came
    seconds: float = 2.0
    warmup: float = 0.5
    patience: float = 20.0  # seconds without progress, then what is missing is lost
    seed: int = 1
    core: int = -1  # of the load process, -1: wherever the kernel likes
    broker_core: int = -1


class StreamSide(msgspec.Struct):
    """What a load process did."""

    records: int = 0  # confirmed, read, or delivered to a queue, within ``seconds``
    seconds: float = 0.0
    server_cpu: float = 0.0  # seconds of the broker within them; in process: of the whole process
    load_cpu: float = 0.0  # seconds of the load process
    core_busy: float = 0.0  # seconds that the broker's core ran anything at all
    memory_bytes: int = 0  # of the broker at the end
    latency: list[int] = []  # a dumped histogram, ns: request to answer; tail: due to read
    lag: list[int] = []  # tail: how late the generator was, ns
    confirmed: int = 0  # of the whole run
    lost: int = 0
    corrupt: int = 0  # changed, out of order or twice
    problems: list[str] = []
    pinned: bool = False

    @property
    def per_second(self) -> float:
        """Records a second."""
        return self.records / self.seconds if self.seconds > 0 else 0.0


_RANGES: Final[tuple[tuple[str, float, float], ...]] = (
    ("size", NUMBER_BYTES, 65_536),
    ("batch", 1, 1_000),
    ("producers", 1, 1_000),
    ("members", 1, 64),
    ("shards", 1, 64),
    ("targets", 1, 10_000),
    ("records", 1_000, 100_000_000),
    ("rate", 1, 10_000),
    ("seconds", 0.05, 3_600),
    ("warmup", 0, 600),
)


def problems_of(plan: StreamPlan) -> list[str]:
    """What is wrong with a plan, for people."""
    values: dict[str, Any] = msgspec.structs.asdict(plan)
    return [
        f"{name} is between {least} and {most}"
        for name, least, most in _RANGES
        if not least <= values[name] <= most
    ]
