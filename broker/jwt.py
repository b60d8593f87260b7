"""Tokens in place of passwords: JSON Web Tokens (RFC 7519), signed by whom the operator trusts.

A token says who somebody is and until when; what that user may do is said by the users of the
configuration, as always. The rules:

1. The operator names the algorithms and the keys. A key serves one family: a secret HS*, an RSA key
   RS* and PS*, a curve its own; so a public key can never be used as a secret. Never ``none``.
2. Nothing in a token says where a key is found or what it is: ``jku``, ``x5u``, ``x5c`` and ``jwk``
   are not looked at. ``kid`` picks one of the configured keys; without it there must be only one.
3. A token has an end (``exp``), and the connection ends with it. Times are compared with a leeway
   for clocks that differ.
4. A token for somebody else is refused: ``iss`` and ``aud`` are compared where they are configured,
   and a token with an audience is refused where none is.
5. Refusals say nothing that helps to make a better token, and never repeat any of it.

PyJWT and cryptography (the [auth] extra) are imported when the first verifier is made.
"""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import msgspec

from .access import USER_NAME_CHARACTERS_MAX
from .errors import InvalidArgument, Unauthenticated

__all__ = [
    "TOKEN_BYTES_MAX",
    "TOKEN_KEYS_MAX",
    "TOKEN_LEEWAY_SECONDS_MAX",
    "JwtSettings",
    "JwtVerifier",
]

TOKEN_BYTES_MAX = 8 * 1024
TOKEN_KEYS_MAX = 100
TOKEN_LEEWAY_SECONDS_MAX = 600

# RFC 7518 section 3.2: a secret has at least as many bytes as the hash.
_SECRET_BYTES_MIN = {"HS256": 32, "HS384": 48, "HS512": 64}
# RFC 7518 sections 3.3 and 3.5
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_RSA_BITS_MIN = 2_048
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_EDWARDS = "EdDSA"
_ALGORITHMS = (*_SECRET_BYTES_MIN, *_RSA, *_CURVES.values(), _EDWARDS)

_SECONDS_MAX = 2**40  # beyond, a time is a mistake
_REFUSED = "the token is not valid"


class JwtSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whose tokens are accepted, ``[auth.jwt]`` in the configuration.

    Attributes:
        algorithms: those that are accepted.
        keys: by ``kid``, a public key as PEM, or a secret of at least 32 bytes.
        issuer: what ``iss`` has to be; empty: anything.
        audience: what ``aud`` has to be or contain; empty: a token must have none.
        user_claim: the claim that names the user.
        leeway_seconds: how far clocks may differ.

    Raises:
        ValueError: one is out of range. Whether a key can be used is found out by JwtVerifier.
    """

    algorithms: tuple[str, ...]
    keys: dict[str, str]
    issuer: str = ""
    audience: str = ""
    user_claim: str = "sub"
    leeway_seconds: int = 60

    def __post_init__(self) -> None:
        unknown = [name for name in self.algorithms if name not in _ALGORITHMS]
        if unknown or not self.algorithms:
            known = ", ".join(_ALGORITHMS)
            raise ValueError(f"algorithms: {', '.join(unknown) or 'none'}; it is some of {known}")
        if not 1 <= len(self.keys) <= TOKEN_KEYS_MAX:
            raise ValueError(f"keys: {len(self.keys)}; it is 1 to {TOKEN_KEYS_MAX}")
        if not self.user_claim:
            raise ValueError("user_claim must not be empty")
        if not 0 <= self.leeway_seconds <= TOKEN_LEEWAY_SECONDS_MAX:
            raise ValueError(
                f"leeway_seconds is {self.leeway_seconds};"
                f" it is between 0 and {TOKEN_LEEWAY_SECONDS_MAX}"
            )

    def __repr__(self) -> str:
        """Without the keys, which may be secrets, so that they do not end up in a log."""
        return f"JwtSettings(algorithms={self.algorithms!r}, keys=<{len(self.keys)} hidden>)"


class JwtVerifier:
    """Says whom a token names.

    Raises:
        InvalidArgument: a key is malformed or too weak, none of the algorithms fits it, or PyJWT
            and cryptography are not installed.
    """

    __slots__ = ("_decode", "_header", "_keys", "_settings")

    def __init__(self, settings: JwtSettings) -> None:
        try:
            import cryptography  # noqa: F401  - PyJWT goes without, but then knows HS* only
            import jwt
        except ImportError:
            text = "tokens need PyJWT and cryptography: pip install 'braidmq[auth]'"
            raise InvalidArgument(text) from None
        self._header = jwt.get_unverified_header
        self._decode = jwt.decode
        self._settings = settings
        self._keys: dict[str, tuple[Any, list[str]]] = {}
        for kid, text in settings.keys.items():
            try:
                key, possible = _read_key(text)
            except ValueError as error:
                raise InvalidArgument(f"the key {kid!r} {error}") from None
            usable = [name for name in possible if name in settings.algorithms]
            if not usable:
                wanted, fitting = ", ".join(settings.algorithms), ", ".join(possible)
                raise InvalidArgument(f"the key {kid!r} is for {fitting}, not for {wanted}")
            self._keys[kid] = key, usable

    @staticmethod
    def accepts(password: bytes) -> bool:
        """Whether a password looks like a token, which is then never tried as a password."""
        return password.startswith(b"eyJ") and password.count(b".") == 2

    def verify(self, token: bytes, now_seconds: float) -> tuple[str, int]:
        """The user that the token names, and when it ends, in Unix seconds, leeway included.

        Raises:
            Unauthenticated: it is not signed as configured, not valid now, or names nobody.
        """
        if len(token) > TOKEN_BYTES_MAX:
            raise Unauthenticated(f"a token has at most {TOKEN_BYTES_MAX} bytes")
        # PyJWT raises more than it documents for what is hostile; all of it means the same.
        try:
            claims = self._claims(token)
        except Unauthenticated:
            raise
        except Exception:
            raise Unauthenticated(_REFUSED) from None
        ends = self._check_times(claims, now_seconds)
        user = claims.get(self._settings.user_claim)
        if not isinstance(user, str) or not 0 < len(user) <= USER_NAME_CHARACTERS_MAX:
            raise Unauthenticated("the token names no user")
        return user, ends

    def _claims(self, token: bytes) -> Mapping[str, object]:
        """What the token says, once its signature, issuer and audience are found good."""
        settings = self._settings
        header = self._header(token)
        # RFC 7515 section 4.1.11: extensions that must be understood. None is.
        if "crit" in header or "b64" in header:
            raise Unauthenticated(_REFUSED)
        kid = header.get("kid")
        if kid is None and len(self._keys) == 1:
            [found] = self._keys.values()
        elif isinstance(kid, str) and kid in self._keys:
            found = self._keys[kid]
        else:
            raise Unauthenticated(_REFUSED)
        key, algorithms = found
        if header.get("alg") not in algorithms:
            raise Unauthenticated(_REFUSED)
        claims: Mapping[str, object] = self._decode(
            token,
            key,
            algorithms=algorithms,
            issuer=settings.issuer or None,
            audience=settings.audience or None,
            # Times are ours to check: PyJWT would ask the clock.
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        return claims

    def _check_times(self, claims: Mapping[str, object], now_seconds: float) -> int:
        leeway = self._settings.leeway_seconds
        ends = _time(claims, "exp")
        if ends is None:
            raise Unauthenticated("the token has no end (exp)")
        if now_seconds >= ends + leeway:
            raise Unauthenticated("the token has expired")
        for name in ("nbf", "iat"):
            begins = _time(claims, name)
            if begins is not None and now_seconds < begins - leeway:
                raise Unauthenticated("the token is not valid yet")
        return int(ends) + leeway


def _time(claims: Mapping[str, object], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2), if it is there."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Unauthenticated(_REFUSED)
    if not isfinite(value) or not 0 <= value <= _SECONDS_MAX:
        raise Unauthenticated(_REFUSED)
    return value


def _read_key(text: str) -> tuple[Any, Sequence[str]]:
    """A key as PyJWT takes it, and the algorithms that it can serve."""
    if "-----BEGIN" not in text:
        secret = text.encode()
        fitting = [name for name, size in _SECRET_BYTES_MIN.items() if len(secret) >= size]
        if not fitting:
            least = min(_SECRET_BYTES_MIN.values())
            raise ValueError(f"is a secret of {len(secret)} bytes; it needs at least {least}")
        return secret, fitting
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is no public key in PEM (-----BEGIN PUBLIC KEY-----)") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _RSA_BITS_MIN:
            raise ValueError(f"has {key.key_size} bits; it needs at least {_RSA_BITS_MIN}")
        return key, _RSA
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return key, [_CURVES[key.curve.name]]
    if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return key, [_EDWARDS]
    raise ValueError("is of a kind that no algorithm uses")
