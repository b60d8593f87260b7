"""What clients can ask about bindings: the gate before ``bindings.py``.

The rules are those of ``core.py``, of which this is a part. Who binds needs the right to bind the
filter, and all the rights that it takes to do by hand what the binding will do: to subscribe to
the filter, and to send to the target and to the dead-letter queue. They are asked again with each
message (``fanout.py``).
"""

from collections.abc import Iterable

import msgspec

from ..storage.record import encode_definition
from .access import Principal
from .bindings import Bindable, Binding, BindingDefinition, BindingSettings, Condition
from .bindingverbs import BindingInfo, Target
from .errors import InvalidArgument, LimitExceeded, NotFound
from .fanout import send_action
from .fifo import FifoQueue
from .queue import Queue
from .stream import Stream
from .streamview import StreamView
from .topic import check_filter, is_reserved
from .topiccore import PAGE_MAX, TopicCore
from .webhook import webhook_name
from .webhookqueue import WebhookQueue

__all__ = ["BindingCore"]


class BindingCore(TopicCore):
    """Bindings, for a principal."""

    def bind(
        self, who: Principal, filter: str, target: Target, settings: BindingSettings, now_ms: int
    ) -> BindingInfo:
        """Bind a filter to a target, or change how it is bound; in force from now on.

        Raises:
            PermissionDenied, NotFound (the target or the dead-letter queue), InvalidArgument,
            LimitExceeded, StorageFull, Overloaded, BrokerFailed: nothing was bound or changed.
        """
        limits = self.limits
        check_filter(filter, limits.topic_bytes_max, limits.topic_levels_max)
        if is_reserved(filter):
            raise InvalidArgument(f"{filter!r} is the broker's own, and cannot be bound")
        who.check_filter("topic:Bind", filter)
        who.check_filter("topic:Subscribe", filter)
        bound = self._target(target)
        _check_not_view(bound)
        who.check(send_action(bound), bound.name)
        settings = self._checked(who, bound, settings)
        found = self.bindings.find(filter, bound.id)
        if found is None:
            self._check_limits(filter)
        elif found.settings == settings and found.user == who.name:
            return self._binding_info(found)
        self.admit()
        definition = BindingDefinition(
            filter=filter,
            target=bound.id,
            user=who.name,
            settings=settings,
            created_ms=now_ms if found is None else found.created_ms,
        )
        id = self.take_id() if found is None else found.id
        self.log.append((encode_definition(id, msgspec.msgpack.encode(definition)),))
        self.bindings.define(id, definition)
        return self._binding_info(self.bindings.by_id[id])

    def _target(self, target: Target) -> Bindable:
        """Raises NotFound, BrokerFailed."""
        if self.failed is not None:
            raise self.failed
        found: Bindable | None
        if target.kind == "stream":
            found = self.stream_store.by_name.get(target.name)
        elif target.kind == "webhook":
            found = self.webhooks.get(target.name)
        else:
            found = self.queues.get(target.name)
        if found is None or (isinstance(found, WebhookQueue) and target.kind != "webhook"):
            raise NotFound(f"there is no {target.kind} {target.name!r}")
        return found

    def _checked(
        self, who: Principal, target: Bindable, settings: BindingSettings
    ) -> BindingSettings:
        """The settings as they are written down: a policy in one spelling."""
        policy = Condition(settings).policy
        if policy:
            settings = msgspec.structs.replace(settings, policy=policy)
        elif settings.scope != "attributes" or settings.strict:
            raise InvalidArgument("scope and strict are for filter policies")
        if isinstance(target, WebhookQueue) and not settings.raw:
            raise InvalidArgument(
                "a webhook's own settings say whether it gets an envelope; bind it raw"
            )
        name = settings.dead_letter
        if name:
            who.check("queue:Send", name)
            queue = self._target(Target("queue", name))
            assert isinstance(queue, Queue)
            _check_not_view(queue)
            if queue is target:
                raise InvalidArgument("what a target refuses cannot go to the target")
            if queue.fifo != isinstance(target, FifoQueue):
                raise InvalidArgument(
                    "a FIFO queue's dead letters go to a FIFO queue, and only they"
                )
        return settings

    def _check_limits(self, filter: str) -> None:
        limits, bindings = self.limits, self.bindings
        if len(bindings.by_id) >= limits.bindings_max:
            raise LimitExceeded(f"there are {limits.bindings_max} bindings, as many as may be")
        if bindings.count(filter) >= limits.bindings_per_filter_max:
            raise LimitExceeded(f"a filter has at most {limits.bindings_per_filter_max} bindings")
        more = bindings.router.new_shapes(filter)
        if more and bindings.router.shapes + more > limits.filter_shapes_max:
            raise LimitExceeded(
                f"bound filters have {bindings.router.shapes} different shapes,"
                " about as many as may be"
            )

    def unbind(self, who: Principal, filter: str, target: Target) -> None:
        """End a binding; what it brought stays. Raises PermissionDenied, NotFound."""
        who.check_filter("topic:Unbind", filter)
        binding = self._binding(filter, target)
        self.log.append((encode_definition(binding.id, b""),))
        self.bindings.undefine(binding.id)

    def _binding(self, filter: str, target: Target) -> Binding:
        binding = self.bindings.find(filter, self._target(target).id)
        if binding is None:
            raise NotFound(f"{filter!r} is not bound to {target.kind} {target.name!r}")
        return binding

    def binding_info(self, who: Principal, filter: str, target: Target) -> BindingInfo:
        """The binding as it is now. Raises PermissionDenied, NotFound."""
        who.check_filter("topic:Describe", filter)
        return self._binding_info(self._binding(filter, target))

    def list_bindings(
        self, who: Principal, filter: str, target: Target | None, after: int, limit: int
    ) -> list[BindingInfo]:
        """Those bindings that the principal may see, by their numbers, a page at a time."""
        if not 1 <= limit <= PAGE_MAX:
            raise InvalidArgument(f"a page has 1 to {PAGE_MAX} bindings")
        bindings = self.bindings
        ids: Iterable[int] = bindings.by_id
        if target is not None:
            ids = bindings.of_target(self._target(target).id)
        shown: list[BindingInfo] = []
        for id in sorted(id for id in ids if id > after):
            binding = bindings.by_id[id]
            if len(shown) == limit:
                break
            if filter and binding.filter != filter:
                continue
            if who.allows_filter("topic:Describe", binding.filter):
                shown.append(self._binding_info(binding))
        return shown

    def _binding_info(self, binding: Binding) -> BindingInfo:
        target = binding.target
        if isinstance(target, WebhookQueue):
            shown = Target("webhook", webhook_name(target.name))
        else:
            shown = Target("stream" if isinstance(target, Stream) else "queue", target.name)
        return BindingInfo(
            id=binding.id,
            filter=binding.filter,
            target=shown,
            settings=binding.settings,
            user=binding.user,
            created_ms=binding.created_ms,
            allowed=self.fanout.may_send(binding.user, target),
            dropped=binding.dropped,
            dead_lettered=binding.dead_lettered,
            duplicates=binding.duplicates,
        )


def _check_not_view(queue: Bindable) -> None:
    if isinstance(queue, StreamView):
        raise InvalidArgument(
            f"queue {queue.name} shows the stream {queue.stream.name}: bind the stream instead"
        )
