"""Addresses, limits and logins of the listening sockets."""

# ruff: noqa: ASYNC110  - these tests wait for what others do

import asyncio
import resource
import socket

import pytest

from braidmq.broker import Broker, InvalidArgument, Limits, User
from braidmq.broker.passwords import hash_password
from braidmq.protocols import connect, listener, serve
from braidmq.protocols.listener import Dialect, Listener, parse_url
from braidmq.protocols.native.session import NativeSession

DIALECTS = {
    "braid": Dialect(NativeSession, 7450, tls=False),  # type: ignore[arg-type]
    "braids": Dialect(NativeSession, 7450, tls=True),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("braid://127.0.0.1", ("braid", "127.0.0.1", 7450)),
        ("braid://127.0.0.1:0", ("braid", "127.0.0.1", 0)),
        ("braids://[::1]:99/", ("braids", "::1", 99)),
        ("BRAID://Host:1", ("braid", "host", 1)),
    ],
)
def test_urls_are_read(url, expected):
    assert parse_url(url, DIALECTS) == expected


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:7450",
        "http://127.0.0.1",
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
        parse_url(url, DIALECTS)


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
    accepting = Listener(broker, DIALECTS, None)

    class Stuck:
        peer = "test"
        aborted = looked = False

        def look(self):
            self.looked = True
            raise ValueError("a bug")

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


@pytest.mark.parametrize(
    ("soft", "expected"),
    [(1_024, 922), (256, 192), (64, 1), (65_536, 58_983), (resource.RLIM_INFINITY, 2**31)],
)
def test_descriptors_are_left_for_the_log(monkeypatch, soft, expected):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (soft, soft))
    assert listener._descriptors_max() == expected
