"""The server's side of bindings in the native protocol. Part of ``session.py``."""

from typing import TYPE_CHECKING

from ...storage.log import Durability
from . import binding_operations as binding_op
from . import operations as op
from .frames import append_frame

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core

__all__ = ["LIST_BINDINGS_MAX", "BindingRequests"]

LIST_BINDINGS_MAX = 1_000  # in one answer
_SYNC = Durability.SYNC


class BindingRequests:
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    _core: "Core"
    _who: "Principal"
    _out: bytearray

    def _answers(self, level: Durability) -> bytearray:
        raise NotImplementedError

    def on_bind(self, request: binding_op.Bind, now_ms: int) -> None:
        info = self._core.bind(
            self._who, request.filter, request.target.target(), request.settings, now_ms
        )
        append_frame(self._answers(_SYNC), binding_op.BindingsReply(request.request, [info]))

    def on_unbind(self, request: binding_op.Unbind, now_ms: int) -> None:
        self._core.unbind(self._who, request.filter, request.target.target())
        append_frame(self._answers(_SYNC), op.DoneReply(request.request))

    def on_binding_info(self, request: binding_op.BindingInfoRequest, now_ms: int) -> None:
        info = self._core.binding_info(self._who, request.filter, request.target.target())
        append_frame(self._out, binding_op.BindingsReply(request.request, [info]))

    def on_list_bindings(self, request: binding_op.ListBindings, now_ms: int) -> None:
        target = None if request.target is None else request.target.target()
        limit = min(request.limit, LIST_BINDINGS_MAX)
        found = self._core.list_bindings(self._who, request.filter, target, request.after, limit)
        append_frame(self._out, binding_op.BindingsReply(request.request, found))
