"""Who answers: the reply goes to whoever asked, and the request is acknowledged after it."""

from typing import Any

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.engine.replying import Echo
from braidmq.benchmarks.engine.tally import Tally
from tests.unit.benchmarks.engine.load_support import (
    GO,
    FakeClient,
    FakeDriver,
    VirtualLoop,
    a_task,
    body,
)


class Scene:
    """One who answers, and all around."""

    def __init__(self, **changes: Any) -> None:
        replies = (Wiring(url="fake://x:1", names=("r0", "r1")),)
        self.task = a_task(role="echo", replies=replies, **changes)
        self.driver = FakeDriver()
        self.tally = Tally(self.task, GO)
        self.ends = 0
        loop = VirtualLoop()
        self.echo = Echo(self.task, 0, self.driver, loop, self.tally, self._end)
        self.echo.begin()
        loop.pass_time(0)

    def _end(self) -> None:
        self.ends += 1

    @property
    def answers(self) -> FakeClient:
        return self.driver.clients[0]

    @property
    def requests(self) -> FakeClient:
        return self.driver.clients[1]

    def ask(self, *bodies: bytes) -> None:
        self.requests.bodies += bodies
        self.requests.receipts += [f"receipt {each[:4].hex()}" for each in bodies]
        self.echo.served(GO + 30)


def test_reply_goes_to_whoever_asked() -> None:
    scene = Scene()
    one, two = body(0, producer=1), body(0, producer=0)
    scene.ask(one, two)
    assert scene.answers.published == [([one], 1, [], 0), ([two], 0, [], 0)]
    assert scene.tally.timeline.window()[1].largest == 30
    assert scene.tally.sightings[0].distinct == 2


def test_request_is_acknowledged_when_its_reply_is_confirmed() -> None:
    scene = Scene()
    scene.ask(body(0, producer=1), body(0, producer=0))
    assert scene.requests.acknowledged == []
    scene.answers.confirmed.append(1)
    scene.echo.confirmed()
    assert scene.requests.acknowledged == [["receipt 00000000"]]
    scene.echo.written_out()
    assert len(scene.requests.acknowledged) == 1


def test_what_is_confirmed_twice_counts_once() -> None:
    scene = Scene()
    scene.ask(body(0, producer=1))
    for _ in range(2):
        scene.answers.confirmed.append(0)
        scene.echo.confirmed()
    assert scene.requests.acknowledged == [["receipt 00000001"]]
    assert scene.tally.confirmed == 1
    assert scene.tally.problems == ["the broker confirmed a reply that was not sent"]


def test_request_whose_reply_is_refused_is_neither_confirmed_nor_acknowledged() -> None:
    scene = Scene()
    scene.ask(body(0, producer=1), body(0, producer=0))
    scene.answers.refused.append(0)
    scene.answers.confirmed.append(1)
    scene.echo.confirmed()
    assert scene.requests.acknowledged == [["receipt 00000000"]]
    assert (scene.tally.confirmed, scene.tally.refused) == (1, 1)
    assert scene.tally.problems == ["the broker refused replies"]


def test_written_is_enough_where_nothing_is_confirmed() -> None:
    scene = Scene()
    scene.answers.confirms = False
    scene.ask(body(0))
    scene.echo.written_out()
    assert scene.requests.acknowledged == [["receipt 00000000"]]


def test_stranger_gets_no_answer() -> None:
    scene = Scene()
    scene.ask(body(0, producer=9))
    assert scene.answers.published == []
    assert scene.tally.problems == ["a request came from somebody who is not there"]


def test_either_connection_ends_both() -> None:
    scene = Scene()
    scene.echo.broken("gone", GO)
    scene.echo.broken("gone", GO)
    assert scene.ends == 1
    assert not scene.echo.is_alive
    assert scene.answers.is_closed and scene.requests.is_closed
