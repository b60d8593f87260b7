"""The client posts where it may, and nowhere else, whatever a URL or an answer looks like."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import httpcore2
import pytest
import trustme

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.webhook_url import parse_webhook_url
from braidmq.protocols.webhooks.client import (
    ANSWER_BYTES_MAX,
    RETRY_AFTER_MS_MAX,
    Answer,
    HttpClient,
)
from braidmq.protocols.webhooks.guard import Guard

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
TIMEOUT_MS = 20_000  # a hang, not a measure


async def read_request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """(request line, headers, body)."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    line, *rest = head.split("\r\n")[:-2]
    headers = {name.lower(): value for name, _, value in (each.partition(": ") for each in rest)}
    return line, headers, await reader.readexactly(int(headers.get("content-length", "0")))


@asynccontextmanager
async def server(handle: Handler, host: str = "127.0.0.1", **options):
    """A server on loopback: its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, host, 0, **options)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def answering(
    *parts: bytes, seen: list[tuple[str, dict[str, str], bytes]] | None = None
) -> Handler:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_request(reader)
            if seen is not None:
                seen.append(request)
            for part in parts:
                writer.write(part)
            await writer.drain()

    return handle


async def post(port: int, timeout_ms: int = TIMEOUT_MS, body: bytes = b"hello") -> Answer:
    guard = Guard(["127.0.0.1"], [port])
    async with HttpClient(guard) as client:
        url = parse_webhook_url(f"http://127.0.0.1:{port}/hook?a=1")
        return await client.post(url, {"X-One": "1"}, body, timeout_ms)


async def test_a_post_is_what_it_should_be():
    seen: list[tuple[str, dict[str, str], bytes]] = []
    async with server(answering(OK, seen=seen)) as port:
        assert await post(port) == Answer(200)
    line, headers, body = seen[0]
    assert (line, body) == ("POST /hook?a=1 HTTP/1.1", b"hello")
    assert headers["host"] == f"127.0.0.1:{port}" and headers["x-one"] == "1"
    assert headers["content-length"] == "5"


async def test_ipv6():
    seen: list[tuple[str, dict[str, str], bytes]] = []
    try:
        async with server(answering(OK, seen=seen), "::1") as port:
            async with HttpClient(Guard(["::1"], [port])) as client:
                url = parse_webhook_url(f"http://[::1]:{port}/")
                assert await client.post(url, {}, b"", TIMEOUT_MS) == Answer(200)
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert seen[0][1]["host"] == f"[::1]:{port}"


async def test_connections_are_used_again():
    connections: list[int] = []

    async def handle(reader, writer):
        connections.append(1)
        await answering(OK)(reader, writer)

    async with server(handle) as port, HttpClient(Guard(["127.0.0.1"], [port])) as client:
        url = parse_webhook_url(f"http://127.0.0.1:{port}/")
        for _ in range(3):
            assert (await client.post(url, {}, b"", TIMEOUT_MS)).status == 200
    assert len(connections) == 1


# --- where it connects ---


class Connections(httpcore2.AsyncNetworkBackend):
    """Notes every address that is connected to, and connects to none."""

    def __init__(self) -> None:
        self.made: list[tuple[str, int]] = []

    async def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        self.made.append((host, port))
        raise httpcore2.ConnectError("a stub")


# Every way to spell an address that must not be called: each has to end without a connection. What
# a name resolves to is what public services of such names (nip.io, localtest.me) answer.
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "localhost.localdomain": ["127.0.0.1"],
    "127.0.0.1.nip.example": ["127.0.0.1"],
    "a9fea9fe.nip.example": ["169.254.169.254"],
    "10-0-0-1.nip.example": ["10.0.0.1"],
    "localtest.example": ["127.0.0.1"],
    "six.example": ["::1"],
    "mapped.example": ["::ffff:169.254.169.254"],
    "nat64.example": ["64:ff9b::a9fe:a9fe"],
    "mixed.example": ["8.8.8.8", "127.0.0.1"],
    "metadata.google.internal": ["169.254.169.254"],
    "xn--localhst-e4a.example": ["127.0.0.1"],
    "linklocal.example": ["fe80::1%eth0"],
    "odd.example": ["0x7f.1"],
    "nowhere.example": [],
}
SPELLINGS = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://127.0.1/",
    "http://0/",
    "http://0.0.0.0/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://169.254.169.254/latest/meta-data/",
    "http://0xA9FEA9FE/",
    "http://2852039166/",
    "http://0251.0376.0251.0376/",
    "http://0251.254.169.254/",
    "http://425.510.425.510/",
    "http://[::1]/",
    "http://[::]/",
    "http://[0:0:0:0:0:0:0:1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[::127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:0:0:0:0:80ff:fffe]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00:ec2::254]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://224.0.0.1/",
    "http://8.8.8.8@127.0.0.1/",
    "http://a.example:80@127.0.0.1/",
    "http://127.0.0.1#@a.example/",
    "http://127.0.0.1\\@a.example/",
    "http://a.example\\.127.0.0.1/",
    "http://①②⑦.⓪.⓪.①/",
    "http://127。0。0。1/",
    "http://%31%32%37.0.0.1/",
    "http://127.0.0.1%2f@a.example/",
    "http:127.0.0.1/",
    "http:///127.0.0.1/",
    "//127.0.0.1/",
    "http://127.0.0.1:22/",
    "http://a.example:6379/",
    "http://a.example/\r\nHost: 127.0.0.1",
    "file:///etc/passwd",
    "gopher://127.0.0.1/_x",
    "ftp://127.0.0.1/",
    "unix:///run/docker.sock",
    *(f"https://{name}/" for name in NAMES),
    *(f"http://{name.upper()}:8443/" for name in NAMES),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
async def test_no_spelling_reaches_what_must_not_be_called(spelling):
    connections = Connections()

    async def resolve(host: str, port: int) -> list[str]:
        return NAMES.get(host, [host])

    guard = Guard()
    async with HttpClient(guard, resolve=resolve, backend=connections) as client:
        try:
            answer = await client.post(parse_webhook_url(spelling), {}, b"", TIMEOUT_MS)
        except InvalidArgument:
            answer = Answer(error="unreachable")
        assert (answer.status, answer.error) == (0, "unreachable")
    assert connections.made == []


async def test_no_spelling_reaches_a_canary_with_the_resolver_of_the_system():
    """The same on a real socket: nobody connects, also where the system knows more spellings."""
    reached: list[int] = []

    async def canary(reader, writer):
        reached.append(1)

    async with server(canary) as port, HttpClient(Guard(ports=[port])) as client:
        for spelling in SPELLINGS:
            scheme, found, rest = spelling.partition("://")
            host, slash, path = rest.partition("/")
            try:
                url = parse_webhook_url(
                    f"{scheme}{found}{host.rpartition(':8443')[0] or host}:{port}{slash}{path}"
                )
            except InvalidArgument:
                continue
            if url.host.endswith(".example"):
                continue  # would ask a name server of the world
            assert (await client.post(url, {}, b"", 2_000)).status == 0
    assert reached == []


async def test_a_host_is_resolved_once_and_that_very_address_is_connected_to():
    """Rebinding: a name server that answers something else the second time gains nothing."""
    connections = Connections()
    asked: list[str] = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["8.8.8.8"] if len(asked) == 1 else ["127.0.0.1"]

    async with HttpClient(Guard(), resolve=resolve, backend=connections) as client:
        url = parse_webhook_url("https://rebinding.example/")
        first = await client.post(url, {}, b"", TIMEOUT_MS)
        assert (asked, connections.made) == (["rebinding.example"], [("8.8.8.8", 443)])
        second = await client.post(url, {}, b"", TIMEOUT_MS)
        assert connections.made == [("8.8.8.8", 443)]
    assert (first.error, second.error) == ("unreachable", "unreachable")


async def test_all_addresses_of_a_host_are_tried_within_bounds():
    connections = Connections()

    async def resolve(host: str, port: int) -> list[str]:
        return [f"8.8.8.{n}" for n in range(10)]

    async with HttpClient(Guard(), resolve=resolve, backend=connections) as client:
        await client.post(parse_webhook_url("https://many.example/"), {}, b"", TIMEOUT_MS)
    assert connections.made == [(f"8.8.8.{n}", 443) for n in range(4)]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed(status):
    reached: list[int] = []

    async def canary(reader, writer):
        reached.append(1)

    async with server(canary) as inside:
        moved = f"HTTP/1.1 {status} X\r\nLocation: http://127.0.0.1:{inside}/\r\n"
        async with server(answering(moved.encode() + b"Content-Length: 0\r\n\r\n")) as port:
            guard = Guard(["127.0.0.1"], [port, inside])
            async with HttpClient(guard) as client:
                url = parse_webhook_url(f"http://127.0.0.1:{port}/")
                assert await client.post(url, {}, b"", TIMEOUT_MS) == Answer(status)
    assert reached == []


async def test_no_proxy_is_taken_from_the_environment(monkeypatch):
    reached: list[int] = []

    async def canary(reader, writer):
        reached.append(1)

    async with server(canary) as inside, server(answering(OK)) as port:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{inside}")
        assert (await post(port)).status == 200
    assert reached == []


# --- what comes back ---


async def test_nobody_there():
    async with server(answering(OK)) as port:
        pass
    answer = await post(port)
    assert (answer.status, answer.error) == (0, "unreachable")


async def test_a_name_that_is_not_there():
    async def resolve(host: str, port: int) -> list[str]:
        raise OSError("no such host")

    async with HttpClient(Guard(), resolve=resolve) as client:
        url = parse_webhook_url("https://gone.example/")
        assert (await client.post(url, {}, b"", TIMEOUT_MS)).error == "unreachable"


async def test_a_resolver_that_never_answers():
    async def resolve(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with HttpClient(Guard(), resolve=resolve) as client:
        url = parse_webhook_url("https://slow.example/")
        assert (await client.post(url, {}, b"", 50)).error == "timeout"


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def test_a_server_that_never_answers():
    async with server(silent) as port:
        assert (await post(port, 100)).error == "timeout"


async def test_a_server_that_does_not_read():
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(3_600)

    hanging: list[asyncio.Task[None]] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.append(asyncio.ensure_future(deaf(reader, writer)))
        await asyncio.wait(hanging)

    async with server(handle, limit=1_024) as port:
        assert (await post(port, 200, bytes(32 * 1024 * 1024))).error == "timeout"
        for task in hanging:
            task.cancel()


async def test_an_endless_head():
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"x: " + b"y" * 1_000 + b"\r\n")
            await writer.drain()

    async with server(handle) as port:
        assert (await post(port)).error == "protocol"


async def test_an_endless_answer_counts_by_its_status_and_is_not_read_to_the_end():
    sent: list[int] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent.append(65_536)

    async with server(handle) as port:
        assert await post(port) == Answer(200)
    assert sum(sent) < 200 * ANSWER_BYTES_MAX  # what buffers on the way hold


async def test_an_answer_that_stops_counts_by_its_status():
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 503 X\r\nContent-Length: 10\r\nRetry-After: 7\r\n\r\nab")
        await reader.read(-1)

    async with server(handle) as port:
        assert await post(port, 300) == Answer(503, retry_after_ms=7_000)


@pytest.mark.parametrize(
    "garbage", [b"SSH-2.0-OpenSSH_9\r\n", b"\r\n\r\n", b"HTTP/1.1 abc X\r\n\r\n", b"\xff" * 100]
)
async def test_what_is_no_http(garbage):
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(garbage)
        await writer.drain()

    async with server(handle) as port:
        assert (await post(port)).error == "protocol"


async def test_a_server_that_hangs_up():
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with server(handle) as port:
        assert (await post(port)).error in ("protocol", "unreachable")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"0", 0),
        (b"5", 5_000),
        (b"999999999", RETRY_AFTER_MS_MAX),
        (b"9" * 30, 0),
        (b"-1", 0),
        (b"soon", 0),
        (b"Wed, 21 Oct 2026 07:28:00 GMT", 0),
    ],
)
async def test_retry_after(value, expected):
    head = b"HTTP/1.1 429 X\r\nContent-Length: 0\r\nRetry-After: " + value + b"\r\n\r\n"
    async with server(answering(head)) as port:
        assert await post(port) == Answer(429, retry_after_ms=expected)


# --- TLS ---


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@asynccontextmanager
async def tls_server(authority: trustme.CA, *names: str):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(*names).configure_cert(context)
    async with server(answering(OK), ssl=context) as port:
        yield port


async def post_tls(port: int, ca_file: str) -> Answer:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    guard = Guard(["hook.example"], [port])
    async with HttpClient(guard, ca_file=ca_file, resolve=resolve) as client:
        url = parse_webhook_url(f"https://hook.example:{port}/")
        return await client.post(url, {}, b"", TIMEOUT_MS)


async def test_tls_is_checked_against_the_name(authority, tmp_path):
    ca_file = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(ca_file)
    async with tls_server(authority, "hook.example") as port:
        assert await post_tls(port, ca_file) == Answer(200)
        assert (await post_tls(port, "")).error == "tls"
    async with tls_server(authority, "other.example", "127.0.0.1") as port:
        assert (await post_tls(port, ca_file)).error == "tls"
