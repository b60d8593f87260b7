"""Bindings: durable subscriptions from a topic filter to a queue or a stream, with a condition.

A binding is an entity of its own: a DEFINITION of the kind ``binding`` makes it or changes it, an
empty one ends it. There is one for a filter and a target; binding them again changes it. It names
its target by the entity, so it goes with the target, by the same record, and a new queue of the
same name is not bound. Whoever made it last is remembered: their rights decide what it delivers.

The bindings of one filter that one user made are a :class:`Bundle`. Topics are matched against
the filters of bundles, in a tree of their own; so ten thousand queues bound to one filter are one
thing to find, and one question of rights. What a message does at a bundle stands in ``fanout.py``.

A checkpoint holds bindings as sections::

    BINDINGS   MessagePack: list of definitions, with their entities
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal

import msgspec

from ..storage.log import Durability
from .binding_index import BindingIndex
from .errors import InvalidArgument
from .filter_policy import FilterPolicy, Scope
from .index_keys import IndexKeys
from .message import HeaderMap
from .queue import Queue
from .router import FilterTree
from .selectors import MessageFields, Selector
from .stream import Stream

__all__ = [
    "BINDINGS",
    "Bindable",
    "Binding",
    "BindingDefinition",
    "BindingSettings",
    "Bindings",
    "Bundle",
    "Condition",
]

BINDINGS = 16  # section kind; the others stand in state.py, retained.py and shard.py
_SECTION_BINDINGS = 64  # a policy may have 256 KiB

Bindable = Queue | Stream

_SCOPES = {"attributes": Scope.ATTRIBUTES, "body": Scope.BODY}


class BindingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything that can be set on a binding.

    At most one of ``where`` and ``policy``: a selector over headers (``selectors.py``), or a
    filter policy as JSON (``filter_policy.py``) on the headers or on the JSON body.
    """

    where: str = ""
    policy: str = ""
    scope: Literal["attributes", "body"] = "attributes"
    strict: bool = False  # the policy keeps to the limits of SNS
    raw: bool = True  # the message as it was published; else in an envelope (envelope.py)
    dead_letter: str = ""  # a queue for what the target refuses; "": it is dropped, and counted


class BindingDefinition(msgspec.Struct, kw_only=True):
    """The content of a DEFINITION record; with ``id`` in sections."""

    kind: str = "binding"
    filter: str
    target: int
    user: str
    settings: BindingSettings
    created_ms: int
    id: int = 0


class Condition:
    """What a message must be like: a selector or a filter policy, compiled.

    Attributes:
        on_body: it is about the body.
    """

    __slots__ = ("_policy", "_selector", "on_body")

    def __init__(self, settings: BindingSettings) -> None:
        """Raise InvalidArgument when it cannot be compiled."""
        self._selector: Selector | None = None
        self._policy: FilterPolicy | None = None
        self.on_body = False
        if settings.where and settings.policy:
            raise InvalidArgument("a binding has a selector or a filter policy, not both")
        if settings.where:
            self._selector = Selector.parse(settings.where)
        elif settings.policy:
            scope = _SCOPES[settings.scope]
            self._policy = FilterPolicy(settings.policy, scope, strict=settings.strict)
            self.on_body = scope is Scope.BODY

    @property
    def policy(self) -> str:
        """The filter policy as JSON, as it is written down; "" for a selector."""
        return self._policy.document if self._policy is not None else ""

    def index_keys(self) -> IndexKeys:
        """What an index finds it by."""
        found = self._selector or self._policy
        return found.index_keys() if found is not None else None

    def matches_headers(self, headers: HeaderMap, time_ms: int) -> bool:
        """Whether headers of what was published then fulfil it, which must be about headers."""
        selector = self._selector
        if selector is not None:
            if selector.asks_fields:  # an id it has once it is written, a priority never
                return selector.matches(headers, MessageFields(time_ms=time_ms))
            return selector.matches(headers)
        return self._policy is None or self._policy.matches_attributes(headers)

    def matches_body(self, document: Mapping[str, Any] | None) -> bool:
        """The same for a body as ``filter_policy.decode_body`` reads it."""
        return self._policy is None or self._policy.matches_body(document)


class Binding:
    """One binding.

    Attributes:
        id: its entity. target: where messages go. condition: None takes every message.
        allowed: its user may send to the target. plain: nothing is special about how; both as
            of the last :meth:`Bundle.refresh`.
        dropped, dead_lettered, duplicates: messages since the broker started that the target
            refused and that are gone, or were put into the dead-letter queue; and those that a
            FIFO target had already.
    """

    __slots__ = (
        "allowed",
        "bundle",
        "condition",
        "created_ms",
        "dead_lettered",
        "dropped",
        "duplicates",
        "filter",
        "id",
        "plain",
        "settings",
        "target",
        "user",
    )

    def __init__(self, id: int, definition: BindingDefinition, target: Bindable) -> None:
        settings = definition.settings
        self.id = id
        self.filter = definition.filter
        self.target = target
        self.user = definition.user
        self.settings = settings
        self.created_ms = definition.created_ms
        self.condition = Condition(settings) if settings.where or settings.policy else None
        self.bundle: Bundle | None = None
        self.allowed = self.plain = False
        self.dropped = self.dead_lettered = self.duplicates = 0


class Bundle:
    """The bindings of one filter that one user made.

    Attributes:
        plain: the queues of those that take every message of this filter as it is.
        streams: those to streams that do so. level: the highest durability of both.
        special: the others without a condition.
        by_headers, by_body: those with a condition.
        version: of the users, at the last :meth:`refresh`; -1: something changed since.
    """

    __slots__ = (
        "all",
        "by_body",
        "by_headers",
        "filter",
        "level",
        "plain",
        "special",
        "streams",
        "user",
        "version",
    )

    def __init__(self, filter: str, user: str) -> None:
        self.filter = filter
        self.user = user
        self.all: dict[int, Binding] = {}
        self.plain: list[Queue] = []
        self.streams: list[Binding] = []
        self.special: list[Binding] = []
        self.by_headers: BindingIndex[Binding] = BindingIndex()
        self.by_body: BindingIndex[Binding] = BindingIndex()
        self.level = Durability.MEMORY
        self.version = -1

    def add(self, binding: Binding) -> None:
        """Let a binding in."""
        self.all[binding.id] = binding
        binding.bundle = self
        self.version = -1
        condition = binding.condition
        if condition is not None:
            index = self.by_body if condition.on_body else self.by_headers
            index.add(binding, condition.index_keys())

    def remove(self, binding: Binding) -> None:
        """Let one go that is here."""
        del self.all[binding.id]
        binding.bundle = None
        self.version = -1
        if binding.condition is not None:
            (self.by_body if binding.condition.on_body else self.by_headers).remove(binding)

    def target_changed(self) -> None:
        """The settings of a target are others."""
        self.version = -1

    def refresh(self, version: int, may_send: Callable[[Bindable], bool]) -> None:
        """See who is plain and may be sent to, by this version of the users."""
        self.plain, self.streams, self.special = [], [], []
        for binding in self.all.values():
            binding.allowed = may_send(binding.target)
            binding.plain = binding.settings.raw and _is_plain(binding.target)
            if binding.condition is not None or not binding.allowed:
                continue
            if not binding.plain:
                self.special.append(binding)
            elif isinstance(binding.target, Stream):
                self.streams.append(binding)
            else:
                self.plain.append(binding.target)
        plain = [*self.plain, *(binding.target for binding in self.streams)]
        self.level = max((each.settings.durability for each in plain), default=Durability.MEMORY)
        self.version = version


def _is_plain(target: Bindable) -> bool:
    """Whether a target takes every message, and as it is."""
    if target.settings.durability is Durability.MEMORY:
        return False
    if isinstance(target, Stream):
        rates = target.settings
        return not (rates.shard_bytes_in_per_second or rates.shard_records_in_per_second)
    settings = target.settings
    return not (
        settings.fifo
        or settings.delay_ms
        or settings.ttl_ms
        or settings.messages_max
        or settings.bytes_max
    )


class Bindings:
    """All bindings, and how the log brings them back: the apply side of ``bindingcore.py``.

    Attributes:
        by_id: the bindings, by entity. router: their bundles, by filter.
    """

    def __init__(self, find_target: Callable[[int], Bindable | None]) -> None:
        """``find_target`` knows the entities that can be bound, once replay is over."""
        self._find_target = find_target
        self.by_id: dict[int, Binding] = {}
        self.router: FilterTree[Bundle, Bundle] = FilterTree()
        self._definitions: dict[int, BindingDefinition] = {}
        self._by_target: dict[int, dict[int, BindingDefinition]] = {}
        self._by_key: dict[tuple[str, int], int] = {}
        self._bundles: dict[tuple[str, str], Bundle] = {}
        self._counts: dict[str, int] = {}  # by filter
        self._dead_letters: dict[str, int] = {}  # by name: for how many bindings
        self._live = False  # replay is over: definitions have targets

    def find(self, filter: str, target: int) -> Binding | None:
        """The binding of a filter and a target's entity."""
        id = self._by_key.get((filter, target))
        return None if id is None else self.by_id[id]

    def of_target(self, target: int) -> Collection[int]:
        """The bindings of a target, by their entities."""
        return self._by_target.get(target, {}).keys()

    def count(self, filter: str) -> int:
        """How many bindings a filter has."""
        return self._counts.get(filter, 0)

    def are_buried_in(self, queue: str) -> bool:
        """Whether some binding has this dead-letter queue."""
        return queue in self._dead_letters

    def target_changed(self, target: int) -> None:
        """The settings of a queue or a stream are others."""
        for id in self._by_target.get(target, ()) if self._live else ():
            bundle = self.by_id[id].bundle
            assert bundle is not None
            bundle.target_changed()

    # Apply ------------------------------------------------------------------------------------

    def define(self, id: int, definition: BindingDefinition) -> None:
        """Apply: the binding is there, and like this."""
        self.undefine(id)
        self._definitions[id] = definition
        self._by_target.setdefault(definition.target, {})[id] = definition
        if self._live:
            self._enter(id, definition)

    def undefine(self, id: int) -> None:
        """Apply: the binding is gone."""
        definition = self._definitions.pop(id, None)
        if definition is None:
            return
        others = self._by_target[definition.target]
        del others[id]
        if not others:
            del self._by_target[definition.target]
        binding = self.by_id.pop(id, None)
        if binding is not None:
            self._leave(binding)

    def target_gone(self, target: int) -> None:
        """Apply: a queue or a stream is gone, and its bindings with it."""
        for id in list(self._by_target.get(target, ())):
            self.undefine(id)

    def _enter(self, id: int, definition: BindingDefinition) -> None:
        target = self._find_target(definition.target)
        assert target is not None, "a binding goes with its target"
        binding = Binding(id, definition, target)
        self.by_id[id] = binding
        self._by_key[binding.filter, target.id] = id
        self._counts[binding.filter] = self.count(binding.filter) + 1
        if binding.settings.dead_letter:
            name = binding.settings.dead_letter
            self._dead_letters[name] = self._dead_letters.get(name, 0) + 1
        key = (binding.filter, binding.user)
        bundle = self._bundles.get(key)
        if bundle is None:
            bundle = self._bundles[key] = Bundle(*key)
            self.router.add(binding.filter, bundle, bundle)
        bundle.add(binding)

    def _leave(self, binding: Binding) -> None:
        filter, bundle = binding.filter, binding.bundle
        assert bundle is not None
        del self._by_key[filter, binding.target.id]
        _count_down(self._counts, filter)
        if binding.settings.dead_letter:
            _count_down(self._dead_letters, binding.settings.dead_letter)
        bundle.remove(binding)
        if not bundle.all:
            del self._bundles[filter, bundle.user]
            self.router.remove(filter, bundle)

    # Checkpoint and recovery ------------------------------------------------------------------

    def snapshot(self) -> Iterator[tuple[int, bytes]]:
        """All definitions, a few in each section."""
        ids = list(self._definitions)
        for begin in range(0, len(ids), _SECTION_BINDINGS):
            some = [id for id in ids[begin : begin + _SECTION_BINDINGS] if id in self._definitions]
            found = [msgspec.structs.replace(self._definitions[id], id=id) for id in some]
            yield BINDINGS, msgspec.msgpack.encode(found)

    def load(self, content: bytes) -> None:
        """Take back a section."""
        for definition in msgspec.msgpack.decode(content, type=list[BindingDefinition]):
            self.define(definition.id, definition)

    def finish(self) -> None:
        """Everything was loaded and applied: find the targets."""
        self._live = True
        for id, definition in list(self._definitions.items()):
            self._enter(id, definition)


def _count_down(counts: dict[str, int], name: str) -> None:
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
