"""braidmq publish: a message, lines, JSON lines."""

import json

import pytest


@pytest.fixture
def topic(request):
    return f"publish/{abs(hash(request.node.nodeid))}"


def retained(braidmq, topic):
    return braidmq.lines("subscribe", topic, "--wait", "300ms")


def test_a_message_is_published_and_kept(braidmq, topic):
    done = braidmq.json("publish", topic, "21", "--retain", "-H", "unit=C", "--ttl", "1h")
    assert done == {"topic": topic, "matched": 0}
    [message] = retained(braidmq, topic)
    assert (message["topic"], message["body"], message["retained"]) == (topic, "21", True)
    assert message["headers"]["unit"] == "C"
    assert "matched 0" in braidmq("publish", topic, "", "--retain").stderr
    assert retained(braidmq, topic) == []


def test_a_body_from_stdin_or_a_file(braidmq, topic, tmp_path):
    (tmp_path / "body").write_bytes(b"\xff")
    braidmq.ok("publish", topic, "--file", str(tmp_path / "body"), "--retain")
    assert retained(braidmq, topic)[0]["body_base64"] == "/w=="
    braidmq.ok("publish", topic, "--retain", "--qos", "0", input="piped")
    assert retained(braidmq, topic)[0]["body"] == "piped"


def test_every_line_is_a_message(braidmq, topic):
    assert (
        braidmq.lines("publish", topic, "--lines", "--batch", "2", input="a\nb\nc\n")
        == [{"topic": topic, "matched": 0}] * 3
    )
    assert "published 2 messages" in braidmq("publish", topic, "--lines", input="a\nb").stderr


def test_json_lines_are_what_subscribe_prints(braidmq, topic):
    lines = [
        {"topic": topic + "/1", "body": "x", "headers": {"a": "b"}, "retain": True},
        {"body_base64": "/w==", "retain": True, "headers": {"raw": {"base64": "AP8="}}},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    done = braidmq.lines("publish", topic, "--ndjson", "-H", "more=1", input=text)
    assert [row["topic"] for row in done] == [topic + "/1", topic]
    one, two = sorted(retained(braidmq, topic + "/#"), key=lambda m: -len(m["topic"]))
    assert one["headers"]["a"] == "b" and one["headers"]["more"] == "1"
    assert two["headers"]["raw"] == {"base64": "AP8="} and two["body_base64"] == "/w=="


@pytest.mark.parametrize(
    "line",
    [
        "x",
        "[]",
        "{}",
        '{"body": 1}',
        '{"body_base64": "?"}',
        '{"body": "", "topic": 1}',
        '{"body": "", "headers": {"a": 1}}',
        '{"body": "", "headers": []}',
    ],
)
def test_json_lines_that_are_none_are_named(braidmq, topic, line):
    assert "line 2: " in braidmq.fails(
        2, "publish", topic, "--ndjson", input='{"body": "ok"}\n' + line
    )


def test_usage(braidmq, topic):
    assert "give one" in braidmq.fails(2, "publish", topic, "x", "--lines")
    assert "give one" in braidmq.fails(2, "publish", topic, "--ndjson", "--lines")
    assert "wildcards" in braidmq.fails(2, "publish", "a/#", "x")
    assert "line 1: " in braidmq.fails(
        1, "publish", topic, "--lines", input="x" * (5 * 1024 * 1024)
    )


def test_without_the_right_nothing_is_published(guarded, offline, tmp_path):
    (tmp_path / "password").write_text("correct horse")
    as_alice = ("--user", "alice", "--password-file", str(tmp_path / "password"))
    offline.fails(4, "publish", "a", "x", "--url", guarded.url, *as_alice)
    offline.fails(4, "subscribe", "a", "--url", guarded.url, *as_alice)
    assert offline.json("topic", "ls", "--url", guarded.url, *as_alice) == []
