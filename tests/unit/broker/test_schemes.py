"""The table of schemes."""

from braidmq.broker.schemes import MQTT_DIALECTS, SCHEMES, STOMP_DIALECTS


def test_every_dialect_has_a_scheme_with_tls_and_one_without():
    for tls in (False, True):
        found = {scheme.dialect for scheme in SCHEMES.values() if scheme.tls is tls}
        assert found == {"native", "mqtt", "stomp", "http"}
    dialects = {scheme.dialect for scheme in SCHEMES.values()}
    assert dialects >= {*MQTT_DIALECTS, *STOMP_DIALECTS}


def test_the_name_of_a_scheme_with_tls_ends_in_s():
    for name, scheme in SCHEMES.items():
        assert scheme.tls is name.endswith("s") or name == "ws"
        assert 0 < scheme.port < 65_536


def test_the_ports_are_the_usual_ones():
    assert (SCHEMES["mqtt"].port, SCHEMES["mqtts"].port) == (1883, 8883)
    assert SCHEMES["ws"] == SCHEMES["http"] and SCHEMES["wss"] == SCHEMES["https"]
