"""One MQTT connection from CONNECT to the end: its states, its deadlines, and why it ends."""

import errno
import json
from typing import Any

import pytest

from braidmq.broker.access import SYSTEM, Rule, User
from braidmq.broker.laggards import SLOW_WAIT_MS
from braidmq.broker.limits import Limits
from tests.broker_disk import DiskBroker
from tests.conformance import packets as p
from tests.conformance.packets import DURABLE, V5, V31, V311
from tests.mqtt_peer import World

SECRET = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$" + "A" * 43
ALL = (Rule("allow", ("*",), ("*",)),)


def world_with(*users, **limits):
    world = World(limits=Limits(**limits))
    world.core.access.replace([User(name, SECRET, ALL) for name in users])
    return world


def log_in(world, user, client_id="c", version=V5, **fields):
    peer = world.dial(version)
    peer.connect(client_id, username=user, password="x", **fields)
    assert peer.login is not None
    peer.login[2](world.core.access.principal(user))
    world.settle()
    peer.connack = peer.inbox.pop(0)
    return peer


def reason(peer):
    """The reason of the DISCONNECT that ended the connection."""
    assert peer.closed
    last = peer.take()[-1]
    assert last.kind == p.DISCONNECT, last
    return last.reason


# --- before CONNACK ---


def test_what_comes_first_is_a_connect():
    world = World()
    for version in (V311, V5):
        peer = world.dial(version)
        peer.send(p.PING)
        assert peer.closed and not peer.sent


@pytest.mark.parametrize("version", [V31, V311, V5])
def test_a_second_connect_ends_the_connection(version):
    world = World()
    peer = world.join(version=version)
    peer.send(p.connect("c", version=version))
    assert peer.closed
    assert not peer.inbox or reason(peer) == 0x82


def test_before_connack_a_client_can_make_the_broker_hold_little():
    world = World(limits=Limits(frame_bytes_unauthenticated_max=2048))
    huge = p.packet(p.CONNECT, 0, b"\0\4MQTT\5" + bytes(5000))
    peer = world.dial()
    peer.send(huge[:10])
    assert peer.closed

    # During an exchange as well: any packet that is announced longer ends it.
    peer = world.dial()
    peer.verifier = _Verifier(world, "u")
    peer.connect("c", properties=[(p.AUTH_METHOD, "SCRAM-SHA-256"), (p.AUTH_DATA, b"first")])
    assert peer.inbox.pop(0).kind == p.AUTH
    peer.send(p.packet(p.AUTH, 0, bytes(5000))[:10])
    assert peer.closed


class _Login:
    def __init__(self, verifier):
        self._verifier = verifier

    def first(self, data):
        return b"challenge"

    def final(self, data, now):
        return b"proof", self._verifier.world.core.access.principal(self._verifier.user)


class _Verifier:
    def __init__(self, world, user):
        self.world, self.user = world, user

    def scram(self, peer):
        return _Login(self)


def test_while_a_password_is_checked_the_client_waits():
    world = world_with("u", frame_bytes_unauthenticated_max=1024)
    peer = world.dial()
    peer.connect("c", username="u", password="x")
    assert peer.login is not None and not peer.session.reading
    peer.feed(p.subscribe(("a", 0)) + p.publish("a", b"early"))  # it may send at once
    assert not peer.sent and not peer.session.backlog
    peer.login[2](world.core.access.principal("u"))
    assert peer.kinds() == ["CONNACK", "SUBACK", "PUBLISH"]


def test_it_says_whether_acknowledgements_wait_for_the_log():
    world = World()
    world.join("durable", V311, clean=False).subscribe(("kept", 1))
    sender = world.join("sender")
    sender.feed(p.publish("kept", b"x", qos=1, packet_id=1))
    assert sender.session.answering
    assert sender.kinds() == ["PUBACK"] and not sender.session.answering
    sender.feed(p.publish("live", b"x", qos=1, packet_id=2))
    assert not sender.session.answering and sender.kinds() == ["PUBACK"]


def test_a_flood_while_a_password_is_checked_is_cut_off():
    world = world_with("u", frame_bytes_unauthenticated_max=1024)
    peer = world.dial()
    peer.connect("c", username="u", password="x")
    for _ in range(30):
        peer.feed(p.publish("a", b"x" * 100))
    assert peer.closed and peer.take()[-1].reason == 0x95
    peer.login[2](world.core.access.principal("u"))  # too late, and harmless
    assert peer.take() == []
    assert not world.core.sessions


def test_who_does_not_prove_in_time_is_cut_off():
    world = world_with("u")
    silent, checking = world.dial(), world.dial()
    checking.connect("c", username="u", password="x")
    world.advance(world.core.limits.handshake_ms_max - 1)
    assert not silent.closed and not checking.closed
    world.advance(1)
    assert silent.closed and not silent.sent
    assert checking.closed and checking.take()[0].reason == 0x87


def test_a_connack_says_only_what_a_connack_may():
    """Two clients with one identifier, of which the first is not let in yet."""
    world = World(DiskBroker())
    world.broker.auto_commit = False
    first = world.dial()
    first.feed(p.connect("c", **DURABLE))
    second = world.dial()
    second.feed(p.connect("c", **DURABLE))
    first.look()
    assert first.closed
    (answer,) = first.take()  # decoded, so its reason is one of those that a CONNACK may have
    assert answer.kind == p.CONNACK and answer.reason >= 0x80


def test_a_connack_beyond_maximum_packet_size_is_not_sent():
    world = World()
    peer = world.dial()
    peer.connect("c", properties=[(p.MAXIMUM_PACKET_SIZE, 10)])
    assert peer.closed and peer.connack is not None
    assert peer.connack.reason == 0x95 and len(peer.sent) <= 10
    assert not world.core.sessions  # nothing is left of it

    peer = world.dial(redirect="moved", server_reference="elsewhere.example")
    peer.connect("c", properties=[(p.MAXIMUM_PACKET_SIZE, 9)])
    assert peer.connack.reason == 0x9D and not peer.connack.properties


def test_who_is_not_let_in_has_no_will():
    world = World()
    watcher = world.join("watcher")
    watcher.subscribe(("will", 0))
    peer = world.dial()
    peer.connect("c", will=p.Will("will"), properties=[(p.MAXIMUM_PACKET_SIZE, 5)])
    assert peer.closed and watcher.take() == []


# --- how long ---


@pytest.mark.parametrize("version", [V311, V5])
def test_who_is_silent_for_one_and_a_half_keep_alives_is_cut_off(version):
    world = World()
    peer = world.join(version=version, keep_alive=10)
    world.advance(14_900)
    peer.send(p.PING)
    world.advance(14_999)
    assert not peer.closed
    world.advance(100)
    assert peer.closed


def test_keep_alive_counts_for_a_durable_session_too():
    world = World(DiskBroker())
    peer = world.join(keep_alive=10, **DURABLE)
    world.advance(16_000)
    assert reason(peer) == 0x8D


def test_bytes_that_make_no_packet_are_no_sign_of_life():
    """[MQTT-3.1.2-22] asks for a packet: a byte now and then would hold a connection for ever."""
    world = World()
    peer = world.join(keep_alive=10)
    for byte in p.publish("a", b"x" * 50)[:20]:
        world.advance(1000)
        peer.feed(bytes([byte]))
    assert reason(peer) == 0x8D

    peer = world.join(keep_alive=10)  # a long packet that makes its way is one
    packet = p.publish("a", b"x" * 40_000)
    for at in range(0, len(packet), 2000):
        world.advance(2000)
        peer.feed(packet[at : at + 2000])
    assert not peer.closed


def test_who_is_not_read_cannot_be_silent():
    world = World()
    slow = world.join("slow")
    slow.subscribe(("a", 0))
    slow.session.pause_writing()
    peer = world.join("c", keep_alive=10)
    peer.session.keep_alive_ms = SLOW_WAIT_MS // 2  # shorter than what a publisher waits
    peer.feed(p.publish("a", b"x"))
    assert not peer.session.reading
    world.advance(SLOW_WAIT_MS - 10)
    assert not peer.closed


@pytest.mark.parametrize(
    ("version", "asked", "option", "limit", "granted"),
    [
        (V5, 300, 1000, 500_000, 300),
        (V5, 900, 1000, 500_000, 500),
        (V5, 900, 400, 500_000, 400),
        (V5, 0xFFFF_FFFF, 0xFFFF_FFFF, 700_000, 700),
        (V311, 0, 1000, 500_000, 500),
    ],
)
def test_the_smallest_limit_of_a_sessions_life_wins(version, asked, option, limit, granted):
    world = World(limits=Limits(session_expiry_ms_max=limit))
    options = {"session_expiry_seconds_max": option}
    fields = {"properties": [(p.SESSION_EXPIRY, asked)]} if version == V5 else {}
    peer = world.join("c", version, clean=False, options=options, **fields)
    assert world.core.sessions["c"].expiry_ms == granted * 1000
    if version == V5:
        assert peer.connack.get(p.SESSION_EXPIRY, asked) == granted
        peer.send(p.disconnect(0, [(p.SESSION_EXPIRY, 0xFFFF_FFFF)]))
        most = min(option, limit // 1000)
        assert world.core.sessions["c"].expiry_ms == most * 1000


def test_a_session_that_may_live_for_ever_does():
    never = 0xFFFF_FFFF
    world = World(limits=Limits(session_expiry_ms_max=never * 1000))
    options = {"session_expiry_seconds_max": never}
    peer = world.join(
        clean=False, options=options, properties=[(p.SESSION_EXPIRY, never)], keep_alive=0
    )
    peer.lose()
    world.advance(10 * 365 * 24 * 3600 * 1000)
    assert "c" in world.core.sessions


def test_an_expiry_of_disconnect_counts_and_cannot_begin_a_session():
    world = World()
    peer = world.join(**DURABLE)
    peer.send(p.disconnect(0, [(p.SESSION_EXPIRY, 10)]))
    world.advance(9_000)
    assert "c" in world.core.sessions
    world.advance(2_000)
    assert "c" not in world.core.sessions
    peer = world.join()
    peer.send(p.disconnect(0, [(p.SESSION_EXPIRY, 10)]))
    assert reason(peer) == 0x82


# --- rights ---


@pytest.mark.parametrize("version", [V311, V5])
def test_a_user_that_is_removed_is_cut_off_at_once(version):
    world = world_with("u", "v")
    gone, stays = log_in(world, "u", "one", version), log_in(world, "v", "two", version)
    world.core.access.replace([User("v", SECRET, ALL)])
    world.settle()
    assert gone.closed and not stays.closed
    if version == V5:
        assert reason(gone) == 0x87
    assert "one" not in world.core.sessions


def test_a_token_that_runs_out_ends_the_connection():
    world = world_with("u")
    peer = world.dial()
    peer.connect("c", username="u", password="token", **DURABLE)
    until = world.clock.ms + 5_000
    peer.login[2](world.core.access.principal("u", expires_ms=until))
    peer.take()
    world.advance(4_900)
    assert not peer.closed
    world.advance(200)
    assert reason(peer) == 0x87


def test_a_session_is_its_users_only():
    world = world_with("u", "v")
    log_in(world, "u", "c", **DURABLE)
    other = log_in(world, "v", "c")
    assert other.connack.reason == 0x87 and other.closed
    assert world.core.sessions["c"].sink is not None


# --- the will ---

WILL = p.Will("will", b"gone", qos=1)


def _ends(world):
    """Every way in which a connection ends, and whether the will is published then."""

    def protocol_error(peer):
        peer.send(p.connect("c"))

    def kick(peer):
        world.core.kick_session(SYSTEM, "c", False, world.clock.ms)

    def takeover(peer):
        world.join("c", keep_alive=0)

    def shut_down(peer):
        peer.session.shut_down(world.clock.ms)
        peer.flush()

    def revoke(peer):
        world.core.access.replace([User("x", SECRET, ALL)])

    return {
        "normal": (lambda peer: peer.send(p.disconnect()), False),
        "normal, said": (lambda peer: peer.send(p.disconnect(0)), False),
        "with will": (lambda peer: peer.send(p.disconnect(4)), True),
        "with an error": (lambda peer: peer.send(p.disconnect(0x83)), True),
        "network": (lambda peer: peer.lose(), True),
        "eof": (lambda peer: (peer.session.receive_eof(world.clock.ms), peer.flush()), True),
        "keep alive": (lambda peer: world.advance(16_000), True),
        "takeover": (takeover, True),
        "kick": (kick, True),
        "protocol error": (protocol_error, True),
        "shutdown": (shut_down, True),
        # who has no rights any more cannot publish by its will
        "revoked": (revoke, False),
    }


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("how", list(_ends(None)))
def test_the_will_is_published_unless_the_client_said_goodbye(how, durable):
    world = World()
    watcher = world.join("watcher", keep_alive=0)
    watcher.subscribe(("will", 1))
    peer = world.join("c", will=WILL, keep_alive=10, **(DURABLE if durable else {}))
    end, published = _ends(world)[how]
    if how == "revoked":
        seen = []
        world.core.topics.publish = lambda *what: seen.append(what)  # type: ignore[assignment, method-assign]
        end(peer)
        world.settle()
        assert peer.closed and not seen
        return
    end(peer)
    world.settle()
    assert peer.closed
    bodies = [packet.payload for packet in watcher.take()]
    assert bodies == ([b"gone"] if published else [])


def test_a_delayed_will_waits_for_the_client_and_is_never_early():
    world = World()
    watcher = world.join("watcher", V311, keep_alive=0)
    watcher.subscribe(("will", 1))
    will = p.Will("will", b"gone", properties=[(p.WILL_DELAY, 20)])
    silent: Any = {"keep_alive": 0, "options": {"keep_alive_seconds_max": 0}}
    world.join("c", will=will, **silent, **DURABLE)
    world.advance(3_600_000)  # it was idle: the delay begins when the connection ends
    world.core.kick_session(SYSTEM, "c", False, world.clock.ms)
    world.advance(19_900)
    assert watcher.take() == []
    peer = world.join("c", will=will, keep_alive=0, **DURABLE)  # back in time
    world.advance(60_000)
    assert watcher.take() == []
    peer.lose()
    world.advance(20_100)
    assert watcher.bodies() == [b"gone"]


def test_a_delayed_will_does_not_outlive_its_session():
    world = World()
    watcher = world.join("watcher", keep_alive=0)
    watcher.subscribe(("will", 1))
    will = p.Will("will", b"gone", properties=[(p.WILL_DELAY, 1000)])
    peer = world.join("c", will=will, clean=False, properties=[(p.SESSION_EXPIRY, 10)])
    peer.lose()
    world.advance(10_100)
    assert watcher.bodies() == [b"gone"]
    # A clean start ends the session, and with it the delay.
    peer = world.join("c", will=will, **DURABLE)
    world.join("c")
    assert watcher.bodies() == [b"gone"]


def test_a_kicked_session_lives_on_from_that_moment():
    world = World()
    silent: Any = {"keep_alive": 0, "options": {"keep_alive_seconds_max": 0}}
    world.join("c", clean=False, properties=[(p.SESSION_EXPIRY, 60)], **silent)
    world.advance(3_600_000)
    world.core.kick_session(SYSTEM, "c", False, world.clock.ms)
    world.advance(59_000)
    assert "c" in world.core.sessions
    world.advance(2_000)
    assert "c" not in world.core.sessions


# --- the end ---


def test_a_client_that_is_taken_over_is_told():
    world = World()
    old = world.join("c")
    new = world.join("c")
    assert reason(old) == 0x8E and not new.closed
    assert world.core.sessions["c"].sink is new.session


@pytest.mark.parametrize("version", [V311, V5])
def test_at_shutdown_what_was_taken_is_answered_and_nothing_more_is(version):
    world = World(DiskBroker())
    keeper = world.join("keeper", **DURABLE)
    keeper.subscribe(("a", 1))
    keeper.lose()
    peer = world.join("c", version)
    world.broker.auto_commit = False
    peer.feed(p.publish("a", b"1", qos=1, packet_id=1, version=version))
    peer.session.shut_down(world.clock.ms)
    assert not peer.session.finished and not peer.session.reading
    peer.feed(p.publish("a", b"2", qos=1, packet_id=2, version=version))
    peer.flush()
    assert not peer.sent.endswith(b"\x40\x02\0\x01")
    world.broker.auto_commit = True
    world.settle()
    kinds = [packet.kind for packet in peer.take()]
    assert kinds == ([p.PUBACK, p.DISCONNECT] if version == V5 else [p.PUBACK])
    assert peer.closed
    queue = world.core.sessions["keeper"].queue
    assert queue is not None and queue.live == 1


def test_at_shutdown_who_is_not_let_in_yet_is_refused():
    world = world_with("u")
    peer = world.dial()
    peer.connect("c", username="u", password="x")
    peer.session.shut_down(world.clock.ms)
    peer.flush()
    assert peer.closed and peer.take()[0].reason == 0x88


@pytest.mark.parametrize("what", ["publish", "subscribe", "puback", "pubrel", "idle"])
def test_when_the_log_fails_clients_are_told_and_the_broker_stands(what):
    broker = DiskBroker()
    world = World(broker)
    peer = world.join("c", **DURABLE)
    peer.subscribe(("a", 1))
    peer.send(p.publish("a", b"1", qos=1, packet_id=1))
    given = next(packet for packet in peer.take() if packet.kind == p.PUBLISH)
    peer.send(p.publish("b", b"1", qos=2, packet_id=2))
    peer.take()
    broker.disk.fail_at = dict.fromkeys(range(broker.disk.calls, 9_999), errno.EIO)
    data = {
        "publish": p.publish("a", b"2", qos=1, packet_id=3),
        "subscribe": p.subscribe(("b", 1)),
        "puback": p.ack(p.PUBACK, given.packet_id),
        "pubrel": p.ack(p.PUBREL, 2),
        "idle": p.PING,
    }[what]
    peer.feed(data)
    world.settle()
    peer.feed(data)  # the log takes nothing more by now
    world.settle()
    if what != "idle":
        assert world.core.failed is not None
        assert reason(peer) in (0x80, 0x89)


# --- who watches connections ---


@pytest.mark.parametrize("version", [V31, V311, V5])
def test_who_watches_connections_is_told_of_it(version):
    world = World()
    watcher = world.join("watcher")
    watcher.subscribe(("ActiveMQ/Advisory/Connection", 0))
    watcher.take()
    world.join("c", version=version)
    world.join("c", version=version).lose()  # and so is the one that it has replaced
    told = [json.loads(body) for body in watcher.bodies()]
    assert [list(each) for each in told] == [
        ["ConnectionInfo"],
        ["RemoveInfo"],
        ["ConnectionInfo"],
        ["RemoveInfo"],
    ]
    come = told[0]["ConnectionInfo"]
    assert (come["clientId"], come["clientIp"][:7]) == ("c", "mqtt://")
    for info, end in (told[:2], told[2:]):
        identity = info["ConnectionInfo"]["connectionId"]["value"]
        assert end["RemoveInfo"]["objectId"]["value"] == identity


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("qos", [0, 1])
@pytest.mark.parametrize("retain", [False, True])
def test_only_the_broker_tells_of_connections(version, qos, retain):
    world = World()
    watcher = world.join("watcher")
    watcher.subscribe(("ActiveMQ/Advisory/+", 0))
    forger = world.join("forger", version=version)
    watcher.take()
    topic = "ActiveMQ/Advisory/Connection"
    forger.send(p.publish(topic, "{}", qos=qos, retain=retain, version=version) * 3)
    world.settle()
    assert b"{}" not in watcher.bodies() and not world.core.topics.retained
    will = p.connect("will", will=p.Will(topic, b"{}"), version=version)
    peer = world.dial(version)
    peer.send(will)
    assert peer.closed
