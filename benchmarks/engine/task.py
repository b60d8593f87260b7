"""What a load process is told, and what it says: the words between coordinator and worker.

``python -m braidmq.benchmarks.engine.worker`` reads lines of JSON from its standard input, and
writes lines of JSON to its standard output::

    coordinator                            worker
    Task                            ->
                                    <-     {"ready": {"clients": 4}}   or {"failed": "words"}
    {"go": monotonic ns}            ->
                                    <-     {"progress": Progress}      each second
    {"poll": true}                  ->
                                    <-     {"progress": Progress}      at once, for whoever counts
    {"finish": true}                ->
                                    <-     {"report": Report}

Rules:

1. Begin with the consumers, and start producers when those are ready. All get the same ``go``, a
   moment that is still to come: everything counts from there. Warming up comes first, then the
   window that is measured: what happened within it is counted, and latencies of what was due in it.
2. Producers, requesters and a storm of connections end by themselves, when the schedule is over and
   everything is answered, or ``patience_seconds`` went by without an answer; all others when they
   are told, which ends anybody at once.
3. A worker whose input ends before it has reported exits with status 3 and says nothing more. One
   that cannot connect says ``failed``. A connection that breaks later is a problem in the report,
   and the end of that client, or of all when none is left; with ``reconnects`` it comes back.
4. Message ``sequence`` of producer ``number`` has the size and the key at place ``turn(number,
   sequence, len(table))`` of ``sizes`` and ``keys``: a consumer knows the key without being told.
   Its body begins with a stamp (``integrity.py``), whose time is when it was due.
"""

from typing import Any, Literal

import msgspec

from ..drivers.driver import Wiring

__all__ = [
    "AccountReport",
    "Arrivals",
    "Line",
    "Order",
    "Progress",
    "Ready",
    "Report",
    "Role",
    "SecondReport",
    "Seen",
    "Step",
    "Task",
    "decode_line",
    "encode_line",
    "turn",
]

Role = Literal["producers", "consumers", "echo", "requesters", "connections"]
Arrivals = Literal["uniform", "poisson"]


class Step(msgspec.Struct, frozen=True):
    """A part of a schedule; several of them make a ramp."""

    seconds: float
    per_second: float  # messages, or connections, of all processes that share the schedule


class Task(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one process does. Coordinators check the values; see rule 4 for the tables."""

    role: Role
    wirings: tuple[Wiring, ...]  # one for each client; connections: for one after the other in turn
    replies: tuple[Wiring, ...] = ()  # as many. requesters: where each gets its replies (names[0]);
    # echo: where each publishes them: names[number of the requester]
    first_number: int = 0  # of the producers' stamps: the first client's, then counted up
    # Open loop: when ``steps`` says so, for the warm-up, too (which is part of the steps).
    steps: tuple[Step, ...] = ()
    share_place: int = 0  # where the first client stands among all that share the schedule
    share_clients: int = 0  # how many they are; 0: those of this task
    arrivals: Arrivals = "uniform"
    inflight: int = 1_000  # messages of a producer that wait for confirmation; more are held back
    # Closed loop: every answer lets the next one go; without ``steps``.
    window: int = 0  # messages of a producer under way
    batch: int = 1  # messages in a request, which are all due at once
    sizes: tuple[int, ...] = (200,)  # of bodies, at least STAMP_BYTES
    keys: tuple[str, ...] = ()
    delay_ms: int = 0  # of delayed messages: also to those who receive them
    # Consumers.
    share: tuple[int, ...] = ()  # for each client, with whom it shares messages; (): all together
    work_ms: float = 0  # a consumer deals with one message after the other, for so long
    reject_percent: float = 0  # the same messages each time, until they are somewhere else
    ack_batch: int = 0  # 0: all that one read brought; n: by so many
    stop_after_seconds: float = 0  # a slow consumer: after so long (from go) it reads nothing ...
    stop_seconds: float = 0  # ... for so long; 0: never does
    connects_at_go: bool = False  # not before: else a backlog would be in its socket by then
    # Connections.
    connections: int = 0  # how many are made and held; 0: a storm, each ends when it is greeted
    # All.
    reconnects: bool = False
    warmup_seconds: float = 0.5
    seconds: float = 2.0  # that are measured
    messages: int = 0  # of this process, instead of an end of the time; 0: no limit
    patience_seconds: float = 10.0
    cores: tuple[int, ...] = ()  # to stay on; (): any
    seed: int = 1


class Order(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line from the coordinator, after the task: one of these."""

    go: int | None = None  # time.monotonic_ns()
    finish: bool = False
    poll: bool = False


class Progress(msgspec.Struct, kw_only=True):
    """How a process stands; ``second`` is the last whole one, everything else since go or in it."""

    second: int  # from the begin of the measurement; negative while warming up
    published: int = 0  # in that second, as are the next three
    confirmed: int = 0
    received: int = 0
    errors: int = 0
    lag_p99_ms: float = 0.0  # of what was begun in that second
    p50_ms: float = 0.0  # of what was due in that second and is there already
    p99_ms: float = 0.0
    max_ms: float = 0.0
    distinct_all: int = 0  # different messages received since go, over all sets
    clients: int = 0  # that are connected


class SecondReport(msgspec.Struct, kw_only=True):
    """A second in the end, when it is known what became of all that was due in it."""

    second: int
    published: int = 0
    confirmed: int = 0
    received: int = 0
    errors: int = 0
    lag_p99_ms: float = 0.0  # of what was begun in that second
    latency: list[int] = []  # a dumped histogram of the metric ``Report.main``


class AccountReport(msgspec.Struct, kw_only=True):
    """What one producer sent: 0 to ``sent`` - 1; the whole run, not only the window."""

    producer: int
    sent: int = 0
    confirmed: int = 0
    unsure: list[tuple[int, int]] = []  # from, to (inclusive): refused, or never answered


class Seen(msgspec.Struct, kw_only=True):
    """What a set of consumers received of a producer: all ``below``, and what ``beyond`` has."""

    below: int = 0
    beyond: bytes = b""  # zlib of a byte for each sequence from ``below`` on: 1 it came, 0 not


class Report(msgspec.Struct, kw_only=True):
    """What a process found."""

    role: Role
    clients: int
    published: int = 0  # within the window, as are the next four
    confirmed: int = 0
    received: int = 0
    bytes_in: int = 0  # of bodies confirmed
    bytes_out: int = 0  # of bodies received
    last_ns: int = 0  # when the last message was confirmed or received; 0: none
    main: str = ""  # the metric of the series: delivery, delay, reply, response or connect
    latency: dict[str, list[int]] = {}  # dumped histograms by the names in results.result.METRICS
    series: list[SecondReport] = []
    accounts: list[AccountReport] = []
    seen: dict[int, dict[int, Seen]] = {}  # by set, by producer; of replies and requests: set 0
    received_all: int = 0  # of the whole run, as is all that follows
    duplicate: int = 0
    reordered: int = 0
    corrupt: int = 0
    rejected: int = 0  # deliveries, each counted
    refused: int = 0  # messages that the broker would not take
    early: int = 0  # delayed messages that came more than a millisecond before they were due
    reconnects: int = 0
    cpu_seconds: float = 0.0  # of this process, within the window
    lag_p99_ms: float = 0.0
    problems: list[str] = []


class Ready(msgspec.Struct, kw_only=True):
    """All clients are connected, or all that can be done before ``go`` is done."""

    clients: int


class Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line from the worker: one of these."""

    ready: Ready | None = None
    failed: str = ""
    progress: Progress | None = None
    report: Report | None = None


def turn(number: int, sequence: int, length: int) -> int:
    """The place in a table of that length for a message; producers begin at different ones."""
    return (number * 7_919 + sequence) % length


def decode_line(line: bytes) -> Line:
    """A line from a worker. Raises ValueError (msgspec.MsgspecError)."""
    return msgspec.json.decode(line, type=Line)


def encode_line(message: Any) -> bytes:
    """A line for either side."""
    return msgspec.json.encode(message) + b"\n"
