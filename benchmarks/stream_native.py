"""Our own broker over the native protocol, as an exchange: see ``stream_exchange.py``.

An APPEND is built once, and its answer looked at, not decoded, as long as it says that all went
well: the last byte is then the empty list of errors. A reader is a TAIL that gets blocks as they
stand in the log; it decodes them, and compares every body.
"""

import socket
import time
from typing import Any, Final

import msgspec

from ..broker.settings import QueueSettings
from ..broker.stream_settings import StreamSettings
from ..broker.streamreading import Chunk
from ..protocols.native.binding_operations import Bind, WireTarget
from ..protocols.native.frames import VERSION, append_frame, decode_reply
from ..protocols.native.operations import (
    OPERATIONS,
    DeclareQueue,
    ErrorReply,
    Publish,
    QueueInfoRequest,
    WirePosted,
)
from ..protocols.native.stream_operations import (
    Append,
    Checkpoint,
    ChunkReply,
    DeclareStream,
    GroupEventReply,
    JoinGroup,
    More,
    StreamInfoRequest,
    Tail,
    WireStart,
)
from ..storage.block import decode_block
from ..storage.log import Durability
from .drivers.connection import ask
from .drivers.driver import Refused
from .stream_cycle import Checker, StreamCycle
from .stream_exchange import Link, open_socket
from .stream_plan import StreamPlan

__all__ = ["Following", "NativeStreamDriver", "Sharing", "Writing"]

_NAME: Final = "bench"
_TOPIC: Final = "bench/topic"
_EMPTY_LIST: Final = 0x90
_CREDIT_BYTES: Final = 8 * 1024 * 1024
_COLD_SECONDS: Final = 30.0
_HELLO, _CREDIT = OPERATIONS["HELLO"], OPERATIONS["CREDIT"]
_ERROR, _DONE, _EVENT = OPERATIONS["ERROR"], OPERATIONS["DONE"], OPERATIONS["GROUP_EVENT"]
_decode_chunk = msgspec.msgpack.Decoder(ChunkReply).decode
_decode_event = msgspec.msgpack.Decoder(GroupEventReply).decode


def _frame(message: object) -> bytes:
    out = bytearray()
    append_frame(out, message)
    return bytes(out)


class NativeStreamDriver:
    """See ``stream_exchange.Driver``."""

    def __init__(self, plan: StreamPlan, cycle: StreamCycle) -> None:
        self._plan = plan
        self._cycle = cycle

    def prepare(self) -> None:
        """Have the stream, or the queues that are bound; after a restart, records in files."""
        plan = self._plan
        durability = Durability[plan.durability.upper()]
        with self._connect() as sock:
            if plan.shape == "fanout":
                settings = QueueSettings(durability=durability)
                for number in range(plan.targets):
                    name = f"q{number}"
                    _call(sock, DeclareQueue(1, name, settings))
                    _call(sock, Bind(1, _TOPIC, WireTarget("queue", name)))
                return
            shards = StreamSettings(durability=durability, retention_ms=0)
            info = _call(sock, DeclareStream(1, _NAME, shards, plan.shards)).streams[0]
            end = time.monotonic() + _COLD_SECONDS
            while plan.restarted and info.records and not all(each.files for each in info.shards):
                if time.monotonic() > end:
                    raise Refused("old records were not moved into files in time")
                time.sleep(0.1)
                info = _call(sock, StreamInfoRequest(1, _NAME)).streams[0]

    def _connect(self) -> socket.socket:
        sock = open_socket(self._plan.host, self._plan.port)
        hello = _frame((_HELLO, 1, VERSION, VERSION, "braidmq-bench", 0, "", b""))
        _reply(ask(sock, hello, _is_frame))
        return sock

    def appender(self, batch: int) -> Link:
        """APPENDs without keys."""
        requests = [_frame(Append(1, _NAME, some)) for some in self._cycle.batches(batch)]
        return Link(self._connect(), Writing(requests, batch))

    def replayer(self) -> Link:
        """A TAIL to the end, and another one."""
        return Link(self._connect(), Following(self._cycle, until_end=True))

    def follower(self) -> Link:
        """A TAIL."""
        return Link(self._connect(), Following(self._cycle, until_end=False))

    def member(self, number: int) -> Link:
        """A member that checkpoints every chunk."""
        return Link(self._connect(), Sharing(self._cycle, self._plan.batch))

    def publisher(self) -> Link:
        """PUBLISH with QoS 1."""
        bodies = self._cycle.bodies
        requests = [_frame(Publish(1, _TOPIC, [WirePosted(body)])) for body in bodies]
        return Link(self._connect(), Writing(requests, self._plan.targets))

    def stored(self) -> int:
        """What the stream holds, or the last queue."""
        plan = self._plan
        with self._connect() as sock:
            if plan.shape == "fanout":
                reply = _call(sock, QueueInfoRequest(1, f"q{plan.targets - 1}"))
                return int(reply.queues[0].messages) * plan.targets
            return int(_call(sock, StreamInfoRequest(1, _NAME)).streams[0].records)


def _is_frame(data: bytes) -> bool:
    return len(data) >= 4 and len(data) >= 4 + int.from_bytes(data[:4])


def _call(sock: socket.socket, request: object) -> Any:
    return _reply(ask(sock, _frame(request), _is_frame))


def _reply(data: bytes) -> Any:
    reply = decode_reply(memoryview(data)[4:])
    if isinstance(reply, ErrorReply):
        raise Refused(reply.text)
    return reply


def _frames(data: bytearray) -> list[bytes]:
    """Cut whole frames off the front. Raises Refused when one is an ERROR."""
    frames = []
    at, size = 0, len(data)
    while at + 4 <= size:
        end = at + 4 + int.from_bytes(data[at : at + 4])
        if end > size:
            break
        payload = bytes(memoryview(data)[at + 4 : end])
        if payload[1] == _ERROR:
            raise Refused(str(getattr(decode_reply(memoryview(payload)), "text", payload)))
        frames.append(payload)
        at = end
    if at:
        del data[:at]
    return frames


class Writing:
    """Sends requests in turn; each is answered by one frame, for so many records."""

    corrupt = 0

    def __init__(self, requests: list[bytes], records: int) -> None:
        self._requests = requests
        self._records = records
        self._sent = 0

    def request(self) -> bytes:
        """The next request."""
        self._sent += 1
        return self._requests[(self._sent - 1) % len(self._requests)]

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Count answers."""
        frames = _frames(data)
        for payload in frames:
            if payload[-1] != _EMPTY_LIST:
                raise Refused(str(decode_reply(memoryview(payload))))
        return len(frames) * self._records, b""


class _Reading:
    """Checks the records of chunks."""

    def __init__(self, checker: Checker) -> None:
        self._checker = checker

    @property
    def corrupt(self) -> int:
        """Bodies that were not what was due."""
        return self._checker.corrupt

    def _take(self, chunk: Chunk) -> int:
        """Check a chunk; how many bytes it has."""
        skip, left = chunk.skip, chunk.count
        for content in chunk.blocks:
            bodies = decode_block(content, 0).bodies(skip, left)
            self._checker.bodies(bodies)
            left -= len(bodies)
            skip = 0
        return sum(map(len, chunk.blocks))


class Following(_Reading):
    """A TAIL of one shard. Credit comes back when a chunk was read."""

    def __init__(self, cycle: StreamCycle, until_end: bool) -> None:
        super().__init__(Checker(cycle))
        self._until_end = until_end
        self._tails = 0

    def request(self) -> bytes:
        """A TAIL from the beginning."""
        self._tails += 1
        self._checker.rewind()
        where = [(0, 0)]
        return _frame(Tail(self._tails, _NAME, where, _CREDIT_BYTES, False, self._until_end))

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Check chunks, give their credit back, and begin again at the end."""
        records, answer = 0, b""
        for payload in _frames(data):
            if payload[1] == _DONE:
                continue
            reply = _decode_chunk(payload)
            size = self._take(reply.chunk)
            records += reply.chunk.count
            answer += self.request() if reply.last else _frame((_CREDIT, self._tails, size))
        return records, answer


class Sharing(_Reading):
    """A member: checkpoints each chunk, and asks for the next one when that is kept."""

    def __init__(self, cycle: StreamCycle, batch: int) -> None:
        super().__init__(Checker(cycle, ordered=False))
        self._batch = batch
        self._requests = 1
        self._unkept: dict[int, tuple[int, bytes]] = {}  # checkpoints: records, and the next MORE

    def request(self) -> bytes:
        """Join the group."""
        return _frame(JoinGroup(1, _NAME, "members", WireStart(), self._batch))

    def feed(self, data: bytearray) -> tuple[int, bytes]:
        """Checkpoint what came; it counts when that is kept."""
        records, answer = 0, b""
        for payload in _frames(data):
            if payload[1] == _EVENT:
                event = _decode_event(payload).event
                if event.chunk is not None:
                    self._take(event.chunk)
                    self._requests += 1
                    number, place = self._requests, (event.shard, event.epoch)
                    self._unkept[number] = event.chunk.count, _frame(More(1, *place))
                    answer += _frame(Checkpoint(number, 1, *place, event.chunk.next))
            elif payload[1] == _DONE:
                request = decode_reply(memoryview(payload)).request
                count, more = self._unkept.pop(request)
                records += count
                answer += more
        return records, answer
