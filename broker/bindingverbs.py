"""What can be asked about bindings: the verbs, to await, and the values that go in and out.

The broker in this process and the client of the native protocol both implement them.
"""

from typing import Literal, Protocol

import msgspec

from .bindings import BindingSettings

__all__ = ["BindingInfo", "BindingVerbs", "Target", "TargetKind"]

TargetKind = Literal["queue", "stream", "webhook"]


class Target(msgspec.Struct, frozen=True, gc=False):
    """What a topic filter is bound to: a queue of either kind, a stream or a webhook, by name."""

    kind: TargetKind
    name: str


class BindingInfo(msgspec.Struct):
    """A binding as it is now. The counters are since the broker started."""

    id: int  # where a page of a list goes on
    filter: str
    target: Target
    settings: BindingSettings
    user: str  # whose rights it has
    created_ms: int
    allowed: bool  # the user may send to the target
    dropped: int  # messages that the target refused and that are gone
    dead_lettered: int  # messages that it refused and that are in the dead-letter queue
    duplicates: int  # messages that a FIFO queue had before


class BindingVerbs(Protocol):
    """Everything a client can ask about bindings."""

    async def bind(self, filter: str, target: Target, settings: BindingSettings) -> BindingInfo:
        """Bind a topic filter to a target from now on, or change how it is bound."""

    async def unbind(self, filter: str, target: Target) -> None:
        """End a binding. What it brought stays. Raises NotFound."""

    async def binding_info(self, filter: str, target: Target) -> BindingInfo:
        """The binding as it is now. Raises NotFound."""

    async def list_bindings(
        self, filter: str = "", target: Target | None = None, after: int = 0, limit: int = 1000
    ) -> list[BindingInfo]:
        """Bindings in the order they were first made, a page at a time: those after ``after``.

        Only those of one filter, or of one target, when that is given.
        """
