"""Clients that connect too often, too slowly or not at all, and that ask for too much.

Beside each of them two others go on talking, and the broker's memory stays under a bound that is
named with the test. Limits are made small where reaching the real ones would take long; what must
happen is waited for, and nothing depends on how long it takes.
"""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.figures import figures

from .daemon import Daemon
from .mqtt_campaign import LISTEN
from .mqtt_neighbours import Beside, Recorder, raw_client, told
from .mqtt_wire import (
    V5,
    V311,
    Gone,
    Message,
    MqttWire,
    Refused,
    connect_packet,
    packet,
    publish_packet,
    subscribe_packet,
    varint,
)
from .waiting import GUARD_SECONDS, until

pytestmark = [pytest.mark.slow]

QUOTA_EXCEEDED, TAKEN_OVER, KEEP_ALIVE_TIMEOUT = 0x97, 0x8E, 0x8D


def ended(raw: socket.socket) -> bool:
    """Whether the broker hung up on a socket; what it said before is thrown away."""
    raw.setblocking(False)
    try:
        while raw.recv(65_536):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


def dial(port: int) -> socket.socket:
    """A socket that says nothing by itself."""
    return socket.create_connection(("127.0.0.1", port), timeout=GUARD_SECONDS)


def send_if_open(raw: socket.socket, data: bytes) -> None:
    """Send what the kernel takes."""
    with suppress(BlockingIOError, ConnectionError):
        raw.send(data)


# Connecting -----------------------------------------------------------------------------------


async def test_a_connect_that_comes_byte_by_byte(tmp_path, request):
    """The time for the handshake goes on, whatever trickles in."""
    short = {"BRAIDMQ_LIMITS__HANDSHAKE_MS_MAX": "1500"}
    async with Daemon(tmp_path / "data", tmp_path, (), short, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=16) as pair:
            slow = connect_packet("x" * 200)
            trickling = [dial(port) for _ in range(200)]
            at = 0

            def all_ended() -> bool:
                nonlocal at
                for raw in trickling:
                    send_if_open(raw, slow[at : at + 1] if at < len(slow) - 1 else b"")
                at += 1
                return all(map(ended, trickling))

            await pair.exchange()
            assert await until(all_ended), "somebody is still connected"
            for raw in trickling:
                raw.close()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_a_packet_that_never_ends_keeps_no_connection(tmp_path, request):
    """After CONNECT, too: the keep-alive counts packets, and a byte now and then is none."""
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=32) as pair:
            trickling = []
            for number in range(50):
                raw = dial(port)
                raw.sendall(connect_packet(f"trickles-{number}", V5, keep_alive_seconds=1))
                raw.sendall(publish_packet(V5, "never", bytes(1_000_000))[:64_000])
                trickling.append(raw)

            def all_ended() -> bool:
                for raw in trickling:
                    send_if_open(raw, b"\0")
                return all(map(ended, trickling))

            await pair.exchange()
            assert await until(all_ended), "somebody is still connected"
            for raw in trickling:
                raw.close()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_half_of_a_connection(tmp_path):
    """Who vanished without a word is noticed by the keep-alive, and its session is free."""
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=16) as pair:
            gone = []
            for number in range(30):
                raw = dial(port)
                raw.sendall(connect_packet(f"vanished-{number}", V311, False, keep_alive_seconds=1))
                gone.append(raw)
            await pair.exchange()
            assert await until(lambda: all(map(ended, gone))), "somebody is still connected"
            recorder = Recorder()
            await MqttWire.open(port, "vanished-7", V311, False, listener=recorder)
            assert recorder.present
            for raw in gone:
                raw.close()
        assert await daemon.stop() == 0, daemon.log


@pytest.mark.parametrize(
    "first",
    [b"", b"\x10\xff\xff\xff\x7f", connect_packet("x" * 300)[:100]],
    ids=["silent", "256-MiB", "half"],
)
async def test_more_strangers_than_may_be(tmp_path, request, first):
    """Silent, announcing 256 MiB, or half way through CONNECT: some stay, the rest is cut off."""
    most = 50
    limits = {
        "BRAIDMQ_LIMITS__CONNECTIONS_UNAUTHENTICATED_MAX": str(most),
        "BRAIDMQ_LIMITS__HANDSHAKE_MS_MAX": "600000",
    }
    async with Daemon(tmp_path / "data", tmp_path, (), limits, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=16) as pair:
            strangers = [dial(port) for _ in range(6 * most)]
            for raw in strangers:
                send_if_open(raw, first)
            await pair.exchange()

            def left() -> int:
                return sum(not ended(raw) for raw in strangers)

            expected = 0 if first[1:] == b"\xff\xff\xff\x7f" else most
            assert await until(lambda: left() <= expected), left()
            assert left() == expected
            if expected:
                with pytest.raises(Gone):
                    await MqttWire.open(port, "one-more")
            for raw in strangers:
                raw.close()
            assert await until_let_in(port, "one-more")
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def until_let_in(port: int, client_id: str, **options: bool | int) -> bool:
    """Connect until it works."""
    for _ in range(600):
        try:
            (await MqttWire.open(port, client_id, **options)).close()  # type: ignore[arg-type]
            return True
        except (Gone, Refused):
            await asyncio.sleep(0.1)
    return False


# Sessions -------------------------------------------------------------------------------------


async def test_as_many_durable_sessions_as_may_be(tmp_path, request):
    """Those that are there come back, new ones are refused, and room comes when some end."""
    most = 300
    limits = {"BRAIDMQ_LIMITS__SESSIONS_MAX": str(most)}
    async with Daemon(tmp_path / "data", tmp_path, (), limits, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=24) as pair:
            made, refused = [], 0
            for number in range(2 * most):
                try:
                    wire = await MqttWire.open(port, f"churn-{number}", V5, False, 600)
                except Refused as error:
                    assert error.reason == QUOTA_EXCEEDED
                    refused += 1
                    continue
                made.append(f"churn-{number}")
                await wire.subscribe({f"churn/{number}/#": 1})
                if number % 2:
                    wire.close()
                else:
                    wire.abort()
            assert len(made) == most - 3  # the pair are three
            assert refused == most + 3
            await pair.exchange()
            for _ in range(3):
                for name in made:
                    recorder = Recorder()
                    await MqttWire.open(port, name, V5, False, 600, listener=recorder)
                    assert recorder.present
                    recorder.wire.close()
            for name in made[: most // 2]:  # clean start, and nothing that outlives it
                (await MqttWire.open(port, name, V5, True)).close()
            assert await until_let_in(port, "new", clean=False, expiry_seconds=600)
        figures(request, f"sessions {len(made)}, refused {refused}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log
    async with Daemon(tmp_path / "data", tmp_path, (), limits, LISTEN) as daemon:
        recorder = Recorder()
        await MqttWire.open(daemon.ports[1], made[-1], V5, False, 600, listener=recorder)
        assert recorder.present
        assert await daemon.stop() == 0, daemon.log


async def test_two_that_use_the_same_name(tmp_path, request):
    """Each takes the session from the other: nothing that is kept for it is lost or mixed up."""
    rounds, per_round = 200, 5
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=24) as pair:
            publisher = Recorder()
            await MqttWire.open(port, "", V311, listener=publisher)
            seen: dict[bytes, list[Message]] = {}
            last = Recorder()
            for turn in range(rounds):
                recorder = Recorder(acknowledges=turn % 3 > 0)
                await MqttWire.open(port, "same", V5, False, 600, listener=recorder)
                assert recorder.present is (turn > 0)
                if not turn:
                    await recorder.wire.subscribe({"same/#": 1})
                else:
                    assert await until(lambda: last.wire.gone)  # noqa: B023
                    assert last.wire.reason == TAKEN_OVER
                    for message in last.messages:
                        seen.setdefault(message.body, []).append(message)
                for number in range(per_round):
                    at = turn * per_round + number + 1
                    publisher.wire.publish("same/x", at.to_bytes(4, "big"), 1, at)
                last = recorder
            final = Recorder()
            await MqttWire.open(port, "same", V5, False, 600, listener=final)
            count = rounds * per_round
            assert await until(lambda: len(publisher.reasons) == count)

            def all_seen() -> bool:
                bodies = {message.body for message in [*last.messages, *final.messages]}
                return len(bodies | seen.keys()) == count

            assert await until(all_seen)
            for message in [*last.messages, *final.messages]:
                seen.setdefault(message.body, []).append(message)
            for times in seen.values():
                assert all(message.dup for message in times[1:])
                assert len({message.packet_id for message in times}) == 1
        again = sum(len(times) - 1 for times in seen.values())
        figures(request, f"redelivered {again} of {count}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


# Asking for much ------------------------------------------------------------------------------


async def test_as_many_retained_messages_as_may_be(tmp_path, request):
    """The rest is refused; who asks for all of them and reads slowly gets them, at its pace."""
    most, size = 4_000, 4_000
    limits = {"BRAIDMQ_LIMITS__RETAINED_MESSAGES_MAX": str(most)}
    async with Daemon(tmp_path / "data", tmp_path, (), limits, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=48) as pair:
            recorder = Recorder()
            await MqttWire.open(port, "", V5, listener=recorder)
            for number in range(1, most + 501):
                topic = f"storm/{number % 50}/{number}"
                recorder.wire.publish(topic, bytes(size), 1, number, retain=True)
                assert await until(lambda: number - len(recorder.reasons) < 100)  # noqa: B023
            assert await until(lambda: len(recorder.reasons) == most + 500)
            refused = [n for n, why in recorder.reasons.items() if why == QUOTA_EXCEEDED]
            assert refused == [*range(most + 1, most + 501)]
            stalled = [await asyncio.to_thread(raw_client, port, f"slow-{n}") for n in range(5)]
            for raw in stalled:
                raw.sendall(subscribe_packet(V311, 1, {"#": 0}))
            one_by_one = Recorder()
            one_by_one.keeps = False
            await MqttWire.open(port, "", V5, receive_maximum=1, listener=one_by_one)
            await one_by_one.wire.subscribe({"storm/#": 1})
            await pair.exchange()
            assert await until(lambda: one_by_one.count == most)
            await pair.exchange()
            size_of_one = len(publish_packet(V311, "storm/49/3999", bytes(size)))
            for raw in stalled:
                found = await asyncio.to_thread(read_until, raw, (most - 100) * size_of_one)
                assert found > (most - 100) * size_of_one, found
                raw.close()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


def read_until(raw: socket.socket, size: int) -> int:
    """Read more than ``size`` bytes; how many came."""
    count = 0
    while count <= size and (found := raw.recv(65_536)):
        count += len(found)
    return count


def deep(number: int, plus_at: int) -> str:
    """A filter with as many levels, and about as many bytes, as one may have."""
    levels = [f"{number:06d}", *["x" * 6] * 126, "#"]
    levels[plus_at] = "+"
    return "/".join(levels)


@pytest.mark.parametrize(("places", "most"), [(1, 1_000), (100, 100)])
async def test_as_many_and_as_large_filters_as_may_be(tmp_path, request, places, most):
    """A session has 1,000 of them; many shapes are refused before they make matching slow."""
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=160) as pair:
            granted = refused = 0
            for client in range(3):
                recorder = Recorder()
                await MqttWire.open(port, f"many-{client}", V5, False, 600, listener=recorder)
                for first in range(0, 1_020, 60):
                    numbers = range(first, first + 60)
                    filters = {deep(client * 10_000 + n, 1 + n % places): 1 for n in numbers}
                    assert all(len(each) < 1_024 for each in filters)
                    reasons = await recorder.wire.ask_to_subscribe(filters)
                    granted += reasons.count(1)
                    refused += reasons.count(QUOTA_EXCEEDED)
                    assert set(reasons) <= {1, QUOTA_EXCEEDED}
                    pair.look()
                assert reasons[-1] == QUOTA_EXCEEDED
            assert 0 < granted <= 3 * most
            publisher = Recorder()
            await MqttWire.open(port, "", V5, listener=publisher)
            for number in range(1, 501):
                topic = deep(number, 1 + number % places).replace("+", "y").replace("#", "z")
                publisher.wire.publish(topic, b"x", 1, number)
                assert await until(lambda: number - len(publisher.reasons) < 50)  # noqa: B023
            await pair.exchange()
            assert await until(lambda: len(publisher.reasons) == 500)
        figures(request, f"granted {granted}, refused {refused}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


def bombs() -> Iterator[tuple[bytes, bytes]]:
    """What to send after TCP's handshake, and after CONNACK."""
    pair = b"\x26\0\1k\0\1v"
    let_in = connect_packet("bomb", V5)
    many = pair * 100_000
    long = b"\x26" + b"\xff\xff" + b"k" * 65_535 + b"\xff\xff" + b"v" * 65_535
    yield let_in, publish_packet(V5, "bomb", b"", 0, properties=many)
    yield let_in, publish_packet(V5, "bomb", b"", 0, properties=long * 7)
    yield let_in, publish_packet(V5, "bomb", b"", 1, 1, properties=b"\x23\xff\xff")
    yield (
        let_in,
        b"".join(
            publish_packet(V5, f"bomb/{n}", b"", 0, properties=b"\x23" + n.to_bytes(2, "big"))
            for n in range(1, 1_000)
        ),
    )
    properties = pair * 9_000
    head = b"\0\4MQTT\5\2\0\0" + varint(len(properties))
    yield packet(0x10, head + properties + b"\0\4bomb"), b""
    yield let_in, packet(0x82, b"\0\1\0" + b"\0\1a\0" * 262_100)
    yield let_in, packet(0x82, b"\0\1" + varint(len(many)) + many + b"\0\1a\0")


async def test_bombs_of_properties_filters_and_aliases(tmp_path, request):
    """What is too much ends the connection, again and again, and leaves nothing behind."""
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=32) as pair:
            rounds = 8
            for _ in range(rounds):
                thrown = []
                for first, second in bombs():
                    raw = dial(port)
                    await asyncio.to_thread(throw, raw, first + second)
                    thrown.append(raw)
                for number, raw in enumerate(thrown):
                    assert await until(lambda: ended(raw)), number  # noqa: B023
                    raw.close()
                await pair.exchange(20)
            assert await told(port, "clients/total") == 4  # the pair, and who asks
        figures(request, f"bombs {rounds * len(thrown)}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


def throw(raw: socket.socket, data: bytes) -> None:
    """Send it, as far as the broker takes it."""
    with suppress(ConnectionError):
        raw.sendall(data)
