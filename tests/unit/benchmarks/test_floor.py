"""A server that only commits: it answers the load generator, and keeps what it was sent."""

import asyncio

from braidmq.benchmarks.floor import CommitOnly, FloorProcess
from braidmq.benchmarks.load import execute
from braidmq.benchmarks.meter import Plan


async def test_the_load_generator_can_speak_to_it(tmp_path):
    path = tmp_path / "file"
    with FloorProcess(str(path), 5) as floor:
        plan = Plan(
            url=floor.url, shape="fill", producers=3, window=2, batch=5, messages=60, seconds=20
        )
        run = await execute(plan)
    assert run.integrity.confirmed == run.left_over == 60
    assert (run.integrity.lost, run.problems) == (0, [])
    assert run.commits > 0
    assert path.stat().st_size > 60 * plan.size


async def test_an_answer_goes_out_when_its_bytes_are_written(tmp_path):
    answers: asyncio.Queue = asyncio.Queue()

    class Transport:
        def write(self, answer):
            answers.put_nowait((answer, (tmp_path / "file").read_bytes()))

    log = CommitOnly(str(tmp_path / "file"), asyncio.get_running_loop())
    log.append(b"part", Transport(), bytearray(b"answer"))  # type: ignore[arg-type]
    answer, content = await answers.get()
    assert answer == b"answer"
    assert content.endswith(b"part")
    log.close()
