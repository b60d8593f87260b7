"""What broke other MQTT brokers: one group of tests for each row of the list of known failures.

Rows about access rules, revocation and limits of sessions (8 as far as rules go, 9, 10, 11, 17)
need a broker that is configured for them and are tested with the access rules. Row 3 stands in
test_websocket.py. After every attack somebody else is served: `unharmed`.
"""

import socket

import pytest

from .client import Client, Closed
from .conftest import EXTERNAL, ThreadedBroker, address_of
from .packets import (
    CONNACK,
    CONNECT,
    DURABLE,
    PING,
    PINGRESP,
    PUBLISH,
    PUBREC,
    SUBSCRIBE,
    SUBSCRIPTION_ID,
    TOPIC_ALIAS,
    TOPIC_ALIAS_MAXIMUM,
    USER_PROPERTY,
    V5,
    V311,
    Packet,
    Will,
    binary,
    connect,
    packet,
    properties,
    publish,
    subscribe,
    u16,
    varint,
)


@pytest.fixture(autouse=True)
def unharmed(join, name):
    """After the test the broker serves a new client."""
    yield
    client = join(V5)
    client.subscribe(f"{name}/unharmed", qos=1)
    client.publish(f"{name}/unharmed", b"x")
    assert client.receive().payload == b"x"


# --- row 1: before a CONNECT ---


@pytest.mark.parametrize("head", [0x10, 0x30, 0x82, 0xF0, 0x00])
def test_row_1_a_huge_length_before_connect(dial, head):
    """256 MiB are announced; the broker closes without waiting for them."""
    client = dial()
    client.send(bytes([head]) + b"\xff\xff\xff\x7f")
    client.closed()


def test_row_1_many_half_open_connects(dial, join):
    """Announced bytes that never come hold up nobody else."""
    for _ in range(50):
        dial().send(b"\x10\xff\x1f")
    join().quiet()


def test_row_1_a_connect_in_single_bytes(dial, name):
    client = dial()
    for byte in connect(name):
        client.send(bytes([byte]))
    assert client.read(CONNACK).reason == 0


# --- row 2: Variable Byte Integers ---


@pytest.mark.parametrize(
    "length",
    [b"\x80\x80\x80\x80\x01", b"\xff\xff\xff\xff\x7f", b"\xff\xff\xff\x7f", b"\x80", b"\x7f"],
    ids=["five", "five full", "largest", "unfinished", "beyond"],
)
@pytest.mark.parametrize("kind", ["connect", "will", "publish", "subscribe"])
def test_row_2_bad_property_lengths(dial, name, kind, length):
    client = dial()
    if kind == "connect":
        client.send(connect(name, properties=length))
        client.closed()
        return
    if kind == "will":
        head = binary("MQTT") + b"\x05\x06" + u16(60) + b"\0" + binary(name)
        client.send(packet(CONNECT, 0, head + length + binary("t") + binary("p")))
        client.closed()
        return
    client.connect(name)
    head = binary(name) if kind == "publish" else u16(1)
    kind_number, flags = (PUBLISH, 0) if kind == "publish" else (SUBSCRIBE, 2)
    client.send(packet(kind_number, flags, head + length))
    client.closed(0x81)


def test_row_2_an_overlong_length_is_read_or_refused(join):
    """PINGREQ with a length of 0 in four bytes: more than needed, but within four."""
    client = join()
    client.send(b"\xc0" + varint(0, 4))
    try:
        client.read(PINGRESP)
    except (Closed, AssertionError):
        pass


# --- row 4: packets that only a server sends ---


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("head", [0x00, 0x0F, 0x20, 0x90, 0xB0, 0xD0, 0xF0, 0xFF])
@pytest.mark.parametrize("body", [b"", b"\0", b"\0\0", b"\xff" * 20])
def test_row_4_server_packets(join, version, head, body):
    client = join(version)
    client.send(packet(head >> 4, head & 15, body))
    client.closed(0x81, 0x82)


# --- row 5: depth ---


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("what", ["publish", "retain", "subscribe", "wildcards", "will"])
def test_row_5_very_deep_topics(dial, join, name, version, what):
    """Refused or taken, but nobody falls over it: neither now nor at the next search."""
    deep = "/" * 65_400
    client = dial(version)
    will = Will(deep) if what == "will" else None
    client.send(connect(name, version=version, will=will))
    if what in ("publish", "retain"):
        client.send(publish(deep, b"x", retain=what == "retain", version=version), PING)
    elif what == "subscribe":
        client.send(subscribe((deep, 0), version=version), PING)
    elif what == "wildcards":
        client.send(subscribe(("+/" * 32_000 + "#", 0), version=version), PING)
    try:
        while client.read().kind != PINGRESP and what != "will":
            pass
    except Closed:
        pass
    client.close()
    other = join(version)
    other.subscribe("#")
    other.publish(f"{name}/a/b", b"x", qos=0)
    while other.receive().topic != f"{name}/a/b":
        pass


# --- row 6: what a topic may not be (more in both/test_format.py and both/test_topics.py) ---


@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("topic", [b"", b"a\0b", b"\xff", b"\xed\xa0\x80", b"a/+", b"#"])
@pytest.mark.parametrize("where", ["publish", "will"])
def test_row_6_bad_topics(dial, name, version, topic, where):
    client = dial(version)
    if where == "will":
        client.send(connect(name, version=version, will=Will(topic)))
        assert all(each.reason for each in client.closed())
        return
    client.connect(name)
    client.send(publish(topic, version=version))
    client.closed(0x81, 0x82, 0x90)


# --- row 7: topics that begin with $ ---


@pytest.mark.parametrize("topic", ["$SYS/broker/uptime", "$CONTROL/dynamic-security/v1", "$x"])
def test_row_7_nobody_hears_what_a_client_says_below_dollar(join, name, topic):
    """Not by `#`; and what a client says to $SYS not even who subscribes to it."""
    watcher, client = join(), join()
    watcher.subscribe("#", "+/#")
    if topic.startswith("$SYS"):
        watcher.subscribe(topic)
    client.send(publish(topic, b"forged", packet_id=9, qos=1, retain=True), PING)
    try:
        while client.read().kind != PINGRESP:
            pass
    except Closed:
        pass
    watcher.publish(f"{name}/barrier", qos=0)
    seen: list[Packet] = []
    while not seen or seen[-1].topic != f"{name}/barrier":
        seen.append(watcher.receive())
    assert b"forged" not in [each.payload for each in seen]


@pytest.mark.parametrize("topic", ["$CONTROL/dynamic-security/v1", "$SYS/broker/uptime"])
def test_row_7_a_will_below_dollar_is_refused(dial, name, topic):
    client = dial()
    client.send(connect(name, will=Will(topic, b"{}")))
    assert client.read(CONNACK).reason >= 0x80
    assert client.closed() == []


# --- row 8: ids that look like patterns (the rules that use them: with the access rules) ---


@pytest.mark.parametrize("client_id", ["+", "#", "a/b", "../x", "%u", "$share", "a b", "\u202e"])
def test_row_8_a_client_id_is_no_pattern(join, dial, name, client_id):
    """It is refused, or it is an id like any other: with a session of its own."""
    other = join(V5, f"{name}a", **DURABLE)
    other.subscribe(name, qos=1)
    client = dial()
    client.send(connect(client_id, clean=False))
    if not client.read(CONNACK).reason:
        client.quiet()
        client.disconnect()
    other.quiet()


# --- row 12: QoS 2 without an end ---


@pytest.mark.parametrize("version", [V311, V5])
def test_row_12_the_same_qos_2_message_for_ever(join, name, version):
    client, watcher = join(version), join(version)
    watcher.subscribe(name)
    try:
        for number in range(300):
            client.send(publish(name, b"x", qos=2, packet_id=1, dup=number > 0, version=version))
            client.read(PUBREC)
    except (Closed, AssertionError):
        pass
    watcher.publish(name, b"barrier", qos=0)
    seen = []
    while b"barrier" not in seen:
        seen.append(watcher.receive().payload)
    assert seen.count(b"x") <= 1


@pytest.mark.parametrize("version", [V311, V5])
def test_row_12_qos_2_messages_that_are_never_released(join, name, version):
    """Each with an id of its own: at some number the broker says stop, or holds them all."""
    client = join(version)
    count = 2_000
    client.send(*[publish(name, qos=2, packet_id=n, version=version) for n in range(1, count)])
    try:
        for _ in range(1, count):
            client.read(PUBREC)
    except (Closed, AssertionError):
        pass


@pytest.mark.parametrize("version", [V311, V5])
def test_row_12_a_subscriber_that_never_acknowledges(join, name, version):
    """What is sent ahead of its acknowledgements is bounded; the rest waits or is dropped."""
    client, other = join(version, name, **DURABLE), join(version)
    client.subscribe(name, qos=2)
    for _ in range(30):
        burst = [publish(name, b"x", qos=1, packet_id=n + 1, version=version) for n in range(100)]
        other.send(*burst)
        for _ in burst:
            other.read()
    seen = [each.packet_id for each in client.settle() if each.kind == PUBLISH]
    seen += [each.packet_id for each in client.settle() if each.kind == PUBLISH]
    assert len(set(seen)) == len(seen) < 3_000


# --- rows 13 and 14: memory ---


def test_row_13_bad_wills_again_and_again(dial, name):
    for number in range(200):
        client = dial()
        bad = b"\x02\x01\x07" if number % 2 else [(SUBSCRIPTION_ID, 1), (USER_PROPERTY, ("a", "b"))]
        will = Will(name, b"x" * 1_000)
        body = binary("MQTT") + b"\x05\x06" + u16(60) + b"\0" + binary(name)
        body += properties(bad) + binary(will.topic) + binary(will.payload)
        client.send(packet(CONNECT, 0, body))
        assert all(each.reason for each in client.closed())
        client.close()


def test_row_13_bad_subscribes_again_and_again(join, name):
    for _ in range(100):
        client = join()
        client.send(subscribe(*[(f"{name}/{n}", 0) for n in range(20)], ("a", 0xFF)))
        client.closed(0x81, 0x82)
        client.close()


@pytest.mark.parametrize("version", [V311, V5])
def test_row_14_very_many_filters_in_one_packet(join, version):
    client = join(version)
    client.send(subscribe(*[(f"f{number}", 0) for number in range(60_000)], version=version), PING)
    try:
        while client.read().kind != PINGRESP:
            pass
    except Closed:
        pass


@pytest.mark.parametrize("where", ["connect", "publish", "subscribe"])
def test_row_14_very_many_user_properties(dial, name, where):
    client = dial()
    many = [(USER_PROPERTY, ("k", "v"))] * 9_000
    if where == "connect":
        client.send(connect(name, properties=many), PING)
    else:
        client.connect(name)
        make = publish(name, properties=many)
        client.send(make if where == "publish" else subscribe((name, 0), properties=many), PING)
    try:
        while client.read().kind != PINGRESP:
            pass
    except Closed:
        pass


def test_row_14_no_more_aliases_than_allowed(join, name):
    client = join()
    maximum = client.connack.get(TOPIC_ALIAS_MAXIMUM, 0)
    for alias in range(1, maximum + 1):
        client.send(publish(f"{name}/{alias}", properties=[(TOPIC_ALIAS, alias)]))
    client.alive()
    client.send(publish(name, properties=[(TOPIC_ALIAS, maximum + 1)]))
    client.closed(0x94)


# --- rows 15 and 16: connections that stay ---


@pytest.mark.parametrize("version", [V311, V5])
def test_row_15_trickling_does_not_keep_a_connection(join, name, version):
    """Single bytes of a packet that never ends are no packets: the keep alive passes."""
    client = join(version, keep_alive=1)
    client.send(b"\x30\xff\x7f")
    client.socket.settimeout(0.2)
    for _ in range(30):  # 6 s at most; each byte waits for the broker to close
        try:
            if not client.socket.recv(64):
                break
        except TimeoutError:
            client.send(b"x")
        except ConnectionResetError:
            break
    else:
        pytest.fail("the connection is kept by bytes alone")


@pytest.mark.parametrize("keep_alive", [0, 65_535])
@pytest.mark.parametrize("version", [V311, V5])
def test_row_15_extreme_keep_alives_are_taken(join, version, keep_alive):
    join(version, keep_alive=keep_alive).quiet()


def test_row_16_a_refused_connect_is_closed(dial, name):
    client = dial(V311)
    client.send(connect("", version=V311, clean=False))
    assert client.read(CONNACK).reason == 2
    client.send(publish(name, version=V311))
    assert client.closed() == []


# --- row 18: retained storms ---


def test_row_18_many_retained_topics(join, name):
    """A new subscriber gets them all, though it does not read while they come."""
    client = join()
    count = 3_000
    for start in range(0, count, 500):
        client.send(*[publish(f"{name}/{n}", b"x", retain=True) for n in range(start, start + 500)])
        client.alive()
    watcher = join()
    watcher.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    watcher.subscribe(f"{name}/#")
    assert len({watcher.receive().topic for _ in range(count)}) == count
    watcher.quiet()
    for number in range(count):
        client.send(publish(f"{name}/{number}", b"", retain=True))
    client.alive()
    late = join()
    late.subscribe(f"{name}/#")
    late.quiet()


# --- row 19: takeover ---


@pytest.mark.parametrize("version", [V311, V5])
def test_row_19_ping_pong_of_one_client_id(join, name, version):
    """Every newer one wins; each of the older ones has its will published once."""
    watcher = join(version)
    watcher.subscribe(name)
    older: list[Client] = []
    for number in range(20):
        will = Will(name, b"%d" % number)
        older.append(join(version, f"{name}-id", will=will, **DURABLE))
    for client in older[:-1]:
        client.closed(0x8E)
    older[-1].quiet()
    assert sorted(watcher.payloads(19)) == sorted(b"%d" % number for number in range(19))
    watcher.quiet()


# --- row 20: shared subscriptions (malformed ones: mqtt5/test_shared.py) ---


def test_row_20_very_many_groups(join, name):
    client = join()
    for start in range(0, 400, 20):
        client.subscribe(*[(f"$share/{name}{n}/{name}", 0) for n in range(start, start + 20)])
    client.publish(name, b"x", qos=0)
    seen = [client.receive()]
    seen += [each for each in client.settle() if each.kind == PUBLISH]
    assert 0 < len(seen) <= 400


# --- row 21: values that are out of range (more in mqtt5/) ---


@pytest.mark.parametrize(
    "sent",
    [
        publish("t", properties=[(0x08, "a/+")]),
        publish("t", properties=[(TOPIC_ALIAS, 0)]),
        publish("t", properties=[(TOPIC_ALIAS, 65_535)]),
        subscribe(("t", 0), properties=[(SUBSCRIPTION_ID, 0)]),
    ],
    ids=["response topic", "alias 0", "alias 65535", "subscription id 0"],
)
def test_row_21_values_out_of_range(join, sent):
    client = join()
    client.send(sent)
    client.closed(0x81, 0x82, 0x90, 0x94)


# --- row 22: what is kept on disk (damage to it: tests/unit/storage, tests/faults) ---


@pytest.mark.skipif(bool(EXTERNAL), reason="another broker keeps its files in its own way")
def test_row_22_nobody_else_may_read_what_is_kept(tmp_path, name):
    with ThreadedBroker("mqtt://127.0.0.1:0", path=tmp_path / "data") as broker:
        client = Client(address_of(broker.urls[0]))
        client.connect(name, **DURABLE)
        client.subscribe(name, qos=1)
        client.publish(name, b"secret", retain=True)
        client.close()
        kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert kept and not [path for path in kept if path.stat().st_mode & 0o077]
