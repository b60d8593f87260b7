"""What an operator may say about webhooks, and what is told when it makes no sense."""

import pytest

from braidmq.broker.webhook_policy import ALLOW_MAX, WebhookPolicy, webhook_policy_problems


def problems(**values: object) -> list[str]:
    return [key for key, _ in webhook_policy_problems(WebhookPolicy(**values))]  # type: ignore[arg-type]


def test_the_default_is_fine():
    assert problems() == []


@pytest.mark.parametrize(
    "values",
    [
        {"allow": ("10.0.0.0/8", "::1", "hooks.internal", "my_host", "fd00::/8")},
        {"allow": ("10.0.0.1",) * ALLOW_MAX},
        {"ports": (1, 65_535)},
        {"concurrency_max": 1},
        {"concurrency_max": 10_000},
        {"public_url": "https://mq.example/base"},
        {"signing_key": "key.pem", "signing_certificate_url": "https://mq.example/cert.pem"},
    ],
)
def test_what_makes_sense_is_taken(values):
    assert problems(**values) == []


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"allow": ("10.0.0.1/8",)}, "allow"),
        ({"allow": ("http://a",)}, "allow"),
        ({"allow": ("a:80",)}, "allow"),
        ({"allow": ("*.internal",)}, "allow"),
        ({"allow": ("1.2.3",)}, "allow"),
        ({"allow": ("",)}, "allow"),
        ({"allow": ("10.0.0.1",) * (ALLOW_MAX + 1)}, "allow"),
        ({"ports": ()}, "ports"),
        ({"ports": (0,)}, "ports"),
        ({"ports": (65_536,)}, "ports"),
        ({"concurrency_max": 0}, "concurrency_max"),
        ({"concurrency_max": 10_001}, "concurrency_max"),
        ({"public_url": "mq.example"}, "public_url"),
        ({"public_url": "https://mq.example/?a=1"}, "public_url"),
        ({"signing_key": "key.pem"}, "signing_key"),
        ({"signing_certificate_url": "https://mq.example/cert.pem"}, "signing_key"),
    ],
)
def test_what_makes_none_is_told(values, key):
    assert problems(**values) == [key]
