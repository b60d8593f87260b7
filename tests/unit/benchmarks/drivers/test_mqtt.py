"""What is said in MQTT, byte by byte, however the broker's bytes are cut."""

import socket
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.drivers.driver import Refused, Wiring
from braidmq.benchmarks.drivers.mqtt import MqttClient, MqttConsumer, MqttDriver, MqttProducer
from braidmq.benchmarks.drivers.mqtt_packets import next_packet, parse_publish, publish_packet
from tests.bench_clients import cuts, feed

DRIVER = MqttDriver()
NAMES = ("a.b", "c")


def producer(scheme="mqtt", **more) -> MqttProducer:
    wiring = Wiring(url=f"{scheme}://127.0.0.1:1", kind="topic", names=NAMES, **more)
    return MqttProducer(None, wiring)  # type: ignore[arg-type]


def consumer(version=4) -> MqttConsumer:
    return MqttConsumer(None, version)  # type: ignore[arg-type]


def sent(out) -> list:
    """The messages in what was written."""
    view, at, found = memoryview(bytes(out)), 0, []
    while at < len(view):
        packet = next_packet(view, at)
        assert packet is not None
        first, begin, at = packet
        found.append(parse_publish(4, first, view[begin:at]))
    return found


def puback(number: int) -> bytes:
    return b"\x40\x02" + (number % 65_535 + 1).to_bytes(2, "big")


def test_messages_of_qos_0_have_no_identifier_and_are_never_confirmed():
    client = producer(qos=0)
    assert not client.confirms
    client.publish([b"one", b"\0\r\n"], 0)
    client.publish([b"x" * 200], 1)
    assert client.out == (
        b"\x30\x08\0\x03a/bone" + b"\x30\x08\0\x03a/b\0\r\n" + b"\x30\xcb\x01\0\x01c" + b"x" * 200
    )


def test_messages_of_qos_1_are_confirmed_by_their_numbers_in_any_order():
    client = producer(qos=1)
    assert client.confirms
    client.publish([b"one", b"two", b"three"])
    assert client.out.startswith(b"\x32\x0a\0\x03a/b\0\x01one\x32\x0a\0\x03a/b\0\x02two")
    client.feed(puback(1) + puback(0)[:3])
    assert client.confirmed == [1]
    client.feed(puback(0)[3:] + puback(2))
    assert client.confirmed == [1, 0, 2] and not client.refused


def test_mqtt_5_has_properties_and_says_no():
    client = producer("mqtt5", qos=1, retain=True)
    client.publish([b"one", b"two", b"six"])
    assert client.out.startswith(b"\x33\x0b\0\x03a/b\0\x01\0one")
    nobody, full = b"\x40\x04\0\x01\x10\0", b"\x40\x09\0\x02\x97\x05\x1f\0\x02no"
    client.feed(nobody + full + puback(2))
    assert client.confirmed == [0, 2] and client.refused == [1]


def test_qos_2_is_confirmed_when_all_is_said():
    client = producer("mqtt5", qos=2)
    client.publish([b"one", b"two", b"six"])
    assert client.out[0] == 0x34
    client.out.clear()
    client.feed(b"\x50\x02\0\x01\x50\x04\0\x02\x97\0\x50\x02\0\x03")
    assert client.out == b"\x62\x02\0\x01\x62\x02\0\x03"
    assert client.confirmed == [] and client.refused == [1]
    client.feed(b"\x70\x02\0\x03\x70\x02\0\x01")
    assert client.confirmed == [2, 0]


def test_no_more_is_in_flight_than_there_are_identifiers():
    client = producer(qos=1)
    client.publish([b"x"] * 70_000)
    assert [each.packet_id for each in sent(client.out)] == list(range(1, 65_536))
    client.out.clear()
    client.feed(puback(1))
    assert not client.out, "the identifier of the first is still in use"
    client.feed(puback(0) + b"".join(puback(number) for number in range(2, 100)))
    assert [each.packet_id for each in sent(client.out)] == list(range(1, 101))
    client.feed(b"".join(puback(number) for number in range(100, 65_635)))
    assert sorted(client.confirmed) == list(range(65_635))
    assert client.confirmed[-1] == 65_634


def test_the_receive_maximum_is_kept():
    client = producer("mqtt5", qos=1)
    client.feed(b"\x20\x06\0\0\x03\x21\0\x02")
    assert client.greeted
    client.publish([b"a", b"b", b"c", b"d"])
    assert client.out.count(b"\0\x03a/b") == 2
    client.feed(puback(0))
    assert client.out.count(b"\0\x03a/b") == 3 and client.out.endswith(b"\0\x03\0c")


def test_delays_are_whole_seconds():
    client = producer(qos=1)
    client.publish([b"one"], delay_ms=2_000)
    assert b"\0\x0e$delayed/2/a/b\0\x01one" in client.out
    with pytest.raises(Refused, match="whole seconds, not by 1500"):
        client.publish([b"one"], delay_ms=1_500)


def test_an_answer_to_nothing_is_refused():
    for answer in (puback(0), b"\x70\x02\0\x01", b"\x50\x02\0\x02"):
        with pytest.raises(Refused, match="not in flight"):
            producer(qos=1).feed(answer)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"\xe0\x08\x8b\x06\x1f\0\x03why", "DISCONNECT with 139: why"),
        (b"\x20\x03\0\x87\0", "CONNACK with 135"),
        (b"\x90\x04\0\x01\0\x87", "SUBACK with 135 for 1 filters"),
        (b"\xc0\x00", "nobody expected"),
        (b"\x40\x00", "not MQTT"),
        (b"\x20\xff\xff\xff\xff\xff", "not MQTT"),
    ],
)
def test_the_words_of_the_broker_are_kept(answer, words):
    for client in (producer("mqtt5"), consumer(5)):
        if not (answer[0] == 0x40 and isinstance(client, MqttConsumer)):
            with pytest.raises(Refused, match=words):
                client.feed(answer)


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1, 2])
@given(bodies=st.lists(st.binary(max_size=300), min_size=1, max_size=8), places=cuts())
def test_messages_come_out_as_they_went_in(version, qos, bodies, places):
    packets = [
        publish_packet(version, qos, "a/b", number + 1 if qos else 0, body)
        for number, body in enumerate(bodies)
    ]
    client = consumer(version)
    feed(client, b"".join(packets), places)
    assert client.bodies == bodies
    client.acknowledge(client.receipts)
    head = {0: b"", 1: b"\x40\x02", 2: b"\x50\x02"}[qos]
    wanted = [head + pack(">H", number + 1) for number in range(len(bodies))] if qos else []
    assert client.out == b"".join(wanted)


@given(places=cuts(), count=st.integers(1, 50))
def test_confirmations_may_be_cut_anywhere(places, count):
    client = producer("mqtt5", qos=1)
    client.publish([b"x"] * count)
    answers = [
        puback(number) if number % 3 else b"\x40\x03\0%c\x10" % (number + 1)
        for number in range(count)
    ]
    feed(client, b"".join(answers), places)
    assert client.confirmed == list(range(count))


def test_what_comes_twice_of_qos_2_counts_once():
    client = consumer()
    message = publish_packet(4, 2, "a", 7, b"x")
    client.feed(message)
    client.acknowledge(client.receipts)
    client.feed(message)
    assert client.out == b"\x50\x02\0\x07" * 2 and client.bodies == [b"x"]
    client.out.clear()
    client.feed(b"\x62\x02\0\x07" + message)
    assert client.out == b"\x70\x02\0\x07" and client.bodies == [b"x", b"x"]


def test_a_message_that_is_none_is_refused():
    with pytest.raises(Refused, match="ends too early"):
        consumer().feed(b"\x30\x03\0\x09a")
    with pytest.raises(Refused, match="no way"):
        consumer().reject([1])


def test_a_greeting_is_answered_or_not():
    greeting = DRIVER.greeting(Wiring(url="mqtt://me:secret@127.0.0.1:1", client_id="ab"))
    assert greeting == b"\x10\x1a\0\x04MQTT\x04\xc2\0\0\0\x02ab\0\x02me\0\x06secret"
    assert not DRIVER.is_greeted(b"\x20\x02\0")
    assert DRIVER.is_greeted(b"\x20\x02\0\0")
    assert DRIVER.is_greeted(b"\x20\x06\0\0\x03\x21\0\x02")
    for answer, words in (
        (b"\x20\x02\0\x05", "CONNACK with 5"),
        (b"\x20\x09\0\x87\x06\x1f\0\x03why", "CONNACK with 135: why"),
        (b"\xd0\x00", "nobody expected"),
        (b"\x20\xff\xff\xff\xff\xff", "not MQTT"),
    ):
        with pytest.raises(Refused, match=words):
            DRIVER.is_greeted(answer)


def test_hanging_up_says_so():
    ours, theirs = socket.socketpair()
    MqttClient(ours, 4).close()
    with theirs:
        assert theirs.recv(10) == b"\xe0\x00"
