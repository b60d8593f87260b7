"""braidmq stream export and import: what goes out comes in again."""

import json

import pytest


@pytest.fixture
def name(request):
    return f"x{abs(hash(request.node.nodeid))}"


@pytest.fixture
def stream(braidmq, name):
    braidmq.ok("stream", "declare", name, "--shards", "2")
    lines = "".join(f'{{"k": "key-{n % 7}", "n": {n}}}\n' for n in range(1_500))
    braidmq.ok("stream", "append", name, "--key-from-json", "k", "-H", "a=b", input=lines)
    return name


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


def content(rows):
    """What an import keeps, in the order of each key."""
    return sorted((row["key"], json.loads(row["body"])["n"], row["headers"]["a"]) for row in rows)


def test_what_goes_out_comes_in_again(braidmq, stream, tmp_path):
    file = tmp_path / "out.ndjson"
    braidmq.ok("stream", "split", stream, "0")
    result = braidmq.json("stream", "export", stream, "--file", str(file))
    assert (result["exported"], result["file"]) == (1_500, str(file))
    rows = rows_of(file.read_text())
    assert rows == rows_of(braidmq.ok("stream", "export", stream))
    braidmq.ok("stream", "declare", stream + "2", "--shards", "3")
    done = braidmq("stream", "import", stream + "2", "--file", str(file))
    assert done.exit_code == 0 and "imported 1500 records" in done.stderr
    copied = braidmq.lines("stream", "read", stream + "2")
    assert content(copied) == content(rows)
    for key in {row["key"] for row in rows}:
        order = [json.loads(row["body"])["n"] for row in copied if row["key"] == key]
        assert order == sorted(order)


def test_an_interrupted_export_goes_on_where_its_file_ends(braidmq, stream, tmp_path):
    whole = braidmq.ok("stream", "export", stream).encode()
    file = tmp_path / "out.ndjson"
    file.write_bytes(whole[: len(whole) // 2])
    export = ("stream", "export", stream, "--file", str(file), "--resume")
    result = braidmq.json(*export)
    assert 0 < result["exported"] < 1_500
    everything = {(row["shard"], row["number"]): row for row in rows_of(whole.decode())}
    found = {(row["shard"], row["number"]): row for row in rows_of(file.read_text())}
    assert found == everything and len(rows_of(file.read_text())) == 1_500
    assert braidmq.json(*export)["exported"] == 0
    braidmq.ok("stream", "append", stream, '{"n": 1}')
    assert braidmq.json(*export)["exported"] == 1
    file.write_text('{"other": 1}\n')
    assert "something else at byte 0" in braidmq.fails(2, *export)
    missing = tmp_path / "new.ndjson"
    result = braidmq.json("stream", "export", stream, "--file", str(missing), "--resume")
    assert result["exported"] == 1_501


def test_a_range(braidmq, stream):
    export = ("stream", "export", stream)
    rows = rows_of(braidmq.ok(*export, "--shard", "0", "--start", "5", "--until", "9"))
    assert [(row["shard"], row["number"]) for row in rows] == [(0, n) for n in (5, 6, 7, 8)]
    assert braidmq.ok(*export, "--start", "latest") == ""
    assert braidmq.ok(*export, "--until", "-1h") == ""
    assert len(rows_of(braidmq.ok(*export, "--start", "-1h"))) == 1_500
    assert braidmq.ok(*export, "--shard", "0", "--start", "9", "--until", "5") == ""
    braidmq.fails(2, *export, "--start", "5")
    braidmq.fails(2, *export, "--resume")
    braidmq.fails(3, "stream", "export", stream + "x")


def test_bytes_are_kept(braidmq, name):
    braidmq.ok("stream", "declare", name)
    braidmq.ok("stream", "append", name, input=b"\xff\xfe\nok\n")
    exported = braidmq.ok("stream", "export", name)
    assert [row.get("body_base64") for row in rows_of(exported)] == ["//4=", None]
    braidmq.ok("stream", "import", name, input=exported)
    again = rows_of(braidmq.ok("stream", "export", name))
    assert [row.get("body_base64", row.get("body")) for row in again] == ["//4=", "ok"] * 2


def test_import_says_which_line_is_wrong(braidmq, name):
    braidmq.ok("stream", "declare", name)
    for line in ("x", "[]", "{}", '{"body": 1}', '{"body_base64": "?"}', '{"body": "", "key": 1}'):
        error = braidmq.fails(2, "stream", "import", name, input='{"body": "ok"}\n' + line + "\n")
        assert "line 2: " in error, line
    assert braidmq.ok("stream", "read", name) == "", "a batch goes in as a whole or not at all"
    done = braidmq("stream", "import", name, "--skip", "2", input='x\ny\n{"body": "a"}\n\n')
    assert done.exit_code == 0 and braidmq.ok("stream", "read", name) == "a\n"
    braidmq.ok("stream", "update", name, "--record-bytes-max", "2")
    error = braidmq.fails(1, "stream", "import", name, input='{"body": "123"}')
    assert "line 1: " in error and "--skip 0" in error


def test_import_waits_for_a_busy_shard(braidmq, name):
    braidmq.ok("stream", "declare", name, "--shard-records-in", "20")
    lines = "".join(f'{{"body": "{n}"}}\n' for n in range(25))
    assert braidmq.lines("stream", "import", name, input=lines)[-1]["imported"] == 25
    assert len(braidmq.ok("stream", "read", name).splitlines()) == 25
