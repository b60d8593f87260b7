"""The sender of webhooks on an event loop: a task for each request, and one client for all.

``dispatch.py`` decides; this makes the requests it begins and tells it how they ended. It opens and
closes with the server: what is being posted when it closes has a moment to end, and is posted again
otherwise.
"""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from ...broker.core import Core
from ...broker.errors import InvalidArgument
from ...broker.signing import EnvelopeSigner
from ...broker.webhook_policy import WebhookPolicy
from .client import Answer, HttpClient
from .dispatch import CONFIRMATIONS_MAX, Dispatcher, Request
from .guard import Guard

__all__ = ["WebhookSender"]

_TOKEN_BYTES = 32


def _make_token() -> str:
    return secrets.token_urlsafe(_TOKEN_BYTES)


class WebhookSender:
    """Posts what waits in the queues of webhooks, from :meth:`open` to :meth:`close`.

    Args:
        core: an open broker on the same event loop. now_ms: its clock.
        policy: where it may call; :attr:`guard` is made of it.
        client: posts; default: one made by the policy.

    Raises InvalidArgument when a file that the policy names cannot be used.
    """

    def __init__(
        self,
        core: Core,
        now_ms: Callable[[], int],
        policy: WebhookPolicy,
        client: HttpClient | None = None,
    ) -> None:
        self._core = core
        self.guard = Guard(policy.allow, policy.ports)
        connections_max = policy.concurrency_max + CONFIRMATIONS_MAX
        try:
            self._client = client or HttpClient(self.guard, connections_max, policy.ca_file)
        except OSError as error:  # also what ssl raises
            raise InvalidArgument(f"webhooks.ca_file: {error}") from None
        self._dispatcher = Dispatcher(
            core,
            now_ms,
            self._start,
            _make_token,
            policy.concurrency_max,
            policy.public_url,
            _signer(policy),
        )
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Begin to post."""
        self._dispatcher.open()

    def hurry(self) -> None:
        """Give up what is being posted; it is posted again when this broker opens again."""
        for task in self._tasks:
            task.cancel()

    async def close(self, grace_seconds: float) -> None:
        """Begin nothing more, let requests end for ``grace_seconds``, give the others back."""
        self._dispatcher.drain()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_seconds)
        self.hurry()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._dispatcher.close()
        await self._client.__aexit__(None, None, None)

    def _start(self, request: Request) -> None:
        task = asyncio.get_running_loop().create_task(self._post(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, request: Request) -> None:
        post = request.post
        answer = Answer(error="failed", detail="a mistake of ours")
        try:
            answer = await self._client.post(
                request.url, post.headers, post.body, request.timeout_ms
            )
        except asyncio.CancelledError:
            raise
        except Exception as error:
            self._core.on_fault(error)
        self._dispatcher.answered(request, answer)


def _signer(policy: WebhookPolicy) -> EnvelopeSigner | None:
    if not policy.signing_key:
        return None
    try:
        key = Path(policy.signing_key).read_bytes()
    except OSError as error:
        raise InvalidArgument(f"webhooks.signing_key: {error}") from None
    return EnvelopeSigner(key, policy.signing_certificate_url)
