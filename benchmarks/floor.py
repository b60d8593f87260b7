"""The same load against a server that only commits: what sockets leave of the raw group commit.

It speaks as much of the native protocol as the load generator needs. A SEND is appended to a file
as it came, one thread writes and syncs what has gathered, and the answers go out, one write for
each request. Nothing is decoded, kept or delivered. What a broker behind sockets can reach at most
with the same clients is this, not the group commit of ``baseline.py``, whose clients share its
process.

Runs as its own process: ``python -m braidmq.benchmarks.floor FILE BATCH`` prints its port, and ends
when its standard input does.
"""

import asyncio
import os
import subprocess
import sys
import threading
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, cast
from zlib import crc32

import msgspec

from ..broker.settings import QueueSettings
from ..broker.verbs import BrokerInfo, QueueInfo
from ..protocols.native import operations as op
from ..protocols.native.frames import (
    VERSION,
    FrameBuffer,
    append_frame,
    decode_hello,
    decode_request,
)

__all__ = ["CommitOnly", "FloorProcess", "FloorServer"]

_FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
_HEARTBEAT_MS: Final = 600_000
_Waiter = tuple[asyncio.Transport, bytearray]


class CommitOnly:
    """Appends bytes to a file, and writes an answer to a transport when they are synced."""

    def __init__(self, path: str, loop: asyncio.AbstractEventLoop) -> None:
        self.commits = 0
        self.messages = 0
        self._loop = loop
        self._file = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        self._batches: SimpleQueue[list[bytes] | None] = SimpleQueue()
        self._parts: list[bytes] = []
        self._waiters: list[_Waiter] = []
        self._committing: list[_Waiter] = []
        self._busy = False
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def append(self, part: bytes, transport: asyncio.Transport, answer: bytearray) -> None:
        """Have ``part`` written, then ``answer`` sent."""
        self._parts.append(part)
        self._waiters.append((transport, answer))
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """End the thread."""
        self._batches.put(None)
        self._thread.join()
        os.close(self._file)

    def _flush(self) -> None:
        self._busy = bool(self._parts)
        if self._busy:
            self._committing, self._waiters = self._waiters, []
            parts, self._parts = self._parts, []
            self._batches.put(parts)

    def _write(self) -> None:
        while (parts := self._batches.get()) is not None:
            batch = b"".join(parts)
            os.write(self._file, crc32(batch).to_bytes(4, "big") + batch)
            os.fdatasync(self._file)
            self._loop.call_soon_threadsafe(self._committed)

    def _committed(self) -> None:
        self.commits += 1
        waiters = self._committing
        self._flush()
        for transport, answer in waiters:
            transport.write(answer)


class FloorServer(asyncio.Protocol):
    """One connection of the load generator."""

    def __init__(self, log: CommitOnly, batch: int) -> None:
        self._log = log
        self._batch = batch
        self._frames = FrameBuffer(_FRAME_BYTES_MAX)
        self._open = False
        self._transport = cast(asyncio.Transport, None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        frames = self._frames
        frames.feed(data)
        while (payload := frames.next_frame()) is not None:
            out = bytearray()
            if self._open and payload[1] == op.OPERATIONS["SEND"]:
                # The generator writes its request numbers in three bytes.
                request = payload[3] << 8 | payload[4]
                append_frame(out, (op.OPERATIONS["SENT"], request, [], []))
                self._log.append(bytes(payload), self._transport, out)
                self._log.messages += self._batch
            else:
                append_frame(out, self._answer(payload))
                self._transport.write(out)

    def _answer(self, payload: memoryview) -> object:
        if not self._open:
            self._open = True
            request = decode_hello(payload).request
            return op.Welcome(request, VERSION, "floor", 1, _HEARTBEAT_MS, {})
        asked = decode_request(payload)
        if isinstance(asked, op.DeclareQueue | op.QueueInfoRequest):
            info = _queue_info(asked.queue, self._log.messages)
            return op.QueuesReply(asked.request, [info])
        if isinstance(asked, op.BrokerInfoRequest):
            log = {"synced_commits": self._log.commits}
            return op.BrokerReply(asked.request, BrokerInfo("", 1, 0.0, 1, 0, 0, log))
        return op.DoneReply(asked.request)


def _queue_info(name: str, messages: int) -> QueueInfo:
    values: dict[str, Any] = dict.fromkeys(QueueInfo.__struct_fields__, 0)
    values |= {"name": name, "settings": QueueSettings(), "ready": messages}
    return QueueInfo(**values)


class FloorProcess:
    """``with FloorProcess(path, batch) as floor: ...`` gives ``floor.url`` and ``floor.pid``."""

    def __init__(self, path: str, batch: int) -> None:
        self._path = path
        self._batch = batch
        self.url = ""
        self.pid = 0

    def __enter__(self) -> "FloorProcess":
        command = [sys.executable, "-m", __name__, self._path, str(self._batch)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self._process.pid
        assert self._process.stdout is not None
        port = msgspec.json.decode(self._process.stdout.readline(), type=int)
        self.url = f"braid://127.0.0.1:{port}"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.communicate()


async def _serve(path: str, batch: int) -> None:
    loop = asyncio.get_running_loop()
    log = CommitOnly(path, loop)
    server = await loop.create_server(lambda: FloorServer(log, batch), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    log.close()


def _main(path: str, batch: int) -> None:
    if sys.platform == "win32":
        asyncio.run(_serve(path, batch))
    else:
        import uvloop

        uvloop.run(_serve(path, batch))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
