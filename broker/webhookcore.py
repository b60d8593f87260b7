"""What clients can ask about webhooks: the gate before ``webhook.py``.

The rules are those of ``core.py``, of which this is a part. Two things are not asked for by clients
but by whoever posts: a token is made and asked for with it (:meth:`WebhookCore.ask_webhook`), and
what it cannot deliver is given up (:meth:`WebhookCore.give_up`).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from ..storage.record import encode_definition, encode_purge
from .access import Principal
from .errors import Conflict, InvalidArgument, LimitExceeded, NotFound, PermissionDenied
from .host import DROPPED
from .message import Receipt
from .topiccore import PAGE_MAX, TopicCore
from .webhook import (
    WEBHOOK_PREFIX,
    Webhook,
    WebhookDefinition,
    WebhookInfo,
    WebhookSettings,
    check_webhook_name,
    settings_from_plain,
)
from .webhook_url import WebhookUrl, parse_webhook_url
from .webhookqueue import WebhookQueue

if TYPE_CHECKING:
    from .core import Core

__all__ = ["WebhookCore"]


def _nothing(*_: object) -> None:
    """Nobody posts, and nobody objects to a URL."""


class WebhookCore(TopicCore):
    """Webhooks, for a principal.

    Attributes:
        on_webhook: called with a webhook that is new, was changed or was deleted.
        object_to_url: raises InvalidArgument for a URL that will never be called. That it raises
            nothing promises nothing: what a name stands for is asked when it is connected to.
    """

    on_webhook: Callable[[WebhookQueue], None] = staticmethod(_nothing)
    object_to_url: Callable[[WebhookUrl], None] = staticmethod(_nothing)

    def webhook(self, name: str) -> WebhookQueue:
        """The queue of the webhook of that name. Raises NotFound, BrokerFailed."""
        if self.failed is not None:
            raise self.failed
        queue = self.webhooks.get(name)
        if queue is None:
            raise NotFound(f"there is no webhook {name!r}")
        return queue

    def declare_webhook(
        self, who: Principal, name: str, settings: WebhookSettings, now_ms: int
    ) -> WebhookInfo:
        """Make the webhook, or find it with these very settings.

        Its queue is ``$webhook/NAME``. Whoever is there is asked to confirm, unless ``confirm`` is
        off, which takes the right ``webhook:Trust``.

        Raises:
            PermissionDenied, InvalidArgument, LimitExceeded, StorageFull, Overloaded.
            Conflict: it exists with other settings.
        """
        who.check("webhook:Declare", name)
        check_webhook_name(name)
        self._check(who, name, settings, "")
        found = self.webhooks.get(name)
        if found is not None:
            if found.webhook.settings != settings:
                raise Conflict(f"webhook {name} exists with other settings")
            return found.info(now_ms)
        self.admit()
        if len(self.webhooks) >= self.limits.webhooks_max:
            raise LimitExceeded(f"there are {len(self.webhooks)} webhooks, as many as may be")
        if len(self.queues) >= self.limits.queues_max:
            raise LimitExceeded(f"there are {len(self.queues)} queues, as many as there may be")
        self._have_dead_letter(who, name, settings, "", now_ms)
        webhook = Webhook(settings=settings, owner=who.name)
        if not settings.confirm:
            webhook = webhook.trusted(now_ms)
        definition = WebhookDefinition(
            name=WEBHOOK_PREFIX + name,
            settings=settings.queue_settings(),
            webhook=webhook,
            created_ms=now_ms,
        )
        id = self.take_id()
        self.log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))
        queue = self.define_webhook(id, definition)
        self.on_webhook(queue)
        return queue.info(now_ms)

    def _check(self, who: Principal, name: str, settings: WebhookSettings, before: str) -> None:
        settings.check()
        if settings.url != before:
            self.object_to_url(parse_webhook_url(settings.url))
            if not settings.confirm:
                who.check("webhook:Trust", name)

    def _have_dead_letter(
        self, who: Principal, name: str, settings: WebhookSettings, before: str, now_ms: int
    ) -> None:
        core, queue = cast("Core", self), WEBHOOK_PREFIX + name
        core._declare_dead_letter(who, queue, settings.queue_settings(), before, now_ms)

    def update_webhook(
        self, who: Principal, name: str, changes: dict[str, Any], now_ms: int
    ) -> WebhookInfo:
        """Change settings. Another URL has to be confirmed anew; what waits is then posted there.

        Raises as :meth:`declare_webhook` does, and NotFound.
        """
        who.check("webhook:Declare", name)
        queue = self.webhook(name)
        old = queue.webhook.settings
        before = msgspec.to_builtins(old)
        retry = changes.get("retry")
        if isinstance(retry, dict):  # what is not named in there stays as well
            changes = changes | {"retry": before["retry"] | retry}
        settings = settings_from_plain(before | changes)
        # Whoever turns the question off while it is open answers it.
        open_question = not queue.webhook.confirmed_ms and old.confirm != settings.confirm
        self._check(who, name, settings, "" if open_question else old.url)
        self._have_dead_letter(who, name, settings, old.dead_letter, now_ms)
        webhook = queue.webhook.changed(settings)
        if not settings.confirm and not webhook.confirmed_ms:
            webhook = webhook.trusted(now_ms)
        self._redefine(queue, webhook)
        queue.sweep_ms = now_ms if queue.settings.retention_ms else 0
        queue.set_alarm()
        return queue.info(now_ms)

    def _redefine(self, queue: WebhookQueue, webhook: Webhook) -> None:
        """Log and apply: this is the webhook now."""
        definition = WebhookDefinition(
            name=queue.name,
            settings=webhook.settings.queue_settings(),
            webhook=webhook,
            created_ms=queue.created_ms,
        )
        self.log.append((encode_definition(queue.id, msgspec.msgpack.encode(definition)),))
        self.define_webhook(queue.id, definition)
        self.on_webhook(queue)

    def delete_webhook(self, who: Principal, name: str, now_ms: int) -> None:
        """Delete the webhook and what waits for it."""
        who.check("webhook:Delete", name)
        queue = self.webhook(name)
        self.log.append((encode_definition(queue.id, b""),))
        self.retire(queue)
        self.on_webhook(queue)

    def webhook_info(self, who: Principal, name: str, now_ms: int) -> WebhookInfo:
        """The webhook as it is now, without its secrets."""
        who.check("webhook:Describe", name)
        return self.webhook(name).info(now_ms)

    def list_webhooks(
        self, who: Principal, prefix: str, after: str, limit: int, now_ms: int
    ) -> list[WebhookInfo]:
        """Those webhooks that the principal may see, by name, a page at a time."""
        if not 1 <= limit <= PAGE_MAX:
            raise InvalidArgument(f"a page has 1 to {PAGE_MAX} entries")
        names = sorted(name for name in self.webhooks if name > after and name.startswith(prefix))
        shown: list[WebhookInfo] = []
        for name in names:
            if len(shown) == limit:
                break
            if who.allows("webhook:Describe", name):
                shown.append(self.webhooks[name].info(now_ms))
        return shown

    # Confirmation -----------------------------------------------------------------------------

    def confirm_webhook(self, name: str, token: str, now_ms: int) -> WebhookInfo:
        """Somebody brings back the token that was posted: it is the right to confirm.

        What was published so far is not posted. Confirming twice changes nothing. Raises
        PermissionDenied, also where there is no such webhook: that is nobody's business.
        """
        queue = self.webhooks.get(name)
        if queue is None:
            raise PermissionDenied("this token confirms nothing")
        webhook = queue.webhook.confirmed(token, now_ms)
        if webhook is not queue.webhook:
            if not webhook.was_confirmed:
                self._drop_all(queue)
            self._redefine(queue, webhook)
        return queue.info(now_ms)

    def _drop_all(self, queue: WebhookQueue) -> None:
        bounds = queue.bounds()
        self.log.append((encode_purge(queue.id, bounds),))
        self.discard_pages(queue, bounds)
        queue.forget_leases()
        self.later(self._release_trash)

    def ask_webhook_again(self, who: Principal, name: str, now_ms: int) -> WebhookInfo:
        """Ask whoever is there once more, with another token. Raises Conflict once confirmed."""
        who.check("webhook:Declare", name)
        queue = self.webhook(name)
        self._redefine(queue, queue.webhook.forgotten())
        return queue.info(now_ms)

    def ask_webhook(self, queue: WebhookQueue, token: str, now_ms: int) -> None:
        """A token was made that nobody can guess: the webhook is asked to bring it back."""
        self._redefine(queue, queue.webhook.asked(token, now_ms))

    # Giving up --------------------------------------------------------------------------------

    def give_up(self, queue: WebhookQueue, receipt: Receipt, reason: str, now_ms: int) -> None:
        """A message that is held cannot be delivered: a dead letter, or dropped."""
        seq, token = receipt
        lease = queue.leases.take(seq, token)
        if lease is None:
            return
        queue.end_lease(seq)
        if queue.settings.dead_letter:
            self.bury(queue, seq, reason, lease.receives, now_ms)
        else:
            queue.discard([seq], DROPPED)
            queue.counters.dropped += 1
            queue.activity.dropped += 1
        self.wake(queue)
