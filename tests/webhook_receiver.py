"""Somebody on loopback who is posted to: an HTTP server that answers as a test says."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

__all__ = ["OK", "Received", "Receiver", "answer"]


@dataclass
class Received:
    """One request. Names of headers are in small letters."""

    line: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """A whole answer."""
    head = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


OK = answer(200)
Answering = Callable[[Received], bytes | None]


class Receiver:
    """``async with Receiver() as receiver``: keeps what comes, and answers it.

    Attributes:
        answering: what to answer to a request; None says nothing more and hangs up never.
        requests: what came, in order.
        url: where it is.
    """

    def __init__(self, answering: Answering = lambda request: OK) -> None:
        self.answering = answering
        self.requests: list[Received] = []
        self.port = 0
        self.url = ""
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def bodies(self) -> list[bytes]:
        return [request.body for request in self.requests]

    async def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait until something is so; looked at with every request."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                self._changed.set()
                said = self.answering(request)
                if said is None:
                    await asyncio.Event().wait()
                writer.write(said or b"")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Received:
    line, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
    pairs = (each.partition(": ") for each in rest)
    headers = {name.lower(): value for name, _, value in pairs}
    return Received(line, headers, await reader.readexactly(int(headers["content-length"])))
