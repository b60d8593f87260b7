"""A proxy that counts heart-beats: what clients do not tell, the wire does."""

import asyncio
from contextlib import suppress

__all__ = ["BeatCounter"]


def _is_beat(data: bytes) -> bool:
    """A line feed; also as all there is of a frame of WebSocket, which a client masks."""
    if data == b"\n" or (data[:2] in (b"\x81\x01", b"\x82\x01") and data[2:] == b"\n"):
        return True
    if len(data) == 7 and data[:2] in (b"\x81\x81", b"\x82\x81"):
        return data[6] ^ data[2] == 10
    return False


class BeatCounter:
    """Passes on what a client and the broker say.

    Attributes:
        url: for the client. counts: how often the client's heart has beaten, and the broker's.
    """

    def __init__(self, url: str) -> None:
        self._scheme, _, where = url.rstrip("/").partition("://")
        host, _, port = where.partition(":")
        self._host, self._port = host, int(port)
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self._beaten = asyncio.Condition()
        self.counts = [0, 0]

    async def __aenter__(self) -> "BeatCounter":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"{self._scheme}://127.0.0.1:{port}"
        return self

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        self._writers += [writer, far_writer]
        for side, source, target in ((0, reader, far_writer), (1, far_reader, writer)):
            task = asyncio.create_task(self._copy(side, source, target))
            self._tasks.add(task)

    async def _copy(
        self, side: int, source: asyncio.StreamReader, target: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                target.write(data)
                if _is_beat(data):
                    async with self._beaten:
                        self.counts[side] += 1
                        self._beaten.notify_all()
        target.close()

    async def wait_for(self, count: int) -> None:
        """Return when both hearts have beaten so often."""
        async with self._beaten:
            await self._beaten.wait_for(lambda: min(self.counts) >= count)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
            with suppress(ConnectionError):
                await writer.wait_closed()
        await self._server.wait_closed()
