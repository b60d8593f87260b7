"""Every operation: the gate before anything else, what it refuses, what it answers."""

import inspect
from collections.abc import Callable

import pytest

from braidmq.broker.access import SYSTEM, Access, Principal, Rule, User
from braidmq.broker.bindingcore import BindingCore
from braidmq.broker.core import Core
from braidmq.broker.errors import (
    BraidError,
    Conflict,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    NotFound,
    PermissionDenied,
)
from braidmq.broker.groupcore import GroupCore
from braidmq.broker.limits import CONSUMER_PRIORITY_MAX, VISIBILITY_TIMEOUT_MS_MAX, Limits
from braidmq.broker.message import Outgoing, unpack_headers
from braidmq.broker.replaycore import ReplayCore
from braidmq.broker.schedulecore import ScheduleCore
from braidmq.broker.settings import QueueSettings
from braidmq.broker.streamcore import StreamCore
from braidmq.broker.topiccore import TopicCore
from braidmq.broker.transactionverbs import Send
from braidmq.broker.webhookcore import WebhookCore
from braidmq.storage.log import Durability
from tests.broker_harness import Collector, Harness

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    harness.declare("dead")
    harness.declare(max_receives=2, dead_letter="dead")
    return harness


def principal(*rules: tuple[str, str]) -> Principal:
    """Somebody who may do these (action, name), and nothing else."""
    allowed = tuple(Rule("allow", (action,), (name,)) for action, name in rules)
    return Access([User("alice", HASH, allowed)]).principal("alice")


# --- the gate ---

# Each method that takes a principal: how to call it, and the right that lets it pass.
GATED: dict[str, tuple[str, Callable[[Core, Principal], object]]] = {
    "declare_queue": ("queue:Declare", lambda c, p: c.declare_queue(p, "n", QueueSettings(), 0)),
    "update_queue": ("queue:Declare", lambda c, p: c.update_queue(p, "q", {}, 0)),
    "delete_queue": ("queue:Delete", lambda c, p: c.delete_queue(p, "q", False, 0)),
    "queue_info": ("queue:Describe", lambda c, p: c.queue_info(p, "q")),
    "send": ("queue:Send", lambda c, p: c.send(p, "q", [Outgoing(b"")], 0)),
    "send_run": ("queue:Send", lambda c, p: c.send_run(p, "q", Outgoing(b""), [b""] * 9, 0)),
    "receive": (
        "queue:Receive",
        lambda c, p: c.receive(p, "q", Collector(), 1, 0, 0, "", "", None, 0),
    ),
    "consume": ("queue:Receive", lambda c, p: c.consume(p, "q", Collector(), 1, "", None, 0)),
    "transact": (
        "queue:Send",
        lambda c, p: c.transact(p, [Send("q", Outgoing(b""))], 0),
    ),
    "holder": ("queue:Receive", lambda c, p: c.holder(p, "q")),
    "ack": ("queue:Receive", lambda c, p: c.ack(p, "q", [], 0)),
    "nack": ("queue:Receive", lambda c, p: c.nack(p, "q", [], 0, True, 0)),
    "extend": ("queue:Receive", lambda c, p: c.extend(p, "q", [], 1, 0)),
    "dead_letter": ("queue:Receive", lambda c, p: c.dead_letter(p, "q", [], "", 0)),
    "purge": ("queue:Purge", lambda c, p: c.purge(p, "q", 0)),
    "browse": (
        "queue:Browse",
        lambda c, p: c.browse(p, "q", 0, 1, "", "all", lambda a, b: None, None),
    ),
    "redrive": ("queue:Redrive", lambda c, p: c.redrive(p, "q", "", 0, 0, 0)),
    "cancel_redrive": ("queue:Redrive", lambda c, p: c.cancel_redrive(p, 1)),
    "broker_info": ("broker:Describe", lambda c, p: c.broker_info(p, 0, 0)),
}
# Parts of the core whose gates have tables of their own: test_topiccore.py and so on.
WITH_TABLES = (
    TopicCore,
    StreamCore,
    ScheduleCore,
    GroupCore,
    BindingCore,
    WebhookCore,
    ReplayCore,
)
# Those that show what the principal may see, and refuse nothing.
FILTERED = {"list_queues", "list_redrives"}


def test_every_method_that_takes_a_principal_is_listed_here():
    gated = {
        name
        for name, method in inspect.getmembers(Core, inspect.isfunction)
        if not name.startswith("_") and "who" in inspect.signature(method).parameters
    }
    for part in WITH_TABLES:
        gated -= set(vars(part))
    assert gated == set(GATED) | FILTERED


def test_methods_without_a_principal_are_known():
    """A new public method has to say here why nobody needs a right to call it."""
    free = {
        name
        for name, method in vars(Core).items()
        if inspect.isfunction(method)
        and not name.startswith("_")
        and "who" not in inspect.signature(method).parameters
    }
    # An inner look-up; one that holds a Consumer; one that was let in to a session.
    assert free == {"queue", "credit", "attach", "hand_over", "link"}


@pytest.mark.parametrize("method", GATED)
def test_without_the_right_nothing_is_done(broker, method):
    broker.redrive("q", "dead", rate=0.001)
    before = broker.info()
    with pytest.raises(PermissionDenied):
        GATED[method][1](broker.core, principal())
    with pytest.raises(PermissionDenied):  # other rights, or this one elsewhere, do not help
        action = GATED[method][0]
        others = [
            (each, "*") for each in sorted({right for right, _ in GATED.values()}) if each != action
        ]
        GATED[method][1](broker.core, principal((action, "elsewhere"), *others))
    assert broker.info() == before


@pytest.mark.parametrize("method", GATED)
def test_with_the_right_it_passes(broker, method):
    broker.redrive("q", "dead", rate=0.001)
    action, call = GATED[method]
    who = principal((action, "*"))
    if method == "redrive":
        broker.core.cancel_redrive(SYSTEM, 1)
    call(broker.core, who)


@pytest.mark.parametrize("method", [name for name in GATED if name not in ("broker_info",)])
def test_who_has_no_right_does_not_learn_what_exists(broker, method):
    broker.redrive("q", "dead", rate=0.001)
    broker.delete()
    if method != "cancel_redrive":
        with pytest.raises(PermissionDenied):
            GATED[method][1](broker.core, principal())


def test_lists_show_what_the_principal_may_see(broker):
    who = principal(("queue:Describe", "dead"), ("queue:Redrive", "dead"))
    broker.redrive("q", "dead")
    assert [info.name for info in broker.core.list_queues(who, "", "", 10)] == ["dead"]
    assert broker.core.list_redrives(who) == []
    assert len(broker.core.list_redrives(principal(("queue:Redrive", "q")))) == 1


def test_naming_a_dead_letter_queue_needs_the_right_to_send_there(broker):
    broker.declare("victim")
    settings = QueueSettings(dead_letter="victim", max_receives=1)
    mine = principal(("queue:Declare", "mine*"))
    with pytest.raises(PermissionDenied):
        broker.core.declare_queue(mine, "mine", settings, 0)
    broker.core.declare_queue(mine, "mine", QueueSettings(), 0)
    with pytest.raises(PermissionDenied):
        broker.core.update_queue(mine, "mine", {"dead_letter": "victim"}, 0)
    with pytest.raises(PermissionDenied):  # nor to make one
        broker.core.update_queue(mine, "mine", {"dead_letter": "new"}, 0)
    broker.core.update_queue(mine, "mine", {"dead_letter": "mine-dead"}, 0)
    broker.update("mine", dead_letter="victim")
    broker.core.update_queue(mine, "mine", {"tags": {"a": "b"}}, 0)  # it stays what it was


# --- declaring ---


def test_declared_queue_is_found_again_with_the_same_settings(broker):
    first = broker.declare("orders", tags={"team": "a"})
    broker.advance(1_000)
    assert broker.declare("orders", tags={"team": "a"}) == first
    with pytest.raises(Conflict, match="tags"):
        broker.declare("orders", tags={"team": "b"})


def test_dead_letter_queue_is_declared_along(broker):
    broker.declare("pay", fifo=True, durability=Durability.OS, dead_letter="pay-dead")
    settings = broker.info("pay-dead").settings
    assert settings.fifo and settings.durability is Durability.OS


@pytest.mark.parametrize(
    "settings",
    [
        {"dead_letter": "q2"},
        {"dead_letter": "dead", "fifo": True},
        {"dead_letter": "dead", "durability": Durability.MEMORY},
    ],
)
def test_dead_letter_queue_has_to_fit(broker, settings):
    with pytest.raises(InvalidArgument):
        broker.declare("q2", **settings)
    with pytest.raises(NotFound):
        broker.info("q2")


@pytest.mark.parametrize("name", ["", "a b", "a*", "a#", "a+", "a?", "$sys", "x" * 256, "\ud800"])
def test_bad_names_are_refused(broker, name):
    with pytest.raises(InvalidArgument):
        broker.declare(name)


def test_no_more_queues_than_the_limit():
    broker = Harness(limits=Limits(queues_max=2))
    broker.declare("a")
    broker.declare("b")
    with pytest.raises(LimitExceeded):
        broker.declare("c")
    broker.declare("a")
    broker.delete("a")
    broker.declare("c")


def test_update_changes_what_may_change(broker):
    broker.send(b"a")
    assert broker.update(visibility_timeout_ms=5, tags={"a": "b"}).settings.tags == {"a": "b"}
    assert broker.info().settings.max_receives == 2
    for fixed in ({"fifo": True}, {"durability": Durability.OS}):
        with pytest.raises(InvalidArgument):
            broker.update(**fixed)
    with pytest.raises(InvalidArgument):
        broker.update(dead_letter="q")
    with pytest.raises(InvalidArgument):
        broker.update(nonsense=1)
    with pytest.raises(NotFound):
        broker.update("other")


def test_deleted_queue_is_gone_with_its_messages_and_consumers(broker):
    broker.send(b"a", b"b")
    _, sink = broker.consume()
    waiting = broker.waiting(count=3)
    with pytest.raises(Conflict):
        broker.delete(if_empty=True)
    broker.delete()
    assert isinstance(sink.error, NotFound) and isinstance(waiting.error, NotFound)
    with pytest.raises(NotFound):
        broker.send(b"c")
    broker.declare()
    assert broker.info().messages == 0
    assert isinstance(broker.ack(*sink.deliveries)[0], LeaseLost)


def test_lease_in_a_deleted_queue_ends_nothing(broker):
    broker.send(b"a", b"b")
    broker.receive(1)
    broker.receive(1, lease_ms=1_000)
    broker.delete()
    broker.advance(100_000)
    assert broker.info("dead").messages == 0


def test_dead_letter_queue_in_use_cannot_be_deleted(broker):
    with pytest.raises(Conflict, match="q"):
        broker.delete("dead")
    broker.delete("q")
    broker.delete("dead", if_empty=True)


def test_list_pages_by_name(broker):
    for name in ("a1", "a2", "a3", "b1"):
        broker.declare(name)
    core = broker.core
    assert [i.name for i in core.list_queues(SYSTEM, "a", "", 2)] == ["a1", "a2"]
    assert [i.name for i in core.list_queues(SYSTEM, "a", "a2", 2)] == ["a3"]
    for limit in (0, 1001):
        with pytest.raises(InvalidArgument):
            core.list_queues(SYSTEM, "", "", limit)


def test_info_counts(broker):
    broker.send(b"a", b"b")
    broker.send(b"c", delay_ms=1_000)
    broker.advance(500)
    (delivery,) = broker.receive()
    info = broker.info()
    assert (info.ready, info.in_flight, info.delayed, info.messages) == (1, 1, 1, 3)
    assert (info.sent, info.delivered, info.bytes) == (3, 1, 3)
    assert info.oldest_ms == info.created_ms == broker.clock.ms - 500
    broker.nack(delivery)
    assert broker.info().returned == 1


def test_oldest_is_the_oldest_of_all_priorities(broker):
    broker.send(b"old", priority=1)
    broker.advance(1_000)
    broker.send(b"new", priority=9)
    assert broker.info().oldest_ms == broker.clock.ms - 1_000


def test_broker_info_sums_up(broker):
    broker.send(b"a", b"b")
    info = broker.core.broker_info(SYSTEM, broker.clock.ms + 2_000, 7)
    assert (info.queues, info.messages, info.connections) == (2, 2, 7)
    assert info.uptime_seconds == 2 and info.log["records"] >= 4


# --- arguments ---


def test_arguments_out_of_range_are_refused(broker):
    limits = Limits()
    receive = broker.receive
    refused: list[Callable[[], object]] = [
        lambda: receive(0),
        lambda: receive(limits.receive_messages_max + 1),
        lambda: receive(wait_ms=-1),
        lambda: receive(wait_ms=limits.receive_wait_ms_max + 1),
        lambda: receive(lease_ms=VISIBILITY_TIMEOUT_MS_MAX + 1),
        lambda: receive(lease_ms=-1),
        lambda: receive(selector="a ="),
        lambda: broker.consume(-1),
        lambda: broker.consume(limits.credit_max + 1),
        lambda: broker.consume(priority=CONSUMER_PRIORITY_MAX + 1),
        lambda: broker.consume(priority=-CONSUMER_PRIORITY_MAX - 1),
        lambda: broker.consume(selector="("),
        lambda: broker.extend(lease_ms=VISIBILITY_TIMEOUT_MS_MAX + 1),
        lambda: broker.browse(limit=0),
        lambda: broker.browse(limit=limits.browse_messages_max + 1),
        lambda: broker.browse(state="asleep"),
        lambda: broker.browse(selector=")"),
        lambda: broker.redrive("dead", rate=-1),
        lambda: broker.redrive("dead", rate=1_000_001),
        lambda: broker.redrive("dead", limit=-1),
        lambda: broker.redrive("dead", "dead"),
        lambda: broker.dead_letter(name="dead"),
        lambda: broker.dead_letter(reason="x" * 257),
        lambda: broker.dead_letter(reason="\ud800"),
    ]
    for call in refused:
        with pytest.raises(InvalidArgument):
            call()
    assert broker.info().consumers == 0


def test_credit_has_a_limit_and_is_cut_to_it(broker):
    consumer, _ = broker.consume(Limits().credit_max)
    with pytest.raises(InvalidArgument):
        broker.credit(consumer, Limits().credit_max + 1)
    broker.credit(consumer, 10)
    assert consumer.credit == Limits().credit_max


def test_batch_has_a_limit():
    broker = Harness(limits=Limits(batch_messages_max=2))
    broker.declare()
    with pytest.raises(LimitExceeded):
        broker.send(b"a", b"b", b"c")
    broker.send(b"a", b"b")
    assert broker.info().messages == 2


# --- dead letters ---


def test_message_received_too_often_becomes_a_dead_letter_by_nack(broker):
    broker.send(b"a", attributes=b"\x81\xa1a\xa1b")
    for _ in range(2):
        broker.nack(*broker.receive())
    assert broker.receive() == []
    (dead,) = broker.receive(name="dead")
    assert (dead.body, dead.receives) == (b"a", 1)
    assert unpack_headers(dead.attributes) == {
        "a": "b",
        "dead-letter-queue": "q",
        "dead-letter-reason": "max-receives",
        "dead-letter-receives": "2",
        "dead-letter-time": str(broker.clock.ms),
    }
    assert broker.info().dead_lettered == 1 and broker.info().messages == 0


def test_message_received_too_often_becomes_a_dead_letter_when_its_lease_ends(broker):
    (before,) = broker.send(b"a")
    for _ in range(2):
        broker.receive(lease_ms=1_000)
        broker.advance(1_064)
    (dead,) = broker.receive(name="dead")
    assert dead.id == before.id  # it keeps its name through every hop


def test_dead_consumer_counts_as_a_receive(broker):
    broker.send(b"a")
    for _ in range(2):
        consumer, _ = broker.consume()
        broker.cancel(consumer)
    assert broker.bodies("dead") == [b"a"]


def test_consumer_may_refuse_a_message_for_good(broker):
    broker.send(b"a", b"b")
    first, second = broker.receive(2)
    assert broker.dead_letter(first, reason="cannot be parsed") == [None]
    broker.dead_letter(second)
    assert isinstance(broker.dead_letter(first)[0], LeaseLost)
    reasons = [unpack_headers(m.attributes)["dead-letter-reason"] for m in broker.browse("dead")]
    assert reasons == ["cannot be parsed", "rejected"]


def test_expired_message_becomes_a_dead_letter_when_the_queue_says_so(broker):
    broker.update(dead_letter_expired=True)
    broker.send(b"a", ttl_ms=1_000)
    broker.advance(1_300)
    (dead,) = broker.receive(name="dead")
    assert unpack_headers(dead.attributes)["dead-letter-reason"] == "expired"
    broker.nack(dead, name="dead")
    broker.advance(3_600_000)
    assert broker.bodies("dead") == [b"a"]  # its time to live ended with its life


def test_dead_letters_may_die_again(broker):
    broker.declare("first", max_receives=1, dead_letter="second")
    broker.update("second", max_receives=1, dead_letter="third")
    broker.send(b"a", name="first")
    broker.nack(*broker.receive(name="first"), name="first")
    broker.nack(*broker.receive(name="second"), name="second")
    (dead,) = broker.receive(name="third")
    headers = unpack_headers(dead.attributes)
    assert dead.body == b"a" and headers["dead-letter-queue"] == "second"


def test_two_queues_may_be_each_others_dead_letter_queue(broker):
    broker.declare("a", max_receives=1, dead_letter="b")
    broker.update("b", max_receives=1, dead_letter="a")
    broker.send(b"x", name="a")
    for name in ("a", "b", "a", "b"):
        broker.nack(*broker.receive(name=name), name=name)
    assert broker.bodies("a") == [b"x"] and broker.bodies("b") == []


def test_dead_letters_need_no_room_in_the_operators_limits():
    broker = Harness(limits=Limits(headers_count_max=1, headers_bytes_max=16))
    broker.declare(max_receives=1, dead_letter="dead")
    broker.send(b"a", attributes=b"\x81\xa1a\xa1b")
    broker.nack(*broker.receive())
    (dead,) = broker.browse("dead")
    assert unpack_headers(dead.attributes)["dead-letter-queue"] == "q"


def test_limits_of_a_dead_letter_queue_do_not_stop_dead_letters(broker):
    broker.update("dead", messages_max=1)
    broker.send(b"a", b"b")
    broker.dead_letter(*broker.receive(2))
    assert broker.bodies("dead") == [b"a", b"b"]


# --- a broker that failed ---


def test_failed_broker_refuses_everything():
    broker = Harness()
    broker.declare()
    _, sink = broker.consume()
    broker.log.close()
    with pytest.raises(BraidError):
        broker.send(b"a")
    assert broker.core.failed is not None and sink.error is not None
    for name in ("send", "receive", "ack", "purge", "queue_info"):
        with pytest.raises(BraidError, match="log"):
            GATED[name][1](broker.core, SYSTEM)
