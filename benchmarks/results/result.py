"""The file that a run leaves: everything to judge it by, and to repeat it.

Rules:

1. ``FORMAT`` goes up when a field changes its meaning or goes away; new fields have defaults.
2. Times are milliseconds, sizes bytes, rates a second; histograms hold nanoseconds, in the form
   that ``Histogram.dump`` gives.
3. A run that is not to be believed stays in the file, with the reason in ``invalid``; a run that
   broke a promise has it in ``problems``. Nothing is left out because it looks odd.
"""

from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ..environment import Environment
from ..integrity import Integrity

__all__ = [
    "FORMAT",
    "MAIN_METRICS",
    "METRICS",
    "Generator",
    "Result",
    "Run",
    "Second",
    "ServerUse",
    "SystemInfo",
    "read_result",
    "write_result",
]

FORMAT: Final = 1

# What the histograms of a run are called, and what they hold.
METRICS: Final = {
    "response": "from when a message was due until it was confirmed",
    "service": "from when a message was sent until it was confirmed",
    "delivery": "from when a message was due until a consumer had it",
    "reply": "from when a request was due until its reply was there",
    "connect": "from when a connection was due until the broker had greeted it",
    "delay": "from when a delayed message was due until a consumer had it",
    "lag": "how much later than due the load itself was",
}

# Which latency a run is about: the first of these that was measured.
MAIN_METRICS: Final = ("reply", "connect", "delay", "delivery", "response", "service")

Loop = Literal["open", "closed", "saturation"]


class Second(msgspec.Struct, kw_only=True):
    """A second of a run; latencies belong to the second in which the message was due."""

    second: int  # from the begin of the measurement; negative while warming up
    published: int = 0
    confirmed: int = 0
    received: int = 0
    errors: int = 0
    p50_ms: float = 0.0  # of the first of MAIN_METRICS that was measured, as are the next two
    p99_ms: float = 0.0
    max_ms: float = 0.0
    lag_p99_ms: float = 0.0  # how much later than due the load itself was
    server_cpu: float = 0.0  # cores
    server_bytes: int = 0  # resident


class ServerUse(msgspec.Struct, kw_only=True):
    """What the broker's process used while it was measured."""

    cpu_seconds: float = 0.0
    memory_begin_bytes: int = 0
    memory_end_bytes: int = 0
    memory_max_bytes: int = 0
    context_switches: int = 0
    files: int = 0  # open descriptors at the end
    disk_bytes: int = 0  # written


class Generator(msgspec.Struct, kw_only=True):
    """A process that made load."""

    role: str
    clients: int
    cpu_seconds: float
    lag_p99_ms: float = 0.0


class SystemInfo(msgspec.Struct, kw_only=True):
    """A broker that was measured."""

    name: str
    version: str
    settings: dict[str, str] = {}


class Run(msgspec.Struct, kw_only=True):
    """One scenario, once, on one system."""

    scenario: str
    system: str
    scheme: str  # the protocol
    repeat: int  # from 0; runs of one number were made one after the other
    knobs: dict[str, Any]
    loop: Loop
    seconds: float  # that were measured
    published: int = 0  # within them, as are the next two
    confirmed: int = 0
    received: int = 0
    bytes_in: int = 0  # of bodies confirmed
    bytes_out: int = 0  # of bodies received
    integrity: Integrity = msgspec.field(default_factory=Integrity)  # of the whole run
    latency: dict[str, list[int]] = {}  # by the names in METRICS
    series: list[Second] = []
    server: ServerUse = msgspec.field(default_factory=ServerUse)
    generators: list[Generator] = []
    figures: dict[str, float] = {}  # what else a scenario measures, with the unit last in the name
    problems: list[str] = []
    invalid: list[str] = []

    @property
    def is_sound(self) -> bool:
        """Whether it is to be believed, and kept its promises."""
        return not (self.problems or self.invalid)

    def has_latency(self, metric: str) -> bool:
        """Whether it measured that one: a dump of nothing is two numbers, or none."""
        return len(self.latency.get(metric, ())) > 2


class Result(msgspec.Struct, kw_only=True):
    """What ``--json`` writes."""

    environment: Environment
    command: list[str]  # the arguments of braidmq, to run it again
    seed: int
    begun: str  # ISO 8601, UTC
    systems: list[SystemInfo]
    runs: list[Run]
    missing: dict[str, str] = {}  # systems that were left out, and why
    format: int = FORMAT


def write_result(result: Result, path: str | Path) -> None:
    """Write the file. Raises OSError."""
    data = msgspec.json.format(msgspec.json.encode(result), indent=1)
    Path(path).write_bytes(data + b"\n")


def read_result(path: str | Path) -> Result:
    """Read such a file. Raises OSError, ValueError (also for another format)."""
    try:
        result = msgspec.json.decode(Path(path).read_bytes(), type=Result)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path} is not a result of braidmq bench: {error}") from error
    if result.format != FORMAT:
        raise ValueError(f"{path} has format {result.format}, this version reads {FORMAT}")
    return result
