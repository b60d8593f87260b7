"""What only version 3.1.1 says about CONNECT and CONNACK, and that its predecessor still works."""

import pytest

from ..client import Closed
from ..packets import CONNACK, DURABLE, SUBACK, V5, V31, V311, Will, connect, subscribe
from ..requirements import v311


@v311("MQTT-3.1.3-8", "MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
def test_no_client_id_with_a_session_is_refused(dial):
    client = dial(V311)
    client.send(connect("", version=V311, clean=False))
    found = client.read(CONNACK)
    assert found.raw == b"\x20\x02\0\x02"
    assert client.closed() == []


@v311("MQTT-3.1.2-22")
def test_a_password_without_a_user_name_is_refused(dial, name):
    client = dial(V311)
    client.send(connect(name, version=V311, password="secret"))
    client.refused()


@v311("MQTT-3.2.2-6", "MQTT-3.1.4-1")
@pytest.mark.parametrize("flags", [0b0000_0001, 0b0001_1010, 0b0100_0000])
def test_what_no_return_code_tells_is_not_told(dial, name, flags):
    client = dial(V311)
    client.send(connect(name, version=V311, flags=flags))
    assert client.closed() == []


@v311("MQTT-3.1.4-4", "MQTT-3.2.0-1")
def test_the_connack_of_version_3_1_1(dial, name):
    client = dial(V311)
    client.send(connect(name, version=V311))
    assert client.read(CONNACK).raw == b"\x20\x02\0\0"


@v311("MQTT-3.2.2-2")
def test_session_present(join, name):
    join(V311, name, **DURABLE).disconnect()
    assert join(V311, name, **DURABLE).connack.raw == b"\x20\x02\x01\0"


def test_a_session_lives_across_versions(join, name):
    """Nothing says so; but a device that is updated to version 5 wants its messages."""
    client = join(V311, name, **DURABLE)
    client.subscribe(name, qos=1)
    client.disconnect()
    join(V5).publish(name, b"x")
    client = join(V5, name, **DURABLE)
    assert client.connack.session_present
    assert client.receive().payload == b"x"


# --- version 3.1 ---


def test_version_3_1_is_spoken(join, dial, name):
    client = join(V31, name, will=Will(f"{name}/will", b"gone", qos=1))
    assert client.connack.raw == b"\x20\x02\0\0"
    watcher = join(V31)
    assert watcher.subscribe(f"{name}/#", qos=2) == [2]
    for qos in range(3):
        client.publish(f"{name}/{qos}", b"x", qos=qos)
        assert watcher.receive().qos == qos
    client.close()
    assert watcher.receive().topic == f"{name}/will"


def test_version_3_1_has_no_session_present(join, name):
    """The byte is reserved there."""
    client = join(V31, name[-23:], clean=False)
    client.subscribe(name, qos=1)
    client.disconnect()
    join(V31).publish(name, b"kept")
    client = join(V31, name[-23:], clean=False)
    assert client.connack.raw == b"\x20\x02\0\0"
    assert client.receive().payload == b"kept"


def test_version_3_1_wants_a_client_id(dial):
    client = dial(V31)
    client.send(connect("", version=V31))
    assert client.read(CONNACK).reason == 0x02
    assert client.closed() == []


@pytest.mark.parametrize(("protocol", "level"), [("MQIsdp", 4), ("MQTT", 3), ("MQIsdp", 5)])
def test_name_and_level_belong_together(dial, name, protocol, level):
    client = dial(V311)
    client.send(connect(name, version=V311, protocol=protocol, level=level))
    assert [each.reason for each in client.closed()] in ([], [1], [0x84])


def test_a_bridge_of_mosquitto_learns_that_its_bit_in_the_level_is_not_known(dial, name):
    """It goes on without it only after this return code; another broker may take it."""
    client = dial(V311)
    client.send(connect(name, version=V311, level=0x84))
    assert client.read(CONNACK).raw in (b"\x20\x02\0\1", b"\x20\x02\0\0")


def test_a_refused_filter_has_code_0x80(join, name):
    """Here too deep a filter; a broker may take it, or close."""
    client = join(V311)
    client.send(subscribe((f"{name}/" + "a/" * 5_000, 1), version=V311))
    try:
        assert client.read(SUBACK).codes in ([0x80], [1])
    except Closed:
        pass
