"""Schedules in this process: a verb returns when what it did is kept."""

import inspect

import pytest

from braidmq.broker import Broker, NotFound
from braidmq.broker.localschedules import LocalSchedules
from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import Scheduled, ScheduleVerbs

MESSAGE = Scheduled(kind="queue", name="q", timing=Timing(3_600_000), body=b"x")


def test_every_verb_is_there_with_its_arguments():
    for name, verb in vars(ScheduleVerbs).items():
        if inspect.iscoroutinefunction(verb):
            own = inspect.signature(getattr(LocalSchedules, name))
            assert list(own.parameters) == list(inspect.signature(verb).parameters)


async def test_what_is_told_is_kept(tmp_path):
    async with Broker(tmp_path / "data") as broker:
        await broker.declare_queue("q")
        verbs, log = broker.verbs, broker.core.log

        def kept() -> bool:
            return not log.pending_bytes and log.durable_lsn == log.written_lsn

        made = await verbs.schedule(MESSAGE)
        assert kept()
        assert await verbs.list_schedules() == [made]
        assert (await verbs.schedule_info(made.id)).body == b"x"
        await verbs.unschedule(made.id)
        assert kept()
        with pytest.raises(NotFound):
            await verbs.unschedule(made.id)
        for _ in range(3):
            await verbs.schedule(MESSAGE)
        assert await verbs.unschedule_between(0, made.next_ms - 60_000) == 0
        assert await verbs.unschedule_between(0, 0) == 3
        assert kept()


async def test_a_schedule_is_there_after_a_restart(tmp_path):
    async with Broker(tmp_path / "data") as broker:
        await broker.declare_queue("q")
        made = await broker.verbs.schedule(MESSAGE)
    async with Broker(tmp_path / "data") as broker:
        assert await broker.verbs.list_schedules() == [made]
