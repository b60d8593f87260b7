"""What an operator says about all webhooks: ``[webhooks]`` in the configuration.

Declaring a webhook is a right of users; where they may have the broker call, and how many requests
run at a time, is for the operator to say.
"""

import re
from collections.abc import Iterator
from ipaddress import ip_network

import msgspec

from .errors import InvalidArgument
from .webhook_url import parse_webhook_url

__all__ = ["ALLOW_MAX", "WebhookPolicy", "webhook_policy_problems"]

ALLOW_MAX = 1_000
_CONCURRENCY_MAX = 10_000
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?", re.ASCII)


class WebhookPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where webhooks may call, and who they say they are."""

    enabled: bool = True
    allow: tuple[str, ...] = ()  # networks and host names that may be called though not global
    ports: tuple[int, ...] = (80, 443, 8443)
    concurrency_max: int = 100  # requests of all webhooks at the same time
    ca_file: str = ""  # PEM with authorities that are trusted beside those of the system
    public_url: str = ""  # where this broker's HTTP port is reached, for SubscribeURL
    signing_key: str = ""  # PEM file with an RSA key, for envelopes signed as SNS does
    signing_certificate_url: str = ""  # where receivers find its certificate


def webhook_policy_problems(policy: WebhookPolicy) -> Iterator[tuple[str, str]]:
    """Every (key, what is wrong) of a policy."""
    if len(policy.allow) > ALLOW_MAX:
        yield "allow", f"has {len(policy.allow)} entries, at most {ALLOW_MAX} are allowed"
    for entry in policy.allow:
        try:
            ip_network(entry)
        except ValueError as error:
            if not _HOST.fullmatch(entry) or entry.replace(".", "").isdigit():
                yield (
                    "allow",
                    f"{entry!r} is neither a network, an address nor a host name: {error}",
                )
    if not policy.ports:
        yield "ports", "is empty; name at least one, or set enabled to false"
    for port in policy.ports:
        if not 1 <= port <= 65_535:
            yield "ports", f"{port} is no port; they are between 1 and 65535"
    if not 1 <= policy.concurrency_max <= _CONCURRENCY_MAX:
        yield "concurrency_max", f"is between 1 and {_CONCURRENCY_MAX}"
    if policy.public_url:
        try:
            if "?" in parse_webhook_url(policy.public_url).target:
                yield "public_url", "has a query; it is the beginning of a URL"
        except InvalidArgument:
            yield "public_url", f"{policy.public_url!r} is no http or https URL"
    if bool(policy.signing_key) != bool(policy.signing_certificate_url):
        yield "signing_key", "goes together with signing_certificate_url"
