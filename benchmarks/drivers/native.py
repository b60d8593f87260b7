"""Our own protocol, ``braid://``: see PROTOCOL.md, which this follows by itself.

Rules:

1. Requests are encoded whole, by one call; answers are looked at, not decoded, as long as they say
   that all went well: the last byte of such a SENT, PUBLISHED, APPENDED or SETTLED is the empty
   list of errors.
2. Levels of names have ``/`` between them in topics, and ``.`` in queues and streams.
3. Consumers of queues and topics get ``prefetch`` as credit, and give it back as they acknowledge,
   some at a time. Readers of streams have their credit in bytes. Members of a group checkpoint what
   is acknowledged, and ask for more when they are through with a chunk.
4. A topic's consumer has a durable session when messages are to survive (``durable``, ``qos`` 1,
   a ``client_id``) and a shared one with a ``group``: these acknowledge, all others do not.
"""

import socket
from collections.abc import Sequence
from itertools import repeat
from typing import Any, Final

import msgspec

from ...broker.settings import QueueSettings
from ...broker.stream_settings import StreamSettings
from ...protocols.native.frames import LENGTH_BYTES, VERSION, append_frame, decode_reply
from ...protocols.native.operations import (
    OPERATIONS,
    DeclareQueue,
    DeleteQueue,
    ErrorReply,
    Hello,
    WireDelivery,
    WirePublished,
)
from ...protocols.native.stream_operations import (
    ChunkReply,
    DeclareStream,
    DeleteStream,
    GroupEventReply,
    JoinGroup,
    StreamInfoRequest,
    Tail,
    WireChunk,
    WireStart,
)
from ...storage.block import decode_block
from ...storage.log import Durability
from .connection import ask, hang_up, login, open_socket
from .driver import Client, Consumer, Kind, Producer, Refused, Wiring

__all__ = ["NativeDriver"]

_EMPTY_LIST: Final = 0x90
_READ_BYTES: Final = 256 * 1024
_TAIL_CREDIT_BYTES: Final = 8 * 1024 * 1024
_RECEIPTS_MAX: Final = 5_000  # in a request, which may have 256 KiB
_CREDIT_PARTS: Final = 4  # credit goes back when this part of it was used
_SESSION_EXPIRY_MS: Final = 60_000

_SEND = OPERATIONS["SEND"]
_PUBLISH = OPERATIONS["PUBLISH"]
_APPEND = OPERATIONS["APPEND"]
_CONSUME = OPERATIONS["CONSUME"]
_SUBSCRIBE = OPERATIONS["SUBSCRIBE"]
_CREDIT = OPERATIONS["CREDIT"]
_ACK = OPERATIONS["ACK"]
_NACK = OPERATIONS["NACK"]
_MORE = OPERATIONS["MORE"]
_CHECKPOINT = OPERATIONS["CHECKPOINT"]
_ERROR = OPERATIONS["ERROR"]
_DONE = OPERATIONS["DONE"]
_SUBSCRIBED = OPERATIONS["SUBSCRIBED"]
_JOINED = OPERATIONS["JOINED"]
_SETTLED = OPERATIONS["SETTLED"]
_DELIVER = OPERATIONS["DELIVER"]
_EVENT = OPERATIONS["EVENT"]
_CHUNK = OPERATIONS["CHUNK"]
_GROUP_EVENT = OPERATIONS["GROUP_EVENT"]

_decode_deliver = msgspec.msgpack.Decoder(tuple[int, int, bool, list[WireDelivery]]).decode
_decode_event = msgspec.msgpack.Decoder(tuple[int, int, list[WirePublished], int]).decode
_decode_chunk = msgspec.msgpack.Decoder(ChunkReply).decode
_decode_group_event = msgspec.msgpack.Decoder(GroupEventReply).decode
_encode = msgspec.msgpack.Encoder().encode


def _frame(message: object) -> bytes:
    payload = _encode(message)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def _is_frame(data: bytes) -> bool:
    return len(data) >= LENGTH_BYTES and len(data) >= LENGTH_BYTES + int.from_bytes(data[:4], "big")


def _reply(data: bytes) -> Any:
    reply = decode_reply(memoryview(data)[LENGTH_BYTES:])
    if isinstance(reply, ErrorReply):
        raise Refused(f"{reply.code}: {reply.text}")
    return reply


def _call(sock: socket.socket, request: object) -> Any:
    return _reply(ask(sock, _frame(request), _is_frame))


def _call_unless_missing(sock: socket.socket, request: object) -> None:
    """Delete what may not be there."""
    reply = decode_reply(memoryview(ask(sock, _frame(request), _is_frame))[LENGTH_BYTES:])
    if isinstance(reply, ErrorReply) and reply.code != "not-found":
        raise Refused(f"{reply.code}: {reply.text}")


def _greeting(wiring: Wiring) -> bytes:
    user, password = login(wiring.url)
    name = wiring.client_id or "braidmq-bench"
    return _frame(Hello(1, VERSION, VERSION, name[:256], 0, user, password.encode()))


def _topic(name: str) -> str:
    return name.replace(".", "/").replace("*", "+")


class _Connection:
    """A connection that does nothing. See ``driver.Client``."""

    def __init__(self, wiring: Wiring) -> None:
        self.out = bytearray()
        self._wiring = wiring
        self._rest = b""
        self._waiting = 0  # answers that the handshake waits for
        self.socket = open_socket(wiring)
        try:
            _reply(ask(self.socket, _greeting(wiring), _is_frame))
            self._begin(self.socket)
            self._converse()
        except BaseException:
            self.socket.close()
            raise
        self.socket.setblocking(False)

    def _begin(self, sock: socket.socket) -> None:
        """Put what is asked for first into ``out``."""

    def _converse(self) -> None:
        """Until all that was asked for first is answered."""
        self.socket.sendall(self.out)
        self.out.clear()
        while self._waiting:
            data = self.socket.recv(_READ_BYTES)
            if not data:
                raise Refused("the broker hung up")
            self.feed(data)

    def feed(self, data: bytes) -> None:
        """Cut frames, and take what they say. Raises Refused."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        view = memoryview(data)
        while at + LENGTH_BYTES <= size:
            end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
            if end > size:
                break
            self._take(data[at + 5], view[at + LENGTH_BYTES : end])
            at = end
        self._rest = data[at:]

    def _take(self, operation: int, payload: memoryview) -> None:
        """What a frame says."""
        if operation in (_DONE, _SUBSCRIBED, _JOINED):
            self._waiting -= self._waiting > 0
        elif operation == _ERROR:
            reply = decode_reply(payload)
            raise Refused(f"{getattr(reply, 'code', '')}: {getattr(reply, 'text', '')}")

    def close(self) -> None:
        """Hang up."""
        hang_up(self.socket, bytes(self.out))


def _request_of(payload: memoryview) -> int:
    """The request number of a reply."""
    first = payload[2]
    if first < 0x80:
        return first
    size = {0xCC: 1, 0xCD: 2, 0xCE: 4}[first]
    return int.from_bytes(payload[3 : 3 + size], "big")


class _Producer(_Connection):
    """See ``driver.Producer``. Each publish is a request."""

    confirms = True

    def __init__(self, wiring: Wiring) -> None:
        self.confirmed: list[int] = []
        self.refused: list[int] = []
        self._names = [_topic(each) for each in wiring.names]
        if wiring.kind != "topic":
            self._names = list(wiring.names)
        self._next = 0  # number of the next message
        self._request = 1
        self._open: dict[int, tuple[int, int]] = {}  # request -> first message, behind the last
        super().__init__(wiring)

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """One SEND, PUBLISH or APPEND."""
        wiring, name, request = self._wiring, self._names[to], self._request
        message: tuple[object, ...]
        if wiring.kind == "queue" and not delay_ms:
            message = _SEND, request, name, list(zip(bodies))
        elif wiring.kind == "topic":
            posted: Any = zip(bodies)
            if wiring.retain:
                posted = zip(bodies, repeat(b""), repeat(True))
            message = _PUBLISH, request, name, list(posted), min(wiring.qos, 1)
        elif wiring.kind == "stream":
            message = _APPEND, request, name, bodies, [key.encode() for key in keys]
        else:
            groups = keys or repeat("0" if wiring.kind == "fifo" else "")
            delay = delay_ms or -1
            outgoing = zip(bodies, repeat(b""), repeat(delay), repeat(0), repeat(4), groups)
            message = _SEND, request, name, list(outgoing)
        append_frame(self.out, message)
        self._request = request + 1
        self._open[request] = self._next, self._next + len(bodies)
        self._next += len(bodies)

    def _take(self, operation: int, payload: memoryview) -> None:
        first, end = self._open.pop(_request_of(payload), (0, 0))
        if first == end:
            super()._take(operation, payload)
        elif payload[-1] == _EMPTY_LIST:
            if end - first == 1:
                self.confirmed.append(first)
            else:
                self.confirmed.extend(range(first, end))
        else:
            reply = decode_reply(payload)
            if isinstance(reply, ErrorReply):
                self.refused.extend(range(first, end))
                return
            wrong = {first + error.index for error in getattr(reply, "errors", ())}
            self.refused.extend(wrong)
            self.confirmed.extend(each for each in range(first, end) if each not in wrong)


class _NativeConsumer(_Connection):
    """What consumers have in common: credit, and requests that settle."""

    def __init__(self, wiring: Wiring) -> None:
        self.bodies: list[bytes] = []
        self.receipts: list[Any] = []
        self._next_request = 1
        super().__init__(wiring)

    def _new_request(self) -> int:
        request = self._next_request
        self._next_request = request + 1
        return request

    def reject(self, receipts: Sequence[Any]) -> None:
        """Only queues have that. Raises Refused."""
        raise Refused("nothing can be rejected here")


class _QueueConsumer(_NativeConsumer):
    """CONSUME of each queue; receipts are of the first one, or begin with the place of theirs."""

    def __init__(self, wiring: Wiring) -> None:
        self._used = [0] * len(wiring.names)  # credit to be given back
        self._step = max(1, wiring.prefetch // _CREDIT_PARTS)
        super().__init__(wiring)

    def _begin(self, sock: socket.socket) -> None:
        for name in self._wiring.names:
            request = self._new_request()
            append_frame(self.out, (_CONSUME, request, name, self._wiring.prefetch))
            self._waiting += 1

    def _take(self, operation: int, payload: memoryview) -> None:
        if operation == _DELIVER:
            _, request, _, items = _decode_deliver(payload)
            self.bodies += [item.body for item in items]
            receipts: list[Any] = [(item.seq, item.token) for item in items]
            if not self._wiring.acknowledges:
                self._settle(_ACK, request - 1, receipts)
            if len(self._used) > 1:
                receipts = list(zip(repeat(request - 1), receipts))
            self.receipts += receipts
        elif operation != _SETTLED:
            super()._take(operation, payload)

    def _settle(self, operation: int, place: int, receipts: Sequence[Any]) -> None:
        name = self._wiring.names[place]
        for at in range(0, len(receipts), _RECEIPTS_MAX):
            some = receipts[at : at + _RECEIPTS_MAX]
            append_frame(self.out, (operation, self._new_request(), name, some))
        self._used[place] += len(receipts)
        if self._used[place] >= self._step:
            append_frame(self.out, (_CREDIT, place + 1, self._used[place]))
            self._used[place] = 0

    def _settle_all(self, operation: int, receipts: Sequence[Any]) -> None:
        if len(self._used) == 1:
            self._settle(operation, 0, receipts)
            return
        by_place: dict[int, list[Any]] = {}
        for place, receipt in receipts:
            by_place.setdefault(place, []).append(receipt)
        for place, some in by_place.items():
            self._settle(operation, place, some)

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """ACK, and CREDIT for more."""
        self._settle_all(_ACK, receipts)

    def reject(self, receipts: Sequence[Any]) -> None:
        """NACK: they come again at once."""
        self._settle_all(_NACK, receipts)


class _TopicConsumer(_NativeConsumer):
    """SUBSCRIBE to all filters; a receipt is that of the queue behind it, or None."""

    def __init__(self, wiring: Wiring) -> None:
        self._used = 0
        self._step = max(1, wiring.prefetch // _CREDIT_PARTS)
        super().__init__(wiring)

    def _begin(self, sock: socket.socket) -> None:
        wiring = self._wiring
        filters = [_topic(name) for name in wiring.names]
        durable = wiring.client_id if wiring.durable and wiring.qos and not wiring.group else ""
        expiry_ms = _SESSION_EXPIRY_MS if durable else 0
        fields = filters, wiring.prefetch, durable, wiring.group, expiry_ms
        append_frame(self.out, (_SUBSCRIBE, self._new_request(), *fields))
        self._waiting += 1

    def _take(self, operation: int, payload: memoryview) -> None:
        if operation == _EVENT:
            items = _decode_event(payload)[2]
            self.bodies += [item.body for item in items]
            leased = [
                (item.queue, (item.seq, item.token)) if item.queue else None for item in items
            ]
            self.receipts += leased
            if not self._wiring.acknowledges:
                self.acknowledge(leased)
        elif operation != _SETTLED:
            super()._take(operation, payload)

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """ACK what is leased, and CREDIT for more."""
        by_queue: dict[str, list[Any]] = {}
        for receipt in receipts:
            if receipt is not None:
                by_queue.setdefault(receipt[0], []).append(receipt[1])
        for queue, some in by_queue.items():
            for at in range(0, len(some), _RECEIPTS_MAX):
                part = some[at : at + _RECEIPTS_MAX]
                append_frame(self.out, (_ACK, self._new_request(), queue, part))
        self._used += len(receipts)
        if self._used >= self._step:
            append_frame(self.out, (_CREDIT, 1, self._used))
            self._used = 0


def _bodies(chunk: WireChunk) -> list[bytes]:
    """The records of a chunk."""
    bodies: list[bytes] = []
    skip, left = chunk.skip, chunk.count
    for content in chunk.blocks:
        some = decode_block(content, 0).bodies(skip, left)
        bodies += some
        left -= len(some)
        skip = 0
    return bodies


class _StreamReader(_NativeConsumer):
    """A TAIL of all shards of each stream; nothing is acknowledged."""

    def _begin(self, sock: socket.socket) -> None:
        for name in self._wiring.names:
            info = _call(sock, StreamInfoRequest(self._new_request(), name)).streams[0]
            old = self._wiring.from_start
            places = [(each.index, 0 if old else each.next) for each in info.shards]
            append_frame(self.out, Tail(self._new_request(), name, places, _TAIL_CREDIT_BYTES))
            self._waiting += 1

    def _take(self, operation: int, payload: memoryview) -> None:
        if operation == _CHUNK:
            reply = _decode_chunk(payload)
            bodies = _bodies(reply.chunk)
            self.bodies += bodies
            self.receipts += [None] * len(bodies)
            size = sum(map(len, reply.chunk.blocks))
            if not reply.last:
                append_frame(self.out, (_CREDIT, reply.request, size))
        else:
            super()._take(operation, payload)

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """Nobody asks for it."""


class _GroupMember(_NativeConsumer):
    """JOIN_GROUP of each stream; a receipt is (member, shard, epoch, number behind the record)."""

    def __init__(self, wiring: Wiring) -> None:
        self._ends: dict[tuple[int, int, int], int] = {}  # of the chunk of each shard
        super().__init__(wiring)

    def _begin(self, sock: socket.socket) -> None:
        wiring = self._wiring
        start = WireStart("earliest" if wiring.from_start else "latest")
        for name in wiring.names:
            join = JoinGroup(self._new_request(), name, wiring.group, start, wiring.prefetch)
            append_frame(self.out, join)
            self._waiting += 1

    def _take(self, operation: int, payload: memoryview) -> None:
        if operation == _GROUP_EVENT:
            reply = _decode_group_event(payload)
            event = reply.event
            if event.chunk is None:
                return
            bodies = _bodies(event.chunk)
            where = reply.request, event.shard, event.epoch
            begin = event.chunk.next - len(bodies)
            self._ends[where] = event.chunk.next
            self.bodies += bodies
            receipts = list(zip(repeat(where), range(begin + 1, event.chunk.next + 1)))
            self.receipts += receipts
            if not self._wiring.acknowledges or not receipts:
                self._checkpoint(where, event.chunk.next)
        elif operation != _ERROR or _request_of(payload) <= len(self._wiring.names):
            super()._take(operation, payload)  # an ERROR of a checkpoint: the shard was taken away

    def _checkpoint(self, where: tuple[int, int, int], number: int) -> None:
        member, shard, epoch = where
        append_frame(self.out, (_CHECKPOINT, self._new_request(), member, shard, epoch, number))
        if number >= self._ends[where]:
            append_frame(self.out, (_MORE, member, shard, epoch))

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """CHECKPOINT behind the last of each shard, and MORE at the end of a chunk."""
        if receipts and receipts[0][0] == receipts[-1][0]:
            self._checkpoint(*receipts[-1])
            return
        for where, number in dict(receipts).items():
            self._checkpoint(where, number)


class NativeDriver:
    """See ``driver.Driver``."""

    schemes = frozenset({"braid"})
    kinds: frozenset[Kind] = frozenset({"queue", "fifo", "topic", "stream"})
    features = frozenset(
        {
            *("confirms", "batches", "keys", "delay", "reject", "retain", "wildcards"),
            *("groups", "tls", "dead_letters"),
        }
    )

    def declare(self, wiring: Wiring) -> None:
        """Delete queues and streams, and declare them; topics are there when they are used."""
        durability = Durability.SYNC if wiring.durable else Durability.MEMORY
        with open_socket(wiring) as sock:
            _reply(ask(sock, _greeting(wiring), _is_frame))
            for name in wiring.names if wiring.kind != "topic" else ():
                if wiring.kind == "stream":
                    stream = StreamSettings(durability=durability, retention_ms=0)
                    _call_unless_missing(sock, DeleteStream(1, name))
                    _call(sock, DeclareStream(2, name, stream, wiring.partitions))
                    continue
                queue = QueueSettings(
                    fifo=wiring.kind == "fifo",
                    durability=durability,
                    max_receives=wiring.receives_max,
                    dead_letter=wiring.dead_letter,
                )
                for each in (name, wiring.dead_letter):
                    if each:
                        _call_unless_missing(sock, DeleteQueue(1, each))
                _call(sock, DeclareQueue(2, name, queue))

    def connect(self, wiring: Wiring) -> Client:
        """HELLO and WELCOME."""
        return _Connection(wiring)

    def greeting(self, wiring: Wiring) -> bytes:
        """HELLO."""
        return _greeting(wiring)

    def is_greeted(self, data: bytes) -> bool:
        """WELCOME, or an ERROR, which raises Refused."""
        if not _is_frame(data):
            return False
        _reply(data)
        return True

    def producer(self, wiring: Wiring) -> Producer:
        """A connection that publishes."""
        return _Producer(wiring)

    def consumer(self, wiring: Wiring) -> Consumer:
        """A connection that is consumed from."""
        if wiring.kind == "topic":
            return _TopicConsumer(wiring)
        if wiring.kind == "stream":
            return _GroupMember(wiring) if wiring.group else _StreamReader(wiring)
        return _QueueConsumer(wiring)
