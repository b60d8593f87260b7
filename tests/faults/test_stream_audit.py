"""The audit of streams, groups and fan-out: it notices each broken promise, and nothing else."""

import json

import msgpack
import pytest

from braidmq.storage.block import encode_block

from .fanout_audit import FAN_FIFO, FAN_QUEUES, FAN_STREAM, Publication
from .journal import body_of
from .stream_audit import Entry, StreamJournal
from .stream_load import rereadable
from .stream_wire import Chunk, Damaged, Record, chunk_of

_END = (1 << 128) - 1


def shard(index, first=1, following=1, *, closed=False, parents=(), low=0, high=_END):
    return {
        "index": index,
        "first_hash": str(low),
        "last_hash": str(high),
        "parents": list(parents),
        "closed": closed,
        "first": first,
        "next": following,
        "files": 0,
    }


class Story:
    """Tells a journal what happened, a step a call."""

    def __init__(self, stream: str = "clicks") -> None:
        self.stream = stream
        self.journal = StreamJournal()
        self.journal.run = 1
        self.book = self.journal.declared(stream, 1_000)
        self.journal.told(stream, [shard(0)])
        self.entries: dict[int, Entry] = {}

    def send(self, number: int, at: int = 0, index: int = 0, key: bytes = b"k") -> Entry:
        """Append a record; ``at``: where it is, as it was answered."""
        entry = self.entries[number] = Entry(self.stream, "p", number, key)
        self.journal.invoke(entry)
        if at:
            self.journal.ok(entry, index, at)
        else:
            self.journal.unknown(entry)
        return entry

    def record(self, number: int, at: int, time_ms: int = 0, **but: object) -> Record:
        entry = self.entries.get(number) or Entry(self.stream, "p", number, b"k")
        record = Record(at, time_ms or at, entry.key, entry.headers, body_of("p", number, 10))
        return record._replace(**but)  # type: ignore[arg-type]

    def read(self, *records: Record, index: int = 0, number: int = 0) -> None:
        self.journal.read(self.stream, index, number or records[0].number, records)

    def restart(self, following: int, first: int = 1, power_cut: bool = False) -> None:
        """The broker came back: what it has of shard 0 was told, and not read yet."""
        if power_cut:
            self.journal.power_cut_runs.add(self.journal.run)
        self.journal.run += 1
        self.journal.declared(self.stream, 1_000)
        self.journal.told(self.stream, [shard(0, first, following)])
        self.journal.ends_at(self.stream, 0, following)

    def found(self) -> set[str]:
        return set(self.journal.found())


def two_records() -> Story:
    story = Story()
    story.send(1, 1)
    story.send(2, 2)
    return story


def test_a_clean_history_is_clean():
    story = two_records()
    story.send(3)
    story.read(story.record(1, 1), story.record(2, 2))
    story.restart(4)
    story.read(story.record(1, 1), story.record(2, 2), story.record(3, 3))
    story.journal.settled(story.stream)
    assert not story.found()
    assert story.journal.counts["recovered"] == 1
    assert story.journal.counts["compared"] == 2


def test_lost_at_the_end_and_lost_in_the_middle():
    story = two_records()
    story.restart(2)
    assert story.found() == {"lost"}
    story = two_records()
    story.restart(3)
    story.read(story.record(1, 1))
    story.journal.settled(story.stream)
    assert story.found() == {"lost"}


def test_what_was_read_vanished():
    story = Story()
    story.send(1)
    story.read(story.record(1, 1))
    story.restart(1)
    assert story.found() == {"vanished"}


@pytest.mark.parametrize("power_cut", [False, True])
def test_only_the_end_of_what_was_only_written_may_be_lost_and_by_a_power_cut(power_cut):
    story = Story("relaxed")
    story.send(1, 1)
    story.restart(1, power_cut=power_cut)
    assert story.found() == (set() if power_cut else {"lost"})
    story.journal.settled(story.stream)
    story.send(2, 1)
    story.restart(1)
    assert story.found() == {"lost"}, "the cut was before"


def test_other_bytes_or_another_time_than_before():
    for but in ({"body": b"x"}, {"time_ms": 9}, {"key": b"other"}, {"headers": b"\x80"}):
        story = two_records()
        story.read(story.record(1, 1))
        story.read(story.record(1, 1, **but))
        assert story.found() == {"changed"}


def test_what_nobody_sent_or_was_refused():
    story = Story()
    story.read(story.record(7, 1))
    story.journal.fail(story.send(8))
    story.read(story.record(8, 2))
    assert story.found() == {"phantom"} and story.journal.counts["phantom"] == 2


def test_what_was_not_there_after_a_start_must_not_come_later():
    story = Story()
    story.send(1)
    story.restart(1)
    story.journal.settled(story.stream)
    story.read(story.record(1, 1))
    assert story.found() == {"phantom"}


def test_damaged_bodies_keys_and_headers():
    for but in ({"body": b"p|1|00000000|x"}, {"key": b"other"}, {"headers": b"\x80"}):
        story = Story()
        story.send(1, 1)
        story.read(story.record(1, 1, **but))  # type: ignore[arg-type]
        assert "corrupt" in story.found()


def test_twice_at_another_place_and_in_the_place_of_another():
    story = two_records()
    story.read(story.record(1, 1), story.record(2, 2), story.record(1, 3))
    assert story.found() == {"duplicates"}
    story = Story()
    story.send(1)
    story.read(story.record(1, 1))
    story.journal.ok(story.entries[1], 0, 2)
    assert story.found() == {"moved"}
    story = two_records()
    story.send(3, 2)
    assert story.found() == {"reused"}
    story = two_records()
    story.send(3)
    story.read(story.record(3, 2))
    assert story.found() == {"reused"}


def test_gaps_and_times_that_fall():
    story = two_records()
    story.read(story.record(1, 1), story.record(2, 3))
    assert "gap" in story.found()
    story = two_records()
    story.read(story.record(1, 1, 10), story.record(2, 2, 9))
    assert story.found() == {"misordered"}


def test_the_order_of_a_key_also_over_shards():
    story = Story()
    story.send(1, 2)
    story.send(2, 1)
    story.journal.settled(story.stream)
    assert "misordered" in story.found()


def test_records_that_were_let_go():
    story = two_records()
    story.read(story.record(2, 2), number=1)
    assert story.found() == {"trimmed"}
    story = Story("trimmed")
    story.send(1, 1)
    story.send(2, 2)
    story.read(story.record(2, 2), number=1)
    story.restart(3, first=2)
    story.journal.settled(story.stream)
    assert not story.found() and story.journal.counts["let go"] == 1
    story.restart(3, first=1)
    assert story.found() == {"resurrected"}


def test_shards_tile_stay_and_do_not_change():
    halves = [shard(1, parents=[0], high=9), shard(2, parents=[0], low=10)]
    closed = shard(0, following=5, closed=True)

    def told(*shards):
        story = two_records()
        story.journal.told("clicks", [closed, *halves])
        assert not story.found()
        story.journal.told("clicks", list(shards))
        return story.found()

    assert told(closed, *halves) == set()
    assert told(*halves) == {"forgotten"}
    assert told(closed, shard(1, parents=[0], high=8), halves[1]) == {"changed", "misplaced"}
    assert told(shard(0, following=6, closed=True), *halves) == {"changed"}
    assert "changed" in told(shard(0, following=5), *halves)


def test_an_os_stream_may_lose_a_shard_that_nobody_read():
    for stream, power_cut, is_read, kinds in (
        ("relaxed", True, False, set()),
        ("relaxed", True, True, {"forgotten"}),
        ("relaxed", False, False, {"forgotten"}),
        ("clicks", True, False, {"forgotten"}),
    ):
        story = Story(stream)
        story.send(1, 1)
        story.send(2, 2, index=1)
        if is_read:
            story.read(story.record(2, 2), index=1)
        story.restart(2, power_cut=power_cut)
        assert story.found() == kinds, (stream, power_cut, is_read)
        assert story.journal.counts["lost (os, power cut)"] == (not kinds)


def test_a_shard_that_was_said_to_have_ended_has_ended():
    story = two_records()
    story.journal.ended("clicks", 0, 3)
    story.restart(3)
    assert story.found() == {"changed"}


def test_a_child_is_not_read_again_before_it_is_known_where_it_begins():
    story = two_records()
    story.read(story.record(1, 1))
    story.send(3, 3, index=1)
    story.read(story.record(3, 3), index=1)
    assert [each.index for each in rereadable(story.book)] == [0]
    halves = [shard(1, 3, 4, parents=[0], high=9), shard(2, 3, 3, parents=[0], low=10)]
    story.journal.told("clicks", [shard(0, following=3, closed=True), *halves])
    assert [each.index for each in rereadable(story.book)] == [0, 1]
    assert not story.found()


def test_a_key_in_the_wrong_shard():
    story = Story()
    story.journal.told("clicks", [shard(0, high=9), shard(1, low=10)])
    story.send(1, 1)
    story.read(story.record(1, 1))
    assert "misplaced" in story.found()


def test_a_deleted_stream_stays_deleted():
    story = two_records()
    story.book.deleting = True
    story.journal.declared("clicks", 1_000)
    assert not story.found(), "nobody knows whether it was deleted"
    story.book.deleting = True
    story.journal.deleted("clicks")
    story.journal.declared("clicks", 1_000)
    assert story.found() == {"resurrected"}
    story = two_records()
    story.journal.declared("clicks", 2_000)
    assert story.found() == {"lost"}


# --- groups ---


def test_a_group_goes_on_at_its_checkpoint():
    story = Story()
    group = story.journal.group("clicks", "g")
    group.assigned(0, 1, 1)
    group.given(0, 1, 1, 4)
    group.asks(0, 3)
    group.kept(0, 1, 3, 1)
    group.asks(0, 5)  # never answered
    for number, kinds in ((2, {"repeated"}), (3, set()), (4, set()), (5, set()), (6, {"skipped"})):
        again = Story()
        other = again.journal.group("clicks", "g")
        other.shards = {0: group.shard(0)}
        again.journal.run = 2
        other.assigned(0, 2 + number, number)
        assert again.found() == kinds, number
    group.given(0, 5, 6, 1)
    assert story.found() == {"skipped"}


def test_epochs_rise_and_fence():
    story = Story()
    group = story.journal.group("clicks", "g")
    group.assigned(0, 5, 1)
    group.assigned(0, 6, 1)
    assert not story.found()
    group.refused(0, 5, "lease-lost", over=True)
    assert not story.found()
    group.kept(0, 5, 1, epoch_then=6)
    assert story.found() == {"fenced"}
    story.journal.counts.clear()
    group.assigned(0, 6, 1)
    assert story.found() == {"fenced"}
    story.journal.counts.clear()
    story.journal.run = 2
    group.assigned(0, 4, 1)
    assert story.found() == {"fenced"}
    group.refused(0, 6, "lease-lost", over=False)
    assert "stolen" in story.found()


def test_children_come_when_the_group_is_done_with_their_parents():
    story = two_records()
    halves = [shard(1, 3, 3, parents=[0], high=9), shard(2, 3, 3, parents=[0], low=10)]
    story.journal.told("clicks", [shard(0, following=3, closed=True), *halves])
    group = story.journal.group("clicks", "g")
    group.asks(0, 3)
    group.assigned(1, 1, 3)
    assert not story.found()
    group.shards[0].asked = 2
    group.assigned(2, 2, 3)
    assert story.found() == {"misordered"}


# --- fan-out ---


class FanStory:
    """One publication that all want: kind a, few bytes."""

    def __init__(self, outcome: str = "ok") -> None:
        self.journal = StreamJournal()
        self.journal.run = 1
        self.journal.declared(FAN_STREAM, 1)
        self.journal.told(FAN_STREAM, [shard(0)])
        self.fan = self.journal.fan
        self.ids = 0
        self.publication = self.publish(1, outcome)

    def publish(self, number: int, outcome: str = "ok", dedup: str = "") -> Publication:
        publication = Publication(number, "a", 8, "g", dedup or f"id-{number}")
        self.fan.invoke(publication)
        getattr(self.fan, outcome)(publication)
        return publication

    def deliver(self, queue: str, number: int = 1, sequence: int = 1, **but: object) -> None:
        self.ids += 1
        message = {"id": self.ids, "body": Publication(number, "a", 8, "g", "").body} | but
        self.fan.in_queue(queue, [sequence, 0, 1, message["id"], 0, b"", message["body"]])
        self.fan.ack_invoke(queue, [number])
        self.fan.ack_ok(queue, [number])

    def in_stream(self, number: int = 1, at: int = 1, key: bytes = b"g") -> None:
        body = Publication(number, "a", 8, "g", "").body
        self.journal.read(FAN_STREAM, 0, at, [Record(at, 1, key, b"", body)])

    def found(self) -> set[str]:
        self.fan.settled()
        return set(self.journal.found())


def everywhere(story: FanStory, number: int = 1, sequence: int = 1) -> None:
    for queue in (*FAN_QUEUES, FAN_FIFO):
        story.deliver(queue, number, sequence)
    story.in_stream(number, at=number)


@pytest.mark.parametrize("outcome", ["ok", "unknown"])
def test_a_publication_is_everywhere(outcome):
    story = FanStory(outcome)
    everywhere(story)
    assert not story.found()


@pytest.mark.parametrize("missing", [FAN_QUEUES[3], FAN_FIFO, FAN_STREAM])
@pytest.mark.parametrize(("outcome", "kind"), [("ok", "lost"), ("unknown", "torn")])
def test_or_it_is_missing_somewhere(outcome, kind, missing):
    story = FanStory(outcome)
    for queue in (*FAN_QUEUES, FAN_FIFO):
        if queue != missing:
            story.deliver(queue)
    if missing != FAN_STREAM:
        story.in_stream()
    assert story.found() == {kind}


def test_one_that_nobody_knows_of_may_be_nowhere_and_one_that_was_refused_is():
    assert not FanStory("unknown").found()
    assert FanStory("ok").found() == {"lost"}
    assert not FanStory("fail").found()
    story = FanStory("fail")
    story.deliver(FAN_QUEUES[0])
    assert story.found() == {"phantom"}


def test_conditions_are_kept():
    story = FanStory()
    story.publication.kind = "c"
    story.deliver(FAN_QUEUES[1], body=story.publication.body)
    assert "misplaced" in story.found()


def test_twice_again_and_not_whole():
    story = FanStory()
    everywhere(story)
    story.deliver(FAN_QUEUES[0])
    assert story.found() == {"duplicates", "resurrected"}
    story.deliver(FAN_QUEUES[1])
    assert story.journal.counts["resurrected"] == 2, "also when all was settled"
    story.deliver(FAN_QUEUES[0], body=json.dumps({"proof": "x"}).encode())
    assert "corrupt" in story.found()


def test_a_fifo_queue_has_the_first_of_each_id_in_order():
    story = FanStory()
    everywhere(story)
    story.publish(2, dedup="id-1")
    for queue in FAN_QUEUES:
        story.deliver(queue, 2)
    story.in_stream(2, at=2)
    assert not story.found()
    story.publish(3, dedup="id-1")
    everywhere(story, 3, sequence=2)
    assert story.found() == {"lost"}
    story = FanStory()
    story.publish(2)
    everywhere(story, 1, sequence=2)
    everywhere(story, 2, sequence=1)
    assert story.found() == {"misordered"}


# --- the client ---


def test_the_client_reads_blocks():
    header = msgpack.packb({"a": "b"})
    first = encode_block(7, 5, 100, [b"k", b""], [b"", header], [b"one", b"two"], [0, 3])
    second = encode_block(7, 7, 110, [b""], None, [b"three"])
    chunk = chunk_of([[first, second], 1, 2, 8, 0, True, [1, 2]])
    records = [Record(6, 103, b"", header, b"two"), Record(7, 110, b"", b"", b"three")]
    assert chunk == Chunk(records, 8, True, [1, 2])
    for at in range(len(first)):
        broken = first[:at] + bytes([first[at] ^ 1]) + first[at + 1 :]
        with pytest.raises(Damaged):
            chunk_of([[broken, second], 1, 2, 8, 0, False, []])
    with pytest.raises(Damaged):
        chunk_of([[first, second], 1, 2, 9, 0, False, []])
    with pytest.raises(Damaged):
        chunk_of([[first], 1, 2, 8, 0, False, []])
