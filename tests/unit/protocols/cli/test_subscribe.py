"""braidmq subscribe: print what comes, acknowledge what was printed."""

import asyncio

import pytest

from braidmq.broker.verbs import Interest
from braidmq.protocols import connect
from braidmq.protocols.cli.output import Output


@pytest.fixture
def name(request):
    return f"s{abs(hash(request.node.nodeid))}"


def test_what_is_retained_is_printed(braidmq, name):
    for number in range(3):
        braidmq.ok("publish", f"{name}/{number}", f"body {number}", "--retain")
    printed = braidmq.ok("subscribe", f"{name}/+", "--wait", "300ms")
    assert sorted(printed.splitlines()) == [f"{name}/{n} body {n}" for n in range(3)]
    assert braidmq.ok("subscribe", f"{name}/2", "-n", "1", "--format", "%b") == "body 2"
    assert braidmq.ok("subscribe", f"{name}/2", "--no-retained", "--wait", "50ms") == ""


def test_a_durable_subscription_goes_on_where_it_was(braidmq, name):
    begun = braidmq("subscribe", f"{name}/#", "--durable", name, "--wait", "50ms")
    assert f"began the session {name}" in begun.stderr
    braidmq.ok("publish", f"{name}/x", "--lines", input="1\n2\n3\n")
    [first, second] = braidmq.lines("subscribe", "--durable", name, "-n", "2")
    assert [first["body"], second["body"]] == ["1", "2"] and first["receives"] == 1
    again = braidmq("subscribe", f"{name}/#", "--durable", name, "-n", "1", "--format", "%b %p\n")
    assert again.stdout == f"3 {name}/x\n" and f"resumed the session {name}" in again.stderr
    assert braidmq.json("session", "show", name)["messages"] == 0
    assert "no session" in braidmq.fails(3, "subscribe", "--durable", name + "x")


def test_members_of_a_share_acknowledge_too(braidmq, name):
    braidmq.ok("subscribe", name, "--durable", name, "--share", "g", "--wait", "50ms")
    braidmq.ok("publish", name, "--lines", input="1\n2\n")
    assert braidmq.ok("subscribe", name, "--share", "g", "-n", "2", "--format", "%b") == "12"
    assert braidmq.ok("subscribe", name, "--share", "g", "--wait", "100ms") == ""


def test_what_could_not_be_printed_was_not_received(served, braidmq, name, monkeypatch):
    braidmq.ok("subscribe", name, "--durable", name, "--wait", "50ms")
    braidmq.ok("publish", name, "x")
    with monkeypatch.context() as patch:
        patch.setattr(Output, "raw", lambda self, data: nobody_reads())
        assert isinstance(braidmq("subscribe", name, "--durable", name).exception, SystemExit)

    async def receives():
        async with connect(served.url) as broker:
            messages = await broker.verbs.subscribe(Interest((), name), 1)
            [message] = await messages.next()
            await messages.close()
            return message.receives

    assert asyncio.run(receives()) == 1


def nobody_reads():
    raise ConnectionError


def test_usage(braidmq):
    assert "FILTER" in braidmq.fails(2, "subscribe")
    braidmq.fails(2, "subscribe", "a/#b")
    braidmq.fails(2, "subscribe", "a", "--share", "a/b")
