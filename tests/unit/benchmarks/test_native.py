"""The whole way: generator, sockets, a real broker. Tiny counts, no durations."""

import pytest

from braidmq.benchmarks.load import execute
from braidmq.benchmarks.meter import Plan
from braidmq.broker import Broker
from braidmq.broker.errors import NotFound
from braidmq.protocols import serve

ANYWHERE = "braid://127.0.0.1:0"


async def carried_out(**changes):
    fields = {"messages": 60, "producers": 3, "size": 100, "seconds": 20, "patience": 5, **changes}
    async with Broker() as broker, serve(broker, ANYWHERE, grace=1) as server:
        plan = Plan(url=server.urls[0], durability="memory", **fields)
        run = await execute(plan)
        if plan.shape != "fill":
            with pytest.raises(NotFound):
                await broker.queue(plan.queue).info()
        return run


@pytest.mark.parametrize("shape", ["apart", "together"])
@pytest.mark.parametrize("mode", ["push", "pull"])
@pytest.mark.parametrize(("batch", "window"), [(1, 1), (5, 2)])
async def test_every_message_goes_in_and_comes_out(shape, mode, batch, window):
    run = await carried_out(shape=shape, mode=mode, batch=batch, window=window, consumers=2)
    found = run.integrity
    assert found.sent == found.confirmed == found.received == 60
    assert (found.lost, found.duplicate, found.corrupt) == (0, 0, 0)
    assert (run.refused, run.left_over, run.problems) == (0, 0, [])


async def test_an_open_loop_follows_its_schedule():
    run = await carried_out(shape="together", rate=5000.0, window=50)
    assert run.integrity.received == run.integrity.confirmed >= 60
    assert run.lag
    assert run.delivery
    assert run.problems == []


async def test_a_fill_leaves_the_queue_full():
    run = await carried_out(shape="fill")
    assert run.left_over == 60
    assert run.integrity.lost == 0


async def test_a_wrong_plan_does_not_run():
    with pytest.raises(ValueError, match="window"):
        await execute(Plan(url=ANYWHERE, window=0))
