"""STOMP over TLS, `stomps` and `wss`: who trusts whom, by the certificates of our own authority."""

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.config import Listener

from ..pems import Pems
from .facade import Refused
from .kinds import KINDS

ALICE = User("alice", "", (Rule("allow", ("queue:*",), ("alice.*", "ActiveMQ.DLQ")),))

pytestmark = pytest.mark.parametrize("kind", [kind for kind in KINDS if "tls" in kind.can], ids=str)


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    return Pems(tmp_path_factory.mktemp("pems"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    """What an authority has issued that the broker does not know."""
    return Pems(tmp_path_factory.mktemp("strangers"))


@pytest.fixture
def start_tls(start, pems):
    """start_tls(...): a broker that listens for both, with more options for its listeners."""

    async def run(**more):
        tls = {"tls_certificate": pems.cert, "tls_key": pems.key, **more}
        listeners = [Listener(url=f"{scheme}://127.0.0.1:0", **tls) for scheme in ("stomps", "wss")]
        return await start(*listeners, users=[ALICE] if more else [])

    return run


@pytest.fixture
async def trusting(start_tls, pems):
    """One that asks for certificates, and takes the name in them for the user."""
    return await start_tls(tls_client="required", tls_client_ca=pems.ca, certificate_user=True)


async def refused(kind, served, enter, **options):
    """Whether a client cannot connect. It must not hang either, nor stumble over its own code."""
    with pytest.raises(Exception) as raised:
        await enter(kind, served, **options)
    unexpected = (TimeoutError, TypeError, AttributeError, AssertionError)
    return not isinstance(raised.value, unexpected)


def files(pair):
    return {"certificate": pair[0], "key": pair[1]}


async def test_a_server_of_a_known_authority_is_trusted(kind, start_tls, enter, pems):
    client = await enter(kind, await start_tls(), ca=pems.ca)
    await client.subscribe("/queue/a", "client-individual")
    body = bytes(range(32, 127)) * 1_000
    transaction = await client.begin("t")
    await client.send("/queue/a", body, transaction=transaction)
    await client.commit(transaction)
    message = await client.receive()
    assert message.body == body
    await client.ack(message)


async def test_a_server_of_another_authority_is_not(kind, start_tls, enter, strangers):
    assert await refused(kind, await start_tls(), enter, ca=strangers.ca)


async def test_a_certificate_is_a_user(kind, trusting, enter, pems):
    client = await enter(kind, trusting, ca=pems.ca, **files(pems.client("alice")))
    assert client.connected.result()["user-name"] == "alice"
    await client.send("/queue/alice.in", b"x")
    with pytest.raises(Refused):
        await client.send("/queue/bob.in", b"x")


async def test_who_brings_no_certificate_is_refused(kind, trusting, enter, pems):
    assert await refused(kind, trusting, enter, ca=pems.ca)


async def test_a_certificate_of_another_authority_is_refused(
    kind, trusting, enter, pems, strangers
):
    assert await refused(kind, trusting, enter, ca=pems.ca, **files(strangers.client("alice")))


async def test_a_certificate_of_nobody_is_refused(kind, trusting, enter, pems):
    assert await refused(kind, trusting, enter, ca=pems.ca, **files(pems.client("mallory")))
