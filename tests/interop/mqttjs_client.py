"""mqtt.js: clients in a node process, driven by JSON lines (node/clients.js)."""

import asyncio
import base64
import itertools
import json
import shutil
import subprocess
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .facade import GUARD_SECONDS, NONE, V5, V31, Client, Login, Message, Properties, Refused

__all__ = ["MqttjsClient", "missing", "stop_node"]

FOLDER = Path(__file__).parent / "node"
INSTALLED = FOLDER / "node_modules" / "mqtt"


def missing() -> str:
    """Why mqtt.js cannot run here."""
    if shutil.which("node") is None:
        return "node is not installed; `make test` installs it where it may"
    if not INSTALLED.is_dir():
        return "mqtt.js is not installed; `make test` does it, or `npm ci` in tests/interop/node"
    return ""


class Node:
    """The process; its answers are read by a thread, since tests have a loop each."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            ["node", str(FOLDER / "clients.js")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.clients: dict[int, MqttjsClient] = {}
        self.waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = {}
        self.numbers = itertools.count(1)
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if "id" not in told:
                client = self.clients.get(told["client"])
                if client is not None and "message" in told:
                    client.put(unpacked(told["message"]))
                elif client is not None:
                    client.end(told["ended"])
                continue
            loop, future = self.waiting.pop(told["id"])
            loop.call_soon_threadsafe(self.settle, future, told)

    @staticmethod
    def settle(future: asyncio.Future[Any], told: dict[str, Any]) -> None:
        if not future.done():
            future.set_result(told)

    async def ask(self, **request: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        number = next(self.numbers)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[dict[str, Any]] = loop.create_future()
        self.waiting[number] = (loop, future)
        self.process.stdin.write(json.dumps({"id": number, **request}) + "\n")
        self.process.stdin.flush()
        return await asyncio.wait_for(future, GUARD_SECONDS)

    def stop(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdin.close()
        self.process.stdout.close()


_node: Node | None = None


def node() -> Node:
    """The process, started when the first client needs it."""
    global _node
    if _node is None:
        _node = Node()
    return _node


def stop_node() -> None:
    """End the process, at the end of the tests."""
    global _node
    if _node is not None:
        _node.stop()
        _node = None


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def packed(properties: Properties) -> dict[str, Any]:
    return asdict(properties) | {"correlation": text_of(properties.correlation)}


def unpacked(found: dict[str, Any]) -> Message:
    properties = found["properties"]
    properties["correlation"] = base64.b64decode(properties["correlation"])
    properties["user"] = tuple((name, value) for name, value in properties["user"])
    properties["identifiers"] = tuple(properties["identifiers"])
    payload = base64.b64decode(found["payload"])
    own = Properties(**properties)
    return Message(found["topic"], payload, found["qos"], found["retain"], own)


def tls_options(login: Login) -> dict[str, str]:
    named = {"ca": login.ca, "cert": login.certificate, "key": login.key}
    return {name: Path(path).read_text() for name, path in named.items() if path}


class MqttjsClient(Client):
    """One client in the process."""

    scram: tuple[str, str] | None = None  # user and password, proven by AUTH packets

    async def connect(self) -> bool:
        options = self.options
        login = options.login
        self.number = next(node().numbers)
        properties: dict[str, Any] = {}
        if options.expiry_seconds:
            properties["sessionExpiryInterval"] = options.expiry_seconds
        if options.aliases:
            properties["topicAliasMaximum"] = options.aliases
        wanted: dict[str, Any] = {
            "clientId": options.client_id,
            "clean": options.clean,
            "protocolVersion": self.version,
            "protocolId": "MQIsdp" if self.version == V31 else "MQTT",
            "username": login.username,
            "password": login.password,
        }
        wanted |= tls_options(login)
        if options.origin:
            wanted["wsOptions"] = {"origin": options.origin}
        if self.version == V5:
            wanted["properties"] = properties
        if options.will is not None:
            wanted["will"] = asdict(options.will) | {
                "payload": text_of(options.will.payload),
                "properties": packed(options.will.properties),
            }
        scheme = "mqtts" if self.tls else "mqtt"
        url = self.ws_url if self.websocket else f"{scheme}://{self.host}:{self.port}"
        node().clients[self.number] = self
        told = await self._ask("connect", url=url, options=wanted, scram=self.scram)
        return bool(told["present"])

    async def _ask(self, op: str, **request: Any) -> dict[str, Any]:
        told = await node().ask(client=self.number, op=op, **request)
        if "error" not in told:
            return told
        if isinstance(told["code"], int):
            raise Refused(told["code"])
        raise ConnectionError(told["error"])

    async def subscribe(self, filter: str, qos: int = 0, identifier: int = 0) -> int:
        try:
            told = await self._ask("subscribe", filter=filter, qos=qos, identifier=identifier)
        except Refused as refused:
            return refused.code
        return int(told["granted"])

    async def publish(self, topic, payload=b"", qos=0, retain=False, properties=NONE) -> None:
        own = packed(properties) if self.version == V5 else None
        data = text_of(payload)
        await self._ask(
            "publish", topic=topic, payload=data, qos=qos, retain=retain, properties=own
        )

    async def leave(self) -> None:
        await self._end("leave")

    async def vanish(self) -> None:
        await self._end("vanish")

    async def _end(self, how: str) -> None:
        await self._ask(how)
        del node().clients[self.number]
