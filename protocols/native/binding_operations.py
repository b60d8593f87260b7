"""The operations about bindings. Part of ``operations.py``, whose rules hold here."""

from typing import Annotated, Final

import msgspec

from ...broker.bindings import BindingSettings
from ...broker.bindingverbs import BindingInfo, Target, TargetKind

__all__ = [
    "OPERATIONS",
    "Bind",
    "BindingInfoRequest",
    "BindingsReply",
    "ListBindings",
    "Unbind",
    "WireTarget",
]

_RequestId = Annotated[int, msgspec.Meta(ge=1, le=2**32 - 1)]
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


class WireTarget(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """[kind, name]"""

    kind: TargetKind
    name: str

    def target(self) -> Target:
        """The same as the broker has it."""
        return Target(self.kind, self.name)


class Bind(msgspec.Struct, array_like=True, tag=48):
    request: _RequestId
    filter: str
    target: WireTarget
    settings: BindingSettings = BindingSettings()


class Unbind(msgspec.Struct, array_like=True, tag=49):
    request: _RequestId
    filter: str
    target: WireTarget


class BindingInfoRequest(msgspec.Struct, array_like=True, tag=50):
    request: _RequestId
    filter: str
    target: WireTarget


class ListBindings(msgspec.Struct, array_like=True, tag=51):
    request: _RequestId
    filter: str = ""
    target: WireTarget | None = None
    after: _Count = 0
    limit: _Count = 1000


class BindingsReply(msgspec.Struct, array_like=True, tag=112):
    request: int
    bindings: list[BindingInfo]


OPERATIONS: Final[dict[str, int]] = {
    "BIND": 48,
    "UNBIND": 49,
    "BINDING_INFO": 50,
    "LIST_BINDINGS": 51,
    "BINDINGS": 112,
}
