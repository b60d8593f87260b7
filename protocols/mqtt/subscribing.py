"""SUBSCRIBE and UNSUBSCRIBE, and the retained messages that a new subscription is given.

Each filter is answered on its own. A durable session's answer waits until its subscriptions are
kept; retained messages follow the answer, as fast as the client takes them and never faster than
they can be held here. Who subscribes by one filter again is given them from the beginning, once.
"""

from collections import OrderedDict
from typing import TYPE_CHECKING, cast

from ...broker.errors import BraidError, InvalidArgument, LimitExceeded, NotFound, PermissionDenied
from ...broker.publication import Match, Subscription
from ...broker.retained import RetainedSearch
from ...broker.topic import QUEUE_PREFIX
from ...broker.topics import merge
from ...storage.errors import StorageError
from ...storage.log import Durability
from ...storage.record import MessageContent
from .packets import (
    V5,
    Malformed,
    Properties,
    Reason,
    Request,
    Subscribe,
    Unsubscribe,
    encode_properties,
    encode_suback,
    encode_unsuback,
)
from .server import RETAINED_OVERLAY
from .streaming import START, Streaming, parse_stream

if TYPE_CHECKING:
    from .session import MqttSession

__all__ = ["Subscribing"]

_RETAINED_PER_TURN = 64
_OUT_BYTES_MAX = 256 * 1024  # waiting to be sent: retained messages wait as well


def _reason_of(error: BraidError) -> Reason:
    if isinstance(error, PermissionDenied | NotFound):
        return Reason.NOT_AUTHORIZED  # a queue that is not there is not told from a forbidden one
    if isinstance(error, LimitExceeded):
        return Reason.QUOTA_EXCEEDED
    if isinstance(error, InvalidArgument):
        return Reason.TOPIC_FILTER_INVALID
    return Reason.UNSPECIFIED_ERROR


def _check_end(filter: str) -> None:
    """Raise InvalidArgument for a filter that only other dialects have."""
    # [MQTT-4.7.1-1]
    if "#" in filter[:-1]:
        raise InvalidArgument(
            "in MQTT # stands for whole levels and only at the end of a filter: a/#"
        )


class Subscribing:
    """The subscriptions of one client. Part of a session, which owns it."""

    __slots__ = ("_search", "_session", "_sought")

    def __init__(self, session: "MqttSession") -> None:
        self._session = session
        # Filters whose retained messages are due; so there are never more than subscriptions. A
        # dict would look at all that are done to find the first that is not.
        self._sought: OrderedDict[str, Match] = OrderedDict()
        self._search: RetainedSearch | None = None  # of the first of them

    @property
    def busy(self) -> bool:
        """Whether retained messages are still to be sent."""
        return bool(self._sought)

    # Asked by the client ----------------------------------------------------------------------

    def on_subscribe(self, packet: Subscribe, now_ms: int) -> None:
        """Make or change subscriptions, and answer each."""
        session = self._session
        options = session.options
        identifier = packet.properties.subscription_identifier or 0
        if identifier and not options.subscription_identifiers_available:
            text = "this server has no subscription identifiers"
            raise Malformed(text, Reason.SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED)
        reasons: list[int] = []
        wanted: list[tuple[str, Match]] = []
        explanation = ""
        is_kept = session.queue is None  # what is answered
        for index, request in enumerate(packet.requests):
            if index >= options.filters_per_subscribe_max:
                reasons.append(Reason.QUOTA_EXCEEDED)
                continue
            refusal = self._unavailable(request)
            if refusal is not None:
                reasons.append(refusal)
                continue
            subscription = self._subscription(request, identifier)
            try:
                _check_end(request.filter)
                if parse_stream(request.filter) is not None:
                    level, before = self._subscribe_stream(packet, subscription), False
                    is_kept = is_kept and level is Durability.MEMORY
                else:
                    assert session.session is not None
                    before = session.core.clients.subscribe(session.session, subscription, now_ms)
            except BraidError as error:
                if isinstance(error, InvalidArgument) and session.version != V5:
                    # [MQTT-4.8.0-1] of 3.1.1: a filter that is none violates the protocol
                    raise Malformed(str(error), Reason.TOPIC_FILTER_INVALID) from None
                reasons.append(_reason_of(error))
                explanation = explanation or str(error)
                continue
            reasons.append(subscription.qos)
            # [MQTT-3.3.1-9] to [MQTT-3.3.1-11]; [MQTT-4.8.2] has none for a shared one
            new = not before or not request.retain_handling
            if new and request.retain_handling < 2 and not request.filter.startswith("$"):
                wanted.append((request.filter, merge([subscription])))
        answer = self._suback(packet, reasons, explanation)
        if is_kept:
            self._answer(answer, wanted)
        else:
            session.core.when_kept(Durability.SYNC, self._on_kept, (answer, wanted))
        if any(request.filter.startswith("$SYS") for request in packet.requests):
            session.core.announcing.soon()

    def _subscription(self, request: Request, identifier: int) -> Subscription:
        qos = min(request.qos, self._session.options.maximum_qos)
        if request.filter.startswith(QUEUE_PREFIX) or parse_stream(request.filter) is not None:
            qos = min(qos, 1)
        return Subscription(
            request.filter,
            qos,
            request.no_local,
            request.retain_as_published,
            request.retain_handling,
            identifier,
        )

    def _subscribe_stream(self, packet: Subscribe, subscription: Subscription) -> Durability:
        session = self._session
        if session.streaming is None:
            session.streaming = Streaming(session)
        start = dict(packet.properties.user).get(START, "")
        return session.streaming.subscribe(
            subscription.filter, subscription.qos, subscription.id, start
        )

    def _unavailable(self, request: Request) -> Reason | None:
        options = self._session.options
        shared = request.filter.startswith("$share/")
        if shared and not options.shared_available:
            return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
        if shared and request.no_local:
            # [MQTT-3.8.3-4]
            raise Malformed("No Local on a shared subscription", Reason.PROTOCOL_ERROR)
        if not options.wildcard_available and ("+" in request.filter or "#" in request.filter):
            return Reason.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
        return None

    def _on_kept(self, argument: object, error: BraidError | None) -> None:
        session = self._session
        if session.finished:
            return
        if error is not None:
            session.fail_with(error)
        else:
            self._answer(*cast("tuple[bytes, list[tuple[str, Match]]]", argument))
        session.wake()

    def _answer(self, answer: bytes, wanted: list[tuple[str, Match]]) -> None:
        session = self._session
        if len(answer) > session.out.packet_bytes_max:
            # [MQTT-3.1.2-25]: who cannot be told what was granted cannot go on
            session.fail(Reason.PACKET_TOO_LARGE, "the answer is larger than you take")
            return
        session.out.send(answer)
        for filter, match in wanted:
            if session.session is not None and filter in session.session.subscriptions:
                self._seek_no_more(filter)
                self._sought[filter] = match

    def _suback(self, packet: Subscribe, reasons: list[int], explanation: str) -> bytes:
        session = self._session
        properties = b""
        if explanation and session.explains:
            properties = encode_properties(Properties(reason_string=explanation))
        answer = encode_suback(session.version, packet.packet_id, reasons, properties)
        if len(answer) > session.out.packet_bytes_max:
            answer = encode_suback(session.version, packet.packet_id, reasons)
        return answer

    def on_unsubscribe(self, packet: Unsubscribe, now_ms: int) -> None:
        """End subscriptions, and answer for each."""
        session = self._session
        reasons: list[int] = []
        for filter in packet.filters:
            assert session.session is not None
            if not filter:
                # [MQTT-4.7.3-1]
                raise Malformed("an empty filter", Reason.TOPIC_FILTER_INVALID)
            session.out.detach(filter, now_ms)
            self._seek_no_more(filter)
            if parse_stream(filter) is None:
                found = session.core.clients.unsubscribe(session.session, filter)
            else:
                streaming = session.streaming
                found = streaming is not None and streaming.unsubscribe(filter, now_ms)
            reasons.append(Reason.SUCCESS if found else Reason.NO_SUBSCRIPTION_EXISTED)
        answer = encode_unsuback(session.version, packet.packet_id, reasons)
        if session.queue is None:
            session.out.send(answer)
        else:
            session.out.send_when_kept(answer)

    # Retained messages ------------------------------------------------------------------------

    def pump(self, now_ms: int) -> None:
        """Send some retained messages, if the client can take them now."""
        session = self._session
        out = session.out
        left = _RETAINED_PER_TURN
        while self._sought and left > 0 and not out.slow and out.out_bytes < _OUT_BYTES_MAX:
            filter, match = next(iter(self._sought.items()))
            room = min(left, self._room(match))
            if room <= 0:
                return  # goes on when the client has acknowledged something
            search = self._search
            if search is None:
                assert session.session is not None
                search = session.topics.search_retained(session.session, filter, session.wake)
                self._search = search
            found = search.take(room, now_ms, _OUT_BYTES_MAX)
            try:
                for topic, lsn, message in found:
                    self._give(topic, lsn, message, match)
            except StorageError as error:
                session.fail_with(session.core.fail(error))
                return
            left -= max(len(found), 1)
            if search.done:
                self._seek_no_more(filter)
            elif not found and search.loading:
                return  # it wakes us
        if self._sought and not out.slow:
            session.wake()

    def _seek_no_more(self, filter: str) -> None:
        if filter == next(iter(self._sought), None):
            self._search = None
        self._sought.pop(filter, None)

    def _room(self, match: Match) -> int:
        """How many retained messages may be on their way."""
        session = self._session
        if not match.qos:
            return _RETAINED_PER_TURN
        if session.queue is None:
            return session.out.room
        # In its queue they are behind what waits there, and must not push that out.
        return session.out.window - session.queue.live

    def _give(self, topic: str, lsn: int, message: MessageContent, match: Match) -> None:
        session = self._session
        attributes = message.attributes
        qos = match.qos and min(match.qos, session.server.qos(attributes))
        if qos and session.queue is not None:
            size = len(attributes) + len(message.body)
            session.core.link(lsn, session.queue, RETAINED_OVERLAY, size)
            return
        session.out.send_retained(topic, qos, message, match.ids)
