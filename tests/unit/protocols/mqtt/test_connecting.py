"""CONNECT up to CONNACK: who is let in, as whom, and what both sides are told."""

from typing import Any

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.errors import LimitExceeded, Unauthenticated, Unavailable
from braidmq.broker.limits import Limits
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V5, V31, V311
from tests.mqtt_peer import World

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
ALL = (Rule("allow", ("*",), ("*",)),)
SCRAM = "SCRAM-SHA-256"


def world_with(*users):
    world = World()
    world.core.access.replace([User(name, SECRET, rules) for name, rules in users])
    return world


class Login:
    """A SCRAM login that takes the user's name in the clear."""

    def __init__(self, world):
        self.world = world
        self.user = ""

    def first(self, data):
        if not data:
            raise Unauthenticated("empty")
        self.user = data.decode()
        return b"challenge"

    def final(self, data, now):
        if data != b"proof":
            raise Unauthenticated("wrong")
        return b"verified", self.world.core.access.principal(self.user)


class Verifier:
    def __init__(self, world):
        self.world = world

    def scram(self, peer):
        return Login(self.world)


def dial(world, **options):
    peer = world.dial(V5, **options)
    peer.verifier = Verifier(world)
    return peer


def auth(reason, data=None, method=SCRAM):
    found: list[tuple[int, Any]] = [(p.AUTH_METHOD, method)]
    return p.auth(reason, found + ([(p.AUTH_DATA, data)] if data is not None else []))


def begin(peer, data=b"u", method=SCRAM, **fields):
    found: list[tuple[int, Any]] = [(p.AUTH_METHOD, method)]
    if data is not None:
        found.append((p.AUTH_DATA, data))
    peer.connect("c", properties=found, **fields)


# --- proofs ---


@pytest.mark.parametrize("early", [True, False])
def test_an_exchange(early):
    world = world_with(("u", ALL))
    peer = dial(world)
    begin(peer, b"u" if early else None)
    (step,) = peer.take()
    assert (step.kind, step.reason, step.get(p.AUTH_METHOD)) == (p.AUTH, 0x18, SCRAM)
    if not early:
        assert step.get(p.AUTH_DATA) is None
        peer.send(auth(0x18, b"u"))
        (step,) = peer.take()
    assert step.get(p.AUTH_DATA) == b"challenge" and not peer.known
    peer.send(auth(0x18, b"proof"))
    (connack,) = peer.take()
    assert connack.reason == 0 and peer.known
    assert (connack.get(p.AUTH_METHOD), connack.get(p.AUTH_DATA)) == (SCRAM, b"verified")
    assert world.core.sessions["c"].user == "u"


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (auth(0x18, b"wrong"), 0x87),
        (auth(0x18), 0x87),
        (auth(0x18, b"proof", "PLAIN"), 0x82),
        (auth(0x19, b"proof"), 0x82),
        (auth(0x00, b"proof"), 0x82),
        (p.PING, 0x82),
        (p.publish("a", b""), 0x82),
        (p.subscribe(("a", 0)), 0x82),
        (p.disconnect(), None),
    ],
)
def test_an_exchange_that_goes_wrong(packet, reason):
    world = world_with(("u", ALL))
    peer = dial(world)
    begin(peer)
    peer.take()
    peer.send(packet)
    assert peer.closed and not world.core.sessions
    assert [each.reason for each in peer.take()] == ([] if reason is None else [reason])


@pytest.mark.parametrize(("data", "method", "reason"), [(b"", SCRAM, 0x87), (b"u", "PLAIN", 0x8C)])
def test_an_exchange_that_does_not_begin(data, method, reason):
    peer = dial(world_with(("u", ALL)))
    begin(peer, data, method)
    if peer.connack is None:  # nothing came with CONNECT: it was asked for the first message
        assert peer.take()[0].kind == p.AUTH
        peer.send(auth(0x18, b""))
        peer.connack = peer.take()[-1]
    assert peer.closed and peer.connack.reason == reason


def test_a_client_that_came_in_by_an_exchange_may_repeat_it():
    world = world_with(("u", ALL), ("v", ALL))
    peer = dial(world)
    begin(peer)
    peer.send(auth(0x18, b"proof"))
    peer.take()
    for _ in range(2):
        peer.send(auth(0x19, b"u"))
        peer.send(p.publish("a", b"", qos=1), p.PING)  # work goes on meanwhile
        peer.send(auth(0x18, b"proof"))
        got = peer.take()
        assert [each.kind for each in got] == [p.AUTH, p.PUBACK, p.PINGRESP, p.AUTH]
        assert (got[-1].reason, got[-1].get(p.AUTH_DATA)) == (0, b"verified")
    peer.send(auth(0x19, b"v"))
    peer.send(auth(0x18, b"proof"))
    assert peer.closed and peer.take()[-1].reason == 0x87


@pytest.mark.parametrize("packet", [auth(0x18, b"u"), auth(0x19, b"u", "PLAIN"), auth(0, b"")])
def test_a_repetition_that_is_none(packet):
    world = world_with(("u", ALL))
    peer = dial(world)
    begin(peer)
    peer.send(auth(0x18, b"proof"))
    peer.take()
    peer.send(packet)
    assert peer.closed and peer.take()[-1].reason == 0x82


def test_who_came_in_without_an_exchange_cannot_repeat_one():
    world = World()
    peer = dial(world)
    peer.connect("c")
    peer.send(auth(0x19, b"u"))
    assert peer.closed and peer.take()[-1].reason == 0x82


@pytest.mark.parametrize(
    ("error", "five", "three"),
    [
        (Unauthenticated("wrong"), 0x86, 4),
        (LimitExceeded("many"), 0x97, 3),
        (Unavailable("busy"), 0x89, 3),
    ],
)
def test_a_password_that_is_not_taken(error, five, three):
    for version, code in ((V5, five), (V311, three)):
        peer = world_with(("u", ALL)).dial(version)
        peer.connect("c", username="u", password="x")
        assert peer.login is not None and peer.login[:2] == ("u", b"x")
        peer.login[2](error)
        assert [each.reason for each in peer.take()] == [code] and peer.closed


def test_a_certificate_proves_a_user():
    world = world_with(("u", ALL))
    for name, reason in (("u", 0), ("nobody", 0x86)):
        peer = world.dial()
        peer.certificate_user = name
        peer.connect("c")
        assert peer.connack.reason == reason


def test_nobody_is_let_in_only_as_long_as_there_are_no_users():
    peer = world_with(("u", ALL)).dial()
    peer.connect("c")
    assert peer.connack.reason == 0x87 and peer.closed
    peer = World().dial()
    peer.loopback = False
    peer.connect("c")
    assert peer.connack.reason == 0x87


# --- the client identifier ---


def test_a_client_without_an_identifier_is_given_one():
    world = World()
    peer = world.join("")
    name = peer.connack.get(p.ASSIGNED_CLIENT_ID)
    assert name and list(world.core.sessions) == [name]
    old = world.join("", V311)
    assert len(world.core.sessions) == 2
    old.lose()
    for version, clean in ((V311, False), (V31, True)):
        peer = world.dial(version)
        peer.connect("", clean=clean)
        assert peer.connack.reason == 2 and peer.closed
    peer = world.dial(allow_zero_length_client_id=False)
    peer.connect("")
    assert peer.connack.reason == 0x85


@pytest.mark.parametrize(
    ("version", "name", "reason"),
    [
        (V5, "$live-1", 0x85),
        (V5, "a\nb", 0x85),
        (V5, "x" * 257, 0x85),
        (V5, "x" * 256, 0),
        (V311, "x" * 300, 2),
        (V31, "x" * 24, 2),
        (V31, "x" * 23, 0),
    ],
)
def test_identifiers_that_cannot_be(version, name, reason):
    peer = World().dial(version)
    peer.connect(name)
    assert peer.connack.reason == reason


def test_who_may_not_connect_under_a_name_or_publish_its_will_is_refused():
    rules = (Rule("allow", ("session:Connect",), ("mine",)),)
    world = world_with(("u", rules))
    for name, will, reason in (("mine", None, 0), ("other", None, 0x87), ("mine", "w", 0x87)):
        peer = world.dial()
        fields = {"will": p.Will(will)} if will else {}
        peer.connect(name, username="u", password="x", **fields)
        assert peer.login is not None
        peer.login[2](world.core.access.principal("u"))
        assert peer.take()[0].reason == reason
        peer.lose()


def test_as_many_sessions_as_there_may_be():
    world = World(limits=Limits(sessions_max=1))
    world.join("a")
    peer = world.dial()
    peer.connect("b")
    assert peer.connack.reason == 0x97


# --- the will ---


@pytest.mark.parametrize(
    ("will", "options", "reason"),
    [
        (p.Will("w", qos=2), {"maximum_qos": 1}, 0x9B),
        (p.Will("w", retain=True), {"retain_available": False}, 0x9A),
        (p.Will("a/+"), {}, 0x90),
        (p.Will(""), {}, 0x90),
        (p.Will("$SYS/x"), {}, 0x87),
        (p.Will("$queue/q"), {}, 0x87),
    ],
)
def test_wills_that_are_not_taken(will, options, reason):
    peer = World().dial(**options)
    peer.connect("c", will=will)
    assert peer.closed and peer.connack.reason == reason


def test_a_will_keeps_its_properties():
    world = World()
    watcher = world.join("watcher")
    watcher.subscribe(("w", 2))
    user = [("b", "1"), ("a", "2"), ("b", "3")]
    properties: list[tuple[int, Any]] = [
        (p.PAYLOAD_FORMAT, 1),
        (p.MESSAGE_EXPIRY, 60),
        (p.CONTENT_TYPE, "t"),
        (p.RESPONSE_TOPIC, "r"),
        (p.CORRELATION_DATA, b"\xff"),
        *((p.USER_PROPERTY, pair) for pair in user),
    ]
    peer = world.join("c", will=p.Will("w", b"gone", 2, True, properties))
    peer.lose()
    (told,) = watcher.take()
    assert (told.qos, told.retain, told.payload) == (2, False, b"gone")
    assert sorted(told.properties, key=lambda each: each[0]) == sorted(
        properties, key=lambda each: each[0]
    )
    late = world.join("late")
    late.send(p.subscribe(("w", 0)))
    assert late.take()[-1].retain


@pytest.mark.parametrize("fields", [{}, DURABLE], ids=["clean", "durable"])
def test_who_has_a_will_is_let_in_when_it_is_kept(fields):
    world = World(DiskBroker())
    plain, mortal = world.dial(), world.dial()
    plain.feed(p.connect("plain"))
    mortal.feed(p.connect("mortal", will=p.Will("w"), **fields))
    assert plain.sent and not mortal.sent  # the log had no turn yet
    assert mortal.kinds() == ["CONNACK"] and not mortal.closed


def test_who_is_not_let_in_at_last_leaves_no_will():
    world = World(DiskBroker())
    peer = world.dial()
    peer.connect("c", will=p.Will("w"), properties=[(p.MAXIMUM_PACKET_SIZE, 5)])
    assert peer.closed and not world.core.will_store.by_number
    world = world.restarted()
    world.settle()
    assert world.core.topics.published == 0


# --- what is told ---


def test_a_client_is_told_what_it_is_held_to():
    told = World().join("c").connack
    assert told.get(p.SESSION_EXPIRY) is None and told.get(p.MAXIMUM_QOS) is None
    options = {
        "receive_maximum": 7,
        "topic_alias_maximum": 0,
        "maximum_packet_size_bytes": 2048,
        "server_keep_alive_seconds": 33,
        "maximum_qos": 0,
        "retain_available": False,
        "wildcard_available": False,
        "shared_available": False,
        "subscription_identifiers_available": False,
        "response_information": "reply/",
    }
    peer = World().join("c", options=options, properties=[(p.REQUEST_RESPONSE_INFO, 1)])
    expected = [(p.RECEIVE_MAXIMUM, 7), (p.MAXIMUM_PACKET_SIZE, 2048), (p.SERVER_KEEP_ALIVE, 33)]
    expected += [(p.MAXIMUM_QOS, 0), (p.RETAIN_AVAILABLE, 0), (p.WILDCARD_AVAILABLE, 0)]
    expected += [(p.SHARED_AVAILABLE, 0), (p.SUBSCRIPTION_ID_AVAILABLE, 0)]
    assert sorted(peer.connack.properties) == sorted([*expected, (p.RESPONSE_INFO, "reply/")])
    assert peer.session.keep_alive_ms == 33_000 * 3 // 2
    assert World().join("c", options=options).connack.get(p.RESPONSE_INFO) is None


@pytest.mark.parametrize(
    ("version", "asked", "told", "milliseconds"),
    [(V5, 0, 50, 75_000), (V5, 60, 50, 75_000), (V5, 20, None, 30_000), (V311, 60, None, 90_000)],
)
def test_the_longest_keep_alive(version, asked, told, milliseconds):
    peer = World().join("c", version, keep_alive=asked, options={"keep_alive_seconds_max": 50})
    assert peer.connack.get(p.SERVER_KEEP_ALIVE) == told
    assert peer.session.keep_alive_ms == milliseconds


@pytest.mark.parametrize(("redirect", "reason"), [("use-another", 0x9C), ("moved", 0x9D)])
def test_a_listener_that_sends_clients_elsewhere(redirect, reason):
    world = World()
    peer = world.dial(redirect=redirect, server_reference="there")
    peer.connect("c")
    assert peer.closed and peer.connack.reason == reason
    assert peer.connack.get(p.SERVER_REFERENCE) == "there"
    peer = world.dial(V311, redirect=redirect)
    peer.connect("c")
    assert peer.closed and peer.connack.reason == 3


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        (p.connect("c", version=V311, level=9), b"\x20\3\0\x84\0"),
        (p.connect("c", version=V311, protocol="HTTP"), b"\x20\2\0\1"),
        (p.connect("c", version=V311, flags=0x03), b""),  # [MQTT-3.1.4-1] of 3.1.1
    ],
)
def test_a_connect_that_is_none(packet, answer):
    peer = World().dial(V311)
    peer.feed(packet)
    assert peer.closed and peer.sent == answer
