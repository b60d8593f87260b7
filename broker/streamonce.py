"""One record that is appended together with something else: both are kept, or neither.

It is a MESSAGE record, as what comes into a stream by a topic, with one target more: that is how an
MQTT message of QoS 2 and its packet identifier become one atomic thing. Its partition key is among
its headers, where readers look for it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..storage.log import Durability
from .access import Principal
from .errors import BraidError, InvalidArgument, Throttled, TooLarge
from .letters import Letter, post
from .limits import PARTITION_KEY_BYTES_MAX
from .message import PARTITION_KEY, Headers, pack_headers
from .streams import Appending, Position

if TYPE_CHECKING:
    from .streamcore import StreamCore

__all__ = ["append_once"]


def append_once(
    core: "StreamCore",
    who: Principal,
    name: str,
    key: str,
    headers: Headers,
    body: bytes,
    more: Sequence[tuple[int, int]],
    now_ms: int,
) -> tuple[Durability, Position]:
    """Take a record: what to wait for, and where it is.

    ``more`` are targets that only the record knows, as in ``Core.send``. A stream in memory has no
    record that could tell of them: then the level is MEMORY.

    Raises:
        PermissionDenied, NotFound, InvalidArgument (the key), TooLarge, Throttled, StorageFull,
        Overloaded, BrokerFailed: it was not taken, and ``more`` was not kept.
    """
    who.check("stream:Append", name)
    stream = core.streams.get(name)
    raw_key = key.encode()
    if stream.settings.durability is Durability.MEMORY:
        packed = [pack_headers(headers, core.limits)]
        level, (result,) = core.append(who, name, Appending([body], [raw_key], packed), now_ms)
        if isinstance(result, BraidError):
            raise result
        return level, result
    core.admit()
    if not 0 < len(raw_key) <= PARTITION_KEY_BYTES_MAX:
        raise InvalidArgument(f"a partition key has 1 to {PARTITION_KEY_BYTES_MAX} bytes here")
    attributes = pack_headers({**headers, PARTITION_KEY: key}, core.limits)
    size = len(attributes) + len(body)
    if size > stream.settings.record_bytes_max:
        most = stream.settings.record_bytes_max
        raise TooLarge(f"a record has {size} bytes; the limit is {most}")
    shard = stream.place(raw_key)
    if not core.streams.let_in(stream, shard, size, now_ms):
        raise Throttled(f"shard {shard.index} of stream {name} is busy")
    letter = Letter(attributes, body)
    letter.shards.append(shard)
    letter.more.extend(more)
    number = shard.next
    post(core.log, (letter,), now_ms, core.limits.fanout_bytes_max)
    core.streams.taken(stream, shard, 1)
    return stream.settings.durability, (shard.index, number)
