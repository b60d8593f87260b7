"""The driver of NATS: what it says and understands, and a server where there is one."""

import contextlib
import json
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.drivers.driver import Refused, Wiring
from braidmq.benchmarks.drivers.nats import (
    NatsConsumer,
    NatsDriver,
    NatsProducer,
    publication,
    subscription,
)
from braidmq.benchmarks.systems.nats import NatsSystem
from tests.bench_clients import (
    AWKWARD,
    bodies_for,
    carry,
    connected,
    cuts,
    feed,
    publish_all,
    receive,
    said,
    take,
)

DRIVER = NatsDriver()
TOPIC = Wiring(url="nats://127.0.0.1:1", kind="topic", names=("a.b", "c"))


def message(body, subject=b"a.b"):
    return b"MSG %b 1 %d\r\n%b\r\n" % (subject, len(body), body)


def test_what_is_published():
    assert publication(b"s", b"r", b"xy") == b"PUB s r 2\r\nxy\r\n"
    assert publication(b"s", b"", b"xy", b"H\r\n\r\n") == b"HPUB s 5 7\r\nH\r\n\r\nxy\r\n"
    assert subscription("a.>", 3) == b"SUB a.> 3\r\n"
    assert subscription("a.>", 3, "g") == b"SUB a.> g 3\r\n"
    with socket.socket() as sock:
        producer = NatsProducer(sock, TOPIC)
        producer.publish([b"x", AWKWARD], to=1)
        assert said(producer) == publication(b"c", b"", b"x") + publication(b"c", b"", AWKWARD)
        assert not producer.confirms


@given(cuts(), st.binary(max_size=200))
def test_messages_are_taken_however_they_come(cuts, body):
    with socket.socket() as sock:
        consumer = NatsConsumer(sock)
        headers = b"NATS/1.0\r\nA: b\r\n\r\n"
        sizes = (len(headers), len(headers) + len(body))
        feed(
            consumer,
            message(body)
            + b"PING\r\n"
            + b"MSG a 1 reply.to 2\r\n\r\n\r\n"
            + b"MSG a 1  1\r\nx\r\n"
            + b"INFO {}\r\n"
            + b"HMSG a 1 %d %d\r\n%b%b\r\n" % (*sizes, headers, body)
            + b"PONG\r\n"
            + message(AWKWARD),
            cuts,
        )
        bodies, replies = take(consumer)
        assert bodies == [body, b"\r\n", b"x", body, AWKWARD]
        assert replies == [None, b"reply.to", None, None, None]
        assert said(consumer) == b"PONG\r\n"


def test_an_error_is_told_in_its_words():
    with socket.socket() as sock:
        for wrong, words in (
            (b"-ERR 'Slow Consumer'\r\n", "^Slow Consumer$"),
            (b"HMSG i 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", "503"),
            (b"HELLO\r\n", "not understood"),
        ):
            with pytest.raises(Refused, match=words):
                feed(NatsConsumer(sock), message(b"x") + wrong, [3])
    with pytest.raises(Refused, match="Authorization"):
        DRIVER.is_greeted(b"INFO {}\r\n-ERR 'Authorization Violation'\r\n")


def test_greetings():
    named = DRIVER.greeting(Wiring(url="nats://me:secret@h:1", client_id="c"))
    words, options = named.removesuffix(b"\r\nPING\r\n").split(b" ", 1)
    assert words == b"CONNECT"
    said = json.loads(options)
    assert (said["user"], said["pass"], said["name"]) == ("me", "secret", "c")
    assert b"user" not in DRIVER.greeting(TOPIC)
    assert not DRIVER.is_greeted(b"INFO {}\r\nPO")
    assert DRIVER.is_greeted(b"INFO {}\r\nPONG\r\n")
    assert DRIVER.is_greeted(b"INFO {}\r\nPONG\r\nINFO {}\r\n")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    system = NatsSystem()
    if reason := system.why_not():
        pytest.skip(reason)
    with contextlib.ExitStack() as stack:
        yield system.start(stack, str(tmp_path_factory.mktemp("nats")), True).urls["nats"]


def wired(server, *names, **more):
    return Wiring(url=server, kind="topic", names=names, client_id="c1", **more)


def test_everyone_who_is_subscribed_gets_all(server):
    first, second = bodies_for(600), bodies_for(400, 5_000)
    DRIVER.declare(wired(server, "t.1"))
    DRIVER.connect(wired(server)).close()
    consumers = (
        DRIVER.consumer(wired(server, "t.1", "t.2")),
        DRIVER.consumer(wired(server, "t.*")),
        DRIVER.consumer(wired(server, "t.#")),
    )
    with connected(DRIVER.producer(wired(server, "t.1", "t.2")), *consumers) as (producer, *_):
        publish_all(producer, first)
        publish_all(producer, second, to=1)
        for number, found in receive(consumers, 3_000).items():
            assert found == first + second, number
        publish_all(producer, [b"last"])
        carry(consumers, lambda: all(consumer.bodies for consumer in consumers))


def test_a_group_shares(server):
    bodies = bodies_for(1_000)
    members = [DRIVER.consumer(wired(server, "shared", group="g")) for _ in range(2)]
    with connected(DRIVER.producer(wired(server, "shared")), *members) as (producer, *_):
        publish_all(producer, bodies)
        found = receive(members, 1_000)
        assert found[0] and found[1]
        assert sorted(found[0] + found[1]) == sorted(bodies)


def test_what_is_wrong_is_refused(server):
    with connected(DRIVER.producer(wired(server, "large"))) as (producer,):
        producer.publish([bytes(9_000_000)])
        with pytest.raises(Refused, match="Maximum Payload"):
            carry([producer], lambda: False)
    with pytest.raises(Refused, match="Invalid Subject"):
        DRIVER.consumer(wired(server, "a..b"))
