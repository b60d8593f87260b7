"""Every driver keeps the contract, as far as it can be seen without a broker."""

import socket
import typing

import msgspec
import pytest

from braidmq.benchmarks.drivers.beanstalk import BeanstalkConsumer
from braidmq.benchmarks.drivers.driver import Consumer, Driver, Kind, Wiring, slashed
from braidmq.benchmarks.drivers.incoming import Incoming
from braidmq.benchmarks.drivers.mqtt import MqttConsumer
from braidmq.benchmarks.drivers.mqtt_packets import publish_packet
from braidmq.benchmarks.drivers.native import QueueConsumer
from braidmq.benchmarks.drivers.nats import NatsConsumer
from braidmq.benchmarks.drivers.redis import RedisConsumer
from braidmq.benchmarks.drivers.registry import SCHEMES, driver_of
from braidmq.benchmarks.drivers.stomp import StompConsumer
from tests.bench_clients import AWKWARD

FEATURES = {
    *("confirms", "keys", "delay", "reject", "retain", "wildcards", "groups", "tls", "qos2"),
    "dead_letters",
}
LARGE = AWKWARD * 40_000
SIZE = b"%d" % len(LARGE)
PIECE_BYTES = 4096
WIRING = Wiring(url="x://127.0.0.1:1", names=("q",))


def native_frame(body: bytes) -> bytes:
    payload = msgspec.msgpack.encode((71, 1, False, [(1, 2, 1, 3, 4, b"", body)]))
    return len(payload).to_bytes(4, "big") + payload


REDIS_HEAD = b"*1\r\n*2\r\n$1\r\nq\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nb\r\n$"
# What makes a consumer on a socket, and the message of the large body as its broker sends it.
LARGE_MESSAGES = {
    "beanstalk": (
        lambda sock: BeanstalkConsumer(sock, WIRING),
        b"RESERVED 1 %b\r\n%b\r\n" % (SIZE, LARGE),
    ),
    "mqtt": (lambda sock: MqttConsumer(sock, 4), publish_packet(4, 1, "a/b", 1, LARGE)),
    "native": (lambda sock: QueueConsumer(sock, WIRING), native_frame(LARGE)),
    "nats": (NatsConsumer, b"MSG q 1 %b\r\n%b\r\n" % (SIZE, LARGE)),
    "redis": (
        lambda sock: RedisConsumer(sock, WIRING, [b"0-0"]),
        REDIS_HEAD + b"%b\r\n%b\r\n" % (SIZE, LARGE),
    ),
    "stomp": (
        lambda sock: StompConsumer(sock, WIRING),
        b"MESSAGE\nack:1\ncontent-length:%b\n\n%b\0" % (SIZE, LARGE),
    ),
}


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_a_driver_says_of_itself(scheme: str):
    driver: Driver = driver_of(scheme)
    assert driver.kinds
    assert driver.kinds <= set(typing.get_args(Kind))
    assert driver.features <= FEATURES


def test_every_feature_is_somebodys():
    assert set().union(*(driver_of(scheme).features for scheme in SCHEMES)) == FEATURES


@pytest.mark.parametrize(("make", "message"), LARGE_MESSAGES.values(), ids=LARGE_MESSAGES)
def test_a_large_body_in_many_pieces_is_joined_once(make, message, monkeypatch):
    looked_at = []
    add = Incoming.add

    def counting(self, data):
        found = add(self, data)
        looked_at.append(len(found))
        return found

    monkeypatch.setattr(Incoming, "add", counting)
    with socket.socket() as sock:
        consumer: Consumer = make(sock)
        for at in range(0, len(message), PIECE_BYTES):
            assert not consumer.bodies
            consumer.feed(message[at : at + PIECE_BYTES])
    assert consumer.bodies == [LARGE]
    assert len(consumer.receipts) == 1
    assert sum(looked_at) < len(message) + 2 * PIECE_BYTES


def test_who_shares_what_comes():
    assert WIRING.sharing == "workers", "a queue is shared by all of its consumers"
    for kind in ("topic", "stream"):
        assert Wiring(url=WIRING.url, kind=kind).sharing == ""
        assert Wiring(url=WIRING.url, kind=kind, group="g").sharing == "g"


def test_names_may_be_spelled_with_slashes():
    assert slashed("a.*.b-1.#") == "a/+/b-1/#"


def test_a_client_is_wired_once():
    with pytest.raises(AttributeError):
        WIRING.qos = 2  # type: ignore[misc]
