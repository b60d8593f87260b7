"""SCRAM-SHA-256, the server's side (RFC 5802, RFC 7677): a login that never shows the password.

The client proves that it knows the password, the server proves that it knows the client; what the
server keeps (:class:`ScramKeys`) is enough to check a proof and not enough to make one. No sockets,
no clock and no chance here: the nonce comes in. The rules:

1. A user that does not exist goes through the whole exchange, with a salt made of the name and a
   key of this process, and is refused at its end with the same words.
2. There is no channel binding. A client that wants none (``n``) or knows that we have none (``y``)
   is let in, one that insists (``p``) is not, nor one that wants to act for somebody else.
3. A message is at most ``SCRAM_MESSAGE_BYTES_MAX``; each of the two is taken once.
4. Names and passwords are prepared by SASLprep (RFC 4013), as strings to be stored.
"""

import base64
import hashlib
import hmac
import stringprep
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from .errors import Unauthenticated

__all__ = [
    "SCRAM_ITERATIONS",
    "SCRAM_ITERATIONS_MAX",
    "SCRAM_ITERATIONS_MIN",
    "SCRAM_MESSAGE_BYTES_MAX",
    "SCRAM_NONCE_CHARACTERS_MIN",
    "SCRAM_SALT_BYTES",
    "ScramKeys",
    "ScramServer",
    "from_base64",
    "saslprep",
    "to_base64",
]

# Takes as long as argon2id, here and in the client, which does the same work at each login.
SCRAM_ITERATIONS = 100_000
SCRAM_ITERATIONS_MIN = 4_096  # RFC 7677 section 4
SCRAM_ITERATIONS_MAX = 1_000_000
SCRAM_MESSAGE_BYTES_MAX = 4_096
SCRAM_NONCE_CHARACTERS_MIN = 18
SCRAM_SALT_BYTES = 16

_PREFIX = "$scram-sha-256$"
_FORM = f"not of the form {_PREFIX}iterations$salt$StoredKey$ServerKey"
_KEY_BYTES = 32
_SALT_BYTES_MAX = 64
_REFUSED = "unknown user or wrong password"

# RFC 4013 section 2.3; A.1 because names and passwords are strings to be stored.
_PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(text: str) -> str:
    """The text as SASLprep (RFC 4013) prepares one that is stored. Raises ValueError."""
    mapped = "".join(
        " " if stringprep.in_table_c12(character) else character
        for character in text
        if not stringprep.in_table_b1(character)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if not prepared:
        raise ValueError("nothing is left of it")
    for character in prepared:
        if any(prohibited(character) for prohibited in _PROHIBITED):
            raise ValueError(f"the character U+{ord(character):04X} is prohibited by RFC 4013")
    # RFC 3454 section 6
    if any(map(stringprep.in_table_d1, prepared)):
        ends_rightwards = all(map(stringprep.in_table_d1, (prepared[0], prepared[-1])))
        if not ends_rightwards or any(map(stringprep.in_table_d2, prepared)):
            raise ValueError("text that runs in both directions is prohibited by RFC 4013")
    return prepared


class ScramKeys(NamedTuple):
    """What is stored of a password, ``$scram-sha-256$iterations$salt$StoredKey$ServerKey``."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    @classmethod
    def derive(
        cls, password: bytes, salt: bytes, iterations: int = SCRAM_ITERATIONS
    ) -> "ScramKeys":
        """The keys of a password in UTF-8. Takes tens of milliseconds. Raises ValueError."""
        prepared = saslprep(password.decode()).encode()
        salted = hashlib.pbkdf2_hmac("sha256", prepared, salt, iterations)
        stored_key = hashlib.sha256(_hmac(salted, b"Client Key")).digest()
        return cls(iterations, salt, stored_key, _hmac(salted, b"Server Key"))

    @classmethod
    def parse(cls, text: str) -> "ScramKeys | str":
        """The keys in a stored string, or what is wrong with it."""
        fields = text.split("$")
        if len(fields) != 6 or not text.startswith(_PREFIX):
            return _FORM
        count, *encoded = fields[2:]
        salt, stored_key, server_key = map(from_base64, encoded)
        if not (count.isascii() and count.isdigit() and len(count) <= 9):
            return _FORM
        if not salt or len(salt) > _SALT_BYTES_MAX or stored_key is None or server_key is None:
            return _FORM
        if len(stored_key) != _KEY_BYTES or len(server_key) != _KEY_BYTES:
            return _FORM
        if not SCRAM_ITERATIONS_MIN <= int(count) <= SCRAM_ITERATIONS_MAX:
            return f"has not {SCRAM_ITERATIONS_MIN} to {SCRAM_ITERATIONS_MAX} iterations"
        return cls(int(count), salt, stored_key, server_key)

    def __str__(self) -> str:
        salt, stored_key, server_key = map(to_base64, self[1:])
        return f"{_PREFIX}{self.iterations}${salt}${stored_key}${server_key}"

    def __repr__(self) -> str:
        """Without the keys, so that they do not end up in a log."""
        return f"ScramKeys(iterations={self.iterations}, <hidden>)"

    def matches(self, password: bytes) -> bool:
        """Whether the password is the one. Takes tens of milliseconds."""
        try:
            derived = self.derive(password, self.salt, self.iterations)
        except ValueError:
            return False
        return hmac.compare_digest(derived.stored_key, self.stored_key)


class ScramServer:
    """One login: :meth:`first`, then :meth:`final`.

    Args:
        find: the keys of a user, by the prepared name; None if there are none.
        nonce: never used before, printable ASCII without commas.
        made_up: a key of this process; what is told about unknown users is made of it.
        made_up_iterations: the count told about unknown users: that of most users.
    """

    __slots__ = (
        "_expected",
        "_find",
        "_iterations",
        "_keys",
        "_made_up",
        "_nonce",
        "_signed",
        "_user",
    )

    def __init__(
        self,
        find: Callable[[str], ScramKeys | None],
        nonce: bytes,
        made_up: bytes,
        made_up_iterations: int = SCRAM_ITERATIONS,
    ) -> None:
        if len(nonce) < SCRAM_NONCE_CHARACTERS_MIN or not _is_nonce(nonce):
            raise ValueError("the nonce is too short, or not printable ASCII without commas")
        self._find = find
        self._nonce = nonce
        self._made_up = made_up
        self._iterations = made_up_iterations
        self._user = ""
        self._keys: ScramKeys | None = None
        self._expected = b""  # how the client's last message has to begin
        self._signed = b""  # the first two messages, as both sides sign them

    @property
    def user(self) -> str:
        """Who the client says it is; empty before :meth:`first`."""
        return self._user

    def first(self, client_first: bytes) -> bytes:
        """Take the client's first message, return the server's first.

        Raises:
            Unauthenticated: the message is malformed, or asks for what there is not.
        """
        assert self._keys is None and not self._signed, "called out of order"
        # RFC 5802 section 7: gs2-header client-first-message-bare
        fields = _fields(client_first)
        if len(fields) < 4:
            raise Unauthenticated("malformed SCRAM message")
        binding, identity, name, nonce = fields[:4]
        if binding.startswith(b"p="):
            raise Unauthenticated("there is no channel binding here")
        if binding not in (b"n", b"y") or not name.startswith(b"n=") or not _is_nonce(nonce[2:]):
            raise Unauthenticated("malformed SCRAM message")
        if not nonce.startswith(b"r="):  # also "m=", an extension that must be understood
            raise Unauthenticated("malformed SCRAM message")
        user = _user(name[2:])
        if identity and (not identity.startswith(b"a=") or _user(identity[2:]) != user):
            raise Unauthenticated("nobody can act for another user here")
        self._user = user
        keys = self._keys = self._find(user) or self._nobody(user)
        both = nonce + self._nonce
        server_first = both + b",s=%b,i=%d" % (_padded(keys.salt), keys.iterations)
        header = binding + b"," + identity + b","
        self._expected = b"c=" + _padded(header) + b"," + both
        self._signed = client_first[len(header) :] + b"," + server_first
        return server_first

    def final(self, client_final: bytes) -> tuple[bytes, str]:
        """Take the client's last message, return the server's last and the user's name.

        Raises:
            Unauthenticated: unknown user, wrong password, or malformed.
        """
        keys = self._keys
        assert keys is not None, "called out of order"
        self._keys = None
        fields = _fields(client_final)
        proof = from_base64(fields[-1][2:]) if fields[-1].startswith(b"p=") else None
        if proof is None or len(proof) != _KEY_BYTES:
            raise Unauthenticated("malformed SCRAM message")
        without_proof = client_final[: -len(fields[-1]) - 1]
        if b",".join(fields[:2]) != self._expected:
            raise Unauthenticated("the SCRAM messages do not belong together")
        signed = self._signed + b"," + without_proof
        signature = _hmac(keys.stored_key, signed)
        client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
        matched = hmac.compare_digest(hashlib.sha256(client_key).digest(), keys.stored_key)
        # Asked again: there may be no such user, or others meanwhile.
        if not (matched and self._find(self._user) == keys):
            raise Unauthenticated(_REFUSED)
        return b"v=" + _padded(_hmac(keys.server_key, signed)), self._user

    def _nobody(self, user: str) -> ScramKeys:
        made_up = _hmac(self._made_up, user.encode())
        return ScramKeys(self._iterations, made_up[:SCRAM_SALT_BYTES], made_up, made_up)


def _fields(message: bytes) -> list[bytes]:
    if len(message) > SCRAM_MESSAGE_BYTES_MAX:
        raise Unauthenticated(f"a SCRAM message has at most {SCRAM_MESSAGE_BYTES_MAX} bytes")
    return message.split(b",")


def _user(name: bytes) -> str:
    """A name as it is on the wire: ``=2C`` is a comma, ``=3D`` an equals sign, no other ``=``."""
    if b"=" in name.replace(b"=2C", b",").replace(b"=3D", b","):
        raise Unauthenticated("malformed SCRAM message")
    try:
        return saslprep(name.replace(b"=2C", b",").replace(b"=3D", b"=").decode())
    except ValueError:
        raise Unauthenticated("malformed SCRAM message") from None


def _is_nonce(nonce: bytes) -> bool:
    return bool(nonce) and all(0x21 <= byte <= 0x7E and byte != 0x2C for byte in nonce)


def _hmac(key: bytes, data: bytes) -> bytes:
    return hmac.digest(key, data, "sha256")


def _padded(data: bytes) -> bytes:
    return base64.b64encode(data)


def to_base64(data: bytes) -> str:
    """As stored hashes have it: without padding."""
    return base64.b64encode(data).decode().rstrip("=")


def from_base64(text: str | bytes) -> bytes | None:
    """The bytes, with or without padding in the text; None for what is no base64."""
    text = text.encode() if isinstance(text, str) else text
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
