"""No matter what bytes come, the frame parser gives frames, asks for more, or says what is wrong.

And the server's session answers or hangs up: it never raises, never holds much more than what came,
and another connection does not notice. The functions here are fed by hypothesis and by atheris.
"""

from itertools import pairwise

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError
from braidmq.broker.limits import Limits
from braidmq.broker.stream_settings import StreamSettings
from braidmq.protocols.native import frames
from braidmq.protocols.native.operations import SentReply, SettledReply
from braidmq.protocols.native.session import NativeSession
from tests.broker_harness import Harness

__all__ = ["FRAME_BYTES_MAX", "Line", "Rig", "check_frames", "cut_into_frames"]

FRAME_BYTES_MAX = 4_096
# Small, so that the fuzzer reaches what they forbid.
LIMITS = Limits(
    body_bytes_max=20_000,
    headers_bytes_max=4_000,
    frame_bytes_max=40_000,
    frame_bytes_unauthenticated_max=FRAME_BYTES_MAX,
    outbound_bytes_max=200_000,
    requests_in_flight_max=32,
    queues_max=20,
    credit_max=64,
    batch_messages_max=50,
    transaction_steps_max=8,
    in_flight_messages_max=50,
    dedup_ids_max=50,
    streams_max=5,
    shards_per_stream_max=4,
    shards_max=20,
    stream_reads_waiting_max=20,
    groups_per_stream_max=5,
)
_OUT_SLACK = 4 * 1024 * 1024  # answers to one turn's requests; they go out before the next


def cut_into_frames(chunks: list[bytes], limit: int) -> tuple[list[bytes], bool]:
    """What comes out of a FrameBuffer, and whether it ended by Malformed."""
    buffer = frames.FrameBuffer(limit)
    found = []
    for chunk in chunks:
        buffer.feed(chunk)
        try:
            while (payload := buffer.next_frame()) is not None:
                found.append(bytes(payload))
        except frames.Malformed:
            return found, True
        assert not buffer.has_frame()
        assert len(buffer) < frames.LENGTH_BYTES + limit, "it waits for more than a frame"
    return found, False


def check_frames(data: bytes, cuts: list[int]) -> None:
    """However the bytes are cut, the same comes out, and decoding raises what it may."""
    whole = cut_into_frames([data], FRAME_BYTES_MAX)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    chunks = [data[a:b] for a, b in pairwise(edges)]
    assert cut_into_frames(chunks, FRAME_BYTES_MAX) == whole
    for payload in [*whole[0], data]:
        view = memoryview(payload)
        for decode in (frames.decode_request, frames.decode_reply):
            try:
                decode(view)
            except frames.Refused as refused:
                assert isinstance(refused.error, BraidError) and refused.request >= 0
            except frames.Malformed as malformed:
                assert isinstance(malformed.error, BraidError)
        try:
            frames.decode_hello(view)
        except frames.Malformed:
            pass


class Host:
    """A carrier that is woken and does nothing of its own."""

    peer = "127.0.0.1"
    loopback = True
    tls = False
    certificate_user = ""
    connections = 2

    def wake(self) -> None:
        """Everything is looked at anyway."""

    def authenticate(self, user, password, callback) -> None:
        """Nobody answers: the session must not depend on it."""

    def scram(self):
        """Not for this one."""
        raise NotImplementedError

    def hurry(self):
        pass

    def authenticated(self) -> None:
        """Nobody counts."""


class Line:
    """One connection: a session, and what comes out of it."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.session = NativeSession(harness.core, Host(), harness.clock.ms)
        self._out = frames.FrameBuffer(10**9)

    def write(self, *requests: tuple) -> None:
        """Send well-formed requests."""
        data = bytearray()
        for request in requests:
            frames.append_frame(data, request)
        self.feed(bytes(data))

    def feed(self, data: bytes) -> None:
        """Send bytes."""
        self.session.receive_data(data, self.harness.clock.ms)
        self.flush()

    def flush(self) -> None:
        """Do what the carrier does after every call."""
        session, clock = self.session, self.harness.clock
        for _ in range(1_000):
            self.harness.settle()
            out = session.data_to_send(clock.ms)
            assert len(out) < LIMITS.outbound_bytes_max + _OUT_SLACK
            self._out.feed(bytes(out))
            if session.backlog:
                session.proceed(clock.ms)
            elif not out:
                return
        raise AssertionError("the session does not come to rest")

    def replies(self) -> list:
        """What was answered; all of it can be read."""
        found = []
        while (view := self._out.next_frame()) is not None:
            found.append(frames.decode_reply(view))
        return found


class Rig:
    """A broker with one connection that behaves, and one that does not."""

    def __init__(self) -> None:
        self.harness = Harness(limits=LIMITS)
        self.harness.declare("q", max_receives=2, dead_letter="dead")
        self.harness.declare("f", fifo=True)
        core, now_ms = self.harness.core, self.harness.clock.ms
        core.declare_stream(SYSTEM, "s", StreamSettings(), 2, now_ms)
        self.healthy = Line(self.harness)
        self.healthy.write((1, 1, 1, 1, "healthy"), (16, 2, "healthy", {}))
        self.healthy.replies()
        self._number = 2

    def attack(self, data: bytes, greet: bool, cuts: list[int]) -> None:
        """Feed ``data`` to a new connection, in pieces; then hang up."""
        evil = Line(self.harness)
        if greet:
            evil.write((1, 1, 1, 1, "evil"))
        edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
        for a, b in pairwise(edges):
            if evil.session.finished:
                break
            evil.feed(data[a:b])
        evil.replies()
        self.check_healthy()
        self.harness.advance(50)
        evil.session.connection_lost(self.harness.clock.ms)
        self.check_healthy()

    def check_healthy(self) -> None:
        """The other connection sends, receives and acknowledges as if nothing had happened."""
        line = self.healthy
        first = self._number
        self._number += 3
        line.write((3, first, "healthy", [[b"body"]]))
        sent = line.replies()
        assert len(sent) == 1 and isinstance(sent[0], SentReply) and not sent[0].errors, sent
        line.write((4, first + 1, "healthy", 10))
        (delivered,) = line.replies()
        assert [message.body for message in delivered.messages] == [b"body"]
        receipt = (delivered.messages[0].seq, delivered.messages[0].token)
        line.write((8, first + 2, "healthy", [receipt]))
        (settled,) = line.replies()
        assert isinstance(settled, SettledReply) and not settled.errors
        assert not line.session.finished
