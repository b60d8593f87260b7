"""SUBSCRIBE and UNSUBSCRIBE: what a client gets, from where, and what of it is not settled yet.

A subscription has an id; in 1.0 it may have none, and then its destination names it. A composite
destination has a source for each queue and stream, one for all queues that match wildcards, and
one for all topics together. A durable subscription is to topics only: it is a session of the
broker, which stays when the connection ends, and goes by an UNSUBSCRIBE that names it.
"""

from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from ...broker.errors import BraidError, Conflict, LimitExceeded
from ...broker.lease import Exclusivity
from ...broker.selectors import Selector
from ...broker.verbs import Interest
from ...storage.log import Durability
from .acknowledging import Held
from .browsing import BrowseSource
from .declaring import ensure_queue
from .destinations import (
    Queue,
    Queues,
    Stream,
    Target,
    TempQueue,
    TempTopic,
    Topic,
    parse,
    show,
)
from .dialects import Refused, whole_number
from .frames import V10
from .messages import Writer
from .sources import QueueSource, Source, TopicSource
from .streaming import StreamSource, start_of
from .wildcards import WildcardSource

if TYPE_CHECKING:
    from ...broker.feed import Feed
    from .session import StompSession

__all__ = ["ID_BYTES_MAX", "Subscribing", "Subscription"]

ID_BYTES_MAX: Final = 1_024  # of a subscription
_MODES: Final = ("auto", "client", "client-individual")


class Subscription:
    """One subscription: its sources, and the messages that wait to be settled.

    Attributes:
        number: of the connection's subscriptions; never used again.
        acknowledges: the client settles its messages. cumulative: each with all before it.
        prefetch: how many it gets ahead, at most, of each source. next_tag: numbers its messages.
        held: those not settled, in order.
        session_name: of the broker's session, if it is durable.
    """

    __slots__ = (
        "_again",
        "_names",
        "acknowledges",
        "cumulative",
        "held",
        "id",
        "key",
        "next_tag",
        "number",
        "prefetch",
        "session_name",
        "sources",
    )

    def __init__(self, id: str, key: str, number: int, mode: str) -> None:
        self.id = id
        self.key = key
        self.number = number
        self.acknowledges = mode != "auto"
        self.cumulative = mode == "client"
        self.prefetch = 1
        self.sources: list[Source] = []
        self.session_name = ""
        self.next_tag = 1
        self.held: dict[int, Held] = {}
        # Before 1.2: message-id -> tag. One that was published into several queues of a composite
        # has one id in all of them; it names the first, and here are the others.
        self._names: dict[str, int] = {}
        self._again: dict[str, list[int]] = {}

    def hold(self, tag: int, held: Held) -> None:
        """A message was sent that is to be settled."""
        self.held[tag] = held
        if held[3]:
            self._name(tag, held[3])

    def _name(self, tag: int, name: str) -> None:
        first = self._names.setdefault(name, tag)
        if first != tag:
            self._names[name] = min(first, tag)
            insort(self._again.setdefault(name, []), max(first, tag))

    def _unname(self, tag: int, name: str) -> None:
        again = self._again.get(name)
        if again is None:
            del self._names[name]
            return
        if self._names[name] == tag:
            self._names[name] = again.pop(0)
        else:
            again.remove(tag)
        if not again:
            del self._again[name]

    def tag_of(self, message_id: str) -> int | None:
        """The tag of a message that is held; None: it is not."""
        return self._names.get(message_id)

    def take(self, tag: int) -> dict[int, Held]:
        """The messages that the one with this tag stands for: held no more, in order."""
        held = self.held
        if not self.cumulative:
            taken = {tag: held.pop(tag)}
        else:
            taken = {}
            for each, value in held.items():
                if each > tag:
                    break
                taken[each] = value
            for each in taken:
                del held[each]
        if self._names:
            for each, (*_, name) in taken.items():
                self._unname(each, name)
        return taken

    def put_back(self, taken: dict[int, Held]) -> None:
        """Hold messages again that were taken."""
        self.held = dict(sorted({**taken, **self.held}.items()))
        for tag, (*_, name) in taken.items():
            if name:
                self._name(tag, name)


class Subscribing:
    """The subscriptions of one client. Part of a session, which owns it.

    Attributes:
        by_id: by id, or by destination for those that have none. by_number: the same.
    """

    __slots__ = ("_count", "_hungry", "_not_local", "_session", "by_id", "by_number")

    def __init__(self, session: "StompSession") -> None:
        self._session = session
        self.by_id: dict[str, Subscription] = {}
        self.by_number: dict[int, Subscription] = {}
        self._count = 0
        self._hungry: list[Source] = []
        self._not_local: dict[int, Feed] = {}  # by number: feeds that the client's own do not reach

    # --- what sources ask ---

    def look_at(self, source: Source) -> None:
        """Have a source pumped when something is sent next, which is soon."""
        if not source.hungry:
            source.hungry = True
            self._hungry.append(source)
        self._session.wake()

    def pump(self, now_ms: int) -> None:
        """Let sources ask for more, if the client takes more."""
        session = self._session
        if not self._hungry or session.slow:
            return
        if len(session.out) > session.limits.outbound_bytes_max:
            session.wake()  # what is there goes first
            return
        hungry, self._hungry = self._hungry, []
        for source in hungry:
            source.hungry = False
            if session.is_open and source.subscription.number in self.by_number:
                source.pump(now_ms)

    def hold_back(self) -> None:
        """Too much waits to be sent."""
        for subscription in self.by_number.values():
            for source in subscription.sources:
                source.hold_back()

    def let_go(self, now_ms: int) -> None:
        """The connection ends."""
        subscriptions = list(self.by_number.values())
        self.by_number.clear()
        self.by_id.clear()
        self._not_local.clear()
        self._hungry.clear()
        for subscription in subscriptions:
            self._close(subscription, now_ms)

    def _close(self, subscription: Subscription, now_ms: int) -> None:
        subscription.held.clear()
        for source in subscription.sources:
            source.close(now_ms)
        subscription.sources.clear()

    @contextmanager
    def not_local(self) -> Iterator[None]:
        """What is published meanwhile is the client's own."""
        feeds = self._not_local.values()
        for feed in feeds:
            feed.muted = True
        try:
            yield
        finally:
            for feed in feeds:
                feed.muted = False

    # --- frames ---

    def on_subscribe(self, headers: dict[str, str], now_ms: int) -> Durability:
        """Subscribe; what to wait for. Raises BraidError: nothing is left of it."""
        session = self._session
        destination = headers.get("destination", "")
        if not destination:
            raise Refused("SUBSCRIBE without a destination", "It says what to subscribe to.\n")
        id = headers.get("id", "")
        if not id and session.version is not V10:
            raise Refused("SUBSCRIBE without an id", "In STOMP 1.1 and 1.2 it has one.\n")
        if len(id.encode()) > ID_BYTES_MAX:
            raise session.dialect.bad_header("id", f"it has at most {ID_BYTES_MAX} bytes")
        mode = headers.get("ack", "auto")
        if mode not in _MODES:
            raise session.dialect.bad_header("ack", f"it is one of {', '.join(_MODES)}")
        targets = parse(destination, session.dialect, "subscribe")
        subscription = self._new(id, id or destination, mode)
        try:
            level = self._open(subscription, targets, headers, now_ms)
        except BaseException:
            self._forget(subscription)
            self._close(subscription, now_ms)
            raise
        if level is Durability.MEMORY:
            self._begin(subscription, None)
        else:  # so that the RECEIPT comes before the first message
            session.core.when_kept(level, self._begin, subscription)
        return level

    def _begin(self, subscription: object, error: BraidError | None) -> None:
        assert isinstance(subscription, Subscription)
        for source in subscription.sources:
            self.look_at(source)

    def _new(self, id: str, key: str, mode: str) -> Subscription:
        session = self._session
        if key in self.by_id:
            raise Conflict(f"there is a subscription {key!r} already")
        most = session.limits.subscriptions_per_session_max
        if len(self.by_id) >= most:
            raise LimitExceeded(f"a connection has at most {most} subscriptions")
        self._count += 1
        subscription = Subscription(id, key, self._count, mode)
        self.by_id[key] = self.by_number[self._count] = subscription
        return subscription

    def _forget(self, subscription: Subscription) -> None:
        self.by_id.pop(subscription.key, None)
        self.by_number.pop(subscription.number, None)
        self._not_local.pop(subscription.number, None)

    def _open(
        self,
        subscription: Subscription,
        targets: list[Target],
        headers: dict[str, str],
        now_ms: int,
    ) -> Durability:
        session = self._session
        dialect = session.dialect
        session_name = dialect.durable_name(headers, session.client_id)
        topics = [target for target in targets if isinstance(target, Topic | TempTopic)]
        if session_name and topics:
            if len(topics) < len(targets):
                raise Refused(
                    "Durable subscription to more than topics",
                    "A durable subscription has topics only: queues and streams are durable.\n",
                )
            subscription.session_name = session_name
        browses = headers.get("browser") == "true"
        kind: Literal["queue", "topic", "durable", "browser"] = "queue"
        if browses:
            kind = "browser"
        elif topics:
            kind = "durable" if session_name else "topic"
        subscription.prefetch = dialect.prefetch_of(headers, kind, session.limits.credit_max)
        level = Durability.MEMORY
        for target in targets:
            if isinstance(target, TempQueue):
                queue = session.temporary.resolve(target)
                assert isinstance(queue, Queue)
                self._consume(subscription, queue, show(target, dialect), headers, now_ms)
            elif isinstance(target, Queue):
                if browses:
                    self._browse(subscription, target, headers, now_ms)
                    continue
                if ensure_queue(session, target, headers, now_ms):
                    level = Durability.SYNC
                self._consume(subscription, target, show(target, dialect), headers, now_ms)
            elif isinstance(target, Queues):
                if browses:
                    raise dialect.invalid(show(target, dialect), "a browser shows one queue")
                self._consume_all(subscription, target, headers)
            elif isinstance(target, Stream):
                self._tail(subscription, target, headers)
        if topics:
            level = max(level, self._feed(subscription, topics, headers, now_ms))
        return level

    def _writer(self, subscription: Subscription, destination: str, from_queue: bool) -> Writer:
        number = subscription.number if subscription.acknowledges else -1
        return Writer(self._session, subscription.id, number, destination, from_queue)

    def _consume(
        self,
        subscription: Subscription,
        queue: Queue,
        destination: str,
        headers: dict[str, str],
        now_ms: int,
    ) -> None:
        session = self._session
        writer = self._writer(subscription, destination, True)
        source = QueueSource(session, subscription, writer, queue.name)
        source.consumer = session.core.consume(
            session.who,
            queue.name,
            source,
            0,
            headers.get("selector", ""),
            None,
            now_ms,
            self._priority(headers),
            self._exclusivity(headers),
        )
        subscription.sources.append(source)

    def _consume_all(
        self, subscription: Subscription, queues: Queues, headers: dict[str, str]
    ) -> None:
        source = WildcardSource(
            self._session,
            subscription,
            queues.filter,
            headers.get("selector", ""),
            self._priority(headers),
            self._exclusivity(headers),
            partial(self._writer, subscription, from_queue=True),
        )
        subscription.sources.append(source)
        source.begin()

    def _exclusivity(self, headers: dict[str, str]) -> Exclusivity:
        dialect = self._session.dialect
        if headers.get(dialect.exclusive_header) != "true":
            return Exclusivity.SHARED
        return Exclusivity.SOLE if dialect.exclusive_refuses else Exclusivity.PREFERRED

    def _priority(self, headers: dict[str, str]) -> int:
        dialect = self._session.dialect
        written = headers.get(dialect.priority_header, "").strip(" ")
        if not written:
            return 0
        digits = written.removeprefix("-")
        number = whole_number(dialect, dialect.priority_header, digits)
        return -number if digits != written else number

    def _browse(
        self, subscription: Subscription, queue: Queue, headers: dict[str, str], now_ms: int
    ) -> None:
        session = self._session
        session.who.check("queue:Browse", queue.name)
        ensure_queue(session, queue, headers, now_ms)
        selector = headers.get("selector", "")
        if selector:
            Selector.parse(selector)
        writer = Writer(session, subscription.id, -1, show(queue, session.dialect), from_queue=True)
        source = BrowseSource(session, subscription, writer, queue.name, selector)
        subscription.acknowledges = False
        subscription.sources.append(source)

    def _tail(self, subscription: Subscription, stream: Stream, headers: dict[str, str]) -> None:
        session = self._session
        written = headers.get("selector", "")
        writer = self._writer(subscription, show(stream, session.dialect), False)
        source = StreamSource(
            session,
            subscription,
            writer,
            stream.name,
            Selector.parse(written) if written else None,
        )
        source.begin(start_of(headers, session.dialect))
        subscription.sources.append(source)

    def _feed(
        self,
        subscription: Subscription,
        topics: list[Topic | TempTopic],
        headers: dict[str, str],
        now_ms: int,
    ) -> Durability:
        session, dialect = self._session, self._session.dialect
        destination = ""
        filters = []
        for topic in topics:
            if isinstance(topic, TempTopic):
                filters.append(session.temporary.resolve(topic).name)
                destination = show(topic, dialect) if len(topics) == 1 else ""
            else:
                filters.append(topic.name)
        written = headers.get("selector", "")
        selector = Selector.parse(written) if written else None
        writer = self._writer(subscription, destination, False)
        source = TopicSource(session, subscription, writer, selector)
        interest = Interest(
            tuple(filters), subscription.session_name, "", 0, bool(dialect.retained_header)
        )
        local = headers.get(dialect.no_local_header) != "true" or not dialect.no_local_header
        if not local and subscription.session_name:
            raise dialect.bad_header(
                dialect.no_local_header,
                "what a durable subscription keeps is all that is published",
            )
        level, feed = session.core.subscribe(session.who, interest, source, None, now_ms)
        source.feed = feed
        if not local:
            self._not_local[subscription.number] = feed
        subscription.sources.append(source)
        return level

    def receive_replies(self, id: str, queue: Queue) -> None:
        """Have what comes to a temporary queue sent, under this id, without acknowledgements."""
        if id in self.by_id:
            return
        session = self._session
        subscription = self._new(id, id, "auto")
        subscription.prefetch = session.limits.credit_max
        destination = show(queue, session.dialect)
        self._consume(subscription, queue, destination, {}, session.core.now_ms)
        self._begin(subscription, None)

    def on_unsubscribe(self, headers: dict[str, str], now_ms: int) -> Durability:
        """End a subscription, and a durable one for good if it is named; what to wait for."""
        session = self._session
        key = headers.get("id", "") or headers.get("destination", "")
        if not key:
            raise Refused("UNSUBSCRIBE without an id", "It is the id of the SUBSCRIBE.\n")
        subscription = self.by_id.get(key)
        named = dict(headers)
        if subscription is not None and "destination" not in named and subscription.session_name:
            named["destination"] = subscription.session_name.rpartition(":")[0]
        session_name = session.dialect.durable_name(named, session.client_id)
        if subscription is None and not session_name:
            raise Refused(f"No subscription {key!r}", "There is none of this id to end.\n")
        if subscription is not None:
            session.acknowledging.settle_sent(now_ms)
            self._forget(subscription)
            self._close(subscription, now_ms)
        if not session_name:
            return Durability.MEMORY
        session.core.unsubscribe(session.who, session_name, now_ms)
        return Durability.SYNC
