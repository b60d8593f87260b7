"""The operations about webhooks. Part of ``operations.py``, whose rules hold here."""

from typing import Annotated, Final

import msgspec

from ...broker.webhook import WebhookInfo, WebhookSettings

__all__ = [
    "OPERATIONS",
    "AskWebhookAgain",
    "ConfirmWebhook",
    "DeclareWebhook",
    "DeleteWebhook",
    "ListWebhooks",
    "UpdateWebhook",
    "WebhookInfoRequest",
    "WebhooksReply",
]

# As in operations.py, which gathers all operations and so cannot be imported here.
RequestId = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
_Change = bool | int | str | list[str] | dict[str, str | int]


class DeclareWebhook(msgspec.Struct, array_like=True, tag=56):
    request: RequestId
    webhook: str
    settings: WebhookSettings


class UpdateWebhook(msgspec.Struct, array_like=True, tag=57):
    request: RequestId
    webhook: str
    changes: dict[str, _Change]


class DeleteWebhook(msgspec.Struct, array_like=True, tag=58):
    request: RequestId
    webhook: str


class WebhookInfoRequest(msgspec.Struct, array_like=True, tag=59):
    request: RequestId
    webhook: str


class ListWebhooks(msgspec.Struct, array_like=True, tag=60):
    request: RequestId
    prefix: str = ""
    after: str = ""
    limit: Count = 1000


class ConfirmWebhook(msgspec.Struct, array_like=True, tag=61):
    """Needs no right: the token is the right."""

    request: RequestId
    webhook: str
    token: str


class AskWebhookAgain(msgspec.Struct, array_like=True, tag=62):
    request: RequestId
    webhook: str


class WebhooksReply(msgspec.Struct, array_like=True, tag=120):
    request: int
    webhooks: list[WebhookInfo]


Request = (
    DeclareWebhook
    | UpdateWebhook
    | DeleteWebhook
    | WebhookInfoRequest
    | ListWebhooks
    | ConfirmWebhook
    | AskWebhookAgain
)

OPERATIONS: Final[dict[str, int]] = {
    "DECLARE_WEBHOOK": 56,
    "UPDATE_WEBHOOK": 57,
    "DELETE_WEBHOOK": 58,
    "WEBHOOK_INFO": 59,
    "LIST_WEBHOOKS": 60,
    "CONFIRM_WEBHOOK": 61,
    "ASK_WEBHOOK_AGAIN": 62,
    "WEBHOOKS": 120,
}
