"""Records read as messages: from memory, from the log, from files; decoded once, and forgotten."""

import pytest

from braidmq.broker.index import LSN_MASK
from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers, unpack_headers
from braidmq.broker.streams import Appending
from braidmq.broker.viewlane import ViewLane, record_id, record_slot
from braidmq.broker.viewreader import PLACES_MAX, ViewReader
from braidmq.storage.block import Block
from braidmq.storage.errors import Corrupt
from tests.broker_disk import DiskBroker
from tests.stream_client import StreamClient


class Reading:
    """A reader of a stream's shards, each in the lane of its index."""

    def __init__(self, shards=1, **options):
        self.broker = DiskBroker(segment_bytes=2_048, **options)
        self.client = StreamClient(self.broker).declare(shards)
        self.errors = []
        self.answers = 0
        self.begin()

    def begin(self):
        shards = self.client.stream.shards
        self.lanes = {index: ViewLane(index, shard, 1) for index, shard in shards.items()}
        self.reader = ViewReader(self.broker.log, self.lanes, self.broker.core.later, self.loaded)

    def loaded(self, error):
        self.answers += 1
        if error is not None:
            self.errors.append(error)

    def restart(self):
        self.broker = self.broker.restarted()
        self.client = StreamClient(self.broker)
        self.begin()

    def read(self, number, code=0):
        """The message, however long it takes."""
        for _ in range(3):
            message = self.reader.read(record_slot(code, number))
            if message is not None or self.errors:
                return message
            assert self.reader.loading
            self.broker.settle()
            assert not self.reader.loading
        raise AssertionError("it was read, and is not there")


@pytest.fixture
def reading():
    return Reading()


def test_a_record_is_a_message(reading):
    headers = pack_headers({"a": "b"}, Limits())
    batch = Appending([b"body", b"two"], ["schlüssel".encode(), b""], [headers, headers])
    reading.client.try_append(batch)
    one, two = reading.read(1), reading.read(2)
    assert (one.body, two.body) == (b"body", b"two")
    assert unpack_headers(one.attributes) == {"a": "b", "partition-key": "schlüssel"}
    assert unpack_headers(two.attributes) == {"a": "b"}
    assert one.id == record_id(reading.client.shard().id, 1) != two.id
    assert one.time_ms == reading.broker.clock.ms and one.expire_ms == 0
    assert reading.reader.time_ms(record_slot(0, 2)) == two.time_ms
    assert reading.answers == 0, "it was in memory"


@pytest.mark.parametrize("is_cold", [True, False])
def test_the_same_comes_from_disk(is_cold):
    reading = Reading(cache_bytes_max=2_048)
    bodies = [b"%d" % n + b"." * 150 for n in range(60)]
    for body in bodies:
        reading.client.append(body)
    if is_cold:
        reading.broker.rehome()
        assert reading.client.shard().cold_end > 20
    reading.restart()
    assert reading.reader.peek(record_slot(0, 1)) is None
    assert [reading.read(n + 1).body for n in range(60)] == bodies
    assert 0 < reading.answers
    assert [reading.read(n + 1).body for n in reversed(range(60))] == bodies[::-1]
    assert not reading.errors


def test_a_block_is_decoded_once(reading, monkeypatch):
    reading.client.append(*(b"%d" % n for n in range(400)))
    taken = []
    records = Block.records

    def counted(block, skip, count):
        taken.append(skip)
        return records(block, skip, count)

    monkeypatch.setattr(Block, "records", counted)
    for number in range(1, 401):
        assert reading.read(number).body == b"%d" % (number - 1)
    assert taken == [0]


def test_little_is_decoded_of_large_records(reading):
    reading.client.append(*(b"x" * 60_000 for _ in range(4)))
    reading.read(1)
    assert sum(len(place.records) for place in reading.reader._places.values()) == 1


def test_so_many_shards_are_kept_and_no_more():
    reading = Reading(PLACES_MAX + 4)
    for index in reading.lanes:
        reading.client.append(b"%d" % index, hash_key=reading.client.shard(index).first_hash)
    for index in reading.lanes:
        assert reading.read(1, index).body == b"%d" % index
    assert len(reading.reader._places) == PLACES_MAX
    assert reading.reader.keeps
    reading.reader.forget()
    assert not reading.reader.keeps
    assert reading.read(1, 3).body == b"3"


def test_so_many_keys_are_remembered_and_no_more(reading):
    keys = [b"%d" % n for n in range(600)]
    reading.client.try_append(Appending(keys, keys))
    for n in range(600):
        assert unpack_headers(reading.read(n + 1).attributes) == {"partition-key": f"{n}"}
    assert len(reading.reader._keys) <= 256


def test_a_file_that_is_replaced_while_it_is_read_is_no_error():
    reading = Reading(cache_bytes_max=2_048)
    for n in range(60):
        reading.client.append(b"%d" % n + b"." * 150)
        if n == 30:
            reading.broker.rehome()
    assert reading.reader.read(record_slot(0, 1)) is None
    (before,) = reading.client.shard().cold
    cold = reading.broker.log.cold
    reading.client.shard().cold.clear()  # as if it were another one by now
    reading.reader._on_cold((0, before, 1), None, Corrupt(0, "gone"))
    reading.client.shard().cold.append(before)
    assert cold is not None and not reading.errors
    reading.broker.settle()


def test_what_was_lost_with_its_file_is_an_error():
    reading = Reading(cache_bytes_max=2_048)
    for n in range(60):
        reading.client.append(b"%d" % n + b"." * 150)
    reading.broker.rehome()
    reading.client.shard().cold.clear()
    assert reading.read(1) is None
    (error,) = reading.errors
    assert isinstance(error, Corrupt) and "lost" in str(error)


def test_a_damaged_file_is_an_error_of_its_records_only():
    reading = Reading(2, cache_bytes_max=2_048)
    for n in range(60):
        reading.client.append(b"%d" % n + b"." * 150, hash_key=0)
    reading.client.append(b"other", hash_key=2**128 - 1)
    reading.broker.rehome()
    disk = reading.broker.disk
    (path,) = [name for name in disk.names() if name.endswith(".seg")]
    disk.damage(path, 200)
    reading.restart()
    assert reading.read(1) is None and len(reading.errors) == 1
    reading.errors.clear()
    assert reading.read(1, 1).body == b"other"


def test_what_stands_in_the_wrong_place_is_an_error(reading, monkeypatch):
    reading.client.append(b"a")
    reading.broker.declare()
    reading.broker.send(b"message")
    shard = reading.client.shard()
    shard.lsns[0] = reading.broker.core.queues["q"].slot(1) & LSN_MASK
    found = reading.read(1)
    # A message is a record, too, if it came by a topic.
    assert found is None or found.body == b"message"
    monkeypatch.setattr(
        "braidmq.broker.viewreader.block_at",
        lambda shard, extent, index: (_ for _ in ()).throw(Corrupt(1, "of another kind")),
    )
    reading.reader.forget()
    assert reading.read(1) is None
    assert "another kind" in str(reading.errors[0])
