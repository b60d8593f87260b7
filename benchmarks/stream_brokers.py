"""The systems of a comparison of streams, each started by its name, or why it cannot be."""

import contextlib
from collections.abc import Iterator
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Final

from .machine import pinned
from .peer import BrokerProcess, PeerProcess
from .server import ServerProcess
from .stream_plan import HOT_BYTES, IN_PROCESS, OURS, StreamPlan
from .systems import nats, redis
from .systems.nats import NatsProcess
from .systems.redis import RedisProcess

__all__ = ["PEERS", "SYSTEMS", "Running", "missing", "started", "version_of"]

PEERS: Final = ("redis", "jetstream")
SYSTEMS: Final = (OURS, IN_PROCESS, *PEERS)


class Running:
    """A broker that was started: where it is, and how to start it again."""

    def __init__(self, process: BrokerProcess, core: int) -> None:
        self._process = process
        self._core = core
        self.host = "127.0.0.1"
        self.port = 0
        self.start()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def start(self) -> None:
        """Start it on its core. Raises ServerFailed."""
        with pinned(self._core):  # what it starts inherits the core
            self._process.start()
        if isinstance(self._process, PeerProcess):
            self.port = self._process.port
        elif isinstance(self._process, ServerProcess):
            self.port = self._process.port("braid")

    def restart(self) -> None:
        """End it in its own way, and start it with what it has on disk."""
        self._process.stop()
        self.start()


@contextlib.contextmanager
def started(plan: StreamPlan, directory: str, core: int) -> Iterator[Running | None]:
    """A broker on a core of its own, with an empty directory; None in process.

    Raises ServerFailed.
    """
    if plan.system == IN_PROCESS:
        yield None
        return
    process: BrokerProcess
    if plan.system == "redis":
        process = RedisProcess(directory, plan.durability)
    elif plan.system == "jetstream":
        process = NatsProcess(directory, plan.durability)
    else:
        file = Path(directory, "bench.toml")
        file.write_text(f"[limits]\nshard_hot_bytes_max = {HOT_BYTES}\n" if plan.restarted else "")
        process = ServerProcess(directory, ("--config", str(file)))
    try:
        yield Running(process, core)
    except BaseException:
        process.kill()
        raise
    process.stop()


def missing(plan: StreamPlan) -> str:
    """Why the plan's system cannot carry it out; "" when it can."""
    if plan.system == "redis":
        return redis.why_not()
    if plan.system in (OURS, IN_PROCESS):
        return ""
    if plan.shape == "fanout":
        return "one publish does not reach several streams of JetStream at once"
    return nats.why_not(plan.durability)


def version_of(system: str) -> str:
    """Which version would be started; "" when none is there."""
    if system == "redis":
        return redis.version()
    return nats.version() if system == "jetstream" else package_version("braidmq")
