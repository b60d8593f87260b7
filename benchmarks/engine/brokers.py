"""The brokers of a call: each run gets one of its own, on an empty directory.

Rules:

1. A URL says which broker to use; then nothing is started.
2. Brokers that are *kept* are started once for all runs of a call: that saves their starts, and the
   load that some need before their figures are their own. Names are new in each run, so runs do
   not meet; but memory is that of all runs so far, and the others are idle beside: that is for an
   overview. What weighs its broker or kills it gets one of its own all the same.
3. A run that failed ends the broker it had, kept or not.
4. With two cores or more the broker has the first one, and the load and this process the others.
"""

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

import msgspec

from ..machine import cores, pinned, usable_cores
from ..peer import ServerFailed
from ..results.result import SystemInfo
from ..systems.registry import HEAT_SECONDS, SYSTEMS
from ..systems.system import Running
from .choosing import Choice
from .coordinator import Target
from .planning import Place
from .scenario import Scenario

__all__ = ["Brokers"]


class _Started(msgspec.Struct, frozen=True):
    """A broker, where it was kept, and what ends it."""

    running: Running
    core: int  # -1: anywhere
    stack: contextlib.ExitStack


class Brokers:
    """``with Brokers(directory, are_pinned=True) as brokers: with brokers.target(...) as target``.

    Args:
        directory: where their data goes, "": the system's temporary directory.
        are_pinned: whether to keep them on a core of their own.
        are_kept: whether one is enough for all runs.
        server_pid: of the broker behind a URL; 0: unknown.
        tls_ca: the file that vouches for that broker's certificate.

    Attributes:
        infos: what was started, each way of setting it once.
    """

    def __init__(
        self,
        directory: str,
        are_pinned: bool,
        are_kept: bool = False,
        server_pid: int = 0,
        tls_ca: str = "",
    ) -> None:
        self._directory = directory
        self._are_kept = are_kept
        self._server_pid = server_pid
        self._tls_ca = tls_ca
        self._core = cores()[0] if are_pinned else -1
        self._load_cores = tuple(usable_cores()[1:]) if self._core >= 0 else ()
        self._kept: dict[tuple[str, bool], _Started] = {}
        self.infos: list[SystemInfo] = []

    def heat_seconds(self, scenario: Scenario, system: str) -> float:
        """How long it has to be warmed up before a run; not at all when it carried one before."""
        is_hot = (system, scenario.knobs.durable) in self._kept and not _is_alone(scenario)
        return 0.0 if is_hot else HEAT_SECONDS.get(system, 0.0)

    @contextlib.contextmanager
    def target(self, scenario: Scenario, choice: Choice) -> Iterator[Target]:
        """The broker of a run; one that is not kept ends with it. Raises ServerFailed."""
        token = secrets.token_hex(4)
        if choice.url:
            self._note(SystemInfo(name=choice.system, version="", settings={"url": choice.url}))
            place = Place(url=choice.url, token=token, tls_ca=self._tls_ca)
            yield Target(system=choice.system, place=place, pid=self._server_pid)
            return
        with self._started(scenario, choice.system) as started:
            running, is_tls = started.running, scenario.knobs.tls
            urls = running.tls_urls if is_tls else running.urls
            if choice.scheme not in urls:
                raise ServerFailed(f"{choice.system} does not serve {choice.scheme}")
            is_pinned = started.core >= 0
            place = Place(
                url=urls[choice.scheme],
                token=token,
                tls_ca=running.tls_ca if is_tls else "",
                cores=self._load_cores if is_pinned else (),
            )
            with pinned(self._load_cores[0] if is_pinned else -1):
                yield Target(
                    system=choice.system,
                    place=place,
                    pid=running.pid,
                    core=started.core,
                    restart=_on_core(running.restart, started.core),
                )

    @contextlib.contextmanager
    def _started(self, scenario: Scenario, system: str) -> Iterator[_Started]:
        """Raises ServerFailed."""
        key = system, scenario.knobs.durable
        if not self._are_kept or _is_alone(scenario):
            started = self._start(*key)
            with started.stack:
                yield started
            return
        if key not in self._kept:
            self._kept[key] = self._start(*key)
        try:
            yield self._kept[key]
        except BaseException as error:  # whatever it is, the next run gets another broker
            self._kept.pop(key).stack.__exit__(type(error), error, error.__traceback__)
            raise

    def _start(self, system: str, durable: bool) -> _Started:
        """Raises ServerFailed."""
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="braidmq-bench-", dir=self._directory or None)
            )
            with pinned(self._core) as is_pinned:  # what is started inside inherits the core
                running = SYSTEMS[system].start(stack, directory, durable)
            apart = f"core {self._core}, the load on {self._load_cores}"
            settings = {**running.settings, "runs on": apart if is_pinned else "any core"}
            self._note(SystemInfo(name=system, version=running.version, settings=settings))
            return _Started(running, self._core if is_pinned else -1, stack.pop_all())

    def _note(self, info: SystemInfo) -> None:
        if info not in self.infos:
            self.infos.append(info)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as stack:
            for started in self._kept.values():
                stack.push(started.stack)
        self._kept = {}


def _is_alone(scenario: Scenario) -> bool:
    """Whether it needs a broker that nobody had before, and that nobody gets after it."""
    return scenario.shape == "idle" or scenario.knobs.kill_after_seconds > 0


def _on_core(restart: Callable[[], int] | None, core: int) -> Callable[[], int] | None:
    """What is started again belongs where it was, and not where this process is now."""
    if restart is None:
        return None

    def restart_there() -> int:
        with pinned(core):
            return restart()

    return restart_there
