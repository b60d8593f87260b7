"""The examples run as they stand, by themselves and against the daemon."""

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.faults.daemon import Daemon

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


async def run(name: str, *arguments: str) -> str:
    """What an example prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


def check_trucks(output: str) -> None:
    found = re.fullmatch(
        r"published 2000 positions of 100 trucks, each once\n"
        r"stream: 2000 in order, at most (\d+) members at work\n"
        r"FIFO queue: 2000 in order, at most (\d+) consumers at work\n"
        r"queue audit: 2000\n"
        r"queue map: 2000\n",
        output,
    )
    assert found is not None, output
    assert int(found[1]) <= 5 < int(found[2]) <= 100


async def test_trucks_in_one_process():
    check_trucks(await run("trucks.py"))


async def test_trucks_with_a_daemon(tmp_path):
    async with Daemon(tmp_path / "data", tmp_path) as daemon:
        check_trucks(await run("trucks.py", f"braid://127.0.0.1:{daemon.port}"))
        assert await daemon.stop() == 0, daemon.log
