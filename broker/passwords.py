"""Passwords: how they are stored, and how a login is checked without giving anything away.

1. Stored is a string in the manner of PHC, never a password: argon2id with the OWASP minimum
   (19 MiB, 2 passes, 1 lane) where argon2-cffi is installed (the [auth] extra), else scrypt of the
   standard library; or, for who logs in by SCRAM, the keys for that. Each kind is verified;
   :func:`needs_rehash` names what should be hashed again.
2. An unknown user costs the time of a known one, and the refusal has the same words.
3. A hash is worth tens of milliseconds, so it runs in one of two worker threads, and a password
   that was right is remembered for a minute: as an HMAC under a key of this process, not in clear.
4. Guessing is slowed down per user and peer: after five failures in a minute the next attempts are
   refused at once, for a time that doubles with each further failure. An attempt is charged when
   it begins, so that many at once gain nothing, and a refusal comes before any look at what is
   remembered, so that it answers nothing.
5. An empty password matches nothing, also not an empty hash.
6. Where tokens are accepted, what looks like a JWT is one, and never tried as a password. Tokens
   are neither remembered nor slowed down: a signature cannot be guessed, and many devices behind
   one address may all come back with an expired one.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import anyio
from anyio import CapacityLimiter, to_thread

from .access import Access, Principal
from .errors import InvalidArgument, Overloaded, Unauthenticated
from .scram import (
    SCRAM_ITERATIONS,
    SCRAM_SALT_BYTES,
    ScramKeys,
    ScramServer,
    from_base64,
    to_base64,
)

if TYPE_CHECKING:
    from .jwt import JwtVerifier

__all__ = [
    "FAILURES_BEFORE_DELAY",
    "FAILURES_TRACKED_MAX",
    "FAILURE_DELAY_SECONDS_MAX",
    "FAILURE_WINDOW_SECONDS",
    "HASH_CHARACTERS_MAX",
    "HASH_KINDS",
    "PASSWORD_BYTES_MAX",
    "VERIFICATIONS_WAITING_MAX",
    "VERIFIED_CACHED_MAX",
    "VERIFIED_SECONDS",
    "ScramLogin",
    "Verifier",
    "hash_password",
    "hash_problem",
    "needs_rehash",
    "verify",
]

PASSWORD_BYTES_MAX = 1_024
HASH_CHARACTERS_MAX = 512
HASH_KINDS = ("argon2id", "scrypt", "scram-sha-256")
TOKEN_USER = "jwt"  # the user's name, when the token is to say who it is

VERIFIED_SECONDS = 60.0
VERIFIED_CACHED_MAX = 10_000
VERIFICATION_THREADS = 2
VERIFICATIONS_WAITING_MAX = 1_000
DECOYS_MAX = 100

FAILURES_BEFORE_DELAY = 5
FAILURE_WINDOW_SECONDS = 60.0
FAILURE_DELAY_SECONDS_MAX = 300.0
FAILURES_TRACKED_MAX = 10_000

_ARGON2_MEMORY_KIB = 19 * 1024
_ARGON2_PASSES = 2
_ARGON2_LANES = 1
_SCRYPT_LOG_N, _SCRYPT_R, _SCRYPT_P = 14, 8, 1
_SCRAM_NONCE_BYTES = 24
_SALT_BYTES = 16
_HASH_BYTES = 32
# A hash comes from the configuration; these keep a mistyped one from eating the machine.
_MEMORY_KIB_MAX = 256 * 1024
_PASSES_MAX = 16
_LANES_MAX = 16

_REFUSED = "unknown user or wrong password"
_TOO_MANY = "too many failed logins, try again later"

_T = TypeVar("_T")


class _Kind(Protocol):
    """One way to hash."""

    def make(self, password: bytes) -> str: ...

    def verify(self, password_hash: str, password: bytes) -> bool: ...

    def problem(self, password_hash: str) -> str | None: ...

    def current(self, password_hash: str) -> bool: ...


class _Scrypt:
    """``$scrypt$ln=14,r=8,p=1$salt$hash``, base64 without padding: 16 MiB."""

    def make(self, password: bytes) -> str:
        salt = secrets.token_bytes(_SALT_BYTES)
        how = _ScryptHash(_SCRYPT_LOG_N, _SCRYPT_R, _SCRYPT_P, salt, b"")
        settings = f"ln={how.log_n},r={how.r},p={how.p}"
        return f"$scrypt${settings}${to_base64(salt)}${to_base64(self._digest(password, how))}"

    def verify(self, password_hash: str, password: bytes) -> bool:
        parsed = _ScryptHash.parse(password_hash)
        if isinstance(parsed, str):
            return False
        return hmac.compare_digest(self._digest(password, parsed), parsed.digest)

    def problem(self, password_hash: str) -> str | None:
        parsed = _ScryptHash.parse(password_hash)
        return parsed if isinstance(parsed, str) else None

    def current(self, password_hash: str) -> bool:
        parsed = _ScryptHash.parse(password_hash)
        return not isinstance(parsed, str) and parsed[:3] == (_SCRYPT_LOG_N, _SCRYPT_R, _SCRYPT_P)

    @staticmethod
    def _digest(password: bytes, how: "_ScryptHash") -> bytes:
        n = 1 << how.log_n
        return hashlib.scrypt(
            password,
            salt=how.salt,
            n=n,
            r=how.r,
            p=how.p,
            maxmem=128 * how.r * (n + how.p + 2),
            dklen=_HASH_BYTES,
        )


class _ScryptHash(NamedTuple):
    log_n: int
    r: int
    p: int
    salt: bytes
    digest: bytes

    @classmethod
    def parse(cls, password_hash: str) -> "_ScryptHash | str":
        """The parts of the hash, or what is wrong with it."""
        malformed = "not of the form $scrypt$ln=14,r=8,p=1$salt$hash"
        fields = password_hash.split("$")
        settings = fields[2].split(",") if len(fields) == 5 else []
        names = [setting.partition("=")[0] for setting in settings]
        values = [setting.partition("=")[2] for setting in settings]
        if names != ["ln", "r", "p"]:
            return malformed
        if not all(value.isascii() and value.isdigit() and len(value) <= 4 for value in values):
            return malformed
        log_n, r, p = map(int, values)
        salt, digest = from_base64(fields[3]), from_base64(fields[4])
        if not salt or digest is None or len(digest) != _HASH_BYTES or min(log_n, r, p) < 1:
            return malformed
        if log_n >= 16 * r:  # RFC 7914 section 2: N < 2^(128 * r / 8)
            return malformed
        if (r << log_n) // 8 > _MEMORY_KIB_MAX or p > _LANES_MAX:
            return f"needs more than {_MEMORY_KIB_MAX // 1024} MiB or {_LANES_MAX} lanes"
        return cls(log_n, r, p, salt, digest)


class _Argon2:
    """``$argon2id$v=19$m=19456,t=2,p=1$salt$hash``; needs argon2-cffi, imported at first use."""

    def __init__(self) -> None:
        import argon2

        self._extract = argon2.extract_parameters
        self._unusable = (
            argon2.exceptions.VerificationError,
            argon2.exceptions.InvalidHashError,
        )
        self._hasher = argon2.PasswordHasher(
            time_cost=_ARGON2_PASSES,
            memory_cost=_ARGON2_MEMORY_KIB,
            parallelism=_ARGON2_LANES,
            hash_len=_HASH_BYTES,
            salt_len=_SALT_BYTES,
        )

    def make(self, password: bytes) -> str:
        return self._hasher.hash(password)

    def verify(self, password_hash: str, password: bytes) -> bool:
        if self.problem(password_hash) is not None:
            return False
        try:
            return self._hasher.verify(password_hash, password)
        except self._unusable:
            return False

    def problem(self, password_hash: str) -> str | None:
        try:
            how = self._extract(password_hash)
        except (*self._unusable, ValueError):
            return "not of the form $argon2id$v=19$m=19456,t=2,p=1$salt$hash"
        if how.memory_cost > _MEMORY_KIB_MAX:
            return f"needs more than {_MEMORY_KIB_MAX // 1024} MiB"
        if how.time_cost > _PASSES_MAX or how.parallelism > _LANES_MAX:
            return f"needs more than {_PASSES_MAX} passes or {_LANES_MAX} lanes"
        return None

    def current(self, password_hash: str) -> bool:
        return not self._hasher.check_needs_rehash(password_hash)


class _Scram:
    """``$scram-sha-256$100000$salt$StoredKey$ServerKey``; see :mod:`.scram`."""

    def make(self, password: bytes) -> str:
        salt = secrets.token_bytes(SCRAM_SALT_BYTES)
        try:
            return str(ScramKeys.derive(password, salt))
        except UnicodeDecodeError:
            raise InvalidArgument("a password for SCRAM is UTF-8") from None
        except ValueError as error:
            raise InvalidArgument(f"no password for SCRAM: {error}") from None

    def verify(self, password_hash: str, password: bytes) -> bool:
        keys = ScramKeys.parse(password_hash)
        return not isinstance(keys, str) and keys.matches(password)

    def problem(self, password_hash: str) -> str | None:
        keys = ScramKeys.parse(password_hash)
        return keys if isinstance(keys, str) else None

    def current(self, password_hash: str) -> bool:
        keys = ScramKeys.parse(password_hash)
        return not isinstance(keys, str) and keys.iterations >= SCRAM_ITERATIONS


@cache
def _argon2() -> _Argon2 | None:
    try:
        return _Argon2()
    except ImportError:
        return None


_SCRYPT = _Scrypt()
_SCRAM = _Scram()
_NO_ARGON2 = "needs argon2-cffi: pip install 'braidmq[auth]'"


def _preferred() -> _Kind:
    return _argon2() or _SCRYPT


def _kind(name: str) -> _Kind | None:
    """The kind of that name; None if it is unknown, or not installed."""
    if name == "argon2id":
        return _argon2()
    kinds: dict[str, _Kind] = {"scrypt": _SCRYPT, "scram-sha-256": _SCRAM}
    return kinds.get(name)


def _kind_of(password_hash: str) -> _Kind | None:
    if len(password_hash) > HASH_CHARACTERS_MAX or not password_hash.isascii():
        return None
    fields = password_hash.split("$")
    return _kind(fields[1]) if len(fields) > 2 and not fields[0] else None


def _bytes(password: str | bytes) -> bytes | None:
    """The password as bytes; None for what can be nobody's password."""
    if isinstance(password, str):
        try:
            password = password.encode()
        except UnicodeEncodeError:
            return None
    return password if 0 < len(password) <= PASSWORD_BYTES_MAX else None


def hash_password(password: str | bytes, *, kind: str = "") -> str:
    """The string to store for a password. Takes tens of milliseconds: not on an event loop.

    ``kind`` is one of ``HASH_KINDS``; without it argon2id if that is installed, else scrypt.

    Raises:
        InvalidArgument: the password is empty or longer than ``PASSWORD_BYTES_MAX``, SCRAM does
            not allow it, or the kind is unknown or not installed.
    """
    secret = _bytes(password)
    if secret is None:
        raise InvalidArgument(f"a password has 1 to {PASSWORD_BYTES_MAX} bytes of UTF-8")
    maker = _kind(kind) if kind else _preferred()
    if maker is None:
        known = kind in HASH_KINDS
        raise InvalidArgument(f"the kind {kind!r} " + (_NO_ARGON2 if known else "is unknown"))
    return maker.make(secret)


def verify(password_hash: str, password: str | bytes) -> bool:
    """Whether the password is the one; False also for a hash that cannot be used here."""
    secret, kind = _bytes(password), _kind_of(password_hash)
    if secret is None or kind is None:
        return False
    return kind.verify(password_hash, secret)


def hash_problem(password_hash: str) -> str | None:
    """Why no password can ever match this hash here, or None. For the check of a configuration."""
    if not password_hash:
        return "is empty"
    kind = _kind_of(password_hash)
    if kind is not None:
        return kind.problem(password_hash)
    if len(password_hash) > HASH_CHARACTERS_MAX or not password_hash.isascii():
        return f"is not at most {HASH_CHARACTERS_MAX} characters of ASCII"
    if password_hash.startswith("$argon2id$"):
        return _NO_ARGON2
    return "begins with none of " + ", ".join(f"${kind}$" for kind in HASH_KINDS)


def needs_rehash(password_hash: str) -> bool:
    """Whether :func:`hash_password` would now make a better one. SCRAM was asked for: it stays."""
    kind = _kind_of(password_hash)
    if kind not in (_preferred(), _SCRAM) or kind.problem(password_hash) is not None:
        return True
    return not kind.current(password_hash)


class _Attempts:
    """What one peer did under one user name lately."""

    __slots__ = ("blocked_until", "failures", "forget_at", "running")

    def __init__(self, now: float) -> None:
        self.failures = 0
        self.running = 0
        self.blocked_until = now
        self.forget_at = now + FAILURE_WINDOW_SECONDS


class _Throttle:
    """Counts failures per key and says who has to wait. Keys are digests, so each is small."""

    def __init__(self) -> None:
        self._attempts: dict[bytes, _Attempts] = {}

    def __len__(self) -> int:
        return len(self._attempts)

    def blocked(self, key: bytes, now: float) -> bool:
        attempts = self._attempts.get(key)
        return attempts is not None and now < attempts.blocked_until

    def begin(self, key: bytes, now: float) -> _Attempts | None:
        """Charge an attempt; None if there are too many already. Then call :meth:`end`."""
        attempts = self._attempts.pop(key, None)
        if attempts is None:
            attempts = _Attempts(now)
        elif now >= attempts.forget_at:
            attempts.failures = 0
            attempts.forget_at = now + FAILURE_WINDOW_SECONDS
        self._attempts[key] = attempts  # now the youngest
        if len(self._attempts) > FAILURES_TRACKED_MAX:
            del self._attempts[next(iter(self._attempts))]
        # Once the failures are used up: one attempt at a time, after each delay.
        left = max(1, FAILURES_BEFORE_DELAY - attempts.failures)
        if now < attempts.blocked_until or attempts.running >= left:
            return None
        attempts.running += 1
        return attempts

    def end(self, key: bytes, attempts: _Attempts, matched: bool, now: float) -> None:
        attempts.running -= 1
        if matched:
            if self._attempts.get(key) is attempts:
                del self._attempts[key]
            return
        attempts.failures += 1
        excess = attempts.failures - FAILURES_BEFORE_DELAY
        if excess >= 0:
            delay = min(2.0 ** min(excess, 32), FAILURE_DELAY_SECONDS_MAX)
            attempts.blocked_until = now + delay
            attempts.forget_at = attempts.blocked_until + FAILURE_WINDOW_SECONDS


class _Flight:
    """One verification under way, which others with the same credentials wait for."""

    __slots__ = ("landed", "matched")

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.matched: bool | None = None


class Verifier:
    """Turns a name and a password into a :class:`Principal`. One per event loop.

    It reads the users from ``access`` at each login, so a reload needs no call here. ``tokens``
    says which tokens are accepted in place of a password; None: none. It may be set at any time.
    """

    def __init__(self, access: Access, tokens: "JwtVerifier | None" = None) -> None:
        self.tokens = tokens
        self._access = access
        self._version = access.version
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, float] = {}
        self._flights: dict[bytes, _Flight] = {}
        self._throttle = _Throttle()
        self._limiter: CapacityLimiter | None = None
        self._waiting = 0
        self._decoys: list[str] = []
        self._made_up = ""
        self._scram_iterations = 0

    async def authenticate(self, name: str, password: bytes, peer: str, now: float) -> Principal:
        """The principal of the user if this is the password, or a token that names the user.

        ``peer`` is the address without the port; ``now`` is Unix time in seconds that never steps
        back. A caller that is cancelled has used up an attempt. With a token the name may also be
        empty or ``jwt``, and the principal expires.

        Raises:
            Unauthenticated: unknown user, wrong password or token, or too many failures before.
            Overloaded: too many logins are waiting.
        """
        if self.tokens is not None and self.tokens.accepts(password):
            return self._by_token(self.tokens, name, password, now)
        credential = self._digest(b"credential", _name_bytes(name), password)
        attempt = self._digest(b"attempt", _name_bytes(name), _name_bytes(peer))
        while True:
            if self._throttle.blocked(attempt, now):
                raise Unauthenticated(_TOO_MANY)
            if self._remembers(credential, now):
                return self._access.principal(name)
            flight = self._flights.get(credential)
            if flight is None:
                break
            await flight.landed.wait()
            if flight.matched is False:
                raise Unauthenticated(_REFUSED)
        if self._waiting >= VERIFICATIONS_WAITING_MAX:
            raise Overloaded("too many logins are waiting, try again later")
        attempts = self._throttle.begin(attempt, now)
        if attempts is None:
            raise Unauthenticated(_TOO_MANY)
        flight = self._flights[credential] = _Flight()
        self._waiting += 1
        try:
            flight.matched = await self._matches(name, password)
        finally:
            self._waiting -= 1
            self._throttle.end(attempt, attempts, flight.matched is True, now)
            del self._flights[credential]
            flight.landed.set()
        if not flight.matched:
            raise Unauthenticated(_REFUSED)
        self._remember(credential, now)
        return self._access.principal(name)

    def _by_token(self, tokens: "JwtVerifier", name: str, token: bytes, now: float) -> Principal:
        user, expires_at_seconds = tokens.verify(token, now)
        if name not in ("", TOKEN_USER, user):
            raise Unauthenticated("the token is another user's")
        return self._access.principal(user, expires_ms=expires_at_seconds * 1000)

    def scram(self, peer: str) -> "ScramLogin":
        """Begin a login by SCRAM-SHA-256, for users with a hash of that kind."""
        self._follow_users()
        if not self._scram_iterations:
            stored = (ScramKeys.parse(user.password_hash) for user in self._access.users)
            counts = (keys.iterations for keys in stored if not isinstance(keys, str))
            self._scram_iterations = next(counts, SCRAM_ITERATIONS)
        nonce = to_base64(secrets.token_bytes(_SCRAM_NONCE_BYTES)).encode()
        made_up = self._digest(b"scram")
        return ScramLogin(
            self, ScramServer(self._scram_keys, nonce, made_up, self._scram_iterations), peer
        )

    def _scram_keys(self, name: str) -> ScramKeys | None:
        user = self._access.user(name)
        keys = ScramKeys.parse(user.password_hash) if user is not None else ""
        return None if isinstance(keys, str) else keys

    def _scram_final(
        self, server: ScramServer, peer: str, message: bytes, now: float
    ) -> tuple[bytes, Principal]:
        attempt = self._digest(b"attempt", _name_bytes(server.user), _name_bytes(peer))
        attempts = self._throttle.begin(attempt, now)
        if attempts is None:
            raise Unauthenticated(_TOO_MANY)
        matched = False
        try:
            answer, user = server.final(message)
            matched = True
        finally:
            self._throttle.end(attempt, attempts, matched, now)
        return answer, self._access.principal(user)

    async def _matches(self, name: str, password: bytes) -> bool:
        user = self._access.user(name)
        usable = user is not None and hash_problem(user.password_hash) is None
        stored = user.password_hash if user is not None and usable else await self._decoy(name)
        matched = await self._in_thread(partial(verify, stored, password))
        # Asked again: the users may have been replaced while the thread was busy.
        user = self._access.user(name)
        return matched and usable and user is not None and user.password_hash == stored

    async def _decoy(self, name: str) -> str:
        """A hash to spend the time on that a known user would cost; what it says is not used.

        It is some user's real one, always the same for the same name, so that also where hashes
        of different cost are in use the time tells nothing.
        """
        if not self._decoys:
            hashes = (user.password_hash for user in self._access.users)
            usable = (stored for stored in hashes if hash_problem(stored) is None)
            self._decoys = list(islice(usable, DECOYS_MAX))
        if not self._decoys:
            if not self._made_up:
                make = partial(hash_password, secrets.token_bytes(16))
                self._made_up = await self._in_thread(make)
            return self._made_up
        number = int.from_bytes(self._digest(b"decoy", _name_bytes(name))[:8], "big")
        return self._decoys[number % len(self._decoys)]

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        if self._limiter is None:
            self._limiter = CapacityLimiter(VERIFICATION_THREADS)
        return await to_thread.run_sync(call, limiter=self._limiter)

    def _follow_users(self) -> None:
        if self._version != self._access.version:
            self._version = self._access.version
            self._verified.clear()
            self._decoys = []
            self._scram_iterations = 0

    def _remembers(self, credential: bytes, now: float) -> bool:
        self._follow_users()
        until = self._verified.get(credential)
        if until is None or now < until:
            return until is not None
        del self._verified[credential]
        return False

    def _remember(self, credential: bytes, now: float) -> None:
        self._verified[credential] = now + VERIFIED_SECONDS
        if len(self._verified) > VERIFIED_CACHED_MAX:
            del self._verified[next(iter(self._verified))]

    def _digest(self, *fields: bytes) -> bytes:
        framed = b"".join(len(field).to_bytes(8, "big") + field for field in fields)
        return hmac.digest(self._key, framed, "sha256")


class ScramLogin:
    """One login by SCRAM-SHA-256: :meth:`first`, then :meth:`final`; see :mod:`.scram`."""

    __slots__ = ("_peer", "_server", "_verifier")

    def __init__(self, verifier: Verifier, server: ScramServer, peer: str) -> None:
        self._verifier = verifier
        self._server = server
        self._peer = peer

    def first(self, message: bytes) -> bytes:
        """The answer to the client's first message. Raises Unauthenticated."""
        return self._server.first(message)

    def final(self, message: bytes, now: float) -> tuple[bytes, Principal]:
        """The answer to the client's last message, and who it is.

        Raises:
            Unauthenticated: unknown user, wrong password, or too many failures before this one.
        """
        return self._verifier._scram_final(self._server, self._peer, message, now)


def _name_bytes(name: str) -> bytes:
    return name.encode(errors="surrogatepass")
