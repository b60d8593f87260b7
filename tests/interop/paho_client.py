"""paho-mqtt: its own thread, or on our loop by aiomqtt. Over TCP and over WebSocket."""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Any

import aiomqtt
from paho.mqtt.client import Client as Paho
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.reasoncodes import ReasonCode

from .facade import GUARD_SECONDS, NONE, V5, Client, Message, Properties, Refused

__all__ = ["AiomqttClient", "PahoClient"]


def packed(properties: Properties, packet: int = PacketTypes.PUBLISH) -> PahoProperties:
    """Our properties as paho's. It takes them by setting attributes."""
    to: Any = PahoProperties(packet)
    if properties.content_type:
        to.ContentType = properties.content_type
    if properties.response_topic:
        to.ResponseTopic = properties.response_topic
    if properties.correlation:
        to.CorrelationData = properties.correlation
    if properties.text:
        to.PayloadFormatIndicator = 1
    if properties.user:
        to.UserProperty = list(properties.user)
    if properties.expiry_seconds is not None:
        to.MessageExpiryInterval = properties.expiry_seconds
    if properties.alias is not None:
        to.TopicAlias = properties.alias
    return to  # type: ignore[no-any-return]


def unpacked(found: PahoProperties | None) -> Properties:
    if found is None:
        return NONE
    at = vars(found).get
    return Properties(
        content_type=at("ContentType", ""),
        response_topic=at("ResponseTopic", ""),
        correlation=at("CorrelationData", b""),
        text=bool(at("PayloadFormatIndicator", 0)),
        user=tuple((name, value) for name, value in at("UserProperty", ())),
        expiry_seconds=at("MessageExpiryInterval"),
        alias=at("TopicAlias"),
        identifiers=tuple(at("SubscriptionIdentifier", ())),
    )


def message_of(found: MQTTMessage | aiomqtt.Message) -> Message:
    payload = found.payload
    assert isinstance(payload, bytes)
    properties = unpacked(getattr(found, "properties", None))
    return Message(str(found.topic), payload, found.qos, bool(found.retain), properties)


def connect_properties(client: Client) -> Any:
    properties: Any = PahoProperties(PacketTypes.CONNECT)
    if client.options.expiry_seconds:
        properties.SessionExpiryInterval = client.options.expiry_seconds
    if client.options.aliases:
        properties.TopicAliasMaximum = client.options.aliases
    return properties


def subscribe_properties(identifier: int) -> Any:
    if not identifier:
        return None
    properties: Any = PahoProperties(PacketTypes.SUBSCRIBE)
    properties.SubscriptionIdentifier = identifier
    return properties


def tls_context(client: Client) -> ssl.SSLContext:
    login = client.options.login
    context = ssl.create_default_context(cafile=login.ca)
    if login.certificate:
        context.load_cert_chain(login.certificate, login.key)
    return context


def code_of(reason: ReasonCode | int) -> int:
    return reason if isinstance(reason, int) else int(reason.value)


# paho makes a reason of MQTT 5 out of the return code of MQTT 3.
RETURN_CODES = {132: 1, 133: 2, 136: 3, 134: 4, 135: 5}


def refusal(client: Client, reason: ReasonCode | int) -> Refused:
    code = code_of(reason)
    return Refused(code if client.version == V5 else RETURN_CODES.get(code, code))


def remember_sockets(paho: Any) -> list[socket.socket]:
    """The sockets it opens: one whose WebSocket handshake is refused is left to the collector."""
    opened: list[socket.socket] = []
    create = paho._create_socket_connection

    def remembering() -> socket.socket:
        opened.append(create())
        return opened[-1]

    paho._create_socket_connection = remembering
    return opened


class PahoClient(Client):
    """paho with the thread it starts by itself."""

    _paho: Paho

    async def connect(self) -> bool:
        options = self.options
        v5 = self.version == V5
        self._paho = Paho(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            clean_session=None if v5 else options.clean,
            protocol=MQTTProtocolVersion(self.version),
            transport="websockets" if self.websocket else "tcp",
            reconnect_on_failure=False,
        )
        self._connected: asyncio.Future[bool] = self.loop.create_future()
        self._pending: dict[int, asyncio.Future[int]] = {}
        self._paho.on_connect = self._on_connect
        self._paho.on_message = lambda _client, _data, found: self.put(message_of(found))
        self._paho.on_subscribe = self._on_suback
        self._paho.on_publish = self._on_puback
        self._paho.on_disconnect = self._on_disconnect
        self._paho.max_queued_messages_set(0)
        if options.login.username is not None or options.login.password is not None:
            self._paho.username_pw_set(options.login.username, options.login.password)
        if options.will is not None:
            will = options.will
            properties = packed(will.properties, PacketTypes.WILLMESSAGE) if v5 else None
            self._paho.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        if self.tls:
            self._paho.tls_set_context(tls_context(self))
        if self.websocket:
            headers = {"Origin": options.origin} if options.origin else None
            self._paho.ws_set_options(path="/mqtt", headers=headers)
        more = {"clean_start": options.clean, "properties": connect_properties(self)} if v5 else {}
        own = remember_sockets(self._paho)
        try:
            # It blocks, and over WebSocket it waits for the server, which runs on this loop.
            await asyncio.to_thread(self._paho.connect, self.host, self.port, 60, **more)
            self._paho.loop_start()
            return await asyncio.wait_for(self._connected, GUARD_SECONDS)
        except BaseException:
            await self._end()
            for each in own:
                each.close()
            raise

    def _on_connect(self, _client, _data, flags, reason, _properties):
        def settle() -> None:
            if self._connected.done():
                return
            if code_of(reason):
                self._connected.set_exception(refusal(self, reason))
            else:
                self._connected.set_result(bool(flags.session_present))

        self.loop.call_soon_threadsafe(settle)

    def _on_disconnect(self, _client, _data, _flags, reason, _properties):
        self.end(code_of(reason))

    def _on_suback(self, _client, _data, mid, reasons, _properties):
        self._settle(mid, code_of(reasons[0]))

    def _on_puback(self, _client, _data, mid, reason, _properties):
        self._settle(mid, code_of(reason))

    def _settle(self, mid: int, code: int) -> None:
        """An answer came, perhaps before the call that asks for it has returned."""
        self.loop.call_soon_threadsafe(lambda: self._future(mid).set_result(code))

    def _future(self, mid: int) -> asyncio.Future[int]:
        return self._pending.setdefault(mid, self.loop.create_future())

    async def _answer(self, mid: int | None) -> int:
        assert mid is not None
        code = await asyncio.wait_for(self._future(mid), GUARD_SECONDS)
        del self._pending[mid]
        return code

    async def subscribe(self, filter: str, qos: int = 0, identifier: int = 0) -> int:
        properties = subscribe_properties(identifier)
        return await self._answer(self._paho.subscribe(filter, qos, properties=properties)[1])

    async def publish(self, topic, payload=b"", qos=0, retain=False, properties=NONE) -> None:
        found = packed(properties) if self.version == V5 else None
        sent = self._paho.publish(topic, payload, qos, retain, found)
        code = await self._answer(sent.mid)
        if code >= 0x80:
            raise Refused(code)

    async def leave(self) -> None:
        self._paho.disconnect()
        await self._end()

    async def vanish(self) -> None:
        wrapped: Any = self._paho.socket()
        if wrapped is not None:
            getattr(wrapped, "_socket", wrapped).shutdown(2)
        await self._end()

    async def _end(self) -> None:
        with suppress(AttributeError):  # its thread has ended by itself while paho looked for it
            await asyncio.to_thread(self._paho.loop_stop)
        self._paho._reset_sockets(sockpair_only=False)  # else it is left to the collector


class AiomqttClient(Client):
    """aiomqtt: paho, driven by our loop."""

    _pump: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        options = self.options
        v5 = self.version == V5
        will = options.will
        self._aiomqtt = aiomqtt.Client(
            self.host,
            self.port,
            identifier=options.client_id,
            protocol=aiomqtt.ProtocolVersion(self.version),
            clean_session=None if v5 else options.clean,
            clean_start=options.clean if v5 else 3,
            properties=connect_properties(self) if v5 else None,
            username=options.login.username,
            password=options.login.password,
            tls_context=tls_context(self) if self.tls else None,
            transport="websockets" if self.websocket else "tcp",
            timeout=GUARD_SECONDS,
            will=(
                aiomqtt.Will(
                    will.topic,
                    will.payload,
                    will.qos,
                    will.retain,
                    packed(will.properties, PacketTypes.WILLMESSAGE) if v5 else None,
                )
                if will is not None
                else None
            ),
        )
        self._aiomqtt.pending_calls_threshold = 10_000  # above, it logs warnings
        try:
            await self._aiomqtt.__aenter__()
        except aiomqtt.MqttCodeError as error:
            assert error.rc is not None
            raise refusal(self, error.rc) from None
        self._pump = asyncio.create_task(self._take())

    async def _take(self) -> None:
        async for found in self._aiomqtt.messages:
            self.inbox.put_nowait(message_of(found))

    async def subscribe(self, filter: str, qos: int = 0, identifier: int = 0) -> int:
        properties = subscribe_properties(identifier)
        [reason] = await self._aiomqtt.subscribe(filter, qos, properties=properties)
        return code_of(reason)

    async def publish(self, topic, payload=b"", qos=0, retain=False, properties=NONE) -> None:
        found = packed(properties) if self.version == V5 else None
        await self._aiomqtt.publish(topic, payload, qos, retain, found)

    async def leave(self) -> None:
        await self._stop()
        await self._aiomqtt.__aexit__(None, None, None)

    async def vanish(self) -> None:
        await self._stop()
        wrapped: Any = self._aiomqtt._client.socket()
        if wrapped is not None:
            getattr(wrapped, "_socket", wrapped).shutdown(2)
        with suppress(aiomqtt.MqttError):
            await asyncio.wait_for(asyncio.shield(self._aiomqtt._disconnected), GUARD_SECONDS)
        with suppress(aiomqtt.MqttError):
            await self._aiomqtt.__aexit__(None, None, None)

    async def _stop(self) -> None:
        assert self._pump is not None
        self._pump.cancel()
        await asyncio.wait([self._pump])
