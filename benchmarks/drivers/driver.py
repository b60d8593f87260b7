"""What every protocol's driver can do, so that one engine drives them all.

Rules:

1. A driver speaks its protocol by itself, with as little work for each message as it can: the
   client libraries would be measured along with the broker. Ours and a peer that speak the same
   protocol get the same driver.
2. ``declare`` and the handshakes block. Afterwards a client is bytes in, bytes out: the engine
   owns the socket (which no longer blocks), gives what it read to ``feed`` and writes ``out``,
   which it empties. Clocks, schedules and counts are the engine's alone.
3. A client numbers the messages that it publishes from 0, and says by these numbers which were
   confirmed or refused, in any order. The engine empties the lists.
4. Whatever the broker says that makes going on pointless raises Refused, in its own words.
"""

import socket
from collections.abc import Sequence
from typing import Any, Final, Literal, Protocol

import msgspec

__all__ = ["Client", "Consumer", "Driver", "Kind", "Producer", "Refused", "Wiring", "slashed"]

_QUEUE_GROUP: Final = "workers"

Kind = Literal["queue", "fifo", "topic", "stream"]


class Refused(Exception):
    """The broker said no, or hung up; its words."""


class Wiring(msgspec.Struct, frozen=True, kw_only=True):
    """One client: where it connects, to what, and how.

    Names have levels with dots between them; each driver spells them as its protocol does. In the
    names of a consumer of topics, ``*`` is one level and ``#`` any number of them, at the end.
    What a protocol does not have (a prefetch, a QoS) is left alone; what a scenario cannot do
    without is asked of ``Driver.features`` before.
    """

    url: str  # scheme://[user:password@]host:port
    kind: Kind = "queue"
    names: tuple[str, ...] = ()  # of queues, topics or streams
    client_id: str = ""
    group: str = ""  # of consumers that share: a stream's or a topic's; "": everyone gets all
    groups: tuple[str, ...] = ()  # all of those, when what they read is declared
    qos: int = 1  # of MQTT
    durable: bool = True  # messages survive a restart, and a confirmation says so
    prefetch: int = 1_000  # messages that a consumer may have unacknowledged, or asks for at once
    retain: bool = False  # a topic keeps the last message for those who come later
    from_start: bool = False  # of a stream: all that is there, else only what comes
    tls_ca: str = ""  # a file with the authority that signed the broker's certificate; "": no TLS
    partitions: int = 1  # of a stream that is declared
    dead_letter: str = ""  # of a queue that is declared: where messages go that ...
    receives_max: int = 0  # ... were rejected so often; 0: never

    @property
    def sharing(self) -> str:
        """The group that shares what comes, or makes a queue of a stream or topic; "": none."""
        return self.group or (_QUEUE_GROUP if self.kind == "queue" else "")


def slashed(name: str) -> str:
    """A name as MQTT spells it, and our own protocol if it is a topic's."""
    return name.replace(".", "/").replace("*", "+")


class Client(Protocol):
    """A connection whose handshakes are done.

    Attributes:
        socket: does not block.
        out: what is to be written.
    """

    socket: socket.socket
    out: bytearray

    def feed(self, data: bytes) -> None:
        """Take what was read. Raises Refused."""

    def close(self) -> None:
        """Say goodbye, and close the socket; never raises."""


class Producer(Client, Protocol):
    """A client that publishes.

    Attributes:
        confirms: whether the protocol confirms; without, written is the most that is known.
        confirmed: numbers of messages that the broker has taken.
        refused: numbers of those it will not take.
    """

    confirms: bool
    confirmed: list[int]
    refused: list[int]

    def publish(
        self, bodies: Sequence[bytes], to: int = 0, keys: Sequence[str] = (), delay_ms: int = 0
    ) -> None:
        """Put messages for ``names[to]`` into ``out``: one request where there are batches.

        ``keys`` (none, or one for each) order FIFO groups, and choose partitions.
        """


class Consumer(Client, Protocol):
    """A client that is subscribed, or asks for messages by itself.

    Attributes:
        bodies: what came.
        receipts: as many, what to acknowledge each by; the engine empties both.
    """

    bodies: list[bytes]
    receipts: list[Any]

    def acknowledge(self, receipts: Sequence[Any]) -> None:
        """Put acknowledgements into ``out``: one request where the protocol can."""

    def reject(self, receipts: Sequence[Any]) -> None:
        """Say that they could not be dealt with: they come again, or become dead letters."""


class Driver(Protocol):
    """A protocol.

    Attributes:
        kinds: what it has.
        features: of "confirms", "keys", "delay", "reject", "retain", "wildcards", "groups", "tls",
            "qos2", "dead_letters", those that it has. A system may have fewer: ``LACKS`` in
            ``systems/registry.py``.
    """

    kinds: frozenset[Kind]
    features: frozenset[str]

    def declare(self, wiring: Wiring) -> None:
        """Have all that is named there and empty, groups too. Raises OSError, Refused."""

    def connect(self, wiring: Wiring) -> Client:
        """A client that does nothing. Raises OSError, Refused."""

    def greeting(self, wiring: Wiring) -> bytes:
        """What a client says first, for those who count connections."""

    def is_greeted(self, data: bytes) -> bool:
        """Whether all of the answer to a greeting is there. Raises Refused."""

    def producer(self, wiring: Wiring) -> Producer:
        """A client that publishes. Raises OSError, Refused."""

    def consumer(self, wiring: Wiring) -> Consumer:
        """A client that is subscribed when this returns. Raises OSError, Refused."""
