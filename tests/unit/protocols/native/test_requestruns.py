"""SENDs behind one another: taken together, they do what they would do one by one."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers
from braidmq.broker.streamrecord import chunk_records
from braidmq.protocols.native import frames
from braidmq.protocols.native import operations as op
from braidmq.protocols.native.requestruns import RunShape
from tests.unit.protocols.native.test_session import O, Peer

HEADERS = pack_headers({"kind": "text"}, Limits())


def frame(*fields):
    data = bytearray()
    frames.append_frame(data, fields)
    return bytes(data)


def send(request, body, *more, queue="q"):
    return frame(O["SEND"], request, queue, [[body, *more]])


def append(request, body, *more, queue="q"):
    return frame(O["APPEND"], request, queue, [body], *([each] for each in more))


def shape_of(data):
    shape = RunShape.of(data)
    assert shape is not None
    return shape


@pytest.mark.parametrize("request_number", [200, 300, 70_000, 2**32 - 1])
@pytest.mark.parametrize("queue", ["q", "q" * 31, "q" * 32, "q" * 255, "ü" * 200])
@pytest.mark.parametrize("size", [0, 1, 255, 256, 65_536])
@pytest.mark.parametrize(
    ("make", "more"),
    [
        (send, ()),
        (send, (HEADERS, -1, 5, 4, "group")),
        (append, ()),
        (append, (b"key", HEADERS, "17")),
    ],
)
def test_what_differs_is_found(request_number, queue, size, make, more):
    first = make(request_number, b"a" * size, *more, queue=queue)
    second = make(request_number - 1, b"b" * size, *more, queue=queue)
    shape = shape_of(first)
    assert shape.bytes == len(first)
    data = b"before" + second + first + second[:-1]
    for given_as in (data, bytearray(data)):
        numbers, bodies = shape.cut(given_as, 6, 10)
        assert numbers == [request_number - 1, request_number]
        assert bodies == [b"b" * size, b"a" * size]
        assert all(type(body) is bytes for body in bodies)
    assert shape.cut(data, 6, 1) == ([request_number - 1], [b"b" * size])


@pytest.mark.parametrize(
    "other",
    [
        frame(O["SEND"], 127, "q", [[b"a"]]),
        frame(O["SEND"], 300, "q", []),
        frame(O["SEND"], 300, "q", [[b"a"], [b"b"]]),
        frame(O["APPEND"], 300, "q", []),
        frame(O["APPEND"], 300, "q", [b"a", b"b"]),
        frame(O["PURGE"], 300, "q"),
        frame(O["SEND"], 300, "q" * 70_000, [[b"a"]]),
    ],
    ids=["small request", "empty", "two", "no record", "two records", "other", "long name"],
)
def test_what_makes_no_runs(other):
    assert RunShape.of(other) is None


@pytest.mark.parametrize(
    "other",
    [
        send(301, b"xyz", queue="p"),
        send(301, b"four"),
        send(301, b"xyz", HEADERS),
        send(70_000, b"x"),
        frame(O["PING"], 301),
    ],
)
def test_what_ends_a_run(other):
    shape = shape_of(send(300, b"abc"))
    assert shape.cut(send(302, b"abc") + other, 0, 10) == ([302], [b"abc"])


def test_request_0_is_left_to_whoever_says_what_is_wrong():
    data = send(300, b"abc").replace((300).to_bytes(2), bytes(2))
    assert shape_of(send(300, b"abc")).cut(data, 0, 10) == ([], [])


def test_what_they_share_is_compared_as_a_whole():
    first = send(300, b"abc", HEADERS)
    shape = shape_of(first)
    for at in set(range(len(first))) - {7, 8, *range(len(first) - len(HEADERS) - 5, len(first))}:
        changed = bytearray(first)
        changed[at] ^= 1
        assert not shape.cut(changed, 0, 10)[0], at
    changed = first[:-1] + bytes([first[-1] ^ 1])
    assert not shape.cut(changed, 0, 10)[0]


# Queues that take runs, and those that look at each message.
QUEUES: dict[str, dict[str, Any]] = {
    "standard": {},
    "memory": {"durability": 0},
    "fifo": {"fifo": True},
    "small": {"messages_max": 5, "overflow": "reject"},
    "delayed": {"delay_ms": 1000},
}
BODIES = st.sampled_from([b"", b"one", b"two", b"six", b"three", b"x" * 70_000])
EXTRAS = st.sampled_from([(), (HEADERS,), (b"", -1, 500), (b"", -1, 0, 9), (b"", -1, 0, 10)])


# Streams, with the number of their shards, and what comes with a body: keys, headers, hash keys.
STREAMS: dict[str, tuple[dict[str, Any], int]] = {
    "one": ({}, 1),
    "four": ({}, 4),
    "slow": ({"shard_records_in_per_second": 5}, 1),
    "narrow": ({"shard_bytes_in_per_second": 10}, 1),
    "small": ({"record_bytes_max": 4}, 1),
}
COLUMNS = st.sampled_from(
    [(b"key",), (b"key", HEADERS), (b"key", b"", "17"), (b"key", b"", "x"), (b"\xff",), ()]
)


@st.composite
def conversations(draw, make, names, extras):
    """Requests, mostly runs; and where the bytes are cut."""
    out, request = [], draw(st.sampled_from([1, 120, 250, 65_530]))
    for _ in range(draw(st.integers(1, 5))):
        name = draw(st.sampled_from(names))
        extra = draw(extras)
        if make is append and name == "four" and not extra:
            continue  # any shard will do for each of them, or for all
        for body in draw(st.lists(BODIES, min_size=1, max_size=12).map(sorted)):
            out.append(make(request, body, *extra, queue=name))
            request += 1
        if draw(st.booleans()):
            out.append(frame(O["PING"], request))
            request += 1
    cuts = draw(st.lists(st.integers(0, sum(map(len, out))), max_size=3).map(sorted))
    return out, cuts


def outcome(pieces):
    """All that is answered, and what the queues and the streams hold."""
    peer = Peer(batch_messages_max=1_000)
    for name, settings in QUEUES.items():
        peer.declare(name, **settings)
    for name, (settings, shards) in STREAMS.items():
        (declared,) = peer.ask(O["DECLARE_STREAM"], 902, name, settings, shards)
        assert not isinstance(declared, op.ErrorReply), declared
    for piece in pieces:
        peer.session.receive_data(piece, peer.harness.clock.ms)
        while peer.session.backlog:
            peer.session.proceed(peer.harness.clock.ms)
    answers = sorted(peer.read(), key=lambda reply: reply.request)
    held: dict[Any, Any] = {}
    for name in QUEUES:
        (found,) = peer.ask(O["BROWSE"], 2**31, name, 0, 1_000, "", "all")
        held[name] = [(m.seq, m.id, m.attributes, m.body) for m in found.messages]
    for name, (_, shards) in STREAMS.items():
        for shard in range(shards):
            (found,) = peer.ask(O["READ"], 2**31, name, shard, 1, 1_000, 2**20)
            records = chunk_records(found.chunk, shard)
            held[name, shard] = [(r.number, r.key, r.headers, r.body) for r in records]
    return answers, held


def test_what_only_begins_alike_is_no_run():
    requests = [send(300, b"abc", queue="fifo")]
    requests += [send(301 + n, b"abc", queue="fife") for n in range(3)]
    assert outcome([b"".join(requests)]) == outcome(requests)


@given(
    conversations(send, [*QUEUES, "fife"], EXTRAS)
    | conversations(append, [*STREAMS, "two"], COLUMNS)
)
def test_together_is_the_same_as_one_by_one(conversation):
    requests, cuts = conversation
    data = b"".join(requests)
    edges = [0, *cuts, len(data)]
    together = outcome([data[a:b] for a, b in pairwise(edges)])
    assert together == outcome(requests)


def test_a_run_counts_as_many_requests_and_frames_as_it_has(monkeypatch):
    peer = Peer(requests_in_flight_max=100)
    peer.declare()
    core, together = peer.harness.core, []
    send_run = core.send_run

    def counted(who, name, like, bodies, now_ms):
        together.append(len(bodies))
        return send_run(who, name, like, bodies, now_ms)

    monkeypatch.setattr(core, "send_run", counted)
    count = 3 * 256
    peer.feed(b"".join(send(1_000 + n, b"abc") for n in range(count)))
    assert peer.session.backlog and not peer.session.reading
    assert peer.session.answering
    replies = peer.read()
    assert [reply.request for reply in replies] == [1_000 + n for n in range(count)]
    assert all(isinstance(reply, op.SentReply) for reply in replies)
    assert len({reply.results[0].id for reply in replies}) == count
    assert together == [255, 255, 255]
    assert peer.session.reading and not peer.session.answering


def test_appends_that_are_taken_together_are_no_more_than_a_batch_may_hold(monkeypatch):
    peer = Peer(batch_messages_max=100)
    peer.ask(O["DECLARE_STREAM"], 902, "s", {}, 1)
    core, together = peer.harness.core, []
    append_batch = core.append

    def counted(who, name, batch, now_ms):
        together.append(len(batch.bodies))
        return append_batch(who, name, batch, now_ms)

    monkeypatch.setattr(core, "append", counted)
    count = 300
    peer.feed(b"".join(append(1_000 + n, b"abc", b"key", queue="s") for n in range(count)))
    replies = peer.read()
    assert [(reply.request, reply.numbers) for reply in replies] == [
        (1_000 + n, [1 + n]) for n in range(count)
    ]
    assert together == [1, 100, 100, 55, 1, 43]


def test_what_seems_to_be_a_run_and_is_none_is_not_looked_at_each_time(monkeypatch):
    looked = []
    of = RunShape.of

    def counted(data):
        looked.append(data)
        return of(data)

    monkeypatch.setattr(RunShape, "of", counted)
    peer = Peer()
    peer.declare(fifo=True)
    count = 200
    groups = [f"g{number % 10}" for number in range(count)]
    peer.feed(b"".join(send(300 + n, b"abc", b"", -1, 0, 4, groups[n]) for n in range(count)))
    assert len(peer.read()) == count
    assert 0 < len(looked) <= count // 32 + 1
