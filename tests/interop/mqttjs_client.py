"""mqtt.js: clients in a node process, driven by JSON lines (node/clients.js)."""

import base64
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .facade import NONE, V5, V31, Client, Login, Message, Properties, Refused
from .remote import Remote

__all__ = ["MqttjsClient", "missing"]

FOLDER = Path(__file__).parent / "node"
INSTALLED = FOLDER / "node_modules" / "mqtt"


def missing() -> str:
    """Why mqtt.js cannot run here."""
    if shutil.which("node") is None:
        return "node is not installed; `make test` installs it where it may"
    if not INSTALLED.is_dir():
        return "mqtt.js is not installed; `make test` does it, or `npm ci` in tests/interop/node"
    return ""


def node() -> Remote:
    """The process, started when the first client needs it."""
    return Remote.of("node", str(FOLDER / "clients.js"))


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
        node().on_event[self.number] = self._on_event
        told = await self._ask("connect", url=url, options=wanted, scram=self.scram)
        return bool(told["present"])

    def _on_event(self, told: dict[str, Any]) -> None:
        if "message" in told:
            self.put(unpacked(told["message"]))
        else:
            self.end(told["ended"])

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
        del node().on_event[self.number]
