"""The driver of JetStream: what it says and understands, and a server where there is one."""

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.drivers.driver import Refused, Wiring
from braidmq.benchmarks.drivers.jetstream import (
    ATOMIC_MIN,
    BATCH_MAX,
    JetStreamConsumer,
    JetStreamDriver,
    JetStreamProducer,
    request,
)
from braidmq.benchmarks.systems.nats import NatsSystem
from tests.bench_clients import (
    AWKWARD,
    carry,
    check_queues,
    check_redelivery,
    check_stream,
    connected,
    cuts,
    feed,
    said,
    take,
)

DRIVER = JetStreamDriver()
QUEUE = Wiring(url="jetstream://127.0.0.1:1", names=("q.1",), prefetch=8)
PULL = b"PUB $JS.API.CONSUMER.MSG.NEXT.q-1.workers "


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def inbox_of(client):
    """The subject that answers go to, without what the client appends."""
    return said(client).split(b"SUB ")[1].split(b" ")[0].removesuffix(b".>").removesuffix(b".0")


def answer(subject, payload=b'{"stream":"q-1","seq":1}'):
    return b"MSG %b 1 %d\r\n%b\r\n" % (subject, len(payload), payload)


@given(cuts(), st.permutations(range(4)))
def test_every_publish_has_its_answer(cuts, order):
    with socket.socket() as sock:
        producer = JetStreamProducer(sock, QUEUE, is_atomic=False)
        inbox = inbox_of(producer)
        producer.publish([b"x", AWKWARD])
        producer.publish([b"y", b""])
        assert said(producer) == b"".join(
            b"PUB q.1 %b.%d %d\r\n%b\r\n" % (inbox, number, len(body), body)
            for number, body in enumerate([b"x", AWKWARD, b"y", b""])
        )
        feed(producer, b"".join(answer(b"%b.%d" % (inbox, number)) for number in order), cuts)
        assert producer.confirmed == order
        assert not producer.bodies


def test_a_batch_is_one_answer(pair):
    producer = JetStreamProducer(pair, QUEUE, is_atomic=True)
    inbox = inbox_of(producer)
    producer.publish([b"few"] * (ATOMIC_MIN - 1))
    assert said(producer).count(b"PUB q.1 " + inbox) == ATOMIC_MIN - 1
    producer.publish([b"x", *[b"y"] * (ATOMIC_MIN - 2), b"z"])
    text = said(producer)
    assert text.count(b"HPUB q.1 ") == ATOMIC_MIN and text.count(inbox + b".") == 1
    assert text.count(b"Nats-Batch-Commit: 1\r\n\r\nz") == 1
    found = [text.count(b"Nats-Batch-Sequence: %d\r\n" % n) for n in range(ATOMIC_MIN + 2)]
    assert found == [0, *[1] * ATOMIC_MIN, 0]
    first, last = ATOMIC_MIN - 1, 2 * ATOMIC_MIN - 1
    feed(producer, answer(b"%b.%d.%d" % (inbox, first, ATOMIC_MIN)) + answer(b"%b.0" % inbox))
    assert producer.confirmed == [*range(first, last), 0]
    producer.publish([b"x"] * (2 * BATCH_MAX + 1))
    text = said(producer)
    assert text.count(b"Nats-Batch-Commit") == 3, "no batch is larger than the server allows"
    assert b"%b.%d.%d " % (inbox, last, BATCH_MAX) in text


ERROR = b'{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}'


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (answer(b"%b.1", ERROR), "maximum messages exceeded"),
        (b"HMSG %b.1 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "503"),
    ],
)
def test_an_error_is_told_in_its_words_behind_what_was_confirmed(pair, refusal, words):
    producer = JetStreamProducer(pair, QUEUE, is_atomic=False)
    inbox = inbox_of(producer)
    with pytest.raises(Refused, match=words):
        feed(producer, answer(b"%b.0" % inbox) + refusal % inbox + answer(b"%b.2" % inbox))
    assert producer.confirmed == [0]


def delivered(inbox, body, number, sid=0):
    reply = b"$JS.ACK.q-1.workers.1.%d.%d.17.0" % (number, number)
    return reply, b"MSG %b.%d %d %b %d\r\n%b\r\n" % (inbox, sid, sid, reply, len(body), body)


@given(cuts())
def test_it_asks_for_more_when_half_is_dealt_with(cuts):
    with socket.socket() as sock:
        consumer = JetStreamConsumer(sock, QUEUE)
        first = bytes(consumer.out)
        assert first.count(PULL) == 1 and first.endswith(b' 11\r\n{"batch":8}\r\n')
        inbox = inbox_of(consumer)
        replies, texts = zip(*(delivered(inbox, AWKWARD, n) for n in range(8)), strict=True)
        feed(consumer, b"".join(texts), cuts)
        assert take(consumer) == ([AWKWARD] * 8, list(replies))
        assert not consumer.out
        consumer.acknowledge(replies[:3])
        assert said(consumer) == b"".join(b"PUB %b 0\r\n\r\n" % reply for reply in replies[:3])
        consumer.reject(replies[3:4])
        text = said(consumer)
        assert text.startswith(b"PUB %b 4\r\n-NAK\r\n" % replies[3])
        assert PULL in text and b'{"batch":4}' in text


def test_names_share_the_prefetch(pair):
    wiring = Wiring(url=QUEUE.url, names=("a", "b"), prefetch=8)
    consumer = JetStreamConsumer(pair, wiring)
    assert said(consumer).count(b'{"batch":4}') == 2
    replies, texts = zip(*(delivered(b"x", b"body", n, sid=1) for n in range(4)), strict=True)
    feed(consumer, b"".join(texts))
    assert take(consumer) == ([b"body"] * 4, list(replies))
    consumer.acknowledge(replies)
    text = said(consumer)
    assert b"NEXT.b.workers " in text and b"NEXT.a.workers " not in text


@pytest.fixture(scope="module", params=[True, False], ids=["durable", "memory"])
def server(request, tmp_path_factory):
    system = NatsSystem()
    if reason := system.why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        directory = str(tmp_path_factory.mktemp("nats"))
        running = system.start(stack, directory, request.param)
        yield running.urls["jetstream"], request.param


def wired(server, *names, **more):
    url, durable = server
    return Wiring(url=url, names=names, client_id="c1", durable=durable, **more)


def messages_in(wiring, name):
    stream = name.replace(".", "-")
    return request(wiring, [(f"STREAM.INFO.{stream}", {})])[0]["state"]["messages"]


def test_a_queue_from_end_to_end(server):
    wiring = wired(server, "work.0", "work.1", prefetch=100)
    check_queues(DRIVER, wiring, lambda name: messages_in(wiring, name))


def test_a_queue_is_shared_and_rejected_messages_come_again(server):
    wiring = wired(server, "shared", prefetch=20)
    check_redelivery(DRIVER, wiring)
    carry([], lambda: messages_in(wiring, "shared") == 0)


def test_a_stream_is_pushed_to_all_and_shared_by_a_group(server):
    wiring = wired(server, "log", kind="stream", group="g", prefetch=64)
    check_stream(DRIVER, wiring)
    assert messages_in(wiring, "log") == 1_000
    DRIVER.declare(wiring)
    assert messages_in(wiring, "log") == 0


def test_what_is_not_there_is_refused(server):
    missing = wired(server, "nowhere")
    with connected(DRIVER.producer(missing)) as (producer,):
        producer.publish([b"x"])
        with pytest.raises(Refused, match="503"):
            carry([producer], lambda: bool(producer.confirmed))
    with pytest.raises(Refused, match="not found"):
        DRIVER.consumer(missing)
    with pytest.raises(Refused, match="stream not found"):
        DRIVER.consumer(wired(server, "nowhere", kind="stream"))
    with pytest.raises(Refused):
        DRIVER.declare(wired(server, "a..b"))
