"""beanstalkd: the server, with its binlog for all that has to last."""

import contextlib
from collections.abc import Sequence
from typing import Final

from ..peer import PeerProcess, find_program, program_version
from .system import Running

__all__ = ["JOB_BYTES_MAX", "BeanstalkdProcess", "BeanstalkdSystem", "version", "why_not"]

JOB_BYTES_MAX: Final = 8 * 1024 * 1024


def _find() -> str:
    return find_program("beanstalkd")


def version() -> str:
    """Its version, "" when it is not installed."""
    return program_version(_find(), "-v")


def why_not() -> str:
    """Why there is no server; "" when there is."""
    return "" if _find() else "beanstalkd is not installed (apt install beanstalkd)"


class BeanstalkdProcess(PeerProcess):
    """``with BeanstalkdProcess(directory, True) as broker: connect(broker.host, broker.port)``."""

    name = "beanstalkd"
    why_not = staticmethod(why_not)

    def __init__(self, directory: str, durable: bool) -> None:
        super().__init__(directory)
        self._durable = durable

    def _command(self, port: int) -> Sequence[str]:
        command = [_find(), "-l", self.host, "-p", str(port), "-z", str(JOB_BYTES_MAX)]
        if self._durable:
            command += ["-b", self.directory, "-f", "0"]  # a sync after every write
        return command


class BeanstalkdSystem:
    """See ``system.System``."""

    name = "beanstalkd"
    schemes = frozenset({"beanstalk"})
    why_not = staticmethod(why_not)
    version = staticmethod(version)

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """See ``system.System``."""
        broker = stack.enter_context(BeanstalkdProcess(directory, durable))
        meaning = (
            "a confirmation follows the fsync of the binlog, one for each message"
            if durable
            else "nothing is written to disk"
        )
        return Running(
            version=version(),
            urls={"beanstalk": f"beanstalk://{broker.host}:{broker.port}"},
            pid=broker.pid,
            settings={
                "-z": f"{JOB_BYTES_MAX} bytes of a message at most",
                "-b": "the binlog is on" if durable else "no binlog",
                "-f": "0: sync after every write" if durable else "nothing to sync",
                "durability": meaning,
            },
            restart=broker.restart,
        )
