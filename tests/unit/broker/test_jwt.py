"""Tokens: those of whom we trust, while they are valid; and the ways to forge one."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument, Unauthenticated
from braidmq.broker.jwt import (
    TOKEN_BYTES_MAX,
    TOKEN_KEYS_MAX,
    TOKEN_LEEWAY_SECONDS_MAX,
    JwtSettings,
    JwtVerifier,
)

NOW = 1_000_000_000
SECRET = "a secret that has more than 64 bytes, so that it can serve all three HS"
RSA_KEY = rsa.generate_private_key(65_537, 2_048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key) -> str:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(public, "ascii")


KEYS = {"hs": SECRET, "rs": pem(RSA_KEY), "es": pem(EC_KEY), "ed": pem(ED_KEY)}
PRIVATE: dict[str, Any] = {"hs": SECRET, "rs": RSA_KEY, "es": EC_KEY, "ed": ED_KEY}
ALGORITHMS = ("HS256", "RS256", "ES256", "EdDSA")


def verifier(keys: dict[str, str] = KEYS, algorithms=ALGORITHMS, **settings) -> JwtVerifier:
    return JwtVerifier(JwtSettings(algorithms=algorithms, keys=keys, **settings))


def token(kid: str | None = "hs", algorithm: str = "HS256", headers=None, **claims) -> bytes:
    claims = {"sub": "alice", "exp": NOW + 100} | claims
    claims = {name: value for name, value in claims.items() if value is not None}
    headers = ({} if kid is None else {"kid": kid}) | (headers or {})
    return jwt.encode(claims, PRIVATE[kid or "hs"], algorithm, headers=headers).encode()


def forged(header: dict, claims: dict | None = None, secret: bytes | None = None) -> bytes:
    """A token put together by hand, signed by HMAC or not at all."""

    def part(data: bytes) -> bytes:
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"sub": "alice", "exp": NOW + 100} if claims is None else claims
    signed = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims).encode())
    signature = b"" if secret is None else hmac.digest(secret, signed, hashlib.sha256)
    return signed + b"." + part(signature)


def refusal(made: bytes, by: JwtVerifier | None = None, now: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as caught:
        (by or verifier()).verify(made, now)
    return str(caught.value)


REFUSED = "the token is not valid"


@pytest.mark.parametrize(
    ("kid", "algorithm"), [("hs", "HS256"), ("rs", "RS256"), ("es", "ES256"), ("ed", "EdDSA")]
)
def test_a_token_names_its_user_and_its_end(kid: str, algorithm: str) -> None:
    made = token(kid, algorithm)
    assert verifier().accepts(made)
    assert verifier().verify(made, NOW) == ("alice", NOW + 160)
    head, middle, signature = made.split(b".")
    changed = base64.urlsafe_b64encode(json.dumps({"sub": "root", "exp": NOW + 100}).encode())
    for wrong in (changed.rstrip(b"="), middle[:-2] + b"AA"):
        assert refusal(b".".join([head, wrong, signature])) == REFUSED
    flipped = (b"B" if signature[:1] == b"A" else b"A") + signature[1:]
    assert refusal(b".".join([head, middle, flipped])) == REFUSED


@pytest.mark.parametrize("password", [b"", b"secret", b"eyJ", b"eyJ.a", b"x.y.z", b"eyJ.a.b.c"])
def test_what_does_not_look_like_a_token_is_a_password(password: bytes) -> None:
    assert not verifier().accepts(password)


# --- keys and algorithms


def test_a_token_without_signature_is_refused() -> None:
    for algorithm in ("none", "None", "NONE", "nOnE", "", None):
        assert refusal(forged({"alg": algorithm, "kid": "hs"})) == REFUSED
        assert refusal(forged({"alg": algorithm, "kid": "hs"}, secret=SECRET.encode())) == REFUSED


@pytest.mark.parametrize("kid", ["rs", "es", "ed"])
def test_a_public_key_is_no_secret(kid: str) -> None:
    # The classic: sign by HMAC with the public key as secret, and say HS256.
    made = forged({"alg": "HS256", "kid": kid}, secret=KEYS[kid].encode())
    assert refusal(made) == REFUSED
    only = verifier({kid: KEYS[kid]})
    assert refusal(made, only) == REFUSED
    assert refusal(forged({"alg": "HS256"}, secret=KEYS[kid].encode()), only) == REFUSED


def test_the_algorithm_has_to_fit_the_key_and_the_list() -> None:
    assert refusal(token("hs", "HS512")) == REFUSED  # not in the list
    assert refusal(token("rs", "PS256")) == REFUSED
    assert refusal(token("rs", "RS256"), verifier({"rs": KEYS["es"]})) == REFUSED
    assert verifier({"rs": KEYS["rs"]}, ("PS256",)).verify(token("rs", "PS256"), NOW)


@pytest.mark.parametrize("kid", ["", "HS", "../hs", "hs\x00", "x" * 1000, 7, None, ["hs"], {}])
def test_an_unknown_key_is_refused(kid: object) -> None:
    made = forged({"alg": "HS256", "kid": kid}, secret=SECRET.encode())
    assert refusal(made) == REFUSED


def test_without_kid_there_must_be_one_key_only() -> None:
    made = token(None)
    assert refusal(made) == REFUSED
    assert verifier({"any": SECRET}).verify(made, NOW)[0] == "alice"
    assert refusal(token("hs"), verifier({"any": SECRET})) == REFUSED  # it names another


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"jwk": {"kty": "oct", "k": base64.urlsafe_b64encode(b"x" * 64).decode()}},
    ],
)
def test_keys_that_a_token_brings_are_not_looked_at(header: dict) -> None:
    assert refusal(forged({"alg": "HS256", "kid": "hs"} | header, secret=b"x" * 64)) == REFUSED
    assert verifier().verify(token(headers=header), NOW)[0] == "alice"


def test_extensions_that_must_be_understood_are_not() -> None:
    for header in ({"crit": ["exp"]}, {"crit": ["b64"], "b64": False}, {"b64": True}):
        made = forged({"alg": "HS256", "kid": "hs"} | header, secret=SECRET.encode())
        assert refusal(made) == REFUSED


# --- claims


def test_a_token_is_valid_between_its_times_and_a_minute_around() -> None:
    made = token(nbf=NOW - 50, exp=NOW + 100)
    by = verifier()
    for now in (NOW - 110, NOW, NOW + 159.9):
        assert by.verify(made, now) == ("alice", NOW + 160)
    assert refusal(made, now=NOW - 110.1) == "the token is not valid yet"
    assert refusal(token(iat=NOW + 61)) == "the token is not valid yet"
    assert refusal(made, now=NOW + 160) == "the token has expired"
    strict = verifier(leeway_seconds=0)
    assert strict.verify(made, NOW + 99) == ("alice", NOW + 100)
    assert refusal(made, strict, NOW + 100) == "the token has expired"


def test_a_token_without_end_is_refused() -> None:
    assert refusal(token(exp=None)) == "the token has no end (exp)"


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize(
    "value", [True, "1000000100", None, [], {}, -1, 2**70, float("inf"), float("nan")]
)
def test_a_time_that_is_none_is_refused(name: str, value: object) -> None:
    claims = {"sub": "alice", "exp": NOW + 100} | {name: value}
    assert refusal(forged({"alg": "HS256", "kid": "hs"}, claims, SECRET.encode())) == REFUSED


def test_issuer_and_audience_are_compared_where_they_are_configured() -> None:
    by = verifier(issuer="https://idp", audience="broker")
    good: dict[str, Any] = {"iss": "https://idp", "aud": ["other", "broker"]}
    assert by.verify(token(**good), NOW)[0] == "alice"
    for wrong in ({"iss": "https://other"}, {"iss": None}, {"aud": "other"}, {"aud": None}):
        assert refusal(token(**good | wrong), by) == REFUSED
    # RFC 7519 section 4.1.3: a token that is for somebody is not for everybody.
    assert refusal(token(aud="broker")) == REFUSED
    assert verifier().verify(token(iss="anybody"), NOW)[0] == "alice"


@pytest.mark.parametrize("value", [None, "", 7, ["alice"], True, "x" * 257])
def test_a_token_that_names_no_user_is_refused(value: object) -> None:
    claims = {"exp": NOW + 100, "email": value}
    made = forged({"alg": "HS256", "kid": "hs"}, claims, SECRET.encode())
    assert refusal(made, verifier(user_claim="email")) == "the token names no user"
    named = forged({"alg": "HS256", "kid": "hs"}, claims | {"email": "a@b"}, SECRET.encode())
    assert verifier(user_claim="email").verify(named, NOW)[0] == "a@b"


# --- what is no token


def test_a_token_is_at_most_so_large() -> None:
    size = len(token(pad=""))
    room = (TOKEN_BYTES_MAX - size) * 3 // 4
    assert verifier().verify(token(pad="x" * (room - 2)), NOW)
    assert refusal(token(pad="x" * (room + 4))) == "a token has at most 8192 bytes"


@pytest.mark.parametrize(
    "made",
    [
        b"",
        b"..",
        b"eyJ..",
        b"eyJhbGciOiJIUzI1NiJ9.e30.",
        b"eyJ\xff.\xff.\xff",
        b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImhzIn0" + b"." * 5_000,
        base64.urlsafe_b64encode(b"[" * 5_000) + b".e30.e30",
        base64.urlsafe_b64encode(b'{"a":' * 1_000).rstrip(b"=") + b".e30.e30",
        forged({"alg": "HS256", "kid": "hs"}, [], SECRET.encode()),  # type: ignore[arg-type]
        forged([], {}, SECRET.encode()),  # type: ignore[arg-type]
    ],
)
def test_garbage_is_refused(made: bytes) -> None:
    assert refusal(made) == REFUSED


@given(st.binary(max_size=100), st.binary(max_size=100), st.binary(max_size=100))
def test_no_token_makes_verification_fail(header: bytes, claims: bytes, signature: bytes) -> None:
    for made in (
        b".".join([header, claims, signature]),
        b".".join(map(base64.urlsafe_b64encode, [header, claims, signature])),
        b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImhzIn0." + claims + b"." + signature,
    ):
        assert refusal(made) == REFUSED


# --- settings


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"algorithms": ()}, "algorithms: none; it is some of HS256, HS384"),
        ({"algorithms": ("RS256", "none")}, "algorithms: none; it is some of"),
        ({"algorithms": ("rs256",)}, "algorithms: rs256; it is"),
        ({"keys": {}}, f"keys: 0; it is 1 to {TOKEN_KEYS_MAX}"),
        ({"keys": dict.fromkeys(map(str, range(TOKEN_KEYS_MAX + 1)), SECRET)}, "keys: 101; it is"),
        ({"user_claim": ""}, "user_claim must not be empty"),
        ({"leeway_seconds": -1}, "leeway_seconds is -1; it is between 0 and 600"),
        ({"leeway_seconds": TOKEN_LEEWAY_SECONDS_MAX + 1}, "leeway_seconds is 601"),
        ({"jwks": "https://x"}, "unknown field `jwks`"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changed: dict, text: str) -> None:
    good = {"algorithms": ("RS256",), "keys": {"a": KEYS["rs"]}}
    assert msgspec.convert(good, JwtSettings).leeway_seconds == 60
    with pytest.raises(ValueError) as caught:
        msgspec.convert(good | changed, JwtSettings)
    assert text in str(caught.value)


def private_pem() -> str:
    return RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("x" * 31, "the key 'a' is a secret of 31 bytes; it needs at least 32"),
        ("x" * 32, "the key 'a' is for HS256, not for HS512, RS256"),
        ("", "is a secret of 0 bytes"),
        (KEYS["es"], "the key 'a' is for ES256, not for HS512, RS256"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "is of a kind that no algorithm uses"),
        (pem(dsa.generate_private_key(1024)), "is of a kind that no algorithm uses"),
        (pem(rsa.generate_private_key(65_537, 1_024)), "has 1024 bits; it needs at least 2048"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "is no public key in PEM"),
        (private_pem(), "is no public key in PEM"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_and_not_repeated(key: str, text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        verifier({"a": key}, ("HS512", "RS256"))
    assert text in str(caught.value)
    assert not key or key not in str(caught.value)
    assert SECRET not in repr(JwtSettings(algorithms=("HS256",), keys={"a": SECRET}))


@pytest.mark.parametrize("missing", ["jwt", "cryptography"])
def test_tokens_need_the_extra(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InvalidArgument, match=r"pip install 'braidmq\[auth\]'"):
        verifier()


def test_importing_the_module_does_not_import_the_extra() -> None:
    code = (
        "import sys, braidmq.broker.jwt, braidmq.broker.passwords, braidmq.broker.certificates;"
        "sys.exit(bool({'jwt', 'cryptography'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_clock_is_an_argument() -> None:
    # What is valid now by the clock of the machine is not by ours, and the reverse.
    assert abs(time.time() - NOW) > 10**6
    assert verifier().verify(token(), NOW)
    assert refusal(token(exp=int(time.time()) + 1000, nbf=int(time.time()) - 1000)) == (
        "the token is not valid yet"
    )
