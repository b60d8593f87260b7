"""A full disk refuses MQTT publishers who want something kept, and nobody else.

Who publishes with MQTT 5 is told in the acknowledgement; before, the connection ends, so that the
client keeps its message. Sessions are read and acknowledged, and clients come back to theirs.
"""

import asyncio
from pathlib import Path

import pytest

from .daemon import Daemon
from .mqtt_campaign import LISTEN
from .mqtt_wire import PUBACK, V5, V311, Gone, Listener, Message, MqttWire
from .powercut import tmpfs, why_no_mount
from .test_disk_errors import fill
from .waiting import until

pytestmark = [pytest.mark.slow]

QUOTA_EXCEEDED = 0x97
BODY_BYTES = 4_000
EXPIRY_SECONDS = 3_600


class Client(Listener):
    """A client that remembers, and acknowledges what comes."""

    def __init__(self, version: int = V5) -> None:
        self.version = version
        self.numbers: list[int] = []  # of the messages that came
        self.reasons: dict[int, int] = {}  # packet identifier -> of its PUBACK
        self.present = False
        self.wire: MqttWire

    async def connect(self, port: int, client_id: str, clean: bool = False) -> None:
        self.wire = await MqttWire.open(
            port,
            client_id,
            self.version,
            clean=clean,
            expiry_seconds=0 if clean else EXPIRY_SECONDS,
            listener=self,
        )

    def connected(self, wire: MqttWire, present: bool) -> None:
        self.wire = wire
        self.present = present

    def message(self, message: Message) -> None:
        self.numbers.append(int.from_bytes(message.body[:4], "big"))
        if message.qos:
            self.wire.acknowledge(PUBACK, message.packet_id)

    def acknowledged(self, kind: int, packet_id: int, reason: int) -> None:
        self.reasons[packet_id] = reason

    async def publish(self, topic: str, number: int, dup: bool = False) -> int:
        """Publish with QoS 1: the reason of its PUBACK. Raises Gone."""
        self.reasons.pop(number, None)
        body = number.to_bytes(4, "big") + bytes(BODY_BYTES)
        self.wire.publish(topic, body, 1, number, dup)
        assert await until(lambda: number in self.reasons or self.wire.gone)
        if number not in self.reasons:
            raise Gone("no PUBACK")
        return self.reasons[number]


async def fill_up(publisher: Client, first: int) -> int:
    """Publish until it is refused; the number of that message."""
    for number in range(first, first + 3_000):
        if reason := await publisher.publish("kept/x", number):
            assert reason == QUOTA_EXCEEDED, f"0x{reason:02X}"
            return number
    raise AssertionError("the disk never got full")


async def test_a_full_disk_refuses_who_wants_something_kept(tmp_path: Path) -> None:
    if reason := why_no_mount():
        pytest.skip(f"a full disk cannot be made here: {reason}")
    with tmpfs(tmp_path / "small", "12m") as directory:
        async with Daemon(directory / "data", tmp_path, flags=LISTEN) as daemon:
            port = daemon.ports[1]
            reader, publisher, live = Client(), Client(), Client()
            await reader.connect(port, "reader")
            await reader.wire.subscribe({"kept/#": 1})
            reader.wire.abort()
            await publisher.connect(port, "publisher", clean=True)
            for number in range(1, 21):
                assert not await publisher.publish("kept/x", number)
            filler = fill(directory, leave=1_500_000)
            refused = await fill_up(publisher, 21)

            old = Client(V311)
            await old.connect(port, "old", clean=True)
            with pytest.raises(Gone):
                await old.publish("kept/x", 4_000)

            # What nobody keeps is taken, and so are acknowledgements.
            await live.connect(port, "live", clean=True)
            await live.wire.subscribe({"live": 1})
            assert not await publisher.publish("live", 5_000)
            assert await until(lambda: live.numbers == [5_000])
            await reader.connect(port, "reader")
            assert reader.present
            assert await until(lambda: len(reader.numbers) == refused - 1)
            await reader.wire.ping()
            assert reader.numbers == list(range(1, refused))
            assert daemon.running, daemon.log

            filler.unlink()
            assert await until_taken(publisher, "kept/x", 6_000)
            await old.connect(port, "old", clean=True)
            assert not await old.publish("kept/x", 4_000, dup=True)
            assert await until(lambda: reader.numbers[-2:] == [6_000, 4_000])
            assert await daemon.stop() == 0, daemon.log


async def until_taken(publisher: Client, topic: str, number: int) -> bool:
    """Publish until it is taken."""
    for _ in range(600):
        if not await publisher.publish(topic, number):
            return True
        await asyncio.sleep(0.1)
    return False
