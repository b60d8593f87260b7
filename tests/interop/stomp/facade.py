"""What the interop tests ask of a client of STOMP, whoever wrote it.

As in `../facade.py`: one way for all libraries to say "send" and "a message came". What was asked
for by a SEND or SUBSCRIBE is confirmed by its receipt. Not every library can have one for other
frames; then a SEND with a receipt follows them, and since frames are handled in order, they have
been handled when it is confirmed.
"""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..facade import GUARD_SECONDS

__all__ = ["BARRIER", "GUARD_SECONDS", "Client", "Kind", "Message", "Options", "Refused"]

BARRIER = "/topic/barrier"  # nobody subscribes to it

_numbers = itertools.count(1)


class Refused(Exception):
    """The broker sent an ERROR; `message` is its header, `detail` its body."""

    def __init__(self, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(headers.get("message", ""))
        self.message = headers.get("message", "")
        self.receipt = headers.get("receipt-id", "")
        self.detail = body.decode()


@dataclass(frozen=True)
class Message:
    """A MESSAGE, its headers unescaped."""

    body: bytes
    headers: Mapping[str, str]

    @property
    def destination(self) -> str:
        return self.headers["destination"]


@dataclass(frozen=True)
class Options:
    """How a client connects.

    `beats`: ms between heart-beats that it sends, and that it wants. `ca`, `certificate`, `key`:
    for TLS, whom to trust and who it is, as files.
    """

    login: str = ""
    passcode: str = ""
    client_id: str = ""
    beats: tuple[int, int] = (0, 0)
    ca: str = ""
    certificate: str = ""
    key: str = ""


class Client(ABC):
    """One client with one connection. What it receives waits in `inbox`."""

    def __init__(self, kind: "Kind", url: str, options: Options) -> None:
        scheme, _, address = url.rstrip("/").partition("://")
        host, _, port = address.partition(":")
        self.is_tls = scheme in ("stomps", "wss")
        self.kind = kind
        self.version = kind.version
        self.host, self.port = host, int(port)
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.connected: asyncio.Future[Mapping[str, str]] = self.loop.create_future()
        self.failed: asyncio.Future[Refused | None] = self.loop.create_future()  # None: no ERROR
        self._receipts: dict[str, asyncio.Future[None]] = {}

    # --- what libraries tell, from any thread ---

    def on_connected(self, headers: Mapping[str, str]) -> None:
        self._settle(self.connected, dict(headers))

    def on_message(self, headers: Mapping[str, str], body: bytes) -> None:
        message = Message(bytes(body), dict(headers))
        self.loop.call_soon_threadsafe(self.inbox.put_nowait, message)

    def on_receipt(self, receipt: str) -> None:
        self.loop.call_soon_threadsafe(self._on_receipt, receipt)

    def on_error(self, headers: Mapping[str, str], body: bytes) -> None:
        self._settle(self.failed, Refused(dict(headers), body))

    def on_end(self) -> None:
        self._settle(self.failed, None)

    def _settle(self, future: asyncio.Future[Any], result: object) -> None:
        def settle() -> None:
            if not future.done():
                future.set_result(result)

        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(settle)

    def _on_receipt(self, receipt: str) -> None:
        future = self._receipts.pop(receipt, None)
        if future is not None and not future.done():
            future.set_result(None)

    # --- what tests ask ---

    async def connect(self) -> None:
        """Connect. Raises Refused."""
        await self.open()
        await self._unless_failed(self.connected)
        told = self.connected.result()
        assert told.get("version", self.version) == self.version

    async def send(self, destination: str, body: bytes = b"", **headers: str) -> None:
        """Send, and wait for the receipt; in a transaction it is the BEGIN's. Raises Refused."""
        await self._confirmed(lambda receipt: self.do_send(destination, body, headers | receipt))

    async def send_all(self, destination: str, bodies: Sequence[bytes]) -> None:
        """Send one after the other, waiting for the last receipt only."""
        for body in bodies[:-1]:
            await self.do_send(destination, body, {})
        await self.send(destination, bodies[-1])

    async def subscribe(self, destination: str, ack: str = "auto", **headers: str) -> str:
        """Subscribe: the id of the subscription; the destination in 1.0. Raises Refused."""
        id = headers.pop("id", f"s{next(_numbers)}")
        if self.version == "1.0":
            id = destination
        told = await self._confirmed(
            lambda receipt: self.do_subscribe(destination, id, ack, headers | receipt)
        )
        return told or id

    async def unsubscribe(self, id: str) -> None:
        await self._handled(lambda receipt: self.do_unsubscribe(id, receipt))

    async def ack(self, message: Message, transaction: str = "") -> None:
        await self._handled(lambda receipt: self.do_settle(message, True, transaction, receipt))

    async def nack(self, message: Message, transaction: str = "") -> None:
        await self._handled(lambda receipt: self.do_settle(message, False, transaction, receipt))

    async def begin(self, transaction: str) -> str:
        """Begin: what the transaction is called, by libraries that choose that themselves."""
        return (
            await self._handled(lambda receipt: self.do_begin(transaction, receipt)) or transaction
        )

    async def commit(self, transaction: str) -> None:
        await self._handled(lambda receipt: self.do_commit(transaction, receipt))

    async def abort(self, transaction: str) -> None:
        await self._handled(lambda receipt: self.do_abort(transaction, receipt))

    async def receive(self) -> Message:
        """The next message. Raises Refused."""
        coming = asyncio.ensure_future(self.inbox.get())
        await self._unless_failed(coming)
        return coming.result()

    async def receive_all(self, count: int) -> list[Message]:
        return [await self.receive() for _ in range(count)]

    # --- how ---

    async def _confirmed(self, do: Callable[[dict[str, str]], Awaitable[Any]]) -> Any:
        receipt = f"r{next(_numbers)}"
        confirmed = self._receipts[receipt] = self.loop.create_future()
        result = None
        with suppress(ConnectionError):  # the broker hung up while it was sent: an ERROR says why
            result = await do({"receipt": receipt})
        await self._unless_failed(confirmed)
        return result

    async def _handled(self, do: Callable[[dict[str, str]], Awaitable[Any]]) -> Any:
        if "receipts" in self.kind.can:
            return await self._confirmed(do)
        result = await do({})
        await self.send(BARRIER)
        return result

    async def _unless_failed(self, coming: "asyncio.Future[Any]") -> None:
        async with asyncio.timeout(GUARD_SECONDS):
            await asyncio.wait({coming, self.failed}, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done():
            coming.cancel()
            raise self.failed.result() or ConnectionError("the broker hung up")

    # --- what a library does; `headers` has the receipt, where it is wanted ---

    @abstractmethod
    async def open(self) -> None:
        """Open the connection and send CONNECT."""

    @abstractmethod
    async def do_send(self, destination: str, body: bytes, headers: dict[str, str]) -> None: ...

    @abstractmethod
    async def do_subscribe(
        self, destination: str, id: str, ack: str, headers: dict[str, str]
    ) -> str | None:
        """Subscribe: the id, if the library chose another."""

    @abstractmethod
    async def do_unsubscribe(self, id: str, headers: dict[str, str]) -> None: ...

    @abstractmethod
    async def do_settle(
        self, message: Message, taken: bool, transaction: str, headers: dict[str, str]
    ) -> None:
        """ACK, or NACK."""

    @abstractmethod
    async def do_begin(self, transaction: str, headers: dict[str, str]) -> str | None:
        """Begin: the name, if the library chose another."""

    @abstractmethod
    async def do_commit(self, transaction: str, headers: dict[str, str]) -> None: ...

    @abstractmethod
    async def do_abort(self, transaction: str, headers: dict[str, str]) -> None: ...

    @abstractmethod
    async def leave(self) -> None:
        """Send DISCONNECT and end."""

    @abstractmethod
    async def vanish(self) -> None:
        """End as a network that fails: no DISCONNECT."""


@dataclass(frozen=True)
class Kind:
    """A client library with a protocol version and a transport.

    `can`, beyond what all do:
        receipts: they can be asked for with every frame
        sends-bytes, reads-bytes: bodies with NULs and what is no text
        escapes: headers with colons, line feeds and backslashes in their values
        exact: ... and what looks like an escape, blanks at the ends and, in 1.2, carriage returns
        crlf: it ends lines by CRLF
        tell-refusal: it shows the ERROR that answers a CONNECT
        nack: it has NACK
        transacted-acks: acknowledgements in transactions
        beats: heart-beats
        tls: over TLS too, with a certificate of its own if need be
        unasked: it shows messages that come without a SUBSCRIBE
    """

    name: str
    make: Callable[["Kind", str, Options], Client]
    version: str
    websocket: bool = False
    binary: bool = False  # frames of WebSocket
    can: frozenset[str] = field(default=frozenset())
    missing: Callable[[], str] = lambda: ""  # why it cannot run here

    def __str__(self) -> str:
        return self.name

    def __call__(self, url: str, **options: Any) -> Client:
        return self.make(self, url, Options(**options))
