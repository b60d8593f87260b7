"""braidmq schedule: add, ls, show, rm."""

import pytest


@pytest.fixture
def name(request, braidmq):
    """A queue with a name that nobody else has; its schedules are gone at the end."""
    name = f"s{abs(hash(request.node.nodeid))}"
    braidmq.ok("queue", "declare", name)
    yield name
    ids = [str(row["id"]) for row in braidmq.json("schedule", "ls") if row["name"] == name]
    if ids:
        braidmq.ok("schedule", "rm", *ids)


def rows(braidmq, name, *options):
    return [row for row in braidmq.json("schedule", "ls", *options) if row["name"] == name]


def test_a_message_is_sent_later(braidmq, name):
    done = braidmq("schedule", "add", "--queue", name, "--delay", "1ms", "-H", "a=b", "hello")
    assert "is sent at" in done.stderr
    number = done.stdout.strip()
    (line,) = braidmq.lines("receive", name, "--wait", "20s")
    assert line["body"] == "hello" and line["headers"] == {"a": "b", "schedule-id": number}


def test_a_schedule_from_its_beginning_to_its_end(braidmq, name):
    made = braidmq.json(
        *("schedule", "add", "--queue", name, "--delay", "1h", "--every", "10s", "--repeat", "9"),
        *("--ttl", "5m", "--priority", "7", "--content-type", "text/plain", "two words"),
    )
    timing = {"delay_ms": 3_600_000, "period_ms": 10_000, "repeat": 9, "cron": ""}
    assert (made["kind"], made["name"], made["timing"]) == ("queue", name, timing)
    number = str(made["id"])
    assert rows(braidmq, name) == [made]
    head, *lines = braidmq.ok("schedule", "ls").splitlines()
    assert head.split()[:4] == ["ID", "TARGET", "WHEN", "NEXT"]
    (line,) = [line for line in lines if name in line]
    assert f"queue {name}" in line and "after 1h, every 10s 10 times" in line
    shown = braidmq.json("schedule", "show", number)
    assert shown["body"] == "two words" and shown["headers"]["content-type"] == "text/plain"
    text = braidmq.ok("schedule", "show", number)
    assert "two words" in text and "content-type=text/plain" in text
    assert rows(braidmq, name, "--from", "30m", "--to", "2h") == [made]
    assert rows(braidmq, name, "--to", "30m") == rows(braidmq, name, "--from", "2099-01-01") == []
    assert braidmq.json("schedule", "rm", number) == {"removed": [made["id"]]}
    assert rows(braidmq, name) == []
    assert "schedule ls lists" in braidmq.fails(3, "schedule", "show", number)
    assert "no schedule" in braidmq.fails(3, "schedule", "rm", number)


def test_for_ever_and_by_cron(braidmq, name):
    made = braidmq.json("schedule", "add", "--queue", name, "--every", "1h", "x")
    assert made["timing"]["repeat"] == -1
    made = braidmq.json("schedule", "add", "--queue", name, "--cron", "0 4 * * *", "x")
    assert made["timing"] == {"delay_ms": 0, "period_ms": 0, "repeat": 0, "cron": "0 4 * * *"}
    lines = [line for line in braidmq.ok("schedule", "ls").splitlines() if name in line]
    assert "every 1h for ever" in lines[0] and "0 4 * * *" in lines[1] and "04:00:00Z" in lines[1]
    assert braidmq.json("schedule", "rm", "--to", "2099-01-01", "--yes")["removed"] >= 2
    assert rows(braidmq, name) == []


def test_bytes_are_shown_as_such(braidmq, name, tmp_path):
    path = tmp_path / "body"
    path.write_bytes(b"\xff\x00")
    made = braidmq.json("schedule", "add", "--queue", name, "--delay", "1h", "--file", str(path))
    assert braidmq.json("schedule", "show", str(made["id"]))["body_base64"] == "/wA="
    assert "removed" in braidmq.ok("schedule", "rm", "--all", "--yes")


def test_what_is_wrong_is_said(braidmq, name):
    add = ("schedule", "add", "x", "--queue", name)
    assert "5 fields" in braidmq.fails(2, *add, "--cron", "@daily")
    assert "has a period" in braidmq.fails(2, *add, "--repeat", "3")
    assert "one target" in braidmq.fails(2, *add, "--topic", "t")
    assert "no queue" in braidmq.fails(3, "schedule", "add", "x", "--queue", "none-such")
    assert "neither a time" in braidmq.fails(2, "schedule", "ls", "--from", "tomorrow")
    assert "say which" in braidmq.fails(2, "schedule", "rm")
    assert "say which" in braidmq.fails(2, "schedule", "rm", "3", "--all")
    assert "--yes" in braidmq.fails(2, "schedule", "rm", "--all")
