"""Schedules on a broker on virtual time: the verbs of the core, answered at once."""

from typing import Any

from braidmq.broker.access import SYSTEM, Principal
from braidmq.broker.errors import BraidError
from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled, ScheduleInfo
from tests.broker_harness import Harness

__all__ = ["listed", "schedule", "shown", "unschedule", "unschedule_between"]


def schedule(
    broker: Harness,
    timing: Timing,
    body: bytes = b"x",
    who: Principal = SYSTEM,
    kind: Any = "queue",
    name: str = "q",
    **fields: Any,
) -> ScheduleInfo:
    message = Scheduled(kind=kind, name=name, timing=timing, body=body, **fields)
    info = broker.core.schedule(who, message, broker.clock.ms)
    broker.settle()
    return info


def _answered(broker: Harness, answers: list[Any]) -> Any:
    assert not answers, "answered from within the call"
    broker.settle()
    (answer,) = answers
    if isinstance(answer, BraidError):
        raise answer
    return answer


def listed(
    broker: Harness,
    start_ms: int = 0,
    end_ms: int = 0,
    after: int = 0,
    limit: int = 1_000,
    who: Principal = SYSTEM,
) -> list[ScheduleInfo]:
    answers: list[Any] = []

    def answer(argument: object, found: object) -> None:
        answers.append(found)

    broker.core.list_schedules(who, start_ms, end_ms, after, limit, answer, None)
    found: list[ScheduleInfo] = _answered(broker, answers)
    return found


def shown(broker: Harness, id: int, who: Principal = SYSTEM) -> ScheduleInfo:
    answers: list[Any] = []
    broker.core.schedule_info(who, id, lambda argument, found: answers.append(found), None)
    info: ScheduleInfo = _answered(broker, answers)[0]
    return info


def unschedule(broker: Harness, id: int, who: Principal = SYSTEM) -> None:
    answers: list[Any] = []
    broker.core.unschedule(who, id, lambda argument, count: answers.append(count), None)
    assert _answered(broker, answers) == 1


def unschedule_between(
    broker: Harness, start_ms: int = 0, end_ms: int = 0, who: Principal = SYSTEM
) -> int:
    answers: list[Any] = []

    def answer(argument: object, count: object) -> None:
        answers.append(count)

    broker.core.unschedule_between(who, start_ms, end_ms, answer, None)
    count: int = _answered(broker, answers)
    return count
