"""braidmq stream append, read and tail."""

import pytest


@pytest.fixture
def name(request):
    return f"r{abs(hash(request.node.nodeid))}"


@pytest.fixture
def stream(braidmq, name):
    braidmq.ok("stream", "declare", name, "--shards", "2")
    return name


def test_append_arguments(braidmq, stream):
    done = braidmq("stream", "append", stream, "one", "two", "--hash-key", "0", "-H", "a=b")
    assert (done.stdout, done.stderr) == ("0:1\n0:2\n", "appended 2 records\n")
    rows = braidmq.lines("stream", "append", stream, "three", "--hash-key", str(2**128 - 1))
    assert rows == [{"shard": 1, "number": 1}]
    read = braidmq.lines("stream", "read", stream, "--shard", "0")
    assert [(row["number"], row["body"], row["headers"]) for row in read] == [
        (1, "one", {"a": "b"}),
        (2, "two", {"a": "b"}),
    ]


def test_append_lines(braidmq, stream):
    lines = "".join(f'{{"user": {{"id": {n % 3}}}, "n": {n}}}\n' for n in range(2_500))
    braidmq.ok("stream", "append", stream, "--key-from-json", "user.id", input=lines)
    rows = braidmq.lines("stream", "read", stream)
    assert len(rows) == 2_500
    assert {row["key"] for row in rows} == {"0", "1", "2"}
    assert len({(row["key"], row["shard"]) for row in rows}) == 3
    keyed = braidmq.ok("stream", "append", stream, "--key", "k", input="a\nb\n")
    assert len({line.split(":")[0] for line in keyed.splitlines()}) == 1


def test_append_says_which_record_is_wrong(braidmq, stream):
    append = ("stream", "append", stream)
    error = braidmq.fails(2, *append, "--key-from-json", "k", input='{"k": "a"}\n{}\n')
    assert "record 2: no field k" in error
    for line in ("x", "[]", '{"k": 1.5}', '{"k": true}', "[" * 100_000):
        assert "record 1: " in braidmq.fails(2, *append, "--key-from-json", "k", input=line)
    braidmq.ok("stream", "update", stream, "--record-bytes-max", "5")
    result = braidmq(*append, input="a\n123456\nb\n")
    assert result.exit_code == 1 and "record 2: " in result.stderr
    assert "appended 2 records" in result.stderr
    braidmq.fails(2, *append, "--key", "k", "--key-from-json", "k", "x")
    braidmq.fails(2, *append, "--hash-key", "x", "x")
    braidmq.fails(2, *append, "--hash-key", str(2**128), "x")
    braidmq.fails(3, "stream", "append", stream + "x", "x")


def test_read_begins_and_ends_where_it_is_told(braidmq, stream):
    braidmq.ok("stream", "append", stream, *"abcdef", "--hash-key", "0")
    read = ("stream", "read", stream)
    assert braidmq.ok(*read) == "a\nb\nc\nd\ne\nf\n"
    assert braidmq.ok(*read, "-n", "2") == "a\nb\n"
    assert braidmq.ok(*read, "--shard", "0", "--start", "5") == "e\nf\n"
    assert braidmq.ok(*read, "--start", "latest") == ""
    assert braidmq.ok(*read, "--start", "-1h", "--format", "%s/%n ") == "0/1 0/2 0/3 0/4 0/5 0/6 "
    assert braidmq.ok(*read, "--start", "2999-01-01") == ""
    braidmq.fails(2, *read, "--start", "5")
    braidmq.fails(2, *read, "--shard", "0", "--start", "50")
    braidmq.fails(2, *read, "--start", "soon")
    braidmq.fails(3, *read, "--shard", "9")
    braidmq.fails(3, "stream", "read", stream + "x")


def test_tail_waits_for_as_long_as_it_is_told(braidmq, stream):
    braidmq.ok("stream", "append", stream, "a", "b")
    tail = ("stream", "tail", stream)
    assert braidmq.ok(*tail, "--wait", "20ms") == ""
    assert braidmq.ok(*tail, "--wait", "20ms", "--start", "earliest") == "a\nb\n"
    assert braidmq.ok(*tail, "-n", "1", "--start", "-1m") == "a\n"
