"""From knobs to tasks: which clients there are, what each is connected to, who receives what.

Rules:

1. With at most as many clients of a role as destinations, these are dealt out: client ``k`` has
   names ``k``, ``k + clients``, ... With more clients than destinations, client ``k`` has name
   ``k % destinations``.
2. A *set* of consumers shares messages, and gets each that was sent: of a queue all consumers are
   one set, of a topic or a stream every ``destinations`` consumers are one, or every group is.
3. Producers are numbered from those that fill a backlog on, over all processes.
4. Those who ask get each of their requests back: they are the set of a request-reply.
5. Messages that are rejected end with a consumer of dead letters, of the same set as the others.
6. Everything is drawn from the seed; nothing here looks at a clock or at a broker.
"""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil
from typing import Final

import msgspec

from ..drivers.driver import Wiring
from .knobs import measured_seconds, steps_of
from .scenario import Scenario
from .sizes import draw_keys, draw_sizes
from .task import Role, Step, Task

__all__ = ["OPEN_END_SECONDS", "Place", "Plan", "plan_of", "reading_again"]

OPEN_END_SECONDS: Final = 7 * 86_400.0  # of a task that ends when it is told, or with its messages
_FILL_PRODUCERS: Final = 4
_FILL_WINDOW: Final = 2_000
_FILL_BATCH: Final = 100
_RECEIVES_MAX: Final = 3  # of a rejected message, then it is a dead letter


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run happens."""

    url: str
    token: str  # in all names, so that runs on one broker do not meet
    tls_ca: str = ""
    cores: tuple[int, ...] = ()  # of the load; (): any


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is declared, then started, in this order."""

    declared: tuple[Wiring, ...] = ()
    fill: tuple[Task, ...] = ()  # ends before anything else begins
    receivers: tuple[Task, ...] = ()  # consumers, or those who answer
    senders: tuple[Task, ...] = ()  # producers, requesters or connections
    sets: tuple[int, ...] = ()  # each of which gets everything
    warmup_seconds: float = 0.0
    seconds: float = 0.0  # that are measured; 0: until everything was received


def plan_of(scenario: Scenario, place: Place) -> Plan:
    """The tasks of a scenario, which is not a mixed one."""
    return _Planner(scenario, place).plan()


def reading_again(plan: Plan) -> tuple[Task, ...]:
    """Consumers for what was published while nobody read, to check it."""
    return tuple(
        msgspec.structs.replace(task, warmup_seconds=0, seconds=OPEN_END_SECONDS)
        for task in plan.receivers
    )


class _Planner:
    def __init__(self, scenario: Scenario, place: Place) -> None:
        self._shape = scenario.shape
        self._knobs = scenario.knobs
        self._place = place
        self._names = tuple(f"bench.{place.token}.{n}" for n in range(scenario.knobs.destinations))
        knobs = self._knobs
        self._dead_letters = f"bench.{place.token}.dead" if knobs.reject_percent else ""
        self._sizes = tuple(draw_sizes(knobs.size, knobs.seed))
        keys = draw_keys(knobs.keys, knobs.key_distribution, knobs.seed)
        self._keys = tuple(f"key-{key}" for key in keys)
        steps = steps_of(knobs)
        self._seconds = measured_seconds(knobs)
        self._steps = tuple(steps)
        # A run that ends with its messages is measured from the first of them on.
        self._is_open_end = self._shape == "drain" or knobs.messages > 0
        # Before the measurement begins, the first delayed messages have to be there.
        warmup = knobs.warmup_seconds + knobs.delay_ms / 1e3
        self._warmup = 0.0 if self._is_open_end else warmup
        if steps and self._warmup:
            self._steps = (Step(self._warmup, steps[0].per_second), *steps)

    def plan(self) -> Plan:
        knobs = self._knobs
        if self._shape in ("connect", "idle"):
            return self._connections()
        if self._shape == "reply":
            return self._replies()
        sets = self._sets()
        return Plan(
            declared=(self._declared(),),
            fill=self._fill() if knobs.backlog else (),
            receivers=self._consumers(sets),
            senders=self._producers() if knobs.producers else (),
            sets=tuple(sorted(set(sets)))[: knobs.matching if knobs.wildcards else None],
            warmup_seconds=self._warmup,
            seconds=0.0 if self._is_open_end else self._seconds,
        )

    def _wiring(self, names: Sequence[str], client_id: str) -> Wiring:
        knobs, place = self._knobs, self._place
        return Wiring(
            url=place.url,
            kind=knobs.kind,
            names=tuple(names),
            client_id=f"bench-{place.token}-{client_id}",
            qos=knobs.qos,
            durable=knobs.durable,
            prefetch=knobs.prefetch,
            retain=knobs.retain,
            tls_ca=place.tls_ca if knobs.tls else "",
            partitions=knobs.partitions,
            from_start=self._shape in ("drain", "publish"),
            dead_letter=self._dead_letters,
            receives_max=_RECEIVES_MAX if knobs.reject_percent else 0,
        )

    def _declared(self) -> Wiring:
        """Everything that has to be there, and empty."""
        groups = tuple(self._group(number) for number in range(self._knobs.groups))
        return msgspec.structs.replace(self._wiring(self._names, "declare"), groups=groups)

    def _dealt(self, client: int, clients: int) -> Sequence[str]:
        """The names of a client (rule 1)."""
        names = self._names
        return names[client::clients] if clients <= len(names) else (names[client % len(names)],)

    def _task(self, role: Role, wirings: Sequence[Wiring], first: int) -> Task:
        """The part of a task that all roles have."""
        knobs = self._knobs
        return Task(
            role=role,
            wirings=tuple(wirings),
            arrivals=knobs.arrivals,
            share_place=first,
            warmup_seconds=self._warmup,
            seconds=OPEN_END_SECONDS if self._is_open_end else self._seconds,
            patience_seconds=knobs.patience_seconds,
            reconnects=knobs.kill_after_seconds > 0,
            cores=self._place.cores,
            delay_ms=knobs.delay_ms,
            seed=knobs.seed,
            sizes=self._sizes,
            keys=self._keys,
        )

    def _fill(self) -> tuple[Task, ...]:
        """Producers that put the backlog there, as quickly as they can."""
        knobs = self._knobs
        clients = 1 if knobs.retain else min(_FILL_PRODUCERS, knobs.backlog)
        wirings = [
            self._wiring(self._dealt(client, clients), f"fill-{client}")
            for client in range(clients)
        ]
        task = msgspec.structs.replace(
            self._task("producers", wirings, 0),
            window=_FILL_WINDOW,
            batch=1 if knobs.retain else _FILL_BATCH,  # a batch has one destination
            messages=knobs.backlog,
            warmup_seconds=0.0,
            seconds=OPEN_END_SECONDS,
            delay_ms=0,
        )
        return (task,)

    def _producers(self) -> tuple[Task, ...]:
        knobs = self._knobs
        numbered = min(_FILL_PRODUCERS, knobs.backlog)
        tasks = []
        for first, clients in _spread(knobs.producers, knobs.processes):
            wirings = [
                self._wiring(self._dealt(first + k, knobs.producers), f"producer-{first + k}")
                for k in range(clients)
            ]
            tasks.append(
                msgspec.structs.replace(
                    self._task("producers", wirings, first),
                    **self._load(first, clients),
                    share_clients=knobs.producers,
                    first_number=numbered + first,
                )
            )
        return tuple(tasks)

    def _load(self, first: int, clients: int) -> dict[str, float | tuple[Step, ...]]:
        """What makes the producers of a process send; the first ones take what is left over."""
        knobs = self._knobs
        before, upto = (
            ceil(knobs.messages * client / knobs.producers) for client in (first, first + clients)
        )
        return {
            "steps": self._steps,
            "window": knobs.closed if not self._steps else 0,
            "inflight": knobs.inflight,
            "batch": knobs.batch,
            "messages": upto - before,
            "seconds": OPEN_END_SECONDS if knobs.messages else self._seconds,
        }

    def _sets(self) -> list[int]:
        """Of each consumer, its set (rule 2)."""
        knobs = self._knobs
        if knobs.kind in ("queue", "fifo"):
            return [0] * knobs.consumers
        if knobs.wildcards:
            return list(range(knobs.consumers))
        if knobs.groups:
            return [client % knobs.groups for client in range(knobs.consumers)]
        return [client // knobs.destinations for client in range(knobs.consumers)]

    def _group(self, number: int) -> str:
        return f"bench-{self._place.token}-group-{number}"

    def _consumer(self, client: int) -> Wiring:
        """What a consumer is subscribed to."""
        knobs = self._knobs
        names = self._dealt(client, knobs.consumers)
        group = ""
        if knobs.wildcards:
            names = self._filters(client)
        elif knobs.groups:
            names, group = self._names, self._group(client % knobs.groups)
        wiring = self._wiring(names, f"consumer-{client}")
        return msgspec.structs.replace(wiring, group=group)

    def _filters(self, client: int) -> list[str]:
        """Its share of the filters with wildcards; the first one may match everything."""
        knobs, top = self._knobs, f"bench.{self._place.token}"
        numbers = range(client, knobs.wildcards, knobs.consumers)
        filters = [f"{top}.*.other-{number}" for number in numbers]
        if client < knobs.matching:
            filters[0] = f"{top}.*"
        return filters

    def _consumers(self, sets: Sequence[int]) -> tuple[Task, ...]:
        knobs = self._knobs
        tasks = []
        for first, clients in _spread(knobs.consumers, knobs.processes):
            for from_client, to_client, is_slow in self._paces(first, first + clients):
                numbers = range(from_client, to_client)
                task = msgspec.structs.replace(
                    self._task("consumers", [self._consumer(k) for k in numbers], from_client),
                    share=tuple(sets[from_client:to_client]),
                    work_ms=knobs.work_ms,
                    reject_percent=knobs.reject_percent,
                    ack_batch=knobs.ack_batch,
                    connects_at_go=self._shape == "drain",
                )
                if is_slow:
                    after = self._warmup + self._seconds / 4
                    task = msgspec.structs.replace(
                        task, stop_after_seconds=after, stop_seconds=knobs.stop_seconds
                    )
                tasks.append(task)
        if knobs.reject_percent:
            dead = self._wiring((self._dead_letters,), "undertaker")
            task = self._task("consumers", [dead], knobs.consumers)
            tasks.append(msgspec.structs.replace(task, share=(0,)))
        return tuple(tasks)

    def _paces(self, begin: int, end: int) -> list[tuple[int, int, bool]]:
        """The consumers of a process, the slow ones (the last of all) in one of their own."""
        first_slow = self._knobs.consumers - self._knobs.slow_consumers
        cut = max(begin, min(end, first_slow))
        return [
            (low, high, is_slow)
            for low, high, is_slow in ((begin, cut, False), (cut, end, True))
            if low < high
        ]

    def _replies(self) -> Plan:
        """Requesters, each with a place for its replies, and those who answer."""
        knobs = self._knobs
        names = [f"bench.{self._place.token}.reply.{k}" for k in range(knobs.producers)]
        requesters, echoes = [], []
        for first, clients in _spread(knobs.producers, knobs.processes):
            numbers = range(first, first + clients)
            asking = [
                self._wiring(self._dealt(k, knobs.producers), f"requester-{k}") for k in numbers
            ]
            replies = tuple(self._wiring((names[k],), f"replies-{k}") for k in numbers)
            task = self._task("requesters", asking, first)
            changes = {
                **self._load(first, clients),
                "replies": replies,
                "share_clients": knobs.producers,
                "first_number": first,
            }
            requesters.append(msgspec.structs.replace(task, **changes))
        for first, clients in _spread(knobs.consumers, knobs.processes):
            numbers = range(first, first + clients)
            answering = [self._consumer(k) for k in numbers]
            back = tuple(self._wiring(names, f"answers-{k}") for k in numbers)
            task = self._task("echo", answering, first)
            echoes.append(msgspec.structs.replace(task, replies=back))
        return Plan(
            declared=(self._declared(), self._wiring(names, "declare-replies")),
            receivers=tuple(echoes),
            senders=tuple(requesters),
            sets=(0,),
            warmup_seconds=self._warmup,
            seconds=0.0 if self._is_open_end else self._seconds,
        )

    def _connections(self) -> Plan:
        """Connections, opened on a schedule."""
        knobs = self._knobs
        is_idle = self._shape == "idle"
        processes = min(knobs.processes, knobs.connections) if is_idle else knobs.processes
        tasks = []
        for place in range(processes):
            count = len(range(place, knobs.connections, processes))  # as their schedule has it
            task = self._task("connections", [self._wiring((), "idle")], place)
            tasks.append(
                msgspec.structs.replace(
                    task,
                    steps=self._idle_steps() if is_idle else self._steps,
                    share_clients=processes,
                    arrivals="uniform" if is_idle else task.arrivals,
                    connections=count if is_idle else 0,
                    warmup_seconds=0.0 if is_idle else knobs.warmup_seconds,
                    seconds=OPEN_END_SECONDS if is_idle else self._seconds,
                )
            )
        return Plan(
            senders=tuple(tasks),
            warmup_seconds=0.0 if is_idle else knobs.warmup_seconds,
            seconds=knobs.seconds if is_idle else self._seconds,
        )

    def _idle_steps(self) -> tuple[Step, ...]:
        """As long as opening them all takes."""
        per_second = self._steps[-1].per_second
        return (Step(self._knobs.connections / per_second, per_second),)


def _spread(clients: int, processes: int) -> list[tuple[int, int]]:
    """First client and number of clients of each process; none without clients."""
    processes = min(processes, clients)
    edges = [clients * n // processes for n in range(processes + 1)] if processes else []
    return [(low, high - low) for low, high in pairwise(edges)]
