"""Subscriptions to all queues that match: what they get, from where, and how much ahead."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.lease import Exclusivity
from braidmq.protocols.stomp.frames import Frame
from tests.broker_harness import Collector
from tests.stomp_peer import World

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


@pytest.fixture
def world():
    return World()


def origins(frames):
    return [frame.headers["destination"] for frame in frames if frame.command == "MESSAGE"]


def messages(frames):
    return [frame for frame in frames if frame.command == "MESSAGE"]


# --- which queues ---


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_queues_that_are_there_and_those_declared_later(world, version):
    world.harness.declare("PRICE.GOLD")
    world.harness.send(b"old", name="PRICE.GOLD")
    peer, other = world.peer(version), world.peer()
    (old,) = peer.subscribe("/queue/PRICE.>")
    other.send("/queue/PRICE.STOCK.A", b"new")
    other.send("/queue/COST.A", b"no")
    (new,) = peer.read()
    assert (old.body, new.body) == (b"old", b"new")
    assert origins([old, new]) == ["/queue/PRICE.GOLD", "/queue/PRICE.STOCK.A"]
    assert world.harness.info("PRICE.STOCK.A").in_flight == 0
    assert world.harness.info("COST.A").consumers == 0


def test_a_composite_holds_wildcards_and_others(world):
    peer, other = world.peer(), world.peer()
    peer.subscribe("/queue/a.*,b,/topic/c")
    for destination in ("/queue/a.x", "/queue/b", "/topic/c", "/queue/c"):
        other.send(destination)
    assert sorted(origins(peer.read())) == ["/queue/a.x", "/queue/b", "/topic/c"]


def test_dead_letters_are_matched_and_temporary_queues_are_not(world):
    peer, other, asker = world.peer(), world.peer(), world.peer()
    peer.subscribe("/queue/>")
    asker.subscribe("/temp-queue/answers")
    other.send("/queue/a")
    assert origins(peer.read()) == ["/queue/a"]
    consumers = {name: len(queue.consumers) for name, queue in world.harness.core.queues.items()}
    mine = {name: count for name, count in consumers.items() if not name.startswith("temp-queue.")}
    assert mine == {"a": 1, "ActiveMQ.DLQ": 1}
    assert sum(consumers.values()) == 3  # the third is the asker's own


def test_with_rabbitmq_an_asterisk_is_a_character(world):
    peer = world.peer(dialect="rabbitmq")
    error = peer.error("SUBSCRIBE", {"destination": "/queue/a.*", "id": "1"})
    assert "one of * # + ?" in error.body.decode()


def test_nobody_sends_to_wildcards_or_browses_them(world):
    error = world.peer().error("SEND", {"destination": "/queue/a.*"})
    assert "for SUBSCRIBE" in error.body.decode()
    asked = {"destination": "/queue/a.*", "id": "1", "browser": "true"}
    error = world.peer().error("SUBSCRIBE", asked)
    assert error.headers["message"] == "Illegal destination name: [/queue/a.*]"
    assert "one queue" in error.body.decode()


def test_queues_without_the_right_are_left_out():
    rules = (
        Rule("allow", ("queue:Declare", "queue:Send"), ("*",)),
        Rule("allow", ("queue:Receive",), ("a.mine", "a.later")),
    )
    world = World(users=(User("ann", SECRET, rules),))
    for name in ("a.mine", "a.theirs"):
        world.harness.declare(name)
    peer = world.peer(connect=False, certificate_user="ann")
    peer.ask("CONNECT", {"accept-version": "1.2"})
    peer.subscribe("/queue/a.*")
    for name in ("a.mine", "a.theirs", "a.later", "a.too"):
        peer.write("SEND", {"destination": f"/queue/{name}"})
    assert sorted(origins(peer.read())) == ["/queue/a.later", "/queue/a.mine"]


def test_queues_with_a_sole_consumer_are_left_out(world):
    for name in ("a.b", "a.c"):
        world.harness.declare(name)
    world.harness.core.consume(SYSTEM, "a.b", Collector(), 0, "", None, 0, 0, Exclusivity.SOLE)
    peer = world.peer()
    peer.subscribe("/queue/a.*")
    assert [world.harness.info(name).consumers for name in ("a.b", "a.c")] == [1, 1]


def test_a_selector_leaves_fifo_queues_out(world):
    world.harness.declare("a.fifo", fifo=True)
    world.harness.declare("a.b")
    peer, other = world.peer(), world.peer()
    peer.subscribe("/queue/a.*", selector="color = 'red'")
    assert world.harness.info("a.fifo").consumers == 0
    other.send("/queue/a.b", b"blue", color="blue")
    other.send("/queue/a.b", b"red", color="red")
    other.send("/queue/a.late", b"red too", color="red")
    assert peer.bodies() == [b"red", b"red too"]


def test_a_bad_selector_is_an_error_though_no_queue_is_there(world):
    asked = {"destination": "/queue/a.*", "id": "1", "selector": "("}
    assert "selector" in world.peer().error("SUBSCRIBE", asked).headers["message"]
    assert len(world.harness.core.queue_watch._watchers) == 0


def test_priority_and_exclusive_are_those_of_each_queue(world):
    first, second = world.peer(), world.peer()
    first.subscribe("/queue/a.*")
    second.subscribe("/queue/a.*", **{"activemq.exclusive": "true", "activemq.priority": "5"})
    world.harness.declare("a.b")
    world.settle()
    queue = world.harness.core.queues["a.b"]
    assert [each.priority for each in queue.consumers] == [0, 5]
    world.harness.send(b"x", name="a.b")
    assert (first.bodies(), second.bodies()) == ([], [b"x"])


# --- how many ---


def test_a_subscription_has_so_many_queues():
    world = World(queues_per_subscription_max=2)
    for name in ("a.1", "a.2"):
        world.harness.declare(name)
    peer = world.peer()
    peer.subscribe("/queue/a.*")
    assert not peer.is_lost
    world.harness.declare("b.3")
    world.settle()
    assert not peer.is_lost
    world.harness.declare("a.3")
    (error,) = peer.read()
    assert "at most 2 queues" in error.headers["message"]
    assert peer.is_lost
    assert [world.harness.info(f"a.{number}").consumers for number in (1, 2, 3)] == [0, 0, 0]
    error = world.peer().error("SUBSCRIBE", {"destination": "/queue/a.*", "id": "1"})
    assert "at most 2 queues" in error.headers["message"]
    assert [world.harness.info(f"a.{number}").consumers for number in (1, 2, 3)] == [0, 0, 0]


def test_a_deleted_queue_makes_room_for_another():
    world = World(queues_per_subscription_max=1)
    peer = world.peer()
    peer.subscribe("/queue/a.*")
    for number in range(3):
        world.harness.declare(f"a.{number}")
        world.settle()
        world.harness.delete(f"a.{number}")
    world.harness.declare("a.short")
    world.harness.delete("a.short")  # before anybody looked
    world.harness.declare("a.last")
    world.harness.send(b"x", name="a.last")
    assert peer.bodies() == [b"x"]


# --- prefetch ---


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_the_prefetch_is_that_of_all_queues_together(world, prefetch):
    for name in ("a.1", "a.2", "a.3"):
        world.harness.declare(name)
        world.harness.send(*[b"x"] * 6, name=name)
    peer = world.peer()
    wish = {"activemq.prefetchSize": str(prefetch)}
    held = messages(peer.subscribe("/queue/a.*", ack="client-individual", **wish))
    came: list[Frame] = []
    while held:
        assert len(held) == min(prefetch, 18 - len(came))
        came.append(held.pop(0))
        held += messages(peer.ask("ACK", peer.ack_of(came[-1])))
    assert len(came) == 18


def test_queues_take_turns(world):
    for name in ("a.1", "a.2", "a.3"):
        world.harness.declare(name)
        world.harness.send(*[b"x"] * 3, name=name)
    peer = world.peer()
    wish = {"activemq.prefetchSize": "1"}
    (held,) = peer.subscribe("/queue/a.*", ack="client-individual", **wish)
    seen = []
    for _ in range(9):
        seen.append(held.headers["destination"])
        held = next(iter(peer.ask("ACK", peer.ack_of(held))), None)
    assert seen == ["/queue/a.1", "/queue/a.2", "/queue/a.3"] * 3


def test_an_ack_wakes_queues_only_when_they_are_short(world):
    peer = world.peer()
    for number in range(20):
        world.harness.declare(f"a.{number}")
    peer.subscribe("/queue/a.*", ack="client-individual", **{"activemq.prefetchSize": "100"})
    world.harness.send(b"x", b"x", name="a.1")
    first, second = messages(peer.read())
    peer.ask("ACK", peer.ack_of(first))
    peer.write("ACK", peer.ack_of(second))
    peer.step()
    assert len(world.harness.core._woken) <= 1


def test_an_ack_wakes_no_empty_queue(world):
    peer = world.peer()
    for number in range(20):
        world.harness.declare(f"a.{number}")
    peer.subscribe("/queue/a.*", ack="client-individual", **{"activemq.prefetchSize": "1"})
    world.harness.send(b"x", b"x", name="a.1")
    world.harness.send(b"x", name="a.2")
    (held,) = messages(peer.read())
    peer.write("ACK", peer.ack_of(held))
    peer.step()
    assert {queue.name for queue in world.harness.core._woken} == {"a.1", "a.2"}


def test_who_stops_to_read_gets_nothing_more(world):
    peer = world.peer()
    world.harness.declare("a.1")
    peer.subscribe("/queue/a.*")
    peer.session.pause_writing()
    world.harness.declare("a.2")
    for name in ("a.1", "a.2"):
        world.harness.send(b"x", name=name)
    world.harness.settle()
    assert not peer.session.out
    peer.session.resume_writing()
    assert len(peer.bodies()) == 2


# --- settling ---


def test_one_ack_stands_for_all_before_it_in_all_queues(world):
    peer, other = world.peer(), world.peer()
    peer.subscribe("/queue/a.*", ack="client")
    for name in ("a.1", "a.2", "a.1", "a.3"):
        other.send(f"/queue/{name}")
    held = messages(peer.read())
    peer.sure("ACK", peer.ack_of(held[2]))
    left = [world.harness.info(f"a.{number}") for number in (1, 2, 3)]
    assert [queue.in_flight for queue in left] == [0, 0, 1]
    assert [queue.acknowledged for queue in left] == [2, 1, 0]


def test_a_refused_message_is_a_dead_letter_of_its_queue(world):
    peer, other = world.peer(), world.peer()
    peer.subscribe("/queue/a.*", ack="client-individual")
    other.send("/queue/a.1")
    (message,) = peer.read()
    peer.sure("NACK", peer.ack_of(message))
    (letter,) = world.peer().subscribe("/queue/ActiveMQ.*")
    assert letter.headers["destination"] == "/queue/ActiveMQ.DLQ"
    assert letter.headers["original-destination"] == "/queue/a.1"


def test_a_transaction_settles_messages_of_several_queues(world):
    peer, other = world.peer(), world.peer()
    peer.subscribe("/queue/a.*", ack="client")
    other.send("/queue/a.1")
    other.send("/queue/a.2")
    *_, last = peer.read()
    for end in ("ABORT", "COMMIT"):
        peer.ask("BEGIN", {"transaction": "t"})
        peer.ask("ACK", {**peer.ack_of(last), "transaction": "t"})
        peer.sure(end, {"transaction": "t"})
    assert [world.harness.info(name).acknowledged for name in ("a.1", "a.2")] == [1, 1]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("mode", ["auto", "client", "client-individual"])
def test_a_queue_that_is_deleted_leaves_the_others(world, mode, version):
    peer, other = world.peer(version), world.peer()
    peer.subscribe("/queue/a.*", ack=mode, **{"activemq.prefetchSize": "2"})
    other.send("/queue/a.1")
    other.send("/queue/a.2")
    held = messages(peer.read())
    world.harness.delete("a.2")
    if mode != "auto":
        other.send("/queue/a.1", b"more")
        assert peer.bodies() == []  # both still count
        for message in held if mode == "client-individual" else held[-1:]:
            peer.write("ACK", peer.ack_of(message))
        assert peer.bodies() == [b"more"]
    other.send("/queue/a.2", b"again")
    assert peer.bodies() == [b"again"]
    assert not peer.is_lost
    assert world.harness.info("a.1").acknowledged >= 1


# --- ends ---


@pytest.mark.parametrize("end", ["UNSUBSCRIBE", "DISCONNECT", "lose"])
def test_what_is_held_goes_back_and_nothing_is_left(world, end):
    peer, other = world.peer(), world.peer()
    peer.subscribe("/queue/a.*", ack="client-individual")
    for name in ("a.1", "a.2"):
        other.send(f"/queue/{name}")
    assert len(peer.bodies()) == 2
    world.harness.declare("a.3")
    if end == "lose":
        peer.lose()
    else:
        peer.write(end, {"id": "s"} if end == "UNSUBSCRIBE" else {})
    world.settle()
    world.harness.declare("a.4")
    world.settle()
    for number in (1, 2, 3, 4):
        assert world.harness.info(f"a.{number}").consumers == 0
    assert [world.harness.info(f"a.{number}").ready for number in (1, 2)] == [1, 1]
    assert len(world.harness.core.queue_watch._watchers) == 0


# --- all of it ---

NAMES = ["a.1", "a.2", "a.b.1", "b.1"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "delete"]), st.sampled_from(NAMES)),
        st.tuples(st.sampled_from(["ack", "nack"]), st.integers(0, 5)),
        st.just(("again", "")),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(
    STEPS,
    st.integers(1, 4),
    st.sampled_from(["client", "client-individual"]),
    st.sampled_from(["/queue/a.>", "/queue/a.*", "/queue/>"]),
)
def test_nothing_is_lost_and_never_too_much_is_held(steps, prefetch, mode, destination):
    """The broker's own account: what is held is what is in flight, and no more than agreed on."""
    world = World()
    peer, other = world.peer(), world.peer()
    asked = {"ack": mode, "activemq.prefetchSize": str(prefetch)}
    held = messages(peer.subscribe(destination, **asked))
    gone = set()  # the messages of deleted queues: to acknowledge them does nothing
    for what, which in steps:
        if what == "send":
            other.send(f"/queue/{which}")
        elif what == "delete" and which in world.harness.core.queues:
            world.harness.delete(which)
            gone |= {m.headers["ack"] for m in held if origins([m]) == [f"/queue/{which}"]}
        elif what == "again":
            peer.sure("UNSUBSCRIBE", {"id": "s"})
            held = messages(peer.subscribe(destination, **asked))
            gone.clear()
        elif what in ("ack", "nack") and held:
            at = which % len(held)
            found = peer.sure(what.upper(), peer.ack_of(held[at]))
            held = [*held[: 0 if mode == "client" else at], *held[at + 1 :], *messages(found)]
        held += messages(peer.read())
        assert not peer.is_lost
        assert len(held) <= prefetch
        queues = [
            queue
            for name, queue in world.harness.core.queues.items()
            if destination == "/queue/>"
            or name in {"a.*": NAMES[:2], "a.>": NAMES[:3]}[destination[7:]]
        ]
        counted = [m for m in held if m.headers["ack"] not in gone]
        assert sum(len(queue.leases) for queue in queues) == len(counted)
        ready = sum(queue.live - len(queue.leases) for queue in queues)
        assert not ready or len(held) == prefetch
