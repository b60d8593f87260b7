"""STOMP with a client that everybody uses (stomp.py), and with the other dialects."""

import asyncio
import itertools
import queue
from typing import Any

import pytest
import stomp
import trustme
import websockets
from paho.mqtt.client import Client as MqttClient
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from websockets.typing import Subprotocol

from braidmq.broker import Broker
from braidmq.broker.config import Listener
from braidmq.broker.stomp_options import StompOptions
from braidmq.protocols import connect
from braidmq.protocols import serve as serve_broker
from tests.e2e.test_cli_daemon import HASH, PASSWORD, serve, unix_only

__all__ = ["serve"]  # the fixture

pytestmark = [pytest.mark.slow, unix_only]

SECONDS = 60
LISTEN = ("--listen", "stomp://127.0.0.1:0")
VERSIONS = {
    "1.0": stomp.Connection10,
    "1.1": stomp.Connection11,
    "1.2": stomp.Connection12,
}


class Stomp(stomp.ConnectionListener):  # type: ignore[misc]
    """A client that is connected."""

    def __init__(self, url: str, version: str = "1.2", tls: Any = None, **fields: Any) -> None:
        self.version = version
        self.messages: queue.Queue[Any] = queue.Queue()
        self.receipts: queue.Queue[str] = queue.Queue()
        self.errors: queue.Queue[Any] = queue.Queue()
        self.beats: queue.Queue[bool] = queue.Queue()
        self._numbers = itertools.count()
        host, port = url.partition("://")[2].split(":")
        options = {"heartbeats": fields.pop("heartbeats", (0, 0))} if version != "1.0" else {}
        self.connection = VERSIONS[version](
            [(host, int(port))], reconnect_attempts_max=1, **options
        )
        if tls is not None:
            self.connection.set_ssl([(host, int(port))], ca_certs=tls)
        self.connection.set_listener("", self)
        self.connection.connect(wait=True, **fields)

    def on_message(self, frame: Any) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame: Any) -> None:
        self.errors.put(frame)

    def on_heartbeat(self) -> None:
        self.beats.put(True)

    def sure(self, method: str, *args: Any, **headers: Any) -> None:
        """Call a method of the connection with a receipt, and wait for that."""
        receipt = str(next(self._numbers))
        getattr(self.connection, method)(*args, receipt=receipt, **headers)
        assert self.receipts.get(timeout=SECONDS) == receipt

    def send(self, destination: str, body: Any, **headers: Any) -> None:
        self.sure("send", destination, body, **headers)

    def subscribe(self, destination: str, id: str = "1", ack: str = "auto", **headers: Any) -> None:
        self.sure("subscribe", destination, id=id, ack=ack, headers=headers)

    def next(self) -> Any:
        return self.messages.get(timeout=SECONDS)

    def settle(self, verb: str, frame: Any, **headers: Any) -> None:
        """ACK or NACK a message, as the version has it."""
        if self.version == "1.2":
            self.sure(verb, frame.headers["ack"], **headers)
        elif self.version == "1.1":
            self.sure(verb, frame.headers["message-id"], "1", **headers)
        else:
            self.sure(verb, frame.headers["message-id"], **headers)

    def leave(self) -> None:
        self.connection.disconnect()


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


def test_a_tour(serve, version):
    daemon = serve(*LISTEN)
    one, other = Stomp(daemon.url, version), Stomp(daemon.url, version)

    one.subscribe("/queue/orders", ack="client")
    other.send("/queue/orders", "first", region="eu")
    message = one.next()
    assert (message.body, message.headers["region"]) == ("first", "eu")
    assert message.headers["destination"] == "/queue/orders"
    one.settle("ack", message)

    one.subscribe("/topic/prices.*", "2")
    other.send("/topic/prices.eur", "1.1")
    assert one.next().headers["destination"] == "/topic/prices.eur"

    one.subscribe("/temp-queue/answers", "3")
    other.subscribe("/queue/work", "4")
    one.send("/queue/work", "question", **{"reply-to": "/temp-queue/answers"})
    asked = other.next()
    other.send(asked.headers["reply-to"], "answer")
    assert one.next().body == "answer"

    transaction = other.connection.begin()
    other.send("/queue/orders", "second", transaction=transaction)
    other.send("/topic/prices.usd", "1.2", transaction=transaction)
    other.sure("commit", transaction)
    assert {one.next().body, one.next().body} == {"second", "1.2"}

    transaction = other.connection.begin()
    other.send("/queue/orders", "never", transaction=transaction)
    other.sure("abort", transaction)
    other.send("/queue/orders", "third")
    assert one.next().body == "third"

    one.connection.unsubscribe("1")
    one.leave()
    other.subscribe("/queue/orders", "5", ack="client")
    assert {other.next().body, other.next().body} == {"second", "third"}  # not acknowledged
    other.leave()
    assert daemon.stop() == 0


def test_a_dead_letter_comes_after_a_nack(serve):
    daemon = serve(*LISTEN)
    client = Stomp(daemon.url, "1.1")
    client.subscribe("/queue/orders", ack="client-individual")
    client.send("/queue/orders", "bad")
    client.settle("nack", client.next())
    client.subscribe("/queue/ActiveMQ.DLQ", "2")
    dead = client.next()
    assert dead.headers["original-destination"] == "/queue/orders"
    client.leave()


def test_what_was_committed_outlives_a_kill_and_what_was_not_never_was(serve):
    daemon = serve(*LISTEN)
    client = Stomp(daemon.url)
    client.subscribe("/queue/in", ack="client-individual")
    client.send("/queue/in", "1")
    client.send("/queue/in", "2")
    first, second = client.next(), client.next()
    client.connection.begin("kept")
    client.settle("ack", first, transaction="kept")
    client.send("/queue/out", "a", transaction="kept")
    client.send("/queue/out", "b", transaction="kept")
    client.sure("commit", "kept")
    client.connection.begin("open")
    client.settle("ack", second, transaction="open")
    client.send("/queue/out", "never", transaction="open")
    daemon.process.kill()
    daemon.process.wait(SECONDS)
    daemon.ready.unlink()

    daemon = serve(*LISTEN)
    client = Stomp(daemon.url)
    client.subscribe("/queue/in", "1")
    assert client.next().body == "2"
    client.subscribe("/queue/out", "2")
    client.send("/queue/out", "end")
    assert [client.next().body for _ in range(3)] == ["a", "b", "end"]
    client.leave()
    assert daemon.stop() == 0


def test_durable_subscriptions_wait_for_their_client(serve):
    daemon = serve(*LISTEN)
    headers = {"activemq.subscriptionName": "d"}
    fields: dict[str, Any] = {"headers": {"client-id": "ann"}}
    client = Stomp(daemon.url, **fields)
    client.subscribe("/topic/news", ack="client", **headers)
    client.leave()
    sender = Stomp(daemon.url)
    sender.send("/topic/news", "while you were away")
    sender.leave()
    assert daemon.stop() == 0
    daemon.ready.unlink(missing_ok=True)

    daemon = serve(*LISTEN)
    client = Stomp(daemon.url, **fields)
    client.subscribe("/topic/news", ack="client", **headers)
    message = client.next()
    assert message.body == "while you were away"
    client.settle("ack", message)
    client.leave()


def test_users_certificates_and_the_other_dialect(serve, tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    config = f"""
[[listeners]]
url = "stomps://127.0.0.1:0"
tls_certificate = "{tmp_path}/cert.pem"
tls_key = "{tmp_path}/key.pem"
stomp = {{ dialect = "rabbitmq" }}

[users.ann]
password_hash = "{HASH}"
rules = [{{ effect = "allow", actions = ["queue:*"], names = ["*"] }}]
"""
    daemon = serve(config=config)
    client = Stomp(daemon.url, tls=str(tmp_path / "ca.pem"), username="ann", passcode=PASSWORD)
    client.subscribe("/queue/a", ack="client")
    client.send("/queue/a", "x")
    client.settle("nack", client.next())
    assert client.next().headers["redelivered"] == "true"
    client.connection.send("/topic/a", "x", receipt="no")
    error = client.errors.get(timeout=SECONDS)
    assert "topic:Publish" in error.headers["message"]
    assert error.headers["receipt-id"] == "no"
    assert daemon.stop() == 0


def test_hearts_beat(serve):
    daemon = serve(*LISTEN)
    client = Stomp(daemon.url, "1.1", heartbeats=(1_000, 1_000))
    for _ in range(3):
        assert client.beats.get(timeout=SECONDS)
    client.send("/queue/a", "x")
    client.leave()


# --- with the other dialects ---

HEADERS = {"content-type": "text/plain", "correlation-id": "7", "color": "red"}


def mqtt_send(port: int, topic: str, body: bytes) -> None:
    client = MqttClient(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    client.loop_start()
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = HEADERS["content-type"]
    properties.CorrelationData = HEADERS["correlation-id"].encode()
    properties.UserProperty = ("color", HEADERS["color"])
    client.publish(topic, body, 1, properties=properties).wait_for_publish(SECONDS)
    client.disconnect()
    client.loop_stop()


def seen(headers: Any) -> dict[str, str]:
    """Of a message, the headers that everybody gave it."""
    found = {name: headers[name] for name in HEADERS}
    return {
        name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()
    }


@pytest.mark.parametrize("destination", ["/queue/q", "/topic/a.b"])
@pytest.mark.parametrize("dialect", ["activemq", "rabbitmq"])
async def test_messages_are_the_same_for_all_dialects(destination, dialect):
    kind, name = destination[1:].split("/")
    topic = name.replace(".", "/")
    mqtt_topic = f"$queue/{name}" if kind == "queue" else topic
    listener = Listener(url="stomp://127.0.0.1:0", stomp=StompOptions(dialect=dialect))
    async with (
        Broker() as broker,
        serve_broker(broker, listener, "mqtt://127.0.0.1:0", "braid://127.0.0.1:0") as server,
    ):
        stomp_url, mqtt_url, native_url = server.urls
        if kind == "queue":
            await broker.declare_queue(name)
        reader = await asyncio.to_thread(Stomp, stomp_url)
        await asyncio.to_thread(reader.subscribe, destination)
        mqtt_port = int(mqtt_url.rpartition(":")[2])

        # to STOMP
        await asyncio.to_thread(mqtt_send, mqtt_port, mqtt_topic, b"body")
        async with connect(native_url) as native:
            if kind == "queue":
                await native.queue(name).send(b"body", headers=HEADERS)
            else:
                await native.publish(topic, b"body", headers=HEADERS)
            await asyncio.to_thread(reader.send, destination, "body", **HEADERS)
            for _ in range(3):
                message = await asyncio.to_thread(reader.next)
                assert message.body == "body"
                assert seen(message.headers) == HEADERS
                assert message.headers["destination"] == destination
            await asyncio.to_thread(reader.leave)

            # from STOMP
            if kind == "queue":
                writer = await asyncio.to_thread(Stomp, stomp_url)
                await asyncio.to_thread(writer.send, destination, "body", **HEADERS)
                (found,) = await native.queue(name).receive(wait=SECONDS)
                assert (found.body, seen(found.headers)) == (b"body", HEADERS)
                await found.ack()
                await asyncio.to_thread(writer.leave)


async def test_an_id_is_the_same_for_all_dialects():
    async with (
        Broker() as broker,
        serve_broker(broker, "stomp://127.0.0.1:0", "braid://127.0.0.1:0") as server,
    ):
        client = await asyncio.to_thread(Stomp, server.urls[0])
        await asyncio.to_thread(client.send, "/queue/q", "x")
        async with connect(server.urls[1]) as native:
            (browsed,) = [each async for each in native.queue("q").browse()]
        await asyncio.to_thread(client.subscribe, "/queue/q")
        message = await asyncio.to_thread(client.next)
        assert message.headers["message-id"] == f"ID:{browsed.id}"
        await asyncio.to_thread(client.leave)


@pytest.mark.parametrize("is_text", [True, False])
async def test_over_websocket_it_is_answered_as_it_speaks(is_text):
    async with (
        Broker() as broker,
        serve_broker(broker, "ws://127.0.0.1:0") as server,
        websockets.connect(
            server.urls[0] + "/ws",
            subprotocols=[Subprotocol("v11.stomp"), Subprotocol("v12.stomp")],
        ) as socket,
    ):
        assert socket.subprotocol == "v12.stomp"

        async def ask(frame: str) -> str:
            await socket.send(frame if is_text else frame.encode())
            async with asyncio.timeout(SECONDS):
                answer = await socket.recv()
            assert isinstance(answer, str) is is_text
            return answer if isinstance(answer, str) else answer.decode()

        assert (await ask("CONNECT\naccept-version:1.2\nhost:h\n\n\0")).startswith("CONNECTED\n")
        await ask("SUBSCRIBE\nid:1\ndestination:/queue/a\nreceipt:1\n\n\0")
        answers = await ask("SEND\ndestination:/queue/a\n\nhell\u00f6\0")
        assert "MESSAGE\n" in answers and "hell\u00f6" in answers
