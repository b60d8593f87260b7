"""The way in: what a client publishes, and when it is told that it was taken.

Rules:

1. Equal packets in a row are one publication (``runs.py``); plain packets in a row that differ but
   have the same audience, who can take all of them now, are passed on as they came
   (``stretches.py``); everything else takes the general way. A run can be for a stream.
2. An acknowledgement goes out at once when nothing durable was involved, else when the log has kept
   what it speaks of; always in the order of what it acknowledges. [MQTT-4.6.0-2], [MQTT-4.6.0-3]
3. Before MQTT 5 there is no way to refuse a message. One that the client may not publish is
   acknowledged and forgotten, as [MQTT-3.3.5-2] of 3.1.1 has it; for any other reason the
   connection ends before it is acknowledged, so the client still has it.
"""

from typing import TYPE_CHECKING

from ...broker.errors import BraidError, InvalidArgument, PermissionDenied, QueueFull
from ...broker.session import INBOUND
from ...storage.log import Durability
from .headers import headers_from
from .packets import (
    PUBACK,
    PUBCOMP,
    PUBREC,
    V5,
    Malformed,
    Publish,
    Reason,
    decode_publish,
    encode_ack,
    encode_properties,
)
from .packets import Properties as PacketProperties
from .reasons import ALLOWED
from .runs import (
    SHAPES_CACHED_MAX,
    Run,
    Shape,
    Topic,
    ack_run,
    has_zero,
    packet_ids,
    run_length,
)
from .server import TOPIC_CACHED_BYTES_MAX, reason_of
from .special import append_run, appendable, send_special, stream_of
from .stretches import STRETCH_PACKETS_MAX, find_stretch

if TYPE_CHECKING:
    from ...broker.session import Session
    from .outbound import Outbound
    from .session import MqttSession

__all__ = ["Inbound"]

_MEMORY = Durability.MEMORY
_SYNC = Durability.SYNC


class Inbound:
    """What comes from one client. Part of a session, which owns it."""

    __slots__ = (
        "_aliases",
        "_keeps",
        "_os",
        "_os_count",
        "_received",
        "_session",
        "_shape",
        "_sync",
        "_sync_count",
        "_synced",
        "is_held",
        "unanswered",
    )

    def __init__(self, session: "MqttSession") -> None:
        self._session = session
        self._shape: Shape | None = None  # of the last run
        self._aliases: dict[int, Topic] | None = None
        self._received: set[int] | None = None  # see _unreleased
        self._keeps = False  # it has published what the log keeps
        self.is_held = False  # too much waits to be written: nothing more is read
        self.unanswered = 0  # messages whose acknowledgements wait for the log
        self._os = self._sync = b""  # acknowledgements of this turn, by what they wait for
        self._os_count = self._sync_count = 0
        self._synced = 0  # those of earlier turns that wait for stable storage

    # Runs -------------------------------------------------------------------------------------

    def take(self, data: bytes, at: int, end: int, now_ms: int) -> int:
        """Take the packets at ``at`` that are like the last ones, or like most.

        Returns where they end; ``at`` itself when the general way is to be taken.

        Raises:
            Malformed: the connection ends.
        """
        shape = self._shape
        if shape is None or not data.startswith(shape.prefix, at):
            shape = self._find_shape(data, at, end)
            if shape is None:
                return at
        size = shape.size
        count = 0
        if at + size <= end:
            count = 1
            if shape.after and not data.startswith(shape.after, at + shape.after_at):
                return at
            if data.startswith(shape.prefix, at + size):
                count = run_length(data, at, end, shape)
        if not count:
            return at
        if count == 1 and end - at > size:
            stop = self._take_stretch(data, at, end, shape)
            if stop:
                return stop
        session = self._session
        if shape.stream:
            count = min(count, appendable(session, shape))
            if not count:
                return at
        session.server.received += count
        run = Run(shape, data, at, count, now_ms, session.session)
        if shape.qos:
            id_at = at + shape.id_at
            if count == 1:
                ids = data[id_at : id_at + 2]
            else:
                ids = packet_ids(data, id_at, size, count)
            self._publish_acknowledged(run, ids, now_ms)
        else:
            try:
                self._publish(shape, run, now_ms)
            except BraidError as error:
                self._refuse_quietly(error, count)
        if session.topics.slow:
            session.wait_for_slow()
        return at + count * size

    def _take_stretch(self, data: bytes, at: int, end: int, shape: Shape) -> int:
        """Pass on a stretch that begins at ``at``: where it ends, 0 when there is none."""
        session = self._session
        topics = session.topics
        stamp = topics.stamp
        route = shape.route
        if shape.stamp != stamp or shape.who is not session.who or route is None:
            return 0
        qos = shape.qos
        if route.audience is None or (qos and not route.live):
            return 0
        # All of the audience has to be able to take it, which is asked before looking for it.
        count_max = STRETCH_PACKETS_MAX
        size_max = session.options.maximum_packet_size_bytes
        if session.version == V5 and qos:
            count_max = min(count_max, session.options.receive_maximum - self.unanswered)
        outs: list[tuple[Session, Outbound]] = []
        for member, match in route.audience.members:
            sink = member.sink
            if sink is None:
                continue
            if not isinstance(sink, type(session)) or not sink.out.can_pass(shape, match):
                return 0
            if qos:
                count_max = min(count_max, sink.out.room)
            size_max = min(size_max, sink.out.packet_bytes_max)
            outs.append((member, sink.out))
        if count_max < 2 or shape.size > size_max:
            return 0
        stretch = find_stretch(
            *(data, at, end, shape, session.server.shapes(session.version)),
            *(session.who, stamp, count_max, size_max),
        )
        if stretch is None:
            return 0
        ids = stretch.ids() if qos else b""
        if b"\0\0" in ids and has_zero(ids):
            return 0  # the general way says what is wrong
        for member, out in outs:
            try:
                out.pass_on(stretch)
            except Exception as error:
                session.core.clients.sink_failed(member, error)
        session.server.received += stretch.count
        topics.published += stretch.count
        if qos:
            self._answer(_MEMORY, ack_run(0x40, ids), stretch.count)
        return at + len(stretch.packets)

    def _find_shape(self, data: bytes, at: int, end: int) -> Shape | None:
        """The shape of a packet that is like most: QoS 0 or 1, not retained, no properties."""
        if data[at] not in (0x30, 0x32) or end - at < 8:
            return None
        length = data[at + 1]
        body = at + 2
        if length > 127:
            if not 0 < data[body] < 128:
                return None  # more bytes, or more than the number takes
            length += (data[body] << 7) - 128
            body += 1
        topic_end = body + 2 + (data[body] << 8 | data[body + 1])
        if topic_end > end:
            return None
        prefix = data[at:topic_end]
        shapes = self._session.server.shapes(self._session.version)
        shape = shapes.get(prefix)
        if shape is None:
            shape = self._new_shape(prefix, body - at, length)
            if shape is None:
                return None
            if len(shapes) >= SHAPES_CACHED_MAX:
                shapes.clear()
            shapes[prefix] = shape
        # Another listener, which takes more, may have found it.
        options = self._session.options
        if shape.qos > options.maximum_qos or shape.size > options.maximum_packet_size_bytes:
            return None
        self._shape = shape
        return shape

    def _new_shape(self, prefix: bytes, body: int, length: int) -> Shape | None:
        session = self._session
        version = session.version
        qos = prefix[0] >> 1 & 1
        wire = prefix[body + 2 :]
        after = b"\0" if version == V5 else b""
        size = body + length
        if not 0 < len(wire) <= TOPIC_CACHED_BYTES_MAX or 0 in wire:
            return None
        stream = stream_of(wire)
        if wire[0] == 36 and not stream:
            return None  # 36 is a $
        if size < len(prefix) + 2 * qos + len(after):
            return None
        try:
            topic = session.server.topic(wire)
        except UnicodeDecodeError:
            return None
        shape = Shape(topic, version, qos, False, prefix, after, size)
        shape.attributes = session.server.attributes(topic, qos, False, {})
        shape.stream = stream
        return shape

    def _publish(self, shape: Shape, run: Run, now_ms: int) -> tuple[Durability, int]:
        """Publish; who gets it, and that it may be published, is remembered with the shape."""
        session = self._session
        if shape.stream:
            return append_run(session, run, now_ms), run.count
        topics = session.topics
        stamp = topics.stamp
        route = shape.route
        if route is None or shape.stamp != stamp or shape.who is not session.who:
            route = topics.admit(session.who, run.topic)
            shape.remember(route, session.who, stamp)
        return topics.distribute(route, run, now_ms)

    def _publish_acknowledged(self, run: Run, ids: bytes, now_ms: int) -> None:
        session = self._session
        beyond = self.unanswered + run.count - session.options.receive_maximum
        if beyond > 0 and self._exceeds(min(beyond, run.count)):
            return
        if b"\0\0" in ids and has_zero(ids):
            raise Malformed("the packet identifier is 0", Reason.PROTOCOL_ERROR)
        try:
            self._answer_published(ids, self._publish(run.shape, run, now_ms))
        except BraidError as error:
            if run.count > 1 and isinstance(error, QueueFull):
                self._publish_each(run, ids, now_ms)
            else:
                self._refuse_topic(PUBACK, ids, error)

    def _publish_each(self, run: Run, ids: bytes, now_ms: int) -> None:
        """A queue has no room for all of a run: those that fit are taken, as if they came alone."""
        session, route = self._session, run.shape.route
        assert route is not None
        for at, result in enumerate(session.topics.distribute_each(route, run, now_ms)):
            self._answer_published(ids[2 * at : 2 * at + 2], result)
            if session.finished:
                return

    def _answer_published(self, ids: bytes, result: tuple[Durability, int] | BraidError) -> None:
        session = self._session
        if isinstance(result, BraidError):
            self._refuse_topic(PUBACK, ids, result)
            return
        level, matched = result
        nobody = not matched and session.version == V5
        reason = Reason.NO_MATCHING_SUBSCRIBERS if nobody else Reason.SUCCESS
        self._answer(level, ack_run(0x40, ids, reason), len(ids) // 2)

    def _is_beyond(self, qos: int) -> bool:
        """Whether a message is one too many, which has ended the connection."""
        session = self._session
        count = len(self._unreleased()) if qos == 2 else self.unanswered
        if count >= session.options.receive_maximum and self._exceeds(1):
            return True
        if qos == 2 and count >= session.limits.requests_in_flight_max:
            session.fail(Reason.QUOTA_EXCEEDED, "too many messages of QoS 2 are not released")
            return True
        return False

    def _exceeds(self, count: int) -> bool:
        """The client sends ``count`` messages beyond its Receive Maximum; whether it is the end."""
        session = self._session
        if session.version != V5:
            return False
        if session.options.receive_maximum_strict:
            # [MQTT-3.3.4-9]
            session.fail(Reason.RECEIVE_MAXIMUM_EXCEEDED, "more messages than Receive Maximum")
            return True
        session.server.over_receive_maximum += count
        return False

    # Answers ----------------------------------------------------------------------------------

    def _answer(self, level: Durability, packets: bytes, count: int) -> None:
        """Acknowledge ``count`` messages when ``level`` is reached, and in their turn."""
        if level is _MEMORY and not self.unanswered:
            self._session.out.send(packets)
            return
        self._keeps = True
        self.unanswered += count
        if level is not _SYNC and not self._sync_count and not self._synced:
            self._os += packets
            self._os_count += count
        else:
            # Also what needs less, behind what needs more: the log tells in order.
            self._sync += packets
            self._sync_count += count

    def ask_when_kept(self) -> None:
        """A turn is over: have its answers sent in their time."""
        core = self._session.core
        if self._os_count:
            answer = (self._os, self._os_count)
            self._os, self._os_count = b"", 0
            core.when_kept(Durability.OS, self._on_kept, answer)
        if self._sync_count:
            answer = (self._sync, self._sync_count)
            self._sync, self._sync_count = b"", 0
            self._synced += answer[1]
            core.when_kept(_SYNC, self._on_synced, answer)
        if self._keeps and not self.is_held:
            if core.log.pending_bytes > core.limits.pending_bytes_max // 2:
                self.is_held = True
                core.when_kept(_SYNC, self._on_drained, None)

    def _on_drained(self, argument: object, error: BraidError | None) -> None:
        self.is_held = False
        self._session.wake()

    def _on_synced(self, answer: object, error: BraidError | None) -> None:
        assert isinstance(answer, tuple)
        self._synced -= answer[1]
        self._on_kept(answer, error)

    def _on_kept(self, answer: object, error: BraidError | None) -> None:
        assert isinstance(answer, tuple)
        packets, count = answer
        self.unanswered -= count
        session = self._session
        if session.finished:
            return
        if error is not None:
            session.fail(reason_of(error), str(error))
        else:
            session.out.send(packets)
            if not self.unanswered:
                session.answered()
        session.wake()

    # One by one -------------------------------------------------------------------------------

    def take_one(self, data: bytes, at: int, body_at: int, end: int, now_ms: int) -> None:
        """Take the PUBLISH that stands at ``at``, whole, whatever it is.

        Raises:
            Malformed: the connection ends.
        """
        session = self._session
        flags = data[at] & 15
        options = session.options
        publish = decode_publish(
            session.version, flags, data[body_at:end], options.user_properties_max
        )
        session.server.received += 1
        topic = self._topic_of(publish)
        self._check_options(publish)
        if topic.name.startswith("$"):
            self._take_special(topic, publish, now_ms)
            return
        try:
            shape = self._shape_of(topic, publish, data, at, body_at, end)
        except BraidError as error:  # more headers than the broker takes
            if publish.qos:
                kind = PUBACK if publish.qos == 1 else PUBREC
                self._refuse(kind, publish.packet_id.to_bytes(2, "big"), error)
            else:
                self._refuse_quietly(error, 1)
            return
        run = Run(shape, data, at, 1, now_ms, session.session)
        if publish.properties is None or publish.properties.topic_alias is None:
            self._shape = shape if publish.qos < 2 and not publish.dup else None
        else:
            run.rewrite()
        if publish.dup:
            run.rewrite()
        if publish.qos == 2:
            self._publish_once(run, publish, now_ms)
        elif publish.qos:
            self._publish_acknowledged(run, publish.packet_id.to_bytes(2, "big"), now_ms)
        else:
            try:
                self._publish(shape, run, now_ms)
            except BraidError as error:
                self._refuse_quietly(error, 1)
        if session.topics.slow:
            session.wait_for_slow()

    def _shape_of(
        self, topic: Topic, publish: Publish, data: bytes, at: int, body_at: int, end: int
    ) -> Shape:
        """The shape of any packet. Its prefix and what is after are taken from it."""
        session = self._session
        payload_at = end - len(publish.payload)
        if publish.qos:
            topic_end = body_at + 2 + (data[body_at] << 8 | data[body_at + 1])
            prefix, after = data[at:topic_end], data[topic_end + 2 : payload_at]
        else:
            prefix, after = data[at:payload_at], b""
        shape = Shape(topic, session.version, publish.qos, publish.retain, prefix, after, end - at)
        properties = publish.properties
        headers = {}
        if properties is not None:
            shape.forward = properties.forward
            shape.expiry_seconds = properties.expiry_seconds
            headers = headers_from(properties)
        shape.attributes = session.server.attributes(topic, publish.qos, publish.retain, headers)
        return shape

    def _check_options(self, publish: Publish) -> None:
        """Raise Malformed for a message that the listener does not take."""
        options = self._session.options
        # [MQTT-3.2.2-11], [MQTT-3.2.2-14]
        if publish.qos > options.maximum_qos:
            text = f"QoS is at most {options.maximum_qos} here"
            raise Malformed(text, Reason.QOS_NOT_SUPPORTED)
        if publish.retain and not options.retain_available:
            raise Malformed("messages are not retained here", Reason.RETAIN_NOT_SUPPORTED)

    def _topic_of(self, publish: Publish) -> Topic:
        """The topic of a packet, by its name or by its alias."""
        session = self._session
        server = session.server
        properties = publish.properties
        alias = properties.topic_alias if properties is not None else None
        if alias is None:
            return server.topic(publish.topic.encode())
        if alias > session.options.topic_alias_maximum:
            # [MQTT-3.3.2-9]
            raise Malformed(f"topic alias {alias} is too high", Reason.TOPIC_ALIAS_INVALID)
        if self._aliases is None:
            self._aliases = {}
        if publish.topic:
            topic = self._aliases[alias] = server.topic(publish.topic.encode())
            return topic
        known = self._aliases.get(alias)
        if known is None:
            # [MQTT-3.3.2-7]: nobody said what it stands for
            raise Malformed(f"topic alias {alias} is not known", Reason.PROTOCOL_ERROR)
        return known

    # QoS 2 ------------------------------------------------------------------------------------

    def _unreleased(self) -> set[int]:
        """Identifiers of messages that were taken and not released; a durable session has them."""
        queue = self._session.queue
        if queue is not None:
            return queue.inbound
        if self._received is None:
            self._received = set()
        return self._received

    def _publish_once(self, run: Run, publish: Publish, now_ms: int) -> None:
        """A QoS 2 message: taken once, however often it comes. [MQTT-4.3.3-10]"""
        session = self._session
        number = publish.packet_id
        queue = session.queue
        received = self._unreleased()
        answer = encode_ack(PUBREC, session.version, number)
        if number in received:
            # Perhaps the first one is not kept yet: answer in turn.
            self._answer(_MEMORY if queue is None else queue.session.durability, answer, 1)
            return
        if self._is_beyond(2):
            return
        run.inbound = number
        try:
            level, matched = self._publish(run.shape, run, now_ms)
        except BraidError as error:
            if session.version != V5 and isinstance(error, PermissionDenied):
                received.add(number)  # it is acknowledged like any other
            self._refuse_topic(PUBREC, number.to_bytes(2, "big"), error)
            return
        received.add(number)
        if not matched and session.version == V5:
            answer = encode_ack(PUBREC, V5, number, Reason.NO_MATCHING_SUBSCRIBERS)
        self._answer(level, answer, 1)

    def release(self, number: int) -> None:
        """PUBREL: the client will not send the message again."""
        session = self._session
        queue = session.queue
        received = self._unreleased()
        reason = Reason.SUCCESS
        level = _MEMORY
        if number not in received:
            reason = Reason.PACKET_IDENTIFIER_NOT_FOUND
        elif queue is not None:
            queue.release_inbound(number)
            level = queue.session.durability
        else:
            received.remove(number)
        # Not before it is kept: the client may use the identifier for another message then.
        self._answer(level, encode_ack(PUBCOMP, session.version, number, reason), 1)

    # Special topics ---------------------------------------------------------------------------

    def _take_special(self, topic: Topic, publish: Publish, now_ms: int) -> None:
        """``$queue/NAME`` sends to a queue, ``$delayed/SECONDS/TOPIC`` publishes later."""
        session = self._session
        kind = {0: 0, 1: PUBACK, 2: PUBREC}[publish.qos]
        ids = publish.packet_id.to_bytes(2, "big")
        queue = session.queue
        if publish.qos == 2 and publish.packet_id in self._unreleased():
            self._answer(Durability.SYNC, encode_ack(PUBREC, session.version, publish.packet_id), 1)
            return
        if publish.qos and self._is_beyond(publish.qos):
            return
        inbound: list[tuple[int, int]] = []
        if publish.qos == 2 and queue is not None:
            inbound.append((queue.id, INBOUND | publish.packet_id))
        try:
            level, is_noted = send_special(session, topic, publish, inbound, now_ms)
        except BraidError as error:
            if kind:
                self._refuse(kind, ids, error)
            else:
                self._refuse_quietly(error, 1)
            return
        if not kind:
            return
        if publish.qos == 2:
            self._unreleased().add(publish.packet_id)
            if queue is not None:
                level = max(level, queue.session.durability)
                if not is_noted:
                    queue.receive_inbound(publish.packet_id)
        self._answer(level, encode_ack(kind, session.version, publish.packet_id), 1)

    # Refusing ---------------------------------------------------------------------------------

    def _refuse_topic(self, kind: int, ids: bytes, error: BraidError) -> None:
        """Messages were not taken; a topic that is none ends the connection. [MQTT-3.3.2-2]"""
        if isinstance(error, InvalidArgument):
            self._session.fail(reason_of(error), str(error))
        else:
            self._refuse(kind, ids, error)

    def _refuse(self, kind: int, ids: bytes, error: BraidError) -> None:
        """Say that messages were not taken, as far as the version can."""
        session = self._session
        if session.version != V5:
            if not isinstance(error, PermissionDenied):
                session.fail(reason_of(error), str(error))
                return
            first = 0x40 if kind == PUBACK else 0x50
            self._answer(_MEMORY, ack_run(first, ids), len(ids) // 2)
            return
        properties = b""
        if session.explains:
            properties = encode_properties(PacketProperties(reason_string=str(error)))
        reason = reason_of(error)
        if reason not in ALLOWED[kind]:
            reason = Reason.QUOTA_EXCEEDED  # [MQTT-3.4.2-1]: it can be neither busy nor too large
        for at in range(0, len(ids), 2):
            number = ids[at] << 8 | ids[at + 1]
            packet = encode_ack(kind, V5, number, reason, properties)
            if len(packet) > session.out.packet_bytes_max:
                packet = encode_ack(kind, V5, number, reason)  # [MQTT-3.4.2-2]
            self._answer(_MEMORY, packet, 1)

    def _refuse_quietly(self, error: BraidError, count: int) -> None:
        """QoS 0 messages were not taken. Nobody is told; a topic that is none ends it."""
        if isinstance(error, InvalidArgument):
            self._session.fail(reason_of(error), str(error))
        else:
            self._session.server.dropped += count
