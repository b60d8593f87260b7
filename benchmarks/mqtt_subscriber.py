"""The subscribing process of an MQTT run: reads much at once, checks every byte, acknowledges.

It looks at its sockets every so often and sleeps in between, instead of waiting for them, except
where latency is measured: a broker that writes each message by itself then need not wake the reader
for each, which costs it a third of its speed (mosquitto 2.0.11, QoS 0: 225,000 messages a second to
a reader that waits, 340,000 to 380,000 to one that sleeps, as many to mosquitto_sub).
"""

import select
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from .drivers.driver import Refused
from .drivers.mqtt_packets import (
    PUBACK_HEAD,
    PUBLISH,
    Malformed,
    connect_packet,
    next_packet,
    parse_publish,
    refusal,
)
from .histogram import Histogram
from .mqtt_client import MqttClient, learn_heads
from .mqtt_cycle import STAMP, Expected, Stream, filters_of, topics_of
from .mqtt_plan import SAMPLE_NS, Plan, Sample, Side

__all__ = ["Told", "hold_idle", "subscribe"]

_BUFFER_BYTES: Final = 256 * 1024
_LOW_WATER_BYTES: Final = 16 * 1024
_PAUSE_SECONDS: Final = 0.0003
_PAUSE_MANY_SECONDS: Final = 0.001  # a look at many sockets costs more
_MANY: Final = 8
_WAIT_SECONDS: Final = 0.01
_SURPLUS_SECONDS: Final = 0.05  # after all came: what comes now came twice
_OPENING: Final = 200  # idle connections opened at once

Told = Callable[[], int]  # how many messages the publisher sent; -1 as long as it does


class _Reader:
    """A connection, its stream, and what does not fit yet: an incomplete packet, answers."""

    def __init__(self, client: MqttClient, stream: "Stream | _Paced") -> None:
        self.client = client
        self.stream = stream
        self._carry = client.start()
        self._answers = b""

    def read(self, buffer: bytearray, view: memoryview) -> int:
        """Take what is there; how many bytes."""
        kept = len(self._carry)
        view[:kept] = self._carry
        try:
            size = self.client.socket.recv_into(view[kept:])
        except BlockingIOError:
            self.answer(b"")
            return 0
        if not size:
            raise Refused("the broker hung up on a subscriber")
        done, answers = self.stream.feed(buffer, kept + size)
        self._carry = bytes(view[done : kept + size])
        self.answer(answers)
        return size

    def answer(self, answers: bytes) -> None:
        """Send acknowledgements; what the socket does not take waits for the next read."""
        answers = self._answers + answers
        if answers:
            try:
                self._answers = answers[self.client.socket.send(answers) :]
            except BlockingIOError:
                self._answers = answers


class _Paced:
    """The stream of a paced run: time from when a message was due until it was read."""

    def __init__(self, plan: Plan) -> None:
        self.count = self.received = self.duplicate = self.reordered = self.corrupt = 0
        self.latency = Histogram()
        self._version = plan.version
        self._warmup = int(plan.rate * plan.warmup)

    @staticmethod
    def due(sent: int) -> int:
        """How many should come."""
        return sent

    def feed(self, buffer: bytearray, filled: int) -> tuple[int, bytes]:
        """Take whole packets from the front."""
        now_ns, at, answers = time.monotonic_ns(), 0, b""
        with memoryview(buffer)[:filled] as view:
            while (found := next_packet(view, at)) is not None:
                first, begin, at = found
                if first >> 4 != PUBLISH:
                    raise Malformed(refusal(self._version, first, view[begin:at]))
                message = parse_publish(self._version, first, view[begin:at])
                sequence, due_ns = STAMP.unpack_from(message.payload)
                self.received += 1
                self.reordered += sequence != self.count
                self.count += 1
                if sequence >= self._warmup:
                    self.latency.record(now_ns - due_ns)
                if message.qos:
                    answers += PUBACK_HEAD + message.packet_id.to_bytes(2, "big")
        return at, answers


def subscribe(plan: Plan, ready: Callable[[], None], told: Told) -> Side:
    """Carry the subscribers' half of a plan out. Raises Refused, Malformed, OSError.

    ``ready`` is called when all subscriptions stand, ``told`` from time to time.
    """
    heads = _learn(plan)
    clients = [_connect(plan, number) for number in range(plan.subscribers)]
    for number, client in enumerate(clients):
        client.subscribe(filters_of(plan, number), plan.subscribe_qos)
    if plan.offline:
        for client in clients:
            client.close()
    streams = _streams(plan, heads)
    side = Side()
    if not plan.offline:
        ready()
        _read_all(plan, clients, streams, told, side)
        return side
    ready()
    while told() < 0:
        time.sleep(0.01)
    side.started_ns = time.monotonic_ns()
    _read_all(plan, [_connect(plan, n) for n in range(plan.subscribers)], streams, told, side)
    return side


def _connect(plan: Plan, number: int) -> MqttClient:
    name = f"bench-subscriber-{number}"
    return MqttClient(plan.host, plan.port, plan.version, name, not plan.offline)


def _learn(plan: Plan) -> dict[int, bytes]:
    """The head of each topic, from a connection that is gone when the load begins."""
    if plan.shape == "paced" or not plan.matches:
        return {}
    client = MqttClient(plan.host, plan.port, plan.version, "bench-learner")
    client.subscribe(["bench/#"], plan.subscribe_qos)
    heads = learn_heads(client, dict(enumerate(topics_of(plan))), plan.qos)
    client.close()
    return heads


def _streams(plan: Plan, heads: dict[int, bytes]) -> list[Stream | _Paced | None]:
    """What each subscriber gets; None for one that gets nothing."""
    shared: dict[frozenset[int], Expected] = {}  # those of the same topics get the same

    def expected(topics: frozenset[int]) -> Expected:
        if topics not in shared:
            shared[topics] = Expected(plan, {topic: heads[topic] for topic in topics})
        return shared[topics]

    return [_stream(plan, number, heads, expected) for number in range(plan.subscribers)]


def _stream(
    plan: Plan,
    number: int,
    heads: dict[int, bytes],
    expected: Callable[[frozenset[int]], Expected],
) -> Stream | _Paced | None:
    if plan.shape == "paced":
        return _Paced(plan)
    if not heads:
        return None
    if not plan.subscriptions or plan.matches > 1:
        return Stream(expected(frozenset(heads)))
    own = {name.replace("+", "kitchen") for name in filters_of(plan, number)}
    topics = topics_of(plan)
    mine = frozenset(topic for topic in heads if topics[topic] in own)
    return Stream(expected(mine)) if mine else None


def _read_all(
    plan: Plan,
    clients: list[MqttClient],
    streams: list[Stream | _Paced | None],
    told: Told,
    side: Side,
) -> None:
    """Read until everything came that was sent, or nothing comes any more."""
    readers = [
        _Reader(client, stream)
        for client, stream in zip(clients, streams, strict=True)
        if stream is not None
    ]
    buffer = bytearray(_BUFFER_BYTES)
    view, pause = memoryview(buffer), _pause(plan, readers)
    next_ns = moved_ns = 0
    done_ns = 0
    while True:
        moved = 0
        for reader in readers:
            while (size := reader.read(buffer, view)) > _BUFFER_BYTES // 2:
                moved += size
            moved += size
        pause()
        now_ns = time.monotonic_ns()
        moved_ns = now_ns if moved or not moved_ns else moved_ns
        if now_ns < next_ns:
            continue
        next_ns = now_ns + SAMPLE_NS
        count = sum(reader.stream.count for reader in readers)
        side.samples.append(Sample(now_ns, count, time.process_time_ns()))
        if (sent := told()) < 0:
            continue
        side.wanted = sum(reader.stream.due(sent) for reader in readers)
        if count >= side.wanted:
            done_ns = done_ns or now_ns
            if now_ns - done_ns > _SURPLUS_SECONDS * 1e9:
                break
        elif now_ns - moved_ns > plan.patience * 1e9:
            break
    _sum_up(side, [reader.stream for reader in readers])
    side.stopped_ns = done_ns or moved_ns
    for client in clients:
        client.close()


def _pause(plan: Plan, readers: list[_Reader]) -> Callable[[], object]:
    """What to do between two looks at the sockets."""
    if plan.shape != "paced":
        seconds = _PAUSE_MANY_SECONDS if len(readers) > _MANY else _PAUSE_SECONDS
        return partial(time.sleep, seconds)
    poller = select.epoll()
    for reader in readers:
        poller.register(reader.client.socket, select.EPOLLIN)
    return partial(poller.poll, _WAIT_SECONDS)


def _sum_up(side: Side, streams: list[Stream | _Paced]) -> None:
    side.count = sum(stream.count for stream in streams)
    side.duplicate = sum(stream.duplicate for stream in streams)
    side.reordered = sum(stream.reordered for stream in streams)
    side.corrupt = sum(stream.corrupt for stream in streams)
    side.lost = max(0, side.wanted - side.count)
    if paced := [stream.latency for stream in streams if isinstance(stream, _Paced)]:
        side.latency = Histogram.merged(paced).dump()


def hold_idle(plan: Plan, ready: Callable[[], None], told: Told) -> Side:
    """Open connections, and keep them until told otherwise; ``count`` is how many stand."""
    side = Side(started_ns=time.monotonic_ns())
    held: list[socket.socket] = []
    for first in range(0, plan.connections, _OPENING):
        some = range(first, min(first + _OPENING, plan.connections))
        new = [MqttClient.open_socket(plan.host, plan.port, number) for number in some]
        for number, sock in zip(some, new, strict=True):
            sock.sendall(connect_packet(plan.version, f"bench-idle-{number}"))
        for sock in new:
            answer = sock.recv(64)
            if len(answer) < 4 or answer[3]:
                raise Refused(f"connection {len(held) + 1} was answered {answer!r}")
            held.append(sock)
    side.stopped_ns = time.monotonic_ns()
    side.count = len(held)
    ready()
    while told() < 0:
        time.sleep(0.05)
    for sock in held:
        sock.close()
    if side.count < plan.connections:
        sys.stderr.write("not all connections stand\n")
    return side
