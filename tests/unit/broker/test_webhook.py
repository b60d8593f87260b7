"""Settings are checked, confirmation takes the token, and answers mean what SNS says they mean."""

import base64

import msgspec
import pytest

from braidmq.broker.errors import Conflict, InvalidArgument, PermissionDenied
from braidmq.broker.retry_policy import RetryPolicy
from braidmq.broker.signing import SECRETS_MAX
from braidmq.broker.webhook import (
    CONCURRENCY_MAX,
    HEADERS_MAX,
    RATE_PER_SECOND_MAX,
    TIMEOUT_MS_MAX,
    TOKEN_MS,
    Verdict,
    Webhook,
    WebhookSettings,
    check_webhook_name,
    judge,
    settings_from_plain,
)

T = 1_700_000_000_000
URL = "https://a.example/hook"
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"url": "ftp://a.example"}, "http"),
        ({"retry": RetryPolicy(retries=101)}, "retries"),
        ({"concurrency_max": 0}, "concurrency_max"),
        ({"concurrency_max": CONCURRENCY_MAX + 1}, "concurrency_max"),
        ({"rate_per_second_max": -1}, "rate_per_second_max"),
        ({"rate_per_second_max": RATE_PER_SECOND_MAX + 1}, "rate_per_second_max"),
        ({"timeout_ms": 99}, "timeout_ms"),
        ({"timeout_ms": TIMEOUT_MS_MAX + 1}, "timeout_ms"),
        ({"breaker_failures_max": -1}, "breaker_failures_max"),
        ({"breaker_open_ms": 0}, "breaker_open_ms"),
        ({"breaker_open_ms": 20, "breaker_open_ms_max": 10}, "breaker_open_ms_max"),
        ({"secrets": ("whsec_short",)}, "signing secret"),
        ({"secrets": (SECRET,) * (SECRETS_MAX + 1)}, "signing secrets"),
        ({"signature_version": "2", "raw": True}, "signature_version"),
        ({"headers": {f"x-{n}": "v" for n in range(HEADERS_MAX + 1)}}, "headers"),
        ({"headers": {"x y": "v"}}, "name"),
        ({"headers": {"": "v"}}, "name"),
        ({"headers": {"Host": "b.example"}}, "set by the broker"),
        ({"headers": {"Content-Length": "1"}}, "set by the broker"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "set by the broker"),
        ({"headers": {"Webhook-Signature": "v1,x"}}, "set by the broker"),
        ({"headers": {"x-amz-sns-topic-arn": "x"}}, "set by the broker"),
        ({"headers": {"x": "a\r\nHost: b.example"}}, "printable"),
        ({"headers": {"x": ""}}, "printable"),
        ({"headers": {"x": "é"}}, "printable"),
        ({"headers": {"x": "a" * 1_025}}, "printable"),
        ({"content_type": "a\nb"}, "content_type"),
        ({"overflow": "dead-letter"}, "dead_letter"),
        ({"dead_letter": "$webhook/a"}, r"\$"),
        ({"messages_max": -1}, "messages_max"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, named):
    with pytest.raises(InvalidArgument, match=named):
        WebhookSettings(**({"url": URL} | changes)).check()


def test_the_limits_themselves_are_allowed():
    WebhookSettings(
        url=URL,
        concurrency_max=CONCURRENCY_MAX,
        rate_per_second_max=RATE_PER_SECOND_MAX,
        timeout_ms=TIMEOUT_MS_MAX,
        secrets=(SECRET,) * SECRETS_MAX,
        headers={f"x-{n}": "v" for n in range(HEADERS_MAX)},
    ).check()


@pytest.mark.parametrize("values", [{}, {"url": URL, "colour": 1}, {"url": URL, "raw": "yes"}])
def test_plain_values_are_read_strictly(values):
    with pytest.raises(InvalidArgument, match="webhook settings"):
        settings_from_plain(values)


def test_secrets_are_not_shown():
    settings = WebhookSettings(url=URL, secrets=(SECRET,), headers={"Authorization": "Bearer abc"})
    shown = f"{settings} {msgspec.json.encode(settings.without_secrets())!r}"
    assert SECRET not in shown and "Bearer" not in shown and "Authorization" in shown


@pytest.mark.parametrize("name", ["", "$a", "a b", "a/#", "a" * 250, "a\n"])
def test_names_that_cannot_be(name):
    with pytest.raises(InvalidArgument):
        check_webhook_name(name)


def test_the_longest_name():
    check_webhook_name("a" * 247)


# --- confirmation ---


def asked() -> Webhook:
    return Webhook(settings=WebhookSettings(url=URL), owner="ann").asked("token", T)


def test_confirmation_goes_from_declared_to_confirmed():
    webhook = Webhook(settings=WebhookSettings(url=URL))
    assert webhook.state(T) == "declared"
    webhook = webhook.asked("token", T)
    assert webhook.state(T) == "pending"
    webhook = webhook.confirmed("token", T + 1)
    assert (webhook.state(T + 10 * TOKEN_MS), webhook.confirmed_ms) == ("confirmed", T + 1)
    assert webhook.confirmed("token", T + 10 * TOKEN_MS) is webhook


@pytest.mark.parametrize("token", ["", "other", "toke", "tokenx", "t\udc80", "é"])
def test_another_token_confirms_nothing(token):
    for webhook in (asked(), Webhook(settings=WebhookSettings(url=URL))):
        with pytest.raises(PermissionDenied):
            webhook.confirmed(token, T)


def test_a_token_is_good_for_two_days():
    assert asked().confirmed("token", T + TOKEN_MS - 1).confirmed_ms
    assert asked().state(T + TOKEN_MS) == "expired"
    with pytest.raises(PermissionDenied):
        asked().confirmed("token", T + TOKEN_MS)


def test_it_can_be_asked_again_with_another_token():
    webhook = asked().forgotten()
    assert webhook.state(T) == "declared"
    webhook = webhook.asked("second", T + TOKEN_MS)
    with pytest.raises(PermissionDenied):
        webhook.confirmed("token", T + TOKEN_MS)
    assert webhook.confirmed("second", T + TOKEN_MS).confirmed_ms


def test_what_is_confirmed_is_not_asked_again():
    webhook = asked().confirmed("token", T)
    with pytest.raises(Conflict):
        webhook.asked("x", T)
    with pytest.raises(Conflict):
        webhook.forgotten()


def test_another_url_has_to_confirm_anew():
    webhook = asked().confirmed("token", T)
    same = webhook.changed(WebhookSettings(url=URL, timeout_ms=1_000))
    assert same.confirmed_ms == T and not same.was_confirmed
    other = webhook.changed(WebhookSettings(url="https://b.example"))
    assert other.state(T) == "declared" and other.was_confirmed and other.owner == "ann"
    with pytest.raises(PermissionDenied):
        other.confirmed("token", T)


def test_who_may_can_do_without_asking():
    assert Webhook(settings=WebhookSettings(url=URL)).trusted(T).state(T) == "confirmed"


# --- answers ---


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 202, 204, 299), Verdict.DELIVERED),
        ((400, 401, 403, 404, 410, 422, 499), Verdict.REFUSED),
        (
            (101, 199, 300, 301, 302, 304, 307, 308, 429, 500, 502, 503, 599, 600, 999),
            Verdict.RETRY,
        ),
    ],
)
def test_what_a_status_means(statuses, verdict):
    assert {judge(status) for status in statuses} == {verdict}
