"""Replays behind the gate: who may begin them, what is refused, what is shown."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from braidmq.broker.access import SYSTEM, Access, Principal, Rule, User
from braidmq.broker.bindingverbs import Target
from braidmq.broker.core import Core
from braidmq.broker.errors import (
    BrokerFailed,
    Conflict,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    StorageFull,
)
from braidmq.broker.replaycore import ReplayCore
from braidmq.broker.replayverbs import ReplayPolicy
from braidmq.storage.errors import DiskFull
from tests.broker_harness import START_MS, Harness
from tests.fanout_harness import bind, publish
from tests.replay_harness import archived, replay, replays

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
Q = Target("queue", "q")
POLICY = ReplayPolicy("archive")


def principal(*rules: tuple[str, str], name: str = "alice") -> Principal:
    allowed = tuple(Rule("allow", (action,), (each,)) for action, each in rules)
    return Access([User(name, HASH, allowed)]).principal(name)


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    for name in ("q", "r"):
        harness.declare(name)
    archived(harness)
    for name in ("q", "r"):
        bind(harness, "t", name)
    return harness


GATED: dict[str, tuple[tuple[str, ...], Callable[[Core, Principal], object]]] = {
    "replay": (
        ("topic:Bind", "topic:Subscribe", "stream:Read", "queue:Send"),
        lambda c, p: c.replay(p, "t", Q, POLICY, START_MS),
    ),
    "cancel_replay": (
        ("topic:Bind",),
        lambda c, p: c.cancel_replay(p, next(iter(c.replay_store.by_id))),
    ),
}
FILTERED = {"list_replays"}  # shows what the principal may see


def test_every_method_that_takes_a_principal_is_listed_here():
    public = {name for name in vars(ReplayCore) if not name.startswith("_")}
    assert public == set(GATED) | FILTERED
    assert all("who" in inspect.signature(getattr(ReplayCore, name)).parameters for name in public)


@pytest.mark.parametrize("method", GATED)
def test_each_right_is_needed(broker, method):
    replay(broker, "t", "r")
    before = replays(broker)
    actions, call = GATED[method]
    every = {action for each, _ in GATED.values() for action in each}
    for missing in actions:
        with pytest.raises(PermissionDenied, match=missing):
            call(broker.core, principal(*((action, "#") for action in every - {missing})))
    assert replays(broker) == before
    call(broker.core, principal(*((action, "#") for action in actions)))


def test_only_what_may_be_seen_is_listed(broker):
    replay(broker, "t", "q")
    assert broker.core.list_replays(principal(("topic:Describe", "u"))) == []
    assert len(broker.core.list_replays(principal(("topic:Describe", "t")))) == 1


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"filter": "u"}, NotFound, "not bound"),
        ({"target": Target("queue", "none")}, NotFound, "no queue"),
        ({"target": Target("stream", "archive"), "filter": "#"}, InvalidArgument, "to itself"),
        ({"archive": "none"}, NotFound, "no stream"),
        ({"rate": -1}, InvalidArgument, "rate"),
        ({"rate": 1_000_001}, InvalidArgument, "rate"),
        ({"rate": float("nan")}, InvalidArgument, "rate"),
        ({"start_ms": -1}, InvalidArgument, "ends after"),
        ({"start_ms": 5, "end_ms": 5}, InvalidArgument, "ends after"),
        ({"end_ms": -5}, InvalidArgument, "ends after"),
    ],
    ids=str,
)
def test_what_cannot_be_replayed(broker, fields: dict[str, Any], error, text):
    filter, target = fields.pop("filter", "t"), fields.pop("target", Q)
    policy = ReplayPolicy(**{"archive": "archive"} | fields)
    with pytest.raises(error, match=text):
        broker.core.replay(SYSTEM, filter, target, policy, broker.clock.ms)
    assert replays(broker) == []


def test_the_end_is_what_the_archive_has_now(broker):
    publish(broker, "t", b"x")
    now_ms = broker.clock.ms
    assert replay(broker, "t", "q").policy == ReplayPolicy("archive", 0, now_ms + 1)
    assert replay(broker, "t", "r", end_ms=now_ms + 10**9).policy.end_ms == now_ms + 1
    info = replays(broker)[0]
    assert (info.remaining, info.user, info.created_ms) == (1, SYSTEM.name, now_ms)


def test_an_archive_from_before_the_clock_went_back_is_replayed_whole(broker):
    broker.advance(60_000)
    publish(broker, "t", b"x")
    later_ms = broker.clock.ms
    info = broker.core.replay(SYSTEM, "t", Q, POLICY, later_ms - 60_000)
    assert info.policy.end_ms == later_ms + 1


def test_there_is_one_at_a_time_for_a_binding(broker):
    first = replay(broker, "t", "q")
    with pytest.raises(Conflict, match="queue q is running"):
        replay(broker, "t", "q")
    broker.core.cancel_replay(SYSTEM, first.id)
    assert replay(broker, "t", "q").id > first.id


def test_one_that_nobody_knows(broker):
    with pytest.raises(NotFound, match="no replay 99"):
        broker.core.cancel_replay(SYSTEM, 99)


def test_nothing_begins_when_it_cannot_be_kept(broker, monkeypatch):
    def admit() -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(broker.log, "admit", admit)
    with pytest.raises(StorageFull):
        replay(broker, "t", "q")
    broker.core.fail(DiskFull("broken"))
    with pytest.raises(BrokerFailed):
        replay(broker, "t", "q")
    assert replays(broker) == []


def test_nothing_is_stopped_by_a_broker_that_has_failed(broker):
    id = replay(broker, "t", "q").id
    broker.core.fail(DiskFull("broken"))
    with pytest.raises(BrokerFailed):
        broker.core.cancel_replay(SYSTEM, id)
