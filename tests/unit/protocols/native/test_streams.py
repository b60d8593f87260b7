"""The server's side of streams and groups: frames in, blocks out, credit, and ends."""

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.limits import Limits
from braidmq.broker.streamrecord import chunk_records
from braidmq.broker.streams import Appending
from braidmq.protocols.native import frames, streams
from braidmq.protocols.native import operations as op
from braidmq.protocols.native import stream_operations as stream_op
from tests.broker_harness import Harness
from tests.unit.protocols.native.test_session import SECRET, O, Peer


@pytest.fixture
def peer():
    return declared()


def declared(shards=1, settings=None, **limits):
    peer = Peer(**limits)
    (reply,) = peer.ask(O["DECLARE_STREAM"], 1, "s", settings or {}, shards)
    assert isinstance(reply, stream_op.StreamsReply)
    return peer


def append(peer, *bodies, hash_key=0):
    """Records from elsewhere."""
    batch = Appending(list(bodies), [b""] * len(bodies), None, [hash_key] * len(bodies))
    peer.harness.core.append(SYSTEM, "s", batch, peer.harness.clock.ms)


def bodies(reply):
    return [record.body for record in chunk_records(reply.chunk, reply.shard)]


# --- appending ---


def test_an_append_answers_with_columns(peer):
    (reply,) = peer.ask(O["APPEND"], 2, "s", [b"1", b"2"])
    assert reply == stream_op.AppendedReply(2, [0, 0], [1, 2], [])
    (reply,) = peer.ask(O["APPEND"], 3, "s", [b"3"], [b"key"], [b"\x81\xa1a\xa1b"], ["7"])
    assert (reply.shards, reply.numbers) == ([0], [3])
    (record,) = chunk_records(peer.ask(O["READ"], 4, "s", 0, 3)[0].chunk, 0)
    assert (record.key, record.headers) == ("key", {"a": "b"})


def test_an_append_is_answered_when_it_is_kept(peer):
    peer.write((O["APPEND"], 2, "s", [b"1"]))
    assert not peer.session.data_to_send(0)
    assert len(peer.read()) == 1


def test_hash_keys_say_where_records_go():
    peer = declared(shards=4)
    hash_keys = ["0", str(2**128 - 1), "", str(2**127)]
    (reply,) = peer.ask(O["APPEND"], 2, "s", [b"x"] * 4, [b"user"] * 4, [], hash_keys)
    assert (reply.shards[0], reply.shards[1], reply.shards[3]) == (0, 3, 2)
    assert peer.ask(O["APPEND"], 3, "s", [b"y"], [b"user"])[0].shards == [reply.shards[2]]


def test_records_are_refused_one_by_one():
    peer = declared(settings={"record_bytes_max": 2})
    (reply,) = peer.ask(O["APPEND"], 2, "s", [b"1", b"123", b"2"])
    assert (reply.shards, reply.numbers) == ([0, 0, 0], [1, 0, 2])
    assert [(error.index, error.code) for error in reply.errors] == [(1, "too-large")]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("none", [b"x"]), "not-found"),
        (("s", []), "limit-exceeded"),
        (("s", [b"x"] * 6), "limit-exceeded"),
        (("s", [b"x"], [b"a", b"b"]), "invalid-argument"),
        (("s", [b"x"], [], [b"\xc1"]), "invalid-argument"),
        (("s", [b"x"], [], [], ["1", "2"]), "invalid-argument"),
        (("s", [b"x"], [], [], ["-1"]), "invalid-argument"),
        (("s", [b"x"], [], [], ["٣"]), "invalid-argument"),
        (("s", [b"x"], [], [], ["9" * 40]), "invalid-argument"),
        (("s", ["text"]), "invalid-argument"),
        (("s", [b"x"], [], [], [7]), "invalid-argument"),
        (("s", b"x"), "invalid-argument"),
    ],
    ids=str,
)
def test_an_append_that_makes_no_sense_is_refused(fields, code):
    peer = declared(batch_messages_max=5)
    assert peer.error(O["APPEND"], 2, *fields) == (2, code)
    assert peer.ask(O["STREAM_INFO"], 3, "s")[0].streams[0].records == 0


def is_header_map(packed: bytes, count_max: int, bytes_max: int) -> bool:
    """What an independent implementation thinks of packed headers."""
    try:
        headers = msgpack.unpackb(packed, strict_map_key=True)
    except (ValueError, msgpack.UnpackException):
        return False
    return (
        isinstance(headers, dict)
        and all(isinstance(name, str) and name for name in headers)
        and all(isinstance(value, str | bytes) for value in headers.values())
        and len(headers) <= count_max
        and len(packed) <= bytes_max
    )


VALUES = st.one_of(st.text(max_size=8), st.binary(max_size=8), st.integers(0, 300), st.none())
MAPS = st.dictionaries(
    st.one_of(st.text(max_size=4), st.binary(max_size=2), st.integers(0, 9)), VALUES
)
PACKED = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.one_of(MAPS, st.lists(VALUES, max_size=3), VALUES).map(msgpack.packb),
    st.tuples(MAPS.map(msgpack.packb), st.binary(max_size=3)).map(b"".join),
    st.tuples(MAPS.map(msgpack.packb), st.integers(0, 30)).map(lambda cut: cut[0][: cut[1]]),
).filter(bool)


@given(PACKED)
@example(msgpack.packb({"a": "b", "c": b"d"}))
@example(msgpack.packb({"a": "b"}) + b"\x00")
@example(msgpack.packb({"a": {"b": "c"}}))
@example(b"\x81\xa1\xff\xa1a")  # a name that is no UTF-8
@example(b"\xdf\xff\xff\xff\xff")  # a map of 2**32 - 1 entries, none of which is there
@example(b"\x91" * 10_000)
def test_packed_headers_are_a_header_map_or_nothing_is_kept(packed):
    peer = declared(headers_count_max=5)
    peer.declare("q")
    peer.declare("bound")
    peer.ask(O["BIND"], 2, "t", ("queue", "bound"))
    requests = {
        "q": (O["SEND"], 3, "q", [[b"sound"], [b"x", packed]]),
        "bound": (O["PUBLISH"], 4, "t", [[b"sound"], [b"x", packed]]),
        "s": (O["APPEND"], 5, "s", [b"sound", b"x"], [], [b"", packed]),
    }
    is_sound = is_header_map(packed, 5, Limits().headers_bytes_max)
    for name, request in requests.items():
        (reply,) = peer.ask(*request)
        if name == "s":
            kept = peer.harness.core.stream_info(SYSTEM, "s").records
        else:
            kept = peer.harness.info(name).messages
        if is_sound:
            assert not isinstance(reply, op.ErrorReply) and kept == 2
        else:
            assert reply.code in ("invalid-argument", "too-large") and not kept


def test_an_append_may_be_large_and_other_requests_may_not(peer):
    filler = bytes(frames.FRAME_BYTES_SMALL_MAX)
    assert peer.ask(O["APPEND"], 2, "s", [filler])[0].numbers == [1]
    peer.write((O["READ"], 3, "s", 0, 1, 1, 1, 1, filler))
    assert peer.fatal() == "too-large"


def test_an_appender_is_slowed_down_while_too_much_waits():
    peer = declared(pending_bytes_max=4_000)
    peer.write((O["APPEND"], 2, "s", [bytes(3_000)]))
    assert not peer.session.reading
    peer.read()
    assert peer.session.reading


def test_what_a_stream_is_like_is_told_when_it_is_kept(peer):
    """Else a program would know of shards that a crash takes back."""
    peer.harness.core.split_shard(SYSTEM, "s", 0, "", peer.harness.clock.ms)
    peer.write((O["STREAM_INFO"], 2, "s"))
    assert not peer.session.data_to_send(0)
    (reply,) = peer.read()
    assert len(reply.streams[0].shards) == 3


# --- reading ---


def test_a_read_brings_blocks_as_they_stand(peer):
    peer.ask(O["APPEND"], 2, "s", [b"1", b"2", b"3"])
    (reply,) = peer.ask(O["READ"], 3, "s", 0, 2)
    assert (reply.last, reply.shard, bodies(reply)) == (True, 0, [b"2", b"3"])
    assert (reply.chunk.skip, reply.chunk.count, reply.chunk.next) == (1, 2, 4)
    (reply,) = peer.ask(O["READ"], 4, "s", 0, 4)
    assert reply.chunk == stream_op.WireChunk([], 0, 0, 4, 0)


def test_a_read_waits_and_can_be_cancelled(peer):
    assert peer.ask(O["READ"], 3, "s", 0, 1, 10, 1_000, 5_000) == []
    assert peer.ask(O["READ"], 4, "s", 0, 1, 10, 1_000, 60_000) == []
    assert peer.error(O["READ"], 4, "s", 0, 1) == (4, "conflict")
    assert peer.ask(O["CANCEL"], 5, 4) == [op.DoneReply(5)]
    append(peer, b"x")
    assert [(reply.request, bodies(reply)) for reply in peer.read()] == [(3, [b"x"])]
    peer.ask(O["READ"], 6, "s", 0, 2, 10, 1_000, 5_000)
    peer.harness.advance(5_000)
    assert [(reply.request, bodies(reply)) for reply in peer.read()] == [(6, [])]


def test_a_read_while_the_client_does_not_read_is_answered_empty(peer):
    append(peer, b"x")
    peer.harness.settle()
    peer.write((O["READ"], 3, "s", 0, 1))
    peer.session.pause_writing()
    (reply,) = peer.read()
    assert (reply.chunk.count, reply.chunk.next) == (0, 1)


def test_a_read_fits_into_a_frame():
    peer = declared(frame_bytes_max=300_000)
    for _ in range(10):
        append(peer, bytes(100_000))
    (reply,) = peer.ask(O["READ"], 3, "s", 0, 1, 100, 8 * 1024 * 1024)
    assert reply.chunk.count == 2


def test_starts_are_found(peer):
    append(peer, b"1", b"2")
    for start, number in (
        (["earliest", 0, 0], 1),
        (["latest", 0, 0], 3),
        (["after", 1, 0], 2),
        (["time", 0, 2**42], 3),
    ):
        (reply,) = peer.ask(O["FIND_NUMBER"], 3, "s", 0, start)
        assert reply == stream_op.NumberReply(3, number)
    for wrong in (["at", 9, 0], ["never", 0, 0], ["at", -1, 0], "at"):
        assert peer.error(O["FIND_NUMBER"], 3, "s", 0, wrong) == (3, "invalid-argument")
    assert peer.session._unanswered == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("none", 0, 1), "not-found"),
        (("s", 7, 1), "not-found"),
        (("s", 0, 2), "invalid-argument"),
        (("s", 0, 1, 0), "invalid-argument"),
        (("s", 0, 1, 10_001), "invalid-argument"),
        (("s", 0, 1, 1, 0), "invalid-argument"),
        (("s", 0, 1, 1, 2**31), "invalid-argument"),
        (("s", 0, 1, 1, 1, 60_001), "invalid-argument"),
        (("s", 0, -1), "invalid-argument"),
        (("s", -1, 1), "invalid-argument"),
        (("s", 0, 2**63), "invalid-argument"),
    ],
    ids=str,
)
def test_a_read_that_makes_no_sense_is_refused(peer, fields, code):
    assert peer.error(O["READ"], 2, *fields) == (2, code)
    assert not peer.session._open


def test_reads_and_tails_are_as_many_as_may_be():
    peer = declared(requests_in_flight_max=2)
    peer.ask(O["READ"], 2, "s", 0, 1, 1, 1, 1_000)
    peer.ask(O["TAIL"], 3, "s", [[0, 1]], 0)
    for fields in ((O["READ"], 4, "s", 0, 1), (O["TAIL"], 4, "s", [[0, 1]], 0)):
        assert peer.error(*fields) == (4, "limit-exceeded")


# --- tails ---


def test_a_tail_brings_what_is_there_and_what_comes(peer):
    append(peer, b"1", b"2")
    done, first = peer.ask(O["TAIL"], 3, "s", [[0, 2]], 10_000)
    assert done == op.DoneReply(3)
    assert (first.request, first.last, bodies(first)) == (3, False, [b"2"])
    append(peer, b"3")
    assert [bodies(reply) for reply in peer.read()] == [[b"3"]]
    assert peer.ask(O["CANCEL"], 4, 3) == [op.DoneReply(4)]
    append(peer, b"4")
    assert peer.read() == []


def test_a_tail_keeps_to_its_credit(peer):
    append(peer, bytes(1_000))
    assert peer.ask(O["TAIL"], 3, "s", [[0, 1]], 0) == [op.DoneReply(3)]
    assert [reply.chunk.count for reply in peer.ask(O["CREDIT"], 3, 1)] == [1]
    append(peer, bytes(1_000))
    assert peer.read() == []
    assert peer.ask(O["CREDIT"], 3, 500) == []
    assert [reply.chunk.count for reply in peer.ask(O["CREDIT"], 3, 5_000)] == [1]
    assert peer.ask(O["CREDIT"], 99, 1) == []


def test_the_core_never_knows_of_more_than_a_window(peer):
    for _ in range(80):
        append(peer, bytes(100_000))
    peer.harness.settle()
    peer.write((O["TAIL"], 3, "s", [[0, 1]], 2**32 - 1))
    peer.session.data_to_send(0)
    peer.harness.settle()
    assert len(peer.session._out) < streams.TAIL_BYTES + 200_000
    peer.session.pause_writing()
    sent = sum(
        reply.chunk.count for reply in peer.read() if isinstance(reply, stream_op.ChunkReply)
    )
    assert sent < 30
    peer.session.resume_writing()
    assert sum(reply.chunk.count for reply in peer.read()) == 80 - sent


def test_a_tail_follows_children_and_ends(peer):
    append(peer, b"1")
    peer.ask(O["SPLIT_SHARD"], 2, "s", 0)
    append(peer, b"2")
    _, *replies = peer.ask(O["TAIL"], 3, "s", [[0, 0]], 10_000, True, True)
    assert [reply.last for reply in replies] == [False, False, True]
    assert sorted((reply.shard, bodies(reply), reply.chunk.ended) for reply in replies) == [
        (0, [b"1"], True),
        (1, [b"2"], False),
        (2, [], False),
    ]
    assert replies[0].chunk.children == [1, 2] and not peer.session._open


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("none", [[0, 0]], 1), "not-found"),
        (("s", [[9, 0]], 1), "not-found"),
        (("s", [], 1), "invalid-argument"),
        (("s", [[0, 5]], 1), "invalid-argument"),
        (("s", [[0]], 1), "invalid-argument"),
        (("s", [[0, -1]], 1), "invalid-argument"),
        (("s", [[0, 0]], -1), "invalid-argument"),
        (("s", 7, 1), "invalid-argument"),
    ],
    ids=str,
)
def test_a_tail_that_makes_no_sense_is_refused(peer, fields, code):
    assert peer.error(O["TAIL"], 2, *fields) == (2, code)
    assert not peer.session._open


def test_a_tail_ends_with_its_stream(peer):
    peer.ask(O["TAIL"], 3, "s", [[0, 0]], 10)
    replies = peer.ask(O["DELETE_STREAM"], 4, "s")
    errors = {reply.request: reply.code for reply in replies if isinstance(reply, op.ErrorReply)}
    assert errors == {3: "not-found"} and not peer.session._open


def test_what_goes_on_ends_with_the_connection(peer):
    core = peer.harness.core
    peer.ask(O["READ"], 2, "s", 0, 1, 1, 1, 60_000)
    peer.ask(O["TAIL"], 3, "s", [[0, 0]], 10)
    peer.ask(O["JOIN_GROUP"], 4, "s", "g", ["earliest", 0, 0])
    assert core.group_info(SYSTEM, "s", "g", 0).members_count == 1
    assert core.streams.get("s").waiting
    peer.session.connection_lost(0)
    peer.harness.settle()
    assert core.group_info(SYSTEM, "s", "g", 0).members_count == 0
    assert not core.streams.get("s").waiting
    append(peer, b"x")
    peer.harness.settle()


# --- managing ---


def test_streams_are_managed(peer):
    (reply,) = peer.ask(O["UPDATE_STREAM"], 2, "s", {"retention_ms": 5})
    assert reply.streams[0].settings.retention_ms == 5
    assert peer.ask(O["RESCALE_STREAM"], 3, "s", 3)[0].streams[0].open_shards == 3
    assert peer.ask(O["MERGE_SHARDS"], 4, "s", 1, 2)[0].streams[0].open_shards == 2
    (reply,) = peer.ask(O["SPLIT_SHARD"], 5, "s", 3, str(2**128 - 9))
    assert reply.streams[0].shards[-1].first_hash == str(2**128 - 9)
    peer.ask(O["DECLARE_STREAM"], 6, "t", {})
    (reply,) = peer.ask(O["LIST_STREAMS"], 7)
    assert [(info.name, info.shards) for info in reply.streams] == [("s", []), ("t", [])]
    assert peer.ask(O["DELETE_STREAM"], 8, "t") == [op.DoneReply(8)]
    assert peer.error(O["STREAM_INFO"], 9, "t") == (9, "not-found")
    assert peer.error(O["DECLARE_STREAM"], 10, "u", {"unknown": 1}) == (10, "invalid-argument")
    assert peer.error(O["DECLARE_STREAM"], 11, "s", {}) == (11, "conflict")
    assert peer.error(O["SPLIT_SHARD"], 12, "s", 0) == (12, "conflict")


def test_every_request_passes_the_gate():
    harness = Harness()
    declared_there = Peer(harness)
    declared_there.ask(O["DECLARE_STREAM"], 1, "s", {})
    peer = Peer(
        harness, hello=False, users=[User("ada", SECRET, (Rule("allow", ("queue:Send",), ("x",)),))]
    )
    peer.write((O["HELLO"], 1, 1, 1, "test", 0, "ada", b"password"))
    peer.host.login[2](harness.core.access.principal("ada"))
    peer.read()
    start = ["earliest", 0, 0]
    requests: dict[str, tuple] = {
        "DECLARE_STREAM": ("n", {}),
        "UPDATE_STREAM": ("s", {}),
        "DELETE_STREAM": ("s",),
        "STREAM_INFO": ("s",),
        "APPEND": ("s", [b"x"]),
        "FIND_NUMBER": ("s", 0, start),
        "READ": ("s", 0, 1),
        "TAIL": ("s", [[0, 0]], 1),
        "SPLIT_SHARD": ("s", 0),
        "MERGE_SHARDS": ("s", 0, 1),
        "RESCALE_STREAM": ("s", 2),
        "JOIN_GROUP": ("s", "g", start),
        "GROUP_INFO": ("s", "g"),
        "RESET_GROUP": ("s", "g", start),
        "DELETE_GROUP": ("s", "g"),
    }
    for name, fields in requests.items():
        assert peer.error(O[name], 2, *fields) == (2, "permission-denied"), name
    assert peer.ask(O["LIST_STREAMS"], 3)[0].streams == []
    assert peer.session._unanswered == 0 and not peer.session._open


# --- groups ---


def events(replies):
    return [each.event for each in replies if isinstance(each, stream_op.GroupEventReply)]


def join(peer, request=4, *fields):
    replies = peer.ask(O["JOIN_GROUP"], request, "s", "g", ["earliest", 0, 0], *fields)
    assert sum(isinstance(each, stream_op.JoinedReply) for each in replies) == 1
    return events(replies)


def test_a_member_gets_records_and_sets_checkpoints(peer):
    append(peer, b"1", b"2")
    assigned, records = join(peer)
    assert (assigned.kind, assigned.shard, assigned.number) == ("assigned", 0, 1)
    epoch = assigned.epoch
    assert (records.kind, records.number, records.chunk.count) == ("records", 1, 2)
    append(peer, b"3")
    assert peer.read() == [], "it did not ask for more"
    (records,) = events(peer.ask(O["MORE"], 4, 0, epoch))
    assert (records.number, records.chunk.next) == (3, 4)
    assert peer.ask(O["CHECKPOINT"], 5, 4, 0, epoch, 4) == [op.DoneReply(5)]
    assert peer.error(O["CHECKPOINT"], 6, 4, 0, epoch + 1, 4) == (6, "lease-lost")
    assert peer.error(O["CHECKPOINT"], 6, 4, 0, epoch, 9) == (6, "invalid-argument")
    assert peer.error(O["CHECKPOINT"], 6, 99, 0, epoch, 4) == (6, "lease-lost")
    (info,) = peer.ask(O["GROUP_INFO"], 7, "s", "g")[0].groups
    assert (info.lag, info.shards[0].number, info.members_count) == (0, 4, 1)
    lost, again = events(peer.ask(O["RELEASE"], 4, 0, epoch))
    assert (lost.kind, again.kind, again.number) == ("lost", "assigned", 4)
    assert peer.ask(O["CANCEL"], 8, 4) == [op.DoneReply(8)]
    assert peer.ask(O["MORE"], 4, 0, epoch) == peer.ask(O["RELEASE"], 4, 0, epoch) == []
    assert [g.name for g in peer.ask(O["LIST_GROUPS"], 9, "s")[0].groups] == ["g"]
    assert peer.ask(O["DELETE_GROUP"], 10, "s", "g") == [op.DoneReply(10)]


def test_a_reset_is_answered_when_it_is_kept(peer):
    append(peer, b"1", b"2")
    assigned, _ = join(peer)
    peer.ask(O["CHECKPOINT"], 5, 4, 0, assigned.epoch, 3)
    assert peer.error(O["RESET_GROUP"], 6, "s", "g", ["earliest", 0, 0]) == (6, "conflict")
    replies = peer.ask(O["RESET_GROUP"], 7, "s", "g", ["at", 2, 0], 0, True)
    (reply,) = [each for each in replies if isinstance(each, stream_op.GroupsReply)]
    assert reply.groups[0].shards[0].number == 2
    kinds = [(event.kind, event.number) for event in events(replies)]
    assert kinds == [("lost", 0), ("assigned", 2), ("records", 2)]
    assert peer.error(O["RESET_GROUP"], 8, "s", "g", ["at", 1, 0]) == (8, "invalid-argument")
    assert peer.error(O["RESET_GROUP"], 9, "s", "none", ["latest", 0, 0]) == (9, "not-found")
    assert peer.session._unanswered == 0


def test_two_members_share_the_shards():
    peer = declared(shards=2)
    first = Peer(peer.harness)
    join(first)
    second = Peer(peer.harness)
    (assigned,) = join(second)
    assert [(each.kind, each.shard) for each in events(first.read())] == [("lost", assigned.shard)]
    second.session.connection_lost(0)
    (back,) = events(first.read())
    assert (back.kind, back.shard) == ("assigned", assigned.shard)


def test_a_group_starts_as_its_first_member_says(peer):
    append(peer, b"1")
    replies = peer.ask(O["JOIN_GROUP"], 4, "s", "late", ["latest", 0, 0])
    assert [event.number for event in events(replies)] == [2]
    (info,) = peer.ask(O["GROUP_INFO"], 5, "s", "late")[0].groups
    assert info.start.kind == "latest"
    for start in (["at", 1, 0], ["soon", 0, 0]):
        code = peer.error(O["JOIN_GROUP"], 6, "s", "g", start)
        assert code == (6, "invalid-argument")


def test_a_member_is_told_that_its_stream_is_gone(peer):
    join(peer)
    replies = peer.ask(O["DELETE_STREAM"], 5, "s")
    errors = {reply.request: reply.code for reply in replies if isinstance(reply, op.ErrorReply)}
    assert errors == {4: "not-found"} and not peer.session._open


def test_tails_bring_no_more_than_can_be_sent():
    peer = declared(outbound_bytes_max=300_000)
    for _ in range(10):
        append(peer, bytes(100_000))
    peer.harness.settle()
    peer.write(*((O["TAIL"], request, "s", [[0, 1]], 2**31) for request in range(3, 23)))
    peer.session.data_to_send(0)
    peer.harness.settle()
    assert 300_000 < len(peer.session._out) < 300_000 + 1_200_000
    counts: dict[int, int] = {}
    for reply in peer.read():
        counts[reply.request] = counts.get(reply.request, 0) + reply.chunk.count
    assert counts == dict.fromkeys(range(3, 23), 10)


def test_members_of_a_connection_take_as_much_as_may_be(peer, monkeypatch):
    monkeypatch.setattr(streams, "MEMBER_BYTES_MAX", 3_000)
    join(peer, 4, 10, 2_000)
    start = ["earliest", 0, 0]
    error = peer.error(O["JOIN_GROUP"], 5, "s", "g", start, 10, 1_001)
    assert error == (5, "limit-exceeded")
    peer.ask(O["CANCEL"], 6, 4)
    join(peer, 5, 10, 3_000)
