"""Addresses, limits and logins of the listening sockets."""

# ruff: noqa: ASYNC110  - these tests wait for what others do

import asyncio
import resource
import socket
import ssl

import pytest
import trustme

from braidmq.broker import Broker, InvalidArgument, Limits, User
from braidmq.broker.config import Listener
from braidmq.broker.mqtt_options import MqttOptions
from braidmq.broker.passwords import hash_password
from braidmq.protocols import connect, listener, serve
from braidmq.protocols.connection import Connection
from braidmq.protocols.listener import Acceptor, parse_url
from braidmq.protocols.native.session import NativeSession


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("braid://127.0.0.1", ("braid", "127.0.0.1", 7450)),
        ("braid://127.0.0.1:0", ("braid", "127.0.0.1", 0)),
        ("braids://[::1]:99/", ("braids", "::1", 99)),
        ("BRAID://Host:1", ("braid", "host", 1)),
        ("mqtt://127.0.0.1", ("mqtt", "127.0.0.1", 1883)),
        ("wss://[::1]", ("wss", "::1", 8443)),
    ],
)
def test_urls_are_read(url, expected):
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:7450",
        "ftp://127.0.0.1",
        "braid://",
        "braid://:7450",
        "braid://h:99999",
        "braid://h:x",
        "braid://h/path",
        "braid://h?x=1",
        "braid://user:pw@h",
        "braid://[::1",
    ],
)
def test_urls_that_are_none_are_refused(url):
    with pytest.raises(InvalidArgument):
        parse_url(url)


@pytest.fixture
async def broker():
    async with Broker() as broker:
        yield broker


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]"])
async def test_without_users_only_this_machine_may_connect(broker, host):
    with pytest.raises(InvalidArgument, match="no user is defined"):
        async with serve(broker, f"braid://{host}:0"):
            pass


async def test_with_users_any_address_may_be_bound(broker, caplog):
    broker.access.replace([User("ada", hash_password("pw"))])
    async with serve(broker, "braid://0.0.0.0:0"):
        pass
    assert "in clear" in caplog.text


async def test_names_are_resolved_and_unknown_ones_refused(broker):
    async with serve(broker, "braid://localhost:0") as server:
        assert len(server.urls) == 1
    with pytest.raises(InvalidArgument):
        async with serve(broker, "braid://no.such.host.invalid:0"):
            pass


async def test_tls_needs_a_certificate(broker):
    with pytest.raises(InvalidArgument, match="certificate"):
        async with serve(broker, "braids://127.0.0.1:0"):
            pass


async def test_a_port_in_use_is_said_and_nothing_stays_open(broker):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        url = f"braid://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match=url):
            async with serve(broker, "braid://127.0.0.1:0", url):
                pass


async def open_socket(url):
    port = int(url.rsplit(":", 1)[1])
    return await asyncio.open_connection("127.0.0.1", port)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "limits", [Limits(connections_max=2), Limits(connections_unauthenticated_max=2)]
)
async def test_connections_over_the_limit_are_refused(limits):
    async with Broker(limits=limits) as broker, serve(broker, "braid://127.0.0.1:0") as server:
        streams = [await open_socket(server.urls[0]) for _ in range(2)]
        await until(lambda: server.connections == 2)
        reader, writer = await open_socket(server.urls[0])
        with pytest.raises(ConnectionError):
            if await reader.read() == b"":
                raise ConnectionError
        assert server.connections_refused == 1
        for _, each in [*streams, (reader, writer)]:
            each.close()
        await until(lambda: server.connections == 0)
        async with connect(server.urls[0]) as remote:
            await remote.declare_queue("q")


async def test_who_said_hello_is_no_stranger():
    limits = Limits(connections_unauthenticated_max=1)
    async with Broker(limits=limits) as broker, serve(broker, "braid://127.0.0.1:0") as server:
        async with connect(server.urls[0]), connect(server.urls[0]):
            assert server.connections == 2


async def test_a_bug_in_one_session_ends_that_connection_only(broker):
    problems: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: problems.append(what))
    accepting = Acceptor(broker, {})

    class Stuck:
        peer = "test"
        bucket = -1
        aborted = looked = False

        def look(self):
            self.looked = True
            raise ValueError("a bug")

        def tick(self):
            self.look()

        def abort(self):
            self.aborted = True

    class Fine(Stuck):
        def look(self):
            self.looked = True

    stuck, fine = Stuck(), Fine()
    accepting.wake(stuck)  # type: ignore[arg-type]
    accepting.wake(fine)  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    assert stuck.aborted and fine.looked and not fine.aborted
    assert isinstance(problems[0]["exception"], ValueError)

    stuck, fine = Stuck(), Fine()
    for each in (stuck, fine):
        accepting.set_deadline(each, broker.now_ms())  # type: ignore[arg-type]
    await until(lambda: fine.looked and stuck.looked)
    assert stuck.aborted and not fine.aborted and len(problems) == 2


async def test_deadlines_are_kept_by_one_timer(broker):
    accepting = Acceptor(broker, {})

    class Waiting:
        peer = "test"
        bucket = -1

        def __init__(self):
            self.ticks = 0

        def tick(self):
            self.ticks += 1

    now_ms = broker.now_ms()
    late, soon, moved, gone = (Waiting() for _ in range(4))
    for each, at_ms in ((late, 3_600_000), (moved, 1), (gone, 1), (soon, 1)):
        accepting.set_deadline(each, now_ms + at_ms)  # type: ignore[arg-type]
    accepting.set_deadline(moved, now_ms + 3_600_000)  # type: ignore[arg-type]
    accepting.set_deadline(gone, None)  # type: ignore[arg-type]
    await until(lambda: soon.ticks)
    assert (late.ticks, soon.ticks, moved.ticks, gone.ticks) == (0, 1, 0, 0)
    assert len(accepting._deadlines) == 2
    await accepting.close(0)
    assert accepting._timer is not None and accepting._timer.cancelled()


@pytest.mark.parametrize(
    "limits", [Limits(connections_per_address_max=2), Limits(connects_per_address_per_minute_max=2)]
)
async def test_one_address_may_not_have_it_all(limits):
    async with Broker(limits=limits) as broker:
        broker.now_ms = lambda: 90_000  # type: ignore[method-assign]  # the minute stays
        async with serve(broker, "braid://127.0.0.1:0", grace=0) as server:
            streams = [await open_socket(server.urls[0]) for _ in range(2)]
            await until(lambda: server.connections == 2)
            await refused(server.urls[0])
            assert server.connections_refused == 1
            for _, each in streams:
                each.close()


async def refused(url):
    reader, writer = await open_socket(url)
    with pytest.raises(ConnectionError):
        if await reader.read() == b"":
            raise ConnectionError
    writer.close()


async def test_a_listener_can_grant_something_else_while_it_is_open(broker):
    granted = []

    def build(listener):
        def factory(host, now_ms):
            granted.append(listener.mqtt.maximum_qos)
            return NativeSession(broker.core, host, now_ms)

        return factory

    accepting = Acceptor(broker, {"mqtt": build})
    await accepting.listen(Listener(url="mqtt://127.0.0.1:0"))
    options = MqttOptions(maximum_qos=1)
    change = accepting.prepare([Listener(url="mqtt://127.0.0.1:0", mqtt=options)])
    streams = [await open_socket(accepting.urls[0])]
    await until(lambda: len(granted) == 1)
    assert change() == 0
    streams.append(await open_socket(accepting.urls[0]))
    await until(lambda: len(granted) == 2)
    assert granted == [2, 1]
    for _, each in streams:
        each.close()
    await accepting.close(0)


async def test_a_dialect_that_is_not_there_is_said(broker):
    with pytest.raises(InvalidArgument, match="mqtt:// is not part of this installation"):
        await Acceptor(broker, {}).listen(Listener(url="mqtt://127.0.0.1:0"))


async def test_accepted_sockets_neither_wait_nor_live_for_ever(broker):
    """Small packets leave at once; a peer that vanished is noticed."""
    accepting, hosts = await hosts_by(broker, Listener(url="braid://127.0.0.1:0"))
    _, writer = await open_socket(accepting.urls[0])
    await until(lambda: hosts)
    accepted = hosts[0]._transport.get_extra_info("socket")
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 300
    writer.close()
    await accepting.close(0)


@pytest.mark.parametrize(
    ("soft", "expected"),
    [(1_024, 922), (256, 192), (64, 1), (65_536, 58_983), (resource.RLIM_INFINITY, 2**31)],
)
def test_descriptors_are_left_for_the_log(monkeypatch, soft, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, soft))
    assert listener._descriptors_max() == expected


async def hosts_by(broker, listener):
    """An acceptor for one listener, and what its sessions get as their host."""
    hosts = []

    def build(listener):
        def factory(host, now_ms):
            hosts.append(host)
            return NativeSession(broker.core, host, now_ms)

        return factory

    accepting = Acceptor(broker, {"native": build})
    await accepting.listen(listener)
    return accepting, hosts


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"certificate_user": True}, "ada"),
        ({"certificate_user": True, "certificate_name": "san-email"}, "ada@example.org"),
        ({"certificate_user": True, "certificate_name": "san-uri"}, ""),
        ({}, ""),
    ],
)
async def test_a_session_is_told_whom_the_certificate_names(
    broker, tmp_path, caplog, names, expected
):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca"))
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        str(tmp_path / "server")
    )
    listener = Listener(
        url="braids://127.0.0.1:0",
        tls_certificate=str(tmp_path / "server"),
        tls_key=str(tmp_path / "server"),
        tls_client_ca=str(tmp_path / "ca"),
        tls_client="optional",
        **names,
    )
    accepting, hosts = await hosts_by(broker, listener)
    port = int(accepting.urls[0].rsplit(":", 1)[1])
    for shown in (True, False):
        client = ssl.create_default_context()
        authority.configure_trust(client)
        if shown:
            authority.issue_cert("ada@example.org", common_name="ada").configure_cert(client)
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        await until(lambda: hosts)
        host = hosts.pop()
        assert host.tls and host.certificate_user == (expected if shown else "")
        writer.close()
    assert ("names no user" in caplog.text) is ("san-uri" in names.values())
    await accepting.close(0)


async def test_without_tls_nobody_has_a_certificate(broker):
    accepting, hosts = await hosts_by(broker, Listener(url="braid://127.0.0.1:0"))
    _, writer = await open_socket(accepting.urls[0])
    await until(lambda: hosts)
    assert not hosts[0].tls and hosts[0].certificate_user == ""
    writer.close()
    await accepting.close(0)


async def test_who_was_accepted_but_comes_after_the_close_is_not_let_in(broker):
    acceptor = Acceptor(broker, {})
    latecomer = Connection(acceptor, lambda host, now_ms: pytest.fail("it was let in"))
    await acceptor.close(0)
    refused = acceptor.refused
    assert not acceptor.join(latecomer)
    assert (acceptor.refused, acceptor.connections) == (refused + 1, 0)
