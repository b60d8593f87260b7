"""Clients that do not read, do not acknowledge, or send more than can be kept.

Beside each of them two others go on talking, and the broker's memory stays under a bound that is
named with the test. Nothing here depends on how long something takes: what must happen is waited
for, and what must not is bounded in messages and bytes.
"""

import asyncio
import socket
from contextlib import suppress

import pytest

from tests.figures import figures

from .daemon import Daemon
from .mqtt_campaign import LISTEN
from .mqtt_neighbours import Beside, Recorder, raw_client, told
from .mqtt_wire import V5, V311, MqttWire, publish_packet, subscribe_packet
from .strace import inject, why_no_strace
from .waiting import until
from .wire import Wire

pytestmark = [pytest.mark.slow]

QUOTA_EXCEEDED = 0x97
FLOOD_BODY = bytes(16 * 1024)
FLOOD_MESSAGES = 3_000  # 48 MB: more than any bound below
WINDOW = 100


async def flood(wire: MqttWire, recorder: Recorder, topic: str, count: int, qos: int = 1) -> None:
    """Publish ``count`` messages, some ahead of their acknowledgements."""
    for number in range(1, count + 1):
        body = number.to_bytes(4, "big") + FLOOD_BODY
        wire.publish(topic, body, qos, number if qos else 0)
        if qos:
            assert await until(lambda: wire.gone or number - len(recorder.reasons) < WINDOW)  # noqa: B023
        elif not number % 20:
            await wire.ping()
        assert not wire.gone, f"0x{wire.reason:02X}"
    assert await until(lambda: not qos or len(recorder.reasons) == count)


async def stalled_reader(port: int, filter: str, qos: int, clean: bool = True) -> socket.socket:
    """A client that subscribes, and then reads nothing any more."""
    raw = await asyncio.to_thread(raw_client, port, "stalled", V311, 4096, clean)
    raw.sendall(subscribe_packet(V311, 1, {filter: qos}))
    found = b""
    while len(found) < 9:  # CONNACK and SUBACK
        found += await asyncio.to_thread(raw.recv, 9 - len(found))
    assert found[4] == 0x90, found
    return raw


@pytest.mark.parametrize(("qos", "clean"), [(0, True), (1, True), (1, False)])
async def test_a_subscriber_that_never_reads(tmp_path, request, qos, clean):
    """What is live is dropped and counted; what is durable waits in the log. Others get it all."""
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=40) as pair:
            stalled = await stalled_reader(port, "flood/#", qos, clean)
            other = Recorder()
            other.keeps = False
            await MqttWire.open(port, "other", V5, False, expiry_seconds=600, listener=other)
            await other.wire.subscribe({"flood/#": 1})
            recorder = Recorder()
            wire = await MqttWire.open(port, "", V311, listener=recorder)
            await flood(wire, recorder, "flood/x", FLOOD_MESSAGES)
            assert await until(lambda: other.count == FLOOD_MESSAGES)
            await pair.exchange()
            dropped = await told(port, "messages/dropped")
            assert (dropped > 0) is clean
            stalled.close()
            if not clean:
                again = Recorder()
                await MqttWire.open(port, "stalled", V311, False, listener=again)
                assert again.present
                assert await until(lambda: again.count >= FLOOD_MESSAGES), again.count
                numbers = [int.from_bytes(message.body[:4], "big") for message in again.messages]
                assert numbers == [*range(1, FLOOD_MESSAGES + 1)]
        figures(request, f"dropped {dropped}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_what_another_protocol_floods_a_stalled_subscriber_with(tmp_path, request):
    """Who publishes by the native protocol is not made to wait; the rest is dropped as well."""
    publish = 25
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        async with Beside(daemon, grows_mib_max=40) as pair:
            stalled = await stalled_reader(daemon.ports[1], "flood/#", 0)
            wire = await Wire.open(daemon.port)
            for _ in range(FLOOD_MESSAGES // 20):
                await wire.call(publish, "flood/x", [[FLOOD_BODY] for _ in range(20)])
            await pair.exchange()
            dropped = await told(daemon.ports[1], "messages/dropped")
            stalled.close()
            wire.abort()
        figures(request, f"dropped {dropped}, RSS {pair.grown_mib:+.1f} MiB")
        assert dropped
        assert await daemon.stop() == 0, daemon.log


async def test_a_client_that_asks_and_never_reads_the_answers(tmp_path, request):
    """Answers that wait are bounded as well: the broker stops reading from who does not read."""
    most = 64 * 1024 * 1024
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        async with Beside(daemon, grows_mib_max=80) as pair:
            raw = await asyncio.to_thread(raw_client, daemon.ports[1], "asks")
            raw.settimeout(1.0)  # what the kernel does not take by then, nobody has read
            sent = 0
            with suppress(TimeoutError, ConnectionError):
                while sent < most:
                    sent += await asyncio.to_thread(raw.send, b"\xc0\0" * 32_768)
                    pair.look()
            await pair.exchange()
            assert sent < most, "all of it was taken"
            raw.close()
        figures(request, f"{sent / 1e6:.1f} MB of pings taken, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


@pytest.mark.parametrize("durable", [True, False])
async def test_a_subscriber_that_never_acknowledges(tmp_path, request, durable):
    """It gets as many as it allows, and answers to its pings; a durable one gets the rest later."""
    allowed, count = 20, 2_000
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=40) as pair:
            silent = Recorder(acknowledges=False)
            expiry = 600 if durable else 0
            await MqttWire.open(port, "silent", V5, not durable, expiry, allowed, listener=silent)
            await silent.wire.subscribe({"flood/#": 1})
            recorder = Recorder()
            wire = await MqttWire.open(port, "", V311, listener=recorder)
            await flood(wire, recorder, "flood/x", count)
            await silent.wire.ping()
            assert silent.count == allowed
            assert ((await told(port, "messages/dropped")) > 0) is not durable
            silent.wire.abort()
            if durable:
                again = Recorder()
                await MqttWire.open(port, "silent", V5, False, 600, listener=again)
                assert await until(lambda: again.count == count), again.count
                assert [m.body[:4] for m in again.messages[:allowed]] == [
                    m.body[:4] for m in silent.messages
                ]
                assert [m.packet_id for m in again.messages[:allowed]] == [
                    m.packet_id for m in silent.messages
                ]
                assert [m.dup for m in again.messages] == [True] * allowed + [False] * (
                    count - allowed
                )
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


@pytest.mark.parametrize(
    ("version", "strict", "most"),
    [(V5, True, 256), (V5, False, 4_096), (V311, True, 4_096)],
    ids=["5-strict", "5", "3.1.1"],
)
async def test_a_publisher_of_qos_2_that_never_releases(tmp_path, request, version, strict, most):
    """It is cut off at the Receive Maximum that MQTT 5 was told, or at a limit; every time."""
    options = {"BRAIDMQ_MQTT__RECEIVE_MAXIMUM_STRICT": str(strict).lower()}
    async with Daemon(tmp_path / "data", tmp_path, (), options, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=24) as pair:
            answered: set[int] = set()
            for first in (1, 10_001, 20_001):
                recorder = Recorder()
                wire = await MqttWire.open(port, "greedy", version, False, 600, listener=recorder)
                for number in range(first, first + most + 50):
                    wire.publish("greedy/x", bytes(100), 2, number)
                    if not number % 50:
                        await until(lambda: wire.gone or not wire.unsent_bytes)  # noqa: B023
                assert await until(lambda: wire.gone)  # noqa: B023
                if version == V5:
                    assert wire.reason in (0, 0x93 if strict else 0x97)
                answered |= recorder.reasons.keys()
                await pair.exchange()
            assert len(answered) <= most
            # The same identifier again and again is one message.
            recorder = Recorder()
            await MqttWire.open(port, "again", version, False, 600, listener=recorder)
            witness = Recorder()
            await MqttWire.open(port, "witness", V5, listener=witness)
            await witness.wire.subscribe({"again/x": 2})
            for number in range(2_000):
                recorder.wire.publish("again/x", b"once", 2, 7, dup=number > 0)
                if not number % 50:
                    await recorder.wire.ping()
            await witness.wire.ping()
            assert witness.count == 1
        figures(request, f"answered {len(answered)}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


@pytest.mark.parametrize(
    ("overflow", "kept", "refused"),
    [
        ("drop-oldest", range(501, 1_001), 0),
        ("drop-newest", range(1, 501), 0),
        ("refuse", range(1, 501), 500),
    ],
)
async def test_a_session_that_is_full(tmp_path, request, overflow, kept, refused):
    """What does not fit goes by the configured policy; other sessions get everything."""
    limits = {"BRAIDMQ_LIMITS__SESSION_MESSAGES_MAX": "500", "BRAIDMQ_SESSIONS__OVERFLOW": overflow}
    async with Daemon(tmp_path / "data", tmp_path, (), limits, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=24) as pair:
            away = Recorder()
            await MqttWire.open(port, "away", V5, False, 600, listener=away)
            await away.wire.subscribe({"full/#": 1})
            away.wire.abort()
            publisher = Recorder()
            await MqttWire.open(port, "", V5, listener=publisher)
            for number in range(1, 1_001):
                publisher.wire.publish("full/x", number.to_bytes(4, "big"), 1, number)
                assert await until(lambda: number - len(publisher.reasons) < WINDOW)  # noqa: B023
            assert await until(lambda: len(publisher.reasons) == 1_000)
            reasons = list(publisher.reasons.values())
            assert reasons.count(QUOTA_EXCEEDED) == refused
            assert reasons.count(0) == 1_000 - refused
            again = Recorder()
            await MqttWire.open(port, "away", V5, False, 600, listener=again)
            assert await until(lambda: again.count == len(kept))
            numbers = [int.from_bytes(message.body, "big") for message in again.messages]
            assert numbers == [*kept]
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_publishers_that_are_faster_than_the_disk(tmp_path, request):
    """They wait, the memory does not grow, and what was acknowledged is all there."""
    if reason := why_no_strace():
        pytest.skip(reason)
    slow = inject("fdatasync,pwritev2", "delay_enter=30000", "1+")
    small = {"BRAIDMQ_LIMITS__PENDING_BYTES_MAX": "8MiB"}
    count, publishers = 80, 6
    async with Daemon(tmp_path / "data", tmp_path, slow, small, LISTEN) as daemon:
        port = daemon.ports[1]
        away = Recorder()
        await MqttWire.open(port, "away", V5, False, 600, listener=away)
        await away.wire.subscribe({"flood/#": 1})
        away.wire.abort()
        async with Beside(daemon, grows_mib_max=40) as pair:
            recorders = [Recorder() for _ in range(publishers)]
            for recorder in recorders:
                await MqttWire.open(port, "", V311, listener=recorder)
            for number in range(1, count + 1):
                for index, recorder in enumerate(recorders):
                    body = number.to_bytes(4, "big") + FLOOD_BODY * 4
                    recorder.wire.publish(f"flood/{index}", body, 1, number)
            await pair.exchange(20)
            done = [count] * publishers
            assert await until(lambda: [len(each.reasons) for each in recorders] == done), done
            away.messages.clear()
            again = Recorder()
            again.keeps = False
            await MqttWire.open(port, "away", V5, False, 600, listener=again)
            assert await until(lambda: again.count >= count * publishers), again.count
            assert again.count == count * publishers
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")


async def test_messages_as_large_as_they_may_be(tmp_path, request):
    """One byte more ends the connection; as many as can be wait in the log, and not in memory."""
    largest, count = 1024 * 1024, 40
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=64) as pair:
            away = Recorder()
            await MqttWire.open(port, "away", V311, False, listener=away)
            await away.wire.subscribe({"large": 1})
            away.wire.abort()
            head = len(publish_packet(V311, "large", b"", 1, 1)) - 2 + 4
            recorder = Recorder()
            await MqttWire.open(port, "", V311, listener=recorder)
            for number in range(1, count + 1):
                body = number.to_bytes(4, "big") + bytes(largest - head - 4)
                recorder.wire.publish("large", body, 1, number)
                assert await until(lambda: not recorder.wire.unsent_bytes)
            assert await until(lambda: len(recorder.reasons) == count)
            recorder.wire.publish("large", bytes(largest - head + 1), 1, count + 1)
            assert await until(lambda: recorder.wire.gone)
            again = Recorder()
            again.keeps = False
            await MqttWire.open(port, "away", V311, False, listener=again)
            assert await until(lambda: again.count == count), again.count
            assert again.bodies == count * (largest - head)
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log
