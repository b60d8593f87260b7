"""MQTT over WebSocket as libraries speak it: with TLS, and from web pages."""

import pytest
import trustme

from braidmq.broker.config import Listener

from .facade import Login
from .kinds import KINDS

OVER_WEBSOCKET = [kind for kind in KINDS if kind.websocket]
SITE = "https://dashboard.example"

pytestmark = pytest.mark.parametrize("kind", OVER_WEBSOCKET, ids=str)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority, tmp_path):
    """PEM files of the server and of the authority."""
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(str(tmp_path / "key"))
    (tmp_path / "cert").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    (tmp_path / "ca").write_bytes(authority.cert_pem.bytes())
    return tmp_path


async def test_over_tls(kind, start, clients, certificate):
    listener = Listener(
        url="wss://127.0.0.1:0",
        tls_certificate=str(certificate / "cert"),
        tls_key=str(certificate / "key"),
    )
    served = await start(listener)
    client = await clients.join(kind, served.urls[0], login=Login(ca=str(certificate / "ca")))
    await client.subscribe("a", 2)
    for qos in (0, 1, 2):
        await client.publish("a", bytes(100_000), qos)
        assert (await client.receive()).payload == bytes(100_000)


async def test_a_page_of_another_site_may_not_connect(kind, start, clients):
    served = await start("mqtt://127.0.0.1:0", "http://127.0.0.1:0")
    with pytest.raises(Exception) as refused:
        await clients.join(kind, served.url(kind), origin=SITE)
    assert not isinstance(refused.value, (TimeoutError, TypeError, AttributeError))
    own = served.urls[1].rstrip("/")
    client = await clients.join(kind, served.url(kind), origin=own)
    await client.publish("a", b"x", 1)


async def test_a_page_of_a_named_site_may(kind, start, clients):
    listener = Listener(url="http://127.0.0.1:0", origins=(SITE,))
    served = await start("mqtt://127.0.0.1:0", listener)
    client = await clients.join(kind, served.url(kind), origin=SITE)
    await client.publish("a", b"x", 1)
