"""What a webhook is: a queue of its own that a sender empties by HTTP POST, and its confirmation.

A webhook's queue is called ``$webhook/NAME``, so nobody can declare a queue of that name by hand.
What waits there is kept like every message; how it is posted is told by ``protocols/webhooks``.

Nothing but a confirmation is posted to somebody who did not ask for more:

    declared    no token was made yet, or the URL was changed
    pending     a token was made, and posted with ``SubscriptionConfirmation``
    expired     nobody confirmed within two days; it can be asked again
    confirmed   somebody who has read the token brought it back

What was published before it was confirmed is never posted. A :class:`Webhook` never changes: each
step gives another one, which is logged and then put in force. Time and tokens come in.
"""

import hmac
import re
from enum import Enum
from typing import Any, Literal

import msgspec

from .errors import Conflict, InvalidArgument, PermissionDenied
from .message import is_text
from .retry_policy import RetryPolicy
from .settings import QueueSettings, check_name
from .signing import SECRETS_MAX, check_secret
from .webhook_url import parse_webhook_url

__all__ = [
    "CONCURRENCY_MAX",
    "HEADERS_MAX",
    "RATE_PER_SECOND_MAX",
    "TIMEOUT_MS_MAX",
    "TOKEN_MS",
    "WEBHOOK_PREFIX",
    "Verdict",
    "Webhook",
    "WebhookActivity",
    "WebhookDefinition",
    "WebhookInfo",
    "WebhookSettings",
    "check_webhook_name",
    "judge",
    "settings_from_plain",
    "webhook_name",
]

WEBHOOK_PREFIX = "$webhook/"
TOKEN_MS = 2 * 24 * 3600 * 1000
CONCURRENCY_MAX = 256
TIMEOUT_MS_MAX = 30_000
RATE_PER_SECOND_MAX = 100_000
HEADERS_MAX = 20
_HEADER_BYTES_MAX = 1_024
_BREAKER_FAILURES_MAX = 1_000
_BREAKER_MS_MAX = 3_600_000
_DAY_MS = 24 * 3600 * 1000

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?", re.ASCII)
# They frame the request, or are set by the sender itself.
_HEADERS_RESERVED = frozenset(
    "connection content-length content-type expect host http2-settings keep-alive te trailer"
    " transfer-encoding upgrade user-agent".split()
)
_PREFIXES_RESERVED = ("proxy-", "webhook-", "x-amz-sns-")


def webhook_name(queue: str) -> str:
    """The name of the webhook whose queue is called ``queue``."""
    return queue.removeprefix(WEBHOOK_PREFIX)


class WebhookSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set on a webhook. Zero means "none" for times and maxima."""

    url: str
    raw: bool = False  # the body alone; else the envelope of Amazon SNS
    headers: dict[str, str] = {}  # sent with every POST, such as Authorization
    content_type: str = ""  # of every POST; empty: the message's own, or that of the envelope
    retry: RetryPolicy = RetryPolicy()
    concurrency_max: int = 4  # requests at the same time
    rate_per_second_max: int = 0
    timeout_ms: int = 5_000  # of one request in all, until the status is there
    secrets: tuple[str, ...] = ()  # ``whsec_...``: sign every POST with each
    signature_version: Literal["", "1", "2"] = ""  # sign envelopes as SNS does
    confirm: bool = True  # ask whoever is there first
    dead_letter: str = ""  # the queue for what could not be delivered; else it is dropped
    breaker_failures_max: int = 10  # in a row, then the breaker opens
    breaker_open_ms: int = 30_000
    breaker_open_ms_max: int = 600_000
    retention_ms: int = 4 * _DAY_MS  # how long a message waits at most
    messages_max: int = 100_000  # that wait
    bytes_max: int = 256 * 1024 * 1024
    overflow: Literal["reject", "drop-oldest", "dead-letter"] = "drop-oldest"

    def check(self) -> None:
        """Raise InvalidArgument when a setting is out of range or two do not go together."""
        parse_webhook_url(self.url)
        self.retry.check()
        for name, least, most in (
            ("concurrency_max", 1, CONCURRENCY_MAX),
            ("rate_per_second_max", 0, RATE_PER_SECOND_MAX),
            ("timeout_ms", 100, TIMEOUT_MS_MAX),
            ("breaker_failures_max", 0, _BREAKER_FAILURES_MAX),
            ("breaker_open_ms", 1, _BREAKER_MS_MAX),
            ("breaker_open_ms_max", self.breaker_open_ms, _BREAKER_MS_MAX),
        ):
            if not least <= getattr(self, name) <= most:
                raise InvalidArgument(f"{name} is between {least} and {most}")
        if len(self.secrets) > SECRETS_MAX:
            raise InvalidArgument(f"a webhook has at most {SECRETS_MAX} signing secrets")
        for secret in self.secrets:
            check_secret(secret)
        if self.signature_version and self.raw:
            raise InvalidArgument("signature_version is for envelopes; a raw body has secrets")
        self._check_headers()
        self.queue_settings().check()

    def _check_headers(self) -> None:
        if len(self.headers) > HEADERS_MAX:
            raise InvalidArgument(f"a webhook has at most {HEADERS_MAX} headers of its own")
        for name, value in self.headers.items():
            low = name.lower()
            if not _HEADER_NAME.fullmatch(name):
                raise InvalidArgument("a header of a webhook has a name that HTTP does not allow")
            if low in _HEADERS_RESERVED or low.startswith(_PREFIXES_RESERVED):
                raise InvalidArgument(f"the header {low} is set by the broker")
            if len(value) > _HEADER_BYTES_MAX or not _HEADER_VALUE.fullmatch(value):
                raise InvalidArgument(
                    f"the value of header {low} is 1 to {_HEADER_BYTES_MAX} printable ASCII"
                    " characters"
                )
        if self.content_type and not _HEADER_VALUE.fullmatch(self.content_type):
            raise InvalidArgument("content_type is printable ASCII")

    def queue_settings(self) -> QueueSettings:
        """The settings of its queue."""
        return QueueSettings(
            retention_ms=self.retention_ms,
            messages_max=self.messages_max,
            bytes_max=self.bytes_max,
            overflow=self.overflow,
            dead_letter=self.dead_letter,
            dead_letter_expired=bool(self.dead_letter),
        )

    def without_secrets(self) -> "WebhookSettings":
        """What may be shown: signing secrets and the values of headers are hidden."""
        headers = dict.fromkeys(self.headers, "(hidden)")
        secrets = ("(hidden)",) * len(self.secrets)
        return msgspec.structs.replace(self, headers=headers, secrets=secrets)

    def __repr__(self) -> str:
        """Without secrets, so that they do not end up in a log."""
        return f"WebhookSettings(url={self.url!r}, ...)"


def settings_from_plain(values: dict[str, Any]) -> WebhookSettings:
    """Build settings from plain values (wire, TOML, JSON); InvalidArgument names what is wrong."""
    try:
        return msgspec.convert(values, WebhookSettings)
    except msgspec.ValidationError as error:
        raise InvalidArgument(f"webhook settings: {error}") from None


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook and how far its confirmation is. ``owner`` is the user who declared it."""

    settings: WebhookSettings
    owner: str = ""
    token: str = ""
    token_expires_ms: int = 0
    confirmed_ms: int = 0
    was_confirmed: bool = False  # before its URL was changed

    def state(self, now_ms: int) -> str:
        """``declared``, ``pending``, ``expired`` or ``confirmed``."""
        if self.confirmed_ms:
            return "confirmed"
        if not self.token:
            return "declared"
        return "pending" if now_ms < self.token_expires_ms else "expired"

    def asked(self, token: str, now_ms: int) -> "Webhook":
        """It is asked to confirm with ``token``, which nobody can guess. Raises Conflict."""
        if self.confirmed_ms:
            raise Conflict("the webhook is confirmed already")
        return msgspec.structs.replace(self, token=token, token_expires_ms=now_ms + TOKEN_MS)

    def forgotten(self) -> "Webhook":
        """It is to be asked again, with another token. Raises Conflict."""
        if self.confirmed_ms:
            raise Conflict("the webhook is confirmed already")
        return msgspec.structs.replace(self, token="", token_expires_ms=0)

    def confirmed(self, token: str, now_ms: int) -> "Webhook":
        """Somebody brought back a token: confirmed if it is the right one and not too old.

        Raises PermissionDenied, which does not tell the one from the other.
        """
        right = bool(self.token) and is_text(token)
        if not right or not hmac.compare_digest(self.token.encode(), token.encode()):
            raise PermissionDenied("this token confirms nothing")
        if self.confirmed_ms:
            return self
        if now_ms >= self.token_expires_ms:
            raise PermissionDenied("this token confirms nothing")
        return msgspec.structs.replace(self, confirmed_ms=now_ms)

    def trusted(self, now_ms: int) -> "Webhook":
        """Confirmed by whoever may say so, without asking."""
        return msgspec.structs.replace(self, confirmed_ms=now_ms)

    def changed(self, settings: WebhookSettings) -> "Webhook":
        """With other settings. Another URL is somebody else, who has to be asked."""
        if settings.url == self.settings.url:
            return msgspec.structs.replace(self, settings=settings)
        was_confirmed = self.was_confirmed or self.confirmed_ms > 0
        return Webhook(settings=settings, owner=self.owner, was_confirmed=was_confirmed)


class WebhookDefinition(msgspec.Struct, kw_only=True):
    """The content of a DEFINITION record and of a QUEUE section."""

    kind: str = "webhook"
    name: str
    settings: QueueSettings
    webhook: Webhook
    created_ms: int
    id: int = 0
    lanes: dict[int, int] = {}


class WebhookActivity(msgspec.Struct):
    """What its sender does and has seen since the broker started.

    ``error`` is one of few words, never what the other side said: answers are shown to nobody.
    """

    posted: int = 0  # requests that were begun
    delivered: int = 0
    failed: int = 0  # requests that did not deliver
    dropped: int = 0  # messages given up without a dead-letter queue
    breaker: str = "closed"
    error: str = ""  # of the last request that failed, empty after one that did not
    error_ms: int = 0


class WebhookInfo(msgspec.Struct):
    """A webhook as it is now."""

    name: str
    state: str
    settings: WebhookSettings  # secrets hidden
    owner: str
    created_ms: int
    token_expires_ms: int
    ready: int
    delayed: int  # also those that wait to be tried again
    in_flight: int
    bytes: int
    dead_lettered: int
    activity: WebhookActivity


class Verdict(Enum):
    """What an answer means for the message."""

    DELIVERED = "delivered"
    RETRY = "retry"
    REFUSED = "refused"  # trying again would change nothing


def judge(status: int) -> Verdict:
    """What an HTTP status means. A redirect is a failure: nobody follows it.

    Source: the SNS developer guide, "Message delivery retries": client errors are permanent, but
    for 429 Too Many Requests.
    """
    if 200 <= status <= 299:
        return Verdict.DELIVERED
    if 400 <= status <= 499 and status != 429:
        return Verdict.REFUSED
    return Verdict.RETRY


def check_webhook_name(name: str) -> None:
    """Raise InvalidArgument unless ``name`` can be a webhook's."""
    check_name(name, "webhook")
    check_name(WEBHOOK_PREFIX.strip("$") + name, "webhook")  # not too long with the prefix
