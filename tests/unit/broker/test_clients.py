"""Clients come and go: what their sessions keep, until when, and what is left behind."""

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.errors import (
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    StorageFull,
)
from braidmq.broker.limits import Limits, SessionPolicy
from braidmq.broker.session import EXPIRY_NEVER_MS
from tests.broker_disk import DiskBroker
from tests.broker_harness import Harness
from tests.topic_client import Client, will_of

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"
HOUR_MS = 3_600_000


@pytest.fixture
def broker():
    return DiskBroker()


def restart(client: Client, **options) -> Client:
    """The same client at the broker after a restart."""
    return Client(client.broker.restarted(**options), client.name, client.who)


# --- how long a session stays ---


def test_session_outlives_its_connection_and_ends_in_time(broker):
    client = Client(broker)
    assert not client.connect(expiry_ms=HOUR_MS)
    client.subscribe("t")
    client.disconnect()
    broker.advance(HOUR_MS - 1)
    assert client.present
    assert client.connect(expiry_ms=HOUR_MS) and client.session.subscriptions
    client.disconnect()
    broker.advance(HOUR_MS - 1)
    assert client.present
    broker.advance(1)
    assert not client.present
    assert broker.core.clients.expired == 1 and broker.core.clients.subscriptions == 0


def test_session_without_durability_ends_with_its_connection(broker):
    client = Client(broker)
    client.connect(expiry_ms=0)
    client.subscribe("t")
    client.disconnect()
    assert not client.present and not len(broker.core.topics.router)


def test_session_that_is_to_stay_for_ever_stays():
    client = Client(broker := DiskBroker(limits=Limits(session_expiry_ms_max=EXPIRY_NEVER_MS)))
    client.connect(expiry_ms=EXPIRY_NEVER_MS)
    client.disconnect()
    broker.advance(10 * 365 * 24 * HOUR_MS)
    client = restart(client)
    client.broker.advance(10 * 365 * 24 * HOUR_MS)
    assert client.connect()


def test_no_session_outlives_its_connection_by_more_than_the_limit():
    client = Client(broker := DiskBroker(limits=Limits(session_expiry_ms_max=1_000)))
    client.connect(expiry_ms=EXPIRY_NEVER_MS)
    assert client.session is not None and client.session.expiry_ms == 1_000
    broker.core.clients.change_expiry(client.session, HOUR_MS)
    client.disconnect()
    broker.advance(1_000)
    assert not client.present


def test_session_that_was_connected_at_a_crash_has_all_its_time_from_the_next_start(broker):
    client = Client(broker)
    client.connect(expiry_ms=HOUR_MS)
    client.disconnect()
    broker.advance(HOUR_MS // 2)
    client.connect(expiry_ms=HOUR_MS)
    broker.advance(10 * HOUR_MS)
    client = restart(client)
    client.broker.advance(HOUR_MS - 1)
    assert client.present
    client.broker.advance(1)
    assert not client.present


def test_time_goes_on_over_one_restart_after_the_other(broker):
    client = Client(broker)
    client.connect(expiry_ms=HOUR_MS)
    for _ in range(3):
        client = restart(client)
        client.broker.advance(HOUR_MS // 4)
    assert client.present
    client = restart(client)
    client.broker.advance(HOUR_MS // 4)
    assert not client.present


def test_time_away_is_counted_over_a_restart_and_a_checkpoint(broker):
    client = Client(broker)
    client.connect(expiry_ms=HOUR_MS)
    client.disconnect()
    broker.advance(HOUR_MS // 2)
    broker.checkpoint()
    client = restart(client)
    client.broker.advance(HOUR_MS // 2 - 1)
    assert client.present
    client.broker.advance(1)
    assert not client.present


def test_expiry_can_be_changed_while_connected_and_by_connecting(broker):
    client = Client(broker)
    client.connect(expiry_ms=HOUR_MS)
    broker.core.clients.change_expiry(client.session, 1_000)
    broker.settle()
    client = restart(client)
    client.broker.advance(1_000)
    assert not client.present
    client.connect(expiry_ms=1_000)
    client.disconnect()
    client.connect(expiry_ms=HOUR_MS)
    client.disconnect()
    client.broker.advance(HOUR_MS - 1)
    assert client.present
    client.connect(expiry_ms=0)  # it is what it was, until it goes
    assert client.present
    client.disconnect()
    assert not client.present


def test_clean_start_discards_what_is_there(broker):
    client = Client(broker)
    client.connect()
    client.subscribe("t")
    client.disconnect()
    Client(broker, "p").send("t", b"x")
    assert client.queue.live == 1
    assert not client.connect(clean=True)
    assert not client.session.subscriptions and client.queue.live == 0
    client = restart(client)
    assert client.connect() and not client.session.subscriptions and not client.held


# --- takeover ---


def test_client_that_connects_again_ends_its_other_connection(broker):
    one, two = Client(broker), Client(broker)
    one.connect()
    one.subscribe("t")
    one.send("t", b"x")
    assert one.bodies() == [b"x"]
    assert two.connect()
    assert one.ends == ["replaced"] and one.session is None
    assert two.bodies() == [b"x"] and two.held[0][1].receives == 2
    assert two.session.sink is two
    one.leave()  # it has nothing to say any more
    assert two.session.sink is two


def test_a_session_is_its_users(broker):
    users = [User(name, HASH, (Rule("allow", ("session:*", "topic:*"), ("#",)),)) for name in "ab"]
    broker.core.access.replace(users)
    mine = Client(broker, who=broker.core.access.principal("a", "c"))
    mine.connect()
    other = Client(broker, who=broker.core.access.principal("b", "c"))
    with pytest.raises(PermissionDenied):
        other.connect(clean=True)
    assert mine.session.sink is mine and not mine.ends
    mine.disconnect()
    with pytest.raises(PermissionDenied):
        other.connect()
    assert mine.connect()


def test_takeover_that_is_refused_harms_nobody(broker):
    """A full disk stops what is new. Who was connected stays, and who comes back can drain."""
    one, live = Client(broker), Client(broker, "live")
    one.connect()
    live.connect(expiry_ms=0)
    broker.log.admit = full
    with pytest.raises(StorageFull):
        Client(broker).connect(clean=True)
    assert one.session.sink is one and not one.ends
    with pytest.raises(StorageFull):
        Client(broker, "live").connect()
    assert live.session.sink is live and not live.ends
    with pytest.raises(StorageFull):
        Client(broker, "new").connect()
    assert "new" not in broker.core.sessions
    one.disconnect()
    assert one.connect()


def full():
    from braidmq.storage.errors import DiskFull

    raise DiskFull("no room")


def test_takeover_again_and_again_leaves_nothing_behind(broker):
    core = broker.core
    clients = [Client(broker) for _ in range(2)]
    clients[0].connect(settle=False)
    clients[0].subscribe("t/+")
    for turn in range(1_000):
        client = clients[turn % 2 - 1]
        client.connect(settle=not turn % 50, will=will_of("w", b"gone", 5_000))
    broker.settle()
    assert len(core.sessions) == 1 and len(core.topics.router) == 1
    assert core.clients.subscriptions == 1
    assert len(core.clients._deadlines) < 100 and len(core._alarms) < 100
    assert len(core._unsettled) <= 1 and len(core._later) == 0
    queue = clients[0].queue
    assert len(queue.consumers) == 1 and len(queue.hungry) == 1
    for client in clients:
        client.disconnect(said_goodbye=True)
    broker.advance(60_000)
    assert not core.sessions and not core.clients._deadlines and not len(core.topics.router)
    assert core._by_id == {} and core.topics.published == 0  # the will's delay never ran out
    assert not core.will_store.by_number and not core.will_store.bytes


# --- subscriptions ---


def test_subscriptions_come_back_after_a_restart_with_their_options(broker):
    client = Client(broker)
    client.connect()
    assert not client.subscribe("a/+", 2, no_local=True, id=7)
    assert client.subscribe("a/+", 1, retain_as_published=True, id=9)
    client.subscribe("b", 0)
    broker.checkpoint()
    client.subscribe("$share/g/c", 1)
    client.subscribe("d/#/e", 1)
    assert client.unsubscribe("b") and not client.unsubscribe("b")
    expected = dict(client.session.subscriptions)
    client = restart(client)
    assert client.connect() and client.session.subscriptions == expected
    assert expected["a/+"].id == 9 and not expected["a/+"].no_local
    core = client.broker.core
    assert core.clients.subscriptions == 3 == len(core.topics.router)
    client.send("a/b", b"w")
    client.send("c", b"x")
    client.send("d/1/2/e", b"y")
    client.send("b", b"z")
    assert sorted(client.bodies()) == [b"w", b"x", b"y"]


def test_subscription_that_is_refused_leaves_nothing(broker):
    client = Client(broker)
    client.connect()
    for filter, error in [
        ("a#", InvalidArgument),
        ("$share/g", InvalidArgument),
        ("x" * 2_000, InvalidArgument),
    ]:
        with pytest.raises(error):
            client.subscribe(filter)
    with pytest.raises(InvalidArgument):
        client.subscribe("$share/g/a", no_local=True)
    broker.log.admit = full
    with pytest.raises(StorageFull):
        client.subscribe("a")
    assert not client.session.subscriptions and not len(broker.core.topics.router)
    assert not broker.core.shares and client.unsubscribe("a") is False


def test_limits_on_sessions_and_subscriptions():
    limits = Limits(
        sessions_max=3,
        subscriptions_max=5,
        subscriptions_per_session_max=4,
        shared_groups_max=2,
        filter_shapes_max=4,
        filter_shapes_per_session_max=3,
    )
    broker = Harness(limits=limits)
    clients = [Client(broker, name) for name in "abc"]
    clients[0].connect()
    clients[1].connect(expiry_ms=0)
    clients[2].session = broker.core.clients.open_unnamed(SYSTEM, clients[2], broker.clock.ms)
    with pytest.raises(LimitExceeded):
        Client(broker, "d").connect()
    with pytest.raises(LimitExceeded):
        broker.core.clients.open_unnamed(SYSTEM, Client(broker), broker.clock.ms)
    assert clients[0].connect()  # who is there already does not count again
    one, two, _ = clients
    for filter in ("1", "2", "3", "4"):
        one.subscribe(filter)
    with pytest.raises(LimitExceeded, match="a session has at most 4"):
        one.subscribe("5")
    two.subscribe("$share/g/1")
    with pytest.raises(LimitExceeded, match="there are 5 subscriptions"):
        two.subscribe("5")
    assert one.subscribe("4", 2)  # what is there can be changed
    for filter in ("1", "2", "3", "4"):
        one.unsubscribe(filter)
    two.subscribe("$share/g/2")
    with pytest.raises(LimitExceeded, match="shares"):
        two.subscribe("$share/g/3")
    one.subscribe("$share/g/1")  # a share that is there already
    with pytest.raises(LimitExceeded, match="a session brings"):
        two.subscribe("+/+/+/+/#")
    two.subscribe("+/+/#")
    with pytest.raises(LimitExceeded, match="shapes"):
        two.subscribe("a/b/c/+")
    assert broker.core.clients.subscriptions == 4


def test_unnamed_sessions_have_names_that_nobody_can_ask_for(broker):
    client = Client(broker)
    client.session = broker.core.clients.open_unnamed(SYSTEM, client, broker.clock.ms)
    with pytest.raises(InvalidArgument):
        broker.core.clients.check_client_id(client.session.name)
    for wrong in ("", "x" * 257, "a\n"):
        with pytest.raises(InvalidArgument):
            broker.core.clients.check_client_id(wrong)
    broker.core.clients.check_client_id("é" * 128)
    client.subscribe("t", 0)
    client.send("t", b"x", 0)
    assert client.take_live() == [b"x"]
    client.disconnect()
    assert not broker.core.sessions


# --- operators ---


def test_operator_ends_connections_and_sessions(broker):
    client = Client(broker)
    client.connect()
    clients = broker.core.clients
    assert clients.kick(SYSTEM, "c", False, broker.clock.ms)
    assert client.ends and client.present
    assert clients.kick(SYSTEM, "c", True, broker.clock.ms) and not client.present
    assert not clients.kick(SYSTEM, "c", True, broker.clock.ms)
    client.connect(expiry_ms=0)
    assert clients.kick(SYSTEM, "c", True, broker.clock.ms) and not client.present
    broker.core.access.replace([User("a", HASH, ())])
    with pytest.raises(PermissionDenied):
        clients.kick(broker.core.access.principal("a"), "c", True, broker.clock.ms)


def test_policy_of_today_holds_for_sessions_of_yesterday(broker):
    client = Client(broker)
    client.connect()
    client.subscribe("$share/g/t")
    client.broker.limits = Limits(session_messages_max=2)
    client = restart(client)
    core = client.broker.core
    assert client.queue.settings.messages_max == 2
    assert core.shares["$share/g/t"].settings.messages_max == 2
    assert core.clients._policy == SessionPolicy()


def test_a_few_long_filters_do_not_use_up_what_all_share():
    broker = Harness()
    hostile, other = Client(broker, "h"), Client(broker, "o")
    hostile.connect()
    other.connect()
    levels = ["x"] * 128
    hostile.subscribe("/".join(["+", *levels[1:]]))  # the longest there can be
    for at in range(1, 128):
        with pytest.raises(LimitExceeded):
            hostile.subscribe("/".join([*levels[:at], "+", *levels[at + 1 :]]))
    other.subscribe("a/+/b/#")
    assert hostile.session.shapes == 128
    hostile.unsubscribe("/".join(["+", *levels[1:]]))
    assert hostile.session.shapes == 0
    hostile.subscribe("/".join(["x", "+", *levels[2:]]))


# --- $queue/NAME ---


def test_filter_that_names_a_queue_consumes_from_it_also_after_a_restart(broker):
    broker.declare("jobs")
    client = Client(broker)
    client.connect(expiry_ms=HOUR_MS)
    assert not client.subscribe("$queue/jobs") and client.subscribe("$queue/jobs", qos=0)
    assert broker.core.clients.subscriptions == 1 and not len(broker.core.topics.router)
    client.disconnect()
    broker.send(b"1", name="jobs")
    client = restart(client)
    assert client.broker.core.clients.subscriptions == 1
    assert client.connect() and client.bodies() == [b"1"]
    assert client.unsubscribe("$queue/jobs")
    assert client.broker.core.clients.subscriptions == 0


def test_queue_that_is_not_there_or_was_deleted_gives_nothing(broker):
    client = Client(broker)
    client.connect(expiry_ms=HOUR_MS)
    with pytest.raises(NotFound):
        client.subscribe("$queue/jobs")
    with pytest.raises(InvalidArgument):
        broker.declare("jobs")
        client.subscribe("$share/g/$queue/jobs")
    client.subscribe("$queue/jobs")
    client.disconnect()
    broker.delete("jobs")
    assert (
        client.connect()
        and client.session
        and list(client.session.subscriptions) == ["$queue/jobs"]
    )
    assert [queue for queue, _ in broker.core.clients.sources(client.session)] == [client.queue]


def test_queue_needs_the_right_to_receive_and_none_for_topics():
    rules = (
        Rule("allow", ("session:Connect",), ("*",)),
        Rule("allow", ("queue:Receive",), ("mine",)),
    )
    broker = Harness()
    broker.core.access.replace([User("a", HASH, rules)])
    broker.declare("mine")
    broker.declare("other")
    client = Client(broker, "c", broker.core.access.principal("a"))
    client.connect()
    client.subscribe("$queue/mine")
    with pytest.raises(PermissionDenied):
        client.subscribe("$queue/other")
