"""braidmq queue: every command, as people and as programs see it."""

import asyncio
import json

import pytest

from braidmq.broker.settings import QueueSettings
from braidmq.protocols import connect
from braidmq.protocols.cli.queue import _SETTINGS


def test_every_setting_has_an_option():
    names = {setting.field for setting in _SETTINGS} | {"tags", "start_ms"}  # see --start
    assert names == set(QueueSettings.__struct_fields__)


def test_declare_and_show(braidmq, queue):
    name = f"{queue}.x"
    made = braidmq.json(
        *("queue", "declare", name, "--visibility-timeout", "2m", "--max-receives", "5"),
        *("--dead-letter", f"{name}-dlq", "--durability", "os", "--bytes-max", "1MiB"),
        *("--overflow", "drop-oldest", "--tag", "team=a", "--tag", "x=1=2"),
    )
    settings = made["settings"]
    assert settings["visibility_timeout_ms"] == 120_000 and settings["durability"] == "os"
    assert settings["bytes_max"] == 2**20 and settings["tags"] == {"team": "a", "x": "1=2"}
    assert braidmq.json("queue", "show", name)["settings"] == settings
    text = braidmq.ok("queue", "show", name)
    assert "visibility_timeout   2m" in text and "durability           os" in text


@pytest.fixture
def stream(served, queue):
    name = f"{queue}.clicks"

    async def declare():
        async with connect(served.url) as broker:
            await broker.declare_stream(name)

    asyncio.run(declare())
    return name


@pytest.mark.parametrize(
    ("start", "shown"),
    [
        ("earliest", "start                earliest"),
        ("2026-05-01T12:00Z", "start                2026-05-01 12:00:00Z"),
        ("2026-05-01", "start                2026-05-01 00:00:00Z"),
    ],
)
def test_a_queue_that_shows_a_stream(braidmq, queue, stream, start, shown):
    name = f"{queue}.work"
    made = braidmq.json("queue", "declare", name, "--stream", stream, "--start", start)
    assert made["settings"]["stream"] == stream and made["lag"] == 0
    assert shown in braidmq.ok("queue", "show", name)
    assert "append to the stream" in braidmq.fails(2, "send", name, "x")


def test_a_start_that_is_none(braidmq, queue, stream):
    declare = ("queue", "declare", f"{queue}.work", "--stream", stream)
    assert "--start" in braidmq.fails(2, *declare, "--start", "tomorrow")
    assert "there is no stream" in braidmq.fails(3, *declare[:-1], "nowhere")


def test_declaring_again_is_nothing_and_otherwise_a_conflict(braidmq, queue):
    braidmq.ok("queue", "declare", queue)
    error = braidmq.fails(5, "queue", "declare", queue, "--fifo")
    assert "exists with other fifo" in error and "braidmq queue show" in error


def test_update(braidmq, queue):
    changed = braidmq.json("queue", "update", queue, "--delay", "5s", "--tag", "a=b")
    assert changed["settings"]["delay_ms"] == 5_000 and changed["settings"]["tags"] == {"a": "b"}
    assert "nothing to change" in braidmq.fails(2, "queue", "update", queue)
    assert "there is no queue" in braidmq.fails(3, "queue", "update", "nowhere", "--delay", "1s")
    assert "No such option" in braidmq.fails(2, "queue", "update", queue, "--fifo")


def test_ls(braidmq, queue):
    braidmq.ok("send", queue, "x")
    [row] = braidmq.json("queue", "ls", queue)
    assert row["name"] == queue and row["ready"] == 1
    head, line = braidmq.ok("queue", "ls", queue).splitlines()
    assert head.split()[:2] == ["NAME", "READY"] and line.split()[:2] == [queue, "1"]
    assert braidmq.ok("queue", "ls", queue, "-q").split()[0] == queue
    assert braidmq.json("queue", "ls", "nothing-like-that") == []
    assert "no queues" in braidmq("queue", "ls", "nothing-like-that").stderr


@pytest.mark.parametrize("command", ["rm", "purge"])
def test_nothing_is_destroyed_without_yes(braidmq, queue, command):
    braidmq.ok("send", queue, "x")
    error = braidmq.fails(2, "queue", command, queue, input="y\n")
    assert "add --yes" in error
    assert braidmq.json("queue", "show", queue)["messages"] == 1


def test_purge(braidmq, queue):
    braidmq.ok("send", queue, "--lines", input="a\nb\n")
    assert braidmq.json("queue", "purge", queue, "--yes") == {"queue": queue, "purged": 2}
    assert braidmq.json("queue", "show", queue)["messages"] == 0
    assert "there is no queue" in braidmq.fails(3, "queue", "purge", "nowhere", "--yes")


def test_rm(braidmq, queue):
    braidmq.ok("send", queue, "x")
    braidmq.fails(5, "queue", "rm", queue, "--if-empty", "--yes")
    assert braidmq.json("queue", "rm", queue, "--yes") == {"removed": [queue]}
    assert "there is no queue" in braidmq.fails(3, "queue", "show", queue)


def dead_letters(braidmq, queue, count):
    """A queue whose messages all became dead letters; the name of where they are."""
    dead = f"{queue}-dlq"
    braidmq.ok("queue", "update", queue, "--max-receives", "1", "--dead-letter", dead)
    braidmq.ok("send", queue, "--lines", input="x\n" * count)
    held = braidmq.lines("receive", queue, "-n", str(count), "--no-ack")
    braidmq.ok("nack", queue, *(message["receipt"] for message in held))
    braidmq.ok("receive", queue, "-n", str(count))
    assert braidmq.json("queue", "show", dead)["messages"] == count
    return dead


def test_redrive_brings_dead_letters_back(braidmq, queue):
    dead = dead_letters(braidmq, queue, 20)
    *_, result = braidmq.lines("queue", "redrive", dead)
    assert (result["event"], result["state"], result["moved"]) == ("result", "done", 20)
    assert braidmq.json("queue", "show", queue)["messages"] == 20
    assert [row["source"] for row in braidmq.json("queue", "redrives")].count(dead) == 1


def test_a_redrive_can_be_slow_watched_and_cancelled(braidmq, queue):
    dead = dead_letters(braidmq, queue, 20)
    other = f"{queue}-other"
    braidmq.ok("queue", "declare", other)
    [begun] = braidmq.lines("queue", "redrive", dead, "--to", other, "--rate", "1", "--no-wait")
    assert begun["state"] == "running" and begun["target"] == other
    ended = braidmq.json("queue", "redrive-cancel", str(begun["id"]))
    assert ended["state"] == "cancelled" and ended["moved"] < 20
    assert "braidmq queue redrives" in braidmq.fails(3, "queue", "redrive-cancel", "999999")


def test_progress_is_a_line_a_second_with_json(braidmq, queue):
    dead = dead_letters(braidmq, queue, 4)
    *steps, result = braidmq.lines("queue", "redrive", dead, "--rate", "2")
    assert result["event"] == "result" and result["moved"] == 4
    assert all(step["event"] == "progress" and step["total"] == 4 for step in steps)


def test_top(braidmq, queue):
    printed = braidmq.ok("queue", "top", queue, "-n", "2", "--interval", "10ms", "--json")
    looks = [json.loads(line) for line in printed.splitlines()]
    assert [[row["name"] for row in look] for look in looks] == [[queue], [queue]]
    assert looks[0][0]["sent_rate"] == 0
    assert "SENT RATE" in braidmq.ok("queue", "top", "-n", "1", "--interval", "1ms")


def test_bad_settings_are_refused(braidmq):
    for args, expected in (
        (["--max-receives", "3"], "need dead_letter"),
        (["--content-dedup"], "FIFO queues"),
        (["--delay", "2 parsecs"], "is not a duration"),
        (["--bytes-max", "many"], "is not a size"),
        (["--tag", "novalue"], "write NAME=VALUE"),
        (["--overflow", "explode"], "'reject', 'drop-oldest', 'dead-letter'"),
    ):
        assert expected in braidmq.fails(2, "queue", "declare", "q-bad", *args)
    assert "holds a space" in braidmq.fails(2, "queue", "declare", "a b")
