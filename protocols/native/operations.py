"""Every operation of the native protocol: its number and its fields, as PROTOCOL.md names them.

A frame holds one array ``[operation, request, field, ...]``; each class here is one operation, and
its fields are the elements after the operation, in order. The decoder checks types and ranges
while it reads, so a request that reaches the session has the shape that stands here.

Rules:

1. Numbers are on the wire: never reuse one. Requests are 1 to 63 and 96 to 111, replies 64 to 95
   and 112 to 127.
2. A new field goes to the end and has a default: peers skip elements they do not know, and leave
   out those that have not been invented for them.
3. Where a count is bounded here, it is because the decoder would otherwise make objects of it.
"""

from typing import Annotated, Final

import msgspec

from ...broker.lease import Exclusivity
from ...broker.message import Browsed, Delivery, Outgoing, Receipt, Sent
from ...broker.publishing import Posted, Published
from ...broker.settings import QueueSettings
from ...broker.verbs import (
    BrokerInfo,
    LevelInfo,
    QueueInfo,
    SessionInfo,
    TopicInfo,
)
from . import binding_operations as bindings
from . import redrive_operations as redrives
from . import replay_operations as replays
from . import schedule_operations as schedules
from . import stream_operations as streams
from . import webhook_operations as webhooks

__all__ = [
    "BATCH_DECODED_MAX",
    "OPERATIONS",
    "Ack",
    "BrokerInfoRequest",
    "BrokerReply",
    "Browse",
    "BrowsedReply",
    "Cancel",
    "Consume",
    "CountReply",
    "Credit",
    "DeadLetter",
    "DeclareQueue",
    "DeleteQueue",
    "Deliver",
    "DoneReply",
    "ErrorReply",
    "Event",
    "Extend",
    "Hello",
    "ItemError",
    "KickSession",
    "LevelsReply",
    "ListQueues",
    "ListSessions",
    "ListTopics",
    "Nack",
    "Ping",
    "Pong",
    "Publish",
    "PublishedReply",
    "Purge",
    "QueueInfoRequest",
    "QueuesReply",
    "Receive",
    "Reply",
    "Request",
    "Send",
    "SentReply",
    "SessionInfoRequest",
    "SessionsReply",
    "SettledReply",
    "Step",
    "Subscribe",
    "SubscribedReply",
    "TopicTree",
    "Transact",
    "TransactedReply",
    "TopicsReply",
    "Unsubscribe",
    "UpdateQueue",
    "Welcome",
    "WireBrowsed",
    "WireDelivery",
    "WireOutgoing",
    "WirePosted",
    "WirePublished",
    "WireSent",
]

# --- what stands inside ---

# Far above what the limits allow; keeps a frame of tiny messages from becoming a heap of objects.
BATCH_DECODED_MAX: Final = 65_536

RequestId = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Receipts = list[Receipt]
Change = bool | int | str | dict[str, str]


class WireOutgoing(Outgoing, array_like=True, gc=False):
    """[body, attributes, delay_ms, ttl_ms, priority, group, dedup_id]; only the body must be."""


class WireSent(Sent, array_like=True, gc=False):
    """[id, sequence, duplicate]"""


class WireDelivery(Delivery, array_like=True, gc=False):
    """[sequence, token, receives, id, time_ms, attributes, body]"""


class WireBrowsed(Browsed, array_like=True, gc=False):
    """[sequence, state, receives, id, time_ms, attributes, body]"""


class WirePosted(Posted, array_like=True, gc=False):
    """[body, attributes, retain, ttl_ms]; only the body must be."""


class WirePublished(Published, array_like=True, gc=False):
    """[sequence, token, receives, id, time_ms, attributes, body, expire_ms, queue, retained]"""


class ItemError(msgspec.Struct, array_like=True, gc=False):
    """[index, code, text]: what is wrong with one item of a batch."""

    index: int
    code: str
    text: str


# --- requests, client to server: [operation, request, ...] ---


class Hello(msgspec.Struct, array_like=True, tag=1):
    """The first frame. ``heartbeat_ms`` is a wish; an empty ``user`` is anonymous."""

    request: RequestId
    version_min: Count
    version_max: Count
    client: Annotated[str, msgspec.Meta(max_length=256)]
    heartbeat_ms: Count = 0
    user: Annotated[str, msgspec.Meta(max_length=1024)] = ""
    password: Annotated[bytes, msgspec.Meta(max_length=4096)] = b""


class Ping(msgspec.Struct, array_like=True, tag=2):
    request: RequestId


class Send(msgspec.Struct, array_like=True, tag=3):
    request: RequestId
    queue: str
    messages: Annotated[list[WireOutgoing], msgspec.Meta(max_length=BATCH_DECODED_MAX)]


class Receive(msgspec.Struct, array_like=True, tag=4):
    request: RequestId
    queue: str
    max_messages: Count
    wait_ms: Count = 0
    lease_ms: Milliseconds = 0
    selector: str = ""
    attempt: str = ""


class Consume(msgspec.Struct, array_like=True, tag=5):
    """``request`` names the consumer from now on."""

    request: RequestId
    queue: str
    credit: Count
    selector: str = ""
    priority: int = 0
    exclusive: Exclusivity = Exclusivity.SHARED


class Credit(msgspec.Struct, array_like=True, tag=6):
    """``request`` is the consumer's. The only request that gets no reply."""

    request: RequestId
    count: Count


class Cancel(msgspec.Struct, array_like=True, tag=7):
    """Ends the RECEIVE or CONSUME ``target``."""

    request: RequestId
    target: RequestId
    unprocessed: Receipts = []


class Ack(msgspec.Struct, array_like=True, tag=8):
    request: RequestId
    queue: str
    receipts: Receipts


class Nack(msgspec.Struct, array_like=True, tag=9):
    request: RequestId
    queue: str
    receipts: Receipts
    delay_ms: Milliseconds = 0
    counted: bool = True


class Extend(msgspec.Struct, array_like=True, tag=10):
    request: RequestId
    queue: str
    receipts: Receipts
    lease_ms: Milliseconds


class DeadLetter(msgspec.Struct, array_like=True, tag=11):
    request: RequestId
    queue: str
    receipts: Receipts
    reason: Annotated[str, msgspec.Meta(max_length=1024)]


class Browse(msgspec.Struct, array_like=True, tag=12):
    request: RequestId
    queue: str
    after: int = 0
    limit: Count = 100
    selector: str = ""
    state: str = "all"


class Purge(msgspec.Struct, array_like=True, tag=13):
    request: RequestId
    queue: str


class DeclareQueue(msgspec.Struct, array_like=True, tag=16):
    request: RequestId
    queue: str
    settings: QueueSettings


class UpdateQueue(msgspec.Struct, array_like=True, tag=17):
    request: RequestId
    queue: str
    changes: Annotated[dict[str, Change], msgspec.Meta(max_length=64)]


class DeleteQueue(msgspec.Struct, array_like=True, tag=18):
    request: RequestId
    queue: str
    if_empty: bool = False


class QueueInfoRequest(msgspec.Struct, array_like=True, tag=19):
    request: RequestId
    queue: str


class ListQueues(msgspec.Struct, array_like=True, tag=20):
    request: RequestId
    prefix: str = ""
    after: str = ""
    limit: Count = 1000


class BrokerInfoRequest(msgspec.Struct, array_like=True, tag=24):
    request: RequestId


class Publish(msgspec.Struct, array_like=True, tag=25):
    request: RequestId
    topic: str
    messages: Annotated[list[WirePosted], msgspec.Meta(max_length=BATCH_DECODED_MAX)]
    qos: Count = 1


class Subscribe(msgspec.Struct, array_like=True, tag=26):
    """``request`` names the subscription from now on."""

    request: RequestId
    filters: Annotated[list[str], msgspec.Meta(max_length=BATCH_DECODED_MAX)]
    credit: Count
    durable: str = ""
    share: str = ""
    expiry_ms: Milliseconds = 0
    retained: bool = True


class Unsubscribe(msgspec.Struct, array_like=True, tag=27):
    request: RequestId
    durable: str


class ListTopics(msgspec.Struct, array_like=True, tag=28):
    request: RequestId
    filter: str = "#"
    after: str = ""
    limit: Count = 1000


class TopicTree(msgspec.Struct, array_like=True, tag=29):
    request: RequestId
    prefix: str = ""
    after: str = ""
    limit: Count = 1000


class ListSessions(msgspec.Struct, array_like=True, tag=30):
    request: RequestId
    prefix: str = ""
    after: str = ""
    limit: Count = 1000


class SessionInfoRequest(msgspec.Struct, array_like=True, tag=31):
    request: RequestId
    session: str


class KickSession(msgspec.Struct, array_like=True, tag=32):
    request: RequestId
    session: str
    discard: bool = False


class Transact(msgspec.Struct, array_like=True, tag=101):
    """Requests, to be decoded one by one, that are done together or not at all."""

    request: RequestId
    steps: Annotated[list[msgspec.Raw], msgspec.Meta(max_length=BATCH_DECODED_MAX)]


Step = Send | Publish | streams.Append | Ack | Nack | DeadLetter | schedules.Schedule

Request = (
    Ping
    | Send
    | Receive
    | Consume
    | Credit
    | Cancel
    | Ack
    | Nack
    | Extend
    | DeadLetter
    | Browse
    | Purge
    | DeclareQueue
    | UpdateQueue
    | DeleteQueue
    | QueueInfoRequest
    | ListQueues
    | BrokerInfoRequest
    | Publish
    | Subscribe
    | Unsubscribe
    | ListTopics
    | TopicTree
    | ListSessions
    | SessionInfoRequest
    | KickSession
    | bindings.Bind
    | bindings.Unbind
    | bindings.BindingInfoRequest
    | bindings.ListBindings
    | redrives.Request
    | replays.Replay
    | replays.ListReplays
    | schedules.Request
    | Transact
    | webhooks.Request
    | streams.Request
)


# --- replies, server to client: [operation, request, ...]; request 0: the connection itself ---


class Welcome(msgspec.Struct, array_like=True, tag=65):
    request: int
    version: int
    server: str
    instance: int
    heartbeat_ms: int
    limits: dict[str, int]


class Pong(msgspec.Struct, array_like=True, tag=66):
    request: int


class ErrorReply(msgspec.Struct, array_like=True, tag=67):
    request: int
    code: str
    text: str


class DoneReply(msgspec.Struct, array_like=True, tag=68):
    request: int


class SentReply(msgspec.Struct, array_like=True, tag=69):
    """One result per message, nil for those that ``errors`` speaks of."""

    request: int
    results: list[WireSent | None]
    errors: list[ItemError] = []


class SettledReply(msgspec.Struct, array_like=True, tag=70):
    """All receipts were settled as asked, but for those that ``errors`` speaks of."""

    request: int
    errors: list[ItemError] = []


class Deliver(msgspec.Struct, array_like=True, tag=71):
    """Messages for a CONSUME, or for a RECEIVE, which is answered when ``last`` is true."""

    request: int
    last: bool
    messages: list[WireDelivery]


class BrowsedReply(msgspec.Struct, array_like=True, tag=72):
    request: int
    last: bool
    messages: list[WireBrowsed]


class QueuesReply(msgspec.Struct, array_like=True, tag=73):
    request: int
    queues: list[QueueInfo]


class CountReply(msgspec.Struct, array_like=True, tag=75):
    request: int
    count: int


class BrokerReply(msgspec.Struct, array_like=True, tag=76):
    request: int
    broker: BrokerInfo


class PublishedReply(msgspec.Struct, array_like=True, tag=77):
    """For each message how many subscriptions it matched, nil for those in ``errors``."""

    request: int
    results: list[int | None]
    errors: list[ItemError] = []


class SubscribedReply(msgspec.Struct, array_like=True, tag=78):
    request: int
    session: str
    resumed: bool


class Event(msgspec.Struct, array_like=True, tag=79):
    """Messages for a SUBSCRIBE; ``dropped`` counts those that found no room since it began."""

    request: int
    messages: list[WirePublished]
    dropped: int = 0


class TopicsReply(msgspec.Struct, array_like=True, tag=80):
    request: int
    topics: list[TopicInfo]


class LevelsReply(msgspec.Struct, array_like=True, tag=81):
    request: int
    levels: list[LevelInfo]


class SessionsReply(msgspec.Struct, array_like=True, tag=82):
    request: int
    sessions: list[SessionInfo]


class TransactedReply(msgspec.Struct, array_like=True, tag=114):
    """The reply of each step; none, when ``errors`` says which one could not be done."""

    request: int
    replies: list[
        SentReply | PublishedReply | streams.AppendedReply | SettledReply | schedules.SchedulesReply
    ] = []
    errors: list[ItemError] = []


Reply = (
    Welcome
    | Pong
    | ErrorReply
    | DoneReply
    | SentReply
    | SettledReply
    | Deliver
    | BrowsedReply
    | QueuesReply
    | CountReply
    | BrokerReply
    | PublishedReply
    | SubscribedReply
    | Event
    | TopicsReply
    | LevelsReply
    | SessionsReply
    | TransactedReply
    | bindings.BindingsReply
    | redrives.RedrivesReply
    | replays.ReplaysReply
    | schedules.SchedulesReply
    | webhooks.WebhooksReply
    | streams.Reply
)

# The one table of operations, by the name that PROTOCOL.md gives them.
OPERATIONS: Final[dict[str, int]] = {
    **bindings.OPERATIONS,
    **redrives.OPERATIONS,
    **replays.OPERATIONS,
    **schedules.OPERATIONS,
    **streams.OPERATIONS,
    **webhooks.OPERATIONS,
    "HELLO": 1,
    "PING": 2,
    "SEND": 3,
    "RECEIVE": 4,
    "CONSUME": 5,
    "CREDIT": 6,
    "CANCEL": 7,
    "ACK": 8,
    "NACK": 9,
    "EXTEND": 10,
    "DEAD_LETTER": 11,
    "BROWSE": 12,
    "PURGE": 13,
    "DECLARE_QUEUE": 16,
    "UPDATE_QUEUE": 17,
    "DELETE_QUEUE": 18,
    "QUEUE_INFO": 19,
    "LIST_QUEUES": 20,
    "BROKER_INFO": 24,
    "PUBLISH": 25,
    "SUBSCRIBE": 26,
    "UNSUBSCRIBE": 27,
    "LIST_TOPICS": 28,
    "TOPIC_TREE": 29,
    "LIST_SESSIONS": 30,
    "SESSION_INFO": 31,
    "KICK_SESSION": 32,
    "WELCOME": 65,
    "PONG": 66,
    "ERROR": 67,
    "DONE": 68,
    "SENT": 69,
    "SETTLED": 70,
    "DELIVER": 71,
    "BROWSED": 72,
    "QUEUES": 73,
    "COUNT": 75,
    "BROKER": 76,
    "PUBLISHED": 77,
    "SUBSCRIBED": 78,
    "EVENT": 79,
    "TOPICS": 80,
    "LEVELS": 81,
    "SESSIONS": 82,
    "TRANSACT": 101,
    "TRANSACTED": 114,
}
