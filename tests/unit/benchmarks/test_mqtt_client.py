"""Handshakes, refusals, and how a broker's own spelling is learned."""

import socket
import threading

import pytest

from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.drivers.mqtt_packets import Malformed, publish_packet
from braidmq.benchmarks.mqtt_client import MqttClient, learn_heads
from braidmq.benchmarks.mqtt_plan import Plan
from braidmq.benchmarks.mqtt_relay import RelayProcess


@pytest.fixture
def answering():
    """Start a server that answers each read with the next of these, then hangs up."""
    servers = []

    def start(*answers):
        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)

        def run():
            sock, _ = server.accept()
            with sock:
                for answer in answers:
                    sock.recv(65_536)
                    sock.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        return server.getsockname()

    yield start
    for server in servers:
        server.close()


def open_client(address):
    host, port = address
    return MqttClient(host, port, 4, "me")


CONNACK, SUBACK = b"\x20\x02\0\0", b"\x90\x03\0\x01\x01"


def test_a_refused_connection_says_why(answering):
    with pytest.raises(Refused, match="CONNACK with 5"):
        open_client(answering(b"\x20\x02\0\x05"))


def test_a_refused_subscription_says_why(answering):
    client = open_client(answering(CONNACK, b"\x90\x03\0\x01\x80"))
    with pytest.raises(Refused, match="SUBACK with 128"):
        client.subscribe(["a"], 0)
    client.close()


def test_a_broker_that_hangs_up(answering):
    client = open_client(answering(CONNACK, b""))
    with pytest.raises(Refused, match="hung up"):
        client.subscribe(["a"], 0)
    client.close()


def test_messages_may_come_between(answering):
    early = publish_packet(4, 0, "a", 0, b"early")
    client = open_client(answering(CONNACK, early + SUBACK + b"\x30"))
    client.subscribe(["a"], 0)
    assert client.start() == b"\x30"
    client.close()


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
def test_heads_are_learned(version, qos):
    with RelayProcess(Plan(version=version, qos=qos)) as relay:
        client = MqttClient(relay.host, relay.port, version, "me")
        client.subscribe(["bench/#"], qos)
        heads = learn_heads(client, {0: "bench/a", 3: "bench/b"}, qos)
        client.close()
    assert sorted(heads) == [0, 3]
    assert heads[3].startswith(b"\0\x07bench/b" + (b"\0\0" if qos else b""))
    assert (b"source" in heads[0]) == (version == 5)


def test_a_head_of_another_message_is_not_learned(answering):
    other = publish_packet(4, 0, "bench/a", 0, b"something else")
    client = open_client(answering(CONNACK, other))
    with pytest.raises(Malformed, match="something else"):
        learn_heads(client, {0: "bench/a"}, 0)
    client.close()


def test_many_connections_come_from_several_addresses():
    with socket.create_server(("127.0.0.1", 0)) as server:
        found = set()
        for number in range(17):
            with MqttClient.open_socket("127.0.0.1", server.getsockname()[1], number) as sock:
                found.add(sock.getsockname()[0])
    assert len(found) == 16
