"""Logins by other proofs than a plain hash: SCRAM keys, SCRAM itself, tokens."""

import base64
import hashlib
import hmac
import sys

import jwt
import pytest

from braidmq.broker import passwords
from braidmq.broker.access import Access, Principal, Rule, User
from braidmq.broker.errors import InvalidArgument, Unauthenticated
from braidmq.broker.jwt import JwtSettings, JwtVerifier
from braidmq.broker.passwords import (
    FAILURES_BEFORE_DELAY,
    HASH_KINDS,
    ScramLogin,
    Verifier,
    hash_password,
    hash_problem,
    needs_rehash,
    verify,
)
from braidmq.broker.scram import SCRAM_ITERATIONS_MIN, ScramKeys

PEER = "192.0.2.1"
NOW = 1_000_000_000.0
SECRET = "a secret that has more than thirty-two bytes"


def scram_hash(password: bytes, iterations: int = SCRAM_ITERATIONS_MIN) -> str:
    return str(ScramKeys.derive(password, b"salt", iterations))


# --- kinds of hashes


@pytest.mark.parametrize("kind", HASH_KINDS)
def test_a_hash_of_each_kind_is_made_and_verified(kind: str) -> None:
    stored = hash_password("correct horse", kind=kind)
    assert stored.startswith(f"${kind}$") and hash_problem(stored) is None
    assert verify(stored, "correct horse") and not verify(stored, "correct horsE")
    assert needs_rehash(stored) is (kind == "scrypt")  # argon2 is installed here
    assert User("alice", stored).password_hash == stored


def test_a_kind_that_there_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgument, match="the kind 'md5' is unknown"):
        hash_password("x", kind="md5")
    passwords._argon2.cache_clear()
    monkeypatch.setitem(sys.modules, "argon2", None)
    try:
        with pytest.raises(InvalidArgument, match="the kind 'argon2id' needs argon2-cffi"):
            hash_password("x", kind="argon2id")
    finally:
        passwords._argon2.cache_clear()


@pytest.mark.parametrize("password", [b"\xff", b"\x07", "\U0001f600".encode()])
def test_a_password_that_scram_does_not_allow(password: bytes) -> None:
    with pytest.raises(InvalidArgument, match="for SCRAM"):
        hash_password(password, kind="scram-sha-256")
    assert not verify(scram_hash(b"x"), password)


def test_scram_keys_that_cannot_be_used() -> None:
    few = scram_hash(b"x", SCRAM_ITERATIONS_MIN - 1)
    assert "4096 to 1000000 iterations" in (hash_problem(few) or "")
    assert not verify(few, "x") and needs_rehash(few)
    assert verify(scram_hash(b"x"), "x") and needs_rehash(scram_hash(b"x"))


async def test_a_user_with_scram_keys_logs_in_with_the_plain_password() -> None:
    access = Access([User("alice", scram_hash(b"secret"))])
    verifier = Verifier(access)
    assert await verifier.authenticate("alice", b"secret", PEER, NOW) is access.principal("alice")
    with pytest.raises(Unauthenticated):
        await verifier.authenticate("alice", b"wrong", PEER, NOW)


# --- SCRAM


def scram(login: ScramLogin, name: str, password: bytes, now: float = NOW) -> Principal:
    """What a client does; see test_scram.py for its checks."""
    bare = f"n={name},r=client-nonce".encode()
    first = login.first(b"n,," + bare)
    both, salt, count = (field[2:] for field in first.split(b","))
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(count))
    key = hmac.digest(salted, b"Client Key", "sha256")
    last = b"c=biws,r=" + both
    signed = b",".join([bare, first, last])
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))
    answer, who = login.final(last + b",p=" + proof, now)
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    assert answer == b"v=" + base64.b64encode(hmac.digest(server_key, signed, "sha256"))
    return who


def refused(verifier: Verifier, name: str, password: bytes, now: float = NOW) -> str:
    with pytest.raises(Unauthenticated) as caught:
        scram(verifier.scram(PEER), name, password, now)
    return str(caught.value)


def test_scram_gives_the_principal() -> None:
    access = Access([User("alice", scram_hash(b"secret")), User("bob", hash_password("secret"))])
    verifier = Verifier(access)
    assert scram(verifier.scram(PEER), "alice", b"secret") is access.principal("alice")
    words = {
        refused(verifier, *attempt)
        for attempt in [("alice", b"wrong"), ("bob", b"secret"), ("carol", b"secret")]
    }
    assert words == {"unknown user or wrong password"}


def test_scram_tells_the_same_of_a_user_without_keys() -> None:
    users = [User("alice", scram_hash(b"secret", 5_000)), User("bob", hash_password("secret"))]
    verifier = Verifier(Access(users))
    told: dict[str, bytes] = {}
    for name in ("alice", "bob", "carol", "carol"):
        first = verifier.scram(PEER).first(b"n,,n=%b,r=abc" % name.encode())
        nonce, salt, count = first.split(b",")
        assert count == b"i=5000" and len(nonce) == len("r=abc") + 32
        assert told.setdefault(name, salt) == salt
    assert len(set(told.values())) == 3


def test_scram_tells_the_count_of_the_users_in_force() -> None:
    access = Access()
    verifier = Verifier(access)
    assert verifier.scram(PEER).first(b"n,,n=x,r=abc").endswith(b",i=100000")
    access.replace([User("alice", scram_hash(b"secret", 6_000))])
    assert verifier.scram(PEER).first(b"n,,n=x,r=abc").endswith(b",i=6000")


async def test_guessing_by_scram_and_by_password_is_slowed_down_together() -> None:
    verifier = Verifier(Access([User("alice", scram_hash(b"secret"))]))
    for number in range(FAILURES_BEFORE_DELAY - 1):
        assert refused(verifier, "alice", b"%d" % number) == passwords._REFUSED
    with pytest.raises(Unauthenticated, match="wrong password"):
        await verifier.authenticate("alice", b"wrong", PEER, NOW)
    assert refused(verifier, "alice", b"secret", NOW + 0.5) == passwords._TOO_MANY
    other_peer = verifier.scram("192.0.2.9")
    assert scram(other_peer, "alice", b"secret", NOW + 0.5).name == "alice"
    assert scram(verifier.scram(PEER), "alice", b"secret", NOW + 1).name == "alice"


# --- tokens


def with_tokens(*names: str) -> Verifier:
    rules = (Rule("allow", ("*",), ("*",)),)
    settings = JwtSettings(algorithms=("HS256",), keys={"k": SECRET})
    return Verifier(Access([User(name, "", rules) for name in names]), JwtVerifier(settings))


def token(user: str = "alice", ends: float = NOW + 100) -> bytes:
    return jwt.encode({"sub": user, "exp": int(ends)}, SECRET, headers={"kid": "k"}).encode()


@pytest.mark.parametrize("name", ["alice", "jwt", ""])
async def test_a_token_gives_a_principal_that_expires(name: str) -> None:
    verifier = with_tokens("alice")
    who = await verifier.authenticate(name, token(), PEER, NOW)
    assert who.name == "alice" and who.allows("queue:Send", "orders")
    assert who.expires_ms == int(NOW + 160) * 1000


@pytest.mark.parametrize(
    ("name", "made", "text"),
    [
        ("bob", token(), "the token is another user's"),
        ("jwt", token("carol"), "no such user"),
        ("jwt", token("$anonymous"), "no such user"),
        ("jwt", token("$system"), "no such user"),
        ("alice", token(ends=NOW - 61), "the token has expired"),
        ("alice", token()[:-2] + b"xx", "the token is not valid"),
    ],
)
async def test_a_token_that_opens_nothing(name: str, made: bytes, text: str) -> None:
    verifier = with_tokens("alice", "bob")
    for _ in range(FAILURES_BEFORE_DELAY + 1):  # nobody is slowed down
        with pytest.raises(Unauthenticated, match=text):
            await verifier.authenticate(name, made, PEER, NOW)
    assert (await verifier.authenticate("jwt", token(), PEER, NOW)).name == "alice"
    assert len(verifier._throttle) == 0 and not verifier._verified


async def test_a_token_names_a_user_who_exists_also_where_there_are_none() -> None:
    for user in ("alice", "$anonymous"):
        with pytest.raises(Unauthenticated):
            await with_tokens().authenticate("jwt", token(user), PEER, NOW)


async def test_what_looks_like_a_token_is_a_password_where_there_are_none() -> None:
    odd = b"eyJ.strange.password"
    verifier = Verifier(Access([User("alice", scram_hash(odd))]))
    assert (await verifier.authenticate("alice", odd, PEER, NOW)).name == "alice"
    verifier.tokens = with_tokens().tokens
    with pytest.raises(Unauthenticated, match="the token is not valid"):
        await verifier.authenticate("alice", odd, PEER, NOW)
    assert (await verifier.authenticate("alice", token(), PEER, NOW)).name == "alice"
