"""Section 4.12: passwords and enhanced authentication, with SCRAM-SHA-256 (RFC 5802, RFC 7677)."""

import base64
import hashlib
import hmac

import pytest

from ..client import Client
from ..conftest import EXTERNAL
from ..packets import (
    AUTH,
    AUTH_DATA,
    AUTH_METHOD,
    CONNACK,
    MAXIMUM_PACKET_SIZE,
    PUBCOMP,
    PUBREC,
    PUBREL,
    V5,
    V311,
    ack,
    auth,
    connect,
    publish,
)
from ..requirements import v5

SCRAM = "SCRAM-SHA-256"
FIRST = b"n=user,r=conformance-nonce"
CONTINUE, AGAIN = 0x18, 0x19

needs_ours = pytest.mark.skipif(bool(EXTERNAL), reason="another broker may not know SCRAM")


def proof(password: bytes, server_first: bytes) -> bytes:
    """The client-final-message for what the server said first."""
    fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
    salt = base64.b64decode(fields[b"s"])
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, int(fields[b"i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    final = b"c=biws,r=" + fields[b"r"]
    signed = b",".join([FIRST, server_first, final])
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    mixed = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return final + b",p=" + base64.b64encode(mixed)


def method(data: bytes) -> list:
    return [(AUTH_METHOD, SCRAM), (AUTH_DATA, data)]


def begin(client: Client, name: str, more: tuple = ()) -> bytes:
    """CONNECT with SCRAM: what the server says first."""
    client.send(connect(name, properties=[*method(b"n,," + FIRST), *more]))
    found = client.read(AUTH)
    assert (found.reason, found.get(AUTH_METHOD)) == (CONTINUE, SCRAM)
    data: bytes = found.get(AUTH_DATA)
    return data


@needs_ours
@v5("MQTT-4.12.0-2", "MQTT-4.12.0-5", "MQTT-3.15.2-1", "MQTT-3.2.0-1")
def test_scram(with_users, name):
    client = with_users()
    first = begin(client, name)
    client.send(auth(CONTINUE, method(proof(b"password", first))))
    found = client.read(CONNACK)
    assert (found.reason, found.get(AUTH_METHOD)) == (0, SCRAM)
    client.quiet()


@needs_ours
@v5("MQTT-4.12.0-4", "MQTT-4.13.2-1", "MQTT-3.1.4-2")
def test_a_wrong_proof_is_refused(with_users, name):
    client = with_users()
    client.send(auth(CONTINUE, method(proof(b"wrong", begin(client, name)))))
    client.refused(0x86, 0x87)


@needs_ours
@v5("MQTT-4.12.0-3", "MQTT-4.12.0-5")
@pytest.mark.parametrize("wrong", ["reason 0", "reason 0x19", "another method", "no method"])
def test_a_wrong_auth_is_refused(with_users, name, wrong):
    client = with_users()
    data = proof(b"password", begin(client, name))
    client.send(
        {
            "reason 0": auth(0, method(data)),
            "reason 0x19": auth(AGAIN, method(data)),
            "another method": auth(CONTINUE, [(AUTH_METHOD, "SCRAM-SHA-1"), (AUTH_DATA, data)]),
            "no method": auth(CONTINUE, []),
        }[wrong]
    )
    client.refused(0x81, 0x82, 0x8C, 0x87)


@needs_ours
@v5("MQTT-3.1.2-30", "MQTT-3.14.0-1")
def test_nothing_else_may_come_before_the_connack(with_users, name):
    client, watcher = with_users(), with_users()
    watcher.connect(f"{name}-watcher", username="user", password="password")
    watcher.subscribe(f"{name}/#")
    begin(client, name)
    client.send(publish(f"{name}/early", b"x"))
    assert [each.reason for each in client.closed()] in ([], [0x81], [0x82])
    watcher.publish(f"{name}/barrier", qos=0)
    assert watcher.receive().topic == f"{name}/barrier"


@needs_ours
@v5("MQTT-3.15.2-2", "MQTT-3.15.2-3")
def test_an_auth_keeps_to_the_maximum_packet_size(with_users, name):
    """The bare exchange is measured first; with exactly its size as the limit it still works."""
    client = with_users()
    client.send(connect(name, properties=method(b"n,," + FIRST)))
    size = len(client.read(AUTH).raw)
    client = with_users()
    client.maximum = size
    first = begin(client, name, ((MAXIMUM_PACKET_SIZE, size),))
    client.send(auth(CONTINUE, method(proof(b"password", first))))
    assert client.read(CONNACK).reason == 0


@needs_ours
@v5("MQTT-4.12.1-1", "MQTT-4.12.0-5", "MQTT-3.15.2-1")
def test_authenticating_again(with_users, name):
    """Messages flow meanwhile; it is over with reason 0."""
    client = with_users()
    client.send(auth(CONTINUE, method(proof(b"password", begin(client, name)))))
    client.read(CONNACK)
    client.send(auth(AGAIN, method(b"n,," + FIRST)))
    found = client.read(AUTH)
    assert (found.reason, found.get(AUTH_METHOD)) == (CONTINUE, SCRAM)
    client.publish(name)
    client.send(auth(CONTINUE, method(proof(b"password", found.get(AUTH_DATA)))))
    found = client.read(AUTH)
    assert (found.reason, found.get(AUTH_METHOD)) == (0, SCRAM)
    client.quiet()


@needs_ours
@v5("MQTT-4.12.1-2", "MQTT-4.12.1-1")
@pytest.mark.parametrize("wrong", ["proof", "method"])
def test_failing_to_authenticate_again_closes(with_users, name, wrong):
    client = with_users()
    client.send(auth(CONTINUE, method(proof(b"password", begin(client, name)))))
    client.read(CONNACK)
    if wrong == "method":
        client.send(auth(AGAIN, [(AUTH_METHOD, "SCRAM-SHA-1"), (AUTH_DATA, b"n,," + FIRST)]))
    else:
        client.send(auth(AGAIN, method(b"n,," + FIRST)))
        client.send(auth(CONTINUE, method(proof(b"wrong", client.read(AUTH).get(AUTH_DATA)))))
    client.closed(0x82, 0x86, 0x87, 0x8C)


@needs_ours
@v5("MQTT-3.1.4-2", "MQTT-3.2.2-7", "MQTT-4.13.2-1")
@pytest.mark.parametrize("version", [V311, V5])
@pytest.mark.parametrize("login", [{}, {"username": "user"}, {"username": "x", "password": "y"}])
def test_who_cannot_prove_who_they_are_is_refused(with_users, name, version, login):
    client = with_users(version)
    client.send(connect(name, version=version, **login))
    client.refused(*((0x86, 0x87) if version == V5 else (4, 5)))


@needs_ours
@v5("MQTT-4.3.3-9", "MQTT-3.5.2-1")
def test_after_a_refusing_pubrec_the_packet_id_is_new(with_users, name):
    client = with_users()
    client.connect(name, username="user", password="password")
    client.subscribe(name, qos=0)
    client.send(publish("denied/x", b"no", qos=2, packet_id=5))
    assert client.read(PUBREC).reason == 0x87
    client.send(publish(name, b"yes", qos=2, packet_id=5))
    assert client.wait_for(PUBREC).reason == 0
    client.send(ack(PUBREL, 5))
    assert client.wait_for(PUBCOMP).reason == 0
    assert client.receive().payload == b"yes"
