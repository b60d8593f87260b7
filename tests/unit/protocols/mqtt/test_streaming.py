"""Subscriptions to streams: what may be subscribed, where it begins, when it ends."""

import errno

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import InvalidArgument
from braidmq.broker.limits import Limits
from braidmq.broker.streamverbs import Start
from braidmq.protocols.mqtt.streamed import CHECKPOINT_RECORDS, STREAMED_BYTES_MAX
from braidmq.protocols.mqtt.streaming import STREAMS_PER_CONNECTION_MAX, parse_start, parse_stream
from braidmq.storage.errors import Corrupt, LogFailed
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V311
from tests.group_client import append, declare_stream
from tests.mqtt_peer import World

TOPIC, SHARED = "$stream/s", "$share/g/$stream/s"


def world_with(shards=1, broker=None, **settings):
    world = World(broker)
    declare_stream(world.broker, shards, **settings)
    return world


def start(text):
    return [(p.USER_PROPERTY, ("start", text))]


def bodies(peer):
    """The records that came, acknowledged as they come."""
    found = []
    while taken := peer.take():
        assert all(packet.kind == p.PUBLISH for packet in taken), taken
        found += [packet.payload for packet in taken]
        peer.feed(b"".join(p.ack(p.PUBACK, each.packet_id) for each in taken if each.qos))
    return found


def named(world, *rules):
    """A client of the user "u", who has these rules, and a way to change them."""

    def may(*rules):
        connect = Rule("allow", ("session:Connect",), ("*",))
        world.core.access.replace([User("u", "$scram-sha-256$x", (connect, *rules))])

    may(*rules)
    peer = world.dial()
    peer.connect(username="u", password="x")
    peer.login[2](world.core.access.principal("u"))
    peer.take()
    return peer, may


# --- what is written ---


@pytest.mark.parametrize(
    ("filter", "parsed"),
    [
        ("$stream/s", ("", "s")),
        ("$stream/a/b", ("", "a/b")),
        ("$stream/", ("", "")),
        ("$share/g/$stream/a/b", ("g", "a/b")),
        ("$share/$stream/s", None),
        ("$share//$stream/s", None),
        ("$share/g/x/$stream/s", None),
        ("$streams/s", None),
        ("$stream", None),
        ("stream/s", None),
        ("$queue/$stream/s", None),
    ],
)
def test_a_filter_names_a_stream_and_perhaps_a_group(filter, parsed):
    assert parse_stream(filter) == parsed


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("", Start("latest")),
        ("latest", Start("latest")),
        ("earliest", Start("earliest")),
        ("0", Start("time", time_ms=0)),
        ("1700000000123", Start("time", time_ms=1_700_000_000_123)),
        ("2023-11-14T22:13:20Z", Start("time", time_ms=1_700_000_000_000)),
        ("2023-11-14T22:13:20.5", Start("time", time_ms=1_700_000_000_500)),
        ("2023-11-14T23:13:20+01:00", Start("time", time_ms=1_700_000_000_000)),
        ("1900-01-01", Start("time", time_ms=0)),
    ],
)
def test_a_start_is_a_word_or_a_time(text, parsed):
    assert parse_start(text) == parsed


@pytest.mark.parametrize("text", ["Latest", "now", "-1", "1e3", "9" * 16, "٣", "0001-01-01+23:00"])
def test_what_is_no_start(text):
    if text.startswith("0001"):
        assert parse_start(text).time_ms == 0  # before all records, as every year that old
        return
    with pytest.raises(InvalidArgument):
        parse_start(text)


# --- where it begins ---


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
@pytest.mark.parametrize("qos", [0, 1])
def test_records_come_from_now_on(filter, qos):
    world = world_with(2)
    append(world.broker, 0, b"before")
    peer = world.join()
    assert peer.subscribe((filter, qos)) == [qos]
    append(world.broker, 0, b"a")
    append(world.broker, 1, b"b")
    assert bodies(peer) == [b"a", b"b"]


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_the_highest_quality_is_1(filter):
    world = world_with()
    assert world.join().subscribe((filter, 2)) == [1]
    assert world.join("zero", options={"maximum_qos": 0}).subscribe((filter, 2)) == [0]


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_a_client_says_where_to_begin(filter):
    world = world_with()
    for body in (b"1", b"2", b"3"):
        append(world.broker, 0, body)
        world.advance(1_000)
    begun = world.clock.ms - 3_000
    expected = {"earliest": 0, "latest": 3, str(begun + 1): 1, str(begun + 9_000): 3}
    for number, (text, first) in enumerate(expected.items()):
        peer = world.join(f"c{number}")
        filter_here = filter.replace("/g/", f"/g{number}/")
        peer.send(p.subscribe((filter_here, 1), properties=start(text)))
        assert peer.take()[0].codes == [1] if first == 3 else peer.inbox[0].codes == [1]
        peer.inbox = [packet for packet in peer.inbox if packet.kind == p.PUBLISH]
        assert bodies(peer) == [b"1", b"2", b"3"][first:], text
        peer.send(p.disconnect())


def test_a_start_that_is_none_is_refused():
    world = world_with()
    peer = world.join()
    peer.send(p.subscribe((TOPIC, 1), ("a", 1), properties=start("yesterday")))
    (answer,) = peer.take()
    assert answer.codes == [0x8F, 1]
    assert "start is" in answer.get(p.REASON_STRING)


def test_a_time_in_a_file_is_found_when_the_disk_has_answered():
    world = world_with(1, DiskBroker())
    for number in range(60):
        append(world.broker, 0, bytes([number]) * 200)
        world.advance(1_000)
    world.broker.rehome()
    assert world.core.streams.get("s").shards[0].cold
    peer = world.join()
    peer.subscribe((TOPIC, 0), properties=start(str(world.clock.ms - 58_000)))
    peer.send(p.unsubscribe(TOPIC))
    assert peer.take()[-1].codes == [0]
    peer.send(p.subscribe((TOPIC, 0), properties=start(str(world.clock.ms - 58_000))))
    assert [each.payload[0] for each in peer.take()[1:]] == list(range(2, 60))


@pytest.mark.parametrize("text", ["earliest", "latest", "0"])
def test_a_closed_shard_is_read_before_its_children(text):
    world = world_with()
    append(world.broker, 0, b"old")
    world.core.split_shard(SYSTEM, "s", 0, "", world.clock.ms)
    append(world.broker, 2, b"young")
    peer = world.join()
    peer.send(p.subscribe((TOPIC, 0), properties=start(text)))
    append(world.broker, 1, b"next")
    expected = [b"old", b"young", b"next"] if text != "latest" else [b"next"]
    assert [packet.payload for packet in peer.take()[1:]] == expected


# --- what is refused ---


def test_a_stream_that_is_not_there_is_not_told_from_a_forbidden_one():
    world = world_with()
    peer = world.join()
    filters = ["$stream/none", "$share/g/$stream/none", "$stream/", "$stream/+"]
    assert peer.subscribe(*[(filter, 1) for filter in filters]) == [0x87] * 4
    assert peer.subscribe(("$share/+/$stream/s", 1), ("$share/a b/$stream/s", 1)) == [0x8F] * 2
    old = world.join("old", V311)
    assert old.subscribe(("$stream/none", 1)) == [0x80]


def test_shared_subscriptions_can_be_switched_off():
    world = world_with()
    peer = world.join(options={"shared_available": False})
    assert peer.subscribe((SHARED, 1), (TOPIC, 1)) == [0x9E, 1]


def test_a_connection_reads_a_few_streams_at_most():
    world = world_with()
    peer = world.join()
    filters = [f"$share/g{number}/$stream/s" for number in range(STREAMS_PER_CONNECTION_MAX - 1)]
    assert peer.subscribe(*[(filter, 1) for filter in (TOPIC, *filters)]) == [1] * (
        len(filters) + 1
    )
    assert peer.subscribe((SHARED, 1), (TOPIC, 0), (filters[0], 0)) == [0x97, 0, 0]
    peer.send(p.unsubscribe(filters[0]))
    peer.take()
    assert peer.subscribe((SHARED, 1)) == [1]
    # What it can hold is what this number is for.
    assert STREAMS_PER_CONNECTION_MAX * STREAMED_BYTES_MAX <= 4 * 1024 * 1024


# --- rights ---


def test_rights_are_asked_for():
    world = world_with()
    read, join = Rule("allow", ("stream:Read",), ("s",)), Rule("allow", ("group:Join",), ("g",))
    peer, may = named(world)
    assert peer.subscribe((TOPIC, 1), (SHARED, 1)) == [0x87, 0x87]
    may(join)
    assert peer.subscribe((TOPIC, 1), (SHARED, 1)) == [0x87, 0x87]
    may(read)
    assert peer.subscribe((TOPIC, 1), (SHARED, 1)) == [1, 0x87]
    may(read, join)
    assert peer.subscribe((TOPIC, 1), (SHARED, 1)) == [1, 1]


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_who_may_not_read_any_more_is_told_and_gets_nothing(filter):
    world = world_with()
    read, join = Rule("allow", ("stream:Read",), ("s",)), Rule("allow", ("group:Join",), ("g",))
    peer, may = named(world, read, join)
    peer.subscribe((filter, 1))
    append(world.broker, 0, b"1")
    assert bodies(peer) == [b"1"]
    may(join)
    append(world.broker, 0, b"2")
    (last,) = peer.take()
    assert (last.kind, last.reason) == (p.DISCONNECT, 0x87)
    assert peer.closed


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_what_was_read_before_is_not_sent_after_the_right_is_gone(filter):
    world = world_with()
    read, join = Rule("allow", ("stream:Read",), ("s",)), Rule("allow", ("group:Join",), ("g",))
    peer, may = named(world, read, join)
    peer.subscribe((filter, 0))
    peer.session.pause_writing()
    append(world.broker, 0, b"1")
    may()
    peer.session.resume_writing()
    peer.flush()
    assert [packet.kind for packet in peer.take()] == [p.DISCONNECT]


# --- how it ends ---


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_unsubscribing_ends_it(filter):
    world = world_with()
    peer = world.join()
    assert peer.send(p.unsubscribe(filter)) and peer.take()[0].codes == [0x11]
    peer.subscribe((filter, 1), ("a", 1))
    peer.send(p.unsubscribe(filter, filter))
    assert peer.take()[0].codes == [0, 0x11]
    append(world.broker, 0, b"x")
    assert not peer.take()
    group = world.core.group_store.of(world.core.streams.get("s").id).get("g")
    assert group is None or not group.members


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_a_deleted_stream_ends_the_connection(filter):
    world = world_with()
    peer = world.join()
    peer.subscribe((filter, 1))
    world.core.delete_stream(SYSTEM, "s")
    (last,) = peer.take()
    assert (last.kind, last.reason) == (p.DISCONNECT, 0x98)


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_no_session_keeps_it(filter):
    world = world_with()
    peer = world.join("c", **DURABLE)
    assert peer.subscribe((filter, 1)) == [1]
    peer.lose()
    append(world.broker, 0, b"x")
    peer = world.join("c", **DURABLE)
    assert peer.connack.session_present
    assert not peer.take()
    assert not world.core.sessions["c"].subscriptions
    # But a group knows where it was.
    peer.send(p.subscribe((filter, 1)))
    assert len(peer.take()) == 1 + (filter == SHARED)


@pytest.mark.parametrize("filter", [TOPIC, SHARED])
def test_another_connection_takes_the_client_over(filter):
    world = world_with()
    first = world.join("c")
    first.subscribe((filter, 1))
    second = world.join("c")
    assert first.closed
    append(world.broker, 0, b"x")
    assert first.kinds()[-1] == "DISCONNECT" and not second.take()
    assert not world.core.streams.get("s").waiting


def test_subscribing_again_begins_again():
    world = world_with()
    append(world.broker, 0, b"1", b"2")
    peer = world.join()
    for qos in (1, 0):
        peer.send(p.subscribe((TOPIC, qos), properties=start("earliest")))
        peer.inbox = [packet for packet in peer.inbox if packet.kind == p.PUBLISH]
        assert [packet.qos for packet in peer.inbox] == [qos, qos]
        assert bodies(peer) == [b"1", b"2"]
    append(world.broker, 0, b"3")
    assert bodies(peer) == [b"3"]
    (reads,) = world.core.streams.get("s").waiting.values()
    assert len(reads) == 1  # the one before is not read any more


def test_a_new_group_is_kept_before_it_is_told():
    world = world_with(1, DiskBroker())
    peer = world.join()
    world.broker.auto_commit = False
    peer.feed(p.subscribe((SHARED, 1)))
    assert not peer.inbox
    world.broker.auto_commit = True
    assert peer.kinds() == ["SUBACK"]
    other = world.join("other")
    world.broker.auto_commit = False
    other.feed(p.subscribe((SHARED, 1)))
    assert [packet.kind for packet in other.inbox] == [p.SUBACK]


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_log_that_fails_ends_the_connection(when):
    world = world_with(1, DiskBroker())
    peer = world.join()
    peer.subscribe((SHARED, 1))
    append(world.broker, 0, b"x")
    (record,) = peer.take()
    disk = world.broker.disk
    if when == "after":
        peer.send(p.ack(p.PUBACK, record.packet_id))
    disk.fail_at = dict.fromkeys(range(disk.calls, 9_999), errno.EIO)
    other = world.join("other")
    other.feed(p.publish("x", b"x", qos=1, retain=True))
    world.settle()
    assert other.closed
    if when == "before":
        peer.send(p.ack(p.PUBACK, record.packet_id))
    world.advance(2_000)
    assert world.core.failed is not None
    peer.lose()


# --- what goes wrong meanwhile ---


@pytest.fixture
def seeking():
    """A client that begins at a time which is being looked for on disk, and how to answer it."""
    world = world_with(1, DiskBroker())
    for number in range(60):
        append(world.broker, 0, bytes([number]) * 200)
        world.advance(1_000)
    world.broker.rehome()
    asked = []
    world.broker.log.cold.seek = lambda *arguments: asked.append(arguments)
    peer = world.join()
    peer.subscribe((TOPIC, 0), properties=start(str(world.clock.ms - 58_500)))
    ((_, _, callback, argument),) = asked

    def answer(number, error):
        callback(argument, number, error)
        world.settle()

    return world, peer, answer


def test_a_place_that_cannot_be_found_ends_the_connection(seeking):
    _, peer, answer = seeking
    answer(None, Corrupt(1, "damaged"))
    (last,) = peer.take()
    assert (last.kind, last.reason) == (p.DISCONNECT, 0x89)


def test_a_stream_that_is_deleted_while_the_place_is_looked_for(seeking):
    world, peer, answer = seeking
    world.core.delete_stream(SYSTEM, "s")
    answer(3, None)
    (last,) = peer.take()
    assert (last.kind, last.reason) == (p.DISCONNECT, 0x98)


def test_nobody_waits_for_the_place_any_more(seeking):
    _, peer, answer = seeking
    peer.send(p.unsubscribe(TOPIC))
    answer(3, None)
    assert peer.kinds() == ["UNSUBACK"]


def test_a_shard_that_moves_while_the_place_is_looked_for():
    world = world_with(2, DiskBroker())
    for number in range(60):
        append(world.broker, number % 2, bytes([number]) * 200)
        world.advance(1_000)
    world.broker.rehome()
    asked = []
    cold = world.broker.log.cold
    seek, cold.seek = cold.seek, lambda *arguments: asked.append(arguments)
    first = world.join("first")
    first.subscribe((SHARED, 1), properties=start(str(world.clock.ms - 50_500)))
    assert len(asked) == 2
    second = world.join("second")
    second.subscribe((SHARED, 1))
    for arguments in asked:
        seek(*arguments)
    cold.seek = seek
    world.settle()
    found = [body[0] for peer in (first, second) for body in bodies(peer)]
    assert sorted(found) == list(range(10, 60))
    assert not first.closed and not second.closed


def test_more_readers_wait_than_may():
    world = World(limits=Limits(stream_reads_waiting_max=1))
    declare_stream(world.broker, 2)
    peer = world.join()
    peer.send(p.subscribe((TOPIC, 1)))
    last = peer.take()[-1]
    assert (last.kind, last.reason) == (p.DISCONNECT, 0x97)


@pytest.mark.parametrize("qos", [0, 1])
def test_a_checkpoint_that_cannot_be_written_ends_the_broker(qos):
    world = world_with()
    peer = world.join()
    peer.subscribe((SHARED, qos))

    def fail(*_):
        raise LogFailed("no more")

    world.core.groups.checkpoint = fail
    append(world.broker, 0, *[b"x"] * (CHECKPOINT_RECORDS * (1 - qos) + qos))
    for packet in [packet for packet in peer.take() if packet.qos]:
        peer.send(p.ack(p.PUBACK, packet.packet_id))
    world.advance(2_000)
    assert world.core.failed is not None
    assert peer.closed
