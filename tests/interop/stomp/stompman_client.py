"""stompman, which speaks 1.2 with asyncio, over TCP and WebSocket.

It reconnects by itself, so a test that ends its connection stops its reading first. It chooses the
names of subscriptions and transactions, and asks for receipts itself.
"""

import asyncio
from contextlib import suppress
from typing import Any, cast

import stompman
from stompman.connection import Connection
from stompman.connection_ws import WebSocketConnection

from .facade import BARRIER, GUARD_SECONDS, Client, Message, Refused

__all__ = ["StompmanClient"]

_CHUNK_BYTES = 4 * 1024 * 1024  # of WebSocket, it takes no larger messages


class StompmanClient(Client):
    async def open(self) -> None:
        options = self.options
        more: dict[str, str] = {"client-id": options.client_id} if options.client_id else {}
        self._transactions: dict[str, Any] = {}
        self._begun: dict[str, Any] = {}  # the context managers of transactions
        self._subscriptions: dict[str, Any] = {}
        self._frames: dict[str, Any] = {}
        websocket = self.kind.websocket
        server = stompman.ConnectionParameters(
            host=self.host,
            port=self.port,
            login=options.login,
            passcode=options.passcode,
            ws_uri_path="/stomp" if websocket else None,
            connect_headers=more,
        )
        self.client = stompman.Client(
            [server],
            on_error_frame=lambda frame: self.on_error(
                cast(dict[str, str], frame.headers), frame.body
            ),
            heartbeat=stompman.Heartbeat(*options.beats),
            connect_retry_attempts=1,
            connect_retry_interval=0,
            keep_alive_on_connection_failure=True,
            write_retry_attempts=1,
            connection_confirmation_timeout=1,
            read_max_chunk_size=_CHUNK_BYTES,
            connection_class=WebSocketConnection if websocket else Connection,
        )
        try:
            await self.client.__aenter__()
        except BaseExceptionGroup as group:
            self._tell(group)
            return
        except stompman.FailedAllConnectAttemptsError as error:
            self._tell(error)
            return
        self.on_connected({})
        # It would connect again: have it wait for ever before that, to be stopped there.
        manager = self.client._connection_manager
        manager.servers = []
        manager.connect_retry_interval = 3600

    def _tell(self, error: BaseException) -> None:
        """Of a refused CONNECT it keeps the ERROR in its exception, or nothing at all."""
        found = repr(error)
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        for issue in getattr(error, "issues", ()):
            for frame in getattr(issue, "frames", ()):
                if isinstance(frame, stompman.ErrorFrame):
                    self.on_error(cast(dict[str, str], frame.headers), frame.body)
                    return
        self.on_error({"message": found}, b"")

    async def do_send(self, destination: str, body: bytes, headers: dict[str, str]) -> None:
        headers = dict(headers)
        receipt = headers.pop("receipt", "")
        transaction = headers.pop("transaction", "")
        kind = headers.pop("content-type", None)
        if transaction:
            await self._transactions[transaction].send(
                body, destination, headers=headers, content_type=kind
            )
            if receipt:
                await self.do_send(BARRIER, b"", {"receipt": receipt})
            return
        timeout = GUARD_SECONDS if receipt else None
        try:
            await self.client.send(
                body, destination, headers=headers, content_type=kind, receipt_timeout=timeout
            )
        except stompman.SendReceiptError as error:
            if error.frame is None:
                raise
            raise Refused(cast(dict[str, str], error.frame.headers), error.frame.body) from None
        if receipt:
            self.on_receipt(receipt)

    async def do_subscribe(self, destination: str, id: str, ack: str, headers: dict[str, str]):
        headers = dict(headers)
        receipt = headers.pop("receipt")

        async def take(frame: Any) -> None:
            self._frames[frame.headers["message-id"]] = frame
            self.on_message(frame.headers, frame.body)

        subscription = await self.client.subscribe_with_manual_ack(
            destination, take, ack=cast(Any, ack), headers=headers, receipt_timeout=GUARD_SECONDS
        )
        self.on_receipt(receipt)
        self._subscriptions[subscription.id] = subscription
        return subscription.id

    async def do_unsubscribe(self, id: str, headers: dict[str, str]) -> None:
        await self._subscriptions.pop(id).unsubscribe()

    async def do_settle(
        self, message: Message, taken: bool, transaction: str, headers: dict[str, str]
    ) -> None:
        frame = self._frames.pop(message.headers["message-id"])
        await (frame.ack() if taken else frame.nack())

    async def do_begin(self, transaction: str, headers: dict[str, str]) -> str:
        begun = self.client.begin()
        entered = await begun.__aenter__()
        self._transactions[entered.id] = entered
        self._begun[entered.id] = begun
        return str(entered.id)

    async def do_commit(self, transaction: str, headers: dict[str, str]) -> None:
        del self._transactions[transaction]
        await self._begun.pop(transaction).__aexit__(None, None, None)

    async def do_abort(self, transaction: str, headers: dict[str, str]) -> None:
        del self._transactions[transaction]
        wanted = RuntimeError("abort")
        with suppress(RuntimeError):
            await self._begun.pop(transaction).__aexit__(RuntimeError, wanted, None)

    async def leave(self) -> None:
        for subscription in list(self._subscriptions.values()):
            await subscription.unsubscribe()
        await self.client.__aexit__(None, None, None)

    async def vanish(self) -> None:
        self.client._listen_task.cancel()
        state = self.client._connection_manager._active_connection_state
        if state is not None:
            connection: Any = state.connection
            if self.kind.websocket:
                connection.websocket.transport.abort()
            else:
                connection.writer.transport.abort()
        gone = RuntimeError("gone")
        with suppress(Exception):
            async with asyncio.timeout(GUARD_SECONDS):
                await self.client.__aexit__(RuntimeError, gone, None)
