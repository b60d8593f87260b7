"""The server's side of managing queues in the native protocol. Part of ``session.py``.

Webhooks, which are queues as well, are managed in ``webhooks.py``, bindings in ``bindings.py``,
replays in ``replays.py``, schedules in ``schedules.py``.
"""

from typing import TYPE_CHECKING

from ...storage.log import Durability
from . import operations as op
from . import redrive_operations as redrive_op
from .frames import append_frame
from .schedules import ScheduleRequests
from .webhooks import WebhookRequests

if TYPE_CHECKING:
    from ...broker.access import Principal
    from ...broker.core import Core
    from ..session import Host

__all__ = ["LIST_QUEUES_MAX", "ManagementRequests"]

LIST_QUEUES_MAX = 1_000  # in one answer
_SYNC = Durability.SYNC


class ManagementRequests(ScheduleRequests, WebhookRequests):
    """One method per operation, as in ``NativeSession``, which this is a part of."""

    _core: "Core"
    _host: "Host"
    _who: "Principal"
    _out: bytearray

    def _answers(self, level: Durability) -> bytearray:
        raise NotImplementedError

    def on_declare_queue(self, request: op.DeclareQueue, now_ms: int) -> None:
        info = self._core.declare_queue(self._who, request.queue, request.settings, now_ms)
        append_frame(self._answers(_SYNC), op.QueuesReply(request.request, [info]))

    def on_update_queue(self, request: op.UpdateQueue, now_ms: int) -> None:
        info = self._core.update_queue(self._who, request.queue, request.changes, now_ms)
        append_frame(self._answers(_SYNC), op.QueuesReply(request.request, [info]))

    def on_delete_queue(self, request: op.DeleteQueue, now_ms: int) -> None:
        self._core.delete_queue(self._who, request.queue, request.if_empty, now_ms)
        append_frame(self._answers(_SYNC), op.DoneReply(request.request))

    def on_queue_info(self, request: op.QueueInfoRequest, now_ms: int) -> None:
        info = self._core.queue_info(self._who, request.queue)
        append_frame(self._out, op.QueuesReply(request.request, [info]))

    def on_list_queues(self, request: op.ListQueues, now_ms: int) -> None:
        found = self._core.list_queues(
            self._who, request.prefix, request.after, min(request.limit, LIST_QUEUES_MAX)
        )
        append_frame(self._out, op.QueuesReply(request.request, found))

    def on_redrive(self, request: redrive_op.Redrive, now_ms: int) -> None:
        info = self._core.redrive(
            self._who, request.source, request.target, request.rate, request.limit, now_ms
        )
        append_frame(self._out, redrive_op.RedrivesReply(request.request, [info]))

    def on_list_redrives(self, request: redrive_op.ListRedrives, now_ms: int) -> None:
        found = self._core.list_redrives(self._who)
        append_frame(self._out, redrive_op.RedrivesReply(request.request, found))

    def on_cancel_redrive(self, request: redrive_op.CancelRedrive, now_ms: int) -> None:
        info = self._core.cancel_redrive(self._who, request.redrive)
        append_frame(self._out, redrive_op.RedrivesReply(request.request, [info]))

    def on_broker_info(self, request: op.BrokerInfoRequest, now_ms: int) -> None:
        info = self._core.broker_info(self._who, now_ms, self._host.connections)
        append_frame(self._out, op.BrokerReply(request.request, info))
