"""Topics that are no topics: what is published to them is sent, appended, or published later.

    $queue/NAME                to a queue
    $stream/NAME               to a stream; the partition key is the user property of that name,
                               else the client identifier, so a client's records stay in order
    $delayed/SECONDS/TOPIC     to a topic, later

All others that begin with ``$`` are the broker's own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...broker.errors import BraidError, InvalidArgument, PermissionDenied
from ...broker.limits import DELAY_MS_MAX
from ...broker.message import (
    DEDUP_ID,
    GROUP_ID,
    PARTITION_KEY,
    Headers,
    Outgoing,
    pack_headers,
)
from ...broker.streamonce import append_once
from ...broker.streams import Appending
from ...broker.topic import QUEUE_PREFIX
from ...storage.log import Durability
from .headers import headers_from
from .packets import Publish
from .runs import Run, Shape, Topic

if TYPE_CHECKING:
    from .session import MqttSession

__all__ = [
    "DELAYED_PREFIX",
    "STREAM_PREFIX",
    "append_run",
    "appendable",
    "send_special",
    "stream_of",
]

DELAYED_PREFIX = "$delayed/"
STREAM_PREFIX = "$stream/"
_STREAM_WIRE = STREAM_PREFIX.encode()
_DELAY_DIGITS_MAX = 9  # seconds


def send_special(
    session: "MqttSession",
    topic: Topic,
    publish: Publish,
    inbound: Sequence[tuple[int, int]],
    now_ms: int,
) -> tuple[Durability, bool]:
    """Do what the topic stands for.

    ``inbound`` is where the packet identifier of a QoS 2 message is kept: one more target of the
    message's record, so that either both are kept or neither. Returns what to wait for before it is
    acknowledged, and whether there was such a record.

    Raises:
        BraidError: it was not taken.
    """
    core = session.core
    properties = publish.properties
    headers = headers_from(properties) if properties is not None else {}
    ttl_ms = 0
    if properties is not None and properties.expiry_seconds is not None:
        ttl_ms = max(properties.expiry_seconds * 1000, 1)
    if topic.name.startswith(QUEUE_PREFIX):
        group, dedup_id = headers.get(GROUP_ID, ""), headers.get(DEDUP_ID, "")
        message = Outgoing(
            publish.payload,
            pack_headers(headers, session.limits),
            ttl_ms=ttl_ms,
            group=group if isinstance(group, str) else "",
            dedup_id=dedup_id if isinstance(dedup_id, str) else "",
        )
        name = topic.name.removeprefix(QUEUE_PREFIX)
        level, (result,) = core.send(session.who, name, [message], now_ms, inbound)
        if isinstance(result, BraidError):
            raise result
        return level, level is not Durability.MEMORY and not result.duplicate
    if topic.name.startswith(STREAM_PREFIX):
        name = topic.name.removeprefix(STREAM_PREFIX)
        return _append(session, name, publish.payload, headers, inbound, now_ms)
    if topic.name.startswith(DELAYED_PREFIX):
        seconds, _, name = topic.name.removeprefix(DELAYED_PREFIX).partition("/")
        if not (seconds.isascii() and seconds.isdigit() and len(seconds) <= _DELAY_DIGITS_MAX):
            raise InvalidArgument("a delayed message goes to $delayed/SECONDS/TOPIC")
        if int(seconds) * 1000 > DELAY_MS_MAX:  # sooner than asked for would be too soon
            raise InvalidArgument(f"a delay is at most {DELAY_MS_MAX // 1000} seconds")
        target = session.server.topic(name.encode())
        attributes = session.server.attributes(target, publish.qos, publish.retain, headers)
        delay_ms = int(seconds) * 1000
        level = core.delaying.publish(
            *(session.who, name, publish.payload, attributes),
            *(delay_ms, ttl_ms, now_ms, inbound),
        )
        return level, True
    raise PermissionDenied("topics that begin with $ are the broker's own")


def _append(
    session: "MqttSession",
    name: str,
    body: bytes,
    headers: Headers,
    inbound: Sequence[tuple[int, int]],
    now_ms: int,
) -> tuple[Durability, bool]:
    """Append a record to a stream. As :func:`send_special`."""
    core = session.core
    assert session.session is not None
    found = headers.pop(PARTITION_KEY, "")
    key = found if isinstance(found, str) and found else session.session.name
    if inbound:
        level, _ = append_once(core, session.who, name, key, headers, body, inbound, now_ms)
        return level, level is not Durability.MEMORY
    packed = [pack_headers(headers, session.limits)] if headers else None
    batch = Appending([body], [key.encode()], packed)
    level, (result,) = core.append(session.who, name, batch, now_ms)
    if isinstance(result, BraidError):
        raise result
    return level, False


# Runs for streams --------------------------------------------------------------------------------


def stream_of(wire: bytes) -> str:
    """The stream that a topic in UTF-8 stands for; "" when it stands for none."""
    if not wire.startswith(_STREAM_WIRE):
        return ""
    return wire.removeprefix(_STREAM_WIRE).decode(errors="replace")


def appendable(session: "MqttSession", shape: Shape) -> int:
    """How many messages of a shape can be appended to its stream together, all or none.

    0: each may be refused for itself, so each is to be asked for.
    """
    stream = session.core.stream_store.by_name.get(shape.stream)
    if stream is None or session.session is None:
        return 0
    settings = stream.settings
    if settings.shard_bytes_in_per_second or settings.shard_records_in_per_second:
        return 0
    if shape.size + len(session.session.name.encode()) > settings.record_bytes_max:
        return 0
    return session.limits.batch_messages_max


def append_run(session: "MqttSession", run: Run, now_ms: int) -> Durability:
    """Append a run of at most :func:`appendable` messages: what to wait for.

    Raises:
        PermissionDenied, NotFound, StorageFull, Overloaded, BrokerFailed: nothing was taken.
    """
    assert session.session is not None
    keys = [session.session.name.encode()] * run.count
    batch = Appending(run.bodies, keys)
    level, results = session.core.append(session.who, run.shape.stream, batch, now_ms)
    assert not any(isinstance(result, BraidError) for result in results)
    return level
