"""Topics and sessions do as their model does (``session_model.py``), and the model has teeth."""

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from braidmq.broker.clients import Clients
from braidmq.broker.retained import RetainedStore
from braidmq.broker.session import Session
from braidmq.broker.wills import Wills
from braidmq.broker.willstore import WillDefinition
from braidmq.storage.record import encode_ack
from tests.session_model import SessionMachine


def connection_not_logged(patch: pytest.MonkeyPatch) -> None:
    """Time away is counted from the disconnection before the last."""
    original = Clients._log

    def log(self: Clients, session: Session) -> None:
        if session.sink is None:
            original(self, session)

    patch.setattr(Clients, "_log", log)


def disconnection_not_logged(patch: pytest.MonkeyPatch) -> None:
    """Time away begins anew at every start."""
    patch.setattr(Clients, "_log", lambda self, session: None)


def clearing_not_logged(patch: pytest.MonkeyPatch) -> None:
    """A retained message comes back after a restart."""
    original = encode_ack

    def encode(entity: int, reason: int, sequences: list[int]) -> bytes:
        return original(entity, reason, sequences if entity < 1_000_000 else [9_999])

    patch.setattr("braidmq.broker.topics.encode_ack", encode)


def old_one_not_released(patch: pytest.MonkeyPatch) -> None:
    """A retained message that is replaced stays in the log for ever."""
    original = RetainedStore.put

    def put(self: RetainedStore, *fields: Any) -> int:
        original(self, *fields)
        return 0

    patch.setattr(RetainedStore, "put", put)


def delayed_will_of_who_came_back(patch: pytest.MonkeyPatch) -> None:
    original = Clients._is_awaited

    def awaited(self: Clients, due_ms: int, name: str) -> bool:
        session = self._engine.sessions.get(name)
        early = session is not None and session.will is not None and session.sink is None
        return early or original(self, due_ms, name)

    patch.setattr(Clients, "_is_awaited", awaited)
    patch.setattr("braidmq.broker.clients.Clients._on_deadline", _publish_and_end)


def will_not_struck(patch: pytest.MonkeyPatch) -> None:
    """A will that nobody kept, or that was taken back, comes again after a restart."""

    def strike(self: Wills, will: WillDefinition) -> None:
        self._store.remove(will.number)

    patch.setattr(Wills, "_strike", strike)


def will_not_in_the_record(patch: pytest.MonkeyPatch) -> None:
    """A will that was kept comes again after a restart."""
    patch.setattr("braidmq.broker.topics.WILL_ENTITY", 1_000_000)


def _publish_and_end(self: Clients, session: Session, now_ms: int) -> None:
    self.end(session, now_ms)


PLANTED = [
    connection_not_logged,
    disconnection_not_logged,
    clearing_not_logged,
    old_one_not_released,
    delayed_will_of_who_came_back,
    will_not_struck,
    will_not_in_the_record,
]


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_planted_bug_is_noticed(plant, monkeypatch):
    """A model that never complains proves nothing."""
    plant(monkeypatch)
    quick = settings(
        max_examples=1_000,
        stateful_step_count=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    with pytest.raises((AssertionError, ValueError, KeyError)):
        run_state_machine_as_test(SessionMachine, settings=quick)


TestSessionModel = SessionMachine.TestCase
TestSessionModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
