"""The MQTT table: what is run, round by round, against each broker in turn.

A round runs a scenario against one broker and at once against the other, in an order that changes
with every round, so that a machine that becomes slower favours nobody. A ratio compares two figures
of the same round. The broker has the first core that this process may use, the load processes share
the second; with one core, or where the system refuses, nothing is kept anywhere, and that is said.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from .histogram import Histogram
from .machine import busy_seconds, cores, more_files
from .mqtt_brokers import started
from .mqtt_load import LoadProcess, LoadProcessFailed
from .mqtt_plan import Plan, Side
from .peer import cpu_seconds, memory_bytes

__all__ = [
    "BUSY",
    "LATE_MS",
    "TABLE",
    "Outcome",
    "Scenario",
    "run_once",
    "run_rounds",
]

BUSY: Final = 0.9  # of a core
_ROBBED: Final = 0.05  # of the broker's core: then the rate is not what the broker can do
_WAITING: Final = 0.8  # of a core: when neither side uses more, both wait for each other
LATE_MS: Final = 1.0  # p99 of how late a paced publisher may be
_SETTLE_SECONDS: Final = 0.5


class Scenario(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    plan: Plan


class Outcome(msgspec.Struct, kw_only=True):
    """One scenario, one broker, one round."""

    broker: str
    per_second: float = 0.0
    broker_cpu: float = 0.0  # of a core
    others_cpu: float = 0.0  # of the broker's core: what somebody else took
    load_cpu: float = 0.0  # of a core: both load processes
    pinned: bool = False
    publisher: Side = msgspec.field(default_factory=Side)
    subscriber: Side = msgspec.field(default_factory=Side)
    memory_bytes: int = 0  # at the end; idle: more than before, for each connection
    problems: list[str] = []
    invalid: list[str] = []  # why the figure says more about the load than about the broker


def _plan(**changes: Any) -> Plan:
    return Plan(**changes)


_MIXED: Final[dict[str, Any]] = {"size_min": 20, "size_max": 400, "topics": 100}
_MANY: Final[dict[str, Any]] = {"topics": 1000, "qos": 1, "deliver_qos": 0, "subscribers": 10}

TABLE: Final = (
    Scenario("qos0", _plan()),
    Scenario("qos0 mixed", _plan(**_MIXED)),
    Scenario("qos1", _plan(qos=1)),
    Scenario("qos1 mixed", _plan(qos=1, **_MIXED)),
    Scenario("qos0 fan-out 50", _plan(subscribers=50)),
    Scenario("qos1 fan-out 50", _plan(qos=1, subscribers=50)),
    Scenario("qos1 one by one", _plan(qos=1, window=1, subscribers=0)),
    Scenario("qos1 one by one, 1 core", _plan(qos=1, window=1, subscribers=0, apart=False)),
    Scenario("qos0 latency 1,000/s", _plan(shape="paced")),
    Scenario("qos1 latency 1,000/s", _plan(shape="paced", qos=1)),
    Scenario("qos1 offline session", _plan(qos=1, offline=True)),
    Scenario("idle connections", _plan(shape="idle")),
    *(
        Scenario(
            f"{count:,} filters, {matches} match",
            _plan(**_MANY, subscriptions=count, matches=matches),
        )
        for count in (1_000, 10_000, 100_000)
        for matches in (0, 1, 10)
    ),
)


def run_rounds(
    scenarios: Sequence[Scenario],
    brokers: Sequence[str],
    repeats: int,
    directory: str,
    progress: Callable[[str], None],
) -> dict[str, dict[str, list[Outcome]]]:
    """All scenarios, ``repeats`` times: outcomes by scenario and broker.

    Raises ServerFailed.
    """
    more_files()
    found: dict[str, dict[str, list[Outcome]]] = {
        each.name: {broker: [] for broker in brokers} for each in scenarios
    }
    for scenario in scenarios:
        for number in range(repeats):
            order = list(brokers) if number % 2 == 0 else list(reversed(brokers))
            for broker in order:
                progress(f"{scenario.name}: {broker}, {number + 1} of {repeats}")
                found[scenario.name][broker].append(run_once(scenario.plan, broker, directory))
    progress("")
    return found


def run_once(plan: Plan, broker: str, directory: str = "") -> Outcome:
    """One run against a broker of its own. Raises ServerFailed."""
    broker_core, load_core = cores()
    if not plan.apart:
        load_core = broker_core
    outcome = Outcome(broker=broker)
    plan = msgspec.structs.replace(plan, core=load_core)
    if broker == "relay" and (plan.offline or plan.subscriptions):  # it keeps and matches nothing
        plan = msgspec.structs.replace(plan, offline=False, subscriptions=0, subscribers=0)
    with tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=directory or None) as own:
        with started(broker, plan, own, broker_core) as server:
            plan = msgspec.structs.replace(plan, host=server.host, port=server.port)
            try:
                if plan.shape == "idle":
                    _idle(plan, server.pid, outcome)
                else:
                    _run(plan, server.pid, outcome)
            except LoadProcessFailed as error:
                outcome.problems.append(str(error))
    _judge(plan, outcome)
    return outcome


def _run(plan: Plan, pid: int, outcome: Outcome) -> None:
    """Publish and subscribe; everything is read off at the same two moments."""
    core = cores()[0]
    with LoadProcess("subscribe", plan) as subscriber, LoadProcess("publish", plan) as publisher:
        subscriber.wait_ready()
        publisher.go()
        publisher.wait_ready()
        time.sleep(plan.warmup)
        begin_ns, begin_cpu, begin_busy = time.monotonic_ns(), cpu_seconds(pid), busy_seconds(core)
        time.sleep(plan.seconds)
        end_ns, end_cpu, end_busy = time.monotonic_ns(), cpu_seconds(pid), busy_seconds(core)
        outcome.publisher = publisher.result()
        outcome.memory_bytes = memory_bytes(pid)
        subscriber.tell(outcome.publisher.count)
        outcome.subscriber = subscriber.result()
    at_publisher = plan.offline or plan.subscriptions or not plan.subscribers
    sending = outcome.publisher.between(begin_ns, end_ns)
    reading = outcome.subscriber.between(begin_ns, end_ns)
    outcome.per_second = (sending if at_publisher else reading).per_second
    outcome.broker_cpu = (end_cpu - begin_cpu) / sending.seconds
    core_busy = (end_busy - begin_busy) / sending.seconds
    outcome.others_cpu = max(0.0, core_busy - outcome.broker_cpu) if plan.apart else 0.0
    sent = outcome.publisher
    if not sent.started_ns <= begin_ns < end_ns <= sent.stopped_ns:
        outcome.invalid.append("the tool itself was held up, and looked when the load was over")
    outcome.load_cpu = sending.cpu_seconds / sending.seconds
    if not plan.offline:
        outcome.load_cpu += reading.cpu_seconds / reading.seconds
    outcome.pinned = outcome.publisher.pinned and outcome.subscriber.pinned


def _idle(plan: Plan, pid: int, outcome: Outcome) -> None:
    """Open connections and look at the broker's memory before and after."""
    before = memory_bytes(pid)
    with LoadProcess("idle", plan) as holder:
        holder.wait_ready()
        time.sleep(_SETTLE_SECONDS)
        begin_ns, begin_cpu = time.monotonic_ns(), cpu_seconds(pid)
        after = memory_bytes(pid)
        time.sleep(plan.seconds)
        outcome.broker_cpu = (cpu_seconds(pid) - begin_cpu) / (time.monotonic_ns() - begin_ns) * 1e9
        holder.tell(0)
        side = outcome.subscriber = holder.result()
    outcome.memory_bytes = (after - before) // max(1, side.count)
    outcome.per_second = side.count / max(1, side.stopped_ns - side.started_ns) * 1e9
    outcome.pinned = side.pinned


def _judge(plan: Plan, outcome: Outcome) -> None:
    """Say what went wrong, and what makes the figure worthless."""
    publisher, subscriber = outcome.publisher, outcome.subscriber
    outcome.problems += publisher.problems + subscriber.problems
    for name in ("lost", "duplicate", "reordered", "corrupt"):
        if count := getattr(subscriber, name):
            outcome.problems.append(f"{count} {name} of {subscriber.wanted}")
    if plan.shape == "stream" and outcome.others_cpu > _ROBBED:
        outcome.invalid.append(f"others used {outcome.others_cpu:.0%} of the core of the broker")
    wanted = outcome.broker_cpu + outcome.others_cpu
    if plan.shape == "stream" and outcome.load_cpu > BUSY > wanted:
        outcome.invalid.append(
            f"the load used {outcome.load_cpu:.0%} of its core,"
            f" {outcome.broker} {outcome.broker_cpu:.0%}"
        )
    idle = max(outcome.load_cpu, wanted) < _WAITING
    if plan.shape == "stream" and plan.qos and plan.window > 1 and not plan.offline and idle:
        outcome.invalid.append("nobody was busy: it was the window that was waited for")
    if publisher.lag and (late := Histogram.load(publisher.lag).quantile(0.99) / 1e6) > LATE_MS:
        outcome.invalid.append(f"the publisher was {late:.2f} ms late for its schedule (p99)")
