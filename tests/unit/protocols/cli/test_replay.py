"""braidmq topic replay, replays and replay-cancel."""

import asyncio

import pytest

from braidmq.protocols import connect

MESSAGES = 300


@pytest.fixture
def name(request, braidmq, served):
    """A queue, and an archive, of what was published to topics below its name."""
    name = f"r{abs(hash(request.node.nodeid))}"

    async def prepare() -> None:
        async with connect(served.url) as broker:
            await broker.declare_stream(f"{name}-archive")
            await broker.bind(f"{name}/#", stream=f"{name}-archive")
            await broker.publish_many(f"{name}/x", [b"hello"] * MESSAGES)
            await broker.declare_queue(name)
            await broker.bind(f"{name}/#", queue=name)

    asyncio.run(prepare())
    return name


def test_one_is_waited_for_and_listed(braidmq, name):
    command = ("topic", "replay", f"{name}/#", "--queue", name, "--archive", f"{name}-archive")
    assert f"is done: {MESSAGES} messages of {MESSAGES} records" in braidmq(*command).stderr
    assert braidmq.ok("receive", name) == "hello\n"
    for more in (("--from", "1h"), ("--from", "2020-01-01"), ("--from", "2020-01-01T00:00:00Z")):
        assert braidmq.lines(*command, *more)[-1]["replayed"] == MESSAGES
    info = braidmq.lines(*command, "--from", "2h", "--to", "1h")[-1]
    assert (info["state"], info["replayed"]) == ("done", 0)
    found = [row for row in braidmq.json("topic", "replays") if row["filter"] == f"{name}/#"]
    assert [row["state"] for row in found] == ["done"] * 5
    assert found[0]["policy"]["archive"] == f"{name}-archive"
    head, *lines = braidmq.ok("topic", "replays").splitlines()
    assert head.split()[:4] == ["ID", "FILTER", "TARGET", "ARCHIVE"]
    assert any(f"queue {name}  {name}-archive  done" in line for line in lines)


def test_one_goes_on_and_is_stopped(braidmq, name):
    command = ("topic", "replay", f"{name}/#", "--queue", name, "--archive", f"{name}-archive")
    info = braidmq.json(*command, "--rate", "0.1", "--no-wait")
    assert info["state"] == "running"
    stopped = braidmq.json("topic", "replay-cancel", str(info["id"]))
    assert (stopped["state"], stopped["id"]) == ("cancelled", info["id"])
    assert "is cancelled" in braidmq("topic", "replay-cancel", str(info["id"])).stderr


def test_what_fails_is_said(braidmq, name, served):
    command = ("topic", "replay", f"{name}/#", "--queue", name, "--archive", f"{name}-archive")
    info = braidmq.json(*command, "--rate", "5", "--no-wait")
    braidmq.ok("topic", "unbind", f"{name}/#", "--queue", name)
    for _ in range(1_000):
        (row,) = [each for each in braidmq.json("topic", "replays") if each["id"] == info["id"]]
        if row["state"] == "failed":
            break
    assert "not bound any more" in braidmq("topic", "replays").stderr


def test_what_is_wrong_is_said(braidmq, name):
    start = ("topic", "replay", f"{name}/#", "--queue", name)
    assert "no stream" in braidmq.fails(3, *start, "--archive", "none-such")
    braidmq.fails(2, *start)
    braidmq.fails(2, "topic", "replay", "t", "--archive", "a")
    assert "neither a time" in braidmq.fails(2, *start, "--archive", "a", "--from", "yesterday")
    braidmq.fails(2, *start, "--archive", "a", "--rate", "-1")
    said = braidmq.fails(3, "topic", "replay", "t", "--queue", name, "--archive", "a")
    assert "topic bindings" in said
    assert "replays lists" in braidmq.fails(3, "topic", "replay-cancel", "999999")
