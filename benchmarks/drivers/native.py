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
from struct import Struct
from typing import Any, Final, TypeVar

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
from .connection import ask, converse, hang_up, login, open_socket
from .driver import Consumer, Kind, Refused, Wiring, slashed
from .incoming import Incoming

__all__ = [
    "GroupMember",
    "NativeClient",
    "NativeConsumer",
    "NativeDriver",
    "NativeProducer",
    "QueueConsumer",
    "StreamReader",
    "TopicConsumer",
]

_EMPTY_LIST: Final = 0x90
_NUMBER_ENDS: Final = {0xCC: 4, 0xCD: 5, 0xCE: 7}  # of a request, by its first byte
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
_length_of = Struct(">I").unpack_from

_Client = TypeVar("_Client", bound="NativeClient")
_Where = tuple[int, int, int]  # the member's request, the shard, the epoch


def _frame(message: object) -> bytes:
    payload = _encode(message)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload


def _is_frame(data: bytes) -> bool:
    return len(data) >= LENGTH_BYTES and len(data) >= LENGTH_BYTES + int.from_bytes(data[:4], "big")


def _read(payload: memoryview, ignored: str = "") -> Any:
    """A reply. Raises Refused when it is an ERROR, but for those with the ignored code."""
    reply = decode_reply(payload)
    if isinstance(reply, ErrorReply) and reply.code != ignored:
        raise Refused(f"{reply.code}: {reply.text}")
    return reply


def _call(sock: socket.socket, request: object, ignored: str = "") -> Any:
    """Ask, and wait for the reply. Raises OSError, Refused."""
    answer = ask(sock, _frame(request), _is_frame)
    return _read(memoryview(answer)[LENGTH_BYTES:], ignored)


def _hello(wiring: Wiring) -> Hello:
    user, password = login(wiring.url)
    name = wiring.client_id or "braidmq-bench"
    return Hello(1, VERSION, VERSION, name[:256], 0, user, password.encode())


def _open(wiring: Wiring) -> socket.socket:
    """A connection that was let in. Raises OSError, Refused."""
    sock = open_socket(wiring)
    try:
        _call(sock, _hello(wiring))
    except BaseException:
        sock.close()
        raise
    return sock


class NativeClient:
    """A connection that was let in; what it says and hears beside messages.

    Attributes:
        waiting: answers that have to come before it is what it is to be.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.out = bytearray()
        self.waiting = 0
        self._incoming = Incoming()

    def feed(self, data: bytes) -> None:
        """Cut frames, and take what they say. Raises Refused."""
        data = self._incoming.add(data)
        at, size, wanted_bytes = 0, len(data), 0
        view = memoryview(data)
        while at + LENGTH_BYTES <= size:
            begin = at + LENGTH_BYTES
            end = begin + _length_of(data, at)[0]
            if end > size:
                wanted_bytes = end - at
                break
            self._take(data[begin + 1], view[begin:end])
            at = end
        self._incoming.keep(data[at:], wanted_bytes)

    def _take(self, operation: int, payload: memoryview) -> None:
        """What a frame says."""
        if operation in (_DONE, _SUBSCRIBED, _JOINED):
            self.waiting -= self.waiting > 0
        elif operation == _ERROR:
            _read(payload)

    def close(self) -> None:
        """Hang up."""
        hang_up(self.socket, bytes(self.out))


def _opened(client: _Client) -> _Client:
    """Have all that it asks for first answered. Raises OSError, Refused."""
    converse(client, lambda: not client.waiting)
    return client


def _request_of(payload: memoryview) -> int:
    """The request number of a reply."""
    first = payload[2]
    return first if first < 0x80 else int.from_bytes(payload[3 : _NUMBER_ENDS[first]], "big")


class NativeProducer(NativeClient):
    """See ``driver.Producer``. Each publish is a request."""

    confirms = True

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self.confirmed: list[int] = []
        self.refused: list[int] = []
        self._wiring = wiring
        is_topic = wiring.kind == "topic"
        self._names = [slashed(name) if is_topic else name for name in wiring.names]
        self._next = 0  # number of the next message
        self._request = 1
        self._open: dict[int, tuple[int, int]] = {}  # request -> first message, behind the last

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


class NativeConsumer(NativeClient):
    """What consumers have in common: requests, and the answers to what is settled."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.bodies: list[bytes] = []
        self.receipts: list[Any] = []
        self._next_request = 1

    def _new_request(self) -> int:
        request = self._next_request
        self._next_request = request + 1
        return request

    def _take(self, operation: int, payload: memoryview) -> None:
        if operation != _SETTLED:
            super()._take(operation, payload)
        elif payload[-1] != _EMPTY_LIST:
            error = _read(payload).errors[0]
            raise Refused(f"{error.code}: {error.text}")

    def reject(self, receipts: Sequence[Any]) -> None:
        """Only queues have that. Raises Refused."""
        raise Refused("nothing can be rejected here")


class QueueConsumer(NativeConsumer):
    """CONSUME of each queue; receipts are of the first one, or begin with the place of theirs."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self._names = wiring.names
        self._used = [0] * len(wiring.names)  # credit to be given back
        self._step = max(1, wiring.prefetch // _CREDIT_PARTS)
        self.waiting = len(wiring.names)
        for name in wiring.names:
            append_frame(self.out, (_CONSUME, self._new_request(), name, wiring.prefetch))

    def _take(self, operation: int, payload: memoryview) -> None:
        if operation == _DELIVER:
            _, request, _, items = _decode_deliver(payload)
            self.bodies += [item.body for item in items]
            receipts: list[Any] = [(item.seq, item.token) for item in items]
            if len(self._used) > 1:
                receipts = list(zip(repeat(request - 1), receipts))
            self.receipts += receipts
        else:
            super()._take(operation, payload)

    def _settle(self, operation: int, place: int, receipts: Sequence[Any]) -> None:
        name = self._names[place]
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


class TopicConsumer(NativeConsumer):
    """SUBSCRIBE to all filters; a receipt is that of the queue behind it, or None."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self._used = 0  # credit to be given back
        self._step = max(1, wiring.prefetch // _CREDIT_PARTS)
        self.waiting = 1
        filters = [slashed(name) for name in wiring.names]
        durable = wiring.client_id if wiring.durable and wiring.qos and not wiring.group else ""
        expiry_ms = _SESSION_EXPIRY_MS if durable else 0
        fields = filters, wiring.prefetch, durable, wiring.group, expiry_ms
        append_frame(self.out, (_SUBSCRIBE, self._new_request(), *fields))

    def _take(self, operation: int, payload: memoryview) -> None:
        if operation == _EVENT:
            items = _decode_event(payload)[2]
            self.bodies += [item.body for item in items]
            self.receipts += [
                (item.queue, (item.seq, item.token)) if item.queue else None for item in items
            ]
        else:
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


class StreamReader(NativeConsumer):
    """A TAIL of all shards of each stream; nothing is acknowledged."""

    def __init__(self, sock: socket.socket, places: dict[str, list[tuple[int, int]]]) -> None:
        """``places``: of each stream, where to begin in each shard, by its index."""
        super().__init__(sock)
        self.waiting = len(places)
        for name, shards in places.items():
            append_frame(self.out, Tail(self._new_request(), name, shards, _TAIL_CREDIT_BYTES))

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


class GroupMember(NativeConsumer):
    """JOIN_GROUP of each stream; a receipt is ``(member, shard, epoch)`` and the next number."""

    def __init__(self, sock: socket.socket, wiring: Wiring) -> None:
        super().__init__(sock)
        self._ends: dict[_Where, int] = {}  # of the chunk of each shard
        self.waiting = len(wiring.names)
        start = WireStart("earliest" if wiring.from_start else "latest")
        for name in wiring.names:
            join = JoinGroup(self._new_request(), name, wiring.group, start, wiring.prefetch)
            append_frame(self.out, join)

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
            self.receipts += zip(repeat(where), range(begin + 1, event.chunk.next + 1))
            if not bodies:
                self._checkpoint(where, event.chunk.next)
        elif operation == _ERROR:
            _read(payload, ignored="lease-lost")  # of a checkpoint: the shard was taken away
        else:
            super()._take(operation, payload)

    def _checkpoint(self, where: _Where, number: int) -> None:
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

    kinds: frozenset[Kind] = frozenset({"queue", "fifo", "topic", "stream"})
    features = frozenset(
        {
            *("confirms", "keys", "delay", "reject", "retain", "wildcards", "groups", "tls"),
            "dead_letters",
        }
    )

    def declare(self, wiring: Wiring) -> None:
        """Delete queues and streams, and declare them; topics are there when they are used."""
        durability = Durability.SYNC if wiring.durable else Durability.MEMORY
        with _open(wiring) as sock:
            for name in wiring.names if wiring.kind != "topic" else ():
                if wiring.kind == "stream":
                    stream = StreamSettings(durability=durability, retention_ms=0)
                    _call(sock, DeleteStream(1, name), ignored="not-found")
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
                        _call(sock, DeleteQueue(1, each), ignored="not-found")
                _call(sock, DeclareQueue(2, name, queue))

    def connect(self, wiring: Wiring) -> NativeClient:
        """HELLO and WELCOME."""
        return _opened(NativeClient(_open(wiring)))

    def greeting(self, wiring: Wiring) -> bytes:
        """HELLO."""
        return _frame(_hello(wiring))

    def is_greeted(self, data: bytes) -> bool:
        """WELCOME, or an ERROR, which raises Refused."""
        if not _is_frame(data):
            return False
        _read(memoryview(data)[LENGTH_BYTES:])
        return True

    def producer(self, wiring: Wiring) -> NativeProducer:
        """A connection that publishes."""
        return _opened(NativeProducer(_open(wiring), wiring))

    def consumer(self, wiring: Wiring) -> Consumer:
        """A connection that is consumed from."""
        if wiring.kind == "topic":
            return _opened(TopicConsumer(_open(wiring), wiring))
        if wiring.kind != "stream":
            return _opened(QueueConsumer(_open(wiring), wiring))
        if wiring.group:
            return _opened(GroupMember(_open(wiring), wiring))
        places = _places(wiring)
        return _opened(StreamReader(_open(wiring), places))


def _places(wiring: Wiring) -> dict[str, list[tuple[int, int]]]:
    """Where a reader begins in each shard of each stream. Raises OSError, Refused."""
    places = {}
    with _open(wiring) as sock:
        for name in wiring.names:
            (info,) = _call(sock, StreamInfoRequest(1, name)).streams
            places[name] = [
                (shard.index, 0 if wiring.from_start else shard.next) for shard in info.shards
            ]
    return places
