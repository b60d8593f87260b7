"""braidmq webhook: declare, ls, show, update, confirm, ask, rm."""

import pytest

from braidmq.broker.retry_policy import RetryPolicy
from braidmq.broker.webhook import WebhookSettings
from braidmq.protocols.cli.webhook import _SETTINGS

URL = "https://192.0.2.1/in"  # an address that webhooks may not call: nothing is ever posted


@pytest.fixture
def name(braidmq, request):
    """A webhook that is gone at the end. What is declared here is at names that nobody has."""
    name = f"w{abs(hash(request.node.nodeid))}"
    yield name
    braidmq("webhook", "rm", name, "--yes")


def test_every_setting_is_an_option():
    fields = {setting.field for setting in _SETTINGS}
    retry = {f"retry.{field}" for field in RetryPolicy.__struct_fields__}
    others = set(WebhookSettings.__struct_fields__) - {"url", "retry", "headers", "secrets"}
    assert fields == retry | others


def test_a_webhook_from_its_beginning_to_its_end(braidmq, name, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("whsec_" + "A" * 32 + "\nwhsec_" + "B" * 32 + "\n")
    key = tmp_path / "key"
    key.write_text("Bearer x\n")
    url = "https://hooks.invalid/in"
    made = braidmq.json(
        *("webhook", "declare", name, url, "--raw", "--retries", "5", "--max-delay", "1m"),
        *("--secret-file", str(secret), "--header", f"Authorization=@{key}", "--timeout", "1s"),
    )
    settings = made["settings"]
    assert (settings["url"], settings["raw"], settings["timeout_ms"]) == (url, True, 1_000)
    assert (settings["retry"]["retries"], settings["retry"]["max_delay_ms"]) == (5, 60_000)
    assert settings["secrets"] == ["(hidden)"] * 2
    assert settings["headers"] == {"Authorization": "(hidden)"}
    (row,) = braidmq.json("webhook", "ls", name)
    assert row["name"] == name
    head, line = braidmq.ok("webhook", "ls", name).splitlines()
    assert head.startswith("NAME") and name in line and url in line
    shown = braidmq.ok("webhook", "show", name)
    assert "whsec" not in shown and "Authorization" in shown and "retries=5" in shown
    assert (
        braidmq.json("webhook", "update", name, "--concurrency", "9")["settings"]["concurrency_max"]
        == 9
    )
    braidmq.fails(2, "webhook", "update", name)
    assert braidmq.json("webhook", "ask", name)["name"] == name
    assert "token" in braidmq("webhook", "confirm", name, "wrong").stderr
    assert "--yes" in braidmq.fails(2, "webhook", "rm", name)
    assert braidmq.json("webhook", "rm", name, "--yes") == {"removed": [name]}
    braidmq.fails(3, "webhook", "show", name)
    assert "no webhooks" in braidmq("webhook", "ls", name).stderr


def test_what_may_not_be_called_is_told(braidmq, name):
    assert "may not call" in braidmq("webhook", "declare", name, URL).stderr
    assert "http" in braidmq("webhook", "declare", name, "ftp://a.example").stderr


@pytest.mark.parametrize(
    "option", [("--header", "x"), ("--secret-file", "not there"), ("--header", "x=@not there")]
)
def test_what_cannot_be_read_is_told(braidmq, name, option):
    braidmq.fails(2, "webhook", "declare", name, "https://hooks.invalid", *option)


def test_no_question_no_confirmation(braidmq, name):
    result = braidmq("webhook", "declare", name, "https://hooks.invalid", "--no-confirm")
    assert result.exit_code == 0 and "until it is confirmed" not in result.stderr
