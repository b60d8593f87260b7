"""stomp.py, with a thread for each connection, over TCP and WebSocket."""

import asyncio
import logging
import socket
from contextlib import suppress
from functools import partial
from typing import Any

import stomp
from stomp.adapter.ws import WSStompConnection

from .facade import Client, Message

__all__ = ["StomppyClient"]

_CLASSES = {
    "1.0": stomp.StompConnection10,
    "1.1": stomp.StompConnection11,
    "1.2": stomp.StompConnection12,
}

logging.getLogger("stomp.py").setLevel(logging.CRITICAL)  # it logs what tests ask for as errors


class _Listener(stomp.ConnectionListener):  # type: ignore[misc]  # it has no types
    def __init__(self, client: "StomppyClient") -> None:
        self.client = client

    def on_connected(self, frame: Any) -> None:
        self.client.on_connected(frame.headers)

    def on_message(self, frame: Any) -> None:
        self.client.on_message(frame.headers, frame.body)

    def on_receipt(self, frame: Any) -> None:
        self.client.on_receipt(frame.headers["receipt-id"])

    def on_error(self, frame: Any) -> None:
        self.client.on_error(frame.headers, frame.body)

    def on_disconnected(self) -> None:
        self.client.on_end()


class StomppyClient(Client):
    async def open(self) -> None:
        where = [(self.host, self.port)]
        more: dict[str, Any] = {"auto_decode": False, "reconnect_attempts_max": 1}
        if self.version != "1.0":
            more["heartbeats"] = self.options.beats
        if self.kind.websocket:
            path, binary = "/stomp", self.kind.binary
            self.connection = WSStompConnection(where, ws_path=path, binary_mode=binary, **more)
        else:
            self.connection = _CLASSES[self.version](where, **more)
        if self.is_tls:
            options = self.options
            own = {"cert_file": options.certificate or None, "key_file": options.key or None}
            self.connection.set_ssl(where, ca_certs=options.ca, **own)
        self.connection.set_listener("", _Listener(self))
        transport = self.connection.transport
        attempt = transport.attempt_connection

        def attempt_and_remember() -> None:
            """It forgets its socket, unclosed, when the broker hangs up."""
            attempt()
            self.socket = getattr(transport.socket, "sock", transport.socket)

        transport.attempt_connection = attempt_and_remember
        headers = {"client-id": self.options.client_id} if self.options.client_id else {}
        login, passcode = self.options.login or None, self.options.passcode or None
        await self._do(self.connection.connect, login, passcode, headers=headers)

    async def _do(self, call: Any, *arguments: Any, **more: Any) -> None:
        """It writes to a socket that the broker on this loop reads."""
        await asyncio.to_thread(partial(call, *arguments, **more))

    async def do_send(self, destination: str, body: bytes, headers: dict[str, str]) -> None:
        await self._do(self.connection.send, destination, body, headers=headers)

    async def do_subscribe(self, destination: str, id: str, ack: str, headers: dict[str, str]):
        own = None if self.version == "1.0" else id
        await self._do(self.connection.subscribe, destination, own, ack, headers)

    async def do_unsubscribe(self, id: str, headers: dict[str, str]) -> None:
        named = {"destination": id} if self.version == "1.0" else {"id": id}
        await self._do(self.connection.unsubscribe, headers=headers, **named)

    async def do_settle(
        self, message: Message, taken: bool, transaction: str, headers: dict[str, str]
    ) -> None:
        call = self.connection.ack if taken else self.connection.nack
        found = message.headers
        what = {
            "1.0": lambda: (found["message-id"],),
            "1.1": lambda: (found["message-id"], found["subscription"]),
            "1.2": lambda: (found["ack"],),
        }[self.version]()
        await self._do(call, *what, transaction=transaction or None, **headers)

    async def do_begin(self, transaction: str, headers: dict[str, str]) -> None:
        await self._do(self.connection.begin, transaction, headers)

    async def do_commit(self, transaction: str, headers: dict[str, str]) -> None:
        await self._do(self.connection.commit, transaction, headers)

    async def do_abort(self, transaction: str, headers: dict[str, str]) -> None:
        await self._do(self.connection.abort, transaction, headers)

    async def leave(self) -> None:
        await self._do(self.connection.disconnect)
        self.socket.close()

    async def vanish(self) -> None:
        with suppress(OSError):  # the broker was faster
            self.socket.shutdown(socket.SHUT_RDWR)
        await self._do(self.connection.transport.stop)
        self.socket.close()
