"""The server's side of one STOMP connection. Sans-IO: see ``protocols/session.py``.

Rules:

1. One method per command, found in one table. How a client comes in is ``connecting.py``, what it
   sends ``sending.py``, what it gets ``subscribing.py``, how it settles that ``acknowledging.py``,
   its transactions ``transactions.py`` and its temporary destinations ``temporary.py``. The session
   joins them and owns the state.
2. A RECEIPT goes out when what its frame asked for is as durable as the queue or topic promises. It
   is encoded at once, into the buffer of that durability; one callback of the log sends all that
   came in one read.
3. SENDs to one queue that follow each other are one batch for the broker, and so are ACKs. Any
   other frame, and the end of what was read, ends the batch.
4. After an ERROR nothing is read any more; what was answered already is sent before it, and then
   the connection ends.
5. Nobody who does not read gets more to hold here than the window of each subscription.
"""

import enum
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, cast

from ...broker.errors import BraidError, Unauthenticated, Unavailable
from ...broker.laggards import Pause
from ...storage.errors import StorageError
from ...storage.log import Durability
from ..session import Host
from .acknowledging import Acknowledging
from .connecting import Connecting
from .dialects import DIALECTS, Refused
from .errors import words_of
from .frames import EOL, V10, V12, Frame, FrameBuffer, Malformed, Version, encode, escape
from .sending import Sender
from .subscribing import Subscribing
from .temporary import Temporary
from .transactions import Transactions

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core
    from ...broker.stomp_options import StompOptions
    from .server import StompServer

__all__ = ["FRAMES_PER_TURN_MAX", "SILENT_BEATS_MAX", "StompSession"]

FRAMES_PER_TURN_MAX: Final = 256  # then other connections get their turn
SILENT_BEATS_MAX: Final = 2  # heart-beats that may be missing before the client counts as gone
_FOREVER_MS = 1 << 62
_OS = Durability.OS
_SYNC = Durability.SYNC
_WITH_BODY = frozenset({"SEND", "MESSAGE", "ERROR"})


class _State(enum.IntEnum):
    GREETING = 0  # waits for CONNECT
    CHECKING = 1  # the password is being checked
    OPEN = 2
    CLOSING = 3  # takes nothing more, answers what it took


GREETING, CHECKING, OPEN, CLOSING = _State


class StompSession:
    """One STOMP connection, from CONNECT to the end.

    Attributes:
        who: known once it is open. id: what CONNECTED calls the session. client_id: "" for none.
        out: what goes to the client next. slow: the client does not read.
    """

    def __init__(
        self, core: "Core", host: Host, now_ms: int, options: "StompOptions", server: "StompServer"
    ) -> None:
        self.finished = False
        self.core = core
        self.host = host
        self.limits = core.limits
        self.options = options
        self.server = server
        self.dialect = DIALECTS[options.dialect]
        self.headers = server.table(self.dialect)
        self.version: Version = V10
        self.id = server.new_id()
        self.client_id = ""
        self.who = cast("Principal", None)
        self.out = bytearray()
        self.slow = False
        self.pause = Pause(host.wake)
        self.sending = Sender(self)
        self.subscribing = Subscribing(self)
        self.acknowledging = Acknowledging(self)
        self.transactions = Transactions(self)
        self.temporary = Temporary(self)
        limits = core.limits
        self._frames = FrameBuffer(
            limits.frame_bytes_unauthenticated_max,
            limits.headers_count_max,
            limits.headers_bytes_max,
        )
        self._connecting: Connecting | None = None
        self._state: _State = GREETING
        self._kept_os = bytearray()  # receipts to be sent once all so far is written
        self._kept_sync = bytearray()  # ... is on stable storage
        self._asked = 0  # receipts in those two
        self._unanswered = 0  # receipts that wait for the log
        self._unanswered_bytes = 0
        self._last_words = b""  # an ERROR, once all else is answered
        self._begun_ms = self._heard_ms = self._sent_ms = now_ms
        self._beats_in_ms = self._beats_out_ms = 0
        self._number = 0  # of the connection, for those who watch them
        self._more = False
        self._congested = False  # too much waits to be written
        self._pending_bytes_high = limits.pending_bytes_max // 2

    # --- what the parts ask ---

    @property
    def head(self) -> bytes:
        """Command and headers of the last frame, as they were read."""
        return bytes(self._frames.head)

    @property
    def is_open(self) -> bool:
        """Whether frames may be sent."""
        return self._state is OPEN and not self.finished

    def wake(self) -> None:
        """There is something to send."""
        self.host.wake()

    def send(self, command: str, headers: list[tuple[str, str]], body: bytes = b"") -> None:
        """Have a frame sent."""
        self.out += encode(command, headers, body, self.version)

    def answer(self, level: Durability, receipt: str | None) -> None:
        """Send a RECEIPT, if one was asked for, once ``level`` is reached."""
        if receipt is None:
            return
        frame = b"RECEIPT\nreceipt-id:%b\n\n\0\n" % escape(receipt, self.version).encode()
        self.answer_all(level, frame, 1)

    @contextmanager
    def publishing(self, now_ms: int) -> Iterator[None]:
        """Publish meanwhile: then wait for subscribers that are slow, if there are some."""
        slow = self.core.topics.slow
        slow.clear()  # what others, who do not wait, have left there
        with self.subscribing.not_local():
            yield
        if slow and self.pause.begin(slow, None, now_ms):
            self.host.hurry()

    def answer_all(self, level: Durability, frames: bytes, count: int) -> None:
        """Send so many RECEIPTs once ``level`` is reached."""
        if level is _SYNC:
            self._asked += count
            self._kept_sync += frames
        elif level is _OS:
            self._asked += count
            self._kept_os += frames
        else:
            self.out += frames

    def check_congestion(self) -> None:
        """Something was sent: read nothing more while too much waits to be written."""
        if self.core.log.pending_bytes > self._pending_bytes_high and not self._congested:
            self._congested = True
            self.core.when_kept(_SYNC, self._on_drained, None)

    def fail(self, message: str, detail: str, receipt: str = "", *more: tuple[str, str]) -> None:
        """Say what is wrong once all else is answered, then hang up."""
        if self.finished or self._last_words:
            return
        headers = [("message", message), ("content-type", "text/plain"), *more]
        if receipt:
            headers.insert(1, ("receipt-id", receipt))
        self.server.refused += 1
        self._last_words = encode("ERROR", headers, detail.encode(), self.version)
        self._close()

    def fail_with(self, error: BraidError, receipt: str = "") -> None:
        """The broker refuses what a frame asked for, or has ended something: hang up."""
        message, detail = words_of(error)
        self.fail(message, detail, receipt)

    def wait_for_proof(self) -> None:
        """The password is being checked."""
        self._state = CHECKING

    def let_in(
        self, who: "Principal", version: Version, beats: tuple[int, int], connected: bytes
    ) -> None:
        """The client is who it says. ``beats``: ms between its heart-beats, and between ours."""
        self.who = who
        self.version = self._frames.version = version
        self._frames.frame_bytes_max = self.limits.frame_bytes_max
        self._beats_in_ms, self._beats_out_ms = beats
        self._state = OPEN
        self._connecting = None
        self.core.access.watch(self._on_users_changed)
        self._number = self.core.advising.connected(
            self.client_id or self.id, who.name, "stomp", self.host.peer
        )
        self.out += connected
        self._more = len(self._frames) > 0
        self.host.authenticated()

    # --- what the carrier calls ---

    @property
    def reading(self) -> bool:
        """Whether more input is welcome now."""
        return not (
            self._more
            or self.pause.until_ms
            or self._congested
            or self.slow
            or self._state is CHECKING
            or self._state is CLOSING
            or self._unanswered > self.limits.requests_in_flight_max
            or self._unanswered_bytes > self.limits.outbound_bytes_max
            or len(self.out) > self.limits.outbound_bytes_max
        )

    @property
    def backlog(self) -> bool:
        """Whether :meth:`proceed` has something to do."""
        return self._more and not self.pause.until_ms and self._state is OPEN

    @property
    def answering(self) -> bool:
        """Whether receipts wait for the log."""
        return self._unanswered > 0

    def receive_data(self, data: bytes, now_ms: int) -> None:
        """Take bytes from the client."""
        self._heard_ms = now_ms
        if self.finished or self._state is CLOSING:
            return
        self._frames.feed(data)
        if self._state is CHECKING:
            if len(self._frames) > self.limits.frame_bytes_unauthenticated_max:
                self.fail("Wait for CONNECTED", "Too much was sent before the answer to CONNECT.")
        else:
            self.proceed(now_ms)

    def receive_eof(self, now_ms: int) -> None:
        """The client hung up; there is nobody to answer."""
        self.finished = True

    def proceed(self, now_ms: int) -> None:
        """Handle the next frames, not more than a turn's worth."""
        self.core.now_ms = now_ms
        frames = self._frames
        left = FRAMES_PER_TURN_MAX
        try:
            while left > 0 and self._state in (GREETING, OPEN) and not self.finished:
                if self.pause.until_ms:
                    break
                taken = self._take_run(left, now_ms)
                if taken:
                    left -= taken
                    continue
                frame = frames.next_frame()
                if frame is None:
                    break
                left -= 1
                self._take(frame, now_ms)
            self._flush(now_ms)
        except Malformed as malformed:
            self._flush(now_ms)
            self.fail(malformed.message, malformed.detail, malformed.receipt)
        except StorageError as error:
            self.fail_with(self.core.fail(error))
        stopped = left <= 0 or self.pause.until_ms > 0
        self._more = stopped and self._state is OPEN and len(frames) > 0
        if self._asked:
            self._wait_until_kept()

    def data_to_send(self, now_ms: int) -> bytearray:
        """All that should go to the client now. The caller owns it."""
        if self._state is OPEN and not self.finished:
            try:
                self.subscribing.pump(now_ms)
                self.acknowledging.settle_sent(now_ms)
            except StorageError as error:
                self.fail_with(self.core.fail(error))
            if self._asked:
                self._wait_until_kept()
        out = self.out
        if out:
            self.out = bytearray()
            self._sent_ms = now_ms
        return out

    def next_deadline(self) -> int | None:
        """When :meth:`tick` has something to do, unix ms."""
        if self.finished or self._state is CLOSING:
            return None
        if self._state is not OPEN:
            return self._begun_ms + self.limits.handshake_ms_max
        due_ms = min(self.who.expires_ms, self._silent_ms(), self._beat_ms())
        if self.pause.until_ms:
            due_ms = min(due_ms, self.pause.until_ms)
        return due_ms if due_ms < _FOREVER_MS else None

    def _silent_ms(self) -> int:
        """When the client has been silent for too long."""
        beats_ms = self._beats_in_ms
        return self._heard_ms + SILENT_BEATS_MAX * beats_ms if beats_ms else _FOREVER_MS

    def _beat_ms(self) -> int:
        """When the client must hear from us; a part of the time is for the way."""
        beats_ms = self._beats_out_ms
        return self._sent_ms + beats_ms * 3 // 4 if beats_ms else _FOREVER_MS

    def tick(self, now_ms: int) -> None:
        """Hang up on who is silent, never said who they are, or lost their rights."""
        if self.finished or self._state is CLOSING:
            return
        if self._state is not OPEN:
            if now_ms >= self._begun_ms + self.limits.handshake_ms_max:
                text = f"No CONNECT came within {self.limits.handshake_ms_max} ms.\n"
                self.fail("Too late", text)
            return
        self.core.now_ms = now_ms
        self.pause.tick(now_ms)
        if not self.reading:  # then its silence is ours
            self._heard_ms = now_ms
        if now_ms >= self._beat_ms():
            self._sent_ms = now_ms
            if not self.slow:
                self.out += EOL
        if now_ms >= self._silent_ms():
            text = f"Nothing was heard for {SILENT_BEATS_MAX} heart-beats of {self._beats_in_ms} ms"
            self.fail("No heart-beat", text + ".\n")
        elif not self.who.valid_at(now_ms):
            self._fail_revoked()

    def pause_writing(self) -> None:
        """The client does not read: no more messages, no more frames."""
        self.slow = True
        self.subscribing.hold_back()

    def resume_writing(self) -> None:
        """The client reads again."""
        self.slow = False

    def shut_down(self, now_ms: int) -> None:
        """Give back what subscriptions hold, answer what was asked, then finish."""
        if not self.finished and self._state is not CLOSING:
            self.fail_with(Unavailable("the server is shutting down"))

    def connection_lost(self, now_ms: int) -> None:
        """Give back what subscriptions hold; what is temporary ends."""
        self.finished = True
        self.core.advising.disconnected(self._number)
        self._let_go(now_ms)

    # --- what the core calls ---

    def _on_kept(self, answers: object, error: BraidError | None) -> None:
        """Send the receipts that waited for the log."""
        assert isinstance(answers, tuple)
        buffer, count = answers
        self._unanswered -= count
        self._unanswered_bytes -= len(buffer)
        if self.finished:
            return
        if error is not None:
            self.fail_with(error)
        else:
            self.out += buffer
        self._finish_if_answered()
        self.wake()

    def _on_drained(self, argument: object, error: BraidError | None) -> None:
        self._congested = False
        self.wake()

    def _on_users_changed(self) -> None:
        if not self.who.active and self.is_open:
            self._fail_revoked()
            self.wake()

    def _fail_revoked(self) -> None:
        self.fail_with(Unauthenticated("this user has no rights any more, or its token expired"))

    # --- one method per command ---

    def _take_run(self, most: int, now_ms: int) -> int:
        """Take frames at once that are like those before; how many there were."""
        if self._state is not OPEN:
            return 0
        try:
            taken = self.sending.take_run(self._frames, most, now_ms)
            if not taken and self.version is V12 and (names := self._frames.acks()):
                taken = len(names)
                self.acknowledging.take_run(names)
        except BraidError as error:
            self._flush(now_ms)
            self.fail_with(error)
            return 1
        return taken

    def _take(self, frame: Frame, now_ms: int) -> None:
        """Take one frame."""
        if self._state is GREETING:
            self._connecting = Connecting(self, frame)
            self._connecting.begin()
            return
        command, receipt = frame.command, frame.headers.get("receipt", "")
        handler = _HANDLERS.get(command)
        try:
            if command not in _BATCHED:
                self._flush(now_ms)
                if self._state is not OPEN:
                    return
            if handler is None:
                raise Refused(
                    f"Unknown command {command}",
                    f"The frames of a client are {', '.join(sorted(_HANDLERS))}.\n",
                )
            if frame.body and self.version is not V10 and command not in _WITH_BODY:
                raise Refused(f"{command} with a body", "Only SEND has a body.\n")
            handler(self, frame, now_ms)
        except BraidError as error:
            self._flush(now_ms)
            self.fail_with(error, receipt)

    def _flush(self, now_ms: int) -> None:
        """End the batches: do what was put together."""
        self.sending.flush(now_ms)
        self.acknowledging.flush(now_ms)

    def on_send(self, frame: Frame, now_ms: int) -> None:
        self.sending.on_send(frame, now_ms)

    def on_subscribe(self, frame: Frame, now_ms: int) -> None:
        level = self.subscribing.on_subscribe(frame.headers, now_ms)
        self.answer(level, frame.headers.get("receipt"))

    def on_unsubscribe(self, frame: Frame, now_ms: int) -> None:
        level = self.subscribing.on_unsubscribe(frame.headers, now_ms)
        self.answer(level, frame.headers.get("receipt"))

    def on_ack(self, frame: Frame, now_ms: int) -> None:
        self.acknowledging.on_ack(frame.headers, now_ms)

    def on_nack(self, frame: Frame, now_ms: int) -> None:
        level = self.acknowledging.on_nack(frame.headers, now_ms)
        self.answer(level, frame.headers.get("receipt"))

    def on_begin(self, frame: Frame, now_ms: int) -> None:
        self.transactions.begin(frame.headers)
        self.answer(Durability.MEMORY, frame.headers.get("receipt"))

    def on_commit(self, frame: Frame, now_ms: int) -> None:
        level = self.transactions.commit(frame.headers, now_ms)
        self.answer(level, frame.headers.get("receipt"))

    def on_abort(self, frame: Frame, now_ms: int) -> None:
        self.transactions.abort(frame.headers)
        self.answer(Durability.MEMORY, frame.headers.get("receipt"))

    def on_connect(self, frame: Frame, now_ms: int) -> None:
        raise Refused("Already connected", "A connection has one CONNECT, at its beginning.\n")

    def on_disconnect(self, frame: Frame, now_ms: int) -> None:
        self.answer(_SYNC, frame.headers.get("receipt"))
        self._close()

    # --- the end ---

    def _close(self) -> None:
        """Take nothing more; end once all that was taken is answered."""
        if self._state is OPEN:
            self.acknowledging.settle_sent(self.core.now_ms)
        self._state = CLOSING
        self._more = False
        self._let_go(self.core.now_ms)
        if self._asked:
            self._wait_until_kept()
        self._finish_if_answered()

    def _finish_if_answered(self) -> None:
        if self._state is CLOSING and not self._unanswered and not self.finished:
            self.out += self._last_words
            self.finished = True

    def _wait_until_kept(self) -> None:
        """Have the receipts of this turn sent when the log has kept what they speak of."""
        count = self._asked
        self._asked = 0
        self._unanswered += count
        written, synced = self._kept_os, self._kept_sync
        self._unanswered_bytes += len(written) + len(synced)
        if written:
            self._kept_os = bytearray()
            self.core.when_kept(_OS, self._on_kept, (written, 0 if synced else count))
        if synced:
            self._kept_sync = bytearray()
            self.core.when_kept(_SYNC, self._on_kept, (synced, count))

    def _let_go(self, now_ms: int) -> None:
        """Give back what is held."""
        self.core.access.unwatch(self._on_users_changed)
        if self.who is None:
            return
        try:
            self.transactions.forget()
            self.subscribing.let_go(now_ms)
            self.temporary.let_go(now_ms)
        except StorageError as error:
            self.core.fail(error)  # what is not returned now is so by the next start


_BATCHED = frozenset({"SEND", "ACK"})
_HANDLERS: dict[str, Callable[[StompSession, Any, int], None]] = {
    "SEND": StompSession.on_send,
    "SUBSCRIBE": StompSession.on_subscribe,
    "UNSUBSCRIBE": StompSession.on_unsubscribe,
    "ACK": StompSession.on_ack,
    "NACK": StompSession.on_nack,
    "BEGIN": StompSession.on_begin,
    "COMMIT": StompSession.on_commit,
    "ABORT": StompSession.on_abort,
    "CONNECT": StompSession.on_connect,
    "STOMP": StompSession.on_connect,
    "DISCONNECT": StompSession.on_disconnect,
}
