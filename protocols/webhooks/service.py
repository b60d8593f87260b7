"""Webhooks as a part of the server: begun with the first one, so that who has none pays nothing.

The sender brings an HTTP client; it is imported when there is a webhook to post to. Whoever
declares the first one is told when it is not installed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ...broker.core import Core
from ...broker.errors import InvalidArgument
from ...broker.webhook_policy import WebhookPolicy
from ...broker.webhook_url import WebhookUrl

if TYPE_CHECKING:
    from .sender import WebhookSender

__all__ = ["WebhookService"]


class WebhookService:
    """The webhooks of one broker, while a server is open.

    Args:
        core: an open broker on the same event loop. now_ms: its clock.
        policy: where it may call.
    """

    def __init__(self, core: Core, now_ms: Callable[[], int], policy: WebhookPolicy) -> None:
        self._core = core
        self._now_ms = now_ms
        self._policy = policy
        self._sender: WebhookSender | None = None
        self._open = False

    def open(self) -> None:
        """Post from now on, if it is switched on. Of several servers of a broker, the first does.

        Raises InvalidArgument when there are webhooks and the client is not installed, or when a
        file that the policy names cannot be used.
        """
        if "object_to_url" in vars(self._core):
            return
        policy = self._policy
        if policy.enabled and (self._core.webhooks or policy.ca_file or policy.signing_key):
            self._begin()
        self._core.object_to_url = self._object
        self._open = True

    def hurry(self) -> None:
        """Wait for no request any more."""
        if self._sender is not None:
            self._sender.hurry()

    async def close(self, grace_seconds: float) -> None:
        """Begin nothing more, and let requests end."""
        if self._open:
            self._open = False
            del self._core.object_to_url
        if self._sender is not None:
            await self._sender.close(grace_seconds)

    def _object(self, url: WebhookUrl) -> None:
        """Raise InvalidArgument for a URL that will not be called; begin before the first one."""
        if not self._policy.enabled:
            raise InvalidArgument("webhooks are switched off at this broker")
        self._begin().guard.check_url(url)

    def _begin(self) -> "WebhookSender":
        if self._sender is None:
            try:
                from .sender import WebhookSender
            except ImportError:
                text = "webhooks need httpcore2: pip install 'braidmq[webhooks]'"
                raise InvalidArgument(text) from None
            self._sender = WebhookSender(self._core, self._now_ms, self._policy)
            self._sender.open()
        return self._sender
