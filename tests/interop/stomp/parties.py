"""Who sends and sees messages in another protocol, told in one way: the table of docs/stomp.md.

`Letter` is a message as the broker has it: names of headers are the broker's own, `reply-to` a
topic. A party writes it down as its protocol does, with a client of somebody else where there is
one, and tells what it sees in the same words.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from braidmq.protocols import connect

from .. import kinds as mqtt_kinds
from ..facade import Client as MqttClient
from ..facade import Properties
from .facade import Client, Message
from .kinds import REFERENCE

__all__ = ["PARTIES", "Letter", "Party"]

HOUR_SECONDS = 3600


@dataclass(frozen=True)
class Letter:
    """A message. `id`: 32 hex digits; "" where a protocol does not show it.

    `lives`: whether it has a time to live, which is an hour; None where that is not shown.
    """

    body: bytes
    headers: Mapping[str, str | bytes] = field(default_factory=dict)
    lives: bool | None = True
    id: str = ""


class Party:
    """Somebody who speaks one protocol to the broker. `served` says where it listens."""

    def __init__(self, served: Any, stack: AsyncExitStack) -> None:
        self.served = served
        self.stack = stack

    async def enter(self) -> None:
        """Connect."""
        raise NotImplementedError

    async def watch(self, topic: str) -> None:
        """Subscribe to a topic, in a way that the log keeps what comes."""
        raise NotImplementedError

    async def publish(self, topic: str, letter: Letter) -> None:
        raise NotImplementedError

    async def send(self, queue: str, letter: Letter) -> None:
        raise NotImplementedError

    async def see(self) -> Letter:
        """The next message that came by `watch`."""
        raise NotImplementedError

    async def look(self, queue: str) -> Letter:
        """The first message of a queue, which stays there."""
        raise NotImplementedError


class MqttParty(Party):
    """paho-mqtt, MQTT 5."""

    async def enter(self) -> None:
        kind = mqtt_kinds.kind_named("paho-v5")
        self.client: MqttClient = kind(self.served.urls[3], clean=False, expiry_seconds=60)
        await self.client.connect()
        self.stack.push_async_callback(self.client.vanish)

    async def watch(self, topic: str) -> None:
        await self.client.subscribe(topic, 1)

    async def publish(self, topic: str, letter: Letter) -> None:
        own = dict(letter.headers)
        correlation = own.pop("correlation-id", b"")
        properties = Properties(
            content_type=str(own.pop("content-type", "")),
            response_topic=str(own.pop("reply-to", "")),
            correlation=correlation.encode() if isinstance(correlation, str) else correlation,
            text=own.pop("payload-format", "") == "text",
            user=tuple((name, str(value)) for name, value in own.items()),
            expiry_seconds=HOUR_SECONDS if letter.lives else None,
        )
        await self.client.publish(topic, letter.body, 1, properties=properties)

    async def send(self, queue: str, letter: Letter) -> None:
        await self.publish(f"$queue/{queue}", letter)

    async def see(self) -> Letter:
        message = await self.client.receive()
        found = message.properties
        own: dict[str, str | bytes] = dict(found.user)
        if found.content_type:
            own["content-type"] = found.content_type
        if found.response_topic:
            own["reply-to"] = found.response_topic
        if found.correlation:
            own["correlation-id"] = _text_if_it_is(found.correlation)
        left = found.expiry_seconds
        assert left is None or HOUR_SECONDS - 30 < left <= HOUR_SECONDS
        return Letter(message.payload, own, lives=left is not None)

    async def look(self, queue: str) -> Letter:
        """It cannot look: it takes the message, and does not come back to acknowledge it."""
        kind = mqtt_kinds.kind_named("paho-v5")
        other = MqttParty(self.served, self.stack)
        other.client = kind(self.served.urls[3])
        await other.client.connect()
        await other.client.subscribe(f"$queue/{queue}", 1)
        found = await other.see()
        await other.client.vanish()
        return found


class NativeParty(Party):
    """Our own client."""

    async def enter(self) -> None:
        self.broker = await self.stack.enter_async_context(connect(self.served.urls[4]))

    async def watch(self, topic: str) -> None:
        subscription = self.broker.subscribe(topic, durable="native")
        self.messages = aiter(await self.stack.enter_async_context(subscription))

    async def publish(self, topic: str, letter: Letter) -> None:
        ttl = HOUR_SECONDS if letter.lives else 0
        await self.broker.publish(topic, letter.body, headers=letter.headers, ttl=ttl)

    async def send(self, queue: str, letter: Letter) -> None:
        ttl = HOUR_SECONDS if letter.lives else 0
        await self.broker.queue(queue).send(letter.body, headers=letter.headers, ttl=ttl)

    @staticmethod
    def _seen(message: Any) -> Letter:
        own = dict(message.headers)
        for name in ("topic", "mqtt-qos"):
            own.pop(name, None)
        return Letter(message.body, own, None, message.id)

    async def see(self) -> Letter:
        return self._seen(await anext(self.messages))

    async def look(self, queue: str) -> Letter:
        return self._seen(await anext(self.broker.queue(queue).browse()))


class StompParty(Party):
    """stomp.py, STOMP 1.2, with the conventions of ActiveMQ."""

    at = 0
    durable: Mapping[str, str] = {"activemq.subscriptionName": "letters"}
    # What is the frame's, what the broker adds, and second names of what has two.
    left_out = frozenset(
        "destination message-id subscription content-length ack priority timestamp expires"
        " original-destination JMSXGroupID JMSXGroupSeq redelivered JMSXDeliveryCount expiration"
        " x-delivery-count".split()
    )

    async def enter(self) -> None:
        client_id = f"party-{self.at}"
        self.client: Client = REFERENCE(self.served.urls[self.at], client_id=client_id)
        await self.client.connect()
        self.stack.push_async_callback(self.client.vanish)

    async def watch(self, topic: str) -> None:
        await self.client.subscribe(f"/topic/{topic.replace('/', '.')}", id="d", **self.durable)

    def expiry(self) -> dict[str, str]:
        return {"expires": str(int(time.time() + HOUR_SECONDS) * 1000)}

    def lives(self, headers: Mapping[str, str]) -> bool:
        expires = int(headers["expires"])
        assert not expires or 30 > expires / 1000 - time.time() - HOUR_SECONDS > -30
        return expires != 0

    def id_of(self, headers: Mapping[str, str]) -> str:
        return headers["message-id"].removeprefix("ID:")

    async def publish(self, topic: str, letter: Letter) -> None:
        await self._send(f"/topic/{topic.replace('/', '.')}", letter)

    async def send(self, queue: str, letter: Letter) -> None:
        await self._send(f"/queue/{queue}", letter)

    async def _send(self, destination: str, letter: Letter) -> None:
        own = {name: str(value) for name, value in letter.headers.items()}
        if "reply-to" in own:
            own["reply-to"] = f"/topic/{own['reply-to'].replace('/', '.')}"
        own |= self.expiry() if letter.lives else {}
        await self.client.send(destination, letter.body, **own)

    def _seen(self, message: Message) -> Letter:
        found = message.headers
        own: dict[str, str | bytes] = {
            name: value for name, value in found.items() if name not in self.left_out
        }
        if "reply-to" in own:
            own["reply-to"] = str(own["reply-to"]).removeprefix("/topic/").replace(".", "/")
        if "group-id" in found:
            assert found["JMSXGroupID"] == found["group-id"]
            assert found["JMSXGroupSeq"] == found["group-sequence"]
        return Letter(message.body, own, self.lives(found), self.id_of(found))

    async def see(self) -> Letter:
        return self._seen(await self.client.receive())

    async def look(self, queue: str) -> Letter:
        await self.client.subscribe(f"/queue/{queue}", id="b", browser="true")
        found = self._seen(await self.client.receive())
        assert (await self.client.receive()).headers["browser"] == "end"
        await self.client.unsubscribe("b")
        return found


class RabbitParty(StompParty):
    """... with those of RabbitMQ."""

    at = 2
    durable = {"durable": "true"}

    def expiry(self) -> dict[str, str]:
        return {"expiration": str(HOUR_SECONDS * 1000)}

    def lives(self, headers: Mapping[str, str]) -> bool:
        left = int(headers.get("expiration", 0)) / 1000
        assert not left or HOUR_SECONDS - 30 < left <= HOUR_SECONDS
        return left != 0

    def id_of(self, headers: Mapping[str, str]) -> str:
        return headers["message-id"].rpartition("@@")[2]


def _text_if_it_is(value: bytes) -> str | bytes:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value


PARTIES: dict[str, Callable[..., Party]] = {
    "mqtt": MqttParty,
    "native": NativeParty,
    "stomp-activemq": StompParty,
    "stomp-rabbitmq": RabbitParty,
}
