"""A well-behaved pair of clients beside hostile ones, and what they cost the broker in memory.

``async with Beside(daemon) as pair:`` has one client publish to another, QoS 1, through a durable
session in the log and live with QoS 0 from the same messages, until the block ends. Then every
message has to have come, once and in order, and the broker may have grown by so much at most.
"""

import asyncio
import socket
from pathlib import Path
from types import TracebackType

from .daemon import Daemon
from .mqtt_wire import PUBACK, V5, V311, Gone, Listener, Message, MqttWire, connect_packet
from .waiting import until

__all__ = ["Beside", "Recorder", "raw_client", "rss_mib", "told"]

TOPIC = "neighbours/talk"
WINDOW = 8
ENOUGH_MESSAGES = 60  # in the middle of whatever happens beside them
WARM_MESSAGES = 200
PAUSE_SECONDS = 0.002


def rss_mib(pid: int) -> float:
    """The process's resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


class Recorder(Listener):
    """Keeps what comes, and acknowledges it unless told otherwise."""

    def __init__(self, acknowledges: bool = True) -> None:
        self.acknowledges = acknowledges
        self.present = False
        self.messages: list[Message] = []
        self.bodies = 0  # bytes that came
        self.keeps = True  # the messages; else it only counts
        self.count = 0
        self.reasons: dict[int, int] = {}  # packet identifier -> of its acknowledgement
        self.wire: MqttWire

    def connected(self, wire: MqttWire, present: bool) -> None:
        self.wire = wire
        self.present = present

    def message(self, message: Message) -> None:
        self.count += 1
        self.bodies += len(message.body)
        if self.keeps:
            self.messages.append(message)
        if self.acknowledges and message.qos == 1:
            self.wire.acknowledge(PUBACK, message.packet_id)

    def acknowledged(self, kind: int, packet_id: int, reason: int) -> None:
        self.reasons[packet_id] = reason


def raw_client(
    port: int, client_id: str, version: int = V311, receive_bytes: int = 4096, clean: bool = True
) -> socket.socket:
    """A socket of a client that has sent CONNECT; its kernel buffer is as small as can be."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    raw.settimeout(30.0)
    raw.connect(("127.0.0.1", port))
    raw.sendall(connect_packet(client_id, version, clean))
    return raw


async def told(port: int, name: str) -> int:
    """A number that the broker tells of itself."""
    recorder = Recorder()
    wire = await MqttWire.open(port, "", V311, listener=recorder)
    await wire.subscribe({f"$SYS/broker/{name}": 0})
    assert await until(lambda: bool(recorder.messages)), name
    wire.close()
    return int(recorder.messages[0].body)


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
        self.peak_mib = 0.0
        self._publisher = Recorder()
        self._durable = Recorder()
        self._live = Recorder()
        self._task: asyncio.Task[None] | None = None
        self._began_mib = 0.0

    async def __aenter__(self) -> "Beside":
        for recorder, name in ((self._publisher, "talks"), (self._live, "listens")):
            await MqttWire.open(self.port, name, V311, listener=recorder)
        await MqttWire.open(
            self.port, "remembers", V5, False, expiry_seconds=3600, listener=self._durable
        )
        await self._durable.wire.subscribe({TOPIC: 1})
        await self._live.wire.subscribe({TOPIC: 0})
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
            numbers = [number.to_bytes(4, "big") for number in range(1, self.sent + 1)]
            for each in (self._durable, self._live):
                came = await until(lambda each=each: each.count >= self.sent)  # type: ignore[misc]
                assert came, f"{each.count} of {self.sent} came"
                assert [message.body for message in each.messages] == numbers
            assert len(self._publisher.reasons) == self.sent
            self.look()
            grown = self.peak_mib - self._began_mib
            assert grown <= self.grows_mib_max, f"the broker has grown by {grown:.1f} MiB"
            self.grown_mib = grown
        for each in (self._publisher, self._durable, self._live):
            each.wire.abort()

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
            return min(self._durable.count, self._live.count) >= wanted

        assert await until(done), f"sent {self.sent}, came {self._durable.count}, want {wanted}"
        self.look()

    async def _talk(self) -> None:
        wire = self._publisher.wire
        while True:
            answered = len(self._publisher.reasons)
            if wire.gone:
                raise Gone("the publisher of the pair")
            if self.sent - answered < WINDOW:
                self.sent += 1
                wire.publish(TOPIC, self.sent.to_bytes(4, "big"), 1, self.sent % 65_535 + 1)
            await asyncio.sleep(PAUSE_SECONDS)
