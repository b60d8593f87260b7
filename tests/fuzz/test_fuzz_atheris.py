"""No matter what bytes come, no target raises: the same invariants, guided by coverage.

Skipped where atheris has no wheels; hypothesis runs everywhere. `make test` tries the same inputs
every time; with BRAIDMQ_FUZZ_SECONDS, as in `make fuzz`, new ones for so long.
"""

import importlib.util
import os
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import msgpack
import pytest

from .budget import SECONDS
from .log_targets import scratch_place

pytestmark = [pytest.mark.slow]

SCRIPT = Path(__file__).with_name("atheris_targets.py")
MEMORY_MIB_MAX = 1_024
# About a second each.
RUNS = {"frames": 5_000, "session": 300, "stomp": 2_000, "parsers": 5_000, "recovery": 40}
# libFuzzer reads the most memory that its process ever had, and one that we start begins with ours.
# One that a small shell starts does not; `exit` keeps it from becoming what it starts.
AFRESH = ("sh", "-c", '"$@"; exit $?', "sh")
SEEDS = [
    [1, 1, 1, 1, "fuzz"],
    [3, 2, "q", [[b"one"], [b"two", msgpack.packb({"a": "b"}), 5, 5, 4, "", ""]]],
    [4, 3, "q", 10, 0],
    [5, 4, "q", 10],
    [8, 5, "q", [[1, 1]]],
    [12, 6, "q", 0, 10, "a = 1"],
    [16, 7, "new", {"fifo": True}],
]
STOMP_SEEDS = [
    b"SEND\ndestination:/queue/a\n\nx\0",
    b"\r\nSEND\r\na\\c:b\r\ncontent-length:3\r\nreceipt:1\r\n\r\nx\0y\0",
]


def seeds(folder: Path) -> None:
    """Sound requests to begin with, alone and together; frames of STOMP."""
    packed = [msgpack.packb(message, use_bin_type=True) for message in SEEDS]
    framed = [struct.pack(">I", len(payload)) + payload for payload in packed]
    for number, content in enumerate([*framed, b"".join(framed)]):
        (folder / f"seed-{number}").write_bytes(b"\0" + content)
    for number, content in enumerate(STOMP_SEEDS):
        (folder / f"stomp-{number}").write_bytes(b"\2\7" + content)


@pytest.mark.parametrize("target", RUNS)
def test_atheris_finds_nothing(target, tmp_path):
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: it has wheels for Linux on x86_64 only")
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    seeds(corpus)
    repeatable = (f"-runs={RUNS[target]}", "-seed=1")
    command = [
        *(*AFRESH, sys.executable, str(SCRIPT), target, str(corpus)),
        *((f"-max_total_time={SECONDS}",) if SECONDS else repeatable),
        *("-timeout=20", f"-rss_limit_mb={MEMORY_MIB_MAX}", "-max_len=2048"),
        f"-artifact_prefix={tmp_path}/",
    ]
    with tempfile.TemporaryDirectory(prefix="braidmq-fuzz-", dir=scratch_place()) as scratch:
        environment = os.environ | {"BRAIDMQ_FUZZ_SCRATCH": scratch}
        if not SECONDS:
            environment["PYTHONHASHSEED"] = "0"
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=SECONDS + 300
        )
    assert done.returncode == 0, done.stderr[-6_000:]
