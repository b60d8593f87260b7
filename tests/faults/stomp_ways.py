"""The ways in which a client can come by STOMP: a version, a dialect, a transport.

What the dialects call things is told here as applications write it, not read from our own table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

__all__ = ["LISTENERS", "SUBSCRIPTION", "WAYS", "WAY_NAMES", "Dialect", "Way"]

TOLD = "/topic/stomp.told"  # what the durable subscription is to
SUBSCRIPTION = "told"
DEAD_LETTERS = "ActiveMQ.DLQ"
RECEIVES_MAX = "7"  # what ActiveMQ has by default


@dataclass(frozen=True)
class Dialect:
    """What a broker calls things.

    Attributes:
        prefetch: the header of SUBSCRIBE. durable: its headers for the durable subscription.
        client_id: of CONNECT, for that. queue: headers that say how a queue is to be.
        refusals: headers of NACK, and whether the message becomes a dead letter then.
    """

    name: str
    prefetch: str
    durable: dict[str, str]
    client_id: str
    queue: dict[str, str]
    refusals: Sequence[tuple[dict[str, str], bool]]


# Both name the same session: CLIENT-ID:NAME and DESTINATION:ID.
ACTIVEMQ = Dialect(
    name="activemq",
    prefetch="activemq.prefetchSize",
    durable={"activemq.subscriptionName": SUBSCRIPTION},
    client_id=TOLD,
    queue={},
    refusals=[({}, True)],
)
RABBITMQ = Dialect(
    name="rabbitmq",
    prefetch="prefetch-count",
    durable={"durable": "true"},
    client_id="",
    queue={"x-dead-letter-routing-key": DEAD_LETTERS, "x-delivery-limit": RECEIVES_MAX},
    refusals=[({"requeue": "false"}, True), ({}, False)],
)


class Way(NamedTuple):
    """How a connection is made. ``door``: which of the ports of the STOMP listeners."""

    version: str
    dialect: Dialect
    over: str  # "tcp" or "websocket"
    door: int

    @property
    def names(self) -> tuple[str, str, str]:
        return self.version, self.dialect.name, self.over


_DIALECTS = (ACTIVEMQ, RABBITMQ)
_DOORS = list(product(("tcp", "websocket"), _DIALECTS))
_SCHEMES = {"tcp": "stomp", "websocket": "ws"}
WAYS = [
    Way(version, dialect, over, door)
    for version in ("1.2", "1.1", "1.0")
    for door, (over, dialect) in enumerate(_DOORS)
]
WAY_NAMES = ("1.2", "1.1", "1.0", "activemq", "rabbitmq", "tcp", "websocket")
# As a part of the configuration; in front of them is one for our own protocol.
LISTENERS = '[[listeners]]\nurl = "braid://127.0.0.1:0"\n' + "".join(
    f'[[listeners]]\nurl = "{_SCHEMES[over]}://127.0.0.1:0"\nstomp.dialect = "{dialect.name}"\n'
    for over, dialect in _DOORS
)
