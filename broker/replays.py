"""The replays of a broker: which of them run, and when each has its turn.

They go on with the broker's clock, and after a restart from where they were.
"""

from typing import TYPE_CHECKING

from ..storage.record import encode_definition
from .errors import Conflict, LimitExceeded
from .replaying import Replay
from .replaystore import ReplayDefinition

if TYPE_CHECKING:
    from .engine import Engine

__all__ = ["Replays"]

_ENDED_MAX = 100  # that are remembered


class Replays:
    """See the module. ``id`` and ``alarm_ms`` are for the engine's alarms, as a queue has them."""

    id = -4  # -3 is that of groups.py

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._store = engine.replay_store
        self._running: dict[int, Replay] = {}
        self.alarm_ms = 0

    def start(self, now_ms: int) -> None:
        """Everything is recovered: go on."""
        for id, definition in self._store.by_id.items():
            if definition.state == "running":
                self._running[id] = Replay(self._engine, id, now_ms)
        self._set_alarm()

    def begin(self, definition: ReplayDefinition, now_ms: int) -> int:
        """Begin one; its number. Raises Conflict, LimitExceeded, StorageFull, Overloaded."""
        engine = self._engine
        limit = engine.limits.replay_tasks_max
        if len(self._running) >= limit:
            raise LimitExceeded(f"{limit} replays are running, as many as may")
        if any(each.definition.binding == definition.binding for each in self._running.values()):
            target = definition.target
            raise Conflict(
                f"a replay of {definition.filter!r} to {target.kind} {target.name} is running"
            )
        engine.admit()
        self._forget_ended()
        id = engine.take_id()
        engine.write_definition(id, definition)
        self._store.define(id, definition)
        self._running[id] = Replay(engine, id, now_ms)
        self._set_alarm()
        return id

    def _forget_ended(self) -> None:
        ended = [id for id in self._store.by_id if id not in self._running]
        for id in ended[: max(len(ended) - _ENDED_MAX + 1, 0)]:
            self._engine.log.append((encode_definition(id, b""),))
            self._store.undefine(id)

    def cancel(self, id: int) -> None:
        """Stop one, if it runs; what was replayed stays."""
        replay = self._running.pop(id, None)
        if replay is not None:
            replay.end("cancelled")

    def soon(self, replay: Replay) -> None:
        """A replay can go on."""
        replay.due_ms = self._engine.now_ms
        self._set_alarm()

    def tick(self, now_ms: int) -> None:
        """Let those go on whose turn it is."""
        self.alarm_ms = 0
        if self._engine.failed is not None:
            return
        for id, replay in list(self._running.items()):
            if 0 < replay.due_ms <= now_ms:
                replay.step(now_ms)
            if not replay.running:
                self._running.pop(id, None)
        self._set_alarm()

    def _set_alarm(self) -> None:
        due_ms = min((r.due_ms for r in self._running.values() if r.due_ms), default=0)
        if due_ms and (not self.alarm_ms or due_ms < self.alarm_ms):
            self.alarm_ms = due_ms
            self._engine.alarm(self, due_ms)
