"""A well-behaved pair of STOMP clients (see ``neighbours.py``), and others beside them."""

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from select import select

from .audit import OK
from .neighbours import Pair
from .stomp_wire import Frame, Gone, StompWire, frame_bytes
from .waiting import GUARD_SECONDS

__all__ = ["CONNECT", "Beside", "Taker", "dial", "ended", "ended_with", "throw"]

CONNECT = frame_bytes("CONNECT", {"accept-version": "1.2", "host": "here"})
DESTINATION = "/queue/neighbours,/topic/neighbours"


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


class Beside(Pair):
    """They talk to a queue and a topic at once, and take from both."""

    ENOUGH_MESSAGES = 40
    WARM_MESSAGES = 100

    async def meet(self) -> None:
        self._answered = 0
        self._talks = await StompWire.open(self.port)
        listens = await StompWire.open(self.port)
        self._takers = [Taker(listens, "queue", "client-individual"), Taker(listens, "topic")]
        for taker in self._takers:
            await taker.subscribe(f"/{taker.id}/neighbours")

    def say(self, body: bytes) -> None:
        if self._talks.gone:
            raise Gone(f"the sender of the pair: {self._talks.error}")
        headers = {"destination": DESTINATION, "persistent": "true"}
        self._talks.post("SEND", headers, body, self._on_answer)

    def _on_answer(self, outcome: str) -> None:
        self._answered += outcome == OK

    @property
    def answered(self) -> int:
        return self._answered

    @property
    def heard(self) -> Mapping[str, Sequence[bytes]]:
        return {taker.id: taker.bodies for taker in self._takers}

    def part(self) -> None:
        for wire in (self._talks, self._takers[0].wire):
            wire.abort()
