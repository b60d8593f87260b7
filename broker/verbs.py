"""The verbs every client speaks, in process or over a wire.

``runtime.py`` implements them on the core, ``protocols/native/client.py`` over ``braid://``;
``face.py`` builds the objects people use (Queue, Message) on nothing but these, so they behave
the same in both places. Every verb raises the errors of ``errors.py``; verbs on batches return one
result per item instead, in order.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

from .bindingverbs import BindingVerbs
from .errors import BraidError
from .groupverbs import GroupVerbs
from .lease import Exclusivity
from .message import Browsed, Delivery, Outgoing, Receipt, Sent
from .publishing import Posted, Published
from .replayverbs import ReplayVerbs
from .scheduleverbs import ScheduleVerbs
from .settings import QueueSettings
from .streamverbs import StreamVerbs
from .transactionverbs import TransactionVerbs
from .webhookverbs import WebhookVerbs

__all__ = [
    "BrokerInfo",
    "Consumption",
    "Interest",
    "LevelInfo",
    "QueueInfo",
    "RedriveInfo",
    "SessionInfo",
    "TopicConsumption",
    "TopicInfo",
    "Verbs",
]


class QueueInfo(msgspec.Struct):
    """A queue as it is now."""

    name: str
    settings: QueueSettings
    ready: int
    delayed: int
    in_flight: int
    bytes: int  # estimate: bodies and headers of all its messages
    consumers: int
    sent: int  # counters since the broker started
    delivered: int
    acknowledged: int
    returned: int  # nack, or the lease ran out
    expired: int
    dropped: int
    dead_lettered: int
    duplicates: int
    created_ms: int
    oldest_ms: int  # when the oldest message was sent, 0 if unknown or none
    damaged: int = 0  # messages that could not be read back; they are kept and held
    lag: int = 0  # of a view: records of its stream that nobody was given yet

    @property
    def messages(self) -> int:
        """All messages, whatever their state."""
        return self.ready + self.delayed + self.in_flight


class RedriveInfo(msgspec.Struct):
    """A redrive as it is now. ``state`` is running, done, cancelled or failed."""

    id: int
    source: str
    target: str  # "": each message back to where it came from
    state: str
    moved: int
    total: int  # messages that were there when it began
    rate: float  # messages a second, 0: as fast as possible
    error: str = ""


class BrokerInfo(msgspec.Struct):
    """The broker as it is now."""

    version: str
    instance: int  # with a message's id: its name in the whole world
    uptime_seconds: float
    queues: int
    messages: int
    connections: int
    log: dict[str, Any]
    sessions: int = 0  # connected or not
    subscriptions: int = 0
    retained: int = 0  # topics that retain a message
    published: int = 0  # messages, since the broker started, and
    dropped: int = 0  # ... those that some live subscriber had no room for


class TopicInfo(msgspec.Struct):
    """A topic that retains a message."""

    topic: str
    bytes: int  # of the message: body and headers
    expire_ms: int = 0  # when it ends, unix ms; 0: never
    subscriptions: int = 0  # that match the topic


class LevelInfo(msgspec.Struct):
    """A level of the topics' tree, in retained topics or in filters."""

    level: str
    retained: bool = False  # the topic that ends here retains a message
    topics: int = 0  # that retain one, here and below
    subscriptions: int = 0  # whose filters go through here


class SessionInfo(msgspec.Struct):
    """What the broker knows of a client, connected or not."""

    name: str
    user: str
    connected: bool
    durable: bool  # it has a queue, and outlives its connection
    expiry_ms: int  # by so much
    created_ms: int
    ended_ms: int  # when the connection ended, 0: connected
    subscriptions: int
    messages: int  # in its queue, and
    in_flight: int  # ... those of them that the client holds
    bytes: int
    dropped: int
    filters: list[str] = []  # only when one session is asked for


class Interest(msgspec.Struct, frozen=True, gc=False):
    """What a program subscribes to.

    Attributes:
        filters: topics, with wildcards. A message that several match comes once.
        durable: the name of the session that keeps messages while nobody is there; "": none.
            With no filters it goes on with those that it has.
        share: the group whose members share the messages; "": all get them.
        expiry_ms: how long a durable session outlives its connection; 0: as long as may be.
        retained: whether what the topics retain comes first, where a subscription is new.
    """

    filters: tuple[str, ...]
    durable: str = ""
    share: str = ""
    expiry_ms: int = 0
    retained: bool = True


class Consumption(Protocol):
    """Messages pushed to a consumer, within its credit."""

    async def next(self) -> list[Delivery]:
        """Wait for the next deliveries (never empty). Raises Disconnected, NotFound, ..."""

    def credit(self, count: int) -> None:
        """Allow ``count`` more messages."""

    async def close(self, unprocessed: Sequence[Receipt] = ()) -> None:
        """Stop. All it still holds goes back; ``unprocessed`` without counting as received."""


class TopicConsumption(Protocol):
    """Messages of a subscription, within its credit."""

    @property
    def dropped(self) -> int:
        """How many live messages found no room on their way here."""

    @property
    def resumed(self) -> bool:
        """Whether the durable session was there before."""

    async def next(self) -> list[Published]:
        """Wait for the next messages (never empty). Raises Disconnected, Conflict, ..."""

    def credit(self, count: int) -> None:
        """Allow ``count`` more messages."""

    async def close(self, unprocessed: Sequence[Published] = ()) -> None:
        """Stop. All that is leased goes back; ``unprocessed`` without counting as received."""


class Verbs(
    BindingVerbs,
    ReplayVerbs,
    ScheduleVerbs,
    TransactionVerbs,
    WebhookVerbs,
    StreamVerbs,
    GroupVerbs,
    Protocol,
):
    """Everything a client can ask of a broker."""

    async def declare_queue(self, name: str, settings: QueueSettings) -> QueueInfo:
        """Make the queue, or find it with these very settings. Raises Conflict otherwise."""

    async def update_queue(self, name: str, changes: dict[str, Any]) -> QueueInfo:
        """Change some settings."""

    async def delete_queue(self, name: str, if_empty: bool = False) -> None:
        """Delete the queue and its messages."""

    async def queue_info(self, name: str) -> QueueInfo:
        """The queue as it is now. Raises NotFound."""

    async def list_queues(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[QueueInfo]:
        """Queues by name, a page at a time: those after ``after``."""

    async def send(self, queue: str, messages: Sequence[Outgoing]) -> list[Sent | BraidError]:
        """Send; returns when the messages are as durable as the queue promises."""

    async def receive(
        self,
        queue: str,
        max_messages: int,
        wait_ms: int,
        lease_ms: int = 0,
        selector: str = "",
        attempt: str = "",
    ) -> list[Delivery]:
        """Lease up to ``max_messages``, waiting up to ``wait_ms`` for the first.

        ``lease_ms`` 0 means the queue's visibility timeout. A cancelled call holds nothing.
        """

    async def consume(
        self,
        queue: str,
        credit: int,
        selector: str = "",
        priority: int = 0,
        exclusive: Exclusivity = Exclusivity.SHARED,
    ) -> Consumption:
        """Have messages pushed; each is leased for as long as the consumer lives.

        Raises Conflict when it, or another one, is to be the queue's only one.
        """

    async def ack(self, queue: str, receipts: Sequence[Receipt]) -> list[BraidError | None]:
        """Settle for good. LeaseLost for those that are no longer held."""

    async def nack(
        self, queue: str, receipts: Sequence[Receipt], delay_ms: int = 0, counted: bool = True
    ) -> list[BraidError | None]:
        """Give back, to be delivered again after ``delay_ms``.

        Not ``counted``: as if it had never been received (then without a delay).
        """

    async def extend(
        self, queue: str, receipts: Sequence[Receipt], lease_ms: int
    ) -> list[BraidError | None]:
        """Hold for ``lease_ms`` from now on. 0: give back at once."""

    async def dead_letter(
        self, queue: str, receipts: Sequence[Receipt], reason: str
    ) -> list[BraidError | None]:
        """Move to the queue's dead-letter queue now."""

    async def purge(self, queue: str) -> int:
        """Delete all messages, also those in flight and delayed; how many they were."""

    async def browse(
        self, queue: str, after: int = 0, limit: int = 100, selector: str = "", state: str = "all"
    ) -> list[Browsed]:
        """Look at messages in sequence order, without any effect on them."""

    async def redrive(
        self, source: str, target: str = "", rate: float = 0, limit: int = 0
    ) -> RedriveInfo:
        """Begin to move dead letters: to ``target``, or each back to where it came from."""

    async def list_redrives(self) -> list[RedriveInfo]:
        """Redrives that run or ended lately."""

    async def cancel_redrive(self, id: int) -> RedriveInfo:
        """Stop one; what was moved stays moved."""

    async def broker_info(self) -> BrokerInfo:
        """The broker as it is now."""

    async def publish(
        self, topic: str, messages: Sequence[Posted], qos: int = 1
    ) -> list[int | BraidError]:
        """Publish; how many subscriptions each message matched, when what is durable is kept."""

    async def subscribe(self, interest: Interest, credit: int) -> TopicConsumption:
        """Subscribe. Raises PermissionDenied, InvalidArgument, LimitExceeded, NotFound."""

    async def unsubscribe(self, durable: str) -> None:
        """End a durable subscription: its session, and what waits there. Raises NotFound."""

    async def list_topics(
        self, filter: str = "#", after: str = "", limit: int = 1000
    ) -> list[TopicInfo]:
        """Topics that retain a message, by name, a page at a time: those after ``after``."""

    async def topic_tree(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[LevelInfo]:
        """The levels below ``prefix``, by name, a page at a time."""

    async def list_sessions(
        self, prefix: str = "", after: str = "", limit: int = 1000
    ) -> list[SessionInfo]:
        """Sessions by name, a page at a time."""

    async def session_info(self, name: str) -> SessionInfo:
        """The session as it is now. Raises NotFound."""

    async def kick_session(self, name: str, discard: bool = False) -> None:
        """End a client's connection, and its session too if ``discard``. Raises NotFound."""
