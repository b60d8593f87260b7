"""Replays in this process: a verb returns when what it did is kept."""

import asyncio
import inspect

from braidmq.broker import Broker
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.localreplays import LocalReplays
from braidmq.broker.replayverbs import ReplayPolicy, ReplayVerbs


def test_every_verb_is_there_with_its_arguments():
    for name, verb in vars(ReplayVerbs).items():
        if inspect.iscoroutinefunction(verb):
            own = inspect.signature(getattr(LocalReplays, name))
            assert list(own.parameters) == list(inspect.signature(verb).parameters)


async def test_what_is_told_is_kept(tmp_path):
    async with Broker(tmp_path / "data") as broker:
        await broker.declare_queue("q")
        await broker.declare_stream("archive")
        await broker.verbs.bind("t", Target("stream", "archive"), BindingSettings())
        await broker.publish_many("t", [b"x"] * 5_000)
        await broker.verbs.bind("t", Target("queue", "q"), BindingSettings())
        lane = broker.core.queues["q"].lane(0)
        first, replayed = lane.next, 0
        await broker.verbs.replay("t", Target("queue", "q"), ReplayPolicy("archive"))
        while replayed < 5_000:
            await asyncio.sleep(0)
            (info,) = await broker.verbs.list_replays()
            last = lane.slot(first + info.replayed - 1)
            assert not info.replayed or 0 < last < broker.core.log.durable_lsn
            assert info.replayed >= replayed
            replayed = info.replayed


async def test_a_replay_is_there_after_a_restart(tmp_path):
    target = Target("queue", "q")
    async with Broker(tmp_path / "data") as broker:
        await broker.declare_queue("q")
        await broker.declare_stream("archive")
        await broker.verbs.bind("t", Target("stream", "archive"), BindingSettings())
        await broker.publish_many("t", [b"x"] * 100)
        await broker.verbs.bind("t", target, BindingSettings())
        policy = ReplayPolicy("archive", rate=1)
        made = await broker.verbs.replay("t", target, policy)
        ended = await broker.verbs.cancel_replay(made.id)
        assert (made.state, ended.state) == ("running", "cancelled")
    async with Broker(tmp_path / "data") as broker:
        assert await broker.verbs.list_replays() == [ended]
