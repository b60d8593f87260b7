"""The same scenarios without a network: through the Python face, and through the core."""

import pytest

from braidmq.benchmarks.load import execute
from braidmq.benchmarks.meter import Plan


def plan(tmp_path, durability, **changes):
    path = "" if durability == "memory" else str(tmp_path / "data")
    fields = {"messages": 60, "producers": 3, "size": 100, "seconds": 20, "patience": 5, **changes}
    return Plan(directory=path, durability=durability, **fields)


@pytest.mark.parametrize("durability", ["memory", "os", "sync"])
@pytest.mark.parametrize(("target", "mode"), [("face", "push"), ("face", "pull"), ("core", "push")])
@pytest.mark.parametrize(("batch", "window"), [(1, 2), (5, 1)])
async def test_every_message_goes_in_and_comes_out(
    tmp_path, target, mode, durability, batch, window
):
    wanted = plan(tmp_path, durability, target=target, mode=mode, batch=batch, window=window)
    run = await execute(wanted)
    found = run.integrity
    assert found.sent == found.confirmed == found.received == 60
    assert (found.lost, found.duplicate, found.corrupt) == (0, 0, 0)
    assert (run.refused, run.left_over, run.problems) == (0, 0, [])
    assert bool(run.commits) == (durability == "sync")


@pytest.mark.parametrize("target", ["face", "core"])
async def test_both_at_once(tmp_path, target):
    run = await execute(plan(tmp_path, "memory", target=target, shape="together"))
    assert run.integrity.received == 60
    assert run.delivery
    assert run.problems == []


@pytest.mark.parametrize("target", ["face", "core"])
async def test_a_fill_leaves_the_queue_full(tmp_path, target):
    run = await execute(plan(tmp_path, "memory", target=target, shape="fill"))
    assert (run.left_over, run.integrity.lost) == (60, 0)
