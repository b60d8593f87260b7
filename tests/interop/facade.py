"""What the interop tests ask of a client, whoever wrote it.

Each library has its own way to say "connect" and "a message came". Here is one way for all, so that
one test can be run with every client, and messages can cross between any two of them. A client is
only asked for what its library can do: `Kind.can` lists what not all of them can.
"""

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

# A broker or client that says nothing for so long has failed the test.
GUARD_SECONDS = 20

V31, V311, V5 = 3, 4, 5

_numbers = itertools.count(1)


def fresh_id() -> str:
    """A client id that nobody has; short enough for MQTT 3.1."""
    return f"interop-{next(_numbers)}"


class Refused(Exception):
    """The broker refused; `code` is what it said on the wire."""

    def __init__(self, code: int) -> None:
        super().__init__(f"refused with {code:#x}")
        self.code = code


@dataclass(frozen=True)
class Properties:
    """Properties of a message of MQTT 5, those that are passed through and those that are not."""

    content_type: str = ""
    response_topic: str = ""
    correlation: bytes = b""
    text: bool = False  # payload format indicator 1
    user: tuple[tuple[str, str], ...] = ()
    expiry_seconds: int | None = None
    alias: int | None = None
    identifiers: tuple[int, ...] = ()


NONE = Properties()


@dataclass(frozen=True)
class Message:
    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    properties: Properties = NONE


@dataclass(frozen=True)
class Login:
    """How a client opens a TLS connection, and who it says it is."""

    username: str | None = None
    password: str | None = None
    ca: str = ""  # PEM files
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True)
class Options:
    """How a client connects. A durable one is clean=False with an expiry, in every version."""

    client_id: str = ""
    clean: bool = True
    expiry_seconds: int = 0
    login: Login = Login()
    will: Message | None = None
    aliases: int = 0  # topic aliases it lets the broker use
    origin: str = ""  # of the web page it says it runs in


class Client(ABC):
    """One client with one connection. What it receives waits in `inbox`."""

    def __init__(self, kind: "Kind", url: str, options: Options) -> None:
        scheme, _, rest = url.partition("://")
        host, _, port = rest.rstrip("/").partition(":")
        self.kind = kind
        self.version = kind.version
        self.scheme, self.host, self.port = scheme, host, int(port)
        self.websocket = scheme in ("http", "https", "ws", "wss")
        self.tls = scheme in ("mqtts", "https", "wss")
        self.options = options
        self.loop = asyncio.get_running_loop()
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.ended: asyncio.Future[int] = self.loop.create_future()  # by the broker, and why

    @property
    def ws_url(self) -> str:
        return f"{'wss' if self.tls else 'ws'}://{self.host}:{self.port}/mqtt"

    def put(self, message: Message) -> None:
        """A message came; from any thread."""
        self.loop.call_soon_threadsafe(self.inbox.put_nowait, message)

    def end(self, reason: int) -> None:
        """The broker ended the connection; from any thread. 0: it did not say why."""

        def settle() -> None:
            if not self.ended.done():
                self.ended.set_result(reason)

        self.loop.call_soon_threadsafe(settle)

    @abstractmethod
    async def connect(self) -> bool | None:
        """Connect: whether the session was there; None if the client does not tell. Refused."""

    @abstractmethod
    async def subscribe(self, filter: str, qos: int = 0, identifier: int = 0) -> int:
        """Subscribe: the QoS that was granted, or the reason of the refusal."""

    @abstractmethod
    async def publish(
        self,
        topic: str,
        payload: bytes = b"",
        qos: int = 0,
        retain: bool = False,
        properties: Properties = NONE,
    ) -> None:
        """Publish, and go through the whole handshake. Raises Refused if the client can tell."""

    async def publish_all(self, topic: str, payloads: Sequence[bytes], qos: int) -> None:
        """Publish as fast as the client can."""
        async with asyncio.TaskGroup() as group:
            for payload in payloads:
                group.create_task(self.publish(topic, payload, qos))

    @abstractmethod
    async def leave(self) -> None:
        """Send DISCONNECT and end."""

    @abstractmethod
    async def vanish(self) -> None:
        """End as a network that fails: no DISCONNECT."""

    async def settle(self) -> None:
        """Return when all that was received is acknowledged, also by a library with a thread.

        When the first answer is handled, the acknowledgements are queued; when the second has come,
        they are sent.
        """
        for _ in range(2):
            await self.subscribe("settled")

    async def receive(self) -> Message:
        """The next message."""
        return await asyncio.wait_for(self.inbox.get(), GUARD_SECONDS)

    async def receive_all(self, count: int) -> list[Message]:
        return [await self.receive() for _ in range(count)]


@dataclass(frozen=True)
class Kind:
    """A client library with a protocol version and a transport.

    `can`, beyond what all do:
        tell-present: it tells whether the session was there
        tell-refusal: it tells the reason of a refused subscription
        tell-publish: it tells the reason of a refused publication
        tell-end: it tells why the broker ended the connection (MQTT 5)
        properties: properties of MQTT 5, sent and received
        aliases-in, aliases-out: topic aliases from the broker, and to it
        identifiers: subscription identifiers
        leave-with-will: it leaves with reason 4
    """

    name: str
    make: Callable[["Kind", str, Options], Client]
    version: int
    websocket: bool = False
    can: frozenset[str] = field(default=frozenset())
    missing: Callable[[], str] = lambda: ""  # why it cannot run here

    def __str__(self) -> str:
        return self.name

    def __call__(self, url: str, **options: Any) -> Client:
        options.setdefault("client_id", fresh_id())
        return self.make(self, url, Options(**options))
