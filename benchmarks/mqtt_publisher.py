"""The publishing process of an MQTT run: prebuilt packets, as fast or as regularly as planned.

QoS 0: the cycle in pieces of 64 KiB, the socket blocks. QoS 1: at most ``window`` messages without
an acknowledgement. The process looks for acknowledgements every so often and sleeps in between, so
that a broker that answers one by one need not wake it for each; what is left of the window keeps
the broker busy meanwhile. Paced: every message has a time when it is due, whatever
happened before, and carries it.
"""

import socket
import time
from bisect import bisect_right
from collections.abc import Callable
from itertools import pairwise
from typing import Final

import msgspec

from .drivers.mqtt_packets import publish_packet
from .histogram import Histogram
from .mqtt_client import MqttClient
from .mqtt_cycle import STAMP, Acks, Cycle, messages_of, published, topics_of
from .mqtt_plan import SAMPLE_NS, Plan, Sample, Side

__all__ = ["SENDING_BYTES", "publish"]

SENDING_BYTES: Final = 64 * 1024
_ACKS_BYTES: Final = 64 * 1024
_PAUSE_SECONDS: Final = 0.0002
_LONGER_SECONDS: Final = 0.2  # than is measured, so that the load stands to the end of that
_SPIN_NS: Final = 20_000  # the kernel wakes a sleeper about this late


def publish(plan: Plan, begun: Callable[[], None]) -> Side:
    """Carry the publisher's half of a plan out. Raises Refused, OSError.

    ``begun`` is called when all is built and the first message is about to be sent.
    """
    if plan.shape == "paced":
        way = _paced
    elif not plan.qos:
        way = _pour
    else:
        way = _one_by_one if plan.window == 1 else _windowed
    cycle, side = published(plan), Side()
    client = MqttClient(plan.host, plan.port, plan.version, "bench-publisher")
    if plan.window > client.receive_maximum:
        side.problems.append(f"the broker takes {client.receive_maximum} at once: window lowered")
        plan = msgspec.structs.replace(plan, window=client.receive_maximum)
    begun()
    way(plan, client, cycle, side)
    client.close()
    return side


class _Sampler:
    """Notes where the process stands, every 10 ms."""

    def __init__(self, plan: Plan, side: Side) -> None:
        self._side = side
        self.now_ns = side.started_ns = time.monotonic_ns()
        self.end_ns = self.now_ns + int((plan.warmup + plan.seconds + _LONGER_SECONDS) * 1e9)
        self._next_ns = self.now_ns

    def note(self, count: int) -> bool:
        """Whether the time is over."""
        now_ns = self.now_ns = time.monotonic_ns()
        if now_ns >= self._next_ns:
            self._next_ns = now_ns + SAMPLE_NS
            self._side.samples.append(Sample(now_ns, count, time.process_time_ns()))
        return now_ns >= self.end_ns

    def stop(self, count: int) -> None:
        """All was sent."""
        self._next_ns = 0
        self.note(count)
        self._side.stopped_ns = self.now_ns
        self._side.count = count


def _pour(plan: Plan, client: MqttClient, cycle: Cycle, side: Side) -> None:
    """QoS 0: as fast as the socket takes it."""
    sock, size = client.socket, len(cycle.data)
    sock.settimeout(plan.patience)
    view = memoryview(cycle.data)
    sampler, rounds, at = _Sampler(plan, side), 0, 0
    while not sampler.note(rounds * len(cycle) + bisect_right(cycle.starts, at) - 1):
        at += sock.send(view[at : at + SENDING_BYTES])
        if at == size:
            rounds, at = rounds + 1, 0
    last = bisect_right(cycle.starts, at) - 1
    if at != cycle.starts[last]:  # in the middle of a packet
        last += 1
        sock.sendall(view[at : cycle.starts[last]])
    sampler.stop(rounds * len(cycle) + last)


def _windowed(plan: Plan, client: MqttClient, cycle: Cycle, side: Side) -> None:
    """QoS 1, many under way."""
    client.start()
    sock, view = client.socket, memoryview(cycle.data)
    acks, incoming = Acks(plan.version, len(cycle)), memoryview(bytearray(_ACKS_BYTES))
    sampler, sent, left = _Sampler(plan, side), 0, view[:0]
    patience_ns = int(plan.patience * 1e9)
    moved = gained = 0
    moved_ns = sampler.now_ns
    while True:
        over = sampler.note(acks.count)
        room = plan.window - (sent - acks.count)
        while room and not left and not over:
            first = sent % len(cycle)
            last = min(first + room, len(cycle))
            left = view[cycle.starts[first] : cycle.starts[last]]
            room -= last - first
            sent += last - first
            left = _send(sock, left)
        left = _send(sock, left)
        if over and not left and acks.count >= sent:
            break
        if gained < plan.window // 4:  # else the broker is quick
            time.sleep(_PAUSE_SECONDS)
        _take_acks(sock, incoming, acks)
        gained = acks.count - moved
        if gained:
            moved, moved_ns = acks.count, sampler.now_ns
        elif sampler.now_ns - moved_ns > patience_ns:
            side.problems.append(f"{sent - acks.count} messages were never acknowledged")
            break
    sampler.stop(sent)
    side.acknowledged = acks.count
    side.problems += acks.problems


def _send(sock: socket.socket, data: memoryview) -> memoryview:
    """Send what the socket takes; what is left."""
    try:
        return data[sock.send(data) :] if data else data
    except BlockingIOError:
        return data


def _take_acks(sock: socket.socket, incoming: memoryview, acks: Acks) -> None:
    """Count the acknowledgements that are there."""
    try:
        acks.feed(incoming[: _received(sock, incoming)])
    except BlockingIOError:
        pass  # none came


def _received(sock: socket.socket, into: memoryview) -> int:
    size = sock.recv_into(into)
    if not size:
        raise ConnectionError("the broker hung up")
    return size


def _one_by_one(plan: Plan, client: MqttClient, cycle: Cycle, side: Side) -> None:
    """QoS 1, one under way: every round trip is measured."""
    sock, data, starts = client.socket, cycle.data, cycle.starts
    sock.settimeout(plan.patience)
    acks, buffer, trips = Acks(plan.version, len(cycle)), bytearray(64), Histogram()
    packets = [data[start:end] for start, end in pairwise(starts)]
    incoming, sampler, sent = memoryview(buffer), _Sampler(plan, side), 0
    steady_ns = sampler.now_ns + int(plan.warmup * 1e9)
    while not sampler.note(sent):
        sock.sendall(packets[sent % len(packets)])
        sent += 1
        while acks.count < sent and not acks.problems:
            acks.feed(incoming[: _received(sock, incoming)])
        if acks.problems:
            break
        if sampler.now_ns >= steady_ns:
            trips.record(time.monotonic_ns() - sampler.now_ns)
    sampler.stop(sent)
    side.acknowledged = acks.count
    side.problems += acks.problems
    side.latency = trips.dump()


def _paced(plan: Plan, client: MqttClient, cycle: Cycle, side: Side) -> None:
    """On a schedule."""
    client.start()
    sock, topics, fills = client.socket, topics_of(plan), messages_of(plan)
    lag, sampler, sent, step_ns = Histogram(), _Sampler(plan, side), 0, int(1e9 / plan.rate)
    due_ns = sampler.now_ns
    steady_ns = due_ns + int(plan.warmup * 1e9)
    acks, buffer = Acks(plan.version, len(cycle)), bytearray(_ACKS_BYTES)
    incoming = memoryview(buffer)
    while not sampler.note(sent):
        wait_ns = due_ns - time.monotonic_ns()
        if wait_ns > _SPIN_NS:
            time.sleep((wait_ns - _SPIN_NS) / 1e9)
        while (late_ns := time.monotonic_ns() - due_ns) < 0:
            pass
        number = sent % len(fills)
        topic, payload = fills[number]
        stamped = STAMP.pack(sent, due_ns) + payload[STAMP.size :]
        sock.send(publish_packet(plan.version, plan.qos, topics[topic], number + 1, stamped))
        sent += 1
        if due_ns >= steady_ns:
            lag.record(late_ns)
        due_ns += step_ns
        _take_acks(sock, incoming, acks)
    sock.settimeout(plan.patience)
    while plan.qos and acks.count < sent and not acks.problems:
        acks.feed(incoming[: _received(sock, incoming)])
    sampler.stop(sent)
    side.acknowledged = acks.count
    side.problems += acks.problems
    side.lag = lag.dump()
