"""Following a stream: where it begins, and what becomes of it when the answer comes late."""

from typing import Any

import pytest

from braidmq.broker.access import SYSTEM, Access, Rule, User
from braidmq.broker.errors import BraidError, NotFound, PermissionDenied, Unavailable
from braidmq.broker.following import Following
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamreading import Chunk
from braidmq.broker.streamrecord import chunk_records
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from braidmq.broker.tail import Tail
from tests.broker_harness import Harness


class Reader:
    """A sink that takes notes."""

    def __init__(self, broker, credit=10**9, who=SYSTEM):
        self.got: dict[int, list[bytes]] = {}
        self.errors: list[BraidError] = []
        self.following = Following(broker.core, who, "s", credit, self, self.errors.append)

    def tail_chunk(self, tail: Tail, shard: int, chunk: Chunk, last: bool) -> bool:
        records = [record.body for record in chunk_records(chunk, shard)]
        self.got.setdefault(shard, []).extend(records)
        return True

    def tail_ended(self, tail: Tail, error: BraidError) -> None:
        self.errors.append(error)


class Late:
    """Answers to ``find_number`` that come when it is asked for them."""

    def __init__(self, broker, monkeypatch):
        self.asked: list[Any] = []
        monkeypatch.setattr(broker.core, "find_number", lambda *asked: self.asked.append(asked))

    def answer(self, number):
        _, _, index, _, answer, argument = self.asked.pop(0)
        assert index == argument
        answer(argument, number)


@pytest.fixture
def broker():
    broker = Harness()
    broker.core.declare_stream(SYSTEM, "s", StreamSettings(), 2, broker.clock.ms)
    append(broker, b"old")
    broker.advance(1_000)
    append(broker, b"new")
    return broker


def append(broker, body):
    """To both shards."""
    batch = Appending([body] * 2, [b""] * 2, None, [0, 2**127])
    broker.core.append(SYSTEM, "s", batch, broker.clock.ms)
    broker.settle()


@pytest.mark.parametrize(
    ("kind", "bodies"),
    [("earliest", [b"old", b"new"]), ("latest", []), ("time", [b"new"])],
)
def test_it_begins_in_all_shards_and_goes_on(broker, kind, bodies):
    reader = Reader(broker)
    reader.following.begin(Start(kind, time_ms=broker.clock.ms if kind == "time" else 0))
    broker.settle()
    append(broker, b"last")
    assert reader.got == {0: [*bodies, b"last"], 1: [*bodies, b"last"]}
    reader.following.close()
    append(broker, b"too late")
    assert reader.got[0][-1] == b"last" and not reader.errors


def test_more_comes_when_some_was_used_up(broker):
    reader = Reader(broker, credit=1)
    reader.following.begin(Start("earliest"))
    broker.settle()
    append(broker, b"last")
    assert b"last" not in reader.got[0]
    reader.following.grant(10_000)
    broker.settle()
    assert reader.got == {shard: [b"old", b"new", b"last"] for shard in (0, 1)}


def test_it_begins_when_all_places_are_found(broker, monkeypatch):
    late, reader = Late(broker, monkeypatch), Reader(broker)
    reader.following.begin(Start("time", time_ms=5))
    late.answer(2)
    broker.settle()
    assert not reader.got
    late.answer(1)
    broker.settle()
    assert reader.got == {0: [b"new"], 1: [b"old", b"new"]}


def test_who_is_gone_by_then_gets_nothing(broker, monkeypatch):
    late, reader = Late(broker, monkeypatch), Reader(broker)
    reader.following.begin(Start("time", time_ms=5))
    reader.following.close()
    late.answer(1)
    late.answer(Unavailable("too late"))
    broker.settle()
    assert not reader.got and not reader.errors


def test_what_cannot_be_found_is_told_once(broker, monkeypatch):
    late, reader = Late(broker, monkeypatch), Reader(broker)
    reader.following.begin(Start("time", time_ms=5))
    late.answer(Unavailable("the first"))
    late.answer(Unavailable("the second"))
    assert [str(error) for error in reader.errors] == ["the first"]


def test_a_stream_that_goes_meanwhile(broker, monkeypatch):
    late, reader = Late(broker, monkeypatch), Reader(broker)
    reader.following.begin(Start("time", time_ms=5))
    broker.core.delete_stream(SYSTEM, "s")
    late.answer(1)
    late.answer(1)
    assert [type(error) for error in reader.errors] == [NotFound]


def test_it_needs_the_stream_and_the_right_to_read_it(broker):
    rules = (Rule("allow", ("stream:Read",), ("other",)),)
    who = Access([User("ada", "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA", rules)]).principal("ada")
    with pytest.raises(PermissionDenied):
        Reader(broker, who=who).following.begin(Start("latest"))
    broker.core.delete_stream(SYSTEM, "s")
    with pytest.raises(NotFound):
        Reader(broker).following.begin(Start("latest"))
