"""Acknowledgements, pings, DISCONNECT, AUTH, and the tables of what may come from where."""

import pytest

from braidmq.protocols.mqtt import packets as p
from braidmq.protocols.mqtt.packets import V5, V31, V311, Malformed, Properties, Reason

DECODE = {
    p.PUBACK: p.decode_puback,
    p.PUBREC: p.decode_pubrec,
    p.PUBREL: p.decode_pubrel,
    p.PUBCOMP: p.decode_pubcomp,
}
WHY = Properties(reason_string="no")


def h(text):
    return bytes.fromhex(text)


def refused(decode, version, flags, written, *more):
    with pytest.raises(Malformed) as caught:
        decode(version, flags, h(written), *more)
    return caught.value.reason


# --- PUBACK, PUBREC, PUBREL, PUBCOMP ---

ACKS = [
    (p.PUBACK, V31, "40 02 000A", p.Ack(10)),
    (p.PUBACK, V311, "40 02 FFFF", p.Ack(65_535)),
    (p.PUBACK, V5, "40 02 000A", p.Ack(10)),
    (p.PUBREC, V5, "50 03 000A 97", p.Ack(10, Reason.QUOTA_EXCEEDED)),
    (p.PUBREL, V5, "62 03 000A 92", p.Ack(10, Reason.PACKET_IDENTIFIER_NOT_FOUND)),
    (p.PUBREL, V311, "62 02 000A", p.Ack(10)),
    (p.PUBCOMP, V5, "70 02 000A", p.Ack(10)),
    (p.PUBACK, V5, "40 09 000A 87 05 1F 0002 6E6F", p.Ack(10, Reason.NOT_AUTHORIZED, WHY)),
    (p.PUBCOMP, V5, "70 09 000A 00 05 1F 0002 6E6F", p.Ack(10, 0, WHY)),
]


@pytest.mark.parametrize(("kind", "version", "written", "ack"), ACKS)
def test_an_acknowledgement_is_written_and_read(kind, version, written, ack):
    packet, properties = h(written), p.encode_properties(ack.properties)
    assert p.encode_ack(kind, version, ack.packet_id, ack.reason, properties) == packet
    assert DECODE[kind](version, packet[0] & 15, packet[2:]) == ack


def test_an_acknowledgement_may_say_that_it_says_nothing():
    assert p.decode_puback(V5, 0, h("000A 00")) == p.Ack(10)
    assert p.decode_puback(V5, 0, h("000A 10 00")) == p.Ack(10, Reason.NO_MATCHING_SUBSCRIBERS)


def test_old_versions_are_told_no_reason():
    assert p.encode_ack(p.PUBACK, V311, 10, 0x97, b"left out") == h("40 02 000A")


@pytest.mark.parametrize("kind", DECODE)
@pytest.mark.parametrize(
    ("version", "written", "reason"),
    [
        (V311, "0000", Reason.PROTOCOL_ERROR),
        (V5, "0000", Reason.PROTOCOL_ERROR),
        (V311, "", Reason.MALFORMED_PACKET),
        (V311, "01", Reason.MALFORMED_PACKET),
        (V311, "0001 00", Reason.MALFORMED_PACKET),
        (V31, "0001 00", Reason.MALFORMED_PACKET),
        (V5, "0001 01", Reason.PROTOCOL_ERROR),
        (V5, "0001 82", Reason.PROTOCOL_ERROR),
        (V5, "0001 00 01", Reason.MALFORMED_PACKET),
        (V5, "0001 00 00 00", Reason.MALFORMED_PACKET),
        (V5, "0001 00 03 230001", Reason.MALFORMED_PACKET),
        (V5, "0001 00 08 1F000161 1F000161", Reason.PROTOCOL_ERROR),
    ],
)
def test_an_acknowledgement_that_is_none(kind, version, written, reason):
    flags = 2 if kind == p.PUBREL else 0
    assert refused(DECODE[kind], version, flags, written) == reason


@pytest.mark.parametrize("version", [V31, V311, V5])
@pytest.mark.parametrize("kind", DECODE)
def test_the_flags_of_an_acknowledgement_are_reserved(kind, version):
    """[MQTT-2.1.3-1], [MQTT-3.6.1-1]."""
    allowed = {2} if kind == p.PUBREL else {0}
    if kind == p.PUBREL and version == V31:
        allowed.add(10)  # 3.1: it may be sent again
    for flags in set(range(16)) - allowed:
        assert refused(DECODE[kind], version, flags, "0001") == Reason.MALFORMED_PACKET
    for flags in allowed:
        assert DECODE[kind](version, flags, h("0001")) == p.Ack(1)


# --- PINGREQ, PINGRESP, DISCONNECT, AUTH ---


@pytest.mark.parametrize("version", [V31, V311, V5])
def test_pings_are_empty(version):
    assert p.PINGREQ_PACKET == h("C0 00") and p.PINGRESP_PACKET == h("D0 00")
    p.decode_ping(version, 0, b"")
    assert refused(p.decode_ping, version, 0, "00") == Reason.MALFORMED_PACKET
    assert refused(p.decode_ping, version, 1, "") == Reason.MALFORMED_PACKET


DISCONNECTS = [
    (V31, "E0 00", p.Disconnect()),
    (V311, "E0 00", p.Disconnect()),
    (V5, "E0 00", p.Disconnect()),
    (V5, "E0 01 04", p.Disconnect(Reason.DISCONNECT_WITH_WILL_MESSAGE)),
    (V5, "E0 01 8E", p.Disconnect(Reason.SESSION_TAKEN_OVER)),
    (V5, "E0 07 82 05 1F 0002 6E6F", p.Disconnect(Reason.PROTOCOL_ERROR, WHY)),
    (V5, "E0 07 00 05 11 00000005", p.Disconnect(0, Properties(session_expiry_seconds=5))),
]


@pytest.mark.parametrize(("version", "written", "disconnect"), DISCONNECTS)
def test_a_disconnect_is_written_and_read(version, written, disconnect):
    packet, properties = h(written), p.encode_properties(disconnect.properties)
    assert p.encode_disconnect(version, disconnect.reason, properties) == packet
    assert p.decode_disconnect(version, 0, packet[2:]) == disconnect


def test_old_versions_disconnect_without_a_word():
    assert p.encode_disconnect(V311, 0x82, b"left out") == h("E0 00")


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V311, 0, "00", Reason.MALFORMED_PACKET),
        (V31, 0, "00", Reason.MALFORMED_PACKET),
        (V5, 1, "", Reason.MALFORMED_PACKET),  # [MQTT-3.14.1-1]
        (V5, 0, "01", Reason.PROTOCOL_ERROR),  # [MQTT-3.14.2-1]
        (V5, 0, "84", Reason.PROTOCOL_ERROR),
        (V5, 0, "00 05 11", Reason.MALFORMED_PACKET),
        (V5, 0, "00 00 00", Reason.MALFORMED_PACKET),
        (V5, 0, "00 03 210001", Reason.MALFORMED_PACKET),
    ],
)
def test_a_disconnect_that_is_none(version, flags, written, reason):
    assert refused(p.decode_disconnect, version, flags, written) == reason


def test_an_auth():
    step = Properties(authentication_method="m", authentication_data=b"\1")
    packet = p.encode_auth(Reason.CONTINUE_AUTHENTICATION, p.encode_properties(step))
    assert packet == h("F0 0A 18 08 15 0001 6D 16 0001 01")
    assert p.decode_auth(V5, 0, packet[2:]) == p.Auth(Reason.CONTINUE_AUTHENTICATION, step)
    assert p.encode_auth() == h("F0 00")
    assert p.decode_auth(V5, 0, b"") == p.Auth()
    assert p.encode_auth(0x19) == h("F0 02 19 00")


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V311, 0, "", Reason.MALFORMED_PACKET),
        (V31, 0, "18 00", Reason.MALFORMED_PACKET),
        (V5, 1, "", Reason.MALFORMED_PACKET),  # [MQTT-3.15.1-1]
        (V5, 0, "80 00", Reason.PROTOCOL_ERROR),  # [MQTT-3.15.2-1]
        (V5, 0, "18", Reason.MALFORMED_PACKET),
        (V5, 0, "18 00 00", Reason.MALFORMED_PACKET),
        (V5, 0, "18 04 16 0001 01", Reason.PROTOCOL_ERROR),  # data without a method
    ],
)
def test_an_auth_that_is_none(version, flags, written, reason):
    assert refused(p.decode_auth, version, flags, written) == reason


# --- the tables ---


def test_what_a_server_takes():
    expected = {3, 4, 5, 6, 7, 8, 10, 12, 14, 15}
    assert set(p.DECODERS) == expected
    for kind in set(range(16)) - expected:
        with pytest.raises(Malformed) as caught:
            p.decode(p.DECODERS, V5, kind << 4, b"")
        # A second CONNECT is a protocol error, [MQTT-3.1.0-2]; type 0 does not exist.
        assert caught.value.reason == (0x82 if kind else 0x81)


def test_what_a_client_takes():
    assert set(p.CLIENT_DECODERS) == {2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 15}


def test_a_packet_by_its_first_byte():
    body = h("0001 61 0007 03 0B C1 02 21")
    with pytest.raises(Malformed):  # [MQTT-3.3.4-6]
        p.decode(p.DECODERS, V5, 0x32, body)
    message = p.decode(p.CLIENT_DECODERS, V5, 0x32, body)
    assert (message.topic, message.payload) == ("a", b"!")
    assert message.properties.subscription_ids == [321]
    assert p.decode(p.DECODERS, V311, 0x62, h("0007")) == p.Ack(7)
    assert p.decode(p.CLIENT_DECODERS, V311, 0x20, h("0100")) == p.Connack(True, 0)


def test_a_client_takes_so_many_subscription_identifiers_and_no_more():
    for count, fine in ((1_024, True), (1_025, False)):
        head, rest = p.publish_head(V5, b"a", 0, False, False, h("0B 01") * count, 0)
        assert not rest
        body = head[3:] if head[2] < 128 else head[4:]
        if fine:
            assert p.decode(p.CLIENT_DECODERS, V5, 0x30, body).properties is not None
        else:
            with pytest.raises(Malformed):
                p.decode(p.CLIENT_DECODERS, V5, 0x30, body)


def test_the_limit_of_user_properties_reaches_every_decoder():
    user = h("26 0001 61 0000")
    block = bytes([2 * len(user)]) + user * 2
    bodies = {
        p.PUBLISH: h("0001 61") + block,
        p.SUBSCRIBE: h("0001") + block + h("0001 61 00"),
        p.UNSUBSCRIBE: h("0001") + block + h("0001 61"),
        p.DISCONNECT: h("00") + block,
        p.AUTH: h("00") + block,
        **dict.fromkeys(DECODE, h("0001 00") + block),
        p.CONNACK: h("00 00") + block,
        p.SUBACK: h("0001") + block + h("00"),
        p.UNSUBACK: h("0001") + block + h("00"),
    }
    empty = {p.PINGREQ, p.PINGRESP}
    assert {*p.DECODERS, *p.CLIENT_DECODERS} - empty == set(bodies)
    for table in (p.DECODERS, p.CLIENT_DECODERS):
        for kind in table.keys() - empty:
            flags = 2 if kind in (p.PUBREL, p.SUBSCRIBE, p.UNSUBSCRIBE) else 0
            p.decode(table, V5, kind << 4 | flags, bodies[kind], 2)
            with pytest.raises(Malformed) as caught:
                p.decode(table, V5, kind << 4 | flags, bodies[kind], 1)
            assert caught.value.reason == Reason.QUOTA_EXCEEDED
