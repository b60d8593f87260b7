"""The driver of beanstalkd: what it says and understands, and a server where there is one."""

import contextlib
import re
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.drivers.beanstalk import (
    ROUND_MAX,
    BeanstalkConsumer,
    BeanstalkDriver,
    BeanstalkProducer,
)
from braidmq.benchmarks.drivers.connection import ask, open_socket
from braidmq.benchmarks.drivers.driver import Refused, Wiring
from braidmq.benchmarks.systems.beanstalkd import JOB_BYTES_MAX, BeanstalkdSystem
from tests.bench_clients import (
    AWKWARD,
    bodies_for,
    carry,
    check_queues,
    check_redelivery,
    connected,
    cuts,
    feed,
    publish_all,
    said,
    take,
)

DRIVER = BeanstalkDriver()
QUEUE = Wiring(url="beanstalk://127.0.0.1:1", names=("a", "b"), prefetch=8)
WAITING, GLANCING = b"reserve\r\n", b"reserve-with-timeout 0\r\n"


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours


def reserved(*pairs):
    return b"".join(
        b"RESERVED %d %d\r\n%b\r\n" % (number, len(body), body) for number, body in pairs
    )


def test_a_put_goes_to_the_tube_that_is_used(pair):
    producer = BeanstalkProducer(pair, QUEUE)
    producer.publish([b"x", AWKWARD], to=1)
    put = b"put 1024 0 86400 "
    assert said(producer) == b"use b\r\n%b1\r\nx\r\n%b%d\r\n%b\r\n" % (
        *(put, put, len(AWKWARD)),
        AWKWARD,
    )
    producer.publish([b"y"], to=1, delay_ms=1_001)
    assert said(producer) == b"put 1024 2 86400 1\r\ny\r\n"
    producer.publish([b"z"], delay_ms=1_000)
    assert said(producer) == b"use a\r\nput 1024 1 86400 1\r\nz\r\n"


@given(cuts())
def test_confirmations_are_counted_however_they_come(cuts):
    with socket.socket() as sock:
        producer = BeanstalkProducer(sock, QUEUE)
        feed(producer, b"USING a\r\nINSERTED 1\r\nINSERTED 20\r\n" * 3 + b"INSERTED 300", cuts)
        assert producer.confirmed == list(range(6))


@pytest.mark.parametrize("error", ["DRAINING", "OUT_OF_MEMORY", "JOB_TOO_BIG", "BURIED 7"])
def test_an_error_is_told_in_its_words(pair, error):
    text = error.encode() + b"\r\n"
    with pytest.raises(Refused, match=error):
        BeanstalkProducer(pair, QUEUE).feed(b"INSERTED 1\r\n" + text)
    with pytest.raises(Refused, match=error):
        BeanstalkConsumer(pair, QUEUE).feed(reserved((1, b"x")) + text)
    with pytest.raises(Refused, match=error):
        DRIVER.is_greeted(text)


@given(cuts(), st.binary(max_size=200))
def test_rounds_grow_with_what_they_bring(cuts, body):
    with socket.socket() as sock:
        consumer = BeanstalkConsumer(sock, QUEUE)
        assert said(consumer) == WAITING
        feed(consumer, reserved((1, AWKWARD)), cuts)
        assert said(consumer) == GLANCING * 2, "one was there: there may be more"
        consumer.acknowledge([b"1"])
        feed(consumer, b"DELETED\r\n" + reserved((2, body), (3, b"")), cuts)
        assert take(consumer) == ([AWKWARD, body, b""], [b"1", b"2", b"3"])
        assert said(consumer) == b"delete 1\r\n" + GLANCING * 4
        feed(consumer, b"TIMED_OUT\r\n" * 4, cuts)
        assert not consumer.out, "nothing came, and two are reserved"
        consumer.acknowledge([b"2"])
        assert said(consumer) == b"delete 2\r\n" + GLANCING
        consumer.acknowledge([b"3"])
        feed(consumer, b"DELETED\r\nTIMED_OUT\r\nDELETED\r\n", cuts)
        assert said(consumer) == b"delete 3\r\n" + WAITING


def test_a_round_is_half_of_the_prefetch_at_most(pair):
    consumer = BeanstalkConsumer(pair, Wiring(url=QUEUE.url, names=("a",), prefetch=4))
    said(consumer)
    feed(consumer, reserved((1, b"x")))
    assert said(consumer) == GLANCING * 2
    feed(consumer, reserved((2, b"x"), (3, b"x")))
    assert not consumer.out, "there is no room for two"
    consumer.acknowledge([b"1", b"2", b"3"])
    assert said(consumer).endswith(b"delete 3\r\n" + WAITING + GLANCING)


def test_no_round_is_so_large_that_deletes_keep_messages_away(pair):
    consumer = BeanstalkConsumer(pair, Wiring(url=QUEUE.url, names=("a",), prefetch=10_000))
    asked = 1
    for _ in range(10):
        said(consumer)
        feed(consumer, reserved(*[(1, b"x")] * asked))
        asked = said(consumer).count(GLANCING)
    assert asked == ROUND_MAX


def test_what_is_rejected_is_released(pair):
    consumer = BeanstalkConsumer(pair, QUEUE)
    said(consumer)
    feed(consumer, reserved((1, b"x")))
    feed(consumer, b"TIMED_OUT\r\nTIMED_OUT\r\n")
    said(consumer)
    consumer.reject([b"1"])
    assert said(consumer) == b"release 1 1024 0\r\n" + WAITING
    feed(consumer, b"RELEASED\r\n" + reserved((1, b"x")))
    assert take(consumer)[1] == [b"1", b"1"]


def test_greetings():
    assert DRIVER.greeting(QUEUE) == b"list-tube-used\r\n"
    assert not DRIVER.is_greeted(b"USING defau")
    assert DRIVER.is_greeted(b"USING default\r\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    system = BeanstalkdSystem()
    if reason := system.why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        directory = str(tmp_path_factory.mktemp("beanstalkd"))
        yield system.start(stack, directory, False).urls["beanstalk"]


def jobs_in(wiring, tube):
    with open_socket(wiring) as sock:
        request = f"stats-tube {tube}\r\n".encode()
        answer = ask(sock, request, lambda text: text.endswith((b"\n\r\n", b"NOT_FOUND\r\n")))
    return sum(map(int, re.findall(rb"current-jobs-(?:ready|reserved|delayed): (\d+)", answer)))


def is_refused(wiring):
    """Whether it cannot be declared yet."""
    try:
        DRIVER.declare(wiring)
    except Refused:
        return True
    return False


def test_a_queue_from_end_to_end(server):
    wiring = Wiring(url=server, names=("work.0", "work.1"), client_id="c1", prefetch=100)
    check_queues(DRIVER, wiring, lambda tube: jobs_in(wiring, tube))


def test_a_queue_is_shared_and_rejected_messages_come_again(server):
    check_redelivery(DRIVER, Wiring(url=server, names=("shared",), prefetch=20))


def test_declaring_empties_and_says_when_it_cannot(server):
    wiring = Wiring(url=server, names=("left",))
    with connected(DRIVER.producer(wiring)) as (producer,):
        publish_all(producer, bodies_for(3))
        producer.publish([b"later"], delay_ms=1_000_000)
        carry([producer], lambda: len(producer.confirmed) == 4)
        with connected(DRIVER.consumer(wiring)) as (consumer,):
            carry([consumer], lambda: bool(consumer.bodies))
            with pytest.raises(Refused, match="reserved by others"):
                DRIVER.declare(wiring)
        carry([], lambda: not is_refused(wiring))  # it sees that the consumer is gone
        assert jobs_in(wiring, "left") == 0
        publish_all(producer, [b"x"])
        assert jobs_in(wiring, "left") == 1


def test_what_is_wrong_is_refused(server):
    wiring = Wiring(url=server, names=("large",))
    with connected(DRIVER.producer(wiring)) as (producer,):
        producer.publish([bytes(JOB_BYTES_MAX + 1)])
        with pytest.raises(Refused, match="JOB_TOO_BIG"):
            carry([producer], lambda: bool(producer.confirmed))
    for use in (DRIVER.declare, DRIVER.consumer):
        with pytest.raises(Refused, match="BAD_FORMAT"):
            use(Wiring(url=server, names=("a,b",)))
