"""Signatures fit what was signed and nothing else."""

import base64
import datetime
import hashlib
import hmac
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.signing import (
    TOLERANCE_SECONDS,
    EnvelopeSigner,
    SignatureInvalid,
    check_secret,
    sign_body,
    string_to_sign,
    verify_body,
    verify_envelope,
)

NOW = 1_700_000_000_123
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(32)).decode()


def test_the_example_of_the_specification():
    """The vector that implementations of Standard Webhooks share."""
    headers = sign_body(
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        b'{"test": 2432232314}',
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        1_614_265_330_000,
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_what_was_signed_is_trusted():
    headers = sign_body("id-1", b"body", [SECRET], NOW)
    assert verify_body(headers, b"body", [SECRET], NOW) == "id-1"


def test_secrets_can_be_changed_one_after_the_other():
    headers = sign_body("id-1", b"body", [OTHER, SECRET], NOW)
    assert len(headers["webhook-signature"].split(" ")) == 2
    for secrets in ([SECRET], [OTHER], [SECRET, OTHER]):
        assert verify_body(headers, b"body", secrets, NOW) == "id-1"


def test_without_a_secret_nothing_is_signed():
    headers = sign_body("id-1", b"body", [], NOW)
    assert set(headers) == {"webhook-id", "webhook-timestamp"}
    with pytest.raises(SignatureInvalid):
        verify_body(headers, b"body", [SECRET], NOW)


@pytest.mark.parametrize(
    "forge",
    [
        lambda h: h | {"webhook-id": "id-2"},
        lambda h: h | {"webhook-timestamp": str(NOW // 1000 + 1)},
        lambda h: h | {"webhook-signature": "v1," + base64.b64encode(bytes(32)).decode()},
        lambda h: h | {"webhook-signature": h["webhook-signature"].replace("v1,", "v1a,")},
        lambda h: h | {"webhook-signature": ""},
        lambda h: h | {"webhook-signature": "v1,é\udc80"},
        lambda h: h | {"webhook-timestamp": "٣"},
        lambda h: h | {"webhook-timestamp": "9" * 400},
        lambda h: {"webhook-signature": h["webhook-signature"]},
        lambda h: {},
    ],
)
def test_what_was_changed_is_not_trusted(forge: Callable[[dict[str, str]], dict[str, str]]):
    headers = forge(sign_body("id-1", b"body", [SECRET], NOW))
    with pytest.raises(SignatureInvalid):
        verify_body(headers, b"body", [SECRET], NOW)


def test_another_body_or_secret_is_not_trusted():
    headers = sign_body("id-1", b"body", [SECRET], NOW)
    for body, secrets in ((b"body ", [SECRET]), (b"body", [OTHER]), (b"body", [])):
        with pytest.raises(SignatureInvalid):
            verify_body(headers, body, secrets, NOW)


def test_an_old_copy_is_not_trusted():
    headers = sign_body("id-1", b"body", [SECRET], NOW)
    at_most = 1_000 * TOLERANCE_SECONDS
    verify_body(headers, b"body", [SECRET], NOW + at_most)
    verify_body(headers, b"body", [SECRET], NOW - at_most)
    for late in (at_most + 1_000, -at_most - 1_000):
        with pytest.raises(SignatureInvalid, match="old"):
            verify_body(headers, b"body", [SECRET], NOW + late)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        SECRET.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS!",
        "whsec_é",
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(secret):
    with pytest.raises(InvalidArgument) as refused:
        check_secret(secret)
    assert len(secret) < 8 or secret[6:] not in str(refused.value)


def test_secrets_of_the_smallest_and_largest_size():
    for size in (24, 64):
        assert check_secret("whsec_" + base64.b64encode(bytes(size)).decode()) == bytes(size)


# --- SNS ---


def certificate(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "signing")])
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(1)
    made = made.not_valid_before(start).not_valid_after(start + datetime.timedelta(days=36_500))
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


NOTIFICATION = {
    "Type": "Notification",
    "MessageId": "m-1",
    "TopicArn": "orders/new",
    "Subject": "hello",
    "Message": "body\nwith lines",
    "Timestamp": "2023-11-14T22:13:20.123Z",
    "UnsubscribeURL": "not signed",
}
CONFIRMATION = {
    "Type": "SubscriptionConfirmation",
    "MessageId": "m-2",
    "Token": "t",
    "TopicArn": "orders/#",
    "Message": "please",
    "SubscribeURL": "https://b.example/",
    "Timestamp": "2023-11-14T22:13:20.123Z",
}


def test_what_is_signed_stands_in_the_order_of_the_guide():
    assert string_to_sign(NOTIFICATION) == (
        b"Message\nbody\nwith lines\nMessageId\nm-1\nSubject\nhello\n"
        b"Timestamp\n2023-11-14T22:13:20.123Z\nTopicArn\norders/new\nType\nNotification\n"
    )
    plain = {name: value for name, value in NOTIFICATION.items() if name != "Subject"}
    assert b"Subject" not in string_to_sign(plain)
    names = string_to_sign(CONFIRMATION).decode().splitlines()[::2]
    assert names == "Message MessageId SubscribeURL Timestamp Token TopicArn Type".split()
    with pytest.raises(SignatureInvalid, match="MessageId"):
        string_to_sign({"Type": "Notification", "Message": "x"})


@pytest.mark.parametrize(("version", "digest"), [("1", hashes.SHA1()), ("2", hashes.SHA256())])
@pytest.mark.parametrize("unsigned", [NOTIFICATION, CONFIRMATION])
def test_an_envelope_is_signed(key, version, digest, unsigned):
    envelope = dict(unsigned)
    EnvelopeSigner(pem(key), "https://b.example/cert.pem").sign(envelope, version)
    assert envelope["SignatureVersion"] == version
    assert envelope["SigningCertURL"] == "https://b.example/cert.pem"
    # Not by our own verifier: by what the guide says.
    signature = base64.b64decode(envelope["Signature"])
    key.public_key().verify(signature, string_to_sign(unsigned), PKCS1v15(), digest)
    verify_envelope(envelope, certificate(key))


@pytest.mark.parametrize(
    "change",
    [
        {"Message": "other"},
        {"Type": "SubscriptionConfirmation", "Token": "t"},
        {"SignatureVersion": "1"},
        {"SignatureVersion": "3"},
        {"SignatureVersion": ""},
        {"Signature": ""},
        {"Signature": "!"},
    ],
)
def test_a_changed_envelope_is_not_trusted(key, change):
    envelope = dict(NOTIFICATION)
    EnvelopeSigner(pem(key), "u").sign(envelope, "2")
    with pytest.raises(SignatureInvalid):
        verify_envelope(envelope | change, certificate(key))


def test_another_key_is_not_trusted(key):
    envelope = dict(NOTIFICATION)
    EnvelopeSigner(pem(key), "u").sign(envelope, "2")
    other = rsa.generate_private_key(65537, 2048)
    for certificate_pem in (
        certificate(other),
        certificate(ec.generate_private_key(ec.SECP256R1())),
    ):
        with pytest.raises(SignatureInvalid):
            verify_envelope(envelope, certificate_pem)


@pytest.mark.parametrize("broken", [b"", b"no key", pem(ec.generate_private_key(ec.SECP256R1()))])
def test_a_key_that_cannot_sign_is_refused(broken):
    with pytest.raises(InvalidArgument, match="signing key"):
        EnvelopeSigner(broken, "u")


def test_hmac_is_what_the_specification_says():
    headers = sign_body("a", b"b", [SECRET], NOW)
    signed = b"a." + str(NOW // 1000).encode() + b".b"
    expected = base64.b64encode(hmac.new(bytes(range(32)), signed, hashlib.sha256).digest())
    assert headers["webhook-signature"] == "v1," + expected.decode()
