"""braidmq topic bind, unbind and bindings."""

import json

import pytest


@pytest.fixture
def name(request, braidmq):
    name = f"b{abs(hash(request.node.nodeid))}"
    for queue in (name, f"{name}-dead"):
        braidmq.ok("queue", "declare", queue)
    return name


def test_a_topic_is_bound_listed_and_unbound(braidmq, name):
    filter = f"{name}/#"
    assert "bound" in braidmq("topic", "bind", filter, "--queue", name).stderr
    braidmq.ok("publish", f"{name}/x", "hello")
    assert "hello" in braidmq.ok("receive", name)
    where = ("--where", "region = 'EU'", "--dead-letter", f"{name}-dead", "--envelope")
    info = braidmq.json("topic", "bind", filter, "--queue", name, *where)
    assert info["settings"]["where"] == "region = 'EU'" and not info["settings"]["raw"]
    (row,) = braidmq.json("topic", "bindings", "--queue", name)
    assert row == info
    head, line = braidmq.ok("topic", "bindings", filter).splitlines()
    assert head.split()[:3] == ["FILTER", "TARGET", "CONDITION"]
    assert line.startswith(f"{filter}  queue {name}  region = 'EU'")
    assert braidmq.json("topic", "unbind", filter, "--queue", name)["filter"] == filter
    assert "no bindings" in braidmq("topic", "bindings", filter).stderr
    braidmq.fails(3, "topic", "unbind", filter, "--queue", name)


def test_policies_come_from_files_too(braidmq, name, tmp_path):
    path = tmp_path / "policy.json"
    policy = {"kind": ["a" * 100]}
    path.write_text(json.dumps(policy))
    braidmq.ok("topic", "bind", name, "--queue", name, "--filter", f"@{path}", "--body", "--strict")
    (row,) = braidmq.json("topic", "bindings", name)
    assert json.loads(row["settings"]["policy"]) == policy and row["settings"]["scope"] == "body"
    assert "aaa…" in braidmq.ok("topic", "bindings", name)
    braidmq.fails(2, "topic", "bind", name, "--queue", name, "--filter", f"@{tmp_path}/none")


@pytest.mark.parametrize("target", [(), ("--queue", "a", "--stream", "b")])
def test_there_is_one_target(braidmq, target):
    braidmq.fails(2, "topic", "bind", "t", *target)
    braidmq.fails(2, "topic", "unbind", "t", *target)


def test_what_is_wrong_is_said(braidmq, name):
    assert "no queue" in braidmq.fails(3, "topic", "bind", "t", "--queue", "none-such")
    braidmq.fails(2, "topic", "bind", "t", "--queue", name, "--where", "a =")
