"""The driver of Redis Streams: what it says and understands, and a server where there is one."""

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.drivers.connection import ask
from braidmq.benchmarks.drivers.driver import Refused, Wiring
from braidmq.benchmarks.drivers.redis import (
    RedisConsumer,
    RedisDriver,
    RedisProducer,
    command,
)
from braidmq.benchmarks.systems.redis import RedisSystem
from tests.bench_clients import (
    AWKWARD,
    bodies_for,
    carry,
    check_queues,
    check_redelivery,
    check_stream,
    connected,
    cuts,
    feed,
    publish_all,
    receive,
    said,
    take,
)

DRIVER = RedisDriver()
QUEUE = Wiring(url="redis://127.0.0.1:1", kind="queue", names=("q",), prefetch=8)
STREAM = Wiring(url="redis://127.0.0.1:1", kind="stream", names=("a", "b"), prefetch=8)


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def entries(*pairs):
    parts = [
        b"*2\r\n$%d\r\n%b\r\n*2\r\n$1\r\nb\r\n$%d\r\n%b\r\n"
        % (len(number), number, len(body), body)
        for number, body in pairs
    ]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def answer(**streams):
    parts = [
        b"*2\r\n$%d\r\n%b\r\n%b" % (len(name), name.encode(), entries(*pairs))
        for name, pairs in streams.items()
    ]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def test_a_command():
    assert command(b"XLEN", b"s") == b"*2\r\n$4\r\nXLEN\r\n$1\r\ns\r\n"


def test_a_batch_is_written_at_once(pair):
    producer = RedisProducer(pair, STREAM)
    producer.publish([b"x", AWKWARD], to=1)
    first = command(b"XADD", b"b", b"*", b"b", b"x")
    assert said(producer) == first + command(b"XADD", b"b", b"*", b"b", AWKWARD)
    assert producer.confirms


@given(cuts())
def test_confirmations_are_counted_however_they_come(cuts):
    with socket.socket() as sock:
        producer = RedisProducer(sock, STREAM)
        feed(producer, b"$15\r\n1700000000000-0\r\n$16\r\n1700000000000-10\r\n" * 5, cuts)
        assert producer.confirmed == list(range(10))


@pytest.mark.parametrize("error", [b"-OOM no memory", b"-NOAUTH Authentication required."])
def test_an_error_is_told_in_its_words(pair, error):
    for client in (RedisProducer(pair, QUEUE), RedisConsumer(pair, QUEUE, [b"0-0"])):
        with pytest.raises(Refused, match=error[1:].decode()):
            client.feed(error + b"\r\n")
    with pytest.raises(Refused, match=error[1:].decode()):
        DRIVER.is_greeted(error + b"\r\n")


@given(cuts())
def test_what_was_confirmed_before_an_error_counts(cuts):
    with socket.socket() as sock:
        producer = RedisProducer(sock, QUEUE)
        answers = b"$3\r\n1-0\r\n$3\r\n1-1\r\n-OOM no memory\r\n$3\r\n1-2\r\n"
        with pytest.raises(Refused, match=r"^OOM no memory$"):
            feed(producer, answers, cuts)
        assert producer.confirmed == [0, 1]


@given(cuts(), st.binary(max_size=200))
def test_a_reader_goes_on_behind_what_it_read(cuts, body):
    with socket.socket() as sock:
        reader = RedisConsumer(sock, STREAM, [b"5-1", b"0-0"])
        streams = (b"BLOCK", b"0", b"STREAMS", b"a", b"b")
        assert said(reader) == command(b"XREAD", b"COUNT", b"4", *streams, b"5-1", b"0-0")
        data = answer(a=[(b"6-0", body), (b"6-1", AWKWARD)], b=[(b"7-2", b"")])
        feed(reader, data, cuts)
        assert take(reader)[0] == [body, AWKWARD, b""]
        assert said(reader) == command(b"XREAD", b"COUNT", b"4", *streams, b"6-1", b"7-2")
        reader.acknowledge([(b"a", b"6-0")])
        assert not reader.out


def read_group(count, *more):
    who = (b"XREADGROUP", b"GROUP", b"workers", b"consumer", b"COUNT", b"%d" % count)
    return command(*who, *more, b"STREAMS", b"q", b">")


@given(cuts())
def test_a_queue_waits_only_when_nothing_is_unacknowledged(cuts):
    with socket.socket() as sock:
        consumer = RedisConsumer(sock, QUEUE, [b"0-0"])
        assert said(consumer) == read_group(4, b"BLOCK", b"0")
        feed(consumer, answer(q=[(b"1-%d" % n, AWKWARD) for n in range(4)]), cuts)
        assert said(consumer) == read_group(4), "it was full: there may be more"
        bodies, receipts = take(consumer)
        assert bodies == [AWKWARD] * 4
        consumer.acknowledge(receipts[:3])
        ids = [b"1-0", b"1-1", b"1-2"]
        done = command(b"XACK", b"q", b"workers", *ids) + command(b"XDEL", b"q", *ids)
        assert said(consumer) == done, "a round is under way"
        feed(consumer, b"*-1\r\n:3\r\n:3\r\n", cuts)
        assert not consumer.out, "nothing came, and one is to be acknowledged"
        consumer.acknowledge(receipts[3:])
        assert said(consumer).endswith(read_group(4, b"BLOCK", b"0"))


@given(cuts())
def test_what_is_rejected_is_claimed_and_comes_again(cuts):
    with socket.socket() as sock:
        consumer = RedisConsumer(sock, QUEUE, [b"0-0"])
        said(consumer)
        feed(consumer, answer(q=[(b"1-0", AWKWARD), (b"1-1", b"x")]))
        receipts = take(consumer)[1]
        consumer.reject(receipts[:1])
        consumer.acknowledge(receipts[1:])
        claim = command(b"XCLAIM", b"q", b"workers", b"consumer", b"0", b"1-0")
        assert said(consumer).startswith(claim)
        feed(consumer, entries((b"1-0", AWKWARD)) + b":1\r\n:1\r\n*-1\r\n", cuts)
        assert take(consumer) == ([AWKWARD], receipts[:1])
        consumer.acknowledge(receipts[:1])
        assert said(consumer).endswith(read_group(4, b"BLOCK", b"0"))


@given(cuts())
def test_who_comes_back_reads_what_it_had(cuts):
    with socket.socket() as sock:
        wiring = Wiring(url=QUEUE.url, names=("q", "r"), prefetch=8, client_id="me")
        consumer = RedisConsumer(sock, wiring, [b"0-0"] * 2)
        who = (b"XREADGROUP", b"GROUP", b"workers", b"me", b"COUNT")
        begin = said(consumer)
        assert command(*who, b"8")[4:] in begin
        assert begin.endswith(command(b"STREAMS", b"q", b"r", b"0", b"0")[4:])
        feed(consumer, answer(q=[(b"1-0", AWKWARD)], r=[]), cuts)
        assert not consumer.out
        bodies, receipts = take(consumer)
        assert bodies == [AWKWARD]
        consumer.acknowledge(receipts)
        assert said(consumer).endswith(command(b"STREAMS", b"q", b"r", b">", b">")[4:])


def test_what_others_wrote_is_not_ours(pair):
    reader = RedisConsumer(pair, STREAM, [b"0-0", b"0-0"])
    other = b"*1\r\n*2\r\n$1\r\na\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$5\r\nother\r\n"
    with pytest.raises(Refused, match="not an entry"):
        reader.feed(other + b"$1\r\nx\r\n" + bytes(600))


def test_greetings():
    assert DRIVER.greeting(QUEUE) == command(b"PING")
    named = DRIVER.greeting(Wiring(url="redis://me:secret@h:1"))
    assert named == command(b"AUTH", b"me", b"secret") + command(b"PING")
    assert not DRIVER.is_greeted(b"+PO")
    assert DRIVER.is_greeted(b"+OK\r\n+PONG\r\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    system = RedisSystem()
    if reason := system.why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        yield system.start(stack, str(tmp_path_factory.mktemp("redis")), True).urls["redis"]


def number_of(url, *arguments):
    with DRIVER.connect(Wiring(url=url)).socket as sock:
        sock.settimeout(20)
        found = ask(sock, command(*arguments), lambda data: data.endswith(b"\r\n"))
    return int(found[1:])


def test_a_queue_from_end_to_end(server):
    wiring = Wiring(url=server, names=("work.0", "work.1"), client_id="c1", prefetch=100)
    check_queues(DRIVER, wiring, lambda name: number_of(server, b"XLEN", name.encode()))


def test_a_queue_is_shared_and_rejected_messages_come_again(server):
    check_redelivery(DRIVER, Wiring(url=server, names=("shared",), prefetch=20))


def test_a_stream_is_read_by_all_and_shared_by_a_group(server):
    wiring = Wiring(url=server, kind="stream", names=("log",), group="g", prefetch=64)
    check_stream(DRIVER, wiring)
    assert number_of(server, b"XLEN", b"log") == 1_000
    DRIVER.declare(wiring)
    assert number_of(server, b"XLEN", b"log") == 0


def test_what_a_consumer_had_comes_again_when_it_is_back(server):
    wiring = Wiring(url=server, names=("held",), client_id="me")
    DRIVER.declare(wiring)
    bodies = bodies_for(10)
    with connected(DRIVER.producer(wiring)) as (producer,):
        publish_all(producer, bodies)
    with connected(DRIVER.consumer(wiring)) as (consumer,):
        carry([consumer], lambda: len(consumer.bodies) == 10)
    with connected(DRIVER.consumer(wiring)) as (consumer,):
        assert receive([consumer], 10)[0] == bodies
        carry([consumer], lambda: number_of(server, b"XLEN", b"held") == 0)


def test_what_is_no_stream_is_refused(server):
    wiring = Wiring(url=server, names=("plain",))
    number_of(server, b"APPEND", b"plain", b"x")
    with connected(DRIVER.producer(wiring)) as (producer,):
        producer.publish([b"x"])
        with pytest.raises(Refused, match="WRONGTYPE"):
            carry([producer], lambda: bool(producer.confirmed))
    with connected(DRIVER.consumer(wiring)) as (consumer,):
        with pytest.raises(Refused, match="WRONGTYPE"):
            carry([consumer], lambda: bool(consumer.bodies))
    with pytest.raises(Refused, match="WRONGTYPE"):
        DRIVER.consumer(Wiring(url=server, kind="stream", names=("plain",)))
    wrong = server.replace("://", "://nobody:wrong@")
    with pytest.raises(Refused, match="WRONGPASS"):
        DRIVER.connect(Wiring(url=wrong))
