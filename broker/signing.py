"""Signatures of what is posted to webhooks, and the same for whoever receives it.

Two schemes, because receivers exist for both:

Standard Webhooks   headers ``webhook-id``, ``webhook-timestamp`` (unix seconds) and
                    ``webhook-signature``: space between ``v1,BASE64`` of HMAC-SHA256 over
                    ``ID.TIMESTAMP.BODY``. A secret is ``whsec_`` and base64 of 24 to 64 bytes. Each
                    secret gives a signature, so that secrets can be changed one after the other.
                    Source: the Standard Webhooks specification, "Signature scheme".
Amazon SNS          fields ``SignatureVersion``, ``Signature`` and ``SigningCertURL`` in the
                    envelope: RSA with SHA-1 (version 1) or SHA-256 (2) over "NAME\\nVALUE\\n" of
                    the fields that the type of message has. Needs the package ``cryptography``.
                    Source: the SNS developer guide, "Verifying message signatures".

A receiver that verifies must never fetch ``SigningCertURL`` or ``SubscribeURL`` just because a
message names it: the certificate comes from its own configuration.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import InvalidArgument

__all__ = [
    "SECRETS_MAX",
    "SIGNATURE_ID",
    "SIGNATURE_TIMESTAMP",
    "TOLERANCE_SECONDS",
    "EnvelopeSigner",
    "SignatureInvalid",
    "check_secret",
    "sign_body",
    "string_to_sign",
    "verify_body",
    "verify_envelope",
]

SIGNATURE_ID = "webhook-id"
SIGNATURE_TIMESTAMP = "webhook-timestamp"
_SIGNATURE = "webhook-signature"
TOLERANCE_SECONDS = 300
SECRETS_MAX = 4
_SIGNATURES_MAX = 16  # looked at by a receiver
_SECRET_PREFIX = "whsec_"
_SECRET_BYTES_MIN = 24
_SECRET_BYTES_MAX = 64

_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = (
    "Message",
    "MessageId",
    "SubscribeURL",
    "Timestamp",
    "Token",
    "TopicArn",
    "Type",
)
_OPTIONAL = ("Subject", "SubscribeURL")


class SignatureInvalid(ValueError):
    """What came is not what was signed, was not signed by whom it should, or is too old."""


def check_secret(secret: str) -> bytes:
    """The key in ``whsec_BASE64``. Raises InvalidArgument, which does not repeat it."""
    try:
        if not secret.startswith(_SECRET_PREFIX):
            raise ValueError
        key = base64.b64decode(secret.removeprefix(_SECRET_PREFIX), validate=True)
        if not _SECRET_BYTES_MIN <= len(key) <= _SECRET_BYTES_MAX:
            raise ValueError
    except (ValueError, binascii.Error):
        raise InvalidArgument(
            f"a signing secret is {_SECRET_PREFIX} and base64 of {_SECRET_BYTES_MIN} to"
            f" {_SECRET_BYTES_MAX} bytes"
        ) from None
    return key


# --- Standard Webhooks ---


def sign_body(id: str, body: bytes, secrets: Sequence[str], now_ms: int) -> dict[str, str]:
    """The headers that sign a body; ``webhook-id`` stays the same when it is sent again."""
    seconds = str(now_ms // 1_000)
    headers = {SIGNATURE_ID: id, SIGNATURE_TIMESTAMP: seconds}
    if secrets:
        headers[_SIGNATURE] = " ".join(_signature(id, seconds, body, each) for each in secrets)
    return headers


def _signature(id: str, seconds: str, body: bytes, secret: str) -> str:
    signed = f"{id}.{seconds}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(check_secret(secret), signed, "sha256")).decode()


def verify_body(
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    now_ms: int,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> str:
    """Verify what a webhook was posted; its id, by which a receiver knows what it has had.

    Args:
        headers: of the request, with names in small letters.
        body: exactly as it came.
        secrets: any one of them will do.
        now_ms: unix time.
        tolerance_seconds: how far the sender's clock may differ, and a copy be late.

    Raises:
        SignatureInvalid: do not trust it.
        InvalidArgument: a secret is none.
    """
    id, seconds = headers.get(SIGNATURE_ID, ""), headers.get(SIGNATURE_TIMESTAMP, "")
    given = headers.get(_SIGNATURE, "").split(" ")
    if not id or not (seconds.isascii() and seconds.isdigit() and len(seconds) < 16):
        raise SignatureInvalid("the headers of a signature are missing")
    if abs(now_ms // 1_000 - int(seconds)) > tolerance_seconds:
        raise SignatureInvalid("the signature is too old, or from the future")
    found = False
    for secret in secrets:
        expected = _signature(id, seconds, body, secret).encode()
        for each in given[:_SIGNATURES_MAX]:
            # All of them are compared, so that the time does not tell which one fits.
            found |= hmac.compare_digest(expected, each.encode(errors="replace"))
    if not found:
        raise SignatureInvalid("no signature fits")
    return id


# --- Amazon SNS ---


def string_to_sign(envelope: Mapping[str, Any]) -> bytes:
    """What the signature of an SNS envelope is made of."""
    names = _NOTIFICATION if envelope.get("Type") == "Notification" else _CONFIRMATION
    lines = []
    for name in names:
        if name in envelope:
            lines.append(f"{name}\n{envelope[name]}\n")
        elif name not in _OPTIONAL:
            raise SignatureInvalid(f"the envelope has no {name}")
    return "".join(lines).encode()


class EnvelopeSigner:
    """Signs SNS envelopes with one RSA key.

    Args:
        key_pem: the private key. certificate_url: where receivers find its certificate.

    Raises InvalidArgument when the key is none, or ``cryptography`` is not installed.
    """

    def __init__(self, key_pem: bytes, certificate_url: str) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
        except ImportError:
            text = "signing envelopes needs cryptography: pip install 'braidmq[auth]'"
            raise InvalidArgument(text) from None
        try:
            key = load_pem_private_key(key_pem, None)
        except (ValueError, TypeError):
            raise InvalidArgument("the signing key is no PEM file without a password") from None
        if not isinstance(key, RSAPrivateKey):
            raise InvalidArgument("the signing key is no RSA key")
        self._key = key
        self._url = certificate_url

    def sign(self, envelope: dict[str, Any], version: str) -> None:
        """Put version (``1`` or ``2``), signature and certificate URL into the envelope."""
        padding, digest = _rsa(version)
        signature = self._key.sign(string_to_sign(envelope), padding, digest)
        envelope["SignatureVersion"] = version
        envelope["Signature"] = base64.b64encode(signature).decode()
        envelope["SigningCertURL"] = self._url


def verify_envelope(envelope: Mapping[str, Any], certificate_pem: bytes) -> None:
    """Verify an SNS envelope by a certificate that the receiver trusts already.

    Raises SignatureInvalid: do not trust it.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.x509 import load_pem_x509_certificate

    version = envelope.get("SignatureVersion")
    if version not in ("1", "2"):
        raise SignatureInvalid("the envelope is not signed")
    key = load_pem_x509_certificate(certificate_pem).public_key()
    if not isinstance(key, RSAPublicKey):
        raise SignatureInvalid("the certificate has no RSA key")
    try:
        signature = base64.b64decode(str(envelope.get("Signature")), validate=True)
        padding, digest = _rsa(version)
        key.verify(signature, string_to_sign(envelope), padding, digest)
    except (InvalidSignature, binascii.Error):
        raise SignatureInvalid("the signature does not fit") from None


def _rsa(version: str) -> tuple[Any, Any]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    # SHA-1 is what version 1 is; whoever receives it chose it.
    return PKCS1v15(), hashes.SHA256() if version == "2" else hashes.SHA1()
