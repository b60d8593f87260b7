"""One connection from CONNECT to the end: receipts, errors, heart-beats, slow peers, the stop."""

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.protocols.stomp.frames import encode
from braidmq.protocols.stomp.session import FRAMES_PER_TURN_MAX
from tests.broker_harness import Harness
from tests.stomp_peer import World

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


@pytest.fixture
def world():
    return World()


def test_a_receipt_waits_until_the_message_is_kept(world):
    peer = world.peer()
    peer.write("SEND", {"destination": "/queue/a", "receipt": "1"}, b"x")
    assert b"RECEIPT" not in peer.session.data_to_send(world.harness.clock.ms)
    assert peer.session.answering
    (receipt,) = peer.read()
    assert not peer.session.answering
    assert (receipt.command, receipt.headers) == ("RECEIPT", {"receipt-id": "1"})


def test_frames_that_come_together_are_answered_in_order(world):
    peer = world.peer()
    frames = [
        encode("SEND", [("destination", "/queue/a"), ("receipt", str(number))], b"x")
        for number in range(5)
    ]
    peer.feed(b"".join(frames))
    assert [frame.headers["receipt-id"] for frame in peer.read()] == list("01234")
    assert world.harness.info("a").ready == 5


def test_more_frames_than_a_turn_takes_are_taken_in_the_next(world):
    peer = world.peer()
    frame = encode("SEND", [("destination", "/queue/a")], b"x")
    peer.feed(frame * (FRAMES_PER_TURN_MAX + 5))
    assert peer.session.backlog and not peer.session.reading
    peer.read()
    assert world.harness.info("a").ready == FRAMES_PER_TURN_MAX + 5
    assert peer.session.reading


def test_an_unknown_command_is_refused_with_those_there_are(world):
    error = world.peer().error("NONSENSE", {"receipt": "9"})
    assert error.headers["message"] == "Unknown command NONSENSE"
    assert error.headers["receipt-id"] == "9"
    assert "SUBSCRIBE" in error.body.decode()


@pytest.mark.parametrize("command", ["BEGIN", "DISCONNECT", "SUBSCRIBE"])
def test_only_send_has_a_body(world, command):
    error = world.peer("1.1").error(command, {"transaction": "t"}, b"body")
    assert error.headers["message"] == f"{command} with a body"


def test_bytes_that_are_no_frame_end_the_connection(world):
    peer = world.peer()
    peer.feed(b"GET / HTTP/1.1\r\n\r\n")
    (error,) = peer.read()
    assert error.headers["message"] == "Not a STOMP frame"
    assert peer.is_lost


def test_an_error_comes_after_the_receipts_of_what_was_done(world):
    peer = world.peer()
    peer.write("SEND", {"destination": "/queue/a", "receipt": "1"}, b"x")
    found = peer.ask("NONSENSE", {})
    assert [frame.command for frame in found] == ["RECEIPT", "ERROR"]


def test_nothing_after_an_error_is_done(world):
    peer = world.peer()
    peer.write("NONSENSE", {})
    peer.write("SEND", {"destination": "/queue/a"}, b"x")
    peer.read()
    assert "a" not in world.harness.core.queues


def test_disconnect_is_answered_when_all_is_kept_and_ends_it(world):
    peer = world.peer()
    peer.write("SEND", {"destination": "/queue/a"}, b"x")
    (receipt,) = peer.ask("DISCONNECT", {"receipt": "bye"})
    assert receipt.headers == {"receipt-id": "bye"}
    assert peer.is_lost
    assert world.harness.info("a").ready == 1


def test_disconnect_without_a_receipt_ends_it(world):
    peer = world.peer()
    assert peer.ask("DISCONNECT", {}) == []
    assert peer.is_lost


def test_hearts_beat_both_ways(world):
    peer = world.peer(connect=False)
    peer.ask("CONNECT", {"accept-version": "1.1", "heart-beat": "4000,2000"})
    begun = world.harness.clock.ms
    assert peer.session.next_deadline() == begun + 1_500
    world.harness.clock.ms += 1_500
    peer.session.tick(world.harness.clock.ms)
    assert peer.session.data_to_send(world.harness.clock.ms) == b"\n"
    world.harness.clock.ms = begun + 7_999
    peer.session.tick(world.harness.clock.ms)
    assert peer.session.is_open
    peer.feed(b"\n")
    world.harness.clock.ms = begun + 15_998
    peer.session.tick(world.harness.clock.ms)
    assert peer.session.is_open
    world.harness.clock.ms = begun + 15_999
    peer.session.tick(world.harness.clock.ms)
    (error,) = [frame for frame in peer.read() if frame.command == "ERROR"]
    assert error.headers["message"] == "No heart-beat"


def test_who_says_nothing_at_the_beginning_is_hung_up_on():
    world = World(handshake_ms_max=500)
    peer = world.peer(connect=False)
    assert peer.session.next_deadline() == world.harness.clock.ms + 500
    world.harness.clock.ms += 500
    peer.session.tick(world.harness.clock.ms)
    (error,) = peer.read()
    assert error.headers["message"] == "Too late"


def test_who_does_not_read_gets_nothing_more(world):
    peer = world.peer()
    peer.subscribe("/queue/a", ack="client-individual")
    peer.session.pause_writing()
    assert not peer.session.reading
    world.harness.send(*[b"x"] * 200, name="a")
    first = len(peer.bodies())
    assert first <= 16
    peer.session.resume_writing()
    assert first + len(peer.bodies()) == 200


def test_a_user_who_loses_all_rights_is_hung_up_on():
    rules = (Rule("allow", ("*",), ("*",)),)
    world = World(users=(User("ann", SECRET, rules),))
    peer = world.peer(connect=False, certificate_user="ann")
    peer.ask("CONNECT", {})
    world.harness.core.access.replace(())
    (error,) = peer.read()
    assert error.command == "ERROR"
    assert peer.is_lost


def test_a_permission_that_is_missing_is_named(world):
    world.harness.core.access.replace((User("ann", SECRET, ()),))
    peer = world.peer(connect=False, certificate_user="ann")
    peer.ask("CONNECT", {"accept-version": "1.2"})
    error = peer.error("SEND", {"destination": "/topic/a", "receipt": "1"}, b"x")
    assert "topic:Publish" in error.headers["message"]
    assert error.headers["receipt-id"] == "1"


def test_the_stop_answers_what_was_taken_and_says_so(world):
    peer = world.peer()
    peer.write("SEND", {"destination": "/queue/a", "receipt": "1"}, b"x")
    peer.session.shut_down(world.harness.clock.ms)
    found = peer.read()
    assert [frame.command for frame in found] == ["RECEIPT", "ERROR"]
    assert "shutting down" in found[1].headers["message"]


def test_a_log_that_fails_is_told():
    harness = Harness()
    world = World(harness)
    peer = world.peer()
    peer.send("/queue/a")

    def fail(*args, **more):
        from braidmq.storage.errors import StorageError

        raise StorageError("no more disk")

    harness.core.log.append = fail  # type: ignore[method-assign]
    error = peer.error("SEND", {"destination": "/queue/a"}, b"x")
    assert "no more disk" in error.headers["message"]


def test_a_connection_that_is_lost_holds_nothing(world):
    peer = world.peer()
    world.harness.declare("a")
    peer.subscribe("/queue/a", ack="client-individual")
    world.harness.send(b"x", name="a")
    assert peer.bodies() == [b"x"]
    peer.lose()
    world.settle()
    info = world.harness.core.queue_info(SYSTEM, "a")
    assert (info.ready, info.in_flight, info.consumers) == (1, 0, 0)


def test_the_bytes_of_receipts_that_wait_for_the_log_are_bounded():
    world = World(outbound_bytes_max=5_000)
    peer = world.peer()
    for number in range(5):
        assert peer.session.reading
        peer.write("SEND", {"destination": "/queue/a", "receipt": f"{number}" + "r" * 1_000})
    assert not peer.session.reading
    assert len(peer.read()) == 5
    assert peer.session.reading
