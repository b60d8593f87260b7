"""@stomp/stompjs and ruby-stomp: clients in a process of their language (node/, ruby/)."""

import base64
import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any

from ..remote import Remote
from .facade import Client, Message

__all__ = ["RubyClient", "StompjsClient", "no_ruby", "no_stompjs"]

FOLDER = Path(__file__).parents[1]
INSTALLED = FOLDER / "node" / "node_modules" / "@stomp" / "stompjs"


def no_stompjs() -> str:
    """Why stompjs cannot run here."""
    if shutil.which("node") is None:
        return "node is not installed; `make test` installs it where it may"
    if not INSTALLED.is_dir():
        return "stompjs is not installed; `make test` does it, or `npm ci` in tests/interop/node"
    return ""


@functools.cache
def no_ruby() -> str:
    """Why ruby-stomp cannot run here."""
    if shutil.which("ruby") is None:
        return "ruby is not installed; `make test` installs it where it may"
    found = subprocess.run(["ruby", "-e", 'require "stomp"'], capture_output=True, timeout=30)
    return "ruby-stomp is not installed; `make test` installs it where it may" * bool(
        found.returncode
    )


class RemoteClient(Client):
    """One client in a process."""

    command: tuple[str, ...]

    async def _ask(self, op: str, **request: Any) -> None:
        told = await self.remote.ask(client=self.number, op=op, **request)
        if "error" in told:
            raise ConnectionError(told["error"])

    async def open(self) -> None:
        self.remote = Remote.of(*self.command)
        self.number = next(self.remote.numbers)
        self.remote.on_event[self.number] = self._on_event
        await self._ask("open", options=self._options())

    def _options(self) -> dict[str, Any]:
        raise NotImplementedError

    @property
    def _tls(self) -> dict[str, str] | None:
        """The files that TLS needs, if it is spoken."""
        options = self.options
        files = {"ca": options.ca, "cert": options.certificate, "key": options.key}
        return {name: file for name, file in files.items() if file} if self.is_tls else None

    def _on_event(self, told: dict[str, Any]) -> None:
        if "connected" in told:
            self.on_connected(told["connected"])
        elif "message" in told:
            self.on_message(told["message"]["headers"], base64.b64decode(told["message"]["body"]))
        elif "receipt" in told:
            self.on_receipt(told["receipt"])
        elif "error" in told:
            self.on_error(told["error"]["headers"], base64.b64decode(told["error"]["body"]))
        else:
            self.on_end()

    async def do_send(self, destination: str, body: bytes, headers: dict[str, str]) -> None:
        data = base64.b64encode(body).decode()
        await self._ask("send", destination=destination, body=data, headers=headers)

    async def do_subscribe(self, destination: str, id: str, ack: str, headers: dict[str, str]):
        named = {"id": id, "ack": ack, **headers}
        await self._ask("subscribe", destination=destination, headers=named)

    async def do_settle(
        self, message: Message, taken: bool, transaction: str, headers: dict[str, str]
    ) -> None:
        found = message.headers
        mid = found["ack"] if self.version == "1.2" else found["message-id"]
        more = {"transaction": transaction} if transaction else {}
        await self._ask(
            "ack" if taken else "nack",
            mid=mid,
            sid=found.get("subscription"),
            headers={**headers, **more},
        )

    async def do_begin(self, transaction: str, headers: dict[str, str]) -> None:
        await self._ask("begin", transaction=transaction, headers=headers)

    async def do_commit(self, transaction: str, headers: dict[str, str]) -> None:
        await self._ask("commit", transaction=transaction, headers=headers)

    async def do_abort(self, transaction: str, headers: dict[str, str]) -> None:
        await self._ask("abort", transaction=transaction, headers=headers)

    async def leave(self) -> None:
        await self._end("leave")

    async def vanish(self) -> None:
        await self._end("vanish")

    async def _end(self, how: str) -> None:
        await self._ask(how)
        del self.remote.on_event[self.number]


class StompjsClient(RemoteClient):
    """stompjs names subscriptions in all versions."""

    command = ("node", str(FOLDER / "node" / "stomp.js"))

    def _options(self) -> dict[str, Any]:
        options, kind = self.options, self.kind
        named = {
            "host": self.host,
            "login": options.login,
            "passcode": options.passcode,
            "client-id": options.client_id,
        }
        return {
            "version": self.version,
            "websocket": kind.websocket,
            "binary": kind.binary,
            "host": self.host,
            "port": self.port,
            "url": f"{'wss' if self.is_tls else 'ws'}://{self.host}:{self.port}/stomp",
            "tls": self._tls,
            "beats": options.beats,
            "headers": {name: value for name, value in named.items() if value},
        }

    async def do_unsubscribe(self, id: str, headers: dict[str, str]) -> None:
        await self._ask("unsubscribe", sid=id, headers=headers)


class RubyClient(RemoteClient):
    """It can also end lines by CRLF; then it says STOMP for CONNECT, too."""

    command = ("ruby", str(FOLDER / "ruby" / "stomp.rb"))

    def _options(self) -> dict[str, Any]:
        options = self.options
        named = {"client-id": options.client_id}
        if self.version != "1.0":
            named |= {"accept-version": self.version, "host": self.host}
            named |= {"heart-beat": "{},{}".format(*options.beats)}
        return {
            "host": self.host,
            "port": self.port,
            "login": options.login,
            "passcode": options.passcode,
            "crlf": "crlf" in self.kind.can,
            "tls": self._tls,
            "headers": {name: value for name, value in named.items() if value},
        }

    async def do_unsubscribe(self, id: str, headers: dict[str, str]) -> None:
        named = {} if self.version == "1.0" else {"id": id}
        await self._ask("unsubscribe", destination=id, headers={**headers, **named})
