"""Binding and publishing on a broker of tests, in few words."""

from typing import Any

import msgspec

from braidmq.broker.access import SYSTEM, Principal
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import BindingInfo, Target, TargetKind
from braidmq.broker.message import TOPIC
from braidmq.broker.publication import PlainPublication
from braidmq.broker.publishing import Batch
from braidmq.broker.stream_settings import StreamSettings
from braidmq.storage.block import decode_block
from braidmq.storage.log import Durability
from braidmq.storage.record import MESSAGE
from tests.broker_harness import Harness

__all__ = [
    "bind",
    "declare_stream",
    "messages_written",
    "pack",
    "publish",
    "queues",
    "records",
    "send",
]


def queues(broker: Harness, *names: str, **settings: Any) -> None:
    for name in names:
        broker.declare(name, **settings)


def messages_written(broker: Any) -> list[int]:
    """How many targets each MESSAGE record has that is appended from now on."""
    written: list[int] = []
    append, append_together = broker.log.append, broker.log.append_together

    def note(record: bytes) -> None:
        if record[8] == MESSAGE:
            written.append(int.from_bytes(record[10:12], "little"))

    def noting(parts, references=0, **options):
        note(b"".join(parts))
        return append(parts, references, **options)

    def noting_together(parts, references):
        for record in parts:
            note(record)
        return append_together(parts, references)

    broker.log.append, broker.log.append_together = noting, noting_together
    return written


def bind(
    broker: Harness,
    filter: str,
    name: str,
    kind: TargetKind = "queue",
    who: Principal = SYSTEM,
    **settings: Any,
) -> BindingInfo:
    target = Target(kind, name)
    return broker.core.bind(who, filter, target, BindingSettings(**settings), broker.clock.ms)


def pack(topic: str, headers: dict[str, str | bytes]) -> bytes:
    return msgspec.msgpack.encode({TOPIC: topic, **headers})


def send(
    broker: Harness,
    topic: str,
    *bodies: bytes,
    qos: int = 1,
    retain: bool = False,
    expire_ms: int = 0,
    **headers: Any,
) -> tuple[Durability, int]:
    """Publish; nothing is settled. Header names have _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    batch: Any = Batch(topic, list(bodies), pack(topic, named), qos, retain, expire_ms)
    if len(bodies) == 1:
        batch = PlainPublication(topic, bodies[0], pack(topic, named), qos, retain, expire_ms)
    return broker.core.topics.publish(SYSTEM, batch, broker.clock.ms)


def publish(broker: Harness, topic: str, *bodies: bytes, **more: Any) -> tuple[Durability, int]:
    """The same, and all that follows from it."""
    result = send(broker, topic, *bodies, **more)
    broker.settle()
    return result


def declare_stream(broker: Harness, name: str, shards: int = 1, **settings: Any) -> None:
    found = StreamSettings(**settings)
    broker.core.declare_stream(SYSTEM, name, found, shards, broker.clock.ms)


def records(broker: Harness, name: str) -> dict[int, list[bytes]]:
    """The bodies in each shard of a stream, by index, that can be read."""
    shards = broker.core.streams.get(name).shards
    return {index: _read(broker, name, index, shard.first) for index, shard in shards.items()}


def _read(broker: Harness, name: str, index: int, number: int) -> list[bytes]:
    found: list[bytes] = []
    while True:
        answers: list[Any] = []
        broker.core.read_shard(
            *(SYSTEM, name, index, number, 10_000, 1 << 20, 0),
            *(lambda argument, chunk, answers=answers: answers.append(chunk), None),
            broker.clock.ms,
        )
        broker.settle()
        (chunk,) = answers
        bodies = [body for block in chunk.blocks for body in decode_block(block).bodies()]
        found += bodies[chunk.skip :][: chunk.count]
        if not chunk.count:
            return found
        number = chunk.next
