"""braidmq send: where the body comes from, what goes with it, and lines."""

import pytest


def test_a_body_from_the_command_line(braidmq, queue):
    sent = braidmq.json("send", queue, "hello", "-H", "tenant=a", "--content-type", "text/plain")
    assert set(sent) == {"id", "sequence", "duplicate"} and len(sent["id"]) == 32
    [message] = braidmq.lines("peek", queue)
    assert message["body"] == "hello" and message["id"] == sent["id"]
    assert message["headers"] == {"tenant": "a", "content-type": "text/plain"}


def test_the_id_is_what_is_printed(braidmq, queue):
    printed = braidmq.ok("send", queue, "x").strip()
    assert [m["id"] for m in braidmq.lines("peek", queue)] == [printed]


def test_a_body_from_stdin_or_a_file(braidmq, queue, tmp_path):
    body = b"\x00\xff\n\n"
    (tmp_path / "body").write_bytes(body)
    braidmq.ok("send", queue, input=body)
    braidmq.ok("send", queue, "-", input=body)
    braidmq.ok("send", queue, "--file", str(tmp_path / "body"))
    found = braidmq("receive", queue, "-n", "3", "--format", "%b").stdout_bytes
    assert found == body * 3


def test_delay_and_priority(braidmq, queue):
    braidmq.ok("send", queue, "later", "--delay", "1h")
    braidmq.ok("send", queue, "low", "--priority", "0")
    braidmq.ok("send", queue, "high", "--priority", "9")
    assert braidmq.ok("receive", queue, "-n", "9") == "high\nlow\n"
    assert braidmq.ok("peek", queue, "--state", "delayed") == "later\n"


def test_every_line_is_a_message(braidmq, queue):
    results = braidmq.lines("send", queue, "--lines", input="a\r\nb\n\nd")
    assert len(results) == 4 and not any(result["duplicate"] for result in results)
    assert braidmq.ok("receive", queue, "-n", "9", "--format", "[%b]") == "[a][b][][d]"


def test_lines_in_small_batches_from_a_file(braidmq, queue, tmp_path):
    (tmp_path / "lines").write_text("".join(f"{number}\n" for number in range(1_000)))
    result = braidmq("send", queue, "--lines", "--file", str(tmp_path / "lines"), "--batch", "7")
    assert result.exit_code == 0 and "sent 1000 messages" in result.stderr
    received = braidmq.ok("receive", queue, "-n", "1000")
    assert received.split() == [str(number) for number in range(1_000)]


def test_no_lines_are_no_messages(braidmq, queue):
    result = braidmq("send", queue, "--lines", input="")
    assert result.exit_code == 0 and "sent 0 messages" in result.stderr


def test_a_refused_line_is_named_and_ends_it(braidmq, queue):
    braidmq.ok("queue", "update", queue, "--messages-max", "2")
    result = braidmq("send", queue, "--lines", input="a\nb\nc\n")
    assert result.exit_code == 1
    assert "sent 2 messages" in result.stderr and "line 3: " in result.stderr


def test_groups_and_duplicates(braidmq, queue):
    name = f"{queue}.fifo"
    braidmq.ok("queue", "declare", name, "--fifo")
    first = braidmq.json("send", name, "x", "--group", "g", "--dedup-id", "1")
    again = braidmq.json("send", name, "x", "--group", "g", "--dedup-id", "1")
    assert (first["duplicate"], again["duplicate"]) == (False, True)
    assert braidmq.ok("receive", name, "--format", "%g %d %b") == "g 1 x"


@pytest.mark.parametrize(
    ("args", "status", "expected"),
    [
        (["x", "--file", "f"], 2, "exclude each other"),
        (["x", "--lines"], 2, "there is no BODY"),
        (["x", "-H", "novalue"], 2, "write NAME=VALUE"),
        (["x", "--delay", "soon"], 2, "'soon' is not a duration"),
        (["x", "--priority", "10"], 2, "0<=x<=9"),
        (["--file", "missing"], 3, "missing"),
    ],
)
def test_what_send_refuses(braidmq, queue, args, status, expected):
    assert expected in braidmq.fails(status, "send", queue, *args)


def test_no_queue_is_not_found(braidmq):
    assert "there is no queue" in braidmq.fails(3, "send", "nowhere", "x")
