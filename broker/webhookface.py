"""Webhooks for people, the same in process and over the wire.

The part of a broker's face that is about webhooks; the rules are those of ``face.py``. Webhooks are
posted by a server (``braidmq.protocols.serve``, or the daemon): a broker without one keeps what
waits for them.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Literal, TypedDict, Unpack

from .paging import paged
from .retry_policy import RetryPolicy
from .values import OverflowName, Seconds, milliseconds
from .webhook import WebhookInfo, settings_from_plain
from .webhookverbs import WebhookVerbs

__all__ = ["WebhookFace", "WebhookOptions"]

_TIMES = {
    "timeout": "timeout_ms",
    "retention": "retention_ms",
    "breaker_open": "breaker_open_ms",
    "breaker_open_max": "breaker_open_ms_max",
}


class WebhookOptions(TypedDict, total=False):
    """What can be set on a webhook beside its URL. 0 means "none" for times and maxima."""

    raw: bool  # the body alone; else the envelope of Amazon SNS
    headers: dict[str, str]  # sent with every POST, such as Authorization
    content_type: str  # of every POST
    retry: RetryPolicy  # 3 retries, 20 s apart
    concurrency_max: int  # requests at the same time; 4
    rate_per_second_max: int
    timeout: Seconds  # of one request; 5 s
    secrets: Sequence[str]  # whsec_...: sign every POST with each
    signature_version: Literal["", "1", "2"]  # sign envelopes as SNS does
    confirm: bool  # ask whoever is there first; without it takes the right webhook:Trust
    dead_letter: str  # declared with this webhook if it is missing
    breaker_failures_max: int  # in a row, then it is left alone for a while; 10
    breaker_open: Seconds  # for so long at first; 30 s
    breaker_open_max: Seconds  # and so long at most; 10 minutes
    retention: Seconds  # how long a message waits at most; 4 days
    messages_max: int  # that wait, and bytes_max, and
    bytes_max: int
    overflow: OverflowName  # ... what happens then; "drop-oldest"


def _plain(options: Mapping[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for name, value in options.items():
        if name in _TIMES:
            plain[_TIMES[name]] = milliseconds(value, name)
        elif name == "retry" and isinstance(value, RetryPolicy):
            plain[name] = {field: getattr(value, field) for field in value.__struct_fields__}
        else:
            plain[name] = list(value) if name == "secrets" else value
    return plain


class WebhookFace:
    """What a broker can be asked about webhooks."""

    @property
    def verbs(self) -> WebhookVerbs:
        """The verbs, for whoever this is."""
        raise NotImplementedError

    async def declare_webhook(
        self, name: str, url: str, **options: Unpack[WebhookOptions]
    ) -> WebhookInfo:
        """Have what comes to the queue ``$webhook/NAME`` posted to ``url``.

        Bind topics to it by its name. Raises Conflict when it exists with other settings,
        InvalidArgument, PermissionDenied, LimitExceeded.
        """
        settings = settings_from_plain(_plain(options) | {"url": url})
        return await self.verbs.declare_webhook(name, settings)

    async def update_webhook(
        self, name: str, *, url: str | None = None, **options: Unpack[WebhookOptions]
    ) -> WebhookInfo:
        """Change some settings. Another URL has to be confirmed anew."""
        changes = _plain(options) | ({} if url is None else {"url": url})
        return await self.verbs.update_webhook(name, changes)

    async def delete_webhook(self, name: str) -> None:
        """Delete it, and what waits for it. Raises NotFound."""
        await self.verbs.delete_webhook(name)

    async def webhook(self, name: str) -> WebhookInfo:
        """The webhook as it is now, without its secrets. Raises NotFound."""
        return await self.verbs.webhook_info(name)

    def webhooks(self, prefix: str = "") -> AsyncIterator[WebhookInfo]:
        """The webhooks that you may see, by name."""
        return paged(partial(self.verbs.list_webhooks, prefix), attrgetter("name"))

    async def confirm_webhook(self, name: str, token: str) -> WebhookInfo:
        """Bring back the token that was posted there. Raises PermissionDenied."""
        return await self.verbs.confirm_webhook(name, token)

    async def ask_webhook_again(self, name: str) -> WebhookInfo:
        """Ask whoever is there to confirm once more, with another token. Raises Conflict."""
        return await self.verbs.ask_webhook_again(name)
