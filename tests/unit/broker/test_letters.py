"""Letters of one message: as few records as may be, all of them or none."""

import pytest

from braidmq.broker import letters as module
from braidmq.broker.errors import TooLarge
from braidmq.broker.letters import Letter, post, post_in_turn
from braidmq.storage.record import encode_definition
from tests.broker_disk import DiskBroker
from tests.fanout_harness import declare_stream, records
from tests.simdisk import PowerCut


def opened(names: str) -> DiskBroker:
    broker = DiskBroker()
    for name in names:
        broker.declare(name)
    broker.settle()
    return broker


def letter(broker: DiskBroker, names: str, body: bytes = b"x", due_ms: int = 0) -> Letter:
    made = Letter(b"", body, due_ms)
    made.queues = [broker.core.queues[name] for name in names]
    return made


def sent(broker: DiskBroker, *letters: Letter, bytes_max: int = 1_000) -> int:
    """Post; how many records it took."""
    before = broker.log.statistics().records
    post(broker.log, letters, broker.clock.ms, bytes_max)
    broker.settle()
    return broker.log.statistics().records - before


def test_a_letter_is_one_record():
    broker = opened("abc")
    assert sent(broker, letter(broker, "abc")) == 1
    assert sent(broker, letter(broker, "a", b"y")) == 1
    broker = broker.restarted()
    assert [broker.bodies(name) for name in "abc"] == [[b"x", b"y"], [b"x"], [b"x"]]


def test_several_letters_are_one_frame():
    broker = opened("abc")
    later = letter(broker, "c", due_ms=broker.clock.ms + 1_000)
    frames = broker.log.statistics().frames
    assert sent(broker, letter(broker, "ab"), later) == 2
    assert broker.log.statistics().frames == frames + 1
    broker = broker.restarted()
    assert [broker.bodies(name, "ready") for name in "abc"] == [[b"x"], [b"x"], []]
    assert broker.bodies("c") == [b"x"]


def test_a_letter_with_more_queues_than_a_record_has_room_for(monkeypatch):
    monkeypatch.setattr(module, "TARGETS_MAX", 2)
    broker = opened("abcde")
    many = letter(broker, "abcde")
    many.more = [(99, 5)]
    assert sent(broker, many) == 3
    assert all(broker.restarted().bodies(name) == [b"x"] for name in "abcde")
    for name in "abcde":
        broker.drain(name)
    assert broker.log.statistics().bytes_live_estimate == 0


def test_what_is_too_large_is_not_written_at_all():
    broker = opened("ab")
    later = letter(broker, "b", bytes(600), due_ms=broker.clock.ms + 1_000)
    with pytest.raises(TooLarge, match="at most 1000"):
        sent(broker, letter(broker, "a", bytes(600)), later)
    assert broker.bodies("a") == broker.bodies("b") == []
    assert sent(broker, letter(broker, "a", bytes(5_000))) == 1  # that of a single one is its own


@pytest.mark.parametrize("call", range(12))
def test_power_may_be_cut_at_every_call_of_the_disk(call, monkeypatch):
    monkeypatch.setattr(module, "TARGETS_MAX", 2)
    broker = opened("abcd")
    broker.disk.crash_at = broker.disk.calls + call
    later = letter(broker, "d", bytes(3_000), due_ms=broker.clock.ms + 1_000)
    try:
        sent(broker, letter(broker, "abc", bytes(3_000)), later, bytes_max=100_000)
    except PowerCut:
        pass
    again = DiskBroker(broker.disk.after_kill(), clock=broker.clock)
    assert len({len(again.bodies(name)) for name in "abcd"}) == 1


def test_letters_in_turn_are_one_frame_with_what_goes_with_them():
    broker = opened("abc")
    declare_stream(broker, "s")
    (shard,) = broker.core.streams.get("s").shards.values()
    broker.settle()
    frames, count = broker.log.statistics().frames, broker.log.statistics().records
    several = [letter(broker, name, name.encode() + b"%d" % at) for at in range(3) for name in "ab"]
    for body in (b"s0", b"s1"):
        several.append(Letter(b"", body))
        several[-1].shards = [shard]
    end = encode_definition(broker.core.queues["c"].id, b"")
    post_in_turn(broker.log, several, (end,), broker.clock.ms)
    broker.settle()
    assert broker.log.statistics().records - count == 9
    assert broker.log.statistics().frames == frames + 1
    for each in (broker, broker.restarted()):
        assert each.bodies("a") == [b"a0", b"a1", b"a2"]
        assert each.bodies("b") == [b"b0", b"b1", b"b2"]
        assert records(each, "s") == {0: [b"s0", b"s1"]}
    assert "c" not in each.core.queues
