"""Listeners as they are configured, and every way to be refused."""

import pytest

from braidmq.broker.config import Config, ConfigInvalid, changes, file_layer, flat, load
from braidmq.broker.config_listener import LISTEN_DEFAULT, Listener
from braidmq.broker.mqtt_options import MqttOptions
from braidmq.broker.schemes import SCHEMES

TLS = "tls_certificate = 'c', tls_key = 'k'"


def from_text(text: str) -> Config:
    return load(file_layer("f.toml", text)).config


def problem(text: str) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        from_text(text)
    [only] = caught.value.problems
    return only


def test_the_default_is_native_and_for_this_machine():
    listener = Listener(url=LISTEN_DEFAULT)
    assert listener.is_loopback and not listener.speaks_mqtt
    assert listener.scheme is SCHEMES["braid"] and listener.parts.port == listener.scheme.port


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_can_be_listened_on(scheme):
    more = f", {TLS}" if SCHEMES[scheme].tls else ""
    [listener] = from_text(f"listeners = [{{url = '{scheme}://127.0.0.1'{more}}}]").listeners
    assert listener.scheme == SCHEMES[scheme]


def test_a_listener_is_shown_with_the_options_that_are_its_own():
    text = "listeners = ['mqtt://127.0.0.1', {url = 'ws://127.0.0.1', mqtt = {maximum_qos = 1}}]\n"
    before, after = from_text(text), from_text(f"{text}[mqtt]\nreceive_maximum = 5")
    shown = [{"url": "mqtt://127.0.0.1"}, {"url": "ws://127.0.0.1", "mqtt": {"maximum_qos": 1}}]
    assert flat(before)["listeners",] == flat(after)["listeners",] == shown
    assert changes(before, after) == ["mqtt.receive_maximum: 256 -> 5"]


def test_options_for_mqtt_go_over_those_in_common():
    config = from_text(
        "mqtt = {maximum_qos = 1, receive_maximum = 5}\n"
        "listeners = ['braid://127.0.0.1', 'mqtt://127.0.0.1',"
        " {url = 'ws://127.0.0.1', mqtt = {receive_maximum = 256, overlapping = 'each'}}]"
    )
    native, plain, special = (listener.mqtt for listener in config.listeners)
    assert native == MqttOptions()
    assert plain == config.mqtt == MqttOptions(maximum_qos=1, receive_maximum=5)
    # A default that is named is meant.
    assert special == MqttOptions(maximum_qos=1, receive_maximum=256, overlapping="each")


def test_options_are_a_table_of_toml():
    text = "[[listeners]]\nurl = 'mqtt://127.0.0.1'\n[listeners.mqtt]\nmaximum_qos = 0\n"
    assert from_text(text).listeners[0].mqtt.maximum_qos == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt.maximum_qos = 3", "f.toml: mqtt: maximum_qos is 3; it is between 0 and 2"),
        ("mqtt.maximum_qo = 3", "mqtt.maximum_qo: unknown key; did you mean maximum_qos?"),
        (
            "listeners = [{url = 'mqtt://127.0.0.1', mqtt = {receive_maximum = 0}}]",
            "f.toml: listeners.0.mqtt: receive_maximum is 0; it is between 1 and 65535",
        ),
        (
            "listeners = [{url = 'braid://127.0.0.1', mqtt = {maximum_qos = 0}}]",
            "mqtt is for listeners that MQTT comes in by, not for braid://",
        ),
        (
            "listeners = [{url = 'mqtt://127.0.0.1', origins = ['https://a.example']}]",
            "origins are web sites: they are for http:// and ws://, not for mqtt://",
        ),
        ("limits.topic_bytes_max = 65536", "65536 is more than 65535, the longest that MQTT"),
    ],
)
def test_options_are_refused(text, expected):
    assert expected in problem(text)


def test_a_client_certificate_is_asked_for():
    [listener] = from_text(
        f"listeners = [{{url = 'mqtts://127.0.0.1', {TLS}, tls_client_ca = 'ca',"
        " tls_client = 'required', certificate_user = true, certificate_name = 'san-uri'}]"
    ).listeners
    assert (listener.tls_client, listener.tls_client_ca) == ("required", "ca")
    assert listener.certificate_user and listener.certificate_name == "san-uri"


@pytest.mark.parametrize(
    ("url", "more", "expected"),
    [
        ("mqtts", f"{TLS}, tls_client = 'optional'", "is optional and needs tls_client_ca"),
        ("mqtts", f"{TLS}, tls_client_ca = 'ca'", "set tls_client to optional or required"),
        ("mqtts", f"{TLS}, certificate_user = true", "certificate_user needs tls_client"),
        ("mqtts", f"{TLS}, tls_client = 'maybe'", "not one of none, optional, required"),
        ("mqtts", f"{TLS}, certificate_name = 'dn'", "not one of cn, san-dns, san-uri, san-email"),
        ("mqtt", "tls_client_ca = 'ca'", "are for TLS, not for mqtt://"),
        ("mqtt", "tls_client = 'required'", "tls_client is for TLS, not for mqtt://"),
        ("wss", "tls_key = 'k'", "wss:// is TLS and needs tls_certificate and tls_key"),
    ],
)
def test_client_certificates_are_whole_or_refused(url, more, expected):
    assert expected in problem(f"listeners = [{{url = '{url}://127.0.0.1:1', {more}}}]")


@pytest.mark.parametrize(
    "urls",
    [
        "'mqtt://127.0.0.1', 'mqtt://127.0.0.1:1883'",
        "'braid://localhost:99', 'http://localhost:99'",
    ],
)
def test_an_address_is_taken_once(urls):
    assert "is there twice" in problem(f"listeners = [{urls}]")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("braid://0.0.0.0:7450", "can be reached from other machines and no user is defined"),
        ("braid://[::]:7450", "can be reached from other machines"),
        ("braid://broker.example:7450", "can be reached from other machines"),
        ("mail://127.0.0.1:1", "does not begin with one of braid://, braids://, mqtt://"),
        ("127.0.0.1:7450", "does not begin with one of braid://, braids://, mqtt://"),
        ("braid://:7450", "is not a host and a port"),
        ("braid://127.0.0.1:", "is not a host and a port"),
        ("braid://127.0.0.1:1/queue", "is not a host and a port"),
        ("braid://127.0.0.1:1?x=1", "is not a host and a port"),
        ("braid://127.0.0.1:99999", "not a URL"),
        ("braid://127.0.0.1:http", "not a URL"),
        ("braid://[127.0.0.1", "not a URL"),
        ("braid://bob:hunter2@127.0.0.1:1", "has no user or password in its URL"),
    ],
)
def test_a_listener_is_refused(url, expected):
    text = problem(f"listeners = ['{url}']")
    assert expected in text and text.startswith("f.toml: listeners.0: ")
    assert "hunter2" not in text


def test_a_listener_twice_is_refused_unless_the_port_is_chosen():
    assert "is there twice" in problem("listeners = ['braid://127.0.0.1:1', 'braid://127.0.0.1:1']")
    config = from_text("listeners = ['braid://127.0.0.1:0', 'braid://127.0.0.1:0']")
    assert len(config.listeners) == 2


@pytest.mark.parametrize(
    ("url", "more", "expected"),
    [
        ("braids://127.0.0.1:1", "", "braids:// is TLS and needs tls_certificate and tls_key"),
        ("braids://127.0.0.1:1", ", tls_key = 'k'", "needs tls_certificate and tls_key"),
        ("braid://127.0.0.1:1", ", tls_key = 'k'", "are for TLS, not for braid://"),
    ],
)
def test_tls_is_whole_or_refused(url, more, expected):
    assert expected in problem(f"listeners = [{{url = '{url}'{more}}}]")
