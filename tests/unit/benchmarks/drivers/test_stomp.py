"""What is said in STOMP, byte by byte, however the broker's bytes are cut."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.drivers.driver import Refused, Wiring
from braidmq.benchmarks.drivers.stomp import (
    StompClient,
    StompConsumer,
    StompDriver,
    StompProducer,
    _subscribes,
)
from tests.bench_clients import cuts, feed

DRIVER = StompDriver()
URL = "stomp://127.0.0.1:1"


def producer(**more) -> StompProducer:
    return StompProducer(None, Wiring(url=URL, names=("a.b", "c:d"), **more))  # type: ignore[arg-type]


def consumer(**more) -> StompConsumer:
    return StompConsumer(None, Wiring(url=URL, names=("a.b",), **more))  # type: ignore[arg-type]


def message(number: int, body: bytes) -> bytes:
    head = b"MESSAGE\nack:n\\c%d\ndestination:/queue/q\nmessage-id:%d\ncontent-length:%d\n\n"
    return head % (number, number, len(body)) + body + b"\0\n"


def test_a_send_is_persistent_and_its_number_is_its_receipt():
    client = producer()
    client.publish([b"one", b"\0\r\n"])
    client.publish([b""], 1)
    assert client.out == (
        b"SEND\ndestination:/queue/a.b\npersistent:true\nreceipt:0\ncontent-length:3\n\none\0"
        b"SEND\ndestination:/queue/a.b\npersistent:true\nreceipt:1\ncontent-length:3\n\n\0\r\n\0"
        b"SEND\ndestination:/queue/c\\cd\npersistent:true\nreceipt:2\ncontent-length:0\n\n\0"
    )


def test_a_send_may_wait_be_of_a_group_or_not_last():
    client = producer(kind="topic", durable=False)
    client.publish([b"one"], 0, ["k:1"], 250)
    assert client.out == (
        b"SEND\ndestination:/topic/a.b\nAMQ_SCHEDULED_DELAY:250\n"
        b"receipt:0\nJMSXGroupID:k\\c1\ncontent-length:3\n\none\0"
    )


@given(places=cuts(), numbers=st.permutations(range(9)))
def test_receipts_come_in_any_order_and_in_pieces(places, numbers):
    answer = b"CONNECTED\nserver:X/1\nversion:1.2\n\n\0\n" + b"".join(
        b"RECEIPT\n%breceipt-id:%d\n\n\0\n" % (b"more:x\n" * (number % 2), number)
        for number in numbers
    )
    client = producer()
    feed(client, answer, places)
    assert client.confirmed == list(numbers)
    assert client.greeted and client.server == "X/1"


@given(places=cuts(), bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=8))
def test_messages_come_out_as_they_went_in(places, bodies):
    client = consumer()
    sent = b"".join(message(number, body) for number, body in enumerate(bodies))
    feed(client, b"RECEIPT\nreceipt-id:0\n\n\0\n\n" + sent, places)
    assert client.bodies == bodies and client.subscribed == 1
    client.acknowledge(client.receipts)
    wanted = [b"ACK\nid:n\\c%d\n\n\0" % number for number in range(len(bodies))]
    assert client.out == b"".join(wanted)
    client.out.clear()
    client.reject(client.receipts)
    assert client.out == b"".join(wanted).replace(b"ACK", b"NACK")


def test_of_nothing_nothing_is_said():
    client = consumer()
    client.acknowledge([])
    client.reject([])
    assert not client.out


def test_a_body_without_a_length_ends_with_a_nul():
    client = consumer()
    client.feed(b"MESSAGE\nack:1\n\none\n\ntwo\0\nMESSAGE\nack:2\n\n\0")
    assert client.bodies == [b"one\n\ntwo", b""] and client.receipts == [b"1", b"2"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\nERROR\nreceipt-id:0\nmessage:no\\croom\n\nGo away.\nat once\0", "ERROR: no:room / Go"),
        (b"ERROR\ncontent-length:9\n\nnot\nhere.\0", "ERROR: not"),
        (b"RECEIPT\nreceipt-id:0\n\n\0ERROR\nmessage:full\n\n\0", "ERROR: full"),
        (b"HELLO\n\n\0", "nobody expected"),
        (b"MESSAGE\ncontent-length:x\n\n\0", "not STOMP"),
        (b"x" * 100_000, "not STOMP"),
    ],
)
def test_the_words_of_the_broker_are_kept(answer, words):
    for client in (producer(), consumer()):
        with pytest.raises(Refused, match=words):
            client.feed(answer)


def test_what_was_confirmed_before_an_error_counts():
    client = producer()
    with pytest.raises(Refused, match="full"):
        client.feed(b"RECEIPT\nreceipt-id:7\n\n\0ERROR\nmessage:full\nreceipt-id:8\n\n\0")
    assert client.confirmed == [7]


def test_a_message_that_cannot_be_acknowledged_is_refused():
    with pytest.raises(Refused, match="cannot be acknowledged"):
        consumer().feed(b"MESSAGE\nmessage-id:1\n\n\0")


def test_subscriptions_are_spelled_as_the_broker_does():
    queue = Wiring(url=URL, names=("a", "b"), prefetch=7, client_id="me")
    assert _subscribes(queue, "RabbitMQ/3")[1] == (
        b"SUBSCRIBE\nid:1\nreceipt:1\ndestination:/queue/b\nack:client-individual\n"
        b"prefetch-count:7\nactivemq.prefetchSize:7\n\n\0"
    )
    topic = Wiring(url=URL, kind="topic", names=("a.*.#",), client_id="me")
    kept = b"activemq.subscriptionName:me-0\ndurable:true\nauto-delete:false\n\n\0"
    (frame,) = _subscribes(topic, "ActiveMQ/5")
    assert frame.startswith(b"SUBSCRIBE\nid:me-0\nreceipt:0\ndestination:/topic/a.*.>\nack:client")
    assert frame.endswith(kept)
    (frame,) = _subscribes(topic, "BraidMQ/1")
    assert b"/topic/a.*.#\n" in frame
    live = Wiring(url=URL, kind="topic", names=("a",), durable=False)
    (frame,) = _subscribes(live, "")
    assert b"id:0\n" in frame and b"durable" not in frame


def test_a_greeting_is_answered_or_not():
    wiring = Wiring(url="stomp://me:secret@127.0.0.1:1", client_id="x")
    assert DRIVER.greeting(wiring) == (
        b"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\nlogin:me\npasscode:secret\n\n\0"
    )
    assert not DRIVER.is_greeted(b"CONNECTED\nversion:1.2\n\n")
    assert DRIVER.is_greeted(b"CONNECTED\nversion:1.2\n\n\0\n")
    with pytest.raises(Refused, match="Bad CONNECT / Access refused"):
        DRIVER.is_greeted(b"ERROR\nmessage:Bad CONNECT\n\nAccess refused\n\0")


def test_a_consumer_waits_until_its_last_words_are_read():
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"MESSAGE\n\n\0RECEIPT\nreceipt-id:goodbye\n\n\0")
        client = consumer()
        client.socket = ours
        client.close()
        assert theirs.recv(100) == b"DISCONNECT\nreceipt:goodbye\n\n\0"
    ours, theirs = socket.socketpair()
    with theirs:
        StompClient(ours).close()
        assert theirs.recv(100).startswith(b"DISCONNECT")
