"""The numbers that other modules name."""

from braidmq.protocols.mqtt import kinds


def test_types_are_numbered_as_on_the_wire():
    names = (
        "CONNECT CONNACK PUBLISH PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE UNSUBACK"
        " PINGREQ PINGRESP DISCONNECT AUTH"
    )
    assert [getattr(kinds, name) for name in names.split()] == list(range(1, 16))


def test_versions_are_the_levels_of_connect():
    assert (kinds.V31, kinds.V311, kinds.V5) == (3, 4, 5)
