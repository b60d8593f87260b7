"""A well-behaved pair of STOMP clients beside hostile ones, and what these cost in memory.

``async with Beside(daemon) as pair:`` has one client send to a queue and to a topic at once, and
another take from both, until the block ends. Then every message has to have come, once and in
order, and the broker may have grown by so much at most.
"""

import asyncio
import socket
from contextlib import suppress
from select import select
from types import TracebackType

from .audit import OK
from .daemon import Daemon
from .mqtt_neighbours import rss_mib
from .stomp_wire import Frame, Gone, StompWire, frame_bytes
from .waiting import GUARD_SECONDS, until

__all__ = ["CONNECT", "Beside", "Taker", "dial", "ended", "ended_with", "throw"]

CONNECT = frame_bytes("CONNECT", {"accept-version": "1.2", "host": "here"})
DESTINATION = "/queue/neighbours,/topic/neighbours"
WINDOW = 8
ENOUGH_MESSAGES = 40  # in the middle of whatever happens beside them
WARM_MESSAGES = 100
PAUSE_SECONDS = 0.002


def dial(port: int, first: bytes = b"", receive_bytes: int = 0) -> socket.socket:
    """A socket that says nothing more by itself; ``receive_bytes``: its kernel buffer."""
    raw = socket.socket()
    if receive_bytes:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.settimeout(GUARD_SECONDS)
    raw.connect(("127.0.0.1", port))
    raw.sendall(first)
    return raw


def ended(raw: socket.socket) -> bool:
    """Whether the broker hung up; what it said before is thrown away."""
    raw.setblocking(False)
    try:
        while raw.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def ended_with(raw: socket.socket) -> bytes:
    """Wait until the broker hangs up: all that it said. To be run in a thread."""
    found = b""
    with suppress(ConnectionError):
        while part := raw.recv(65_536):
            found += part
    raw.close()
    return found


def throw(raw: socket.socket, part: bytes, most: int) -> bytes:
    """Send this again and again until the broker says something or hangs up. For a thread.

    Returns what it said, or b"" when it took so many bytes without a word.
    """
    sent, said = 0, b""
    while sent < most and not said:
        try:
            raw.sendall(part)
            sent += len(part)
            if select([raw], [], [], 0)[0]:
                said = raw.recv(65_536) or b"hung up"
        except ConnectionError:
            said = b"hung up"
    raw.close()
    return said


class Taker:
    """A subscription that keeps what comes.

    Args:
        ack: its mode; what comes is acknowledged at once unless it is not ``acknowledges``.
    """

    def __init__(self, wire: StompWire, id: str, ack: str = "auto", acknowledges: bool = True):
        self.wire = wire
        self.id = id
        self.bodies: list[bytes] = []
        self.again = 0  # messages that came again
        self._ack = ack
        self._acknowledges = acknowledges and ack != "auto"

    async def subscribe(self, destination: str, **more: str) -> None:
        """Have messages sent. Raises Gone."""
        self.wire.hear(self.id, self._on_message)
        headers = {"id": self.id, "destination": destination, "ack": self._ack}
        await self.wire.ask("SUBSCRIBE", headers | more)

    def _on_message(self, frame: Frame) -> None:
        self.bodies.append(frame.body)
        self.again += frame.headers.get("redelivered") == "true"
        if self._acknowledges:
            self.wire.post("ACK", {"id": frame.headers["ack"]})


class Beside:
    """The pair, and the verdict on it.

    Args:
        grows_mib_max: what the broker may take beside what it had when the pair was warm.
    """

    def __init__(self, daemon: Daemon, grows_mib_max: float) -> None:
        self.daemon = daemon
        self.port = daemon.ports[1]
        self.grows_mib_max = grows_mib_max
        self.grown_mib = 0.0
        self.sent = 0
        self.answered = 0
        self.peak_mib = 0.0
        self._talks: StompWire
        self._takers: list[Taker] = []
        self._task: asyncio.Task[None] | None = None
        self._began_mib = 0.0

    async def __aenter__(self) -> "Beside":
        self._talks = await StompWire.open(self.port)
        listens = await StompWire.open(self.port)
        queue = Taker(listens, "queue", "client-individual")
        topic = Taker(listens, "topic")
        self._takers = [queue, topic]
        await queue.subscribe("/queue/neighbours")
        await topic.subscribe("/topic/neighbours")
        self._task = asyncio.ensure_future(self._talk())
        await self.exchange(WARM_MESSAGES)
        self._began_mib = rss_mib(self.daemon.pid)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        if error is None:
            await self.exchange()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if error is None:
            numbers = [b"%d" % number for number in range(1, self.sent + 1)]
            for each in self._takers:
                came = await until(lambda each=each: len(each.bodies) >= self.sent)  # type: ignore[misc]
                assert came, f"{len(each.bodies)} of {self.sent} came to the {each.id}"
                assert each.bodies == numbers
            assert await until(lambda: self.answered == self.sent)
            self.look()
            self.grown_mib = self.peak_mib - self._began_mib
            text = f"the broker has grown by {self.grown_mib:.1f} MiB"
            assert self.grown_mib <= self.grows_mib_max, text
        for wire in (self._talks, self._takers[0].wire):
            wire.abort()

    def look(self) -> None:
        """Note how much memory the broker takes now."""
        self.peak_mib = max(self.peak_mib, rss_mib(self.daemon.pid))

    async def exchange(self, count: int = ENOUGH_MESSAGES) -> None:
        """Return when they have exchanged so many more messages: they are not held up."""
        wanted = self.sent + count

        def done() -> bool:
            assert self._task is not None
            if self._task.done():
                self._task.result()
            return min(len(each.bodies) for each in self._takers) >= wanted

        assert await until(done), f"sent {self.sent}, answered {self.answered}, want {wanted}"
        self.look()

    async def _talk(self) -> None:
        wire = self._talks

        def answered(outcome: str) -> None:
            self.answered += outcome == OK

        while True:
            if wire.gone:
                raise Gone(f"the sender of the pair: {wire.error}")
            if self.sent - self.answered < WINDOW:
                self.sent += 1
                headers = {"destination": DESTINATION, "persistent": "true"}
                wire.post("SEND", headers, b"%d" % self.sent, answered)
            await asyncio.sleep(PAUSE_SECONDS)
