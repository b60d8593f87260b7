"""The server's side of webhooks in the native protocol. Part of ``session.py``."""

from typing import TYPE_CHECKING

from ...storage.log import Durability
from . import operations as op
from . import webhook_operations as webhook_op
from .frames import append_frame

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core

__all__ = ["LIST_WEBHOOKS_MAX", "WebhookRequests"]

LIST_WEBHOOKS_MAX = 1_000  # in one answer
_SYNC = Durability.SYNC


class WebhookRequests:
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    _core: "Core"
    _who: "Principal"
    _out: bytearray

    def _answers(self, level: Durability) -> bytearray:
        raise NotImplementedError

    def on_declare_webhook(self, request: webhook_op.DeclareWebhook, now_ms: int) -> None:
        info = self._core.declare_webhook(self._who, request.webhook, request.settings, now_ms)
        append_frame(self._answers(_SYNC), webhook_op.WebhooksReply(request.request, [info]))

    def on_update_webhook(self, request: webhook_op.UpdateWebhook, now_ms: int) -> None:
        info = self._core.update_webhook(self._who, request.webhook, request.changes, now_ms)
        append_frame(self._answers(_SYNC), webhook_op.WebhooksReply(request.request, [info]))

    def on_delete_webhook(self, request: webhook_op.DeleteWebhook, now_ms: int) -> None:
        self._core.delete_webhook(self._who, request.webhook, now_ms)
        append_frame(self._answers(_SYNC), op.DoneReply(request.request))

    def on_webhook_info(self, request: webhook_op.WebhookInfoRequest, now_ms: int) -> None:
        info = self._core.webhook_info(self._who, request.webhook, now_ms)
        append_frame(self._out, webhook_op.WebhooksReply(request.request, [info]))

    def on_list_webhooks(self, request: webhook_op.ListWebhooks, now_ms: int) -> None:
        limit = min(request.limit, LIST_WEBHOOKS_MAX)
        found = self._core.list_webhooks(self._who, request.prefix, request.after, limit, now_ms)
        append_frame(self._out, webhook_op.WebhooksReply(request.request, found))

    def on_confirm_webhook(self, request: webhook_op.ConfirmWebhook, now_ms: int) -> None:
        info = self._core.confirm_webhook(request.webhook, request.token, now_ms)
        append_frame(self._answers(_SYNC), webhook_op.WebhooksReply(request.request, [info]))

    def on_ask_webhook_again(self, request: webhook_op.AskWebhookAgain, now_ms: int) -> None:
        info = self._core.ask_webhook_again(self._who, request.webhook, now_ms)
        append_frame(self._answers(_SYNC), webhook_op.WebhooksReply(request.request, [info]))
