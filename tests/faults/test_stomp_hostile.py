"""STOMP clients whose frames never end, that ask for too much, or for what there is not.

Beside each of them two others go on talking, and the broker's memory stays under a bound that is
named with the test. Limits are made small where reaching the real ones would take long; what must
happen is waited for, and nothing depends on how long it takes.
"""

import asyncio
from contextlib import suppress

import pytest

from tests.figures import figures

from .daemon import Daemon
from .stomp_campaign import LISTEN
from .stomp_neighbours import CONNECT, Beside, Taker, dial, ended, ended_with, throw
from .stomp_wire import Frame, Gone, StompWire, frame_bytes
from .waiting import until

pytestmark = [pytest.mark.slow]

ENDLESS_BYTES_MAX = 64 * 1024 * 1024  # nothing takes that much of a single frame
TRANSACTIONS_MAX = 64
SUBSCRIPTIONS_MAX = 1_000

# What goes on and on: what begins it, and what is repeated.
ENDLESS = {
    "a command": (b"", b"C" * 4096),
    "headers before CONNECT": (b"CONNECT\n", b"accept-version:1.2\n" * 200),
    "a header before CONNECT": (b"CONNECT\nlogin:", b"x" * 4096),
    "a body of CONNECT": (b"CONNECT\naccept-version:1.2\n\n", b"x" * 4096),
    "NULs": (b"", b"\0" * 4096),
    "headers": (CONNECT + b"SEND\ndestination:/queue/a\n", b"x:y\n" * 1000),
    "a header": (CONNECT + b"SEND\ndestination:/queue/a\nx:", b"y" * 4096),
    "a body without a length": (CONNECT + b"SEND\ndestination:/queue/a\n\n", b"y" * 65_536),
}


def after_connect(*frames: tuple[str, dict[str, str]]) -> bytes:
    return CONNECT + b"".join(frame_bytes(command, headers) for command, headers in frames)


# What is refused: what is sent, and what the ERROR's message has in it.
REFUSED = {
    "a length that cannot be": (
        CONNECT + b"SEND\ndestination:/queue/a\ncontent-length:99999999999999999\n\n",
        b"Frame too large",
    ),
    "a length without end": (
        CONNECT + b"SEND\ndestination:/queue/a\ncontent-length:" + b"9" * 9_999 + b"\n\n",
        b"Frame too large",
    ),
    "a length below nothing": (
        CONNECT + b"SEND\ndestination:/queue/a\ncontent-length:-1\n\n",
        b"Bad content-length",
    ),
    "a length before CONNECT": (b"CONNECT\ncontent-length:70000\n\n", b"Frame too large"),
    "no CONNECT": (frame_bytes("SEND", {"destination": "/queue/a"}), b"Not connected"),
    "two of it": (CONNECT + CONNECT, b"Already connected"),
    "HTTP": (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"Not a STOMP frame"),
    "TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + b"\0" * 512, b"Not a STOMP frame"),
    "an unknown command": (after_connect(("SENDS", {})), b"Unknown command"),
    "an unknown transaction": (
        after_connect(("SEND", {"destination": "/queue/a", "transaction": "none"})),
        b"is not open",
    ),
    "a COMMIT of nothing": (after_connect(("COMMIT", {"transaction": "none"})), b"is not open"),
    "an ABORT of nothing": (after_connect(("ABORT", {"transaction": "none"})), b"is not open"),
    "an ACK of nothing": (after_connect(("ACK", {"id": "1-1"})), b"not held"),
    "an ACK of a number": (after_connect(("ACK", {"id": "9" * 9_999})), b"not held"),
    "a subscription twice": (
        after_connect(*[("SUBSCRIBE", {"id": "a", "destination": "/queue/a"})] * 2),
        b"already",
    ),
    "no subscription": (after_connect(("UNSUBSCRIBE", {"id": "a"})), b"No subscription"),
    "a name of a transaction without end": (
        after_connect(("BEGIN", {"transaction": "t" * 50_000})),
        b"transaction",
    ),
    "an id without end": (
        after_connect(("SUBSCRIBE", {"id": "i" * 50_000, "destination": "/topic/a"})),
        b"id",
    ),
    "too many transactions": (
        after_connect(*[("BEGIN", {"transaction": str(n)}) for n in range(TRANSACTIONS_MAX + 1)]),
        b"open transactions",
    ),
    "too many headers": (
        after_connect(("SEND", {"destination": "/queue/a"} | {f"h{n}": "" for n in range(200)})),
        b"Too many headers",
    ),
    "a composite of thousands": (
        after_connect(("SEND", {"destination": ",".join(["/queue/many"] * 5_000)})),
        b"Illegal destination name",
    ),
}


async def test_frames_that_never_end_and_frames_that_are_refused(tmp_path, request):
    """Each ends its connection, again and again, with an ERROR that says why."""
    rounds = 3
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=32) as pair:
            for _ in range(rounds):
                for name, (first, part) in ENDLESS.items():
                    raw = dial(port, first)
                    if first.startswith(CONNECT):
                        assert (await asyncio.to_thread(raw.recv, 65_536))[:10] == b"CONNECTED\n"
                    said = await asyncio.to_thread(throw, raw, part, ENDLESS_BYTES_MAX)
                    assert said.startswith((b"ERROR\n", b"hung up")), f"{name}: {said!r}"
                    pair.look()
                for name, (data, message) in REFUSED.items():
                    said = await asyncio.to_thread(ended_with, dial(port, data))
                    _, error, text = said.partition(b"ERROR\nmessage:")
                    assert error, f"{name}: {said!r}"
                    assert message in text.partition(b"\n")[0], f"{name}: {said!r}"
                await pair.exchange(20)
        count = rounds * (len(ENDLESS) + len(REFUSED))
        figures(request, f"connections {count}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


async def test_who_is_slow_to_connect_or_stops_to_beat(tmp_path, request):
    """The time for the handshake goes on, whatever trickles in; so does that of heart-beats."""
    short = {
        "BRAIDMQ_LIMITS__HANDSHAKE_MS_MAX": "700",
        "BRAIDMQ_STOMP__HEART_BEAT_MS_MIN": "200",
    }
    async with Daemon(tmp_path / "data", tmp_path, (), short, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=16) as pair:
            beats = {"accept-version": "1.2", "host": "here", "heart-beat": "200,0"}
            silent = [dial(port, frame_bytes("CONNECT", beats)) for _ in range(50)]
            quiet = [dial(port) for _ in range(50)]
            trickling = [dial(port) for _ in range(100)]
            at = 0

            def all_ended() -> bool:
                nonlocal at
                for raw in trickling:
                    with suppress(BlockingIOError, ConnectionError):
                        raw.send(CONNECT[at : at + 1] if at < len(CONNECT) - 1 else b"")
                at += 1
                return all([ended(raw) for raw in [*silent, *quiet, *trickling]])

            assert await until(all_ended), "somebody is still connected"
            await pair.exchange()
            for raw in [*silent, *quiet, *trickling]:
                raw.close()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


@pytest.mark.parametrize("kind", ["queue", "topic"])
async def test_a_flood_of_subscriptions(tmp_path, request, kind):
    """A connection has a thousand; one more ends it, and nothing of them is left."""
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=64) as pair:
            for client in range(3):
                wire = await StompWire.open(port)
                for number in range(SUBSCRIPTIONS_MAX):
                    destination = f"/{kind}/flood.{client}.{number % 50}"
                    wire.post("SUBSCRIBE", {"id": str(number), "destination": destination})
                await wire.ask("BEGIN", {"transaction": "all of them"})
                await pair.exchange(20)
                wire.post("SUBSCRIBE", {"id": "one", "destination": "/topic/more"})
                assert await until(lambda: wire.gone)  # noqa: B023
                assert wire.error is not None
                assert "at most 1000 subscriptions" in wire.error.headers["message"]
            wire = await StompWire.open(port)
            taker = Taker(wire, "one")
            await taker.subscribe(f"/{kind}/flood.0.0")
            headers = {"destination": f"/{kind}/flood.0.0"}
            await wire.ask("SEND", headers, b"hello")
            assert await until(lambda: taker.bodies == [b"hello"])
            wire.abort()
        figures(request, f"RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


# Transactions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["bodies", "headers", "nothing"])
async def test_transactions_that_hoard(tmp_path, request, what):
    """What a connection's open transactions hold is bounded, whatever it is that they hold."""
    limits = {"BRAIDMQ_LIMITS__TRANSACTION_BYTES_MAX": "2MiB"}
    clients, most = 3, 20 * TRANSACTIONS_MAX
    headers = {"destination": "/queue/hoard"}
    body = b""
    if what == "bodies":
        body = bytes(50_000)
    elif what == "headers":
        headers |= {"long": "x" * 50_000}
    else:
        clients, most = 1, 40_000
    async with Daemon(tmp_path / "data", tmp_path, (), limits, LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=48) as pair:
            for _ in range(clients):
                wire = await StompWire.open(port)
                names = [str(number) for number in range(TRANSACTIONS_MAX)]
                for name in names:
                    wire.post("BEGIN", {"transaction": name})
                sends = 0
                with suppress(Gone):
                    while sends < most:
                        for name in names:
                            wire.post("SEND", headers | {"transaction": name}, body)
                        sends += len(names)
                        await asyncio.sleep(0)
                        await until(lambda: wire.gone or not wire.unsent_bytes)  # noqa: B023
                    await wire.ask("BEGIN", {"transaction": names[0]})  # it would be refused, too
                pair.look()
                assert wire.error is not None
                assert "at most" in wire.error.headers["message"], f"{sends} were taken"
                wire.abort()
            await pair.exchange()
        figures(request, f"sends {sends} a client, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log


def hold(wire: StompWire, count: int) -> list[str]:
    """Begin a transaction for each of ``count`` messages; those that were begun."""
    begun: list[str] = []

    def on_message(frame: Frame) -> None:
        name = {"transaction": f"t{len(begun)}"}
        wire.post("BEGIN", name)
        wire.post("ACK", name | {"id": frame.headers["ack"]})
        wire.post("SEND", name | {"destination": "/queue/sent"}, frame.body)
        begun.append(name["transaction"])

    wire.hear("held", on_message)
    headers = {"id": "held", "destination": "/queue/held", "ack": "client-individual"}
    wire.post("SUBSCRIBE", headers | {"activemq.prefetchSize": str(count)})
    return begun


async def test_thousands_of_open_transactions(tmp_path, request):
    """They hold messages; when their clients go, each comes again, and nothing was sent."""
    clients, per_client = 40, TRANSACTIONS_MAX
    count = clients * per_client
    async with Daemon(tmp_path / "data", tmp_path, flags=LISTEN) as daemon:
        port = daemon.ports[1]
        async with Beside(daemon, grows_mib_max=64) as pair:
            wires = [await StompWire.open(port) for _ in range(clients)]
            for number in range(count):
                wires[0].post("SEND", {"destination": "/queue/held"}, b"%d" % number)
            await wires[0].ask("SEND", {"destination": "/queue/nobody"}, b"x")
            taken = [hold(wire, per_client) for wire in wires]
            assert await until(lambda: all(len(each) == per_client for each in taken))
            await pair.exchange()
            for wire in wires:
                wire.abort()
            again = await StompWire.open(port)
            held = Taker(again, "held", "client-individual")
            sent = Taker(again, "sent", "client-individual")
            await sent.subscribe("/queue/sent")
            await held.subscribe("/queue/held")
            assert await until(lambda: len(held.bodies) == count), len(held.bodies)
            assert set(held.bodies) == {b"%d" % number for number in range(count)}
            assert held.again == count
            await again.ask("SEND", {"destination": "/queue/sent"}, b"last")
            assert await until(lambda: sent.bodies == [b"last"]), sent.bodies[:10]
            again.abort()
        figures(request, f"transactions {count}, RSS {pair.grown_mib:+.1f} MiB")
        assert await daemon.stop() == 0, daemon.log
