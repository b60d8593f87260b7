"""Who may do what: users, their rules, one table of actions and one gate.

Every operation of every dialect has one name in ``ACTIONS`` and passes ``Principal.check`` with the
name of the resource. The rules of this module:

1. A deny wins over every allow; what no rule allows is denied. No rules means no rights.
2. What cannot be understood is refused when the users are loaded, never skipped: an action pattern
   that matches no action, an empty name, an unknown field. The users in force stay as they were.
3. Rights follow the users at once. After :meth:`Access.replace` a principal that was handed out
   before answers by the new rules; one whose user is gone, or has a new password, has no rights
   any more and never gets them back.
4. A pattern knows ``*`` (any run of characters, also none, also across ``/``) and ``?`` (one
   character). Text from a user never becomes a pattern: ``%u`` is compared letter by letter.
   A user name with wildcards, separators or control characters fails closed: ``%u`` then stands
   for nothing in an allow rule and for everything in a deny rule. ``%%`` is a percent sign.
5. Matching takes time linear in the name, whatever the pattern; there is no backtracking, no `re`.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Literal, TypeAlias

import msgspec

from .errors import InvalidArgument, PermissionDenied, Unauthenticated

__all__ = [
    "ACTIONS",
    "ANONYMOUS_NAME",
    "BROKER_NAME",
    "DECISIONS_CACHED_MAX",
    "DECISION_NAME_CHARACTERS_MAX",
    "PATTERNS_PER_RULE_MAX",
    "PATTERN_CHARACTERS_MAX",
    "RULES_PER_USER_MAX",
    "SYSTEM",
    "USERS_MAX",
    "USER_NAME_CHARACTERS_MAX",
    "Access",
    "Matcher",
    "Part",
    "Principal",
    "Rule",
    "User",
    "Wild",
    "wildcard_matcher",
]

ACTIONS: dict[str, str] = {
    "queue:Send": "put messages into a queue",
    "queue:Receive": "take messages from a queue: receive, consume, extend, acknowledge, nack",
    "queue:Browse": "look at the messages of a queue without taking them",
    "queue:Purge": "drop all messages of a queue",
    "queue:Declare": "create a queue or change its settings",
    "queue:Delete": "delete a queue",
    "queue:Redrive": "move messages out of a dead-letter queue",
    "queue:Describe": "read the settings and counters of a queue, see it in lists",
    "broker:Describe": "read the state and counters of the broker",
    "broker:Admin": "reload, drain and change the broker itself",
}

# The name that the broker:* actions are checked with.
BROKER_NAME = "broker"

ANONYMOUS_NAME = "$anonymous"

USERS_MAX = 10_000
RULES_PER_USER_MAX = 100
PATTERNS_PER_RULE_MAX = 100
PATTERN_CHARACTERS_MAX = 1_024
USER_NAME_CHARACTERS_MAX = 256
# Per principal. Together they keep the decisions of one user below half a megabyte.
DECISIONS_CACHED_MAX = 1_024
DECISION_NAME_CHARACTERS_MAX = 256

# Wildcards and separators of some dialect, or of the patterns here; see rule 4.
_UNSAFE_IN_USER_NAME = frozenset("*?%/+#$>")
_HASH_PREFIXES = ("$argon2id$", "$scrypt$")
_NAME_CHARACTERS_SHOWN = 80


class Wild(Enum):
    """A wildcard between the literal parts of a pattern."""

    ONE = "any one character"
    RUN = "any run of characters, also an empty one"


Part: TypeAlias = str | Wild
Matcher: TypeAlias = Callable[[str], bool]


def wildcard_matcher(parts: Sequence[Part]) -> Matcher:
    """A function that says whether a text matches the parts, in time linear in the text.

    Rules here and ``LIKE`` in selectors are both made of these parts, so that a literal text can
    never be mistaken for a wildcard.
    """
    if Wild.ONE in parts:
        return _automaton(parts)
    pieces = [""]
    for part in parts:
        if isinstance(part, str):
            pieces[-1] += part
        else:
            pieces.append("")
    if len(pieces) == 1:
        return pieces[0].__eq__
    return _run_matcher(pieces[0], [piece for piece in pieces[1:-1] if piece], pieces[-1])


def _run_matcher(prefix: str, middle: list[str], suffix: str) -> Matcher:
    """Only runs between the pieces: taking each piece as far left as possible is exact."""

    def matches(text: str) -> bool:
        at, end = len(prefix), len(text) - len(suffix)
        if at > end or not text.startswith(prefix) or not text.endswith(suffix):
            return False
        for piece in middle:
            at = text.find(piece, at, end)
            if at < 0:
                return False
            at += len(piece)
        return True

    return matches


def _automaton(parts: Sequence[Part]) -> Matcher:
    """All ways to match at once: bit i of ``state`` says that i characters of the pattern are met.

    A run keeps its bit alive over any character. One shift and two masks per character, so nothing
    that a pattern or a text contains can make it slow.
    """
    bit, runs, any_one = 1, 0, 0
    takes: dict[str, int] = {}
    for part in parts:
        if part is Wild.RUN:
            runs |= bit
        elif part is Wild.ONE:
            bit <<= 1
            any_one |= bit
        elif isinstance(part, str):
            for character in part:
                bit <<= 1
                takes[character] = takes.get(character, 0) | bit
    accept = bit
    takes = {character: mask | any_one for character, mask in takes.items()}

    def matches(text: str) -> bool:
        state = 1
        for character in text:
            state = (state << 1) & takes.get(character, any_one) | (state & runs)
            if not state:
                return False
        return bool(state & accept)

    return matches


def _parts(pattern: str, user: Part | None) -> list[Part] | None:
    """The parts of a name pattern, ``user`` in place of ``%u``; None if that is needed but None."""
    parts: list[Part] = []
    characters = iter(pattern)
    for character in characters:
        if character == "*":
            parts.append(Wild.RUN)
        elif character == "?":
            parts.append(Wild.ONE)
        elif character == "%":
            following = next(characters, "")
            if following == "u":
                if user is None:
                    return None
                parts.append(user)
            elif following == "%":
                parts.append("%")
            else:
                raise ValueError(
                    f"name pattern {pattern!r}: '%{following}' stands for nothing;"
                    " only %u (the user's name) and %% are known"
                )
        else:
            parts.append(character)
    return parts


def _actions_matching(pattern: str) -> frozenset[str]:
    wild: dict[str, Part] = {"*": Wild.RUN, "?": Wild.ONE}
    matches = wildcard_matcher([wild.get(character, character) for character in pattern])
    return frozenset(action for action in ACTIONS if matches(action))


def _check_patterns(field: str, patterns: tuple[str, ...]) -> None:
    if not isinstance(patterns, tuple):
        raise ValueError(f"{field} must be a list of patterns")
    if not patterns:
        raise ValueError(f"{field} must not be empty: a rule about nothing is a mistake")
    if len(patterns) > PATTERNS_PER_RULE_MAX:
        raise ValueError(f"{field} holds {len(patterns)} patterns, at most {PATTERNS_PER_RULE_MAX}")
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern:
            raise ValueError(f"{field} must not contain an empty pattern")
        if len(pattern) > PATTERN_CHARACTERS_MAX:
            raise ValueError(
                f"a pattern in {field} has {len(pattern)} characters,"
                f" at most {PATTERN_CHARACTERS_MAX}"
            )
        if not pattern.isprintable():
            raise ValueError(f"{field} pattern {pattern!r} contains a control character")


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Allow or deny some actions on the resources with some names.

    Raises:
        ValueError: a pattern is empty or malformed, or an action pattern matches no action.
    """

    effect: Literal["allow", "deny"]
    actions: tuple[str, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.effect not in ("allow", "deny"):
            raise ValueError(f"effect must be 'allow' or 'deny', not {self.effect!r}")
        _check_patterns("actions", self.actions)
        _check_patterns("names", self.names)
        for pattern in self.actions:
            if not _actions_matching(pattern):
                kind = pattern.partition(":")[0]
                known = [action for action in ACTIONS if action.startswith(f"{kind}:")]
                raise ValueError(
                    f"unknown action {pattern!r}: matches none of {', '.join(known or ACTIONS)}"
                )
        for pattern in self.names:
            _parts(pattern, "")


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who can log in. Without rules the user may do nothing.

    Both structs check themselves, also when msgspec converts configuration data to them.

    ``password_hash`` is what ``passwords.hash_password`` returned, never a password; empty means
    that no password opens this user.

    Raises:
        ValueError: the name is blank or reserved, or the hash is not a hash.
    """

    name: str
    password_hash: str = ""
    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        name = self.name
        if not isinstance(name, str) or not name.strip():
            raise ValueError("a user's name must not be blank")
        if len(name) > USER_NAME_CHARACTERS_MAX:
            raise ValueError(
                f"a user's name has {len(name)} characters, at most {USER_NAME_CHARACTERS_MAX}"
            )
        if not name.isprintable() or name != name.strip():
            raise ValueError(
                f"user {name!r}: the name has control characters or spaces at its ends"
            )
        if name.startswith("$"):
            raise ValueError(f"user {name!r}: names that begin with '$' are the broker's own")
        if self.password_hash and not self.password_hash.startswith(_HASH_PREFIXES):
            # Not echoed: it may well be the password itself.
            raise ValueError(
                f"user {name!r}: password_hash is not a hash, which begins with"
                f" {' or '.join(_HASH_PREFIXES)}"
            )
        if not isinstance(self.rules, tuple):
            raise ValueError(f"user {name!r}: rules must be a list of rules")
        if len(self.rules) > RULES_PER_USER_MAX:
            raise ValueError(
                f"user {name!r} has {len(self.rules)} rules, at most {RULES_PER_USER_MAX}"
            )

    def __repr__(self) -> str:
        """Without the hash, so that it does not end up in a log."""
        return f"User(name={self.name!r}, password_hash=<hidden>, rules={self.rules!r})"


# For each action: what denies it, what allows it.
_Table: TypeAlias = dict[str, tuple[list[Matcher], list[Matcher]]]


def _compile(user: User) -> _Table:
    """The rules of a user as one row per action, with the user's name filled in."""
    safe = user.name.isprintable() and _UNSAFE_IN_USER_NAME.isdisjoint(user.name)
    table: _Table = {}
    for rule in user.rules:
        denies = rule.effect == "deny"
        stands_for: Part | None = user.name if safe else Wild.RUN if denies else None
        parts = [_parts(pattern, stands_for) for pattern in rule.names]
        matchers = [wildcard_matcher(part) for part in parts if part is not None]
        for action in frozenset[str]().union(*map(_actions_matching, rule.actions)):
            row = table.setdefault(action, ([], []))
            row[0 if denies else 1].extend(matchers)
    return table


class Principal:
    """An identity that was authenticated. Hold it as long as the connection, check every call.

    Get one from :meth:`Access.principal`; all connections of a user share it.
    """

    __slots__ = ("_active", "_decisions", "_table", "name")

    def __init__(self, name: str, table: _Table) -> None:
        self.name = name
        self._active = True
        self._table = table
        self._decisions: dict[tuple[str, str], bool] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}{'' if self._active else ' revoked'}>"

    @property
    def active(self) -> bool:
        """False once the user was removed or got a new password: close the connection."""
        return self._active

    def check(self, action: str, name: str) -> None:
        """Return if the principal may do ``action`` to the resource ``name``.

        Raises:
            PermissionDenied: no rule allows it, or one denies it.
            AssertionError: the action is not in ``ACTIONS``, a mistake in the calling code.
        """
        allowed = self._decisions.get((action, name))
        if allowed is None:
            allowed = self._decide(action, name)
        if not allowed:
            raise PermissionDenied(self._refusal(action, name))

    def allows(self, action: str, name: str) -> bool:
        """Like :meth:`check`, as an answer; for lists that show only what the principal may see."""
        allowed = self._decisions.get((action, name))
        return self._decide(action, name) if allowed is None else allowed

    def _decide(self, action: str, name: str) -> bool:
        if action not in ACTIONS:
            raise AssertionError(f"action {action!r} is not in ACTIONS")
        denies, allows = self._table.get(action, ((), ()))
        allowed = not any(matches(name) for matches in denies) and any(
            matches(name) for matches in allows
        )
        if len(name) <= DECISION_NAME_CHARACTERS_MAX:
            if len(self._decisions) >= DECISIONS_CACHED_MAX:
                self._decisions.clear()
            self._decisions[action, name] = allowed
        return allowed

    def _refusal(self, action: str, name: str) -> str:
        if not self._active:
            return f"{self.name!r} is no longer valid: log in again"
        if len(name) > _NAME_CHARACTERS_SHOWN:
            name = name[:_NAME_CHARACTERS_SHOWN] + "…"
        return f"{self.name!r} may not {action} on {name!r}"

    def _assign(self, table: _Table) -> None:
        self._table = table
        self._decisions.clear()

    def _revoke(self) -> None:
        self._active = False
        self._assign({})


class _Unlimited(Principal):
    """May do everything, as long as it is active."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name, {})

    def check(self, action: str, name: str) -> None:
        if not self.allows(action, name):
            raise PermissionDenied(self._refusal(action, name))

    def allows(self, action: str, name: str) -> bool:
        if action not in ACTIONS:
            raise AssertionError(f"action {action!r} is not in ACTIONS")
        return self._active


# The program that embeds the broker, and the broker itself.
SYSTEM: Principal = _Unlimited("$system")


class Access:
    """The users in force, and the principals that were handed out for them.

    Raises:
        InvalidArgument: two users have one name, or there are too many.
    """

    __slots__ = ("_anonymous", "_principals", "_users", "_version")

    def __init__(self, users: Iterable[User] = ()) -> None:
        self._users = _by_name(users)
        self._principals: dict[str, Principal] = {}
        self._anonymous: Principal | None = None
        self._version = 1

    @property
    def version(self) -> int:
        """Rises with every :meth:`replace`; whoever remembers an answer compares it."""
        return self._version

    @property
    def users(self) -> tuple[User, ...]:
        return tuple(self._users.values())

    def user(self, name: str) -> User | None:
        return self._users.get(name)

    def principal(self, name: str) -> Principal:
        """The principal of a user. The caller has authenticated it: this asks for no password.

        Raises:
            Unauthenticated: there is no such user.
        """
        principal = self._principals.get(name)
        if principal is None:
            user = self._users.get(name)
            if user is None:
                raise Unauthenticated("no such user")
            principal = self._principals[name] = Principal(name, _compile(user))
        return principal

    def anonymous_allowed(self, loopback: bool) -> bool:
        """Nobody needs to log in on a loopback address as long as no user is defined."""
        return loopback and not self._users

    def anonymous(self, loopback: bool) -> Principal:
        """The principal of a connection that did not log in: may do everything, until a user is.

        Raises:
            Unauthenticated: see :meth:`anonymous_allowed`.
        """
        if not self.anonymous_allowed(loopback):
            raise Unauthenticated("this listener needs a user and a password")
        if self._anonymous is None:
            self._anonymous = _Unlimited(ANONYMOUS_NAME)
        return self._anonymous

    def replace(self, users: Iterable[User]) -> None:
        """Put other users in force, all or nothing, for all connections at once.

        Raises:
            InvalidArgument: nothing was changed.
        """
        replaced = self._users
        users_new = _by_name(users)
        tables = {
            name: _compile(users_new[name])
            for name in self._principals
            if name in users_new and users_new[name].password_hash == replaced[name].password_hash
        }
        # From here on nothing can fail.
        for name in list(self._principals):
            if name in tables:
                self._principals[name]._assign(tables[name])
            else:
                self._principals.pop(name)._revoke()
        if users_new and self._anonymous is not None:
            self._anonymous._revoke()
            self._anonymous = None
        self._users = users_new
        self._version += 1


def _by_name(users: Iterable[User]) -> dict[str, User]:
    found: dict[str, User] = {}
    for user in users:
        if not isinstance(user, User):
            raise InvalidArgument(f"users: expected a User, got {type(user).__name__}")
        if user.name in found:
            raise InvalidArgument(f"users: {user.name!r} is defined twice")
        if len(found) == USERS_MAX:
            raise InvalidArgument(f"users: more than {USERS_MAX}")
        found[user.name] = user
    return found
