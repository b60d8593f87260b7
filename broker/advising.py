"""What happens in the broker, told to whoever listens: the advisories of ActiveMQ.

Programs that were written for ActiveMQ watch it by subscribing to topics under
``ActiveMQ/Advisory/`` (in STOMP ``/topic/ActiveMQ.Advisory.``): who has connected, which queues
came and went, who consumes, what was lost. Topics, headers and bodies are as ActiveMQ sends them
over STOMP, in the form that it calls ``jms-advisory-json``.

Rules:

- Advisories are live messages of QoS 0: nobody keeps them, no binding takes them, and a client
  that is away misses them. So no advisory causes another one, and no queue fills with its own.
- Only the broker publishes there, and only filters that begin with ``ActiveMQ`` hear of it: ``#``
  and ``+/#`` do not, as they do not hear of topics that begin with ``$``.
- While nobody listens, each call here costs a look at an empty set. What a new listener is told of
  what was before (connections, queues) is collected when it comes.
- What may come a million times a second is told once in ``REPEAT_MS`` of each subject.
- They tell of queues that somebody declared, not of those of sessions, shares and webhooks.

Sources: ActiveMQ Classic 5.17, as observed;
https://activemq.apache.org/components/classic/documentation/advisory-message
"""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import msgspec

from ..storage.record import MessageContent
from .errors import InvalidArgument
from .index import LSN_MASK
from .message import CONTENT_TYPE, MQTT_QOS, OWN_HEADERS, TOPIC, pack_headers, unpack_headers
from .publication import PlainPublication
from .topic import ADVISORY_PREFIX, matches, parse_shared
from .values import message_id

if TYPE_CHECKING:
    from .engine import Engine
    from .lease import Consumer
    from .publication import Subscription
    from .queue import Queue
    from .session import Session

__all__ = ["REPEAT_MS", "SUBJECTS_MAX", "Advising"]

REPEAT_MS = 1_000  # between two advisories that a queue is full, or a subscriber slow
SUBJECTS_MAX = 1_024  # of those, remembered; then they may come sooner

_ROOT = ADVISORY_PREFIX.split("/")[0] + "/"  # a filter that hears of it begins so
_ADDED, _REMOVED = 0, 1  # operationType
_LAST_UNKNOWN = -2  # lastDeliveredSequenceId: RemoveInfo.LAST_DELIVERED_UNKNOWN
_NOTHING: Final[Mapping[str, object]] = {"null": ""}  # how XStream writes that there is no object
_WILDCARDS = str.maketrans({"/": ".", "+": "*", "#": ">"})
_LEVELS = str.maketrans({".": "/", "+": "*", "#": ">"})

_Connection = tuple[str, str, str, str]  # client, user, protocol, peer


class Advising:
    """The advisories of a broker. See the module's rules.

    Protocols call :meth:`connected` and :meth:`disconnected`; the rest comes from within.
    """

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._listeners: set[tuple[Session, str]] = set()  # with what filter
        self._connections: dict[int, _Connection] = {}  # bounded by connections_max
        self._count = 0  # connections since the start
        self._told_ms: dict[tuple[str, str], int] = {}  # when, by topic and subject

    # Connections ------------------------------------------------------------------------------

    def connected(self, client: str, user: str, protocol: str, peer: str) -> int:
        """A client has been let in; the number by which to say that it went.

        ``client`` is its identifier, "" if it has none, and ``peer`` its address. Call it once for
        each connection; a client that takes its own session over has two for a moment.
        """
        self._count += 1
        self._connections[self._count] = (client, user, protocol, peer)
        if self._listeners:
            self._publish("Connection", self._connection_info(self._count))
        return self._count

    def disconnected(self, number: int) -> None:
        """The connection of that number is gone. 0, and one that is known to be, does nothing."""
        if self._connections.pop(number, None) is not None and self._listeners:
            identity = {"@class": "ConnectionId", "value": self._connection_id(number)}
            self._publish("Connection", _removed(identity))

    def _connection_id(self, number: int) -> str:
        return f"{self._id}:{number}"

    def _connection_info(self, number: int) -> object:
        client, user, protocol, peer = self._connections[number]
        return _command(
            "ConnectionInfo",
            connectionId={"value": self._connection_id(number)},
            clientId=client,
            clientIp=f"{protocol}://{peer}",
            userName=user,
            password="",
            brokerMasterConnector=False,
            manageable=False,
            clientMaster=True,
            faultTolerant=False,
            failoverReconnect=False,
        )

    # Queues -----------------------------------------------------------------------------------

    def declared(self, queue: "Queue") -> None:
        """A queue is there."""
        if self._listeners and _is_declared(queue):
            self._publish("Queue", _destination_info(_queue(queue), _ADDED))

    def deleted(self, queue: "Queue") -> None:
        """A queue is gone."""
        if self._listeners and _is_declared(queue):
            self._publish("Queue", _destination_info(_queue(queue), _REMOVED))

    def consumer_added(self, queue: "Queue", consumer: "Consumer") -> None:
        """Somebody has begun to consume; a receive is none of those."""
        if self._listeners and _is_declared(queue) and not consumer.one_shot:
            info = _consumer_info(
                self._consumer_id(consumer),
                _queue(queue),
                consumer.credit,
                consumer.exclusive > 0,
                consumer.priority,
            )
            self._publish(f"Consumer/{_path(queue)}", info, _consumers(queue))

    def consumer_removed(self, queue: "Queue", consumer: "Consumer") -> None:
        """Somebody has stopped."""
        if self._listeners and _is_declared(queue) and not consumer.one_shot:
            info = _removed({"@class": "ConsumerId", **self._consumer_id(consumer)})
            self._publish(f"Consumer/{_path(queue)}", info, _consumers(queue))

    def _consumer_id(self, consumer: "Consumer") -> dict[str, object]:
        # Nothing else tells consumers of all dialects apart; no two have it at one time.
        return {"connectionId": self._id, "sessionId": -1, "value": id(consumer)}

    # Topics -----------------------------------------------------------------------------------

    def subscribed(self, session: "Session", subscription: "Subscription") -> None:
        """A session has a new subscription, to topics. It may be one to advisories."""
        filter = _plain(subscription.filter)
        if filter.startswith(_ROOT):
            self._listeners.add((session, subscription.filter))
            if filter == subscription.filter:
                self._engine.later(partial(self._catch_up, session, filter))
        elif self._listeners and session.sink is not None and not filter.startswith("$"):
            topic, count = _topic(filter), self._subscribers(filter)
            if count == 1:
                self._publish("Topic", _destination_info(topic, _ADDED))
            info = _consumer_info(_subscriber_id(session, filter), topic)
            self._publish(f"Consumer/Topic/{filter.translate(_LEVELS)}", info, _count(count))

    def unsubscribed(self, session: "Session", filter: str) -> None:
        """A subscription has ended; ``filter`` as the client wrote it."""
        self._listeners.discard((session, filter))
        if not self._listeners:
            self._told_ms.clear()
            return
        filter = _plain(filter)
        if not filter.startswith((_ROOT, "$")):
            count = self._subscribers(filter)
            info = _removed({"@class": "ConsumerId", **_subscriber_id(session, filter)})
            self._publish(f"Consumer/Topic/{filter.translate(_LEVELS)}", info, _count(count))
            if not count:
                self._publish("Topic", _destination_info(_topic(filter), _REMOVED))

    def _subscribers(self, filter: str) -> int:
        """How many sessions have this filter; those that share it are one."""
        return len(self._engine.topics.router.subscribers(filter))

    # Messages ---------------------------------------------------------------------------------

    def expired(self, queue: "Queue", seq: int) -> None:
        """A message has outlived its time, and is about to go."""
        if self._listeners and _is_declared(queue):
            message = _peek(queue, seq)
            body = self._message(queue, message)
            self._publish(f"Expired/{_path(queue)}", body, self._original(message))

    def dead_lettered(
        self, queue: "Queue", seq: int, reason: str, message: MessageContent | None = None
    ) -> None:
        """A message is about to move to the dead-letter queue; it is read if it is at hand."""
        if self._listeners and _is_declared(queue):
            message = message or _peek(queue, seq)
            more = {"dead-letter-reason": reason, **self._original(message)}
            self._publish(f"MessageDLQd/{_path(queue)}", self._message(queue, message), more)

    def full(self, queue: "Queue") -> None:
        """A queue has no room for a message that comes."""
        if self._listeners and _is_declared(queue):
            topic = f"FULL/{_path(queue)}"
            if self._is_time(topic, ""):
                more = {"usageName": f"queue://{queue.name}", "usageCount": str(queue.bytes)}
                self._publish(topic, _NOTHING, more)

    def discarded(self, session: "Session", topic: str, count: int) -> None:
        """A subscriber that is slow missed messages of a topic."""
        if not self._listeners or topic.startswith((_ROOT, "$")):
            return
        name = topic.translate(_LEVELS)
        more = {"consumerId": session.name}
        if self._is_time(f"SlowConsumer/Topic/{name}", session.name):
            info = _consumer_info(_subscriber_id(session, topic), _topic(topic))
            self._publish(f"SlowConsumer/Topic/{name}", info, more)
        body = self._message(None, None, _topic(topic))
        more |= {"discardedCount": str(count), "orignalDestination": "topic://" + _dots(topic)}
        self._publish(f"MessageDiscarded/Topic/{name}", body, more)

    def _is_time(self, topic: str, subject: str) -> bool:
        """Whether this was not told a moment ago."""
        now_ms = self._engine.now_ms
        if now_ms < self._told_ms.get((topic, subject), -REPEAT_MS) + REPEAT_MS:
            return False
        if len(self._told_ms) >= SUBJECTS_MAX:
            self._told_ms.clear()
        self._told_ms[topic, subject] = now_ms
        return True

    def _original(self, message: MessageContent | None) -> dict[str, str]:
        """The id, under the name that it has in ActiveMQ, misspelt as it is."""
        if message is None:
            return {}
        return {"orignalMessageId": "ID:" + message_id(self._engine.instance, message.id)}

    def _message(
        self,
        queue: "Queue | None",
        message: MessageContent | None,
        destination: object = None,
    ) -> object:
        """What is told of a message: all but its body."""
        fields: dict[str, object] = {}
        if queue is not None:
            destination = _queue(queue)
        headers: Mapping[str, str | bytes] = {}
        if message is not None:
            headers = unpack_headers(message.attributes)
            name = "ID:" + message_id(self._engine.instance, message.id)
            fields = {
                "messageId": {"textView": name},
                "expiration": message.expire_ms,
                "timestamp": message.time_ms,
                "size": len(message.body) + len(message.attributes),
                "properties": _properties(headers),
            }
        text = headers.get("amq-msg-type") == "text"
        kind = "ActiveMQTextMessage" if text else "ActiveMQBytesMessage"
        return _command(kind, destination=destination, **fields)

    # Publishing -------------------------------------------------------------------------------

    @property
    def _id(self) -> str:
        return f"ID:braidmq-{self._engine.instance:016x}"

    def _publish(
        self,
        name: str,
        body: object,
        more: Mapping[str, str] | None = None,
        only: "Session | None" = None,
    ) -> None:
        """Tell all who listen, or ``only`` this one."""
        engine = self._engine
        topic = ADVISORY_PREFIX + name
        try:
            route = engine.topics.route(topic)
        except InvalidArgument:
            return  # longer, or deeper, than topics may be here
        if not route.count:
            return
        headers = {
            TOPIC: topic,
            MQTT_QOS: "0",
            CONTENT_TYPE: "application/json",
            "type": "Advisory",
            "transformation": "jms-advisory-json",
            "originBrokerId": self._id,
            "originBrokerName": "braidmq",
            **(more or {}),
        }
        attributes = pack_headers(headers, OWN_HEADERS)
        publication = PlainPublication(topic, msgspec.json.encode(body), attributes, 0)
        if only is None:
            engine.topics.distribute(route, publication, engine.now_ms)
        else:
            engine.topics.hand(only, publication)

    def _catch_up(self, session: "Session", filter: str) -> None:
        """Tell one who came late what is there."""
        if session.sink is None:
            return
        most = self._engine.limits.live_queue_messages_max  # more it could not take at once
        for name, body in islice(self._present(filter), most):
            self._publish(name, body, None, session)

    def _present(self, filter: str) -> Iterator[tuple[str, object]]:
        if matches(filter, ADVISORY_PREFIX + "Connection"):
            for number in list(self._connections):
                yield "Connection", self._connection_info(number)
        if matches(filter, ADVISORY_PREFIX + "Queue"):
            for queue in list(self._engine.queues.values()):
                if _is_declared(queue):
                    yield "Queue", _destination_info(_queue(queue), _ADDED)


# --- names ---


def _plain(filter: str) -> str:
    """A filter without what says that it is shared."""
    shared = parse_shared(filter)
    return filter if shared is None else shared[1]


def _is_declared(queue: "Queue") -> bool:
    """Whether somebody declared it; the names of the broker's own queues begin with ``$``."""
    return not queue.name.startswith("$")


def _path(queue: "Queue") -> str:
    """A queue in the topic of an advisory: the words of its name are levels."""
    return "Queue/" + queue.name.translate(_LEVELS)


def _dots(filter: str) -> str:
    """A topic or a filter as ActiveMQ writes it."""
    return filter.translate(_WILDCARDS)


def _count(count: int) -> dict[str, str]:
    return {"consumerCount": str(count)}


def _consumers(queue: "Queue") -> dict[str, str]:
    return _count(sum(not each.one_shot for each in queue.consumers))


# --- bodies, as XStream and Jettison write ActiveMQ's commands ---


def _command(kind: str, **fields: Any) -> object:
    return {kind: {"commandId": 0, "responseRequired": False, **fields}}


def _queue(queue: "Queue") -> object:
    return {"@class": "ActiveMQQueue", "string": queue.name, "null": ""}


def _topic(filter: str) -> object:
    return {"@class": "ActiveMQTopic", "string": _dots(filter), "null": ""}


def _destination_info(destination: object, operation: int) -> object:
    return _command("DestinationInfo", destination=destination, operationType=operation, timeout=0)


def _removed(identity: Mapping[str, object]) -> object:
    return _command("RemoveInfo", objectId=identity, lastDeliveredSequenceId=_LAST_UNKNOWN)


def _subscriber_id(session: "Session", filter: str) -> dict[str, object]:
    return {"connectionId": session.name, "sessionId": -1, "value": crc32(filter.encode())}


def _consumer_info(
    identity: Mapping[str, object],
    destination: object,
    prefetch: int = 0,
    exclusive: bool = False,
    priority: int = 0,
) -> object:
    return _command(
        "ConsumerInfo",
        consumerId=identity,
        destination=destination,
        prefetchSize=prefetch,
        maximumPendingMessageLimit=0,
        browser=False,
        dispatchAsync=True,
        noLocal=False,
        exclusive=exclusive,
        retroactive=False,
        priority=priority,
        optimizedAcknowledge=False,
        noRangeAcks=False,
    )


def _properties(headers: Mapping[str, str | bytes]) -> object:
    """The headers that are text; of one entry XStream makes no list."""
    texts = [{"string": [name, v]} for name, v in headers.items() if isinstance(v, str)]
    return [{"entry": texts[0] if len(texts) == 1 else texts}] if texts else []


def _peek(queue: "Queue", seq: int) -> MessageContent | None:
    """A message that is in memory; nobody waits for the disk to tell of it."""
    lane, number = queue.locate(seq)
    if lane is None or queue.kind == "view":
        return None  # in a view its position is that of a block of records
    return queue.reader.peek(lane.slot(number) & LSN_MASK)
