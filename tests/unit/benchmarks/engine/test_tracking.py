"""Tracking: what is lost, comes twice, late or changed is told from what is sound."""

from zlib import decompress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.task import Seen
from braidmq.benchmarks.engine.tracking import Sightings, Tracker, filling, is_poisoned
from braidmq.benchmarks.integrity import STAMP_BYTES, Stamper

FILLING = filling(300, 1)


def body(sequence: int, producer: int = 0, size: int = 100, due_ns: int = 0) -> bytes:
    payload = FILLING[: size - STAMP_BYTES]
    return Stamper(producer, payload).stamp(sequence, due_ns) + payload


def sequences(seen: Seen) -> list[int]:
    beyond = decompress(seen.beyond) if seen.beyond else b""
    behind = [seen.below + place for place, there in enumerate(beyond) if there]
    return [*range(seen.below), *behind]


def test_sound_messages_say_when_they_were_due() -> None:
    tracker = Tracker(sightings := Sightings())
    assert tracker.take([body(0, due_ns=5), body(1, due_ns=7, size=300)]) == [5, 7]
    assert (tracker.received, tracker.reordered, tracker.corrupt) == (2, 0, 0)
    assert (sightings.distinct, sightings.duplicate) == (2, 0)
    assert sightings.report() == {0: Seen(below=2)}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("place", [0, 5, 19, 21, 24, 60, 99])
def test_changed_byte_is_noticed(place: int, warm: bool) -> None:
    tracker = Tracker(Sightings())
    tracker.take([body(9)] if warm else [])
    changed = bytearray(body(0))
    changed[place] ^= 4
    assert tracker.take([bytes(changed)]) == []
    assert tracker.corrupt == 1
    assert tracker.take([body(1)]) == [0]
    assert tracker.corrupt == 1


@pytest.mark.parametrize("wrong", [b"", b"short", bytes(STAMP_BYTES), body(0)[:-1], body(0) + b"x"])
def test_body_that_nobody_sent(wrong: bytes) -> None:
    tracker = Tracker(Sightings())
    tracker.take([body(3)])
    assert tracker.take([wrong]) == []
    assert tracker.corrupt == 1


def test_other_payload_of_the_same_length_is_summed_up() -> None:
    tracker = Tracker(Sightings())
    other = bytes(76)
    strange = Stamper(4, other).stamp(0, 8) + other
    assert tracker.take([body(0, due_ns=1), strange, strange[:24] + FILLING[:76]]) == [1, 8]
    assert tracker.corrupt == 1


def test_duplicate_is_one_whoever_of_the_set_gets_it() -> None:
    sightings = Sightings()
    one, two = Tracker(sightings), Tracker(sightings)
    one.take([body(0), body(1)])
    assert two.take([body(1), body(2)]) == [0]
    assert (sightings.distinct, sightings.duplicate) == (3, 1)
    assert one.reordered + two.reordered == 0


def test_order_is_of_each_consumer() -> None:
    sightings = Sightings()
    one, two = Tracker(sightings), Tracker(sightings)
    one.take([body(1), body(3)])
    two.take([body(0), body(2)])
    assert one.reordered + two.reordered == 0
    one.take([body(7), body(6)])
    assert one.reordered == 1
    one.take([body(0, producer=1)])
    assert one.reordered == 1


def test_order_is_of_each_key() -> None:
    keys = ("a", "b")
    tracker = Tracker(Sightings(), keys)
    tracker.take([body(1), body(0)])  # of two keys
    assert tracker.reordered == 0
    tracker.take([body(4), body(2)])  # of one
    assert tracker.reordered == 1


@given(st.lists(st.integers(0, 300)))
def test_all_that_came_is_reported(came: list[int]) -> None:
    tracker = Tracker(sightings := Sightings())
    for sequence in came:
        tracker.take([body(sequence)])
    assert sightings.distinct == len(set(came))
    assert sightings.duplicate == len(came) - len(set(came))
    report = sightings.report()
    assert sequences(report.get(0, Seen())) == sorted(set(came))


def test_nothing_missing_is_one_number() -> None:
    tracker = Tracker(sightings := Sightings())
    tracker.take([body(sequence) for sequence in (2, 0, 1, 4, 3)])
    assert sightings.report() == {0: Seen(below=5)}


def test_poison_is_spread_evenly() -> None:
    poisoned = [sequence for sequence in range(1000) if is_poisoned(body(sequence), 10)]
    assert len(poisoned) == 100
    assert len([each for each in poisoned if each < 100]) == 10
    assert not any(is_poisoned(body(sequence), 0) for sequence in range(100))
    assert all(is_poisoned(body(sequence), 100) for sequence in range(100))
