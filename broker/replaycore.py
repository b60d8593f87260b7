"""What clients can ask about replays: the gate before ``replays.py``.

The rules are those of ``core.py``, of which this is a part. Who replays needs the right to bind the
filter and to subscribe to it, to read the archive, and to send to the target.
"""

import msgspec

from .access import Principal
from .bindingcore import BindingCore
from .bindingverbs import Target
from .errors import InvalidArgument, NotFound
from .fanout import send_action
from .replaying import replay_info
from .replaystore import ReplayDefinition
from .replayverbs import ReplayInfo, ReplayPolicy

__all__ = ["ReplayCore"]

_RATE_MAX = 1_000_000


class ReplayCore(BindingCore):
    """Replays, for a principal."""

    def replay(
        self, who: Principal, filter: str, target: Target, policy: ReplayPolicy, now_ms: int
    ) -> ReplayInfo:
        """Begin to put what an archive keeps of a topic into what is bound to it, once more.

        Raises:
            PermissionDenied, NotFound (the binding or the archive), Conflict (one is running for
            the binding), InvalidArgument, LimitExceeded, StorageFull, Overloaded, BrokerFailed.
        """
        who.check_filter("topic:Bind", filter)
        who.check_filter("topic:Subscribe", filter)
        who.check("stream:Read", policy.archive)
        binding = self._binding(filter, target)
        who.check(send_action(binding.target), binding.target.name)
        archive = self.streams.get(policy.archive)
        if archive is binding.target:
            raise InvalidArgument("an archive cannot be replayed to itself")
        if not 0 <= policy.rate <= _RATE_MAX:
            raise InvalidArgument(f"a rate is between 0 and {_RATE_MAX} messages a second")
        if policy.start_ms < 0 or (policy.end_ms and policy.end_ms <= policy.start_ms):
            raise InvalidArgument("a replay ends after it starts")
        # A clock that went back has left times that are yet to come.
        newest_ms = max([now_ms, *(shard.last_ms for shard in archive.shards.values())])
        end_ms = min(policy.end_ms or newest_ms + 1, newest_ms + 1)
        definition = ReplayDefinition(
            binding=binding.id,
            archive=archive.id,
            filter=filter,
            target=target,
            policy=msgspec.structs.replace(policy, end_ms=end_ms),
            user=who.name,
            created_ms=now_ms,
        )
        return self._replay_info(self.replays.begin(definition, now_ms))

    def list_replays(self, who: Principal) -> list[ReplayInfo]:
        """Those that run and those that ended lately, if the principal may see the binding."""
        return [
            self._replay_info(id)
            for id, definition in self.replay_store.by_id.items()
            if who.allows_filter("topic:Describe", definition.filter)
        ]

    def cancel_replay(self, who: Principal, id: int) -> ReplayInfo:
        """Stop a replay; what was replayed stays. Raises PermissionDenied, NotFound."""
        definition = self.replay_store.by_id.get(id)
        if definition is None:
            raise NotFound(f"there is no replay {id}")
        who.check_filter("topic:Bind", definition.filter)
        if self.failed is not None:
            raise self.failed
        self.replays.cancel(id)
        return self._replay_info(id)

    def _replay_info(self, id: int) -> ReplayInfo:
        definition = self.replay_store.by_id[id]
        return replay_info(definition, id, self.stream_store.by_id.get(definition.archive))
