"""braidmq topic: what is retained, and the tree."""

import pytest


@pytest.fixture
def name(request):
    return f"t{abs(hash(request.node.nodeid))}"


def test_ls(braidmq, name):
    assert "no topic there" in braidmq("topic", "ls", f"{name}/#").stderr
    braidmq.ok("publish", f"{name}/b", "12345", "--retain", "--ttl", "1h")
    braidmq.ok("publish", f"{name}/a", "1", "--retain")
    rows = braidmq.json("topic", "ls", f"{name}/#")
    assert [row["topic"] for row in rows] == [f"{name}/a", f"{name}/b"]
    assert rows[0]["expire_ms"] == 0 < rows[1]["expire_ms"] and rows[1]["bytes"] > 5
    head, first, second = braidmq.ok("topic", "ls", f"{name}/#").splitlines()
    assert head.split() == ["TOPIC", "BYTES", "EXPIRES", "SUBSCRIPTIONS"]
    assert first.split() == [f"{name}/a", first.split()[1], "B", "-", "0"]
    assert second.split()[3].count("-") == 2
    braidmq.fails(2, "topic", "ls", "a+")


def test_tree(braidmq, name):
    assert "nothing" in braidmq("topic", "tree", name).stderr
    for topic in ("x/1", "x/2/deep/er", "y"):
        braidmq.ok("publish", f"{name}/{topic}", "1", "--retain")
    braidmq.ok("subscribe", f"{name}/x/#", "--durable", name, "--wait", "50ms")
    x, y = braidmq.json("topic", "tree", name)
    assert (x["path"], x["topics"], x["subscriptions"]) == (f"{name}/x", 2, 1)
    assert y["retained"] and not y["children"]
    assert [child["level"] for child in x["children"]] == ["#", "1", "2"]
    assert x["children"][2]["children"][0]["children"] == []  # three levels down it ends
    shown = braidmq.ok("topic", "tree", name + "/", "--depth", "2").splitlines()
    assert [line.split()[0] for line in shown] == ["LEVEL", "x", "#", "1", "2", "y"]
    assert shown[2].startswith("  #")
