"""Other ways than a password to say who one is: certificates, tokens, and a proof by SCRAM."""

import time

import jwt
import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.config import Listener
from braidmq.broker.jwt import JwtSettings
from braidmq.broker.passwords import hash_password

from .facade import V5, Login, Refused
from .kinds import KINDS, kind_named
from .pems import Pems

SECRET = "a secret of thirty-two bytes or more"
RULES = (
    Rule("allow", ("session:Connect",), ("*",)),
    Rule("allow", ("topic:*",), ("sensors/%u/#", "nobody/#")),
)

with_certificates = pytest.mark.parametrize(
    "kind",
    [
        kind_named(name)
        for name in ("paho-v5", "aiomqtt-v311", "gmqtt-v311", "mqttjs-v5", "mosquitto-v311")
    ],
    ids=str,
)
every = pytest.mark.parametrize("kind", KINDS, ids=str)
mqttjs = pytest.mark.parametrize(
    "kind", [kind_named("mqttjs-v5"), kind_named("mqttjs-v5-websocket")], ids=str
)


def login(pems, common_name):
    cert, key = pems.client(common_name)
    return Login(ca=pems.ca, certificate=cert, key=key)


@pytest.fixture(scope="module")
def pems(tmp_path_factory):
    return Pems(tmp_path_factory.mktemp("pems"))


@pytest.fixture
async def trusting(start, pems):
    """A broker that takes the name in a certificate for the user."""
    listener = Listener(
        url="mqtts://127.0.0.1:0",
        tls_certificate=pems.cert,
        tls_key=pems.key,
        tls_client_ca=pems.ca,
        tls_client="required",
        certificate_user=True,
    )
    return (await start(listener, users=[User("sensor-1", "", RULES)])).urls[0]


@with_certificates
async def test_a_certificate_is_a_user(kind, trusting, clients, pems):
    client = await clients.join(kind, trusting, login=login(pems, "sensor-1"))
    assert await client.subscribe("sensors/sensor-1/#", 1) == 1
    await client.publish("sensors/sensor-1/x", b"1", 1)
    assert (await client.receive()).payload == b"1"
    assert await client.subscribe("sensors/sensor-2/#", 1) == (0x87 if kind.version == V5 else 0x80)


@with_certificates
async def test_a_certificate_of_nobody_is_refused(kind, trusting, clients, pems):
    with pytest.raises(Refused) as refused:
        await clients.join(kind, trusting, login=login(pems, "sensor-9"))
    assert refused.value.code in ((0x86, 0x87) if kind.version == V5 else (4, 5))


@pytest.fixture
def token():
    def make(seconds=600, **claims):
        return jwt.encode({"exp": time.time() + seconds, **claims}, SECRET, "HS256")

    return make


@pytest.fixture
async def tokens(start):
    """A broker that takes tokens."""
    settings = JwtSettings(algorithms=("HS256",), keys={"": SECRET}, leeway_seconds=0)
    return await start(users=[User("eve", "", RULES)], jwt=settings)


@every
async def test_a_token_is_a_password(kind, tokens, clients, token):
    for user in ("eve", "jwt"):
        login = Login(user, token(sub="eve"))
        client = await clients.join(kind, tokens.url(kind), login=login)
        assert await client.subscribe("sensors/eve/#", 1) == 1
        await client.publish("sensors/eve/x", b"1", 1)
        assert (await client.receive()).payload == b"1"
        await clients.vanish(client)


@every
async def test_a_token_that_is_not_valid_is_refused(kind, tokens, clients, token):
    wrong = [token(sub="nobody"), token(-60, sub="eve"), token(sub="eve")[:-2] + "xx"]
    for login in (*(Login("eve", each) for each in wrong), Login("other", token(sub="eve"))):
        with pytest.raises(Refused) as refused:
            await clients.join(kind, tokens.url(kind), login=login)
        assert refused.value.code == (0x86 if kind.version == V5 else 4)


@mqttjs
async def test_a_proof_by_scram(kind, start, clients):
    word = hash_password("pencil", kind="scram-sha-256")
    served = await start(users=[User("eve", word, RULES)])
    client = kind(served.url(kind))
    client.scram = ("eve", "pencil")
    # It resolves only if the server proved that it knows the password, too.
    await clients.open(client)
    assert await client.subscribe("sensors/eve/#", 1) == 1
    for user, password in (("eve", "wrong"), ("nobody", "pencil")):
        other = kind(served.url(kind))
        other.scram = (user, password)
        with pytest.raises(Refused) as refused:
            await clients.open(other)
        assert refused.value.code == 0x87
