"""braidmq session: list, show, kick."""

import pytest


@pytest.fixture
def name(braidmq, request):
    name = f"c{abs(hash(request.node.nodeid))}"
    braidmq.ok("subscribe", f"{name}/#", "--durable", name, "--wait", "20ms", "--expiry", "1h")
    return name


def test_ls_and_show(braidmq, name):
    braidmq.ok("publish", f"{name}/1", "waits")
    [row] = braidmq.json("session", "ls", name)
    assert (row["name"], row["connected"], row["durable"], row["messages"]) == (
        name,
        False,
        True,
        1,
    )
    head, line = braidmq.ok("session", "ls", name).splitlines()
    assert head.startswith("NAME") and line.split()[:4] == [name, "$anonymous", "no", "yes"]
    info = braidmq.json("session", "show", name)
    assert info["filters"] == [f"{name}/#"] and info["expiry_ms"] == 3_600_000
    shown = braidmq.ok("session", "show", name)
    assert f"{name}/#" in shown and "1h" in shown
    assert "session ls" in braidmq.fails(3, "session", "show", "nobody")
    assert "no sessions" in braidmq("session", "ls", "nobody").stderr


def test_kick(braidmq, name):
    assert braidmq.json("session", "kick", name) == {"session": name, "discarded": False}
    assert "--yes" in braidmq.fails(2, "session", "kick", name, "--discard")
    assert "the session" in braidmq("session", "kick", name, "--discard", "--yes").stderr
    braidmq.fails(3, "session", "kick", name)
