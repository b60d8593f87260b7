"""CONNECT and CONNACK: exact bytes of every version, and every flag that does not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.protocols.mqtt import connect as c
from braidmq.protocols.mqtt.kinds import V5, V31, V311
from braidmq.protocols.mqtt.primitives import read_length
from braidmq.protocols.mqtt.properties import NO_PROPERTIES, Properties, encode_properties
from braidmq.protocols.mqtt.publish import PublishProperties
from braidmq.protocols.mqtt.reasons import Malformed, Reason

MQISDP, MQTT4, MQTT5 = "0006 4D5149736470 03", "0004 4D515454 04", "0004 4D515454 05"


def h(text):
    return bytes.fromhex(text)


def body_of(packet):
    found = read_length(packet, 1, len(packet))
    assert found is not None and found[0] + found[1] == len(packet)
    return packet[found[1] :]


def refused(written, flags=0):
    with pytest.raises(Malformed) as caught:
        c.decode_connect(flags, h(written))
    return caught.value.reason


# --- CONNECT ---

CONNECTS = [
    (f"10 0F {MQISDP} 02 00 3C 0001 61", c.Connect(V31, True, 60, "a")),
    (f"10 0D {MQTT4} 02 00 3C 0001 61", c.Connect(V311, True, 60, "a")),
    (f"10 0C {MQTT4} 02 00 00 0000", c.Connect(V311, True, 0, "")),
    (f"10 0E {MQTT5} 00 FF FF 00 0001 61", c.Connect(V5, False, 65_535, "a")),
    (
        f"10 13 {MQTT4} C2 00 3C 0001 61 0001 75 0001 FF",
        c.Connect(V311, True, 60, "a", None, "u", b"\xff"),
    ),
    (
        f"10 11 {MQTT5} 42 00 3C 00 0001 61 0001 70",  # a password alone is for MQTT 5 only
        c.Connect(V5, True, 60, "a", None, None, b"p"),
    ),
    (
        f"10 14 {MQTT4} 36 00 3C 0001 61 0001 77 0002 00FF",
        c.Connect(V311, True, 60, "a", c.Will("w", b"\0\xff", 2, True)),
    ),
    (
        f"10 14 {MQTT5} 0C 00 3C 00 0001 61 00 0001 77 0000",
        c.Connect(V5, False, 60, "a", c.Will("w", b"", 1, False)),
    ),
    (
        f"10 1B {MQTT5} 04 00 3C 00 0001 61 07 18 00000005 01 01 0001 77 0000",
        c.Connect(
            V5,
            False,
            60,
            "a",
            c.Will(
                "w",
                b"",
                0,
                False,
                PublishProperties(b"\1\1", payload_format=1, user=[], subscription_ids=[]),
                5,
            ),
        ),
    ),
    (
        f"10 16 {MQTT5} 02 00 3C 08 11 0000000A 21 0005 0001 61",
        c.Connect(
            V5,
            True,
            60,
            "a",
            properties=Properties(session_expiry_seconds=10, receive_maximum=5),
        ),
    ),
]


@pytest.mark.parametrize(("written", "connect"), CONNECTS)
def test_a_connect_is_written_and_read(written, connect):
    assert c.decode_connect(0, body_of(h(written))) == connect
    assert c.encode_connect(connect, encode_properties(connect.properties)) == h(written)
    assert c.peek_level(body_of(h(written))) == connect.level


@pytest.mark.parametrize("written", [written for written, _ in CONNECTS])
def test_a_connect_that_is_too_short_or_too_long(written):
    body = body_of(h(written))
    for size in range(len(body)):
        with pytest.raises(Malformed):
            c.decode_connect(0, body[:size])
    assert refused(body.hex() + "00") == Reason.MALFORMED_PACKET


@pytest.mark.parametrize(
    "written",
    [
        "0004 4D515454 03 02 003C 0001 61",  # MQTT is 4 or 5
        "0006 4D5149736470 04 02 003C 0001 61",
        "0004 4D515454 06 02 003C 0001 61",
        "0004 4D515454 84 02 003C 0001 61",  # a bridge's bit
        "0006 4D5149736470 83 02 003C 0001 61",
        "0004 6D717474 04 02 003C 0001 61",  # [MQTT-3.1.2-1]: not mqtt
        "0000 04 02 003C 0001 61",
        "0004 4D515454",
    ],
)
def test_a_version_that_is_not_spoken(written):
    assert refused(written) == Reason.UNSUPPORTED_PROTOCOL_VERSION
    assert c.peek_level(h(written)) == 0


def test_a_name_that_is_no_text_is_malformed():
    assert refused("0001 00 04 02 003C 0000") == Reason.MALFORMED_PACKET
    assert refused("FFFF 4D") == Reason.MALFORMED_PACKET
    assert refused("") == Reason.MALFORMED_PACKET


def test_the_level_shows_before_the_rest_is_right():
    assert c.peek_level(h(MQTT5)) == V5
    assert c.peek_level(h(f"{MQTT4} FF")) == V311
    assert c.peek_level(b"") == 0


@pytest.mark.parametrize(
    ("level", "bits"),
    [
        (MQTT4, "03"),  # [MQTT-3.1.2-3]
        (MQTT5, "03"),
        (MQTT4, "1E"),  # [MQTT-3.1.2-12]
        (MQTT5, "1E"),
        (MQISDP, "1E"),
        (MQTT4, "0A"),  # [MQTT-3.1.2-11]: the QoS of no will
        (MQTT5, "22"),  # [MQTT-3.1.2-13]: its retain flag
        (MQTT4, "42"),  # [MQTT-3.1.2-22] of 3.1.1
        (MQISDP, "42"),
    ],
)
def test_flags_that_do_not_fit(level, bits):
    properties = "00" if level == MQTT5 else ""
    will = f"{properties} 0001 77 0000"
    written = f"{level} {bits} 003C {properties} 0001 61 {will} 0001 75 0001 70"
    assert refused(written) == Reason.MALFORMED_PACKET


@pytest.mark.parametrize("flags", [1, 2, 4, 8])
def test_the_flags_of_the_packet_are_reserved(flags):
    assert refused(f"{MQTT4} 02 003C 0001 61", flags) == Reason.MALFORMED_PACKET
    assert refused(f"{MQISDP} 02 003C 0001 61", flags) == Reason.MALFORMED_PACKET


def test_3_1_is_taken_as_it_was_meant():
    assert c.decode_connect(0, h(f"{MQISDP} 03 003C 0001 61")).clean_start
    connect = c.decode_connect(0, h(f"{MQISDP} C0 003C 0001 61"))
    assert (connect.username, connect.password) == (None, None)
    connect = c.decode_connect(0, h(f"{MQISDP} C0 003C 0001 61 0001 75"))
    assert (connect.username, connect.password) == ("u", None)
    assert refused(f"{MQTT4} C0 003C 0001 61 0001 75") == Reason.MALFORMED_PACKET


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (f"{MQTT5} 02 003C 06 210001 210001 0001 61", Reason.PROTOCOL_ERROR),
        (f"{MQTT5} 02 003C 03 210000 0001 61", Reason.PROTOCOL_ERROR),
        (f"{MQTT5} 02 003C 02 2401 0001 61", Reason.MALFORMED_PACKET),
        (f"{MQTT5} 02 003C 05 2700000000 0001 61", Reason.PROTOCOL_ERROR),
        (f"{MQTT5} 02 003C 7F 210001 0001 61", Reason.MALFORMED_PACKET),
        (f"{MQTT5} 06 003C 00 0001 61 03 230001 0001 77 0000", Reason.MALFORMED_PACKET),
        (f"{MQTT5} 06 003C 00 0001 61 05 1100000001 0001 77 0000", Reason.MALFORMED_PACKET),
        (f"{MQTT5} 06 003C 00 0001 61 02 0105 0001 77 0000", Reason.PROTOCOL_ERROR),
        (f"{MQTT5} 02 003C 00 0001 00", Reason.MALFORMED_PACKET),  # a client id of NUL
        (f"{MQTT4} 02 003C 0002 C328", Reason.MALFORMED_PACKET),
        (f"{MQTT4} 82 003C 0001 61 0003 EDA080", Reason.MALFORMED_PACKET),
    ],
)
def test_fields_that_are_refused(written, reason):
    assert refused(written) == reason


def test_user_properties_are_limited_in_both_blocks():
    user = "26 0001 61 0000"
    in_connect = f"{MQTT5} 02 003C 0C {user * 2} 0001 61"
    in_will = f"{MQTT5} 06 003C 00 0001 61 0C {user * 2} 0001 77 0000"
    for written in (in_connect, in_will):
        c.decode_connect(0, h(written), 2)
        with pytest.raises(Malformed) as caught:
            c.decode_connect(0, h(written), 1)
        assert caught.value.reason == Reason.QUOTA_EXCEEDED


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
WILLS = st.builds(c.Will, TEXT, st.binary(max_size=9), st.integers(0, 2), st.booleans())
CONNECTIONS = st.builds(
    c.Connect,
    st.sampled_from([V31, V311, V5]),
    st.booleans(),
    st.integers(0, 65_535),
    TEXT,
    st.none() | WILLS,
    TEXT,
    st.none() | st.binary(max_size=9),
)


@given(CONNECTIONS)
def test_a_connect_comes_back(connect):
    assert c.decode_connect(0, body_of(c.encode_connect(connect))) == connect


# --- CONNACK ---

CONNACKS = [
    (V31, "20 02 00 00", False, 0, 0),
    (V311, "20 02 01 00", True, 0, 0),
    (V5, "20 03 01 00 00", True, 0, 0),
    (V311, "20 02 00 05", False, Reason.NOT_AUTHORIZED, 5),
    (V31, "20 02 00 01", False, Reason.UNSUPPORTED_PROTOCOL_VERSION, 1),
    (V311, "20 02 00 02", False, Reason.CLIENT_IDENTIFIER_NOT_VALID, 2),
    (V311, "20 02 00 03", False, Reason.QUOTA_EXCEEDED, 3),
    (V311, "20 02 00 04", False, Reason.BAD_USER_NAME_OR_PASSWORD, 4),
    (V5, "20 03 00 87 00", False, Reason.NOT_AUTHORIZED, 0x87),
]


@pytest.mark.parametrize(("version", "written", "present", "reason", "decoded"), CONNACKS)
def test_a_connack_is_written_and_read(version, written, present, reason, decoded):
    assert c.encode_connack(version, present, reason) == h(written)
    found = c.decode_connack(version, 0, body_of(h(written)))
    assert found == c.Connack(present, decoded, NO_PROPERTIES)


def test_a_refused_connection_has_no_session():
    """[MQTT-3.2.2-6]; and 3.1 knows no such flag."""
    assert c.encode_connack(V5, True, 0x87) == h("20 03 00 87 00")
    assert c.encode_connack(V311, True, 0x87) == h("20 02 00 05")
    assert c.encode_connack(V31, True, 0) == h("20 02 00 00")


def test_a_connack_with_properties():
    properties = Properties(assigned_client_identifier="x", maximum_qos=1)
    packet = c.encode_connack(V5, False, 0, encode_properties(properties))
    assert packet == h("20 09 00 00 06 12 0001 78 24 01")
    assert c.decode_connack(V5, 0, packet[2:]) == c.Connack(False, 0, properties)
    assert c.encode_connack(V311, False, 0, b"left out") == h("20 02 00 00")


@pytest.mark.parametrize(
    ("version", "flags", "written", "reason"),
    [
        (V5, 0, "02 00 00", Reason.MALFORMED_PACKET),  # [MQTT-3.2.2-1]
        (V311, 0, "02 00", Reason.MALFORMED_PACKET),
        (V5, 0, "01 87 00", Reason.PROTOCOL_ERROR),
        (V311, 0, "01 05", Reason.PROTOCOL_ERROR),
        (V5, 0, "00 05 00", Reason.PROTOCOL_ERROR),
        (V311, 0, "00 06", Reason.MALFORMED_PACKET),
        (V5, 0, "00 00", Reason.MALFORMED_PACKET),
        (V5, 0, "00 00 00 00", Reason.MALFORMED_PACKET),
        (V311, 0, "00 00 00", Reason.MALFORMED_PACKET),
        (V311, 0, "00", Reason.MALFORMED_PACKET),
        (V311, 1, "00 00", Reason.MALFORMED_PACKET),
    ],
)
def test_connacks_that_are_none(version, flags, written, reason):
    with pytest.raises(Malformed) as caught:
        c.decode_connack(version, flags, h(written))
    assert caught.value.reason == reason
