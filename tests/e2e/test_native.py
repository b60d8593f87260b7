"""The native protocol against a broker in another process: work, SIGKILL, restart, go on."""

import asyncio
import signal
import sys
from contextlib import asynccontextmanager

import pytest

from braidmq.broker import BraidError, LeaseLost
from braidmq.protocols import connect
from tests.ports import kept_port

SERVER = """
import asyncio, sys
from braidmq.broker import Broker
from braidmq.protocols import serve

async def main():
    async with Broker(sys.argv[1]) as broker, serve(broker, sys.argv[2]) as server:
        print(server.urls[0], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


@asynccontextmanager
async def server(directory, url="braid://127.0.0.1:0"):
    """A broker in a process of its own: (process, url)."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SERVER,
        str(directory),
        url,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        yield process, (await process.stdout.readline()).decode().strip()
    finally:
        process.stdin.close()
        if process.returncode is None:
            await process.wait()


async def test_a_day_at_work(tmp_path):
    async with server(tmp_path / "data") as (process, url):
        async with connect(url) as producer, connect(url) as consumer:
            queue = await producer.declare_queue("orders", max_receives=2, dead_letter="bad")
            bodies = [b"%d" % number for number in range(3_000)]
            sending = asyncio.ensure_future(queue.send_many(bodies))
            seen: list[bytes] = []
            async for message in consumer.queue("orders").consume(prefetch=100):
                if message.body.endswith(b"7"):
                    await message.nack()
                    if message.receives < 2:
                        continue
                else:
                    await message.ack()
                seen.append(message.body)
                if len(seen) == len(bodies):
                    break
            assert len(await sending) == len(bodies)
            assert sorted(seen) == sorted(bodies)
            info = await producer.queue("bad").info()
            assert info.messages == 300
            async with asyncio.timeout(60):
                while (await queue.info()).messages:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
    assert process.returncode == 0


@pytest.mark.parametrize("rounds", [3])
async def test_what_was_acknowledged_survives_a_kill(tmp_path, rounds):
    acknowledged: list[bytes] = []
    number = 0
    for _ in range(rounds):
        async with server(tmp_path / "data") as (process, url):
            async with connect(url, resume=False) as remote:
                queue = await remote.declare_queue("orders")

                async def produce(name, queue=queue):
                    count = 0
                    while True:
                        body = b"%d.%d" % (name, count)
                        try:
                            await queue.send(body)
                        except BraidError:
                            return
                        acknowledged.append(body)
                        count += 1

                producers = []
                for _ in range(20):
                    producers.append(asyncio.ensure_future(produce(number)))
                    number += 1
                before = len(acknowledged)
                async with asyncio.timeout(60):
                    while len(acknowledged) < before + 500:  # noqa: ASYNC110
                        await asyncio.sleep(0.001)
                process.send_signal(signal.SIGKILL)
                await asyncio.gather(*producers)
    async with server(tmp_path / "data") as (_, url), connect(url) as remote:
        found = [message.body async for message in remote.queue("orders").browse()]
    assert len(found) == len(set(found))
    assert not set(acknowledged) - set(found)
    # In order for each producer, and at most one more of each than it heard of.
    assert len(found) <= len(acknowledged) + number
    last: dict[bytes, int] = {}
    for body in found:
        name, _, count = body.partition(b".")
        assert int(count) == last.get(name, -1) + 1
        last[name] = int(count)


@pytest.fixture
def url():
    with kept_port() as port:
        yield f"braid://127.0.0.1:{port}"


async def test_clients_come_back_by_themselves(tmp_path, url):
    async with server(tmp_path / "data", url) as (first, _):
        remote = connect(url, timeout=60)
        await remote.__aenter__()
        queue = await remote.declare_queue("orders")
        messages = queue.consume(prefetch=10)
        await messages.__aenter__()
        stream = aiter(messages)
        await queue.send(b"before")
        held = await anext(stream)
        first.send_signal(signal.SIGKILL)
        await first.wait()
    async with server(tmp_path / "data", url):
        # Asked again by itself, because it changes nothing.
        assert (await queue.info()).messages == 1
        with pytest.raises(LeaseLost):
            await held.ack()
        await queue.send(b"after")
        bodies = set()
        for _ in range(2):
            message = await anext(stream)
            await message.ack()
            bodies.add(message.body)
        assert bodies == {b"before", b"after"}
        await messages.__aexit__(None, None, None)
        await remote.__aexit__(None, None, None)
