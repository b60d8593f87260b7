"""Bindings as people write them: the same in process and over the wire."""

from contextlib import asynccontextmanager

import pytest

from braidmq.broker import Broker, InvalidArgument, NotFound
from braidmq.broker.paging import PAGE_ENTRIES
from braidmq.protocols import connect, serve


@asynccontextmanager
async def local():
    async with Broker() as broker:
        yield broker


@asynccontextmanager
async def remote():
    async with Broker() as broker, serve(broker, "braid://127.0.0.1:0") as server:
        async with connect(server.urls[0]) as client:
            yield client


@pytest.fixture(params=[local, remote], ids=["local", "remote"])
async def broker(request):
    async with request.param() as broker:
        yield broker


async def test_a_topic_is_bound_published_to_and_unbound(broker):
    audit = await broker.declare_queue("audit")
    await broker.declare_queue("dead")
    info = await broker.bind("orders/#", queue="audit", where="region = 'EU'", dead_letter="dead")
    assert (info.filter, info.target.name, info.settings.where) == (
        "orders/#",
        "audit",
        "region = 'EU'",
    )
    assert await broker.publish("orders/1", b"1", headers={"region": "EU"}) == 1
    assert await broker.publish("orders/1", b"2", headers={"region": "US"}) == 0
    (message,) = await audit.receive(max=10)
    assert message.body == b"1" and message.headers["topic"] == "orders/1"
    await broker.bind("orders/#", queue="audit", filter={"region": ["US"]})
    assert await broker.publish("orders/1", b"3", headers={"region": "US"}) == 1
    await broker.bind("orders/#", queue="audit", filter='{"n": [1]}', scope="body", raw=False)
    assert await broker.publish("orders/1", b'{"n": 1}') == 1
    shown = await broker.binding("orders/#", queue="audit")
    assert shown.settings.policy == '{"n":[1]}' and not shown.settings.raw
    await broker.unbind("orders/#", queue="audit")
    assert await broker.publish("orders/1", b'{"n": 1}') == 0
    with pytest.raises(NotFound):
        await broker.binding("orders/#", queue="audit")


async def test_lists_are_read_as_one(broker):
    await broker.declare_queue("a")
    await broker.declare_queue("b")
    for number in range(PAGE_ENTRIES + 3):
        await broker.verbs.bind(f"t/{number}", *_plain("a"))
    await broker.bind("t/0", queue="b")
    found = [info async for info in broker.bindings()]
    assert len(found) == PAGE_ENTRIES + 4
    assert [info.filter async for info in broker.bindings(queue="b")] == ["t/0"]
    assert [info.target.name async for info in broker.bindings("t/0")] == ["a", "b"]


def _plain(queue: str):
    from braidmq.broker.bindings import BindingSettings
    from braidmq.broker.bindingverbs import Target

    return Target("queue", queue), BindingSettings()


@pytest.mark.parametrize("target", [{}, {"queue": "a", "stream": "b"}])
async def test_a_binding_has_one_target(broker, target):
    with pytest.raises(InvalidArgument, match="one target"):
        await broker.bind("t", **target)


async def test_a_policy_that_is_no_json_is_refused(broker):
    await broker.declare_queue("a")
    for policy in ({"a": [b"bytes"]}, {"a": [float("nan")]}):
        with pytest.raises(InvalidArgument, match="policy"):
            await broker.bind("t", queue="a", filter=policy)
