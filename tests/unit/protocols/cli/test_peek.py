"""braidmq peek: looking changes nothing."""


def test_peek_shows_all_states_and_changes_nothing(braidmq, queue):
    braidmq.ok("send", queue, "--lines", input="a\nb\n")
    braidmq.ok("send", queue, "later", "--delay", "1h")
    braidmq.ok("receive", queue, "--no-ack", "--visibility", "1h")
    before = braidmq.json("queue", "show", queue)
    states = {message["body"]: message["state"] for message in braidmq.lines("peek", queue)}
    assert states == {"a": "in-flight", "b": "ready", "later": "delayed"}
    assert braidmq.json("queue", "show", queue) == before


def test_peek_takes_count_after_state_and_selector(braidmq, queue):
    for number in range(250):
        if number % 100 == 0:
            braidmq.ok("send", queue, f"marked {number}", "-H", "mark=yes")
    braidmq.ok("send", queue, "--lines", input="".join(f"{number}\n" for number in range(250)))
    assert len(braidmq.lines("peek", queue, "-n", "1000")) == 253
    first, second = braidmq.lines("peek", queue, "-n", "2")
    [after] = braidmq.lines("peek", queue, "-n", "1", "--after", str(first["sequence"]))
    assert after == second
    marked = braidmq.lines("peek", queue, "-n", "9", "--selector", "mark = 'yes'")
    assert [message["headers"] for message in marked] == [{"mark": "yes"}] * 3


def test_an_empty_queue_has_nothing_to_see(braidmq, queue):
    result = braidmq("peek", queue)
    assert (result.exit_code, result.stdout) == (0, "") and "no message" in result.stderr
    assert "there is no queue" in braidmq.fails(3, "peek", "nowhere")
