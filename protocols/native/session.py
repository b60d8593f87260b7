"""The server's side of one native connection. Sans-IO: see ``protocols/session.py``.

Rules:

1. One method per operation, named ``on_`` and the operation, found in one table by the type that
   the decoder made.
2. What changes the broker is answered when it is kept. The answer is encoded at once, into the
   buffer of its durability, and the buffer goes out whole when the log says so: one callback for
   all requests that came in one read, nothing allocated per request.
3. The core never sees more credit of a consumer than about ``DELIVER_BYTES`` worth of messages, and
   none while the peer does not read: that bounds what waits here.
4. A connection that sends stops being read while too much waits to be written, one that publishes
   also for subscribers that are slow. One that only receives and acknowledges never is.
5. An error of a request answers that request. Only malformed input, a failed handshake, silence and
   a failed broker end the connection, with an ERROR on request 0.
"""

import enum
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast, get_args

from ...broker.errors import (
    BraidError,
    Conflict,
    Disconnected,
    InvalidArgument,
    LimitExceeded,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from ...broker.laggards import Pause
from ...broker.lease import Consumer
from ...broker.message import Receipt
from ...storage.log import Durability
from ..session import Host
from . import operations as op
from . import schedule_operations as schedule_op
from . import stream_operations as stream_op
from .frames import (
    VERSION,
    FrameBuffer,
    Malformed,
    Refused,
    append_frame,
    decode_hello,
    decode_request,
)
from .managing import ManagementRequests
from .queues import Push, QueueRequests
from .streams import StreamRequest, StreamRequests, StreamTail
from .topics import TopicRequests, TopicStream
from .transactions import TransactionRequests

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core

__all__ = [
    "FRAMES_PER_TURN_MAX",
    "HEARTBEAT_MS_MIN",
    "NativeSession",
]

FRAMES_PER_TURN_MAX = 256  # then other connections get their turn
HEARTBEAT_MS_MIN = 1_000

_OS = Durability.OS
_SYNC = Durability.SYNC


class _State(enum.IntEnum):
    GREETING = 0  # waits for HELLO
    CHECKING = 1  # the password is being checked
    OPEN = 2
    CLOSING = 3  # takes no more requests, answers those it took


GREETING, CHECKING, OPEN, CLOSING = _State


class NativeSession(
    ManagementRequests, QueueRequests, TopicRequests, StreamRequests, TransactionRequests
):
    """One native connection, from HELLO to the end.

    What is asked about the messages of queues stands in ``queues.py``, about topics in
    ``topics.py``, about streams and groups in ``streams.py``, about several of them together in
    ``transactions.py``, what manages the rest in ``managing.py``.
    """

    def __init__(self, core: "Core", host: Host, now_ms: int) -> None:
        self.finished = False
        self._core = core
        self._host = host
        self._limits = core.limits
        self._frames = FrameBuffer(core.limits.frame_bytes_unauthenticated_max)
        self._out = bytearray()
        self._kept_os = bytearray()  # answers to be sent once all so far is written
        self._kept_sync = bytearray()  # ... is on stable storage
        self._asked = 0  # requests answered in those two
        self._unanswered = 0  # requests whose answers wait for the log
        self._open: dict[int, Consumer | TopicStream | StreamRequest] = {}
        self._hungry = []
        self._ready = []
        self._starved = []
        self._surplus = []
        self._who = cast("Principal", None)  # known once the state is OPEN
        self._state: _State = GREETING
        self._begun_ms = now_ms
        self._heard_ms = now_ms
        self._heartbeat_ms = 0
        self._beat_ms = 0  # when to look again whether the client must hear from us
        self._hello = 0  # the request to answer with WELCOME
        self._number = 0  # of the connection, for those who watch them
        self._more = False
        self._sends = False  # messages came in this turn
        self._congested = False  # too much waits to be written
        self._pending_bytes_high = core.limits.pending_bytes_max // 2
        self._peer_is_slow = False
        self._pause = Pause(host.wake)

    # --- what the carrier calls ---

    @property
    def reading(self) -> bool:
        """Whether more input is welcome now."""
        return not (
            self._more
            or self._pause.until_ms
            or self._congested
            or self._peer_is_slow
            or self._state is CHECKING
            or self._unanswered > self._limits.requests_in_flight_max
        )

    @property
    def backlog(self) -> bool:
        """Whether :meth:`proceed` has something to do."""
        return self._more and not self._pause.until_ms

    @property
    def answering(self) -> bool:
        """Whether answers are due, most of which wait for the log."""
        return self._unanswered > 0

    def receive_data(self, data: bytes, now_ms: int) -> None:
        """Take bytes from the client."""
        self._heard_ms = now_ms
        if not self.finished:
            self._frames.feed(data)
            self.proceed(now_ms)

    def receive_eof(self, now_ms: int) -> None:
        """The client hung up; there is nobody to answer."""
        self.finished = True

    def proceed(self, now_ms: int) -> None:
        """Handle the next frames, not more than a turn's worth."""
        frames = self._frames
        left = FRAMES_PER_TURN_MAX
        while left > 0 and not self.finished and not self._pause.until_ms:
            if self._state is not OPEN:
                if self._state is GREETING:
                    self._greet(now_ms)
                if self._state is not OPEN:
                    break
            try:
                payload = frames.next_frame()
                if payload is None:
                    break
                left -= 1
                request = decode_request(payload)
            except Refused as refused:
                self._error(refused.request, refused.error)
                continue
            except Malformed as malformed:
                self._fail(malformed.error)
                break
            handle, cost = _HANDLERS[type(request)]
            left -= cost
            try:
                handle(self, request, now_ms)
            except BraidError as error:
                self._error(request.request, error)
                continue
            handle_run = _RUN_HANDLERS.get(type(request))
            if handle_run is not None and (run := frames.next_run(len(payload), left)):
                left -= len(run[0])
                handle_run(self, request, *run, now_ms)
        stopped = left <= 0 or self._pause.until_ms > 0
        self._more = stopped and not self.finished and frames.has_frame()
        if self._state is CHECKING and len(frames) > self._limits.frame_bytes_unauthenticated_max:
            self._fail(TooLarge("wait for WELCOME before you send anything else"))
        if self._asked:
            self._wait_until_kept()

    def data_to_send(self, now_ms: int) -> bytearray:
        """All that should go to the client now. The caller owns it."""
        if self._surplus:
            self._return_surplus(now_ms)
        if self._hungry and not self._peer_is_slow:
            self._pass_credit_on()
        if self._ready and not self._peer_is_slow:
            self._send_events(now_ms)
        if self._starved and not self._peer_is_slow:
            self._pass_bytes_on()
        out = self._out
        if out:
            self._out = bytearray()
        return out

    def next_deadline(self) -> int | None:
        """When :meth:`tick` has something to do, unix ms."""
        if self.finished or self._state is CLOSING:
            return None
        if self._state is OPEN:
            silence_ms = self._heard_ms + 2 * self._heartbeat_ms
            due_ms = min(silence_ms, self._beat_ms, self._who.expires_ms)
            return min(due_ms, self._pause.until_ms) if self._pause.until_ms else due_ms
        return self._begun_ms + self._limits.handshake_ms_max

    def tick(self, now_ms: int) -> None:
        """Hang up on who is silent, never said who they are, or lost their rights."""
        if self.finished or self._state is CLOSING:
            return
        if self._state is not OPEN:
            if now_ms >= self._begun_ms + self._limits.handshake_ms_max:
                text = f"no valid HELLO within {self._limits.handshake_ms_max} ms"
                self._fail(Unauthenticated(text))
            return
        self._pause.tick(now_ms)
        if now_ms >= self._beat_ms:
            self._beat_ms = now_ms + self._heartbeat_ms
            if not self.reading:  # then its silence is ours, and ours must not look like one
                self._heard_ms = now_ms
                append_frame(self._out, op.Pong(0))
        if now_ms >= self._heard_ms + 2 * self._heartbeat_ms:
            text = f"nothing was heard for two heartbeats of {self._heartbeat_ms} ms"
            self._fail(Disconnected(text))
        elif not self._who.valid_at(now_ms):
            self._fail_revoked()

    def pause_writing(self) -> None:
        """The client does not read: no more credit, no more requests."""
        self._peer_is_slow = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._peer_is_slow = False

    def shut_down(self, now_ms: int) -> None:
        """Give back what consumers hold, answer what was asked, then finish."""
        if self.finished or self._state is CLOSING:
            return
        self._state = CLOSING
        self._let_go(now_ms)
        if not self._unanswered:
            self._fail(Unavailable("the server is shutting down"))

    def connection_lost(self, now_ms: int) -> None:
        """Give back what consumers hold; receives stop waiting."""
        self.finished = True
        self._core.access.unwatch(self._on_users_changed)
        self._core.advising.disconnected(self._number)
        self._let_go(now_ms)

    # --- what the core calls ---

    def _on_kept(self, answers: object, error: BraidError | None) -> None:
        """Send the answers that waited for the log."""
        assert isinstance(answers, tuple)
        buffer, count = answers
        self._unanswered -= count
        if self.finished:
            return
        if error is not None:
            self._fail(error)
        else:
            if self._out:
                self._out += buffer
            else:
                self._out = buffer
            if self._state is CLOSING and not self._unanswered:
                self._fail(Unavailable("the server is shutting down"))
        self._host.wake()

    def _on_drained(self, argument: object, error: BraidError | None) -> None:
        self._congested = False
        self._host.wake()

    def _on_authenticated(self, who: "Principal | BraidError") -> None:
        if self.finished or self._state is CLOSING:
            return
        if isinstance(who, BraidError):
            self._fail(who)
        else:
            self._welcome(who)
        self._host.wake()

    def _on_users_changed(self) -> None:
        if not self._who.active and not self.finished:
            self._fail_revoked()
            self._host.wake()

    # --- the handshake ---

    def _greet(self, now_ms: int) -> None:
        """Take the first frame, if it is there."""
        try:
            payload = self._frames.next_frame()
            if payload is None:
                return
            hello = decode_hello(payload)
        except Malformed as malformed:
            self._fail(malformed.error)
            return
        if not hello.version_min <= VERSION <= hello.version_max:
            self._fail(InvalidArgument(f"this server speaks version {VERSION} of the protocol"))
            return
        limits = self._limits
        wish = hello.heartbeat_ms or limits.heartbeat_ms_max
        self._heartbeat_ms = max(HEARTBEAT_MS_MIN, min(wish, limits.heartbeat_ms_max))
        self._hello = hello.request
        if hello.user:
            self._state = CHECKING
            self._host.authenticate(hello.user, hello.password, self._on_authenticated)
            return
        access, certified = self._core.access, self._host.certificate_user
        try:
            if certified:
                self._welcome(access.principal(certified))
            else:
                self._welcome(access.anonymous(self._host.loopback))
        except Unauthenticated as error:
            self._fail(error)

    def _welcome(self, who: "Principal") -> None:
        limits = self._limits
        self._who = who
        self._state = OPEN
        self._core.access.watch(self._on_users_changed)
        self._number = self._core.advising.connected("", who.name, "braid", self._host.peer)
        self._beat_ms = self._heard_ms + self._heartbeat_ms
        self._frames.frame_bytes_max = limits.frame_bytes_max
        self._more = self._frames.has_frame()
        told = {
            "batch_messages": limits.batch_messages_max,
            "body_bytes": limits.body_bytes_max,
            "credit": limits.credit_max,
            "frame_bytes": limits.frame_bytes_max,
            "headers_bytes": limits.headers_bytes_max,
            "headers_count": limits.headers_count_max,
            "receive_messages": limits.receive_messages_max,
            "receive_wait_ms": limits.receive_wait_ms_max,
            "requests_in_flight": limits.requests_in_flight_max,
        }
        instance = self._core.instance
        welcome = (65, self._hello, VERSION, "braidmq", instance, self._heartbeat_ms, told)
        append_frame(self._out, welcome)
        self._host.authenticated()

    # --- one method per operation ---

    def on_ping(self, request: op.Ping, now_ms: int) -> None:
        append_frame(self._out, op.Pong(request.request))

    def on_credit(self, request: op.Credit, now_ms: int) -> None:
        opened = self._open.get(request.request)
        if isinstance(opened, TopicStream):
            self._give_credit(opened, request.count)
        elif isinstance(opened, StreamTail):
            self._give_bytes(opened, request.count)
        elif isinstance(opened, Consumer) and isinstance(opened.tag, Push):
            self._give_messages(opened.tag, request.count)
        # Else it may have ended a moment ago, which its ERROR says.

    def on_cancel(self, request: op.Cancel, now_ms: int) -> None:
        consumer = self._open.pop(request.target, None)
        if consumer is not None:
            self._end(consumer, request.unprocessed, now_ms)
        append_frame(self._out, op.DoneReply(request.request))

    # --- small things ---

    def _answers(self, level: Durability, count: int = 1) -> bytearray:
        """The buffer for answers that are due once ``level`` is reached."""
        if level is _SYNC:
            self._asked += count
            return self._kept_sync
        if level is _OS:
            self._asked += count
            return self._kept_os
        return self._out

    def _wait_until_kept(self) -> None:
        """Have the answers of this turn sent when the log has kept what they speak of."""
        count = self._asked
        self._asked = 0
        self._unanswered += count
        written, synced = self._kept_os, self._kept_sync
        if written:
            self._kept_os = bytearray()
            self._core.when_kept(_OS, self._on_kept, (written, 0 if synced else count))
        if synced:
            self._kept_sync = bytearray()
            self._core.when_kept(_SYNC, self._on_kept, (synced, count))
        if self._sends:
            self._sends = False
            if self._core.log.pending_bytes > self._pending_bytes_high and not self._congested:
                self._congested = True
                self._core.when_kept(_SYNC, self._on_drained, None)

    def _check_new(self, request: int) -> None:
        if request in self._open:
            raise Conflict(f"request {request} is still open")
        if len(self._open) >= self._limits.requests_in_flight_max:
            most = self._limits.requests_in_flight_max
            raise LimitExceeded(f"at most {most} receives and consumers on a connection")

    def _let_go(self, now_ms: int) -> None:
        consumers = list(self._open.values())
        self._open.clear()
        self._hungry.clear()
        for consumer in consumers:
            self._end(consumer, (), now_ms)

    def _end(self, opened: Any, unprocessed: Sequence[Receipt], now_ms: int) -> None:
        if isinstance(opened, Consumer):
            self._core.cancel(opened, unprocessed, now_ms)
        else:
            opened.end(unprocessed, now_ms)

    def _error(self, request: int, error: BraidError) -> None:
        append_frame(self._out, op.ErrorReply(request, error.code, str(error)))

    def _fail_revoked(self) -> None:
        self._fail(Unauthenticated("this user has no rights any more, or its token expired"))

    def _fail(self, error: BraidError) -> None:
        """Say why, and hang up."""
        self._error(0, error)
        self.finished = True
        self._more = False


_NAMES = {number: name.lower() for name, number in op.OPERATIONS.items()}
_LOOKS_AT_ALL = frozenset(
    (
        *(op.ListQueues, op.BrokerInfoRequest, op.DeleteQueue, op.ListSessions),
        stream_op.ListStreams,
        *(schedule_op.ListSchedules, schedule_op.ScheduleInfoRequest),
        *(schedule_op.Unschedule, schedule_op.UnscheduleBetween),
    )
)
# What handles a request, and what it takes of a turn beside its frame: what looks at every queue
# or session ends the turn.
_HANDLERS: dict[type, tuple[Callable[[NativeSession, Any, int], None], int]] = {
    kind: (
        getattr(NativeSession, f"on_{_NAMES[kind.__struct_config__.tag]}"),
        FRAMES_PER_TURN_MAX if kind in _LOOKS_AT_ALL else 0,
    )
    for kind in get_args(op.Request)
}
# What handles those behind it that differ in request and body alone.
_RunHandler = Callable[[NativeSession, Any, list[int], list[bytes], int], None]
_RUN_HANDLERS: dict[type, _RunHandler] = {
    op.Send: NativeSession.on_sends,
    stream_op.Append: NativeSession.on_appends,
}
