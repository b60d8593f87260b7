"""The client's side of bindings in the native protocol. Part of ``client.py``."""

from typing import Any, Protocol

from ...broker.bindings import BindingSettings
from ...broker.bindingverbs import BindingInfo, Target

__all__ = ["BindingCalls", "Caller"]


class Caller(Protocol):
    """What ``NativeClient`` has for all its verbs."""

    async def call(self, operation: str, *fields: object) -> Any:
        """Ask once."""

    async def read(self, operation: str, *fields: object) -> Any:
        """Ask for what changes nothing, again if need be."""


class BindingCalls:
    """The verbs of bindings."""

    async def bind(
        self: Caller, filter: str, target: Target, settings: BindingSettings
    ) -> BindingInfo:
        return _one(await self.call("BIND", filter, _fields(target), settings))

    async def unbind(self: Caller, filter: str, target: Target) -> None:
        await self.call("UNBIND", filter, _fields(target))

    async def binding_info(self: Caller, filter: str, target: Target) -> BindingInfo:
        return _one(await self.read("BINDING_INFO", filter, _fields(target)))

    async def list_bindings(
        self: Caller,
        filter: str = "",
        target: Target | None = None,
        after: int = 0,
        limit: int = 1000,
    ) -> list[BindingInfo]:
        fields = None if target is None else _fields(target)
        reply = await self.read("LIST_BINDINGS", filter, fields, after, limit)
        found: list[BindingInfo] = reply.bindings
        return found


def _fields(target: Target) -> tuple[str, str]:
    return target.kind, target.name


def _one(reply: Any) -> BindingInfo:
    (info,) = reply.bindings
    assert isinstance(info, BindingInfo)
    return info
