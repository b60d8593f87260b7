"""STOMP clients that do not read, do not acknowledge, or send more than can be kept.

Beside each of them two others go on talking, and the broker's memory stays under a bound that is
named with the test. Nothing here depends on how long something takes: what must happen is waited
for, and what must not is bounded in messages and bytes.
"""

import asyncio
import socket
from contextlib import suppress

import pytest

from tests.figures import figures

from .audit import OK
from .daemon import Daemon
from .stomp_campaign import LISTEN
from .stomp_neighbours import CONNECT, Beside, Taker, dial
from .stomp_wire import StompWire, frame_bytes
from .strace import inject, why_no_strace
from .waiting import until

pytestmark = [pytest.mark.slow]

FLOOD_BODY = bytes(16 * 1024)
FLOOD_MESSAGES = 2_500  # 40 MB: more than the bounds below
WINDOW = 100


class Flood:
    """Sends messages that are numbered, some ahead of their receipts."""

    def __init__(self, wire: StompWire, destination: str) -> None:
        self.wire = wire
        self.headers = {"destination": destination}
        self.answered = 0

    def _answered(self, outcome: str) -> None:
        self.answered += outcome == OK

    async def send(self, count: int) -> None:
        """Return when all have their receipts."""
        for number in range(count):
            body = number.to_bytes(4, "big") + FLOOD_BODY
            self.wire.post("SEND", self.headers, body, self._answered)
            assert await until(lambda: self.wire.gone or number - self.answered < WINDOW)  # noqa: B023
            assert not self.wire.gone, self.wire.error
        assert await until(lambda: self.answered == count), self.answered


def subscribe(destination: str, ack: str) -> bytes:
    """CONNECT and SUBSCRIBE, with a receipt."""
    headers = {"id": "stalled", "destination": destination, "ack": ack, "receipt": "done"}
    return CONNECT + frame_bytes("SUBSCRIBE", headers)


@pytest.mark.parametrize(
    ("destination", "ack"),
    [
        ("/topic/flood", "auto"),
        ("/queue/flood", "auto"),
        ("/queue/flood", "client"),
    ],
)
async def test_a_subscriber_that_never_reads(tmp_path, request, destination, ack):
    """It gets what the kernel and a window hold; the others get all of the rest."""
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=36) as pair:
            stalled = dial(port, subscribe(destination, ack), receive_bytes=4096)
            said = b""
            while b"RECEIPT" not in said:
                said += await asyncio.to_thread(stalled.recv, 1)
            reader = await StompWire.open(port)
            other = Taker(reader, "other", "client-individual")
            await other.subscribe(destination)
            await Flood(await StompWire.open(port), destination).send(FLOOD_MESSAGES)
            await pair.exchange()
            if ack == "client" or "topic" in destination:
                stalled.close()  # what it held comes back
                assert await until(lambda: len(other.bodies) == FLOOD_MESSAGES)
            else:
                stalled.close()  # what the kernel took counts as acknowledged
                assert await until(lambda: len(other.bodies) > FLOOD_MESSAGES // 2)
            numbers = [int.from_bytes(body[:4], "big") for body in other.bodies]
            assert len(set(numbers)) == len(numbers)
            if "topic" in destination:
                assert numbers == [*range(FLOOD_MESSAGES)]
            reader.abort()
        figures(request, f"came {len(numbers)}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


@pytest.mark.parametrize("destination", ["", "/queue/asked"])
async def test_a_client_that_asks_for_receipts_and_never_reads_them(tmp_path, request, destination):
    """Receipts that wait are bounded: the broker stops reading from who does not read."""
    most = 96 * 1024 * 1024
    receipt = {"receipt": "r" * 1_000}
    part = b"".join(
        frame_bytes(command, receipt | {"transaction": "t"}) for command in ("BEGIN", "ABORT")
    )
    if destination:
        part = frame_bytes("SEND", receipt | {"destination": destination}, b"x")
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        async with Beside(daemon, grows_mib_max=64) as pair:
            raw = dial(daemon.ports[1], CONNECT, receive_bytes=4096)
            raw.settimeout(0.5)  # what the kernel does not take by then, nobody has read
            sent = 0
            with suppress(TimeoutError, ConnectionError):
                while sent < most:
                    sent += await asyncio.to_thread(raw.send, part * 32)
                    pair.look()
            await pair.exchange()
            assert sent < most, "all of it was taken"
            raw.close()
        figures(request, f"{sent / 1e6:.1f} MB taken, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_a_subscriber_that_never_acknowledges(tmp_path, request):
    """It gets as many as it allows, and others the rest; these come again when it goes."""
    allowed, count = 20, 500
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=24) as pair:
            wire = await StompWire.open(port)
            silent = Taker(wire, "silent", "client", acknowledges=False)
            await silent.subscribe("/queue/held", **{"activemq.prefetchSize": str(allowed)})
            sender = await StompWire.open(port)
            await Flood(sender, "/queue/held").send(count)
            other = Taker(sender, "other", "client-individual")
            await other.subscribe("/queue/held")
            assert await until(lambda: len(other.bodies) == count - allowed), len(other.bodies)
            await wire.ask("BEGIN", {"transaction": "it still talks"})
            assert len(silent.bodies) == allowed
            wire.abort()
            assert await until(lambda: len(other.bodies) == count), len(other.bodies)
            assert sorted(other.bodies[-allowed:]) == sorted(silent.bodies)
            assert other.again == allowed
            sender.abort()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_transactions_that_are_faster_than_the_disk(tmp_path, request):
    """Their clients wait, the memory takes less than they send, and all that they commit comes."""
    if reason := why_no_strace():
        pytest.skip(reason)
    slow = inject("fdatasync,pwritev2", "delay_enter=10000", "1+")
    small = {"BRAIDMQ_LIMITS__PENDING_BYTES_MAX": "4MiB"}
    count, clients = 100, 4
    async with Daemon(tmp_path / "data", tmp_path, slow, small, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=40) as pair:
            floods = [Flood(await StompWire.open(port), "/queue/fast") for _ in range(clients)]
            for number in range(count):
                for flood in floods:
                    name = {"transaction": f"t{number}"}
                    flood.wire.post("BEGIN", name)
                    for part in range(4):
                        body = (number * 4 + part).to_bytes(4, "big") + FLOOD_BODY * 2
                        flood.wire.post("SEND", name | flood.headers, body)
                    flood.wire.post("COMMIT", name, answered=flood._answered)
            await pair.exchange(10)
            done = [count] * clients
            assert await until(lambda: [each.answered for each in floods] == done)
            taker = Taker(floods[0].wire, "all", "client")
            await taker.subscribe("/queue/fast")
            assert await until(lambda: len(taker.bodies) == count * clients * 4)
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")


async def test_many_subscriptions_of_a_client_that_reads_none(tmp_path, request):
    """What is on its way to a client is bounded for all of its subscriptions together."""
    body, count, subscriptions = bytes(1_000_000), 120, 30
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        sender = await StompWire.open(port)
        for _ in range(count):
            await sender.ask("SEND", {"destination": "/queue/large"}, body)
        async with Beside(daemon, grows_mib_max=64) as pair:
            headers = {"destination": "/queue/large", "ack": "client"}
            frames = [
                frame_bytes("SUBSCRIBE", headers | {"id": str(number), "receipt": str(number)})
                for number in range(subscriptions)
            ]
            raw = dial(port, CONNECT + b"".join(frames), receive_bytes=4096)
            await pair.exchange(200)
            raw.close()
            taker = Taker(sender, "all", "client")
            await taker.subscribe("/queue/large")
            assert await until(lambda: len(taker.bodies) == count)
            sender.abort()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_receipts_that_wait_for_a_slow_disk(tmp_path, request):
    """Their bytes are bounded, not only their number."""
    if reason := why_no_strace():
        pytest.skip(reason)
    slow = inject("fdatasync,pwritev2", "delay_enter=50000", "1+")
    count, size = 900, 50_000
    async with Daemon(tmp_path / "data", tmp_path, slow, flags=LISTEN) as daemon:
        async with Beside(daemon, grows_mib_max=32) as pair:
            raw = dial(daemon.ports[1], CONNECT)
            frames = b"".join(
                frame_bytes(
                    "SEND", {"destination": "/queue/x", "receipt": f"{number}" + "r" * size}
                )
                for number in range(count)
            )
            sending = asyncio.ensure_future(asyncio.to_thread(raw.sendall, frames))
            receiving = asyncio.to_thread(count_receipts, raw, count)
            done = asyncio.ensure_future(receiving)
            while not done.done():
                pair.look()
                await asyncio.sleep(0.01)
            await sending
            raw.close()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")


def count_receipts(raw: socket.socket, count: int) -> None:
    """Read until so many came. To be run in a thread."""
    came = 0
    while came < count:
        came += raw.recv(1024 * 1024).count(b"\0")
    assert came == count + 1  # and CONNECTED
