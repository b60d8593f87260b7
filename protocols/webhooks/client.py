"""The HTTP client of webhooks: one POST, to an address that the guard has let through.

httpcore2 speaks HTTP and TLS and pools connections; this decides where it may connect and how much
of an answer it may read. Rules:

1. A host is resolved once for each connection, the guard sees all its addresses, and one of those
   is connected to. TLS is checked against the host's name.
2. No redirect is followed, no proxy is taken from the environment, nothing is tried twice.
3. The timeout is for everything until the status is there. What follows the status changes
   nothing: up to ``ANSWER_BYTES_MAX`` of it are read in the time that is left, then the connection
   is closed.
4. Whatever goes wrong is an :class:`Answer` with an ``error`` of few words. What exactly it was is
   in ``detail``, for the broker's log: shown to users it would tell about our network.
5. Names are resolved in threads of our own, so that a slow name server keeps nothing else waiting.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpcore2
import msgspec

from ...broker.webhook_url import WebhookUrl
from .guard import Blocked, Guard

__all__ = ["ANSWER_BYTES_MAX", "RETRY_AFTER_MS_MAX", "Answer", "HttpClient", "Resolver"]

ANSWER_BYTES_MAX = 64 * 1024
RETRY_AFTER_MS_MAX = 3_600_000
_ADDRESSES_TRIED_MAX = 4
_RESOLVERS_MAX = 8  # threads
# Shorter than the time after which servers close: a request on a connection that is just being
# closed would fail.
_KEEP_ALIVE_SECONDS = 2.0

Resolver = Callable[[str, int], Awaitable[list[str]]]


class Answer(msgspec.Struct, frozen=True):
    """What came of a POST.

    Attributes:
        status: the HTTP status, 0 when there was none.
        error: ``timeout``, ``unreachable``, ``tls`` or ``protocol``; empty with a status.
        retry_after_ms: how long the other side asks to be left alone, 0 if it does not.
        detail: for the log.
    """

    status: int = 0
    error: str = ""
    retry_after_ms: int = 0
    detail: str = ""


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    """Connects to what the resolver says and the guard allows, and to nothing else."""

    def __init__(
        self, guard: Guard, resolve: Resolver, inner: httpcore2.AsyncNetworkBackend
    ) -> None:
        self._guard = guard
        self._resolve = resolve
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Resolve once, check all, connect to one of the very same."""
        resolved = await self._resolve(host, port)
        addresses = self._guard.check(host, port, resolved)
        failure: Exception | None = None
        for address in addresses[:_ADDRESSES_TRIED_MAX]:
            try:
                return await self._inner.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        assert failure is not None, "the guard lets at least one address through"
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        """Never: a webhook has no path of ours."""
        raise Blocked("webhooks may not call Unix sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _ThreadResolver:
    """Asks the system for the addresses of a host, in threads of its own."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVERS_MAX, "webhook-resolver")

    async def __call__(self, host: str, port: int) -> list[str]:
        """The addresses, in the order in which they should be tried. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads, socket.getaddrinfo, host, port, 0, socket.SOCK_STREAM
        )
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class HttpClient:
    """``async with HttpClient(guard) as client``: posts to webhooks.

    Args:
        guard: decides where it may connect.
        connections_max: open at the same time.
        ca_file: PEM file with authorities that are trusted beside those of the system.
        resolve: the addresses of a host; default: what the system says.
        backend: connects to an address; for tests.

    Raises OSError or ssl.SSLError when ``ca_file`` cannot be used.
    """

    def __init__(
        self,
        guard: Guard,
        connections_max: int = 100,
        ca_file: str = "",
        resolve: Resolver | None = None,
        backend: httpcore2.AsyncNetworkBackend | None = None,
    ) -> None:
        self._threads = None if resolve is not None else _ThreadResolver()
        resolver = resolve or self._threads
        assert resolver is not None
        context = ssl.create_default_context()
        if ca_file:
            context.load_verify_locations(ca_file)
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=context,
            max_connections=connections_max,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
            network_backend=_GuardedBackend(guard, resolver, backend or httpcore2.AnyIOBackend()),
        )

    async def __aenter__(self) -> "HttpClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.aclose()
        if self._threads is not None:
            self._threads.close()

    async def post(
        self, url: WebhookUrl, headers: Mapping[str, str], body: bytes, timeout_ms: int
    ) -> Answer:
        """POST a body. Raises nothing that is the other side's doing."""
        target = httpcore2.URL(scheme=url.scheme, host=url.host, port=url.port, target=url.target)
        fields = [(b"Host", url.authority.encode())]
        fields += [(name.encode(), value.encode()) for name, value in headers.items()]
        fields.append((b"Content-Length", str(len(body)).encode()))
        answer = Answer()
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                async with self._pool.stream(
                    "POST", target, headers=fields, content=body
                ) as response:
                    answer = Answer(response.status, retry_after_ms=_retry_after_ms(response))
                    await _drain(response)
        except Exception as error:
            if answer.status:
                return answer
            return _failed(error)
        return answer


async def _drain(response: httpcore2.Response) -> None:
    """Read the rest of an answer so that its connection can be used again, if it is not too much.

    A stream that was not read to its end has its connection closed.
    """
    size = 0
    async for part in response.aiter_stream():
        size += len(part)
        if size > ANSWER_BYTES_MAX:
            return


def _retry_after_ms(response: httpcore2.Response) -> int:
    """What the Retry-After header asks for in seconds; its form as a date is not looked at."""
    for name, value in response.headers:
        if name.lower() == b"retry-after" and value.isdigit() and len(value) < 10:
            return min(int(value) * 1000, RETRY_AFTER_MS_MAX)
    return 0


def _failed(error: Exception) -> Answer:
    """The answer that an exception stands for; a mistake of ours goes on."""
    detail = f"{type(error).__name__}: {error}"
    if any(isinstance(each, ssl.SSLError) for each in (error, *error.args)):
        return Answer(error="tls", detail=detail)  # httpcore2 keeps it as an argument
    if isinstance(error, TimeoutError | httpcore2.TimeoutException):
        return Answer(error="timeout", detail=detail)
    if isinstance(error, Blocked | OSError | httpcore2.NetworkError | UnicodeError):
        return Answer(error="unreachable", detail=detail)
    if isinstance(error, httpcore2.ProtocolError):
        return Answer(error="protocol", detail=detail)
    raise error
