"""When each request is due: an open loop asks nobody whether it may go on.

Request ``position`` of all processes that share a schedule is due when the rate, summed up over the
steps, has come to it; ``position % clients`` is whose turn it is. So each process finds out by
itself when its own requests are due, and together they make one even stream.

Poisson arrivals come at random instead, from the seed: each process makes its share of the rate by
itself (the sum of such streams is one of the same kind), and each arrival is of a client at random.
"""

import random
from collections.abc import Iterator, Sequence

from .task import Step

__all__ = ["Arrival", "poisson", "uniform"]

Arrival = tuple[int, int]  # ns since the begin of the schedule, and the client, from 0

# A stretch of constant rate: first position, when it begins (ns), ns from one position to the next.
_Stretch = tuple[float, float, float]


def _stretches(steps: Sequence[Step], batch: int) -> tuple[list[_Stretch], float]:
    """The steps as stretches, and how many positions there are in all."""
    stretches: list[_Stretch] = []
    position, begin_ns = 0.0, 0.0
    for step in steps:
        if step.per_second > 0:
            stretches.append((position, begin_ns, 1e9 * batch / step.per_second))
            position += step.seconds * step.per_second / batch
        begin_ns += step.seconds * 1e9
    return stretches, position


def _moments(positions: Iterator[float], stretches: Sequence[_Stretch]) -> Iterator[int]:
    """When rising positions are due."""
    following = iter((*stretches[1:], (float("inf"), 0.0, 0.0)))
    first, begin_ns, step_ns = stretches[0]
    upcoming = next(following)
    for position in positions:
        while position >= upcoming[0]:
            first, begin_ns, step_ns = upcoming
            upcoming = next(following)
        yield int(begin_ns + (position - first) * step_ns)


def uniform(
    steps: Sequence[Step], batch: int, place: int, clients: int, everybody: int
) -> Iterator[Arrival]:
    """Even arrivals of the clients from ``place`` on, among ``everybody``."""
    stretches, end = _stretches(steps, batch)
    if not stretches:
        return
    turn = 0

    def positions() -> Iterator[float]:
        nonlocal turn
        begin = place
        while True:
            for turn in range(clients):
                if begin + turn >= end:
                    return
                yield begin + turn
            begin += everybody

    for due_ns in _moments(positions(), stretches):
        yield due_ns, turn


def poisson(
    steps: Sequence[Step], batch: int, place: int, clients: int, everybody: int, seed: int
) -> Iterator[Arrival]:
    """Random arrivals at the same rate; independent of those that begin at another place."""
    stretches, end = _stretches(steps, batch)
    if not stretches:
        return
    chance = random.Random(f"{seed}/{place}")
    share = clients / everybody

    def positions() -> Iterator[float]:
        position = 0.0
        while True:
            position += chance.expovariate(share)
            if position >= end:
                return
            yield position

    for due_ns in _moments(positions(), stretches):
        yield due_ns, int(chance.random() * clients)
