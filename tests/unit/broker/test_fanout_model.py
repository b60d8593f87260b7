"""Fan-out against a reference that asks every binding about every message, over restarts.

The reference knows nothing of indexes, bundles, letters or records: it keeps a list of bindings
and, for each target, what it must hold.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindingverbs import Target
from braidmq.broker.topic import matches
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.fanout_harness import bind, declare_stream, publish, records

FULL_AT = 3
TARGETS: dict[str, dict[str, Any]] = {
    "a": {},
    "b": {"delay_ms": 1_000},
    "fifo": {"fifo": True},
    "same": {"fifo": True, "content_dedup": True},
    "full": {"messages_max": FULL_AT},
    "gone": {"durability": Durability.MEMORY},
    "dead": {},
}
STREAM = "s"
FILTERS = ["t/#", "t/+", "t/1", "+/2"]
TOPICS = ["t/1", "t/2", "u/2", "u/1"]


class Case(NamedTuple):
    """A condition: how it is written, and what it means."""

    settings: dict[str, Any]
    holds: Callable[[dict[str, str], bytes], bool]


def _number(body: bytes) -> int:
    try:
        return int(json.loads(body)["n"])
    except ValueError:
        return -1


CASES = [
    Case({}, lambda headers, body: True),
    Case({"where": "kind = 'x'"}, lambda headers, body: headers.get("kind") == "x"),
    Case({"where": "kind <> 'x'"}, lambda headers, body: headers.get("kind", "x") != "x"),
    Case(
        {"policy": '{"kind": ["x", "y"]}'},
        lambda headers, body: headers.get("kind") in ("x", "y"),
    ),
    Case(
        {"policy": '{"n": [{"numeric": [">=", 5]}]}', "scope": "body"},
        lambda headers, body: _number(body) >= 5,
    ),
    Case({"policy": '{"tag": ["even"]}', "scope": "body"}, lambda headers, body: b"even" in body),
]
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from("xyz"),
        "group_id": st.sampled_from("gh"),
        "dedup_id": st.sampled_from("12"),
    },
)


class Bound(NamedTuple):
    case: Case
    raw: bool
    dead_letter: bool


class FanoutMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.broker = DiskBroker()
        for name in TARGETS:
            self._declare(name)
        declare_stream(self.broker, STREAM)
        self.bound: dict[tuple[str, str], Bound] = {}
        self.held: dict[str, list[bytes]] = {name: [] for name in (*TARGETS, STREAM)}
        self.ids: dict[str, set[object]] = {"fifo": set(), "same": set()}
        self.bodies = 0

    def _declare(self, name: str) -> None:
        self.broker.declare(name, **TARGETS[name])

    @staticmethod
    def target(name: str) -> Target:
        return Target("stream" if name == STREAM else "queue", name)

    @initialize(filters=st.tuples(*[st.sampled_from(FILTERS)] * 3))
    def begin(self, filters):
        self.bind(filters[0], "full", CASES[0], True, True)
        self.bind(filters[1], "fifo", CASES[0], True, False)
        self.bind(filters[2], "b", CASES[-1], False, False)

    @rule(
        filter=st.sampled_from(FILTERS),
        name=st.sampled_from([*TARGETS, STREAM]),
        case=st.sampled_from(CASES),
        raw=st.booleans(),
        dead_letter=st.booleans(),
    )
    def bind(self, filter, name, case, raw, dead_letter):
        buries = dead_letter and name == "full"
        values = {**case.settings, "dead_letter": "dead" if buries else "", "raw": raw}
        bind(self.broker, filter, name, "stream" if name == STREAM else "queue", **values)
        self.bound[filter, name] = Bound(case, raw, buries)

    @precondition(lambda self: self.bound)
    @rule(data=st.data())
    def unbind(self, data):
        filter, name = data.draw(st.sampled_from(sorted(self.bound)))
        self.broker.core.unbind(SYSTEM, filter, self.target(name))
        del self.bound[filter, name]

    @rule(
        topic=st.sampled_from(TOPICS),
        headers=HEADERS,
        count=st.integers(1, 3),
        odd=st.booleans(),
        qos=st.sampled_from([0, 1]),
    )
    def publish(self, topic, headers, count, odd, qos):
        bodies = []
        for _ in range(count):
            self.bodies += 1
            # Each second body comes again, for those who tell messages by their content.
            number = self.bodies // 2
            tag = b"odd" if odd else b"even"
            bodies.append(b'{"n": %d, "tag": "%s"}' % (number % 10, tag))
        takers = {self._take(topic, headers, body) for body in bodies}
        level, matched = publish(self.broker, topic, *bodies, qos=qos, **headers)
        assert matched == max(map(len, takers))
        kept = set().union(*takers) - {"gone", "full", "fifo", "same"}
        assert level is Durability.SYNC if qos and kept else not kept or not qos

    def _take(self, topic: str, headers: dict[str, str], body: bytes) -> frozenset[str]:
        """Put a message where it belongs; who was offered it."""
        offers: dict[str, list[Bound]] = {}
        for (filter, name), each in self.bound.items():
            if matches(filter, topic) and each.case.holds(headers, body):
                offers.setdefault(name, []).append(each)
        # What is buried comes behind what the dead-letter queue gets itself.
        for name in sorted(offers, key=lambda name: name == "full"):
            found = offers[name]
            shown = body if any(bound.raw for bound in found) else b"{" + body
            if name in self.ids:
                identity = self._identity(name, headers, body)
                if identity is not None and identity in self.ids[name]:
                    continue
                self.ids[name].add(identity)
            if name == "full" and len(self.held["full"]) >= FULL_AT:
                chosen = self._chosen(found)
                if chosen is not None and chosen.dead_letter:
                    self.held["dead"].append(body)
                elif chosen is None:
                    self.held["dead"].append(b"?" + body)
                continue
            self.held[name].append(shown)
        return frozenset(offers)

    @staticmethod
    def _chosen(bound: list[Bound]) -> Bound | None:
        """By which binding it comes; None: that is not promised."""
        best = [each for each in bound if each.raw] or bound
        return best[0] if len({each.dead_letter for each in best}) == 1 else None

    @staticmethod
    def _identity(name: str, headers: dict[str, str], body: bytes) -> object:
        if "dedup_id" in headers:
            return headers["dedup_id"]
        return body if name == "same" else None

    @precondition(lambda self: self.held["full"])
    @rule()
    def take_from_the_full_one(self):
        (delivery,) = self.broker.receive(name="full")
        self.broker.ack(delivery, name="full")
        self.held["full"].pop(0)

    @rule(name=st.sampled_from(["a", "fifo"]))
    def delete_and_declare(self, name):
        self.broker.delete(name)
        self._declare(name)
        self.broker.settle()
        self.held[name] = []
        self.ids.get(name, set()).clear()
        for key in [key for key in self.bound if key[1] == name]:
            del self.bound[key]

    @rule(checkpoint=st.booleans())
    def restart(self, checkpoint):
        if checkpoint:
            self.broker.checkpoint()
        self.broker = self.broker.restarted()
        self.held["gone"] = []

    @rule()
    def checkpoint(self):
        self.broker.checkpoint()

    @invariant()
    def everybody_has_what_is_theirs(self):
        for name, held in self.held.items():
            found = records(self.broker, name)[0] if name == STREAM else self.broker.bodies(name)
            if name == "dead":
                found = sorted(found)
                self._compare_dead(found, held)
                continue
            assert [_shown(body) for body in found] == held, name

    def _compare_dead(self, found: list[bytes], held: list[bytes]) -> None:
        sure = sorted(body for body in held if body[:1] != b"?")
        shown = sorted(map(_shown, found))
        assert len(sure) <= len(shown) <= len(held)
        for body in sure:
            shown.remove(body)
        maybe = [body[1:] for body in held if body[:1] == b"?"]
        assert all(body in maybe for body in shown)

    @invariant()
    def all_bindings_are_listed(self):
        found = self.broker.core.list_bindings(SYSTEM, "", None, 0, 100)
        assert {(each.filter, each.target.name) for each in found} == set(self.bound)


def _shown(body: bytes) -> bytes:
    """A body, or that in an envelope with a brace before it."""
    fields = json.loads(body)
    return b"{" + fields["Message"].encode() if "Message" in fields else body


TestFanout = FanoutMachine.TestCase
TestFanout.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
