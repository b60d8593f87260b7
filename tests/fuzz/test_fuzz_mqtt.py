"""No matter what bytes come, the MQTT decoders hold; and two other implementations agree with them.

mqtt5 reads what ours take, and sees the same in it. paho writes, and ours see what it meant.
BRAIDMQ_FUZZ_SECONDS makes it run longer.
"""

import tracemalloc

import mqtt5
import paho.mqtt.client as paho
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties as PahoProperties
from paho.mqtt.subscribeoptions import SubscribeOptions

from braidmq.protocols.mqtt import packets as p
from braidmq.protocols.mqtt.headers import headers_from, properties_from

from .budget import fuzz
from .mqtt_targets import PREFIXES, check_connect, check_lengths, check_packets, split

SEEDS = [
    bytes.fromhex(written)
    for written in (
        "10 00044D51545404 C2 003C 0001 61 0001 75 0001 FF",
        "10 00044D51545405 04 003C 00 0001 61 07 18 00000005 01 01 0001 77 0000",
        "10 00044D51545405 02 003C 08 11 0000000A 21 0005 0001 61",
        "10 00064D5149736470 03 36 003C 0001 61 0001 77 0002 00FF",
        "20 00 00 06 12 0001 78 24 01",
        "20 00 87 00",
        "20 01 00",
        "30 0003 612F62 00 68 69",
        "32 0001 61 0007 05 23 0001 01 01 21",
        "3C 0001 61 FFFF 21",
        "30 0001 61 0B 08 0001 72 09 0002 00FF 0B 01",
        "40 000A",
        "50 000A 97",
        "62 000A 92 00",
        "70 000A 00 05 1F 0002 6E6F",
        "82 0001 03 0B C1 02 0001 61 00",
        "82 FFFF 00 0001 61 2E 0000 14",
        "82 000A 0001 61 02",
        "90 000A 00 87 A2 01",
        "A2 000A 00 0001 61 0001 62",
        "B0 000A 00 00 11",
        "C0",
        "D0",
        "E0 82 05 1F 0002 6E6F",
        "F0 18 08 15 0001 6D 16 0001 01",
    )
]
PIECES = [
    bytes.fromhex(written)
    for written in (
        *("01 01", "02 00000001", "03 0001 74", "08 0001 72", "09 0001 00", "0B 01", "0B 8001"),
        *("11 00000000", "15 0001 6D", "16 0000", "17 00", "18 00000001", "1F 0000", "21 0001"),
        *(
            "22 0000",
            "23 0001",
            "24 01",
            "25 00",
            "26 0001 61 0000",
            "27 00000001",
            "80",
            "FF",
            "00",
        ),
    )
]


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    """A first byte and a body: sound ones, mostly damaged."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data) - 1)) if data else 0
        match draw(st.sampled_from("set flip insert delete".split())):
            case "set" if data:
                data[at] = draw(st.sampled_from([0, 1, 2, 3, 6, 7, 14, 127, 128, 255]))
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at + 1 : at + 1] = draw(st.sampled_from(PIECES) | st.binary(max_size=3))
            case "delete":
                del data[at : at + draw(st.integers(1, 4))]
    return bytes(data)


# --- bytes ---


@fuzz(share=0.1, rate=2_000)
@given(st.binary(max_size=6) | st.lists(st.sampled_from([0, 1, 127, 128, 255])).map(bytes))
@example(b"\x80\x80\x80\x80\x01")
def test_lengths(data):
    check_lengths(data)


@fuzz(share=0.3, rate=500)
@given(st.binary(max_size=40) | packets())
@example(b"\x30\x00\x01a\x00")
def test_packets_of_every_version(data):
    check_packets(data)


@fuzz(share=0.2, rate=700)
@given(st.binary(max_size=40) | packets().map(lambda data: data[8:]))
def test_connects_of_every_version(data):
    check_connect(data)


@fuzz(share=0.1, rate=500)
@given(st.lists(st.sampled_from(PIECES[:6] + PIECES[17:18]), unique=True).map(b"".join))
def test_properties_as_headers_and_back(content):
    try:
        said = p.scan_publish_properties(content, 0, len(content))
    except p.Malformed:
        return
    back = properties_from(headers_from(said))
    found = p.scan_publish_properties(back, 0, len(back))
    assert sorted(found.forward) == sorted(said.forward)
    said.forward = found.forward
    said.expiry_seconds = said.topic_alias = None
    assert found == said


BOMBS = {
    "properties of 256 MiB": (0x30, b"\0\1a\xff\xff\xff\x7f"),
    "a topic of 64 KiB": (0x30, b"\xff\xffa"),
    "a content type of 64 KiB": (0x30, b"\0\1a\x04\x03\xff\xffa"),
    "user properties": (0x30, b"\0\1a\xe4\xff\x03" + b"\x26\0\0\0\0" * 13_100),
    "user properties in an acknowledgement": (
        0x40,
        b"\0\1\0\xe4\xff\x03" + b"\x26\0\0\0\0" * 13_100,
    ),
    "subscription identifiers": (0x30, b"\0\1a\x80\x80\x04" + b"\x0b\x01" * 32_768),
    "empty filters": (0x82, b"\0\1\0" + b"\0\0\0" * 40_000),
    "empty filters to leave": (0xA2, b"\0\1\0" + b"\0\0" * 60_000),
    "levels": (0x82, b"\0\1\0\xff\xdc" + b"/" * 65_500 + b"\0"),
    "a body of 1 MiB": (0x32, b"\0\1a\0\1\0" + bytes(2**20)),
}


@pytest.mark.parametrize(("first", "body"), BOMBS.values(), ids=BOMBS.keys())
def test_no_packet_takes_much_more_memory_than_it_has_bytes(first, body):
    tracemalloc.start()
    try:
        kept: list = []
        try:
            kept.append(p.decode(p.DECODERS, p.V5, first, body))
        except p.Malformed:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64 * len(body) + 65_536, f"{peak} bytes for a packet of {len(body)}"


@pytest.mark.parametrize("prefix", PREFIXES.values())
def test_no_connect_takes_more_memory_than_it_has_bytes(prefix):
    tracemalloc.start()
    try:
        for rest in (
            b"\x02\0\x3c\xff\xff\xff\x7f",
            b"\x06\0\x3c\xff\xff",
            b"\xc6\0\x3c\0\xff\xff\xff",
        ):
            with pytest.raises(p.Malformed):
                p.decode_connect(0, prefix + rest)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 65_536


# --- held against mqtt5: MQTT 5 in Rust ---


def theirs(data: bytes) -> tuple:
    """What mqtt5 sees in a packet, in the order of :func:`ours`."""
    packet, size = mqtt5.read(memoryview(data))
    assert size == len(data)
    match packet:
        case mqtt5.ConnectPacket() as c:
            will = c.will and (
                *(c.will.topic, c.will.payload, c.will.qos, c.will.retain),
                *(c.will.will_delay_interval, c.will.message_expiry_interval),
                *(c.will.payload_format_indicator, c.will.user_properties),
            )
            return (
                *(c.client_id, c.clean_start, c.keep_alive, c.username, c.password, will),
                *(c.session_expiry_interval, c.receive_max, c.max_packet_size, c.topic_alias_max),
                *(c.request_problem_info, c.authentication_method, c.user_properties),
            )
        case mqtt5.ConnAckPacket() as c:
            return (
                *(c.session_present, c.reason_code, c.assigned_client_id, c.server_keep_alive),
                *(c.max_qos, c.receive_max, c.retain_available, c.reason_str, c.user_properties),
            )
        case mqtt5.PublishPacket() as m:
            return (
                *(m.topic, m.payload, m.qos, m.retain, m.duplicate, m.packet_id or 0),
                *(m.payload_format_indicator, m.message_expiry_interval, m.content_type),
                *(m.response_topic, m.correlation_data, m.subscription_ids, m.topic_alias),
                m.user_properties,
            )
        case mqtt5.SubscribePacket() as s:
            filters = [
                (f.pattern, f.max_qos, f.no_local, f.retain_as_published, f.retain_handling)
                for f in s.topic_filters
            ]
            return s.packet_id, filters, s.subscription_id, s.user_properties
        case mqtt5.UnsubscribePacket() as u:
            return u.packet_id, u.patterns, u.user_properties
        case mqtt5.SubAckPacket() | mqtt5.UnsubAckPacket() as a:
            return a.packet_id, a.reason_codes, a.reason_str, a.user_properties
        case mqtt5.PingReqPacket() | mqtt5.PingRespPacket():
            return ()
        case mqtt5.DisconnectPacket() as d:
            return d.reason_code, d.session_expiry_interval, d.reason_str, d.user_properties
        case mqtt5.AuthPacket() as a:
            return (
                *(a.reason_code, a.authentication_method, a.authentication_data),
                *(a.reason_str, a.user_properties),
            )
        case ack:
            return ack.packet_id, ack.reason_code, ack.reason_str, ack.user_properties


def ours(packet: object) -> tuple:
    """What our decoders see in it."""
    match packet:
        case p.Connect(properties=s) as c:
            w = c.will
            said = (w and w.properties) or p.PublishProperties()
            will = w and (
                *(w.topic, w.payload, w.qos, w.retain, w.delay_seconds),
                *(said.expiry_seconds, said.payload_format or 0, list(said.user)),
            )
            return (
                *(c.client_id, c.clean_start, c.keep_alive, c.username, c.password, will),
                *(s.session_expiry_seconds or 0, s.receive_maximum or 65_535),
                *(s.maximum_packet_size, s.topic_alias_maximum or 0),
                s.request_problem_information != 0,
                *(s.authentication_method, list(s.user)),
            )
        case p.Connack(properties=s) as c:
            return (
                *(c.session_present, c.reason, s.assigned_client_identifier),
                s.server_keep_alive_seconds,
                2 if s.maximum_qos is None else s.maximum_qos,
                *(s.receive_maximum or 65_535, s.retain_available != 0, s.reason_string),
                list(s.user),
            )
        case p.Publish() as m:
            said = m.properties or p.PublishProperties()
            return (
                *(m.topic, m.payload, m.qos, m.retain, m.dup, m.packet_id),
                *(said.payload_format or 0, said.expiry_seconds, said.content_type),
                *(said.response_topic, said.correlation_data, list(said.subscription_ids)),
                *(said.topic_alias, list(said.user)),
            )
        case p.Subscribe(packet_id, requests, s):
            return packet_id, [*map(tuple, requests)], s.subscription_identifier, list(s.user)
        case p.Unsubscribe(packet_id, filters, s):
            return packet_id, filters, list(s.user)
        case p.Suback(packet_id, reasons, s) | p.Unsuback(packet_id, reasons, s):
            return packet_id, list(reasons), s.reason_string, list(s.user)
        case None:
            return ()
        case p.Disconnect(reason, s):
            return reason, s.session_expiry_seconds, s.reason_string, list(s.user)
        case p.Auth(reason, s):
            return (
                *(reason, s.authentication_method, s.authentication_data),
                *(s.reason_string, list(s.user)),
            )
        case p.Ack(packet_id, reason, s):
            return packet_id, reason, s.reason_string, list(s.user)
    raise AssertionError(packet)


@fuzz(share=0.3, rate=700)
@given(packets())
def test_what_we_take_another_implementation_takes_for_the_same(data):
    """The other way round does not hold: mqtt5 looks for properties beyond their block, and takes
    null characters, packet identifiers of 0 and SUBSCRIBEs of nothing.
    """
    if not data:
        return
    try:
        if data[0] >> 4 == p.CONNECT:
            packet = p.decode_connect(data[0] & 15, data[1:])
            if packet.level != p.V5:
                return
        else:
            decoders = p.CLIENT_DECODERS if data[0] >> 4 in p.CLIENT_DECODERS else p.DECODERS
            packet = p.decode(decoders, p.V5, data[0], data[1:])
    except p.Malformed:
        return
    if data == b"\xf0" or data[:2] == b"\xe0\x8c":
        return  # section 3.15.2.1: an AUTH may be empty; section 2.4: 0x8C may be in a DISCONNECT
    assert ours(packet) == theirs(p.encode_length(len(data) - 1).join((data[:1], data[1:])))


# --- held against paho: 3.1, 3.1.1 and 5, what it writes ---

PAHO = {p.V31: paho.MQTTv31, p.V311: paho.MQTTv311, p.V5: paho.MQTTv5}
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
NAMES = st.sampled_from(["a", "a/b", "é", "x" * 200])
VERSIONS = st.sampled_from(list(PAHO))
IDS = st.integers(1, 65_535)
QOS = st.integers(0, 2)


class Writer(paho.Client):
    """paho without a socket: what it would send is in ``sent``."""

    def __init__(self, version: int, client_id: str = "id") -> None:
        super().__init__(CallbackAPIVersion.VERSION2, client_id, protocol=PAHO[version])
        self.sent: list[bytes] = []
        self._sock = True  # type: ignore[assignment]

    def _packet_queue(self, command, packet, mid, qos, info=None):
        self.sent.append(bytes(packet))
        return paho.MQTT_ERR_SUCCESS

    def _reset_sockets(self, sockpair_only=False):
        """There are none."""

    def _sock_close(self):
        """There is none."""


@fuzz(share=0.1, rate=300)
@given(
    VERSIONS,
    st.tuples(NAMES, st.binary(max_size=200), QOS, st.booleans(), st.booleans(), IDS),
    st.none() | TEXT,
    st.none() | st.binary(max_size=5),
    st.lists(st.tuples(TEXT, TEXT), max_size=3),
)
def test_a_publish_of_paho(version, fields, content_type, correlation, user):
    topic, payload, qos, retain, dup, packet_id = fields
    client, properties, dup = Writer(version), None, dup and qos > 0
    if version == p.V5:
        properties = PahoProperties(PacketTypes.PUBLISH)
        if content_type is not None:
            properties.ContentType = content_type
        if correlation is not None:
            properties.CorrelationData = correlation
        if user:
            properties.UserProperty = user
    client._send_publish(
        packet_id, topic.encode(), payload, qos, retain, dup, properties=properties
    )
    first, body = split(client.sent[0])
    message = p.decode(p.DECODERS, version, first, body)
    assert (message.topic, message.payload, message.qos) == (topic, payload, qos)
    assert (message.retain, message.dup) == (retain, dup)
    assert message.packet_id == (packet_id if qos else 0)
    said = message.properties or p.PublishProperties()
    if version == p.V5:
        found = (said.content_type, said.correlation_data, list(said.user))
        assert found == (content_type, correlation, user)
    # What ours write for the same is the same, byte for byte.
    written = p.encode_publish(version, topic, payload, qos, retain, dup, packet_id, said.forward)
    assert written == client.sent[0]


@fuzz(share=0.1, rate=300)
@given(
    VERSIONS, st.lists(st.tuples(NAMES, QOS, st.booleans(), st.booleans(), QOS), min_size=1), QOS
)  # fmt: skip
def test_a_subscribe_and_an_unsubscribe_of_paho(version, requests, reason):
    client = Writer(version)
    wanted = [p.Request(*request) for request in requests]
    topics: list = [(name.encode(), qos) for name, qos, *_ in requests]
    if version == p.V5:
        topics = [(name.encode(), SubscribeOptions(*rest)) for name, *rest in requests]
    else:
        wanted = [p.Request(name, qos) for name, qos, *_ in requests]
    client._send_subscribe(False, topics)
    client._send_unsubscribe(False, [name for name, _ in topics])
    subscribe, unsubscribe = (p.decode(p.DECODERS, version, *split(sent)) for sent in client.sent)
    assert subscribe.requests == wanted
    assert unsubscribe.filters == [request.filter for request in wanted]
    assert p.encode_subscribe(version, subscribe.packet_id, wanted) == client.sent[0]
    written = p.encode_unsubscribe(version, unsubscribe.packet_id, unsubscribe.filters)
    assert written == client.sent[1]


@fuzz(share=0.1, rate=300)
@given(
    VERSIONS, NAMES, st.booleans(), st.integers(0, 65_535),
    st.none() | st.tuples(NAMES, st.none() | TEXT),
    st.none() | st.tuples(NAMES, st.binary(min_size=1, max_size=9), QOS, st.booleans()),
)  # fmt: skip
def test_a_connect_of_paho(version, client_id, clean, keep_alive, login, will):
    client = Writer(version, client_id)
    if version == p.V5:
        client._clean_start = clean
    else:
        client._clean_session = clean
    if login:
        client.username_pw_set(*login)
    if will:
        client.will_set(*will)
    client._send_connect(keep_alive)
    first, body = split(client.sent[0])
    connect = p.decode_connect(first & 15, body)
    username, password = login or (None, None)
    assert connect == p.Connect(
        *(version, clean, keep_alive, client_id, will and p.Will(*will), username),
        None if password is None else password.encode(),
    )
    assert p.encode_connect(connect) == client.sent[0]


@pytest.mark.parametrize("version", PAHO)
def test_the_short_packets_of_paho(version):
    client = Writer(version)
    client._send_puback(7)
    client._send_pubrec(8)
    client._send_pubrel(9)
    client._send_pubcomp(10)
    client._send_pingreq()
    client._send_disconnect()
    assert client.sent == [
        p.encode_ack(p.PUBACK, version, 7),
        p.encode_ack(p.PUBREC, version, 8),
        p.encode_ack(p.PUBREL, version, 9),
        p.encode_ack(p.PUBCOMP, version, 10),
        p.PINGREQ_PACKET,
        p.encode_disconnect(version),
    ]
