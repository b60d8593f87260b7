"""Logins: the right password opens, everything else costs the same and says the same."""

import asyncio
import base64
import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker import passwords
from braidmq.broker.access import Access, User
from braidmq.broker.errors import InvalidArgument, Overloaded, Unauthenticated
from braidmq.broker.passwords import (
    FAILURE_DELAY_SECONDS_MAX,
    FAILURE_WINDOW_SECONDS,
    FAILURES_BEFORE_DELAY,
    PASSWORD_BYTES_MAX,
    VERIFIED_SECONDS,
    Verifier,
    hash_password,
    hash_problem,
    needs_rehash,
    verify,
)

PEER = "192.0.2.1"


def cheap_hash(password: bytes, log_n: int = 1) -> str:
    """A scrypt hash that takes microseconds to check, for tests that log in a lot."""
    digest = hashlib.scrypt(password, salt=b"salt", n=2**log_n, r=8, p=1, dklen=32)
    salt, hashed = (base64.b64encode(part).decode().rstrip("=") for part in (b"salt", digest))
    return f"$scrypt$ln={log_n},r=8,p=1${salt}${hashed}"


@pytest.fixture
def no_argon2(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As where the [auth] extra is not installed."""
    passwords._argon2.cache_clear()
    monkeypatch.setitem(sys.modules, "argon2", None)
    yield
    passwords._argon2.cache_clear()


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bytes]]:
    """What was verified, in order."""
    seen = []
    real = passwords.verify

    def recording(password_hash: str, password: bytes) -> bool:
        seen.append((password_hash, password))
        return real(password_hash, password)

    monkeypatch.setattr(passwords, "verify", recording)
    return seen


def access_with(*names: str) -> Access:
    """Users whose password is their name and "-secret"."""
    return Access([User(name, cheap_hash(f"{name}-secret".encode())) for name in names])


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(access_with("alice"))


async def refused(verifier: Verifier, name: str, password: bytes, now: float = 0.0) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.authenticate(name, password, PEER, now)
    return str(caught.value)


# --- hashes


@pytest.mark.parametrize(
    ("extra", "settings"),
    [(True, "$argon2id$v=19$m=19456,t=2,p=1$"), (False, "$scrypt$ln=14,r=8,p=1$")],
)
def test_a_password_is_hashed_and_verified(
    request: pytest.FixtureRequest, extra: bool, settings: str
) -> None:
    if not extra:
        request.getfixturevalue("no_argon2")
    stored = hash_password("correct horse")
    assert stored.startswith(settings)
    assert stored != hash_password("correct horse")  # salted
    assert verify(stored, "correct horse") and verify(stored, b"correct horse")
    assert not verify(stored, "correct horsE")
    assert hash_problem(stored) is None and not needs_rehash(stored)


def test_a_scrypt_hash_stays_good_where_argon2_is_installed() -> None:
    stored = cheap_hash(b"correct horse")
    assert verify(stored, "correct horse")
    assert hash_problem(stored) is None
    assert needs_rehash(stored)


def test_an_argon2_hash_needs_the_extra(request: pytest.FixtureRequest) -> None:
    stored = hash_password("correct horse")
    request.getfixturevalue("no_argon2")
    assert not verify(stored, "correct horse")
    assert hash_problem(stored) == "needs argon2-cffi: pip install 'braidmq[auth]'"
    assert needs_rehash(stored)


def test_weaker_settings_are_to_be_hashed_again(request: pytest.FixtureRequest) -> None:
    argon2 = pytest.importorskip("argon2")
    weak = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash("x")
    assert verify(weak, "x") and needs_rehash(weak)
    request.getfixturevalue("no_argon2")
    assert needs_rehash(cheap_hash(b"x"))


@pytest.mark.parametrize("password", ["", b"", "x" * (PASSWORD_BYTES_MAX + 1), "\udc80"])
def test_what_can_be_nobodys_password_is_not_hashed(password: str | bytes) -> None:
    with pytest.raises(InvalidArgument, match="a password has 1 to 1024 bytes of UTF-8"):
        hash_password(password)
    for stored in (cheap_hash(b"x"), cheap_hash(b""), ""):
        assert not verify(stored, password)


def test_every_byte_of_a_password_counts() -> None:
    longest = b"x" * PASSWORD_BYTES_MAX
    assert verify(cheap_hash(longest), longest)
    assert not verify(cheap_hash(longest), longest[:-1] + b"y")
    assert verify(cheap_hash("grüße\x00§".encode()), "grüße\x00§")
    assert not verify(cheap_hash(b"gr\xfc\xdfe"), "grüße")


SALT, DIGEST = "c2FsdA", base64.b64encode(b"d" * 32).decode().rstrip("=")


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ("", "is empty"),
        ("secret", "begins with none of $argon2id$, $scrypt$"),
        ("$argon2i$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaA", "begins with none of $argon2id$"),
        ("$argon2id$", "not of the form $argon2id$"),
        ("$argon2id$v=19$m=x,t=2,p=1$c2FsdHNhbHQ$aGFzaA", "not of the form $argon2id$"),
        ("$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHQ$aGFzaGFzaA", "needs more than 256 MiB"),
        ("$scrypt$", "not of the form $scrypt$"),
        (f"$scrypt$ln=\u0664,r=8,p=1${SALT}${DIGEST}", "is not at most 512 characters of ASCII"),
        (f"$scrypt$ln=30,r=8,p=1${SALT}${DIGEST}", "needs more than 256 MiB"),
        (f"$scrypt$ln=9999,r=9999,p=1${SALT}${DIGEST}", "needs more than 256 MiB"),
        (f"$scrypt$ln=20,r=3,p=1${SALT}${DIGEST}", "needs more than 256 MiB"),
        (f"$scrypt$ln=14,r=8,p=17${SALT}${DIGEST}", "or 16 lanes"),
        ("$argon2id$v=19$m=19456,t=17,p=1$c2FsdHNhbHQ$aGFzaGFzaA", "more than 16 passes"),
        ("$argon2id$v=19$m=19456,t=2,p=17$c2FsdHNhbHQ$aGFzaGFzaA", "16 passes or 16 lanes"),
        ("$scrypt$" + "x" * 1000, "is not at most 512 characters"),
        ("$argon2id$" + "x" * 1000, "is not at most 512 characters"),
    ],
)
def test_a_hash_that_cannot_be_used_matches_nothing_and_says_why(stored: str, problem: str) -> None:
    assert problem in (hash_problem(stored) or "")
    assert needs_rehash(stored)
    assert not verify(stored, "password")


SETTINGS = "ln=14,r=8,p=1"
WRONG_SETTINGS = " ln=14,r=8 r=8,ln=14,p=1 ln=14,r=8,p=0 ln=-1,r=8,p=1 ln=16,r=1,p=1".split(" ")


@pytest.mark.parametrize(
    ("settings", "salt", "digest"),
    [
        *((settings, SALT, DIGEST) for settings in WRONG_SETTINGS),
        *((SETTINGS, salt, DIGEST) for salt in ["", "?", "c2Fs?dA", "$" + SALT]),
        *((SETTINGS, SALT, digest) for digest in ["", "?", SALT, DIGEST + "AAAA"]),
    ],
)
def test_a_malformed_scrypt_hash_says_so(settings: str, salt: str, digest: str) -> None:
    assert hash_problem(f"$scrypt${SETTINGS}${SALT}${DIGEST}") is None
    stored = f"$scrypt${settings}${salt}${digest}"
    assert hash_problem(stored) == "not of the form $scrypt$ln=14,r=8,p=1$salt$hash"
    assert not verify(stored, "password")


def test_a_hash_may_cost_as_much_as_the_limits_say() -> None:
    assert hash_problem(f"$scrypt$ln=20,r=2,p=16${SALT}${DIGEST}") is None
    assert hash_problem("$argon2id$v=19$m=262144,t=16,p=16$c2FsdHNhbHQ$aGFzaGFzaA") is None


NUMBER = st.integers(-1, 300).map(str) | st.sampled_from(["", "99999", "x", "1e3"])
FIELD = st.text("AZaz09+/=", max_size=44)
SCRYPT_LIKE = "$scrypt$ln={},r={},p={}${}${}".format
ARGON2_LIKE = "$argon2id$v={}$m={},t=1,p={}${}${}".format
HASH_LIKE = st.one_of(
    st.text(max_size=40),
    st.text("$=,vmtp0159A", max_size=40).map("$argon2id${}".format),
    st.builds(ARGON2_LIKE, NUMBER, NUMBER, NUMBER, FIELD, FIELD),
    st.builds(SCRYPT_LIKE, st.integers(0, 4), NUMBER, NUMBER, FIELD, FIELD | st.just(DIGEST)),
)


@given(HASH_LIKE, st.binary(max_size=8))
def test_no_hash_makes_verification_fail(stored: str, password: bytes) -> None:
    assert verify(stored, password) is False
    assert needs_rehash(stored) in (True, False)
    assert hash_problem(stored) is None or isinstance(hash_problem(stored), str)


def test_importing_the_module_does_not_import_argon2() -> None:
    code = "import sys, braidmq.broker.passwords; sys.exit('argon2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- a login


async def test_the_right_password_gives_the_principal() -> None:
    access = access_with("alice", "bob")
    verifier = Verifier(access)
    for name in ("alice", "bob"):
        principal = await verifier.authenticate(name, f"{name}-secret".encode(), PEER, 0.0)
        assert principal is access.principal(name)


async def test_everything_else_is_refused_with_the_same_words() -> None:
    access = Access(
        [
            *access_with("alice", "bob").users,
            User("open", ""),
            User("broken", "$scrypt$broken"),
            User("blank", cheap_hash(b"")),
        ]
    )
    attempts = [
        *(attempt.split(":") for attempt in "alice:bob-secret alice: Alice:alice-secret".split()),
        *(attempt.split(":") for attempt in "carol:carol-secret carol: : :alice-secret".split()),
        *(attempt.split(":") for attempt in "open: open:x broken:x blank: \udc80:x".split()),
        ["alice", "alice-secret "],
        ["alice", "x" * 100_000],
        ["a" * 100_000, "x"],
    ]
    answers = {
        await refused(Verifier(access), name, password.encode()) for name, password in attempts
    }
    assert answers == {"unknown user or wrong password"}


@pytest.mark.parametrize("name", ["carol", "", "open", "broken"])
async def test_a_user_that_cannot_log_in_costs_the_time_of_one_that_can(
    name: str, checked: list[tuple[str, bytes]]
) -> None:
    users = access_with("alice", "bob").users
    access = Access([*users, User("open", ""), User("broken", "$scrypt$broken")])
    verifier = Verifier(access)
    await refused(verifier, name, b"alice-secret")
    await refused(verifier, name, b"bob-secret")
    # Two verifications against one real hash, always the same; that one of them matches is no help.
    assert [password for _, password in checked] == [b"alice-secret", b"bob-secret"]
    assert {stored for stored, _ in checked} < {user.password_hash for user in users}
    assert len({stored for stored, _ in checked}) == 1


async def test_an_unknown_user_costs_a_hash_also_where_there_is_none(
    checked: list[tuple[str, bytes]], no_argon2: None
) -> None:
    verifier = Verifier(Access())
    assert await refused(verifier, "alice", b"x") == await refused(verifier, "bob", b"x")
    assert [stored[:22] for stored, _ in checked] == ["$scrypt$ln=14,r=8,p=1$"] * 2
    assert checked[0][0] == checked[1][0]


async def test_the_hash_of_a_new_user_serves_unknown_ones_after_a_reload(
    checked: list[tuple[str, bytes]],
) -> None:
    access = access_with("alice")
    verifier = Verifier(access)
    await refused(verifier, "carol", b"x")
    access.replace([User("bob", cheap_hash(b"bob-secret", log_n=2))])
    await refused(verifier, "carol", b"y")
    assert [stored[:12] for stored, _ in checked] == ["$scrypt$ln=1", "$scrypt$ln=2"]


# --- what is remembered


async def test_a_right_password_is_remembered_for_a_minute(
    checked: list[tuple[str, bytes]], verifier: Verifier
) -> None:
    for now in (0.0, 1.0, VERIFIED_SECONDS - 0.1):
        await verifier.authenticate("alice", b"alice-secret", PEER, now)
        await verifier.authenticate("alice", b"alice-secret", "another peer", now)
    assert len(checked) == 1
    await verifier.authenticate("alice", b"alice-secret", PEER, VERIFIED_SECONDS)
    assert len(checked) == 2


async def test_a_remembered_password_opens_nothing_else() -> None:
    verifier = Verifier(access_with("alice", "bob", "alicea"))
    await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)
    await refused(verifier, "bob", b"alice-secret")
    await refused(verifier, "alice", b"bob-secret")
    await refused(verifier, "alicea", b"lice-secret")  # the same bytes in one row


async def test_a_wrong_password_is_not_remembered(checked: list[tuple[str, bytes]]) -> None:
    access = access_with("alice")
    verifier = Verifier(access)
    await refused(verifier, "alice", b"new")
    access.replace([User("alice", cheap_hash(b"new"))])
    await verifier.authenticate("alice", b"new", PEER, 1.0)
    assert len(checked) == 2


async def test_a_reload_forgets_what_was_verified(checked: list[tuple[str, bytes]]) -> None:
    access = access_with("alice", "bob")
    verifier = Verifier(access)
    await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)
    await verifier.authenticate("bob", b"bob-secret", PEER, 0.0)
    access.replace([User("alice", cheap_hash(b"changed")), access.users[1]])
    await refused(verifier, "alice", b"alice-secret")
    for _ in range(2):
        await verifier.authenticate("bob", b"bob-secret", PEER, 0.0)
    assert len(checked) == 4
    access.replace([])
    await refused(verifier, "bob", b"bob-secret")


async def test_no_password_stays_in_memory(verifier: Verifier) -> None:
    await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)
    await refused(verifier, "alice", b"another-secret")
    assert verifier._verified and len(verifier._throttle)
    kept = repr([vars(verifier), vars(verifier._throttle), verifier._access.users])
    assert "-secret" not in kept and PEER not in kept


async def test_only_so_many_verified_credentials_are_remembered(
    monkeypatch: pytest.MonkeyPatch, checked: list[tuple[str, bytes]]
) -> None:
    monkeypatch.setattr(passwords, "VERIFIED_CACHED_MAX", 2)
    verifier = Verifier(access_with("a", "b", "c"))
    for name in ("a", "b", "c"):
        await verifier.authenticate(name, f"{name}-secret".encode(), PEER, 0.0)
        assert len(verifier._verified) <= 2
    await verifier.authenticate("b", b"b-secret", PEER, 0.0)
    assert len(checked) == 3
    await verifier.authenticate("a", b"a-secret", PEER, 0.0)  # the oldest had gone
    assert len(checked) == 4


# --- guessing


async def fail_until_blocked(verifier: Verifier, name: str = "alice", now: float = 0.0) -> None:
    for number in range(FAILURES_BEFORE_DELAY):
        assert await refused(verifier, name, b"guess %d" % number, now) == passwords._REFUSED


@pytest.mark.parametrize("name", ["alice", "nobody"])
async def test_after_five_failures_in_a_minute_attempts_are_refused_at_once(
    name: str, checked: list[tuple[str, bytes]], verifier: Verifier
) -> None:
    await fail_until_blocked(verifier, name)
    for password in (b"guess", b"alice-secret"):
        assert await refused(verifier, name, password, 0.9) == passwords._TOO_MANY
    assert len(checked) == FAILURES_BEFORE_DELAY


async def test_a_blocked_peer_does_not_learn_what_is_remembered(verifier: Verifier) -> None:
    # Else a guess could be checked against the remembered credentials at any rate.
    await verifier.authenticate("alice", b"alice-secret", "192.0.2.9", 0.0)
    await fail_until_blocked(verifier)
    assert await refused(verifier, "alice", b"alice-secret", 0.5) == passwords._TOO_MANY
    await verifier.authenticate("alice", b"alice-secret", "192.0.2.9", 0.5)


async def test_a_block_concerns_one_user_from_one_peer() -> None:
    verifier = Verifier(access_with("alice", "bob"))
    await fail_until_blocked(verifier)
    await verifier.authenticate("alice", b"alice-secret", "192.0.2.9", 0.5)
    await verifier.authenticate("bob", b"bob-secret", PEER, 0.5)


async def test_the_delay_doubles_up_to_its_limit_and_does_not_grow_by_itself() -> None:
    verifier = Verifier(access_with("alice"))
    await fail_until_blocked(verifier)
    now, delay = 0.0, 1.0
    for _ in range(12):
        for _ in range(3):  # refused attempts do not prolong it
            assert await refused(verifier, "alice", b"x", now + delay - 0.01) == passwords._TOO_MANY
        now += delay
        assert await refused(verifier, "alice", b"x", now) == passwords._REFUSED
        delay = min(2 * delay, FAILURE_DELAY_SECONDS_MAX)
    assert delay == FAILURE_DELAY_SECONDS_MAX
    await verifier.authenticate("alice", b"alice-secret", PEER, now + delay)


async def test_a_success_forgives(verifier: Verifier) -> None:
    for _ in range(3):
        for number in range(FAILURES_BEFORE_DELAY - 1):
            await refused(verifier, "alice", b"guess %d" % number)
        verifier._verified.clear()
        await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)
    assert len(verifier._throttle) == 0


async def test_failures_are_forgotten_after_a_minute(verifier: Verifier) -> None:
    for number in range(3 * (FAILURES_BEFORE_DELAY - 1)):
        now = FAILURE_WINDOW_SECONDS * (number // (FAILURES_BEFORE_DELAY - 1))
        assert await refused(verifier, "alice", b"guess %d" % number, now) == passwords._REFUSED
    for now in (1000.0, 1000.0 + 1.0 + FAILURE_WINDOW_SECONDS):
        await fail_until_blocked(verifier, now=now)
        assert await refused(verifier, "alice", b"x", now + 0.9) == passwords._TOO_MANY


async def test_only_so_many_failing_peers_are_tracked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "FAILURES_TRACKED_MAX", 3)
    verifier = Verifier(access_with("alice"))
    await fail_until_blocked(verifier)
    for name in ("b", "c"):
        await refused(verifier, name, b"x")
    assert await refused(verifier, "alice", b"x", 0.5) == passwords._TOO_MANY
    for name in ("d", "e", "f"):
        await refused(verifier, name, b"x")
        assert len(verifier._throttle) <= 3


# --- many at once


class Gate:
    """Holds every verification until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.began = 0
        self.together = 0
        self.together_max = 0
        self._changed = threading.Condition()
        self._real = passwords.verify
        monkeypatch.setattr(passwords, "verify", self._verify)

    def _verify(self, password_hash: str, password: bytes) -> bool:
        with self._changed:
            self.began += 1
            self.together += 1
            self.together_max = max(self.together, self.together_max)
            self._changed.notify_all()
        assert self.opened.wait(10)
        with self._changed:
            self.together -= 1
        return self._real(password_hash, password)

    async def reached(self, began: int) -> None:
        def wait() -> bool:
            with self._changed:
                return self._changed.wait_for(lambda: self.began >= began, timeout=10)

        assert await asyncio.to_thread(wait)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(monkeypatch)
    yield made
    made.opened.set()


async def outcomes(tasks: list[asyncio.Task]) -> dict[str, int]:
    """How often each kind of result came."""
    found: dict[str, int] = {}
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        kind = str(result) if isinstance(result, Exception) else "ok"
        found[kind] = found.get(kind, 0) + 1
    return found


def start(
    verifier: Verifier, name: str, password: bytes, count: int = 1, now: float = 0.0
) -> list[asyncio.Task]:
    login = verifier.authenticate
    return [asyncio.create_task(login(name, password, PEER, now)) for _ in range(count)]


@pytest.mark.parametrize(
    ("password", "outcome"), [(b"alice-secret", "ok"), (b"old", passwords._REFUSED)]
)
async def test_fifty_connections_of_one_application_are_one_attempt(
    gate: Gate, password: bytes, outcome: str, verifier: Verifier
) -> None:
    tasks = start(verifier, "alice", password, count=50)
    await gate.reached(1)
    gate.opened.set()
    assert await outcomes(tasks) == {outcome: 50}
    assert gate.began == 1
    await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)


async def test_guessing_in_parallel_gains_nothing(gate: Gate, verifier: Verifier) -> None:
    tasks = [task for n in range(50) for task in start(verifier, "alice", b"guess %d" % n)]
    await gate.reached(2)
    gate.opened.set()
    assert await outcomes(tasks) == {passwords._REFUSED: 5, passwords._TOO_MANY: 45}
    assert gate.began == FAILURES_BEFORE_DELAY


async def test_after_a_delay_one_attempt_goes_at_a_time(gate: Gate, verifier: Verifier) -> None:
    gate.opened.set()
    await fail_until_blocked(verifier)
    gate.opened.clear()
    tasks = [task for n in range(4) for task in start(verifier, "alice", b"%d" % n, now=1.0)]
    await gate.reached(FAILURES_BEFORE_DELAY + 1)
    gate.opened.set()
    assert await outcomes(tasks) == {passwords._REFUSED: 1, passwords._TOO_MANY: 3}


async def test_two_threads_verify_while_the_loop_goes_on(gate: Gate) -> None:
    names = [f"u{number}" for number in range(10)]
    verifier = Verifier(access_with(*names))
    tasks = [task for name in names for task in start(verifier, name, f"{name}-secret".encode())]
    await gate.reached(2)
    for _ in range(10):
        await asyncio.sleep(0)
    gate.opened.set()
    assert await outcomes(tasks) == {"ok": 10}
    assert gate.together_max == passwords.VERIFICATION_THREADS


async def test_only_so_many_logins_wait(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "VERIFICATIONS_WAITING_MAX", 3)
    verifier = Verifier(access_with("alice"))
    tasks = [task for n in range(3) for task in start(verifier, f"u{n}", b"x")]
    await gate.reached(2)
    with pytest.raises(Overloaded):
        await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)
    gate.opened.set()
    assert await outcomes(tasks) == {passwords._REFUSED: 3}
    await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)


async def test_a_cancelled_login_hands_over_to_those_who_wait_for_it(gate: Gate) -> None:
    verifier = Verifier(access_with("alice"))
    first, *others = start(verifier, "alice", b"alice-secret", count=4)
    await gate.reached(1)
    first.cancel()
    await asyncio.sleep(0)
    gate.opened.set()
    assert await outcomes(others) == {"ok": 3}
    with pytest.raises(asyncio.CancelledError):
        await first
    assert not verifier._flights and verifier._waiting == 0


async def test_a_cancelled_login_has_used_up_an_attempt(gate: Gate, verifier: Verifier) -> None:
    for number in range(FAILURES_BEFORE_DELAY):
        (task,) = start(verifier, "alice", b"guess %d" % number)
        await gate.reached(number + 1)
        task.cancel()
        gate.opened.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.opened.clear()
    assert await refused(verifier, "alice", b"one more", 0.5) == passwords._TOO_MANY


@pytest.mark.parametrize("change", ["remove", "password", "rename", "add"])
async def test_users_replaced_during_a_verification_decide_about_it(
    gate: Gate, change: str
) -> None:
    access = access_with("alice")
    verifier = Verifier(access)
    tasks = start(verifier, "alice", b"alice-secret", count=2)
    await gate.reached(1)
    alice = access.users[0]
    after = {
        "remove": [],
        "password": [User("alice", cheap_hash(b"changed"))],
        "rename": [User("bob", alice.password_hash)],
        "add": [alice, User("bob", alice.password_hash)],
    }
    access.replace(after[change])
    gate.opened.set()
    assert await outcomes(tasks) == {"ok" if change == "add" else passwords._REFUSED: 2}


async def test_an_error_of_the_verification_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch, verifier: Verifier
) -> None:
    def broken(*arguments: object) -> bool:
        raise MemoryError

    monkeypatch.setattr(passwords, "verify", broken)
    with pytest.raises(MemoryError):
        await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)
    assert not verifier._flights and verifier._waiting == 0
    monkeypatch.undo()
    await verifier.authenticate("alice", b"alice-secret", PEER, 0.0)
