"""The page behind SubscribeURL: whoever GETs it with the right token confirms a webhook.

The token is the right to confirm; nobody has to log in. What is wrong with a token, or whether
there is such a webhook at all, is not told. Should the broker be killed before the confirmation is
on disk, it asks again with the same token when it is back.
"""

from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from ...broker.core import Core
from ...broker.errors import BraidError, PermissionDenied

if TYPE_CHECKING:
    from ..http.messages import Request, Response
    from ..http.session import Answer

__all__ = ["CONFIRM_PATH", "confirming"]

CONFIRM_PATH = "/webhooks/confirm"

_FIELDS_MAX = 8


def confirming(core: Core) -> "Answer":
    """The answer of the page, for this broker."""
    return partial(_confirm, core)


def _confirm(core: Core, request: "Request", now_ms: int) -> "Response":
    from ..http import messages  # brings httptools, which whoever has a listener has

    try:
        fields = parse_qs(request.query, strict_parsing=True, max_num_fields=_FIELDS_MAX)
        (name,), (token,) = fields["name"], fields["token"]
    except (ValueError, KeyError):
        return messages.json_response(400, "the query has one name and one token")
    if request.method != "GET":
        return messages.json_response(405, "GET it", ("Allow", "GET"))
    try:
        core.confirm_webhook(name, token, now_ms)
    except PermissionDenied as error:
        return messages.json_response(403, str(error))
    except BraidError as error:
        return messages.json_response(503, str(error))
    return messages.Response(200, b'{"state":"confirmed"}')
