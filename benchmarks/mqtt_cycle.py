"""The messages of a run: a cycle of packets, built once, sent round and round, checked at C speed.

A publisher sends the packets of its cycle one after the other and begins again at the end. So what
a subscriber has to get is known to the last byte, but for the packet identifiers, which a broker
chooses: a read of 256 KiB is compared with the cycle by one memcmp, and every byte of every message
is checked. Only where they differ is each packet looked at, by the sequence number in its payload,
to say what was lost, came twice or came late. A loss of a whole number of cycles is found by the
count at the end.

How a broker spells the head of a PUBLISH (the order of its properties, say) is its own affair, so
the subscriber learns the head of each topic with one message before the load.

``Acks`` does the same for what a publisher gets back: identifiers return in the order in which they
were used, as [MQTT-4.6.0-2] demands.
"""

from bisect import bisect_left, bisect_right
from itertools import accumulate
from random import Random
from struct import Struct as Layout
from typing import Final

from .drivers.mqtt_packets import (
    PUBACK,
    PUBACK_HEAD,
    Malformed,
    next_packet,
    parse_publish,
    publish_packet,
    refusal,
    variable_integer,
)
from .mqtt_plan import SEQUENCE_BYTES, Plan

__all__ = [
    "STAMP",
    "Acks",
    "Cycle",
    "Expected",
    "Message",
    "Stream",
    "filters_of",
    "messages_of",
    "published",
    "topics_of",
]

STAMP: Final = Layout(">QQ")  # of a payload: sequence number, time when it was due (0: not told)
_CYCLE_BYTES: Final = 1 << 20
_MESSAGES_MAX: Final = 32_768  # so that an identifier is free again long before it is used again
_GROUP: Final = 32  # packets of different lengths that are taken apart by one call

Message = tuple[int, bytes]  # which topic, payload


def topics_of(plan: Plan) -> list[str]:
    """The topics that are published to."""
    count = plan.topics
    if not plan.subscriptions:
        return [f"bench/{number:06}/kitchen/temp" for number in range(count)]
    distinct = _distinct_filters(plan)
    last = "temp" if plan.matches else "nobody"
    count = min(count, distinct)
    return [f"bench/{number * distinct // count:06}/kitchen/{last}" for number in range(count)]


def _distinct_filters(plan: Plan) -> int:
    return plan.subscriptions // max(1, plan.matches)


def filters_of(plan: Plan, subscriber: int) -> list[str]:
    """What a subscriber subscribes to."""
    if not plan.subscriptions:
        return topics_of(plan) if plan.topics == 1 else ["bench/#"]
    distinct = _distinct_filters(plan)
    step = 1 if plan.matches > 1 else plan.subscribers
    numbers = range(0 if plan.matches > 1 else subscriber, distinct, step)
    return [f"bench/{number:06}/+/temp" for number in numbers]


def messages_of(plan: Plan) -> list[Message]:
    """The messages of the cycle, the same in every process: sizes and topics in random order."""
    random = Random(plan.seed)
    topics = len(topics_of(plan))
    average = (plan.size_min + plan.size_max) // 2 + 32
    count = min(_MESSAGES_MAX, max(2 * plan.window, _CYCLE_BYTES // average))
    fill = random.randbytes(plan.size_max)
    messages = []
    for sequence in range(count):
        size = random.randint(plan.size_min, plan.size_max)
        topic = random.randrange(topics)
        messages.append((topic, STAMP.pack(sequence, 0) + fill[SEQUENCE_BYTES:size]))
    return messages


class Cycle:
    """Packets in a row, for ever: ``data`` is one round, packet i begins at ``starts[i]``."""

    def __init__(self, packets: list[bytes]) -> None:
        self.data = b"".join(packets)
        self.starts = [0, *accumulate(map(len, packets))]
        lengths = {len(packet) for packet in packets}
        self.length = lengths.pop() if len(lengths) == 1 else 0  # of every packet, 0: they differ

    def __len__(self) -> int:
        return len(self.starts) - 1


def published(plan: Plan) -> Cycle:
    """What the publisher sends; the identifier of message i is i + 1."""
    topics = topics_of(plan)
    return Cycle(
        [
            publish_packet(plan.version, plan.qos, topics[topic], number, payload)
            for number, (topic, payload) in enumerate(messages_of(plan), 1)
        ]
    )


class Expected(Cycle):
    """What a subscriber gets: the messages of its own topics, their identifiers as zeros."""

    def __init__(self, plan: Plan, heads: dict[int, bytes]) -> None:
        chosen = [
            (sequence, topic, payload)
            for sequence, (topic, payload) in enumerate(messages_of(plan))
            if topic in heads
        ]
        packets, self.ids = [], []  # ids: where the identifier is, in its packet
        qos = plan.delivered_qos
        id_at = 2 + len(topics_of(plan)[0])
        for _, topic, payload in chosen:
            body = heads[topic] + payload
            head = bytes([0x30 | qos << 1]) + variable_integer(len(body))
            packets.append(head + body)
            self.ids.append(len(head) + id_at)
        super().__init__(packets)
        self.sequences = [sequence for sequence, _, _ in chosen]
        self.version, self.qos, self.round = plan.version, qos, len(messages_of(plan))
        self.groups = self._grouped() if qos and not self.length else []

    def due(self, sent: int) -> int:
        """How many of the first ``sent`` messages of the publisher should come."""
        rounds, rest = divmod(sent, self.round)
        return rounds * len(self) + bisect_left(self.sequences, rest)

    def _grouped(self) -> list[tuple[Layout, tuple[bytes, ...]]]:
        """For each group of packets: how to take the identifiers out, and what is between them."""
        groups = []
        for first in range(0, len(self) - _GROUP + 1, _GROUP):
            begin = self.starts[first]
            layout, parts, at = ">", [], begin
            for number in range(first, first + _GROUP):
                place = self.starts[number] + self.ids[number]
                layout += f"{place - at}s2s"
                parts.append(self.data[at:place])
                at = place + 2
            end = self.starts[first + _GROUP]
            groups.append((Layout(f"{layout}{end - at}s"), (*parts, self.data[at:end])))
        return groups


class Stream:
    """One subscriber's stream: feed it what was read, send back the acknowledgements it returns."""

    def __init__(self, expected: Expected) -> None:
        self.received = 0
        self.duplicate = 0
        self.reordered = 0
        self.corrupt = 0
        self._next = 0  # which packet of the cycle is due
        self._expected = expected
        self._missing: set[int] = set()
        if not expected.qos:
            self._take = self._plain
        elif expected.length:
            self._take = self._uniform
        else:
            self._take = self._mixed

    @property
    def count(self) -> int:
        """Messages that came for the first time."""
        return self.received - self.duplicate - self.corrupt

    def due(self, sent: int) -> int:
        """How many messages should come, of the first ``sent`` of the publisher."""
        return self._expected.due(sent)

    def feed(self, buffer: bytearray, filled: int) -> tuple[int, bytes]:
        """Take whole packets from the front: how many bytes of them, and what to answer."""
        done, answers = 0, []
        with memoryview(buffer)[:filled] as view:
            while done < filled:
                used, answer = self._take(buffer, view, done)
                if used < 0:
                    used, answer = self._by_packet(view, done)
                if not used:
                    break
                if answer:
                    answers.append(answer)
                done += used
        return done, b"".join(answers)

    def _plain(self, buffer: bytearray, view: memoryview, done: int) -> tuple[int, bytes]:
        expected = self._expected
        size, count = self._whole(len(view) - done)
        if not count:
            return -1 if self._differs(view, done) else 0, b""
        if not expected.data.startswith(view[done : done + size], expected.starts[self._next]):
            return -1, b""
        self._advance(count)
        return size, b""

    def _uniform(self, buffer: bytearray, view: memoryview, done: int) -> tuple[int, bytes]:
        expected = self._expected
        size, count = self._whole(len(view) - done)
        if not count:
            return -1 if self._differs(view, done) else 0, b""
        place, length, end = done + expected.ids[0], expected.length, done + size
        high, low = buffer[place:end:length], buffer[place + 1 : end : length]
        nothing = bytes(count)
        buffer[place:end:length] = nothing
        buffer[place + 1 : end : length] = nothing
        if not expected.data.startswith(view[done:end], expected.starts[self._next]):
            buffer[place:end:length] = high
            buffer[place + 1 : end : length] = low
            return -1, b""
        answer = bytearray(PUBACK_HEAD + b"\0\0") * count
        answer[2::4] = high
        answer[3::4] = low
        self._advance(count)
        return size, bytes(answer)

    def _mixed(self, buffer: bytearray, view: memoryview, done: int) -> tuple[int, bytes]:
        expected, number = self._expected, self._next
        group, inside = divmod(number, _GROUP)
        if not inside and group < len(expected.groups):
            layout, parts = expected.groups[group]
            if layout.size <= len(view) - done:
                found = layout.unpack_from(view, done)
                if found[::2] != parts:
                    return -1, b""
                self._advance(_GROUP)
                return layout.size, PUBACK_HEAD + PUBACK_HEAD.join(found[1::2])
        start, end = expected.starts[number], expected.starts[number + 1]
        if end - start > len(view) - done:
            return -1 if self._differs(view, done) else 0, b""
        place = done + expected.ids[number]
        before, after = view[done:place], view[place + 2 : done + end - start]
        same = expected.data.startswith(before, start) and expected.data.startswith(
            after, end - len(after)
        )
        if not same:
            return -1, b""
        self._advance(1)
        return end - start, PUBACK_HEAD + bytes(view[place : place + 2])

    def _whole(self, room: int) -> tuple[int, int]:
        """Bytes and number of the expected packets that fit, up to the end of the cycle."""
        starts, number = self._expected.starts, self._next
        begin = starts[number]
        last = bisect_right(starts, begin + room) - 1
        return starts[last] - begin, last - number

    def _differs(self, view: memoryview, done: int) -> bool:
        """Whether less than a packet is another packet's begin: then its length may be, too."""
        part = bytes(view[done : done + 4])  # the fixed header of every packet here is within
        return not self._expected.data.startswith(part, self._expected.starts[self._next])

    def _advance(self, count: int) -> None:
        self.received += count
        self._next += count
        if self._next == len(self._expected):
            self._next = 0

    def _by_packet(self, view: memoryview, done: int) -> tuple[int, bytes]:
        """Look at one packet that is not what was due."""
        expected = self._expected
        found = next_packet(view, done)
        if found is None:
            return 0, b""
        first, begin, end = found
        if first >> 4 != 3:
            raise Malformed(refusal(expected.version, first, view[begin:end]))
        delivery = parse_publish(expected.version, first, view[begin:end])
        self._classify(delivery.payload, first)
        used = end - done
        return used, PUBACK_HEAD + delivery.packet_id.to_bytes(2, "big") if delivery.qos else b""

    def _classify(self, payload: bytes, first: int) -> None:
        """Count a packet that was not the one that was due."""
        expected = self._expected
        self.received += 1
        if len(payload) < SEQUENCE_BYTES:
            self.corrupt += 1
            return
        sequence = STAMP.unpack_from(payload)[0]
        number = bisect_left(expected.sequences, sequence)
        wrong = number == len(expected) or expected.sequences[number] != sequence
        if wrong or not self._is(number, payload):
            self.corrupt += 1
            return
        ahead = (number - self._next) % len(expected)
        if ahead < len(expected) // 2:
            skipped = [(self._next + step) % len(expected) for step in range(ahead)]
            self._missing.update(skipped)
            self._next = (number + 1) % len(expected)
            self.corrupt += first & 0xF7 != 0x30 | expected.qos << 1  # the flags, but DUP
        elif number in self._missing:
            self._missing.discard(number)
            self.reordered += 1
        else:
            self.duplicate += 1

    def _is(self, number: int, payload: bytes) -> bool:
        end = self._expected.starts[number + 1]
        return self._expected.data.endswith(payload, self._expected.starts[number], end)


class Acks:
    """What the publisher gets back: PUBACKs for 1, 2, ... to the end of the cycle, and again."""

    def __init__(self, version: int, count: int) -> None:
        self.count = 0
        self.problems: list[str] = []
        self._version = version
        self._data = b"".join(PUBACK_HEAD + n.to_bytes(2, "big") for n in range(1, count + 1))
        self._matched = 0  # bytes
        self._rest = b""
        self._by_packet = False

    def feed(self, view: memoryview) -> None:
        """Count what was read."""
        if not self._by_packet:
            done = self._matching(view)
            self._matched += done
            self.count = self._matched // 4
            if done == len(view):
                return
            self._by_packet = True
            at = self._matched % len(self._data)
            self._rest = self._data[at - self._matched % 4 : at]
            view = view[done:]
        self._look(memoryview(self._rest + view))

    def _matching(self, view: memoryview) -> int:
        """How many bytes are what they should be."""
        done = 0
        while done < len(view):
            at = (self._matched + done) % len(self._data)
            piece = min(len(view) - done, len(self._data) - at)
            if not self._data.startswith(view[done : done + piece], at):
                break
            done += piece
        return done

    def _look(self, view: memoryview) -> None:
        """Another order, or reasons: packet by packet."""
        at = 0
        while (found := next_packet(view, at)) is not None:
            first, begin, at = found
            why = refusal(self._version, first, view[begin:at])
            if first >> 4 == PUBACK and not why:
                self.count += 1
            elif len(self.problems) < 10:
                self.problems.append(why)
        self._rest = bytes(view[at:])
