"""Bindings for people, the same in process and over the wire.

The part of a broker's face that is about bindings; the rules are those of ``face.py``.
"""

import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .bindings import BindingSettings
from .bindingverbs import BindingInfo, Target
from .errors import InvalidArgument
from .paging import PAGE_ENTRIES

if TYPE_CHECKING:
    from .bindingverbs import BindingVerbs

__all__ = ["BindingFace", "one_target"]


class BindingFace:
    """What a broker can be asked about bindings. ``verbs`` is that of the whole face."""

    if TYPE_CHECKING:

        @property
        def _binding_verbs(self) -> BindingVerbs: ...

    else:

        @property
        def _binding_verbs(self):
            return self.verbs

    async def bind(
        self,
        topic: str,
        *,
        queue: str = "",
        stream: str = "",
        webhook: str = "",
        where: str = "",
        filter: Mapping[str, Any] | str | None = None,
        scope: Literal["attributes", "body"] = "attributes",
        strict: bool = False,
        raw: bool = True,
        dead_letter: str = "",
    ) -> BindingInfo:
        """Have what is published to a topic put into a queue, a stream or a webhook, from now on.

        Binding the same again changes the conditions and options to those that are given now.

        Args:
            topic: its name, or a filter with wildcards: ``orders/#``.
            queue, stream, webhook: the target's name; one of them.
            where: a selector over headers: only messages that it selects.
            filter: a filter policy of SNS instead, on headers or, by ``scope``, on the JSON body.
            strict: hold the policy to the limits of SNS.
            raw: the message as it is; else in the JSON envelope of SNS.
            dead_letter: a queue for what the target refuses, because it is full or throttles.

        Raises:
            NotFound: there is no such target or dead-letter queue. InvalidArgument,
            PermissionDenied, LimitExceeded: nothing was bound or changed.
        """
        target = one_target(queue, stream, webhook)
        policy = filter if isinstance(filter, str) else "" if filter is None else _json(filter)
        settings = BindingSettings(
            where=where,
            policy=policy,
            scope=scope,
            strict=strict,
            raw=raw,
            dead_letter=dead_letter,
        )
        return await self._binding_verbs.bind(topic, target, settings)

    async def unbind(
        self, topic: str, *, queue: str = "", stream: str = "", webhook: str = ""
    ) -> None:
        """End a binding; what it brought stays. Raises NotFound, PermissionDenied."""
        await self._binding_verbs.unbind(topic, one_target(queue, stream, webhook))

    async def binding(
        self, topic: str, *, queue: str = "", stream: str = "", webhook: str = ""
    ) -> BindingInfo:
        """A binding as it is now. Raises NotFound, PermissionDenied."""
        return await self._binding_verbs.binding_info(topic, one_target(queue, stream, webhook))

    async def bindings(
        self, topic: str = "", *, queue: str = "", stream: str = "", webhook: str = ""
    ) -> AsyncIterator[BindingInfo]:
        """The bindings that you may see, in the order in which they were first made.

        Only those of one filter, written as it was bound, or of one target, if that is given.
        """
        target = one_target(queue, stream, webhook) if queue or stream or webhook else None
        after = 0
        while True:
            page = await self._binding_verbs.list_bindings(topic, target, after, PAGE_ENTRIES)
            for info in page:
                yield info
            if len(page) < PAGE_ENTRIES:
                return
            after = page[-1].id


def one_target(queue: str, stream: str, webhook: str) -> Target:
    """The one of three names that is given, as a target. Raises InvalidArgument."""
    named = [
        target
        for target in (
            Target("queue", queue),
            Target("stream", stream),
            Target("webhook", webhook),
        )
        if target.name
    ]
    if len(named) != 1:
        raise InvalidArgument("a topic is bound to one target: a queue, a stream or a webhook")
    return named[0]


def _json(policy: Mapping[str, Any]) -> str:
    try:
        return json.dumps(policy, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(f"a filter policy is JSON: {error}") from None
