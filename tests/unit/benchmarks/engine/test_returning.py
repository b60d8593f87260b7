"""Coming back, in virtual time."""

from itertools import pairwise

from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.engine.returning import Returning
from braidmq.benchmarks.engine.tally import Tally
from tests.unit.benchmarks.engine.load_support import GO, SECOND, VirtualLoop, a_task


class Scene:
    """A client whose attempts end as ``ends`` says: with errors, then well."""

    def __init__(self, *ends: Exception) -> None:
        self.loop = VirtualLoop()
        self.tally = Tally(a_task(), GO)
        self.attempts: list[int] = []
        self.back: list[int] = []
        self._ends = list(ends)
        self.returning = Returning(self.loop, self.tally, self._connect, self.back.append)

    def _connect(self) -> None:
        self.attempts.append(self.loop.time_ns)
        if self._ends:
            raise self._ends.pop(0)


def test_pauses_grow_up_to_a_limit() -> None:
    scene = Scene(*[ConnectionRefusedError()] * 8)
    scene.returning.begin()
    scene.loop.pass_time(10 * SECOND)
    pauses = [(after - before) // 1_000_000 for before, after in pairwise((GO, *scene.attempts))]
    assert pauses == [20, 40, 80, 160, 320, 500, 500, 500, 500]
    assert scene.back == scene.attempts[-1:]
    assert scene.tally.reconnects == 1
    assert scene.tally.problems == []


def test_next_time_begins_with_a_short_pause() -> None:
    scene = Scene(ConnectionRefusedError())
    for _ in range(2):
        scene.returning.begin()
        scene.loop.pass_time(SECOND)
    assert scene.attempts[2] - GO - SECOND == 20_000_000
    assert scene.tally.reconnects == 2


def test_broker_that_refuses_is_a_problem_and_asked_again() -> None:
    scene = Scene(Refused("not-found: it is gone"))
    scene.returning.begin()
    scene.loop.pass_time(SECOND)
    assert scene.tally.problems == [
        "the broker would not have a client back: not-found: it is gone"
    ]
    assert len(scene.back) == 1
