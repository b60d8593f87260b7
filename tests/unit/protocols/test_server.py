"""``serve``: open for as long as the block lasts, and then properly closed."""

# ruff: noqa: ASYNC110  - these tests wait for what others do

import asyncio
import errno
import ssl
import sys

import pytest
import trustme

from braidmq.broker import (
    Broker,
    BrokerFailed,
    Disconnected,
    InvalidArgument,
    Limits,
    PermissionDenied,
    Unauthenticated,
    User,
)
from braidmq.broker.access import Rule
from braidmq.broker.config import ConfigInvalid, Listener
from braidmq.broker.passwords import hash_password
from braidmq.protocols import Server, connect, serve
from braidmq.storage.disk import RealDisk
from braidmq.storage.filelog import FileLog
from tests.ports import kept_port


@pytest.fixture
async def broker():
    async with Broker() as broker:
        yield broker


async def test_the_ports_that_the_system_chose_can_be_read(broker):
    async with serve(broker, "braid://127.0.0.1:0", "braid://127.0.0.1:0") as server:
        assert isinstance(server, Server)
        assert len(set(server.urls)) == 2
        assert not any(url.endswith(":0") for url in server.urls)
    assert serve(broker).urls == []
    assert serve(broker).connections == serve(broker).connections_refused == 0


async def test_connections_are_counted(broker):
    async with serve(broker, "braid://127.0.0.1:0") as server, connect(server.urls[0]) as remote:
        assert server.connections == 1
        assert (await remote.info()).connections == 1
        assert (await broker.info()).connections == 1
    assert (await broker.info()).connections == 0


async def test_at_the_end_what_was_begun_is_answered(broker):
    async with connect_to(broker, resume=False) as (server, remote):
        queue = await remote.declare_queue("q")
        sending = [asyncio.ensure_future(queue.send(b"x")) for _ in range(10)]
        waiting = asyncio.ensure_future(queue.receive(wait=20))
        while not (await broker.queue("q").info()).sent:
            await asyncio.sleep(0)
        await server.__aexit__(None, None, None)
        assert len(await asyncio.gather(*sending)) == 10
        waiting.cancel()
        with pytest.raises(Disconnected):
            await queue.send(b"x")


class connect_to:
    """A server whose end the test decides, and a client."""

    def __init__(self, broker, **options):
        self.server = serve(broker, "braid://127.0.0.1:0")
        self.options = options

    async def __aenter__(self):
        await self.server.__aenter__()
        self.remote = connect(self.server.urls[0], **self.options)
        await self.remote.__aenter__()
        return self.server, self.remote

    async def __aexit__(self, *error):
        await self.remote.__aexit__(None, None, None)


async def test_who_stays_beyond_the_grace_is_cut(broker):
    async with serve(broker, "braid://127.0.0.1:0", grace=0.01) as server:
        port = int(server.urls[0].rsplit(":", 1)[1])
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        while not server.connections:
            await asyncio.sleep(0.001)
    assert server.connections == 0
    writer.close()


async def test_the_daemon_port_is_free_again_afterwards(broker):
    with kept_port() as port:
        url = f"braid://127.0.0.1:{port}"
        for _ in range(2):
            async with serve(broker, url) as server:
                assert server.urls == [url]


async def test_a_message_must_fit_into_a_frame():
    async with Broker(limits=Limits(frame_bytes_max=1_000_000)) as broker:
        with pytest.raises(InvalidArgument, match="frame_bytes_max"):
            async with serve(broker, "braid://127.0.0.1:0"):
                pass


async def test_tls():
    authority = trustme.CA()
    ours = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(ours)
    theirs = ssl.create_default_context()
    authority.configure_trust(theirs)
    async with Broker() as broker, serve(broker, "braids://127.0.0.1:0", tls=ours) as server:
        async with connect(server.urls[0], tls=theirs) as remote:
            queue = await remote.declare_queue("q")
            await queue.send(b"x" * 100_000)
            (message,) = await queue.receive()
            assert len(message.body) == 100_000
        with pytest.raises(Disconnected):
            async with connect(server.urls[0]):
                pass
        plain = server.urls[0].replace("braids", "braid")
        with pytest.raises(Disconnected):
            async with connect(plain, timeout=2):
                pass


async def test_every_listener_has_its_own_certificate(broker, tmp_path):
    listeners, clients = [], []
    for name in ("one", "other"):
        authority, file = trustme.CA(), str(tmp_path / name)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(file)
        url = "braids://127.0.0.1:0"
        listeners.append(Listener(url=url, tls_certificate=file, tls_key=file))
        clients.append(ssl.create_default_context())
        authority.configure_trust(clients[-1])
    async with serve(broker, *listeners, "braid://127.0.0.1:0") as server:
        for url, right, wrong in zip(server.urls, clients, reversed(clients), strict=False):
            async with connect(url, tls=right) as remote:
                await remote.declare_queue("q")
            with pytest.raises(Disconnected):
                async with connect(url, tls=wrong):
                    pass
        async with connect(server.urls[2]):
            assert server.connections == 1


async def test_a_certificate_that_cannot_be_used_leaves_nothing_open(broker, tmp_path):
    missing = str(tmp_path / "missing")
    listener = Listener(url="braids://127.0.0.1:0", tls_certificate=missing, tls_key=missing)
    with pytest.raises(ConfigInvalid, match="cannot be used"):
        async with serve(broker, "braid://127.0.0.1:0", listener):
            pass


@pytest.fixture(scope="module")
def users():
    may_send = Rule("allow", ("queue:Send",), ("orders",))
    return [User("ada", hash_password("right"), (may_send,))]


async def test_users_log_in_and_may_do_what_their_rules_say(users):
    async with Broker(users=users) as broker, serve(broker, "braid://127.0.0.1:0") as server:
        await broker.declare_queue("orders")
        address = server.urls[0].removeprefix("braid://")
        for login in ("", "ada:wrong@", "eve:right@"):
            with pytest.raises(Unauthenticated):
                async with connect(f"braid://{login}{address}"):
                    pass
        async with connect(f"braid://ada:right@{address}") as remote:
            await remote.queue("orders").send(b"x")
            with pytest.raises(PermissionDenied):
                await remote.queue("orders").receive()
            with pytest.raises(PermissionDenied):
                await remote.declare_queue("other")


class BrokenDisk(RealDisk):
    """A disk that brings nothing to stable storage when told so."""

    broken = False

    def fdatasync(self, handle):
        if self.broken:
            raise OSError(errno.EIO, "injected")
        super().fdatasync(handle)

    def pwrite_durable(self, handle, offset, buffers):
        self.pwrite(handle, offset, buffers)
        self.fdatasync(handle)


async def test_clients_are_told_that_the_broker_failed(tmp_path):
    disk = BrokenDisk()
    log = FileLog(str(tmp_path / "data"), disk=disk)
    async with Broker(log=log) as broker, serve(broker, "braid://127.0.0.1:0") as server:
        await (await broker.declare_queue("q")).send_many([b"x"] * 3)
        async with connect(server.urls[0], resume=False) as remote:
            queue = remote.queue("q")
            async with queue.consume(prefetch=1) as messages:
                held = await anext(aiter(messages))
                disk.broken = True
                # Either the broker's own words on this request, or its last words to everybody.
                with pytest.raises((BrokerFailed, Disconnected), match="the log failed"):
                    await held.ack()
                with pytest.raises((BrokerFailed, Disconnected)):
                    await queue.send(b"y")
        assert "injected" in str(await asyncio.wait_for(broker.failed(), 10))


async def exchange(url, request):
    port = int(url.rsplit(":", 1)[1])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    return head


async def test_the_http_port_tells_its_health(broker):
    async with serve(broker, "http://127.0.0.1:0") as server:
        request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await exchange(server.urls[0], request)).startswith(b"HTTP/1.1 200 ")


UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Protocol: {name}\r\n{more}\r\n"
)


@pytest.mark.parametrize("path", ["/", "/mqtt"])
@pytest.mark.parametrize("name", ["mqtt", "mqttv3.1"])
async def test_mqtt_comes_in_by_websocket(broker, path, name):
    async with serve(broker, "ws://127.0.0.1:0", grace=0) as server:
        request = UPGRADE.format(path=path, name=name, more="").encode()
        head = await exchange(server.urls[0], request)
        assert head.startswith(b"HTTP/1.1 101 ")
        assert f"Sec-WebSocket-Protocol: {name}\r\n".lower() in head.decode().lower()


async def test_a_page_of_another_site_gets_in_where_it_is_allowed(broker):
    allowing = Listener(url="ws://127.0.0.1:0", origins=("https://a.example",))
    async with serve(broker, "ws://127.0.0.1:0", allowing, grace=0) as server:
        more = "Origin: https://a.example\r\n"
        request = UPGRADE.format(path="/mqtt", name="mqtt", more=more).encode()
        statuses = [(await exchange(url, request)).split()[1] for url in server.urls]
        assert statuses == [b"403", b"101"]


async def test_only_http_needs_what_the_core_does_not_bring(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("braidmq.protocols.http.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httptools", None)
    async with Broker() as broker:
        async with serve(broker, "mqtt://127.0.0.1:0", "braid://127.0.0.1:0") as server:
            assert len(server.urls) == 2
        with pytest.raises(InvalidArgument, match=r"ws://.*pip install 'braidmq\[server\]'"):
            async with serve(broker, "ws://127.0.0.1:0"):
                pass


@pytest.mark.parametrize(
    ("path", "asked", "answered"),
    [
        ("/", "v10.stomp, v12.stomp, v11.stomp", "v12.stomp"),
        ("/ws", "v11.stomp", "v11.stomp"),
        ("/stomp", "v12.stomp", "v12.stomp"),
        ("/ws", "", ""),
        ("/stomp", "", ""),
        ("/", "", None),
        ("/mqtt", "v12.stomp", None),
        ("/ws", "mqtt", None),
    ],
)
async def test_stomp_comes_in_by_websocket(broker, path, asked, answered):
    request = UPGRADE.format(path=path, name=asked, more="")
    if not asked:
        request = request.replace("Sec-WebSocket-Protocol: \r\n", "")
    async with serve(broker, "ws://127.0.0.1:0", grace=0) as server:
        head = (await exchange(server.urls[0], request.encode())).decode().lower()
        status = "400" if answered is None else "101"
        assert head.startswith(f"http/1.1 {status} ")
        if answered is not None:
            assert (f"sec-websocket-protocol: {answered}\r\n" in head) is bool(answered)
