"""The server's side of topics and sessions in the native protocol. Part of ``session.py``.

A subscription is named by the number of its SUBSCRIBE, and is given credit, like a consumer. What
the feed may hold for it is bounded as there: the feed never knows of more credit than about
``EVENT_BYTES`` worth of messages, and of none while the peer does not read. Live messages then
wait in the feed's own bounds, and are dropped and counted beyond them.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ...broker.errors import BraidError, InvalidArgument, Overloaded
from ...broker.message import Receipt, check_attributes
from ...broker.verbs import Interest, LevelInfo, TopicInfo
from ...storage.log import Durability
from . import operations as op
from .frames import append_events, append_frame, append_published

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core
    from ...broker.feed import Feed
    from ...broker.laggards import Pause
    from ...broker.limits import Limits
    from ..session import Host

__all__ = ["EVENT_BYTES", "WINDOW_FIRST_MESSAGES", "TopicRequests", "TopicStream"]

EVENT_BYTES = 1024 * 1024
WINDOW_FIRST_MESSAGES = 16  # credit passed on before the size of the messages is known
_SYNC = Durability.SYNC


class TopicStream:
    """A SUBSCRIBE: how much credit the client gave that its feed does not know of yet."""

    __slots__ = ("dropped", "feed", "ready", "request", "wanted", "window")

    def __init__(self, request: int, wanted: int) -> None:
        self.request = request
        self.feed: Feed | None = None
        self.wanted = wanted
        self.window = WINDOW_FIRST_MESSAGES  # the most that the feed may know of
        self.ready = False  # stands in the list of those to look at
        self.dropped = 0  # what the client was told

    def end(self, unprocessed: Sequence[Receipt], now_ms: int) -> None:
        """Nobody wants it any more."""
        if self.feed is not None:
            self.feed.close(now_ms, unprocessed)


class TopicRequests:
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    finished: bool
    _core: "Core"
    _host: "Host"
    _limits: "Limits"
    _who: "Principal"
    _out: bytearray
    _open: dict[int, Any]
    _unanswered: int
    _sends: bool
    _peer_is_slow: bool
    _ready: list[TopicStream]
    _pause: "Pause"

    def _answers(self, level: Durability) -> bytearray:
        raise NotImplementedError

    def _check_new(self, request: int) -> None:
        raise NotImplementedError

    def _error(self, request: int, error: BraidError) -> None:
        raise NotImplementedError

    # --- what the core calls ---

    def feed_ready(self, feed: "Feed") -> None:
        """Look at a subscription when something is sent next, which is soon."""
        stream = feed.tag
        assert isinstance(stream, TopicStream)
        if not stream.ready:
            stream.ready = True
            self._ready.append(stream)
            self._host.wake()

    def feed_ended(self, feed: "Feed", error: BraidError) -> None:
        """The broker ended a subscription."""
        stream = feed.tag
        assert isinstance(stream, TopicStream)
        if self._open.pop(stream.request, None) is not None:
            self._error(stream.request, error)
            self._host.wake()

    def _on_topics(self, request: object, topics: list[TopicInfo]) -> None:
        assert isinstance(request, int)
        self._list(op.TopicsReply(request, topics))

    def _on_levels(self, request: object, levels: list[LevelInfo]) -> None:
        assert isinstance(request, int)
        self._list(op.LevelsReply(request, levels))

    def _list(self, reply: op.TopicsReply | op.LevelsReply) -> None:
        if self.finished:
            return
        self._unanswered -= 1
        if self._peer_is_slow or len(self._out) > self._limits.outbound_bytes_max:
            self._error(reply.request, Overloaded("read what was answered, then ask again"))
        else:
            append_frame(self._out, reply)
        self._host.wake()

    # --- what the session calls ---

    def _send_events(self, now_ms: int) -> None:
        """Send what came for subscriptions, as far as their credit goes."""
        ready, self._ready = self._ready, []
        for stream in ready:
            stream.ready = False
            feed = stream.feed
            if feed is None or stream.request not in self._open:
                continue
            self._pass_on(stream, feed)
            messages = feed.take(now_ms)
            if messages or feed.dropped != stream.dropped:
                stream.dropped = feed.dropped
                size = append_events(self._out, stream.request, messages, feed.dropped, EVENT_BYTES)
                if messages:
                    average = size // len(messages) + 1
                    stream.window = max(1, min(EVENT_BYTES // average, self._limits.credit_max))
                    self._pass_on(stream, feed)

    def _pass_on(self, stream: TopicStream, feed: "Feed") -> None:
        count = min(stream.wanted, stream.window - feed.credit)
        if count > 0:
            stream.wanted -= count
            feed.grant(count)

    def _wait_for_slow(self, now_ms: int) -> None:
        """Read no more until subscribers that had no room have caught up, or a while has passed."""
        slow = self._core.topics.slow
        if slow and self._pause.begin(slow, None, now_ms):
            self._host.hurry()

    def _give_credit(self, stream: TopicStream, count: int) -> None:
        feed = stream.feed
        assert feed is not None
        stream.wanted = min(stream.wanted + count, self._limits.credit_max - feed.credit)
        self.feed_ready(feed)

    # --- one method per operation ---

    def on_publish(self, request: op.Publish, now_ms: int) -> None:
        for message in request.messages:
            if message.attributes:
                check_attributes(message.attributes, self._limits)
        self._core.topics.slow.clear()  # what others, who do not wait, have left there
        level, results = self._core.publish(
            self._who, request.topic, request.messages, request.qos, now_ms
        )
        self._wait_for_slow(now_ms)
        append_published(self._answers(level), request.request, results)
        self._sends = True

    def on_subscribe(self, request: op.Subscribe, now_ms: int) -> None:
        self._check_new(request.request)
        if request.credit > self._limits.credit_max:
            raise InvalidArgument(f"credit is at most {self._limits.credit_max}")
        interest = Interest(
            tuple(request.filters),
            request.durable,
            request.share,
            request.expiry_ms,
            request.retained,
        )
        stream = TopicStream(request.request, request.credit)
        level, feed = self._core.subscribe(self._who, interest, self, stream, now_ms)
        stream.feed = feed
        self._open[request.request] = stream
        reply = op.SubscribedReply(request.request, feed.session.name, feed.resumed)
        append_frame(self._answers(level), reply)
        self.feed_ready(feed)

    def on_unsubscribe(self, request: op.Unsubscribe, now_ms: int) -> None:
        self._core.unsubscribe(self._who, request.durable, now_ms)
        append_frame(self._answers(_SYNC), op.DoneReply(request.request))

    def on_list_topics(self, request: op.ListTopics, now_ms: int) -> None:
        self._core.list_topics(
            self._who,
            request.filter,
            request.after,
            request.limit,
            self._on_topics,
            request.request,
        )
        self._unanswered += 1

    def on_topic_tree(self, request: op.TopicTree, now_ms: int) -> None:
        self._core.topic_tree(
            self._who,
            request.prefix,
            request.after,
            request.limit,
            self._on_levels,
            request.request,
        )
        self._unanswered += 1

    def on_list_sessions(self, request: op.ListSessions, now_ms: int) -> None:
        found = self._core.list_sessions(self._who, request.prefix, request.after, request.limit)
        append_frame(self._out, op.SessionsReply(request.request, found))

    def on_session_info(self, request: op.SessionInfoRequest, now_ms: int) -> None:
        info = self._core.session_info(self._who, request.session)
        append_frame(self._out, op.SessionsReply(request.request, [info]))

    def on_kick_session(self, request: op.KickSession, now_ms: int) -> None:
        self._core.kick_session(self._who, request.session, request.discard, now_ms)
        append_frame(self._answers(_SYNC), op.DoneReply(request.request))
