"""Replaying on a broker of tests, in few words."""

from braidmq.broker.access import SYSTEM, Principal
from braidmq.broker.bindingverbs import Target, TargetKind
from braidmq.broker.message import unpack_headers
from braidmq.broker.replayverbs import ReplayInfo, ReplayPolicy
from tests.broker_harness import Harness
from tests.fanout_harness import bind, declare_stream

__all__ = ["archived", "numbered", "origins", "replay", "replays", "run_replays"]


def archived(broker: Harness, shards: int = 1, filter: str = "#") -> None:
    """Have all that is published kept in the stream ``archive``."""
    declare_stream(broker, "archive", shards)
    bind(broker, filter, "archive", "stream")


def replay(
    broker: Harness,
    filter: str,
    name: str,
    kind: TargetKind = "queue",
    who: Principal = SYSTEM,
    start_ms: int = 0,
    end_ms: int = 0,
    rate: float = 0,
    archive: str = "archive",
) -> ReplayInfo:
    """Begin a replay; nothing is settled."""
    policy = ReplayPolicy(archive, start_ms, end_ms, rate)
    return broker.core.replay(who, filter, Target(kind, name), policy, broker.clock.ms)


def replays(broker: Harness) -> list[ReplayInfo]:
    return broker.core.list_replays(SYSTEM)


def run_replays(broker: Harness) -> ReplayInfo:
    """Let all replays come to their end; the one that was begun last."""
    for _ in range(10_000):
        if all(each.state != "running" for each in replays(broker)):
            return replays(broker)[-1]
        broker.advance(10)
    raise AssertionError("a replay does not end")


def origins(broker: Harness, name: str) -> list[str]:
    """Where the messages of a queue came from; "": from their publisher."""
    found = [unpack_headers(each.attributes) for each in broker.browse(name)]
    return [str(headers.get("replayed-from", "")) for headers in found]


def numbered(count: int, begin: int = 0) -> list[bytes]:
    """Bodies to publish."""
    return [b"%d" % number for number in range(begin, begin + count)]
