"""The client of amqtt: MQTT 3.1.1 over TCP and over WebSocket."""

import asyncio
from contextlib import suppress
from typing import Any

from amqtt.client import MQTTClient
from amqtt.errors import ConnectError

from .facade import GUARD_SECONDS, NONE, Client, Message, Refused

__all__ = ["AmqttClient"]


class AmqttClient(Client):
    _pump: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        options = self.options
        config: dict[str, Any] = {
            "auto_reconnect": False,
            "keep_alive": 60,
            "plugins": {},
            "connection": {"cafile": options.login.ca} if self.tls else {},
        }
        if options.will is not None:
            will = options.will
            config["will"] = {
                "topic": will.topic,
                "message": will.payload.decode(),
                "qos": will.qos,
                "retain": will.retain,
            }
        self._amqtt = MQTTClient(options.client_id, config)
        login = options.login
        who = f"{login.username}:{login.password}@" if login.username is not None else ""
        scheme = ("wss" if self.tls else "ws") if self.websocket else self.scheme
        path = "/mqtt" if self.websocket else ""
        url = f"{scheme}://{who}{self.host}:{self.port}{path}"
        try:
            headers = {"Origin": options.origin} if options.origin else None
            await self._amqtt.connect(url, cleansession=options.clean, additional_headers=headers)
        except ConnectError as error:
            self._abort()  # it leaves the connection open
            raise Refused(error.return_code or 0) from None
        self._pump = asyncio.create_task(self._take())

    async def _take(self) -> None:
        while True:
            found = await self._amqtt.deliver_message()
            assert found is not None
            self.inbox.put_nowait(
                Message(found.topic, bytes(found.data or b""), found.qos or 0, found.retain)
            )

    async def subscribe(self, filter: str, qos: int = 0, identifier: int = 0) -> int:
        [code] = await asyncio.wait_for(self._amqtt.subscribe([(filter, qos)]), GUARD_SECONDS)
        return int(code)

    async def publish(self, topic, payload=b"", qos=0, retain=False, properties=NONE) -> None:
        await asyncio.wait_for(self._amqtt.publish(topic, payload, qos, retain), GUARD_SECONDS)

    async def leave(self) -> None:
        await self._stop()
        await self._amqtt.disconnect()

    async def vanish(self) -> None:
        await self._stop()
        self._abort()
        watch = self._amqtt._disconnect_task
        assert watch is not None
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(watch, GUARD_SECONDS)

    def _abort(self) -> None:
        handler: Any = self._amqtt._handler
        if handler is not None and handler.writer is not None:
            writer = handler.writer
            connection = writer._protocol if self.websocket else writer._writer
            connection.transport.abort()

    async def _stop(self) -> None:
        assert self._pump is not None
        self._pump.cancel()
        await asyncio.wait([self._pump])
