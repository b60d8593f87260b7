"""A run of messages for a queue: what is taken in one go, and that it is the same as one by one."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import NotFound
from braidmq.broker.limits import Limits
from braidmq.broker.message import Outgoing, Sent, pack_headers
from braidmq.broker.sendrun import RUN_MESSAGES_MIN, Taken
from braidmq.storage.log import RUN_BYTES_MAX, Durability
from braidmq.storage.runs import encode_message_run
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness

BODIES = [b"one", b"two", b"six", b"ten", b"day", b"end"]
HEADERS = pack_headers({"x": "y"}, Limits())


@pytest.fixture
def broker() -> Harness:
    return Harness()


def send(broker: Harness, bodies=BODIES, name="q", **fields) -> list[Taken]:
    like = Outgoing(b"", **fields)
    level, taken = broker.core.send_run(SYSTEM, name, like, bodies, broker.clock.ms)
    assert level is Durability.SYNC
    return taken


def test_a_run_is_what_its_messages_are(broker):
    broker.declare("q")
    broker.declare("r")
    [taken] = send(broker, attributes=HEADERS, priority=7, ttl_ms=500)
    broker.send(*BODIES, name="r", attributes=HEADERS, priority=7, ttl_ms=500)
    broker.settle()
    for count in (2, 2, 2):
        found, expected = broker.receive(count, name="q"), broker.receive(count, name="r")
        assert [(m.body, m.attributes, m.expire_ms, m.seq) for m in found] == [
            (m.body, m.attributes, m.expire_ms, m.seq) for m in expected
        ]
        places = [taken.seq + n for n in range(6)], [taken.id + n * taken.step for n in range(6)]
        assert {(m.seq, m.id) for m in found} <= set(zip(*places, strict=True))
        assert len({m.id for m in found}) == count
        broker.ack(*found, name="q")
    info = broker.info("q")
    assert (info.sent, info.acknowledged, info.bytes) == (6, 6, 0)


@pytest.mark.parametrize("seed", [None, 1, 2])
def test_a_run_that_was_kept_is_there_after_a_restart(seed):
    broker = DiskBroker()
    broker.declare("q")
    send(broker)
    broker.settle()
    again = broker.restarted(random.Random(seed) if seed else None)
    assert again.bodies("q") == BODIES


def test_a_run_expires(broker):
    broker.declare("q", ttl_ms=100)
    send(broker)
    broker.settle()
    broker.advance(200)
    assert broker.bodies("q") == [] and broker.info("q").expired == 6


def test_a_long_run_is_several_in_the_log(broker):
    broker.declare("q")
    body = bytes(50_000)
    count = 2 * RUN_BYTES_MAX // len(body)
    assert [part.count for part in send(broker, [body] * count)] == [5, 5]
    broker.settle()
    assert broker.info("q").ready == count


@pytest.mark.parametrize(
    "settings",
    [
        {"fifo": True},
        {"messages_max": 100},
        {"bytes_max": 10_000},
        {"delay_ms": 5},
    ],
)
def test_where_each_message_has_to_be_looked_at_there_are_no_runs(broker, settings):
    broker.declare("q", **settings)
    assert not send(broker)
    assert broker.info("q").sent == 0


@pytest.mark.parametrize(
    ("bodies", "fields"),
    [
        (BODIES[: RUN_MESSAGES_MIN - 1], {}),
        ([*BODIES, b"seven"], {}),
        (BODIES, {"delay_ms": 5}),
        (BODIES, {"group": "g"}),
        (BODIES, {"priority": 10}),
        ([bytes(RUN_BYTES_MAX // 2)] * 3, {}),
    ],
)
def test_what_is_no_run_goes_one_by_one(broker, bodies, fields):
    broker.declare("q")
    assert not send(broker, bodies, **fields)
    assert broker.info("q").sent == 0


def test_bodies_too_large_are_no_run():
    broker = Harness(limits=Limits(body_bytes_max=3))
    broker.declare("q")
    assert send(broker)
    assert not send(broker, [b"four"] * 6)


def test_there_has_to_be_a_queue(broker):
    with pytest.raises(NotFound):
        send(broker)


def test_a_batch_of_messages_that_are_alike_is_a_run(broker, monkeypatch):
    encoded = []

    def counted(targets, time_ms, attributes, bodies, expire_ms):
        encoded.append(bodies)
        return encode_message_run(targets, time_ms, attributes, bodies, expire_ms)

    monkeypatch.setattr("braidmq.broker.sendrun.encode_message_run", counted)
    broker.declare("q")
    broker.send(*BODIES, attributes=HEADERS)
    assert encoded == [BODIES]


FIELDS = st.sampled_from(
    [
        {},
        {"attributes": HEADERS},
        {"ttl_ms": 500},
        {"priority": 9},
        {"delay_ms": 0},
        {"delay_ms": 100},
        {"group": "g"},
    ]
)
MESSAGES = st.tuples(st.sampled_from([b"one", b"two", b"three"]), FIELDS)
ALIKE = st.builds(lambda message, count: [message] * count, MESSAGES, st.integers(3, 8))


@given(st.lists(st.lists(MESSAGES, max_size=6) | ALIKE))
def test_a_batch_is_what_its_messages_are_one_by_one(batches):
    broker = Harness()
    for name in ("q", "r"):
        broker.declare(name)
    for batch in batches:
        messages = [Outgoing(body, **fields) for body, fields in batch]
        now_ms = broker.clock.ms
        _, together = broker.core.send(SYSTEM, "q", messages, now_ms)
        alone = [broker.core.send(SYSTEM, "r", [message], now_ms)[1][0] for message in messages]
        assert [outcome(each) for each in together] == [outcome(each) for each in alone]
    broker.settle()
    assert broker.bodies("q") == broker.bodies("r")
    q, r = broker.info("q"), broker.info("r")
    assert (q.sent, q.bytes, q.delayed, q.ready) == (r.sent, r.bytes, r.delayed, r.ready)


def outcome(result):
    return result.seq if isinstance(result, Sent) else str(result)
