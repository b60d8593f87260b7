"""SCRAM-SHA-256: the example of the standard, an independent client, and everything it refuses."""

import base64
import hashlib
import hmac
import stringprep

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import Unauthenticated
from braidmq.broker.scram import (
    SCRAM_ITERATIONS_MAX,
    SCRAM_ITERATIONS_MIN,
    SCRAM_MESSAGE_BYTES_MAX,
    SCRAM_NONCE_CHARACTERS_MIN,
    ScramKeys,
    ScramServer,
    from_base64,
    saslprep,
    to_base64,
)

# RFC 7677 section 3
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
PENCIL = ScramKeys.derive(b"pencil", SALT, 4096)
CLIENT_FIRST = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
NONCE = b"%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def server(users: dict[str, ScramKeys] | None = None, nonce: bytes = NONCE) -> ScramServer:
    users = {"user": PENCIL} if users is None else users
    return ScramServer(users.get, nonce, b"made up", PENCIL.iterations)


class Client:
    """Another reading of RFC 5802, section 3."""

    def __init__(self, user: str, password: str, header: str = "n,,", extension: str = "") -> None:
        self.password = password.encode()
        self.header = header
        name = user.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={name},r=fyko+d2lbbFgONRv9qkxdawL{extension}"
        self.expected = b""

    def first(self) -> bytes:
        return (self.header + self.bare).encode()

    def final(self, server_first: bytes, extension: str = "") -> bytes:
        values = dict(field.split("=", 1) for field in server_first.decode().split(","))
        binding = base64.b64encode(self.header.encode()).decode()
        last = f"c={binding},r={values['r']}{extension}"
        signed = ",".join([self.bare, server_first.decode(), last]).encode()
        salt, count = base64.b64decode(values["s"]), int(values["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.password, salt, count)
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        self.expected = b"v=" + base64.b64encode(verifier)
        return f"{last},p={base64.b64encode(proof).decode()}".encode()


def refusal(call, message: bytes) -> str:
    with pytest.raises(Unauthenticated) as caught:
        call(message)
    return str(caught.value)


# --- the exchange


def test_the_example_of_rfc_7677() -> None:
    exchange = server()
    assert exchange.first(CLIENT_FIRST) == SERVER_FIRST
    assert exchange.final(CLIENT_FINAL) == (SERVER_FINAL, "user")


@pytest.mark.parametrize("header", ["n,,", "y,,", "n,a=a=2Cb=3Dc,"])
@pytest.mark.parametrize("extension", ["", ",x=more"])
def test_a_client_that_knows_the_password_gets_in(header: str, extension: str) -> None:
    exchange = server({"a,b=c": PENCIL})
    client = Client("a,b=c", "pencil", header, extension)
    final = client.final(exchange.first(client.first()), extension)
    assert exchange.final(final) == (client.expected, "a,b=c")


def test_an_unknown_user_and_a_wrong_password_look_alike() -> None:
    told = []
    for user, password in [("user", "wrong"), ("nobody", "pencil"), ("nobody", "x")]:
        exchange, client = server(), Client(user, password)
        first = exchange.first(client.first())
        told.append((len(first), refusal(exchange.final, client.final(first))))
    assert set(told) == {(told[0][0], "unknown user or wrong password")}


def test_what_is_told_of_an_unknown_user_is_stable_and_its_own() -> None:
    first = [server(nonce=NONCE[::-1]).first(Client(u, "x").first()) for u in ("ada", "ada", "bob")]
    again = [message.split(b"s=")[1] for message in first]
    assert again[0] == again[1] != again[2]
    hello = Client("ada", "x").first()
    other = ScramServer(lambda name: None, NONCE, b"another key").first(hello)
    assert other.split(b"s=")[1] != again[0]
    assert other.endswith(b"i=100000")  # as the keys that are made here
    counted = ScramServer(lambda name: None, NONCE, b"made up", 99_999).first(hello)
    assert counted.endswith(b"i=99999")


@pytest.mark.parametrize("after", [{}, {"user": ScramKeys.derive(b"new", SALT, 4096)}])
def test_users_replaced_during_the_exchange_decide_about_it(after: dict) -> None:
    users = {"user": PENCIL}
    exchange = ScramServer(lambda name: users.get(name), NONCE, b"made up")
    exchange.first(CLIENT_FIRST)
    users = after
    assert "wrong password" in refusal(exchange.final, CLIENT_FINAL)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"p=tls-unique,,n=user,r=abc", "there is no channel binding here"),
        (b"n,a=admin,n=user,r=abc", "nobody can act for another user"),
        (b"n,x=admin,n=user,r=abc", "nobody can act for another user"),
        (b"", "malformed"),
        (b"n,,n=user", "malformed"),
        (b"x,,n=user,r=abc", "malformed"),
        (b"n,,u=user,r=abc", "malformed"),
        (b"n,,n=,r=abc", "malformed"),
        (b"n,,n=us=er,r=abc", "malformed"),
        (b"n,,n=us==2C3D,r=abc", "malformed"),
        (b"n,,n=us=2cer,r=abc", "malformed"),
        (b"n,,n=us\xff,r=abc", "malformed"),
        (b"n,,n=us\x07er,r=abc", "malformed"),
        (b"n,,n=user,r=", "malformed"),
        (b"n,,n=user,r=a b", "malformed"),
        (b"n,,n=user,s=abc", "malformed"),
        (b"n,,m=must,n=user,r=abc", "malformed"),
        (b"n,,n=user,r=" + b"x" * SCRAM_MESSAGE_BYTES_MAX, "at most 4096 bytes"),
    ],
)
def test_a_first_message_that_is_refused(message: bytes, text: str) -> None:
    assert text in refusal(server().first, message)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"", "malformed"),
        (CLIENT_FINAL.rpartition(b",")[0], "malformed"),
        (CLIENT_FINAL.replace(b"p=dH", b"p="), "malformed"),
        (CLIENT_FINAL.replace(b"p=dH", b"p=??"), "malformed"),
        (CLIENT_FINAL.replace(b"biws", b"eSws"), "do not belong together"),  # said "n", now "y"
        (CLIENT_FINAL.replace(b"k0,", b"k1,"), "do not belong together"),
        (CLIENT_FINAL.replace(b"r=rO", b"r=r"), "do not belong together"),
        (CLIENT_FINAL.replace(b"p=dH", b"p=eH"), "wrong password"),
        (CLIENT_FINAL.replace(b",p=", b",x=1,p="), "wrong password"),
        (CLIENT_FINAL + b"x" * SCRAM_MESSAGE_BYTES_MAX, "at most 4096 bytes"),
    ],
)
def test_a_last_message_that_is_refused(message: bytes, text: str) -> None:
    exchange = server()
    exchange.first(CLIENT_FIRST)
    assert text in refusal(exchange.final, message)
    with pytest.raises(AssertionError):  # there is no second try
        exchange.final(CLIENT_FINAL)


def test_a_message_is_taken_once() -> None:
    exchange = server()
    with pytest.raises(AssertionError, match="out of order"):
        exchange.final(CLIENT_FINAL)
    exchange.first(CLIENT_FIRST)
    with pytest.raises(AssertionError, match="out of order"):
        exchange.first(CLIENT_FIRST)


@given(st.binary(max_size=60) | st.text("npyc=,ar", max_size=30).map(str.encode), st.binary())
def test_garbage_is_refused(first: bytes, final: bytes) -> None:
    exchange = server()
    try:
        exchange.first(first)
    except Unauthenticated:
        exchange = server()
        exchange.first(CLIENT_FIRST)
    refusal(exchange.final, final)


@pytest.mark.parametrize("nonce", [b"x" * (SCRAM_NONCE_CHARACTERS_MIN - 1), b"x" * 30 + b","])
def test_a_nonce_that_could_be_guessed_or_misread_is_a_mistake(nonce: bytes) -> None:
    with pytest.raises(ValueError, match="nonce"):
        server(nonce=nonce)


# --- what is stored


def test_keys_are_written_and_read() -> None:
    assert ScramKeys.parse(str(PENCIL)) == PENCIL
    assert str(PENCIL).startswith("$scram-sha-256$4096$W22ZaJ0SNY7soEsUEjb6gQ$")
    assert PENCIL.matches(b"pencil") and not PENCIL.matches(b"pencil ")
    assert not PENCIL.matches(b"\xff") and not PENCIL.matches(b"")
    for secret in (to_base64(PENCIL.stored_key), repr(PENCIL.server_key), "W22Z"):
        assert secret not in repr(PENCIL)


FORM = "not of the form $scram-sha-256$iterations$salt$StoredKey$ServerKey"
KEY = to_base64(b"k" * 32)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", FORM),
        ("$scram-sha-1$4096$c2FsdA$" + KEY, FORM),
        (f"$scram-sha-256$4096$c2FsdA${KEY}", FORM),
        (f"$scram-sha-256$4096$c2FsdA${KEY}${KEY}$", FORM),
        (f"$scram-sha-256$4096$${KEY}${KEY}", FORM),
        (f"$scram-sha-256$4096$c2FsdA${KEY}$c2FsdA", FORM),
        (f"$scram-sha-256$4096$c2F?dA${KEY}${KEY}", FORM),
        (f"$scram-sha-256$-4096$c2FsdA${KEY}${KEY}", FORM),
        (f"$scram-sha-256$٤٠٩٦$c2FsdA${KEY}${KEY}", FORM),
        (f"$scram-sha-256${'9' * 10}$c2FsdA${KEY}${KEY}", FORM),
        (f"$scram-sha-256$4096${'A' * 88}${KEY}${KEY}", FORM),
        (f"$scram-sha-256$4095$c2FsdA${KEY}${KEY}", "has not 4096 to 1000000 iterations"),
        (f"$scram-sha-256$1000001$c2FsdA${KEY}${KEY}", "has not 4096 to 1000000 iterations"),
    ],
)
def test_keys_that_cannot_be_read_say_why(text: str, problem: str) -> None:
    assert ScramKeys.parse(text) == problem


def test_keys_may_cost_as_much_as_the_limits_say() -> None:
    for count in (SCRAM_ITERATIONS_MIN, SCRAM_ITERATIONS_MAX):
        keys = ScramKeys.parse(f"$scram-sha-256${count}$c2FsdA==${KEY}=${KEY}=")
        assert isinstance(keys, ScramKeys) and keys.iterations == count


@given(st.binary(max_size=70))
def test_base64_without_padding(data: bytes) -> None:
    assert from_base64(to_base64(data)) == data == from_base64(base64.b64encode(data))
    assert "=" not in to_base64(data)


# --- SASLprep


@pytest.mark.parametrize(
    ("text", "prepared"),
    [  # RFC 4013 section 3
        ("I\u00adX", "IX"),
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_text_is_prepared(text: str, prepared: str) -> None:
    assert saslprep(text) == prepared


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\u0007", "U\\+0007 is prohibited"),
        ("\u0627\u0031", "both directions"),
        ("\u0627a\u0628", "both directions"),
        ("", "nothing is left"),
        ("\u00ad", "nothing is left"),
        ("\ue000", "U\\+E000 is prohibited"),
        ("\ud800", "U\\+D800 is prohibited"),
        ("\U0001f600", "U\\+1F600 is prohibited"),  # younger than the standard's Unicode 3.2
    ],
)
def test_text_that_is_prohibited(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        saslprep(text)


@given(st.text(max_size=8))
def test_preparing_twice_changes_nothing(text: str) -> None:
    try:
        prepared = saslprep(text)
    except ValueError:
        return
    assert saslprep(prepared) == prepared
    assert not any(map(stringprep.in_table_c21_c22, prepared))
