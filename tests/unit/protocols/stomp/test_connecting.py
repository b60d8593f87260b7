"""How a client comes in: versions, heart-beats, and who it is."""

import pytest

from braidmq.broker.access import User
from braidmq.broker.errors import Unauthenticated
from braidmq.protocols.stomp.connecting import agreed_beats, agreed_version
from braidmq.protocols.stomp.frames import V10, V11, V12
from tests.stomp_peer import World

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43


@pytest.mark.parametrize(
    ("asked", "version"),
    [
        (None, V10),
        ("1.0", V10),
        ("1.1,1.0", V11),
        ("1.0, 1.2, 1.1", V12),
        ("2.0", None),
        ("", None),
    ],
)
def test_the_highest_version_that_both_speak_is_spoken(asked, version):
    assert agreed_version({} if asked is None else {"accept-version": asked}) is version


@pytest.mark.parametrize(
    ("written", "beats"),
    [
        ("0,0", (0, 0)),
        ("5000,10", (5_000, 1_000)),
        ("10,0", (1_000, 0)),
        (" 4000 , 4000 ", (4_000, 4_000)),
        ("1", None),
        ("-1,1", None),
        ("a,b", None),
    ],
)
def test_hearts_beat_as_often_as_both_agree_to(written, beats):
    assert agreed_beats(written, 1_000) == beats


def test_no_hearts_beat_where_none_are_allowed():
    assert agreed_beats("10,10", 0) == (0, 0)


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
def test_connected_says_what_was_agreed_on(version, command):
    peer = World().peer(connect=False)
    (told,) = peer.ask(command, {"accept-version": version, "heart-beat": "2000,3000"})
    assert told.command == "CONNECTED"
    assert told.headers["version"] == version
    assert told.headers["server"].startswith("BraidMQ/")
    assert told.headers["session"] == peer.session.id
    assert told.headers["user-name"] == "$anonymous"
    assert told.headers.get("heart-beat") == (None if version == "1.0" else "1000,1000")
    assert peer.host.known == 1


def test_a_version_that_nobody_speaks_is_refused_with_those_that_are_spoken():
    error = World().peer(connect=False).error("CONNECT", {"accept-version": "3.0"})
    assert error.headers["version"] == "1.0,1.1,1.2"
    assert "1.2" in error.headers["message"]


def test_nothing_comes_before_connect():
    error = World().peer(connect=False).error("SEND", {"destination": "/queue/a", "receipt": "7"})
    assert error.headers["message"] == "Not connected"
    assert error.headers["receipt-id"] == "7"


def test_a_second_connect_is_refused():
    error = World().peer().error("CONNECT", {"accept-version": "1.2"})
    assert error.headers["message"] == "Already connected"


def test_heart_beats_are_two_numbers():
    peer = World().peer(connect=False)
    error = peer.error("CONNECT", {"accept-version": "1.2", "heart-beat": "soon"})
    assert error.headers["message"] == "Bad heart-beat"


def test_from_elsewhere_nobody_comes_in_without_a_user():
    error = World().peer(connect=False, loopback=False).error("CONNECT", {})
    assert "user" in error.headers["message"]


def test_as_long_as_there_is_no_user_nobody_asks_who_a_guest_is():
    peer = World().peer(connect=False)
    (told,) = peer.ask("CONNECT", {"login": "guest", "passcode": "guest"})
    assert (told.command, told.headers["user-name"]) == ("CONNECTED", "$anonymous")
    far = World().peer(connect=False, loopback=False)
    assert far.ask("CONNECT", {"login": "guest"}) == [] and far.host.logins


def test_a_password_is_checked_and_the_client_waits():
    world = World(users=(User("ann", SECRET, ()),))
    peer = world.peer(connect=False)
    assert peer.ask("CONNECT", {"login": "ann", "passcode": "s"}) == []
    assert not peer.session.reading
    ((user, password, callback),) = peer.host.logins
    assert (user, password) == ("ann", b"s")
    callback(world.harness.core.access.principal("ann"))
    (told,) = peer.read()
    assert told.headers["user-name"] == "ann"
    assert peer.session.reading


def test_a_wrong_password_is_an_error_and_the_end():
    world = World(users=(User("ann", SECRET, ()),))
    peer = world.peer(connect=False)
    peer.ask("CONNECT", {"login": "ann", "passcode": "s", "receipt": "r"})
    peer.host.logins[0][2](Unauthenticated("no such user"))
    (error,) = peer.read()
    assert (error.command, error.headers["receipt-id"]) == ("ERROR", "r")
    assert "passcode" in error.body.decode()
    assert peer.is_lost


def test_a_passcode_that_a_client_has_escaped_is_taken_too():
    world = World(users=(User("ann", SECRET, ()),))
    peer = world.peer(connect=False)
    peer.ask("STOMP", {"accept-version": "1.2", "login": "ann", "passcode": r"a\cb\\c"})
    peer.host.logins[0][2](Unauthenticated("no such user"))
    assert peer.read() == []
    assert peer.host.logins[1][:2] == ("ann", b"a:b\\c")
    peer.host.logins[1][2](Unauthenticated("no such user"))
    (error,) = peer.read()
    assert error.command == "ERROR"


def test_what_comes_while_the_password_is_checked_waits_up_to_a_limit():
    world = World(users=(User("ann", SECRET, ()),), frame_bytes_unauthenticated_max=2_000)
    peer = world.peer(connect=False)
    peer.ask("CONNECT", {"login": "ann", "passcode": "s"})
    peer.feed(b"x" * 3_000)
    (error,) = peer.read()
    assert error.headers["message"] == "Wait for CONNECTED"


def test_a_certificate_names_the_user():
    world = World(users=(User("ann", SECRET, ()),))
    (told,) = world.peer(connect=False, certificate_user="ann").ask("CONNECT", {})
    assert told.headers["user-name"] == "ann"


def test_a_client_id_that_cannot_be_one_is_refused():
    error = World().peer(connect=False).error("CONNECT", {"client-id": "$x"})
    assert "client identifiers" in error.headers["message"]
