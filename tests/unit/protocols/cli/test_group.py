"""braidmq group: where groups are, and how they are moved."""

import asyncio

import pytest

from braidmq.protocols import connect


@pytest.fixture
def name(request):
    return f"g{abs(hash(request.node.nodeid))}"


def consume(url, stream, group, count):
    """Have a member of the group read so many records, then leave."""

    async def work():
        async with connect(url) as broker, broker.stream(stream).join(group) as member:
            seen = 0
            async for batch in member.batches(max=1):
                await batch.checkpoint()
                seen += 1
                if seen == count:
                    return

    asyncio.run(work())


def test_groups(braidmq, served, name):
    braidmq.ok("stream", "declare", name)
    assert "no groups" in braidmq("group", "ls", name).stderr
    braidmq.ok("stream", "append", name, *"abcd")
    consume(served.url, name, "analytics", 3)
    [row] = braidmq.json("group", "ls", name)
    assert (row["name"], row["lag"], row["members_count"]) == ("analytics", 1, 0)
    head, line = braidmq.ok("group", "ls", name, "ana").splitlines()
    assert head.split()[0] == "NAME" and line.split()[:3] == ["analytics", "0", "1"]
    assert braidmq.json("group", "ls", name, "x") == []
    shown = braidmq.json("group", "show", name, "analytics")
    assert shown["shards"][0]["number"] == 4 and shown["shards"][0]["state"] == "free"
    text = braidmq.ok("group", "show", name, "analytics")
    assert "earliest" in text and "free" in text
    braidmq.fails(3, "group", "show", name, "none")
    braidmq.fails(3, "group", "ls", name + "x")


def test_reset_and_rm(braidmq, served, name):
    braidmq.ok("stream", "declare", name)
    braidmq.ok("stream", "append", name, *"abcd")
    consume(served.url, name, "g", 4)
    reset = ("group", "reset", name, "g")
    done = braidmq(*reset, "--to", "earliest", "--yes")
    assert "4 records before it" in done.stderr
    assert braidmq.json(*reset, "--to", "3", "--shard", "0", "--yes")["lag"] == 2
    assert braidmq.json(*reset, "--to", "-1h", "--yes")["lag"] == 4
    assert braidmq.json(*reset, "--to", "latest", "--yes")["lag"] == 0
    braidmq.fails(2, *reset, "--to", "3", "--yes")
    braidmq.fails(2, *reset, "--to", "latest")
    braidmq.fails(2, *reset, "--yes")
    assert braidmq.json("group", "rm", name, "g", "--yes") == {"removed": ["g"]}
    braidmq.fails(3, "group", "rm", name, "g", "--yes")
    braidmq.fails(2, "group", "rm", name, "g")


def test_a_group_with_members_is_moved_by_force_only(braidmq, served, name):
    braidmq.ok("stream", "declare", name)
    braidmq.ok("stream", "append", name, *"abcd")

    async def work():
        async with connect(served.url) as broker, broker.stream(name).join("g") as member:
            batch = await anext(member.batches())
            assert len(batch.records) == 4
            reset = ("group", "reset", name, "g", "--to", "latest", "--yes")
            await asyncio.to_thread(lambda: braidmq.fails(5, *reset))
            await asyncio.to_thread(lambda: braidmq.ok(*reset, "--force"))
            text = await asyncio.to_thread(braidmq.ok, "group", "show", name, "g")
            assert "held" in text and "JOINED" in text
            await asyncio.to_thread(braidmq.fails, 5, "group", "rm", name, "g", "--yes")

    asyncio.run(work())
