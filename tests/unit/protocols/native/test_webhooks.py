"""Webhooks by the native protocol: every operation is answered with what it made."""

from braidmq.protocols.native import operations as op
from braidmq.protocols.native.webhooks import LIST_WEBHOOKS_MAX
from tests.unit.protocols.native.test_session import O, Peer

URL = "https://a.example"


def test_a_webhook_is_made_changed_shown_confirmed_and_deleted():
    peer = Peer()
    (reply,) = peer.ask(O["DECLARE_WEBHOOK"], 1, "w", {"url": URL, "retry": {"retries": 2}})
    assert reply.webhooks[0].settings.retry.retries == 2
    (reply,) = peer.ask(O["UPDATE_WEBHOOK"], 2, "w", {"retry": {"retries": 1}, "secrets": []})
    assert reply.webhooks[0].settings.retry.retries == 1
    core = peer.harness.core
    core.ask_webhook(core.webhooks["w"], "token", peer.harness.clock.ms)
    (reply,) = peer.ask(O["WEBHOOK_INFO"], 3, "w")
    assert reply.webhooks[0].state == "pending"
    (reply,) = peer.ask(O["ASK_WEBHOOK_AGAIN"], 4, "w")
    assert reply.webhooks[0].state == "declared"
    core.ask_webhook(core.webhooks["w"], "second", peer.harness.clock.ms)
    assert peer.error(O["CONFIRM_WEBHOOK"], 5, "w", "token") == (5, "permission-denied")
    (reply,) = peer.ask(O["CONFIRM_WEBHOOK"], 6, "w", "second")
    assert reply.webhooks[0].state == "confirmed"
    (reply,) = peer.ask(O["LIST_WEBHOOKS"], 7, "", "", LIST_WEBHOOKS_MAX + 1)
    assert [info.name for info in reply.webhooks] == ["w"]
    assert isinstance(peer.ask(O["DELETE_WEBHOOK"], 8, "w")[0], op.DoneReply)
    assert peer.error(O["WEBHOOK_INFO"], 9, "w") == (9, "not-found")


def test_what_makes_no_sense_is_refused():
    peer = Peer()
    for settings in ({}, {"url": 1}, {"url": URL, "colour": "blue"}, {"url": "ftp://a.example"}):
        assert peer.error(O["DECLARE_WEBHOOK"], 1, "w", settings) == (1, "invalid-argument")
    assert peer.error(O["UPDATE_WEBHOOK"], 2, "w", {"timeout_ms": 1.5}) == (2, "invalid-argument")
