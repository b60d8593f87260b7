"""braidmq receive, ack and nack: what is printed is acknowledged, in this order."""

import json

import pytest


def test_one_message_is_printed_and_acknowledged(braidmq, queue):
    braidmq.ok("send", queue, "--lines", input="a\nb\n")
    assert braidmq.ok("receive", queue) == "a\n"
    assert braidmq.ok("receive", queue) == "b\n"
    result = braidmq("receive", queue)
    assert (result.exit_code, result.stdout) == (0, "") and "no message" in result.stderr
    assert braidmq.json("queue", "show", queue)["messages"] == 0


def test_json_has_a_line_for_each_message(braidmq, queue):
    braidmq.ok("send", queue, "text")
    braidmq.ok("send", queue, input=b"\xff")
    text, binary = braidmq.lines("receive", queue, "-n", "9")
    assert text["body"] == "text" and text["receives"] == 1
    assert binary["body_base64"] == "/w==" and "body" not in binary


def test_waiting_for_a_message_that_comes(braidmq, queue):
    braidmq.ok("send", queue, "x", "--delay", "300ms")
    assert braidmq.ok("receive", queue, "--wait", "20s") == "x\n"


def test_more_than_one_batch(braidmq, queue):
    braidmq.ok("send", queue, "--lines", input="x\n" * 2_500)
    assert braidmq.ok("receive", queue, "-n", "9999") == "x\n" * 2_500


def test_no_ack_leaves_it_leased_until_ack_or_nack(braidmq, queue):
    braidmq.ok("send", queue, "--lines", input="a\nb\n")
    held = braidmq.lines("receive", queue, "-n", "2", "--no-ack", "--visibility", "1h")
    assert braidmq.json("queue", "show", queue)["in_flight"] == 2
    assert braidmq.json("ack", queue, held[0]["receipt"]) == {"acknowledged": 1, "lost": []}
    assert braidmq.json("nack", queue, held[1]["receipt"]) == {"returned": 1, "lost": []}
    [again] = braidmq.lines("receive", queue)
    assert again["body"] == "b" and again["receives"] == 2


def test_nack_with_a_delay(braidmq, queue):
    braidmq.ok("send", queue, "a")
    [held] = braidmq.lines("receive", queue, "--no-ack")
    braidmq.ok("nack", queue, held["receipt"], "--delay", "1h")
    assert braidmq.json("queue", "show", queue)["delayed"] == 1


def test_a_lost_lease_is_reported(braidmq, queue):
    braidmq.ok("send", queue, "a")
    [held] = braidmq.lines("receive", queue, "--no-ack")
    braidmq.ok("ack", queue, held["receipt"])
    result = braidmq("ack", queue, held["receipt"], "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["lost"][0]["error"] == "lease-lost"
    assert json.loads(result.stderr)["error"] == "lease-lost"


def test_follow_ends_after_count(braidmq, queue):
    braidmq.ok("send", queue, "--lines", input="x\n" * 1_500)
    assert braidmq.ok("receive", queue, "--follow", "-n", "1200") == "x\n" * 1_200
    assert braidmq.json("queue", "show", queue)["messages"] == 300


def test_a_selector(braidmq, queue):
    for region in ("EU", "US", "EU"):
        braidmq.ok("send", queue, region, "-H", f"region={region}")
    assert braidmq.ok("receive", queue, "-n", "9", "--selector", "region = 'EU'") == "EU\nEU\n"


@pytest.mark.parametrize(
    ("command", "args", "expected"),
    [
        ("receive", ["--follow", "--no-ack"], "--follow acknowledges"),
        ("receive", ["--follow", "--wait", "1s"], "are not for --follow"),
        ("receive", ["--format", "%z"], "'%z' stands for nothing"),
        ("receive", ["-n", "0"], "x>=1"),
        ("receive", ["--selector", "= ="], "selector"),
        ("ack", ["17"], "'17' is not a receipt"),
        ("nack", [], "Missing argument"),
    ],
)
def test_what_is_refused(braidmq, queue, command, args, expected):
    assert expected in braidmq.fails(2, command, queue, *args)


def test_no_queue_is_not_found(braidmq):
    for args in (["receive"], ["receive", "--follow"]):
        assert "there is no queue" in braidmq.fails(3, args[0], "nowhere", *args[1:])
