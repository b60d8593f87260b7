"""gmqtt: an asyncio client with a codec of its own, for MQTT 3.1.1 and 5."""

import asyncio
from typing import Any

from gmqtt import Client as Gmqtt
from gmqtt import Message as GmqttMessage
from gmqtt.mqtt.handler import MQTTConnectError

from .facade import GUARD_SECONDS, NONE, V5, Client, Message, Properties, Refused
from .paho_client import tls_context

__all__ = ["GmqttClient"]

WINDOW = 100


def packed(properties: Properties) -> dict[str, Any]:
    every = {
        "content_type": properties.content_type,
        "response_topic": properties.response_topic,
        "correlation_data": properties.correlation,
        "payload_format_id": int(properties.text),
        "user_property": list(properties.user),
        "message_expiry_interval": properties.expiry_seconds,
        "topic_alias": properties.alias,
    }
    return {name: value for name, value in every.items() if value}


def unpacked(found: dict[str, Any]) -> Properties:
    def one(name: str, default: Any) -> Any:
        return found[name][0] if name in found else default

    return Properties(
        content_type=one("content_type", ""),
        response_topic=one("response_topic", ""),
        correlation=one("correlation_data", b""),
        text=bool(one("payload_format_id", 0)),
        user=tuple(found.get("user_property", ())),
        expiry_seconds=one("message_expiry_interval", None),
        alias=one("topic_alias", None),
        identifiers=tuple(found.get("subscription_identifier", ())),
    )


class GmqttClient(Client):
    _gmqtt: Any  # it ships no types

    async def connect(self) -> bool:
        options = self.options
        more: dict[str, Any] = {}
        if self.version == V5 and options.expiry_seconds:
            more["session_expiry_interval"] = options.expiry_seconds
        if self.version == V5 and options.aliases:
            more["topic_alias_maximum"] = options.aliases
        if options.will is not None:
            will = options.will
            of_will = packed(will.properties)
            more["will_message"] = GmqttMessage(
                will.topic, will.payload, will.qos, will.retain, **of_will
            )
        self._gmqtt = Gmqtt(options.client_id, clean_session=options.clean, **more)
        self._gmqtt.set_config({"reconnect_retries": -2})  # -1 means forever, 0 means once
        self._present = False
        self._granted: asyncio.Queue[int] = asyncio.Queue()
        self._gmqtt.on_connect = self._on_connect
        self._gmqtt.on_message = self._on_message
        self._gmqtt.on_subscribe = lambda _client, _mid, codes, _more: self._granted.put_nowait(
            codes[0]
        )
        if options.login.username is not None:
            self._gmqtt.set_auth_credentials(options.login.username, options.login.password)
        tls: Any = tls_context(self) if self.tls else False
        try:
            await asyncio.wait_for(
                self._gmqtt.connect(self.host, self.port, ssl=tls, version=self.version),
                GUARD_SECONDS,
            )
        except MQTTConnectError as error:
            raise Refused(error._code) from None
        return self._present

    def _on_connect(self, _client: Any, flags: int, _reason: int, _more: object) -> None:
        self._present = bool(flags)

    def _on_message(self, _client: Any, topic: str, payload: bytes, qos: int, more: Any) -> None:
        properties = unpacked(more) if self.version == V5 else NONE
        self.inbox.put_nowait(Message(topic, bytes(payload), qos, bool(more["retain"]), properties))

    async def subscribe(self, filter: str, qos: int = 0, identifier: int = 0) -> int:
        more = {"subscription_identifier": identifier} if identifier else {}
        self._gmqtt.subscribe(filter, qos, **more)
        return await asyncio.wait_for(self._granted.get(), GUARD_SECONDS)

    async def publish(self, topic, payload=b"", qos=0, retain=False, properties=NONE) -> None:
        self._gmqtt.publish(topic, payload, qos, retain, **packed(properties))
        # It tells only that everything was acknowledged.
        await asyncio.wait_for(self._gmqtt._persistent_storage.wait_empty(), GUARD_SECONDS)

    async def publish_all(self, topic, payloads, qos) -> None:
        # It has as many packet ids as the broker's Receive Maximum, and raises when they are used.
        for at in range(0, len(payloads), WINDOW):
            await super().publish_all(topic, payloads[at : at + WINDOW], qos)

    async def leave(self) -> None:
        await self._gmqtt.disconnect()
        await self._closed()

    async def vanish(self) -> None:
        self._gmqtt._is_active = False  # or it comes back by itself
        self._gmqtt._connection._transport.abort()
        await self._closed()

    async def _closed(self) -> None:
        """It leaves a task and a timer behind."""
        connection = self._gmqtt._connection
        connection._keep_connection_callback.cancel()
        await asyncio.sleep(0)
