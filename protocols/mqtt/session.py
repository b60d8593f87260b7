"""The server's side of one MQTT connection. Sans-IO: see ``protocols/session.py``.

Rules:

1. Bytes are cut into packets here; what comes often (PUBLISH and PUBACK) is taken in runs, without
   an object for each packet. All else goes through the codec and one method per packet type.
2. What a client publishes is ``inbound.py``, what it gets ``outbound.py``, its subscriptions are
   ``subscribing.py``, to streams ``streaming.py``, how it came in ``connecting.py``. The session
   joins them and owns the state.
3. A connection ends with the precise reason: DISCONNECT for MQTT 5, CONNACK before the client was
   let in, and just the end for 3.1 and 3.1.1, which have no words for it.
4. A publisher waits for slow subscribers, as ``broker/laggards.py`` has it; acknowledgements and
   pings of others are never held up by that.
"""

import enum
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from ...broker.errors import BraidError, NotFound
from ...broker.laggards import Pause
from ...broker.lease import Consumer
from ...broker.message import Delivery
from ...broker.publication import Match, Publication, Subscription
from ...broker.queue import Queue
from ...broker.session import Session, SessionQueue
from ...storage.errors import StorageError
from ..session import Host
from .connecting import Connecting, Exchange, greet, prove_again
from .farewell import goodbye, refusal
from .inbound import Inbound
from .outbound import Outbound
from .packets import (
    AUTH,
    CONNACK,
    CONNECT,
    DECODERS,
    DISCONNECT,
    PINGRESP_PACKET,
    PUBACK,
    PUBLISH,
    V5,
    Ack,
    Auth,
    Disconnect,
    Malformed,
    Reason,
    Subscribe,
    Unsubscribe,
    decode,
    read_length,
)
from .reasons import ALLOWED
from .runs import packet_ids, puback_run
from .server import reason_of
from .streaming import Streaming
from .subscribing import Subscribing

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core
    from ...broker.mqtt_options import MqttOptions
    from .server import MqttServer

__all__ = ["PACKETS_PER_TURN_MAX", "MqttSession"]

PACKETS_PER_TURN_MAX = 256  # that are not part of a run; then other connections get their turn
_HEARD_BYTES_MIN = 1_024  # of a packet that is still coming: a sign of life
_FOREVER_MS = 1 << 62


class _State(enum.IntEnum):
    GREETING = 0  # waits for CONNECT
    EXCHANGING = 1  # proves who it is, by AUTH packets
    CHECKING = 2  # the password is being checked
    OPENING = 3  # the session is being kept; CONNACK follows
    OPEN = 4
    CLOSING = 5  # takes nothing more, answers what it took


GREETING, EXCHANGING, CHECKING, OPENING, OPEN, CLOSING = _State
_DEAF = (CHECKING, OPENING, CLOSING)  # what comes in them waits


class MqttSession:
    """One MQTT connection, from CONNECT to the end."""

    __slots__ = (
        "_again",
        "_begun_ms",
        "_connecting",
        "_data",
        "_deadline_ms",
        "_exchanged",
        "_heard_ms",
        "_needed",
        "_now_ms",
        "_pause",
        "_said_goodbye",
        "_state",
        "core",
        "explains",
        "finished",
        "host",
        "inbound",
        "keep_alive_ms",
        "limits",
        "number",
        "options",
        "out",
        "server",
        "session",
        "streaming",
        "subscribing",
        "topics",
        "version",
        "who",
    )

    def __init__(
        self, core: "Core", host: Host, now_ms: int, options: "MqttOptions", server: "MqttServer"
    ) -> None:
        self.finished = False
        self.core = core
        self.host = host
        self.limits = core.limits
        self.options = options
        self.server = server
        self.topics = core.topics
        self.version = 0
        self.who = cast("Principal", None)  # known once the session is open
        self.session: Session | None = None
        self.number = 0  # of the connection, for those who watch them
        self.explains = False  # reason strings are welcome
        self.inbound = Inbound(self)
        self.out = Outbound(self)
        self.subscribing = Subscribing(self)
        self.streaming: Streaming | None = None  # once it subscribes to a stream
        self._state: _State = GREETING
        self._connecting: Connecting | None = None
        self._exchanged = ""  # the user, if it proved who it is by an exchange
        self._again: Exchange | None = None  # it proves it again
        self._data: bytes | bytearray = b""  # not handled yet
        self._needed = 0  # bytes of the packet at its beginning, as far as known
        self._now_ms = self._begun_ms = self._heard_ms = now_ms
        self.keep_alive_ms = 0
        self._deadline_ms = _FOREVER_MS  # when the proof of who it is runs out
        self._pause = Pause(self.wake)
        self._said_goodbye = False  # so that it has no will any more

    # --- what the parts ask ---

    @property
    def queue(self) -> SessionQueue | None:
        """Where the messages of a durable session wait."""
        return self.session.queue if self.session is not None else None

    def subscription(self, filter: str) -> Subscription | None:
        """The client's subscription by a filter."""
        return self.session.subscriptions.get(filter) if self.session is not None else None

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self._state is OPEN and not self.finished

    def wake(self) -> None:
        """There is something to send."""
        self.host.wake()

    def wait_for_slow(self) -> None:
        """Read nothing more until the subscribers that were slow have caught up, or for a while."""
        if self._pause.begin(self.topics.slow, self.out, self._now_ms):
            self.host.hurry()

    def answered(self) -> None:
        """All that was taken is acknowledged."""
        if self._state is CLOSING:
            self.fail(Reason.SERVER_SHUTTING_DOWN, "")

    def fail(self, reason: int, text: str) -> None:
        """Say why, as far as the version can, and hang up."""
        if self.finished:
            return
        if self._state < OPEN:
            allowed = reason in ALLOWED[CONNACK]
            self.refuse(Reason(reason) if allowed else Reason.UNSPECIFIED_ERROR, text)
            return
        self.server.count_refused(Reason(reason))
        if self.version == V5:
            text = text if self.explains else ""
            self.out.send(goodbye(reason, text, self.out.packet_bytes_max))
        self.finished = True

    def fail_with(self, error: BraidError) -> None:
        """The broker cannot keep what the client was promised: hang up."""
        self.fail(reason_of(error), str(error))

    def refuse(self, reason: Reason, text: str) -> None:
        """Answer a CONNECT with a refusal, and hang up."""
        if self.finished:
            return
        self.server.count_refused(reason)
        self.finished = True
        self._said_goodbye = True  # it was never let in
        if not self.version:
            return  # [MQTT-3.1.0-1]: it never spoke MQTT
        text = text if self.explains else ""
        most = self.out.packet_bytes_max
        self.out.send(refusal(self.version, reason, text, self.options.server_reference, most))

    # --- what the handshake asks ---

    def wait_for_proof(self, exchange: bool) -> None:
        """The password is being checked, or the client proves who it is by AUTH packets."""
        self._state = EXCHANGING if exchange else CHECKING

    def admit(self, who: "Principal") -> None:
        """The client is who it says; its session is being opened."""
        self.who = who
        self._deadline_ms = who.expires_ms
        self.host.authenticated()
        self._state = OPENING

    def let_in(self, connack: bytes) -> None:
        """The session is open, and kept if it is to be kept."""
        session, connecting = self.session, self._connecting
        assert session is not None and connecting is not None
        if len(connack) > self.out.packet_bytes_max:
            # [MQTT-3.1.2-24]: the client could not be told what it is held to
            self.refuse(Reason.PACKET_TOO_LARGE, "")
            return
        self._state = OPEN
        peer = self.host.peer
        self.number = self.core.advising.connected(session.name, self.who.name, "mqtt", peer)
        self.out.send(connack)
        self._exchanged = connecting.authenticated_by_exchange
        self._connecting = None
        self._heard_ms = self._now_ms
        self.host.hurry()
        if session.queue is not None:
            self.out.resume(session.queue.released)
        for queue, subscription in self.core.clients.sources(session):
            self._consume(queue, subscription.filter if subscription is not None else None)

    # --- what the core calls ---

    def publish(self, publication: Publication, match: Match) -> None:
        """Take live messages."""
        if self._state is OPEN and not self.finished:
            self.out.publish(publication, match)

    def deliver(self, consumer: Consumer, deliveries: list[Delivery]) -> None:
        """Take messages that were leased from a queue."""
        self.out.deliver(consumer, deliveries)

    def closed(self, consumer: Consumer, error: BraidError) -> None:
        """A queue that the client consumes from was deleted, or something has failed.

        MQTT has no other way to say that a subscription has ended.
        """
        if not isinstance(error, NotFound):
            self.fail_with(error)
        else:
            filter = self.out.filter_of(consumer)
            if self.session is not None and filter:
                self.core.clients.unsubscribe(self.session, filter)
            self.fail(Reason.ADMINISTRATIVE_ACTION, str(error))
        self.wake()

    def attach(self, queue: Queue, subscription: Subscription) -> None:
        """A subscription got a queue to consume from."""
        if self._state is OPEN:
            self._consume(queue, subscription.filter)

    def _consume(self, queue: Queue, filter: str | None) -> None:
        try:
            self.out.attach(queue, filter)
        except BraidError as error:  # it has as many consumers as it may
            self.fail_with(error)

    def replaced(self) -> None:
        """Another connection has the session now. [MQTT-3.1.4-3]"""
        self.fail(Reason.SESSION_TAKEN_OVER, "another connection uses this client identifier")
        self._leave(self.core.now_ms)
        self.wake()

    def ended(self, reason: str) -> None:
        """An operator ended the connection, or took the user's rights away."""
        revoked = not self.who.active
        self.fail(Reason.NOT_AUTHORIZED if revoked else Reason.ADMINISTRATIVE_ACTION, reason)
        self._leave(self.core.now_ms)
        self.wake()

    # --- what the carrier calls ---

    @property
    def reading(self) -> bool:
        """Whether more input is welcome now."""
        if self._pause.until_ms or self._state in _DEAF or self.backlog:
            return False
        inbound = self.inbound
        if inbound.is_held or self.out.is_full:
            return False
        return inbound.unanswered <= self.limits.requests_in_flight_max

    @property
    def backlog(self) -> bool:
        """Whether :meth:`proceed` has something to do."""
        return (
            0 < self._needed <= len(self._data)
            and self._state not in _DEAF
            and not self._pause.until_ms
            and not self.finished
        )

    @property
    def answering(self) -> bool:
        """Whether acknowledgements wait for the log."""
        return self.inbound.unanswered > 0

    def receive_data(self, data: bytes, now_ms: int) -> None:
        """Take bytes from the client."""
        if self.finished or self._state is CLOSING:
            return
        if len(data) >= _HEARD_BYTES_MIN:
            self._heard_ms = now_ms
        rest = self._data
        if rest:
            if len(rest) + len(data) < self._needed or self._state in _DEAF:
                self._keep(data)
                return
            data = bytes(rest) + data
            self._data = b""
        self._handle(data, now_ms)

    def _keep(self, data: bytes) -> None:
        """Add to what waits, without copying it again and again."""
        if not isinstance(self._data, bytearray):
            self._data = bytearray(self._data)
        self._data += data
        most = self.limits.frame_bytes_unauthenticated_max
        if self._state in _DEAF and len(self._data) > most:
            self.refuse(Reason.PACKET_TOO_LARGE, "too much was sent before CONNACK")

    def proceed(self, now_ms: int) -> None:
        """Go on with what was put off."""
        data = bytes(self._data)
        self._data = b""
        self._handle(data, now_ms)

    def _handle(self, data: bytes, now_ms: int) -> None:
        """Handle the packets in ``data``, not more than a turn's worth; keep the rest."""
        self._now_ms = self.core.now_ms = now_ms
        at, end = 0, len(data)
        left = PACKETS_PER_TURN_MAX
        self._needed = 0
        self.topics.slow.clear()  # what others, who do not wait, have left there
        try:
            while at < end and not self.finished:
                if self._pause.until_ms:
                    self._needed = 1
                    break
                if self._state is OPEN:
                    begin = at
                    kind = data[at] >> 4
                    if kind == PUBLISH:
                        at = self.inbound.take(data, at, end, now_ms)
                    elif kind == PUBACK:
                        count = puback_run(data, at, end)
                        if count == 1:
                            self.out.on_pubacks(data[at + 2 : at + 4])
                        elif count:
                            self.out.on_pubacks(packet_ids(data, at + 2, 4, count))
                        at += 4 * count
                    if at != begin:
                        continue
                found = read_length(data, at + 1, end)
                if found is None:
                    self._needed = end - at + 1
                    break
                length, body_at = found
                self._check_size(body_at - at + length)
                stop = body_at + length
                if stop > end:
                    self._needed = stop - at
                    break
                if left <= 0 or self._state in _DEAF:
                    self._needed = 1
                    break
                left -= 1
                self._take(data, at, body_at, stop, now_ms)
                at = stop
        except Malformed as malformed:
            self._fail_malformed(malformed)
        except StorageError as error:
            self.fail_with(self.core.fail(error))
        if at:
            self._heard_ms = now_ms  # [MQTT-3.1.2-22] counts packets: bytes that trickle are none
        if at < end and not self.finished:
            self._data = data[at:] if at else data
        self.inbound.ask_when_kept()

    def _fail_malformed(self, malformed: Malformed) -> None:
        """Hang up on who sent what cannot be."""
        if self._state is GREETING and self.version != V5:
            # [MQTT-3.1.4-1] of 3.1.1: closed without a CONNACK, but for a version we do not speak
            if malformed.reason != Reason.UNSUPPORTED_PROTOCOL_VERSION:
                self.version = 0
        self.fail(malformed.reason, str(malformed))

    def _check_size(self, size: int) -> None:
        most = self.options.maximum_packet_size_bytes
        if self._state in (GREETING, EXCHANGING):
            most = min(most, self.limits.frame_bytes_unauthenticated_max)
        if size > most:
            # [MQTT-3.2.2-15]
            text = f"a packet of {size} bytes; at most {most} are taken"
            raise Malformed(text, Reason.PACKET_TOO_LARGE)

    def _take(self, data: bytes, at: int, body_at: int, end: int, now_ms: int) -> None:
        """Take one whole packet."""
        first = data[at]
        if self._state is GREETING:
            self._greet(first, data[body_at:end])
            return
        if first >> 4 == CONNECT:
            # [MQTT-3.1.0-2]
            raise Malformed("a second CONNECT", Reason.PROTOCOL_ERROR)
        if self._state is EXCHANGING and first >> 4 not in (AUTH, DISCONNECT):
            # [MQTT-3.1.2-30]
            raise Malformed("first prove who you are", Reason.PROTOCOL_ERROR)
        if first >> 4 == PUBLISH:
            self.inbound.take_one(data, at, body_at, end, now_ms)
            return
        body = data[body_at:end]
        packet = decode(DECODERS, self.version, first, body, self.options.user_properties_max)
        _HANDLERS[first >> 4](self, packet, now_ms)

    def _greet(self, first: int, body: bytes) -> None:
        if first >> 4 != CONNECT:
            # [MQTT-3.1.0-1]
            raise Malformed("the first packet is a CONNECT", Reason.PROTOCOL_ERROR)
        self._connecting = Connecting(self, greet(self, first & 15, body))
        self._connecting.begin()

    # --- one method per packet ---

    def on_puback(self, packet: Ack, now_ms: int) -> None:
        self.out.on_pubacks(packet.packet_id.to_bytes(2, "big"))

    def on_pubrec(self, packet: Ack, now_ms: int) -> None:
        self.out.on_pubrec(packet.packet_id, packet.reason)

    def on_pubrel(self, packet: Ack, now_ms: int) -> None:
        self.inbound.release(packet.packet_id)

    def on_pubcomp(self, packet: Ack, now_ms: int) -> None:
        self.out.on_pubcomp(packet.packet_id)

    def on_subscribe(self, packet: Subscribe, now_ms: int) -> None:
        self.subscribing.on_subscribe(packet, now_ms)

    def on_unsubscribe(self, packet: Unsubscribe, now_ms: int) -> None:
        self.subscribing.on_unsubscribe(packet, now_ms)

    def on_pingreq(self, packet: None, now_ms: int) -> None:
        self.out.send(PINGRESP_PACKET)  # [MQTT-3.12.4-1]

    def on_disconnect(self, packet: Disconnect, now_ms: int) -> None:
        expiry = packet.properties.session_expiry_seconds
        session = self.session
        if expiry is not None and session is not None:
            if expiry and not session.expiry_ms:
                # [MQTT-3.1.2-23]: what did not outlive the connection cannot begin to
                text = "a session that ends with its connection cannot be kept"
                raise Malformed(text, Reason.PROTOCOL_ERROR)
            most = self.options.session_expiry_seconds_max
            self.core.clients.change_expiry(session, min(expiry, most) * 1000)
        # [MQTT-3.14.4-3]
        self._said_goodbye = packet.reason == Reason.NORMAL_DISCONNECTION
        self.finished = True

    def on_auth(self, packet: Auth, now_ms: int) -> None:
        if self._connecting is not None:
            self._connecting.on_auth(packet, now_ms)
        else:
            self._again = prove_again(self, self._again, self._exchanged, packet, now_ms)

    # --- the rest of the contract ---

    def receive_eof(self, now_ms: int) -> None:
        """The client hung up."""
        self._now_ms = now_ms
        self.finished = True

    def data_to_send(self, now_ms: int) -> bytes | bytearray:
        """All that should go to the client now."""
        if self._state is OPEN and not self.finished:
            if self.subscribing.busy:
                self.subscribing.pump(now_ms)
            if self.streaming is not None:
                self.streaming.pump()
        return self.out.take()

    def next_deadline(self) -> int | None:
        """When :meth:`tick` has something to do, unix ms."""
        if self.finished:
            return None
        if self._state < OPEN:
            return self._begun_ms + self.limits.handshake_ms_max
        due_ms = self._deadline_ms
        if self.keep_alive_ms:
            due_ms = min(due_ms, self._heard_ms + self.keep_alive_ms)
        if self._pause.until_ms:
            due_ms = min(due_ms, self._pause.until_ms)
        if self.streaming is not None:
            due_ms = min(due_ms, self.streaming.due_ms)
        return due_ms if due_ms < _FOREVER_MS else None

    def tick(self, now_ms: int) -> None:
        """Hang up on who is silent, or may not stay; read on from who waited."""
        self._now_ms = now_ms
        if self.finished:
            return
        if self._state < OPEN:
            if now_ms >= self._begun_ms + self.limits.handshake_ms_max:
                self.refuse(Reason.NOT_AUTHORIZED, "it took too long")
            return
        self._pause.tick(now_ms)
        if self.streaming is not None:
            self.streaming.tick(now_ms)
        if not self.reading:
            self._heard_ms = now_ms  # who is not listened to cannot be heard
        if self.keep_alive_ms and now_ms >= self._heard_ms + self.keep_alive_ms:
            # [MQTT-3.1.2-22]
            self.fail(Reason.KEEP_ALIVE_TIMEOUT, "nothing was heard for too long")
        elif now_ms >= self._deadline_ms or not self.who.active:
            self.fail(Reason.NOT_AUTHORIZED, "log in again")

    def pause_writing(self) -> None:
        """The client does not read."""
        self.out.slow = True

    def resume_writing(self) -> None:
        """The client reads again."""
        with suppress(StorageError):  # a log that has failed tells everybody itself
            self.out.on_room()

    def shut_down(self, now_ms: int) -> None:
        """The server stops: answer what was taken, then say so."""
        self._now_ms = now_ms
        if self._state < OPEN:
            self.refuse(Reason.SERVER_UNAVAILABLE, "the server is shutting down")
        elif self.inbound.unanswered:
            self._state = CLOSING
        else:
            self.fail(Reason.SERVER_SHUTTING_DOWN, "")

    def connection_lost(self, now_ms: int) -> None:
        """The connection is gone: what was under way stays in the session, if that stays."""
        self.finished = True
        self._leave(now_ms)

    def _leave(self, now_ms: int) -> None:
        """Let go of the session, and of all that was leased."""
        session = self.session
        if session is None:
            return
        self.session = None
        self.core.advising.disconnected(self.number)
        try:
            self.out.let_go(now_ms)
            if self.streaming is not None:
                self.streaming.let_go(now_ms)
            if self.core.failed is None:
                self.core.clients.close(session, self, now_ms, self._said_goodbye)
        except StorageError as error:
            self.core.fail(error)  # the session counts as disconnected at the next start


_HANDLERS: dict[int, Callable[[MqttSession, Any, int], None]] = {
    4: MqttSession.on_puback,
    5: MqttSession.on_pubrec,
    6: MqttSession.on_pubrel,
    7: MqttSession.on_pubcomp,
    8: MqttSession.on_subscribe,
    10: MqttSession.on_unsubscribe,
    12: MqttSession.on_pingreq,
    14: MqttSession.on_disconnect,
    15: MqttSession.on_auth,
}
