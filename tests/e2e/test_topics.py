"""Topics end to end: the daemon and its command over a kill, and all dialects on one topic."""

import asyncio
import json
import subprocess
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from braidmq.broker import Broker
from braidmq.protocols import connect
from braidmq.protocols import serve as serve_here
from tests.e2e.test_cli_daemon import COMMAND, environment, serve

__all__ = ["serve"]  # the fixture

SECONDS = 60


# --- the daemon and the command ---


@pytest.mark.slow
def test_what_was_published_survives_a_kill(serve):
    first = serve()
    first("subscribe", "sensors/#", "--durable", "dash", "--wait", "20ms")
    assert first("publish", "sensors/kitchen", "21", "--retain", "--json") == (
        '{"topic": "sensors/kitchen", "matched": 1}\n'
    )
    first("publish", "sensors/hall", "--lines", input="1\n2\n")
    assert first("subscribe", "--durable", "dash", "-n", "1") == "sensors/kitchen 21\n"
    first.process.kill()
    first.process.wait(SECONDS)
    first.ready.unlink()
    second = serve()
    [session] = json.loads(second("session", "ls", "--json"))
    assert (session["name"], session["durable"], session["messages"]) == ("dash", True, 2)
    assert second("subscribe", "--durable", "dash", "-n", "2") == "sensors/hall 1\nsensors/hall 2\n"
    assert second("subscribe", "sensors/+", "-n", "1") == "sensors/kitchen 21\n"
    assert "sensors/kitchen" in second("topic", "ls") and "kitchen" in second("topic", "tree")
    assert "dash" in second("session", "show", "dash")
    second("session", "kick", "dash", "--discard", "--yes")
    assert json.loads(second("session", "ls", "--json")) == []
    assert second.stop() == 0


@pytest.mark.slow
def test_a_subscriber_prints_what_comes_until_it_is_ended(serve):
    daemon = serve()
    follow = [*COMMAND, "subscribe", "a/+", "--format", r"%p=%b\n", "--url", daemon.url]
    with subprocess.Popen(follow, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        daemon.wait_until(lambda: json.loads(daemon("session", "ls", "--json")))
        daemon("publish", "a/b", "first")
        daemon("publish", "other", "not for it")
        daemon("publish", "a/c", "second")
        assert [process.stdout.readline() for _ in range(2)] == ["a/b=first\n", "a/c=second\n"]
        process.kill()
    assert daemon.stop() == 0


# --- all dialects ---


class Mqtt:
    """An MQTT 5 client of somebody else, in a thread of its own."""

    def __init__(self, url: str, *filters: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.ready = asyncio.Event()
        self.client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self.client.on_connect = lambda client, *_: client.subscribe([(f, 1) for f in filters])
        self.client.on_subscribe = lambda *_: self._call(self.ready.set)
        self.client.on_message = self._on_message
        host, port = url.removeprefix("mqtt://").split(":")
        self.client.connect(host, int(port))
        self.client.loop_start()

    def _call(self, call: Any, *args: Any) -> None:
        self.loop.call_soon_threadsafe(call, *args)

    def _on_message(self, client: Client, _: object, message: Any) -> None:
        self._call(self.messages.put_nowait, message)

    async def close(self) -> None:
        self.client.disconnect()
        await asyncio.to_thread(self.client.loop_stop)


@pytest.fixture
async def urls():
    async with Broker() as broker:
        where = "braid://127.0.0.1:0", "mqtt://127.0.0.1:0"
        async with serve_here(broker, *where, grace=0) as server:
            yield broker, server.urls[0], server.urls[1]


def properties(**values: Any) -> Properties:
    found = Properties(PacketTypes.PUBLISH)
    for name, value in values.items():
        setattr(found, name, value)
    return found


async def first(messages: Any) -> Any:
    async with asyncio.timeout(SECONDS):
        async for message in messages:
            return message


async def test_subscribers_of_all_dialects_see_the_same_headers(urls):
    local, braid, mqtt_url = urls
    headers = {
        "content-type": "text/plain",
        "correlation-id": "c1",
        "reply-to": "answers",
        "tenant": "a",
        "traceparent": "00-0-0-01",
    }
    async with (
        connect(braid) as remote,
        local.subscribe("t") as here,
        remote.subscribe("t") as there,
        remote.subscribe("t", durable="d") as kept,
    ):
        mqtt = Mqtt(mqtt_url, "t")
        await mqtt.ready.wait()
        sent_by_mqtt = properties(
            ContentType="text/plain",
            CorrelationData=b"c1",
            ResponseTopic="answers",
            UserProperty=[("tenant", "a"), ("traceparent", "00-0-0-01")],
        )
        for publish in (
            lambda: local.publish("t", b"x", headers=headers),
            lambda: remote.publish("t", b"x", headers=headers),
            lambda: asyncio.to_thread(mqtt.client.publish, "t", b"x", 1, False, sent_by_mqtt),
        ):
            await publish()
            for messages in (here, there, kept):
                message = await first(messages)
                assert message.topic == "t" and message.body == b"x"
                assert message.headers == {**headers, "topic": "t"}
                await message.ack()
            got = await mqtt.messages.get()
            assert (got.topic, got.payload) == ("t", b"x")
            assert got.properties.ContentType == "text/plain"
            assert got.properties.CorrelationData == b"c1"
            assert got.properties.ResponseTopic == "answers"
            assert sorted(got.properties.UserProperty) == [
                ("tenant", "a"),
                ("traceparent", "00-0-0-01"),
            ]
        await mqtt.close()


async def test_requests_and_answers_cross_dialects(urls):
    _, braid, mqtt_url = urls
    mqtt = Mqtt(mqtt_url, "rpc/mqtt", "answers")
    await mqtt.ready.wait()

    def answer(client, _, message):
        reply = properties(CorrelationData=message.properties.CorrelationData)
        client.publish(message.properties.ResponseTopic, message.payload * 2, 1, False, reply)

    mqtt.client.on_message = answer
    async with connect(braid) as remote, remote.subscribe("rpc/native", share="g") as requests:
        reply = await remote.request("rpc/mqtt", b"ab", timeout=SECONDS)
        assert reply.body == b"abab" and reply.headers["correlation-id"] == "1"
        mqtt.client.on_message = mqtt._on_message
        ask = properties(CorrelationData=b"\x00\xff", ResponseTopic="answers")
        await asyncio.to_thread(mqtt.client.publish, "rpc/native", b"x", 1, False, ask)
        async with await first(requests) as request:
            assert await request.reply(b"y")
        got = await mqtt.messages.get()
        assert (got.payload, got.properties.CorrelationData) == (b"y", b"\x00\xff")
    await mqtt.close()


async def test_a_session_of_mqtt_can_be_shown_and_ended(urls):
    local, _, mqtt_url = urls
    mqtt = Mqtt(mqtt_url, "a/#", "b")
    await mqtt.ready.wait()
    [info] = [info async for info in local.sessions()]
    assert info.connected and not info.durable
    assert sorted((await local.session(info.name)).filters) == ["a/#", "b"]
    ended = asyncio.Event()
    mqtt.client.on_disconnect = lambda *_: mqtt._call(ended.set)
    await local.kick(info.name)
    async with asyncio.timeout(SECONDS):
        await ended.wait()
    await mqtt.close()
