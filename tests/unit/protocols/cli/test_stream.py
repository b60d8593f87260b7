"""braidmq stream: what is declared, listed, changed, split and merged."""

import pytest


@pytest.fixture
def name(request):
    return f"s{abs(hash(request.node.nodeid))}"


def test_declare_and_show(braidmq, name):
    made = braidmq("stream", "declare", name, "--shards", "2", "--retention", "7d", "--tag", "a=b")
    assert made.stderr == f"stream {name} has 2 open shards: 0, 1\n"
    again = braidmq.json("stream", "declare", name, "--retention", "7d", "--tag", "a=b")
    assert (again["open_shards"], again["settings"]["retention_ms"]) == (2, 7 * 86_400_000)
    assert (again["settings"]["durability"], again["settings"]["tags"]) == ("sync", {"a": "b"})
    braidmq.fails(5, "stream", "declare", name, "--retention", "8d")
    shown = braidmq.ok("stream", "show", name)
    assert "retention " in shown and "7d" in shown and " 50.0 %" in shown
    assert braidmq.json("stream", "show", name)["shards"][1]["last_hash"] == str(2**128 - 1)
    braidmq.fails(3, "stream", "show", name + "x")


def test_every_setting_is_an_option(braidmq, name):
    limits = ("--shard-bytes-in", "1MiB", "--shard-records-in", "1000", "--shard-bytes-out", "2MiB")
    more = ("--retention-bytes", "1GiB", "--record-bytes-max", "1KiB", "--durability", "os")
    settings = braidmq.json("stream", "declare", name, *limits, *more)["settings"]
    assert settings == {
        "durability": "os",
        "retention_ms": 86_400_000,
        "retention_bytes": 2**30,
        "record_bytes_max": 1024,
        "shard_bytes_in_per_second": 2**20,
        "shard_records_in_per_second": 1000,
        "shard_bytes_out_per_second": 2**21,
        "tags": {},
    }
    changed = braidmq.json("stream", "update", name, "--shard-records-in", "0", "--tag", "x=y")
    assert changed["settings"]["shard_records_in_per_second"] == 0
    assert changed["settings"]["tags"] == {"x": "y"}
    assert "was changed" in braidmq("stream", "update", name, "--retention", "0").stderr
    braidmq.fails(2, "stream", "update", name)
    braidmq.fails(2, "stream", "update", name, "--tag", "x")
    braidmq.fails(2, "stream", "update", name, "--record-bytes-max", "1GiB")


def test_ls_and_rm(braidmq, name):
    assert "no streams" in braidmq("stream", "ls", name).stderr
    braidmq.ok("stream", "declare", name + "a")
    braidmq.ok("stream", "declare", name + "b", "--retention", "0", "--shards", "3")
    assert [row["name"] for row in braidmq.json("stream", "ls", name)] == [name + "a", name + "b"]
    head, first, second = braidmq.ok("stream", "ls", name).splitlines()
    assert head.split()[:2] == ["NAME", "OPEN"] and first.split()[5] == "1d"
    assert second.split()[1] == "3" and second.split()[5] == "-"
    braidmq.fails(2, "stream", "rm", name + "a")
    assert braidmq.json("stream", "rm", name + "a", name + "b", "--yes") == {
        "removed": [name + "a", name + "b"]
    }
    braidmq.fails(3, "stream", "rm", name + "a", "--yes")


def test_split_merge_and_rescale(braidmq, name):
    braidmq.ok("stream", "declare", name)
    assert "open shards: 1, 2" in braidmq("stream", "split", name, "0").stderr
    braidmq.fails(5, "stream", "split", name, "0")
    split = braidmq.json("stream", "split", name, "2", "--hash-key", str(2**128 - 7))
    assert split["shards"][-1]["first_hash"] == str(2**128 - 7)
    braidmq.fails(2, "stream", "split", name, "1", "--hash-key", "x")
    assert braidmq.json("stream", "merge", name, "3", "4")["open_shards"] == 2
    braidmq.fails(2, "stream", "merge", name, "1", "1")
    assert braidmq.json("stream", "rescale", name, "4")["open_shards"] == 4
    assert "closed" in braidmq.ok("stream", "show", name)
    braidmq.fails(2, "stream", "rescale", name, "0")
