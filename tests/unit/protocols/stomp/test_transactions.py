"""BEGIN, COMMIT, ABORT."""

import pytest

from braidmq.protocols.stomp.transactions import NAME_BYTES_MAX, TRANSACTIONS_MAX
from tests.schedule_harness import listed
from tests.stomp_peer import World


@pytest.fixture
def world():
    return World()


def test_what_is_sent_comes_with_the_commit(world):
    peer = world.peer()
    peer.subscribe("/topic/t")
    peer.sure("BEGIN", {"transaction": "x"})
    assert peer.send("/queue/a", b"1", transaction="x") == []
    assert peer.send("/topic/t", b"2", transaction="x") == []
    assert world.harness.bodies("a") == []
    (message,) = peer.sure("COMMIT", {"transaction": "x"}) + peer.read()
    assert message.body == b"2"
    assert world.harness.bodies("a") == [b"1"]


def test_nothing_comes_with_an_abort(world):
    peer = world.peer()
    peer.ask("BEGIN", {"transaction": "x"})
    peer.send("/queue/a", b"1", transaction="x")
    peer.sure("ABORT", {"transaction": "x"})
    assert world.harness.bodies("a") == []
    error = peer.error("COMMIT", {"transaction": "x"})
    assert error.headers["message"] == "Transaction 'x' is not open"


def test_an_acknowledgement_counts_with_the_commit(world):
    peer = world.peer()
    peer.subscribe("/queue/a", ack="client")
    (message,) = peer.send("/queue/a", b"1")
    peer.ask("BEGIN", {"transaction": "x"})
    peer.sure("ACK", {**peer.ack_of(message), "transaction": "x"})
    assert world.harness.info("a").in_flight == 1
    peer.send("/queue/b", b"2", transaction="x")
    peer.sure("COMMIT", {"transaction": "x"})
    assert world.harness.info("a").in_flight == 0
    assert world.harness.bodies("b") == [b"2"]


def test_after_an_abort_it_is_held_as_before(world):
    peer = world.peer("1.1")
    peer.subscribe("/queue/a", ack="client")
    found = peer.send("/queue/a", b"1") + peer.send("/queue/a", b"2")
    peer.ask("BEGIN", {"transaction": "x"})
    peer.sure("ACK", {**peer.ack_of(found[0]), "transaction": "x"})
    peer.sure("ABORT", {"transaction": "x"})
    peer.sure("ACK", peer.ack_of(found[1]))
    assert world.harness.info("a").acknowledged == 2


@pytest.mark.parametrize(("dialect", "dead"), [("activemq", [b"1"]), ("rabbitmq", [])])
def test_a_nack_counts_with_the_commit(world, dialect, dead):
    world.harness.declare("dead")
    world.harness.declare("a", dead_letter="dead", max_receives=9)
    peer = world.peer(dialect=dialect)
    peer.subscribe("/queue/a", ack="client")
    (message,) = peer.send("/queue/a", b"1")
    peer.ask("BEGIN", {"transaction": "x"})
    assert peer.sure("NACK", {**peer.ack_of(message), "transaction": "x"}) == []
    assert world.harness.bodies("dead") == []
    again = peer.sure("COMMIT", {"transaction": "x"}) + peer.read()
    assert world.harness.bodies("dead") == dead
    assert [each.body for each in again] == ([] if dead else [b"1"])


def test_a_commit_is_all_or_nothing(world):
    world.harness.declare("full", messages_max=1)
    peer = world.peer()
    peer.ask("BEGIN", {"transaction": "x"})
    for queue in ("a", "full", "full"):
        peer.send(f"/queue/{queue}", b"1", transaction="x")
    error = peer.error("COMMIT", {"transaction": "x", "receipt": "r"})
    assert error.headers["receipt-id"] == "r"
    assert "step 3, send 'full'" in error.headers["message"]
    assert world.harness.bodies("a") == world.harness.bodies("full") == []


def test_a_transaction_ends_with_the_connection(world):
    peer = world.peer()
    peer.ask("BEGIN", {"transaction": "x"})
    peer.send("/queue/a", b"1", transaction="x")
    peer.lose()
    assert world.harness.bodies("a") == []


@pytest.mark.parametrize("command", ["BEGIN", "COMMIT", "ABORT"])
def test_a_transaction_has_a_name(world, command):
    assert world.peer().error(command, {}).headers["message"] == "No transaction"


@pytest.mark.parametrize("command", ["SEND", "ACK", "NACK", "COMMIT", "ABORT"])
def test_a_transaction_must_be_open(world, command):
    error = world.peer().error(command, {"transaction": "x", "destination": "/queue/a"})
    assert error.headers["message"] == "Transaction 'x' is not open"


def test_a_transaction_is_begun_once(world):
    peer = world.peer()
    peer.ask("BEGIN", {"transaction": "x"})
    assert "open already" in peer.error("BEGIN", {"transaction": "x"}).headers["message"]


def test_so_many_transactions_are_open(world):
    peer = world.peer()
    for number in range(TRANSACTIONS_MAX):
        peer.ask("BEGIN", {"transaction": str(number)})
    error = peer.error("BEGIN", {"transaction": "x"})
    assert f"at most {TRANSACTIONS_MAX} open transactions" in error.headers["message"]


def test_a_transaction_has_so_many_messages():
    peer = World(transaction_steps_max=2).peer()
    peer.ask("BEGIN", {"transaction": "x"})
    for _ in range(2):
        peer.send("/queue/a", b"1", transaction="x")
    error = peer.error("SEND", {"destination": "/queue/a", "transaction": "x"}, b"1")
    assert "at most 2 messages" in error.headers["message"]


def test_transactions_hold_so_many_bytes_and_give_them_back():
    peer = World(transaction_bytes_max=3_000).peer()
    for _ in range(3):
        peer.ask("BEGIN", {"transaction": "x"})
        peer.send("/queue/a", b"1" * 1_500, transaction="x")
        peer.sure("ABORT", {"transaction": "x"})
    peer.ask("BEGIN", {"transaction": "x"})
    peer.send("/queue/a", b"1" * 1_500, transaction="x")
    error = peer.error("SEND", {"destination": "/queue/a", "transaction": "x"}, b"1" * 500)
    assert "at most 3000 bytes" in error.headers["message"]


def test_headers_and_steps_weigh_too():
    for headers, count in (({"long": "x" * 500}, 3), ({}, 6)):
        peer = World(transaction_bytes_max=3_000).peer()
        peer.ask("BEGIN", {"transaction": "x"})
        for _ in range(count - 1):
            peer.send("/queue/a", b"", transaction="x", **headers)
        error = peer.error("SEND", {"destination": "/queue/a", "transaction": "x", **headers})
        assert "at most 3000 bytes" in error.headers["message"]


def test_the_name_of_a_transaction_is_bounded():
    peer = World().peer()
    peer.ask("BEGIN", {"transaction": "x" * NAME_BYTES_MAX})
    error = peer.error("BEGIN", {"transaction": "x" * (NAME_BYTES_MAX + 1)})
    assert f"at most {NAME_BYTES_MAX} bytes" in error.headers["message"]


@pytest.mark.parametrize(
    ("dialect", "destination", "headers"),
    [
        ("activemq", "/queue/a", {"AMQ_SCHEDULED_DELAY": "1000"}),
        ("activemq", "/queue/a,/topic/b", {"AMQ_SCHEDULED_PERIOD": "1000"}),
        ("rabbitmq", "/topic/b", {"x-delay": "1000"}),
    ],
)
def test_what_is_to_be_sent_later_is_scheduled_with_the_commit(
    world, dialect, destination, headers
):
    peer = world.peer(dialect=dialect)
    kinds = [kind for kind in ("queue", "topic") if kind in destination]
    for kind, name in ("queue", "a"), ("topic", "b"):
        peer.subscribe(f"/{kind}/{name}", id=kind)
    for number, end in enumerate(("ABORT", "COMMIT")):
        peer.ask("BEGIN", {"transaction": "x"})
        body = b"%d" % number
        assert peer.send(destination, body, transaction="x", **headers) == []
        world.harness.advance(400)
        assert listed(world.harness) == []
        peer.sure(end, {"transaction": "x"})
    assert [info.kind for info in listed(world.harness)] == kinds
    world.harness.advance(999)
    assert peer.bodies() == []
    world.harness.advance(1)
    assert peer.bodies() == [b"1"] * len(kinds)


def test_a_schedule_and_the_rest_are_all_or_nothing(world):
    world.harness.declare("full", messages_max=1)
    world.harness.send(b"1", name="full")
    peer = world.peer()
    peer.ask("BEGIN", {"transaction": "x"})
    peer.send("/queue/a", b"later", transaction="x", AMQ_SCHEDULED_DELAY="1000")
    peer.send("/queue/full", b"2", transaction="x")
    peer.error("COMMIT", {"transaction": "x"})
    assert listed(world.harness) == []


def test_schedules_are_managed_at_once(world):
    peer = world.peer()
    peer.send("/queue/a", b"later", AMQ_SCHEDULED_DELAY="1000")
    peer.ask("BEGIN", {"transaction": "x"})
    management = "/topic/ActiveMQ.Scheduler.Management"
    peer.send(management, b"", transaction="x", AMQ_SCHEDULER_ACTION="REMOVEALL")
    assert listed(world.harness) == []


def test_a_dead_letter_and_the_rest_are_all_or_nothing(world):
    world.harness.declare("dead")
    world.harness.declare("a", dead_letter="dead", max_receives=9)
    world.harness.declare("full", messages_max=1)
    world.harness.send(b"1", name="full")
    peer = world.peer()
    peer.subscribe("/queue/a", ack="client")
    (message,) = peer.send("/queue/a", b"1")
    peer.ask("BEGIN", {"transaction": "x"})
    peer.sure("NACK", {**peer.ack_of(message), "transaction": "x"})
    peer.send("/queue/full", b"2", transaction="x")
    peer.error("COMMIT", {"transaction": "x"})
    assert world.harness.bodies("dead") == []
    assert world.harness.bodies("a") == [b"1"]


def test_a_nack_where_there_is_no_dead_letter_queue_lets_it_go(world):
    world.harness.declare("a")
    peer = world.peer()
    peer.subscribe("/queue/a", ack="client")
    (message,) = peer.send("/queue/a", b"1")
    peer.ask("BEGIN", {"transaction": "x"})
    peer.sure("NACK", {**peer.ack_of(message), "transaction": "x"})
    peer.sure("COMMIT", {"transaction": "x"})
    peer.lose()
    assert world.harness.bodies("a") == []
