"""Streams end to end: the daemon, its command and clients, over a kill and a reshard."""

import asyncio
import json
import subprocess

import pytest

from braidmq.broker import Disconnected
from braidmq.protocols import connect
from tests.e2e.test_cli_daemon import COMMAND, environment, serve

__all__ = ["serve"]  # the fixture

SECONDS = 60
pytestmark = pytest.mark.slow


def test_what_was_appended_survives_a_kill_at_its_numbers(serve):
    first = serve()
    first("stream", "declare", "clicks", "--shards", "2", "--retention", "7d")
    lines = "".join(f'{{"user": "u{n % 9}", "n": {n}}}\n' for n in range(3_000))
    placed = first("stream", "append", "clicks", "--key-from-json", "user", input=lines)
    first("stream", "split", "clicks", "0")
    first("stream", "append", "clicks", "--key", "u1", "late")
    before = first("stream", "export", "clicks")
    first.process.kill()
    first.process.wait(SECONDS)
    first.ready.unlink()
    second = serve()
    assert second("stream", "export", "clicks") == before
    rows = [json.loads(line) for line in before.splitlines()]
    kept = {f"{row['shard']}:{row['number']}" for row in rows}
    assert set(placed.splitlines()) <= kept and len(kept) == 3_001
    shown = json.loads(second("stream", "show", "clicks", "--json"))
    assert [shard["closed"] for shard in shown["shards"]] == [True, False, False, False]
    for key in {row["key"] for row in rows}:
        numbers = [row["number"] for row in rows if row["key"] == key]
        assert numbers == sorted(numbers), "numbers rise along the life of a key"
    assert second.stop() == 0


def test_a_reader_prints_what_comes_through_a_reshard(serve):
    daemon = serve()
    daemon("stream", "declare", "s")
    follow = [*COMMAND, "stream", "tail", "s", "--start", "earliest", "--url", daemon.url]
    with subprocess.Popen(follow, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        daemon("stream", "append", "s", "one")
        assert process.stdout.readline() == "one\n"
        daemon("stream", "rescale", "s", "3")
        daemon("stream", "append", "s", "two")
        assert process.stdout.readline() == "two\n"
        process.kill()
    assert daemon.stop() == 0


def test_members_in_two_programs_share_a_stream_and_take_over(serve):
    daemon = serve()
    daemon("stream", "declare", "s", "--shards", "4")
    lines = "".join(f'{{"k": "{n % 40}"}}\n' for n in range(400))
    daemon("stream", "append", "s", "--key-from-json", "k", input=lines)

    async def work() -> int:
        async with connect(daemon.url) as here, connect(daemon.url) as there:
            async with here.stream("s").join("g") as one:
                batches = one.batches(max=10)
                seen = 0
                while seen < 50:
                    batch = await anext(batches)
                    await batch.checkpoint()
                    seen += len(batch.records)
                async with there.stream("s").join("g") as two:
                    others = two.batches(max=10)
                    while len(two.shards) < 2:
                        batch = await anext(batches)
                        await batch.checkpoint()
                        seen += len(batch.records)
                        await asyncio.sleep(0)
                    batch = await anext(others)
                    await batch.checkpoint()
                    seen += len(batch.records)
                async with asyncio.timeout(SECONDS):
                    while (await here.stream("s").group("g").info()).lag:
                        batch = await anext(batches)
                        await batch.checkpoint()
                        seen += len(batch.records)
                return seen

    assert asyncio.run(work()) == 400, "nobody was killed, so nothing came twice"
    group = json.loads(daemon("group", "show", "s", "g", "--json"))
    assert (group["lag"], group["members_count"]) == (0, 0)
    assert daemon.stop() == 0


def test_an_export_that_is_killed_goes_on_where_it_was(serve, tmp_path):
    daemon = serve()
    daemon("stream", "declare", "s")
    daemon("stream", "append", "s", input="".join(f"{n}\n" for n in range(20_000)))
    file = tmp_path / "out.ndjson"
    export = ["stream", "export", "s", "--file", str(file)]
    with subprocess.Popen([*COMMAND, *export, "--url", daemon.url], env=environment()) as process:
        daemon.wait_until(lambda: process.poll() is not None or file.exists())
        process.kill()
    daemon(*export, "--resume")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["number"], row["body"]) for row in rows] == [
        (n + 1, str(n)) for n in range(20_000)
    ]
    daemon("stream", "declare", "copy")
    daemon("stream", "import", "copy", "--file", str(file))
    assert daemon("stream", "read", "copy") == daemon("stream", "read", "s")
    assert daemon.stop() == 0


def test_a_daemon_that_stops_says_so_to_whoever_reads(serve):
    daemon = serve()
    daemon("stream", "declare", "s")

    async def work() -> None:
        async with connect(daemon.url, resume=False) as broker:
            stream = broker.stream("s")
            reader = asyncio.ensure_future(anext(aiter(stream.read())))
            async with stream.join("g") as member:
                batches = asyncio.ensure_future(anext(member.batches()))
                while not member.shards:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(daemon.stop)
                for waiting in (reader, batches):
                    with pytest.raises(Disconnected):
                        await waiting

    asyncio.run(work())
