"""A well-behaved pair of MQTT clients (see ``neighbours.py``), and others beside them."""

import socket
from collections.abc import Mapping, Sequence

from .mqtt_wire import PUBACK, V5, V311, Gone, Listener, Message, MqttWire, connect_packet
from .neighbours import Pair
from .waiting import until

__all__ = ["Beside", "Recorder", "raw_client", "told"]

TOPIC = "neighbours/talk"


class Recorder(Listener):
    """Keeps what comes, and acknowledges it unless told otherwise."""

    def __init__(self, acknowledges: bool = True) -> None:
        self.acknowledges = acknowledges
        self.present = False
        self.messages: list[Message] = []
        self.heard: list[bytes] = []  # their bodies
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
            self.heard.append(message.body)
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


class Beside(Pair):
    """They talk with QoS 1; it comes through a durable session, and live with QoS 0."""

    ENOUGH_MESSAGES = 60
    WARM_MESSAGES = 200

    async def meet(self) -> None:
        self._publisher, self._durable, self._live = Recorder(), Recorder(), Recorder()
        for recorder, name in ((self._publisher, "talks"), (self._live, "listens")):
            await MqttWire.open(self.port, name, V311, listener=recorder)
        await MqttWire.open(
            self.port, "remembers", V5, False, expiry_seconds=3600, listener=self._durable
        )
        await self._durable.wire.subscribe({TOPIC: 1})
        await self._live.wire.subscribe({TOPIC: 0})

    def say(self, body: bytes) -> None:
        wire = self._publisher.wire
        if wire.gone:
            raise Gone("the publisher of the pair")
        wire.publish(TOPIC, body, 1, self.sent % 65_535 + 1)

    @property
    def answered(self) -> int:
        return len(self._publisher.reasons)

    @property
    def heard(self) -> Mapping[str, Sequence[bytes]]:
        return {"durable": self._durable.heard, "live": self._live.heard}

    def part(self) -> None:
        for each in (self._publisher, self._durable, self._live):
            each.wire.abort()
