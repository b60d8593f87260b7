"""braidmq log: verify and dump on a directory that a broker wrote."""

import asyncio
import json

import pytest

from braidmq.broker import Broker


@pytest.fixture
def data(tmp_path):
    """A data directory with 30 messages, and no checkpoint that would let them go."""

    async def fill():
        async with Broker(tmp_path / "data") as broker:
            queue = await broker.declare_queue("orders")
            for number in range(30):
                await queue.send(b"body %d \xff" % number)

    asyncio.run(fill())
    return tmp_path / "data"


def damage(data):
    """Flip a bit in the middle of the log."""
    segment = max((data / "shard-00").glob("wal-*.log"), key=lambda path: path.stat().st_size)
    content = bytearray(segment.read_bytes())
    content[len(content.rstrip(b"\0")) // 2] ^= 1
    segment.write_bytes(content)


def test_verify_a_good_one(offline, data):
    *_, result = offline.lines("log", "verify", str(data))
    assert result["event"] == "result" and result["problems"] == [] and result["records"] >= 31
    shown = offline("log", "verify", str(data))
    assert shown.exit_code == 0 and "is intact" in shown.stderr and "problems" in shown.stdout
    assert offline.ok("log", "verify", str(data), "-q") == ""


def test_verify_a_damaged_one(offline, data):
    damage(data)
    result = offline("log", "verify", str(data), "--json")
    assert result.exit_code == 74
    assert json.loads(result.stdout.splitlines()[-1])["problems"]
    assert json.loads(result.stderr)["error"] == "damaged-log"
    result = offline("log", "verify", str(data))
    assert (
        result.exit_code == 74 and "damaged: " in result.stdout and "--accept-loss" in result.stderr
    )


def test_dump(offline, data):
    records = offline.lines("log", "dump", str(data))
    assert {"lsn", "type", "epoch"} <= records[0].keys()
    messages = offline.lines("log", "dump", str(data), "--type", "message")
    assert len(messages) == 30
    assert "body" not in messages[0] and messages[0]["body_base64"]
    later = offline.lines("log", "dump", str(data), "--from", str(messages[20]["lsn"]), "-n", "3")
    assert [record["lsn"] for record in later] == [each["lsn"] for each in messages[20:23]]
    line = offline.ok("log", "dump", str(data), "--type", "message").splitlines()[0]
    assert line.split()[1] == "message" and "body=b'body 0 \\xff'" in line


def test_what_is_no_data_directory(offline, tmp_path):
    assert "does not exist" in offline.fails(2, "log", "verify", str(tmp_path / "missing"))
    for command in ("verify", "dump"):
        assert "holds no log" in offline.fails(74, "log", command, str(tmp_path))
