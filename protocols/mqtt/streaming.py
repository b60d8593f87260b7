"""Streams as topics: subscriptions to ``$stream/NAME`` and ``$share/GROUP/$stream/NAME``.

They are this connection's: no session keeps them, and they end with the connection. What remains of
a group is how far it was. What is done with records stands in ``streamed.py``; publishing to
``$stream/NAME`` in ``special.py``.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from ...broker.errors import BraidError, InvalidArgument, LimitExceeded, NotFound, PermissionDenied
from ...broker.streamverbs import Start
from ...storage.errors import StorageError
from ...storage.log import Durability
from .packets import Reason
from .special import STREAM_PREFIX
from .streamed import CHECKPOINT_MS, OUT_BYTES_MAX, Joined, Streamed, Tailing

if TYPE_CHECKING:
    from .session import MqttSession

__all__ = ["START", "STREAMS_PER_CONNECTION_MAX", "Streaming", "parse_start", "parse_stream"]

START: Final = "start"  # the user property of SUBSCRIBE that says where to begin
STREAMS_PER_CONNECTION_MAX: Final = 16  # subscriptions: each holds STREAMED_BYTES_MAX
_RECORDS_PER_TURN = 256  # then other connections get their turn
_NEVER_MS = 1 << 62
_SHARE_PREFIX = "$share/"
_DIGITS_MAX = 15  # of a time in unix ms


def parse_stream(filter: str) -> tuple[str, str] | None:
    """Take the filter of a stream apart, into (group, "" for none; stream). None: it is another."""
    group = ""
    if filter.startswith(_SHARE_PREFIX):
        group, _, filter = filter.removeprefix(_SHARE_PREFIX).partition("/")
        if not group:
            return None
    if not filter.startswith(STREAM_PREFIX):
        return None
    return group, filter.removeprefix(STREAM_PREFIX)


def parse_start(text: str) -> Start:
    """Where to begin: "earliest", "latest" or "", or a time, in ISO 8601 or unix ms.

    A time without a zone is UTC. Raises InvalidArgument.
    """
    if text == "earliest":
        return Start("earliest")
    if text in ("", "latest"):
        return Start("latest")
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX:
        return Start("time", time_ms=int(text))
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return Start("time", time_ms=max(round(moment.timestamp() * 1000), 0))
    except (ValueError, OverflowError):
        raise InvalidArgument("start is earliest, latest, or a time") from None


class Streaming:
    """The streams that one client reads. Part of a session, which owns it.

    Attributes:
        due_ms: when :meth:`tick` has something to do.
    """

    __slots__ = ("_session", "_sources", "due_ms")

    def __init__(self, session: "MqttSession") -> None:
        self._session = session
        self._sources: dict[str, Streamed] = {}  # by filter
        self.due_ms = _NEVER_MS

    def subscribe(self, filter: str, qos: int, identifier: int, start: str) -> Durability:
        """Subscribe; what to wait for before that is told.

        Again by one filter: a member of a group stays it, all others begin anew.

        Raises:
            PermissionDenied, NotFound, InvalidArgument, LimitExceeded, StorageFull, Overloaded,
            BrokerFailed: it was not made or changed.
        """
        parsed = parse_stream(filter)
        assert parsed is not None
        group, name = parsed
        begin = parse_start(start)
        session = self._session
        before = self._sources.get(filter)
        if before is None and len(self._sources) >= STREAMS_PER_CONNECTION_MAX:
            most = STREAMS_PER_CONNECTION_MAX
            raise LimitExceeded(f"a connection reads at most {most} streams")
        level = Durability.MEMORY
        source: Streamed
        if not group:
            source = Tailing(self, session, name)
            source.begin(begin)
            if before is not None:
                before.end(session.core.now_ms)
        elif before is None:
            source = Joined(self, session, name)
            level = source.begin(group, begin, session.out.window)
        else:
            session.who.check("group:Join", group)
            session.who.check("stream:Read", name)
            source = before
        source.set_options(qos, identifier)
        self._sources[filter] = source
        return level

    def unsubscribe(self, filter: str, now_ms: int) -> bool:
        """End a subscription; False when there was none."""
        source = self._sources.pop(filter, None)
        if source is None:
            return False
        source.end(now_ms)
        return True

    def ended(self, source: Streamed, error: BraidError) -> None:
        """The broker reads no more for a subscription. MQTT has no other way to say so."""
        session = self._session
        for filter, each in list(self._sources.items()):
            if each is source:
                self.unsubscribe(filter, session.core.now_ms)
        if isinstance(error, NotFound):
            session.fail(Reason.ADMINISTRATIVE_ACTION, str(error))
        elif isinstance(error, PermissionDenied):
            session.fail(Reason.NOT_AUTHORIZED, str(error))
        else:
            session.fail_with(error)
        session.wake()

    def pump(self) -> None:
        """Send some records, if the client can take them now."""
        session = self._session
        out = session.out
        if not self._sources:
            return
        most = max(_RECORDS_PER_TURN // len(self._sources), 1)
        is_more = False
        try:
            for filter, source in list(self._sources.items()):
                sent = source.send(most)
                if session.finished:
                    return
                if sent:  # who is first takes what room there is: in turns
                    self._sources[filter] = self._sources.pop(filter)
                is_more = is_more or sent == most
        except StorageError as error:
            session.fail_with(session.core.fail(error))
            return
        is_full = out.out_bytes >= OUT_BYTES_MAX and any(
            source.waits for source in self._sources.values()
        )
        if (is_more or is_full) and not out.slow:
            session.wake()

    def remind(self) -> None:
        """Have checkpoints set in a while."""
        if self.due_ms == _NEVER_MS:
            self.due_ms = self._session.core.now_ms + CHECKPOINT_MS
            self._session.host.hurry()

    def tick(self, now_ms: int) -> None:
        """Set checkpoints, if it is time."""
        if now_ms < self.due_ms:
            return
        self.due_ms = _NEVER_MS
        try:
            for source in list(self._sources.values()):
                source.keep(now_ms)
        except StorageError as error:
            self._session.fail_with(self._session.core.fail(error))

    def let_go(self, now_ms: int) -> None:
        """The connection is gone."""
        sources, self._sources = self._sources, {}
        if self._session.core.failed is None:
            for source in sources.values():
                source.end(now_ms)
