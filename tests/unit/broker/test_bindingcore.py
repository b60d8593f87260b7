"""Bindings behind the gate: who may make them, what is refused, what is shown."""

import inspect
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from braidmq.broker.access import SYSTEM, Access, Principal, Rule, User
from braidmq.broker.bindingcore import BindingCore
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.core import Core
from braidmq.broker.errors import (
    BrokerFailed,
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    StorageFull,
)
from braidmq.broker.limits import Limits
from braidmq.broker.topiccore import PAGE_MAX
from braidmq.broker.webhook import WebhookSettings
from braidmq.storage.errors import DiskFull
from braidmq.storage.log import Durability
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.fanout_harness import bind, declare_stream, publish

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
Q = Target("queue", "q")


def principal(*rules: tuple[str, str], name: str = "alice") -> Principal:
    allowed = tuple(Rule("allow", (action,), (each,)) for action, each in rules)
    return Access([User(name, HASH, allowed)]).principal(name)


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    for name in ("q", "r"):
        harness.declare(name)
    bind(harness, "t", "q")
    return harness


GATED: dict[str, tuple[tuple[str, ...], Callable[[Core, Principal], object]]] = {
    "bind": (
        ("topic:Bind", "topic:Subscribe", "queue:Send"),
        lambda c, p: c.bind(p, "a/+", Q, BindingSettings(), 0),
    ),
    "unbind": (("topic:Unbind",), lambda c, p: c.unbind(p, "t", Q)),
    "binding_info": (("topic:Describe",), lambda c, p: c.binding_info(p, "t", Q)),
}
FILTERED = {"list_bindings"}  # shows what the principal may see


def test_every_method_that_takes_a_principal_is_listed_here():
    public = {name for name in vars(BindingCore) if not name.startswith("_")}
    assert public == set(GATED) | FILTERED
    assert all("who" in inspect.signature(getattr(BindingCore, name)).parameters for name in public)


@pytest.mark.parametrize("method", GATED)
def test_each_right_is_needed(broker, method):
    actions, call = GATED[method]
    every = {action for each, _ in GATED.values() for action in each}
    for missing in actions:
        with pytest.raises(PermissionDenied, match=missing):
            call(broker.core, principal(*((action, "#") for action in every - {missing})))
    assert len(broker.core.bindings.by_id) == 1
    call(broker.core, principal(*((action, "#") for action in actions)))


def test_the_right_to_the_dead_letter_queue_is_needed(broker):
    may = [("topic:Bind", "#"), ("topic:Subscribe", "#"), ("queue:Send", "q")]
    with pytest.raises(PermissionDenied, match="'r'"):
        bind(broker, "u", "q", who=principal(*may), dead_letter="r")
    bind(broker, "u", "q", who=principal(*may, ("queue:Send", "r")), dead_letter="r")


def test_a_stream_needs_its_own_right(broker):
    declare_stream(broker, "s")
    may = [("topic:Bind", "#"), ("topic:Subscribe", "#"), ("queue:Send", "*")]
    with pytest.raises(PermissionDenied, match="stream:Append"):
        bind(broker, "u", "s", "stream", who=principal(*may))
    bind(broker, "u", "s", "stream", who=principal(*may, ("stream:Append", "s")))


def test_only_what_may_be_seen_is_listed(broker):
    bind(broker, "secret/#", "r")
    seen = broker.core.list_bindings(principal(("topic:Describe", "t")), "", None, 0, 9)
    assert [each.filter for each in seen] == ["t"]


def test_binding_again_changes_it(broker):
    first = broker.core.binding_info(SYSTEM, "t", Q)
    broker.advance(1_000)
    again = bind(broker, "t", "q", where="a = 'b'", dead_letter="r")
    assert (again.id, again.created_ms) == (first.id, first.created_ms)
    assert again.settings == BindingSettings(where="a = 'b'", dead_letter="r")
    publish(broker, "t", b"1")
    publish(broker, "t", b"2", a="b")
    bind(broker, "t", "q", policy='{"a": ["c"]}')
    publish(broker, "t", b"3", a="b")
    publish(broker, "t", b"4", a="c")
    assert broker.bodies("q") == [b"2", b"4"]
    assert len(broker.core.bindings.by_id) == 1


def test_binding_again_with_nothing_new_writes_nothing(broker):
    bind(broker, "t", "q", policy='{ "a" : ["b"] }')
    before = broker.log.next_lsn
    assert bind(broker, "t", "q", policy='{"a":["b"]}').settings.policy == '{"a":["b"]}'
    assert broker.log.next_lsn == before


def test_whoever_binds_last_answers_for_it(broker):
    who = principal(("topic:*", "#"), ("queue:Send", "*"))
    assert bind(broker, "t", "q", who=who).user == "alice"
    assert not broker.core.binding_info(SYSTEM, "t", Q).allowed  # this broker does not know her
    publish(broker, "t", b"1")
    assert broker.bodies("q") == []
    bind(broker, "t", "q")
    publish(broker, "t", b"2")
    assert broker.bodies("q") == [b"2"]


def test_unbinding_ends_it_and_keeps_what_came(broker):
    publish(broker, "t", b"1")
    broker.core.unbind(SYSTEM, "t", Q)
    assert publish(broker, "t", b"2") == (Durability.MEMORY, 0)
    assert broker.bodies("q") == [b"1"]
    for call in (broker.core.unbind, broker.core.binding_info):
        with pytest.raises(NotFound, match="not bound to queue 'q'"):
            call(SYSTEM, "t", Q)


@pytest.mark.parametrize(
    ("filter", "target", "settings", "error", "text"),
    [
        ("a/#b", Q, {}, InvalidArgument, "#"),
        ("$SYS/#", Q, {}, InvalidArgument, "broker's own"),
        ("$share/g/t", Q, {}, InvalidArgument, "broker's own"),
        ("t", Target("queue", "none"), {}, NotFound, "no queue 'none'"),
        ("t", Target("stream", "q"), {}, NotFound, "no stream 'q'"),
        ("t", Target("webhook", "q"), {}, NotFound, "no webhook 'q'"),
        ("t", Q, {"where": "a ="}, InvalidArgument, "selector"),
        ("t", Q, {"policy": "{"}, InvalidArgument, "filter policy"),
        ("t", Q, {"policy": "{}", "where": "a = 'b'"}, InvalidArgument, "not both"),
        ("t", Q, {"scope": "body"}, InvalidArgument, "scope"),
        ("t", Q, {"strict": True}, InvalidArgument, "scope"),
        ("t", Q, {"dead_letter": "q"}, InvalidArgument, "to the target"),
        ("t", Q, {"dead_letter": "none"}, NotFound, "no queue 'none'"),
        ("t", Q, {"dead_letter": "fifo"}, InvalidArgument, "FIFO"),
        ("t", Target("queue", "fifo"), {"dead_letter": "q"}, InvalidArgument, "FIFO"),
    ],
)
def test_what_cannot_be_bound(broker, filter, target, settings, error, text):
    broker.declare("fifo", fifo=True)
    with pytest.raises(error, match=text):
        broker.core.bind(SYSTEM, filter, target, BindingSettings(**settings), 0)
    assert len(broker.core.bindings.by_id) == 1
    assert broker.core.binding_info(SYSTEM, "t", Q).settings == BindingSettings()


def test_settings_are_strict():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"scope": "everything"}, BindingSettings)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"wher": "a"}, BindingSettings)


def test_a_queue_goes_with_its_bindings(broker):
    bind(broker, "u", "q")
    bind(broker, "u", "r")
    broker.delete("q")
    assert [each.target.name for each in broker.core.list_bindings(SYSTEM, "", None, 0, 9)] == ["r"]
    broker.declare("q")
    assert publish(broker, "t", b"x") == (Durability.MEMORY, 0)  # one of the same name is another


def test_the_dead_letter_queue_of_a_binding_stays(broker):
    bind(broker, "t", "q", dead_letter="r")
    with pytest.raises(Conflict, match="of a binding"):
        broker.delete("r")
    bind(broker, "t", "q")
    broker.delete("r")


def test_limits():
    broker = Harness(limits=Limits(bindings_max=3, bindings_per_filter_max=2))
    for name in "abcd":
        broker.declare(name)
    for name in "ab":
        bind(broker, "t", name)
    with pytest.raises(LimitExceeded, match="a filter has at most 2"):
        bind(broker, "t", "c")
    bind(broker, "t", "a", raw=False)  # a change is always possible
    bind(broker, "u", "c")
    with pytest.raises(LimitExceeded, match="3 bindings"):
        bind(broker, "u", "d")
    broker.core.unbind(SYSTEM, "u", Target("queue", "c"))
    bind(broker, "u", "d")


def test_a_wildcard_for_any_number_of_levels_is_bound_anywhere(broker):
    bind(broker, "a/#/b", "q")
    for topic in ("a/b", "a/1/2/b", "a/b/c"):
        publish(broker, topic, topic.encode())
    assert broker.bodies("q") == [b"a/b", b"a/1/2/b"]


def test_shapes_of_filters_are_limited():
    broker = Harness(limits=Limits(filter_shapes_max=3))
    broker.declare("q")
    bind(broker, "+/a", "q")
    with pytest.raises(LimitExceeded, match="shapes"):
        bind(broker, "a/+/+", "q")
    with pytest.raises(LimitExceeded, match="shapes"):
        bind(broker, "#/a", "q")
    bind(broker, "+/b", "q")


def test_lists_come_in_pages(broker):
    for number in range(5):
        bind(broker, f"u/{number}", "r")
    bind(broker, "u/1", "r", raw=False)  # it keeps its place
    found: list[str] = []
    after = 0
    while page := broker.core.list_bindings(SYSTEM, "", None, after, 2):
        found += [each.filter for each in page]
        after = page[-1].id
    assert found == ["t", "u/0", "u/1", "u/2", "u/3", "u/4"]
    lists: Any = broker.core.list_bindings
    assert [each.filter for each in lists(SYSTEM, "u/3", None, 0, 9)] == ["u/3"]
    assert [each.filter for each in lists(SYSTEM, "", Q, 0, 9)] == ["t"]
    for limit in (0, PAGE_MAX + 1):
        with pytest.raises(InvalidArgument, match="page"):
            lists(SYSTEM, "", None, 0, limit)


def test_nothing_is_bound_when_it_cannot_be_kept(broker, monkeypatch):
    def full() -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(broker.log, "admit", full)
    with pytest.raises(StorageFull):
        bind(broker, "u", "q")
    assert len(broker.core.bindings.by_id) == 1


def test_a_broker_that_has_failed_says_so(broker):
    broker.core.failed = BrokerFailed("it has")
    with pytest.raises(BrokerFailed):
        bind(broker, "u", "q")


# --- restarts ---


def listed(broker: Harness) -> list[object]:
    return [
        msgspec.structs.replace(each, dropped=0, duplicates=0)
        for each in broker.core.list_bindings(SYSTEM, "", None, 0, 100)
    ]


@pytest.mark.parametrize("checkpoints", [0, 1, 2])
def test_bindings_survive(checkpoints):
    broker = DiskBroker()
    for name in ("a", "b", "c", "dead"):
        broker.declare(name)
    declare_stream(broker, "s")
    bind(broker, "t/#", "a", where="kind = 'x'", dead_letter="dead")
    bind(broker, "t/+", "b", policy='{"n": [1]}', scope="body", strict=True)
    bind(broker, "t/1", "s", "stream", raw=False)
    bind(broker, "gone", "c")
    if checkpoints:
        broker.checkpoint()
    bind(broker, "t/#", "a", where="kind = 'y'")
    bind(broker, "u", "c")
    broker.update("a", visibility_timeout_ms=5_000)
    broker.core.update_stream(SYSTEM, "s", {"retention_ms": 0}, broker.clock.ms)
    broker.delete("c")
    broker.core.unbind(SYSTEM, "t/1", Target("stream", "s"))
    bind(broker, "t/2", "s", "stream")
    if checkpoints == 2:
        broker.checkpoint()
    broker.settle()
    expected = listed(broker)
    assert len(expected) == 3
    for again in (broker.restarted(), broker.restarted().restarted()):
        assert listed(again) == expected
        assert publish(again, "t/2", b'{"n": 1}', kind="y")[1] == 3
        again.declare("e")
        assert bind(again, "t/2", "e").id > max(each.id for each in expected)  # type: ignore[attr-defined]


def test_more_bindings_than_a_section_holds():
    broker = DiskBroker()
    broker.declare("q")
    for number in range(150):
        bind(broker, f"t/{number}", "q")
    broker.checkpoint()
    assert len(broker.restarted().core.bindings.by_id) == 150


def test_a_webhook_gets_nothing_before_it_is_confirmed(broker):
    settings = WebhookSettings(url="https://a.example")
    broker.core.declare_webhook(SYSTEM, "w", settings, broker.clock.ms)
    assert not bind(broker, "t", "w", "webhook").allowed
    publish(broker, "t", b"1")
    queue = broker.core.webhooks["w"]
    broker.core.ask_webhook(queue, "token", broker.clock.ms)
    broker.core.confirm_webhook("w", "token", broker.clock.ms)
    publish(broker, "t", b"2")
    assert broker.bodies(queue.name) == [b"2"]
    (info,) = broker.core.list_bindings(SYSTEM, "", Target("webhook", "w"), 0, 9)
    assert info.allowed and info.target == Target("webhook", "w")
    with pytest.raises(InvalidArgument, match="own settings say"):  # it would have two envelopes
        bind(broker, "t", "w", "webhook", raw=False)
    with pytest.raises(NotFound):  # by its own name only
        bind(broker, "t", queue.name)
