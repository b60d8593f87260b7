"""The opening handshake, header by header."""

import pytest

from braidmq.protocols.http.handshake import Subprotocol, WebSocketOffer, accept, is_upgrade
from braidmq.protocols.http.messages import Refused, Response, parse_request
from tests.unit.protocols.http.carrier import ACCEPT, KEY, Inner, upgrade

MQTT, OLD, DEFAULT = Subprotocol(Inner), Subprotocol(Inner), Subprotocol(Inner)
OFFER = WebSocketOffer({"mqtt": MQTT, "mqttv3.1": OLD})


def refusal(data: bytes, offer=OFFER) -> Response:
    with pytest.raises(Refused) as caught:
        accept(parse_request(data), offer)
    return caught.value.response


def test_the_example_of_the_standard():
    answer, subprotocol = accept(parse_request(upgrade()), OFFER)
    assert answer.decode() == (
        "HTTP/1.1 101 Switching Protocols\r\n"
        "Upgrade: websocket\r\n"
        "Connection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {ACCEPT}\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n"
        "\r\n"
    )
    assert subprotocol is MQTT


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, True),
        ({"upgrade": "h2c, WebSocket", "connection": "keep-alive, UPGRADE"}, True),
        ({"upgrade": "h2c"}, False),
        ({"connection": "keep-alive"}, False),
        ({"drop": ("upgrade",)}, False),
        ({"drop": ("connection",)}, False),
    ],
)
def test_what_counts_as_an_upgrade(headers, expected):
    assert is_upgrade(parse_request(upgrade(**headers))) is expected


def test_http_1_0_cannot_be_upgraded():
    """RFC 9110 7.8"""
    assert not is_upgrade(parse_request(upgrade().replace(b"HTTP/1.1", b"HTTP/1.0")))


def test_the_first_known_subprotocol_of_the_client_wins():
    request = parse_request(upgrade(sec_websocket_protocol="stomp, mqttv3.1,mqtt"))
    answer, subprotocol = accept(request, OFFER)
    assert subprotocol is OLD and b"Sec-WebSocket-Protocol: mqttv3.1\r\n" in answer


@pytest.mark.parametrize("asked", ["stomp", "MQTT", "mqtt5, wamp"])
def test_no_known_subprotocol_is_refused_with_what_there_is(asked):
    """[MQTT-6.0.0-3]"""
    response = refusal(upgrade(sec_websocket_protocol=asked))
    assert response.status == 400 and response.content_type.startswith("text/plain")
    assert b"mqtt, mqttv3.1" in response.body
    # Also where clients that ask for none are taken: what they speak is not what was asked for.
    offer = WebSocketOffer({"mqtt": MQTT, "mqttv3.1": OLD}, DEFAULT)
    assert refusal(upgrade(sec_websocket_protocol=asked), offer).status == 400


def test_whoever_asks_for_none_gets_the_default_or_is_refused():
    data = upgrade(drop=("sec-websocket-protocol",))
    assert refusal(data).status == 400
    answer, subprotocol = accept(parse_request(data), WebSocketOffer({}, DEFAULT))
    assert subprotocol is DEFAULT and b"Protocol:" not in answer


@pytest.mark.parametrize("version", ["8", "", "13, 8", "013"])
def test_other_versions_learn_ours(version):
    """RFC 6455 4.4"""
    response = refusal(upgrade(sec_websocket_version=version))
    assert response.status == 426
    assert ("Sec-WebSocket-Version", "13") in response.headers
    assert ("Upgrade", "websocket") in response.headers


def test_a_missing_version_is_refused():
    assert refusal(upgrade(drop=("sec-websocket-version",))).status == 426


@pytest.mark.parametrize(
    "key",
    ["", "x", KEY[:-1], KEY + "=", "AAAA", "AAAAAAAAAAAAAAAAAAAAAA", "é" * 24, " " + "A" * 24],
)
def test_the_key_is_16_bytes(key):
    assert refusal(upgrade(sec_websocket_key=key)).status == 400
    assert refusal(upgrade(drop=("sec-websocket-key",))).status == 400


def test_only_get_opens_one():
    response = refusal(upgrade(method="POST"))
    assert response.status == 405 and ("Allow", "GET") in response.headers


def test_no_extension_is_negotiated():
    data = upgrade(sec_websocket_extensions="permessage-deflate; client_max_window_bits")
    assert b"Extensions" not in accept(parse_request(data), OFFER)[0]


def test_of_what_has_ranks_the_highest_that_is_asked_for_is_taken():
    ranked = {f"v1{n}.stomp": Subprotocol(Inner, rank=n + 1) for n in range(3)}
    offer = WebSocketOffer({"mqtt": MQTT, **ranked})
    for asked, chosen in [
        ("v10.stomp, v12.stomp, v11.stomp", b"v12.stomp"),
        ("v11.stomp, v10.stomp, mqtt", b"v11.stomp"),
        ("mqtt, v12.stomp", b"mqtt"),
        ("v99.stomp, v10.stomp", b"v10.stomp"),
    ]:
        answer, _ = accept(parse_request(upgrade(sec_websocket_protocol=asked)), offer)
        assert b"Protocol: " + chosen + b"\r\n" in answer
