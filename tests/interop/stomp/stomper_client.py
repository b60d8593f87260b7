"""stomper, which writes and reads frames, over a stream of ours. It knows text only.

Its verbs have no room for headers, so frames with a receipt, or other headers, are its `Frame`.
"""

import asyncio
import codecs
from contextlib import suppress

from stomper import stomp_10, stomp_11
from stomper.stompbuffer import StompBuffer

from .facade import Client, Message

__all__ = ["StomperClient"]


class StomperClient(Client):
    async def open(self) -> None:
        self.stomper = stomp_10 if self.version == "1.0" else stomp_11
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port)
        login, passcode = self.options.login, self.options.passcode
        if self.options.client_id:
            more = {"accept-version": self.version, "host": self.host}
            await self._write(self._frame("CONNECT", {"client-id": self.options.client_id, **more}))
        elif self.version == "1.0":
            await self._write(stomp_10.connect(login, passcode))
        else:
            await self._write(stomp_11.connect(login, passcode, self.host))
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        buffer = StompBuffer()
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            while data := await self.reader.read(65536):
                buffer.appendData(decoder.decode(data))
                while (frame := buffer.getOneMessage()) is not None:
                    self._take(frame["cmd"], frame["headers"], frame["body"].encode())
        except ConnectionError:
            pass
        self.on_end()

    def _take(self, command: str, headers: dict[str, str], body: bytes) -> None:
        if command == "CONNECTED":
            self.on_connected(headers)
        elif command == "MESSAGE":
            self.on_message(headers, body)
        elif command == "RECEIPT":
            self.on_receipt(headers["receipt-id"])
        else:
            assert command == "ERROR"
            self.on_error(headers, body)

    async def _write(self, text: str) -> None:
        self.writer.write(text.encode())
        await self.writer.drain()

    def _frame(self, command: str, headers: dict[str, str], body: str = "") -> str:
        frame = self.stomper.Frame()
        frame.setCmd(command)
        frame.headers = headers
        frame.body = body
        return str(frame.pack())

    async def do_send(self, destination: str, body: bytes, headers: dict[str, str]) -> None:
        if headers:
            named = {"destination": destination, **headers}
            await self._write(self._frame("SEND", named, body.decode()))
        else:
            await self._write(self.stomper.send(destination, body.decode()))

    async def do_subscribe(self, destination: str, id: str, ack: str, headers: dict[str, str]):
        named = {"destination": destination, "ack": ack, **headers}
        if self.version != "1.0":
            named["id"] = id
        await self._write(self._frame("SUBSCRIBE", named))

    async def do_unsubscribe(self, id: str, headers: dict[str, str]) -> None:
        await self._write(self.stomper.unsubscribe(id))

    async def do_settle(
        self, message: Message, taken: bool, transaction: str, headers: dict[str, str]
    ) -> None:
        what = [message.headers["message-id"]]
        if self.version != "1.0":
            what.append(message.headers["subscription"])
        write = self.stomper.ack if taken else self.stomper.nack
        await self._write(write(*what, transaction or None))

    async def do_begin(self, transaction: str, headers: dict[str, str]) -> None:
        await self._write(self.stomper.begin(transaction))

    async def do_commit(self, transaction: str, headers: dict[str, str]) -> None:
        await self._write(self.stomper.commit(transaction))

    async def do_abort(self, transaction: str, headers: dict[str, str]) -> None:
        await self._write(self.stomper.abort(transaction))

    async def leave(self) -> None:
        await self._write(self.stomper.disconnect())
        self.writer.write_eof()
        await self.task
        await self._close()

    async def vanish(self) -> None:
        self.task.cancel()
        self.writer.transport.abort()
        await self._close()

    async def _close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()
