"""Topics and sessions behind the gate: what is refused, what is left, who may settle."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from braidmq.broker.access import SYSTEM, Access, Principal, Rule, User
from braidmq.broker.core import Core
from braidmq.broker.errors import (
    Conflict,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    NotFound,
    PermissionDenied,
)
from braidmq.broker.limits import Limits
from braidmq.broker.publishing import Posted
from braidmq.broker.topiccore import PAGE_MAX, TopicCore
from braidmq.broker.verbs import Interest
from braidmq.storage.log import Durability
from tests.broker_harness import Harness

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


class Owner:
    def feed_ready(self, feed):
        pass

    def feed_ended(self, feed, error):
        self.error = error


def principal(*rules: tuple[str, str], name: str = "alice") -> Principal:
    allowed = tuple(Rule("allow", (action,), (each,)) for action, each in rules)
    return Access([User(name, HASH, allowed)]).principal(name)


def known(broker: Harness, *rules: tuple[str, str]) -> Principal:
    """Somebody whom the broker knows, as whoever has a session must be."""
    allowed = tuple(Rule("allow", (action,), (each,)) for action, each in rules)
    broker.core.access.replace([User("alice", HASH, allowed)])
    return broker.core.access.principal("alice")


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    subscribe(harness.core, SYSTEM, Interest(("d",), "dash"))[1].close(0)
    return harness


def subscribe(core: Core, who: Principal, interest: Interest, now_ms: int = 0) -> Any:
    return core.subscribe(who, interest, Owner(), None, now_ms)


def publish(core: Core, who: Principal, topic: str = "t") -> Any:
    return core.publish(who, topic, [Posted(b"x")], 1, 0)


# Each method that takes a principal: how to call it, and the right that lets it pass.
GATED: dict[str, tuple[str, Callable[[Core, Principal], object]]] = {
    "publish": ("topic:Publish", lambda c, p: publish(c, p)),
    "subscribe": ("topic:Subscribe", lambda c, p: subscribe(c, p, Interest(("t/+",)))),
    "session_info": ("session:Describe", lambda c, p: c.session_info(p, "dash")),
    "kick_session": ("session:Kick", lambda c, p: c.kick_session(p, "dash", False, 0)),
    "unsubscribe": ("session:Connect", lambda c, p: c.unsubscribe(p, "dash", 0)),
}
# Those that show what the principal may see, and refuse nothing.
FILTERED = {"list_topics", "topic_tree", "list_sessions"}


def test_every_method_that_takes_a_principal_is_listed_here():
    public = {name for name in vars(TopicCore) if not name.startswith("_")}
    assert public == set(GATED) | FILTERED
    for name in public:
        assert "who" in inspect.signature(getattr(TopicCore, name)).parameters


@pytest.mark.parametrize("method", GATED)
def test_without_the_right_nothing_is_done(broker, method):
    action, call = GATED[method]
    others = [(right, "*") for right, _ in GATED.values() if right != action]
    for who in (principal(), principal((action, "elsewhere"), *others)):
        with pytest.raises(PermissionDenied):
            call(broker.core, who)
    assert broker.core.session_info(SYSTEM, "dash").subscriptions == 1
    assert len(broker.core.sessions) == 1 and broker.core.topics.published == 0


@pytest.mark.parametrize("method", [name for name in GATED if name != "unsubscribe"])
def test_with_the_right_it_passes(broker, method):
    action, call = GATED[method]
    call(broker.core, principal((action, "*")))
    call(broker.core, SYSTEM)


def test_a_session_is_its_users_own(broker):
    other = known(broker, ("session:Connect", "*"), ("topic:Subscribe", "*"))
    with pytest.raises(NotFound, match="of yours"):
        broker.core.unsubscribe(other, "dash", 0)
    with pytest.raises(PermissionDenied, match="another user"):
        subscribe(broker.core, other, Interest(("d",), "dash"))
    _, feed = subscribe(broker.core, SYSTEM, Interest(("t",)))
    with pytest.raises(NotFound):  # what the broker named is nobody's to end so
        broker.core.unsubscribe(SYSTEM, feed.session.name, 0)


def test_a_durable_subscription_needs_the_right_to_connect(broker):
    who = known(broker, ("topic:Subscribe", "*"))
    with pytest.raises(PermissionDenied, match="session:Connect"):
        subscribe(broker.core, who, Interest(("t",), "mine"))
    assert len(broker.core.sessions) == 1
    subscribe(broker.core, who, Interest(("t",)))  # a live one does not


def test_one_forbidden_filter_forbids_all(broker):
    who = principal(("topic:Subscribe", "a/#"), ("session:Connect", "*"))
    for interest in (Interest(("a/b", "b")), Interest(("a/b", "b"), "mine", "g")):
        with pytest.raises(PermissionDenied):
            subscribe(broker.core, who, interest)
    assert len(broker.core.sessions) == 1


def test_subscriptions_without_durability_have_names_of_their_own(broker):
    names = [subscribe(broker.core, SYSTEM, Interest(("t",)))[1].session.name for _ in range(3)]
    assert names == ["$live-1", "$live-2", "$live-3"]
    for name in names:
        with pytest.raises(InvalidArgument, match="begin with"):
            subscribe(broker.core, SYSTEM, Interest(("t",), name))


def test_sessions_have_a_limit():
    core = Harness(limits=Limits(sessions_max=2)).core
    subscribe(core, SYSTEM, Interest(("t",)))
    subscribe(core, SYSTEM, Interest(("t",), "d"))
    for interest in (Interest(("t",)), Interest(("t",), "e")):
        with pytest.raises(LimitExceeded):
            subscribe(core, SYSTEM, interest)


def test_what_is_told_to_wait_for():
    core = Harness().core
    assert publish(core, SYSTEM) == (Durability.MEMORY, [0])
    assert subscribe(core, SYSTEM, Interest(("t",)))[0] is Durability.MEMORY
    assert publish(core, SYSTEM) == (Durability.MEMORY, [1])
    assert subscribe(core, SYSTEM, Interest(("t",), "d"))[0] is Durability.SYNC
    assert publish(core, SYSTEM) == (Durability.SYNC, [2])
    assert core.publish(SYSTEM, "t", [Posted(b"x")], 0, 0) == (Durability.MEMORY, [2])
    assert core.publish(SYSTEM, "r", [Posted(b"x", b"", True)], 0, 0) == (Durability.SYNC, [0])


@pytest.mark.parametrize("qos", [-1, 2])
def test_a_publish_has_quality_0_or_1(broker, qos):
    with pytest.raises(InvalidArgument):
        broker.core.publish(SYSTEM, "t", [], qos, 0)


def test_a_batch_has_a_limit():
    core = Harness(limits=Limits(batch_messages_max=2)).core
    assert core.publish(SYSTEM, "t", [Posted(b"")] * 2, 1, 0)[1] == [0, 0]
    with pytest.raises(LimitExceeded):
        core.publish(SYSTEM, "t", [Posted(b"")] * 3, 1, 0)


def test_shared_messages_are_settled_by_who_may_subscribe(broker):
    core = broker.core
    _, feed = subscribe(core, SYSTEM, Interest(("w",), share="g"), broker.clock.ms)
    feed.grant(10)
    publish(core, SYSTEM, "w")
    broker.settle()
    (message,) = feed.take(broker.clock.ms)
    assert message.queue == "$memory/$share/g/w"
    with pytest.raises(PermissionDenied):
        core.ack(principal(("queue:Receive", "*")), message.queue, [message.receipt], 0)
    with pytest.raises(NotFound):  # there is no queue of that share in the log
        core.ack(SYSTEM, "$share/g/w", [message.receipt], 0)
    with pytest.raises(Conflict):
        core.ack(SYSTEM, "$share/g/none", [message.receipt], 0)
    with pytest.raises(NotFound):  # members consume from it, nobody else
        core.consume(SYSTEM, message.queue, feed, 1, "", None, 0)
    allowed = principal(("topic:Subscribe", "w"))
    assert core.ack(allowed, message.queue, [message.receipt], 0)[1] == [None]
    assert isinstance(core.ack(allowed, message.queue, [message.receipt], 0)[1][0], LeaseLost)


def test_pages_have_a_limit(broker):
    for limit in (0, PAGE_MAX + 1):
        with pytest.raises(InvalidArgument):
            broker.core.list_sessions(SYSTEM, "", "", limit)
        with pytest.raises(InvalidArgument):
            broker.core.list_topics(SYSTEM, "#", "", limit, lambda a, b: None, None)
        with pytest.raises(InvalidArgument):
            broker.core.topic_tree(SYSTEM, "", "", limit, lambda a, b: None, None)


def test_lists_show_what_the_principal_may_see(broker):
    for name in ("a", "b", "c"):
        subscribe(broker.core, SYSTEM, Interest(("t",), name))
    who = principal(("session:Describe", "a"), ("session:Describe", "c"))
    assert [info.name for info in broker.core.list_sessions(who, "", "", 10)] == ["a", "c"]
    assert [info.name for info in broker.core.list_sessions(SYSTEM, "", "a", 2)] == ["b", "c"]
    with pytest.raises(NotFound):
        broker.core.session_info(SYSTEM, "none")


def test_nothing_is_taken_when_the_broker_has_failed(broker):
    broker.core.fail(OSError("broken"))
    for call in (
        lambda: publish(broker.core, SYSTEM),
        lambda: subscribe(broker.core, SYSTEM, Interest(("t",))),
    ):
        with pytest.raises(Exception, match="broken"):
            call()
