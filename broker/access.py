"""Who may do what: users, their rules, one table of actions and one gate.

Every operation of every dialect has one name in ``ACTIONS`` and passes ``Principal.check`` with the
name of the resource. The rules of this module:

1. A deny wins over every allow; what no rule allows is denied. No rules means no rights.
2. What cannot be understood is refused when the users are loaded, never skipped: an action pattern
   that matches no action, an empty name, an unknown field. The users in force stay as they were.
3. Rights follow the users at once. After :meth:`Access.replace` a principal that was handed out
   before answers by the new rules; one whose user is gone, or has a new password, has no rights
   any more and never gets them back.
4. Names are matched by the patterns of ``patterns.py``. ``%u`` is the user's name and ``%c`` the
   client id, both letter by letter. Either one with wildcards, separators or control characters
   fails closed, and so does ``%c`` where there is no client id, or a very long one: it then stands
   for nothing in an allow rule and for everything in a deny rule.
5. Who subscribes to a filter with wildcards needs one allow pattern that covers all of it, and no
   deny pattern that does. A deny that covers a part acts when something is delivered: so whoever
   delivers checks ``topic:Subscribe`` again, with the name of the topic, on every path (live,
   retained, replayed, shared, will).
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Literal, TypeAlias
from weakref import WeakValueDictionary

import msgspec

from .errors import InvalidArgument, PermissionDenied, Unauthenticated
from .patterns import Filter, NameMatcher, NamePattern, Part, Variable, Wild, wildcard_matcher

__all__ = [
    "ACTIONS",
    "ANONYMOUS_NAME",
    "BROKER_NAME",
    "CLIENT_ID_CHARACTERS_MAX",
    "DECISIONS_CACHED_MAX",
    "DECISIONS_PER_CLIENT_CACHED_MAX",
    "DECISION_NAME_CHARACTERS_MAX",
    "EXPIRES_NEVER_MS",
    "PATTERNS_PER_RULE_MAX",
    "PATTERN_CHARACTERS_MAX",
    "RULES_PER_USER_MAX",
    "SYSTEM",
    "USERS_MAX",
    "USER_NAME_CHARACTERS_MAX",
    "Access",
    "Principal",
    "Rule",
    "User",
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
    "topic:Publish": "publish to a topic, also by a will, and set or clear its retained message",
    "topic:Subscribe": "subscribe to topics by a filter, and get what is published to a topic",
    "topic:Describe": "see a topic, its subscriptions and its retained message in lists",
    "topic:Bind": "have what is published to a filter put into a queue, a stream or a webhook",
    "topic:Unbind": "end such a binding",
    "stream:Append": "append records to a stream",
    "stream:Read": "read the records of a stream",
    "stream:Declare": "create a stream or change its settings",
    "stream:Delete": "delete a stream",
    "stream:Reshard": "split, merge and rescale the shards of a stream",
    "stream:Describe": "read the settings and shards of a stream, see it in lists",
    "group:Join": "read a stream as a member of a group, and checkpoint for it",
    "group:Reset": "move the checkpoints of a group",
    "group:Delete": "delete a group with its checkpoints",
    "group:Describe": "read the members, checkpoints and lag of a group, see it in lists",
    "session:Connect": "connect with a client id, begin or resume its session",
    "session:Describe": "read the state and counters of a session, see it in lists",
    "session:Kick": "end a client's connection, or delete its session",
    "webhook:Declare": "create a webhook, change its settings, have it asked again",
    "webhook:Trust": "declare a webhook that is not asked to confirm",
    "webhook:Delete": "delete a webhook",
    "webhook:Describe": "read the settings and state of a webhook, see it in lists",
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
CLIENT_ID_CHARACTERS_MAX = 256  # in a pattern; see rule 4
# Per user. Together they keep the decisions of one user below half a megabyte.
DECISIONS_CACHED_MAX = 1_024
DECISION_NAME_CHARACTERS_MAX = 256
# Where the rules of a user depend on the client id, and every client has decisions of its own.
DECISIONS_PER_CLIENT_CACHED_MAX = 128

EXPIRES_NEVER_MS = 2**63 - 1

# Wildcards and separators of some dialect, or of the patterns here; see rule 4.
_UNSAFE_IN_PATTERN = frozenset("*?%/+#$>")
_HASH_PREFIXES = ("$argon2id$", "$scram-sha-256$", "$scrypt$")
_NAME_CHARACTERS_SHOWN = 80


@lru_cache(maxsize=1_024)
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
            NamePattern(pattern)


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
_Table: TypeAlias = dict[str, tuple[list[NameMatcher], list[NameMatcher]]]


def _compile(user: User, client_id: str) -> _Table:
    """The rules of a user as one row per action, with the variables filled in."""
    table: _Table = {}
    for rule in user.rules:
        denies = rule.effect == "deny"
        instead = Wild.RUN if denies else None
        values: dict[Variable, Part | None] = {
            Variable.USER: user.name if _is_safe(user.name) else instead,
            Variable.CLIENT: client_id if _is_safe(client_id) else instead,
        }
        found = [NamePattern(pattern).filled(values) for pattern in rule.names]
        matchers = [matcher for matcher in found if matcher is not None]
        for action in frozenset[str]().union(*map(_actions_matching, rule.actions)):
            row = table.setdefault(action, ([], []))
            row[0 if denies else 1].extend(matchers)
    return table


def _is_safe(text: str) -> bool:
    return (
        0 < len(text) <= CLIENT_ID_CHARACTERS_MAX
        and text.isprintable()
        and _UNSAFE_IN_PATTERN.isdisjoint(text)
    )


def _mentions_client(user: User) -> bool:
    # It also finds the "%%c" that means "%c" in a name: then clients share less than they could.
    return any("%c" in pattern for rule in user.rules for pattern in rule.names)


class _Rights:
    """What the rules of a user come to, compiled when first asked, and the answers so far.

    All principals of a user share it, unless the rules depend on the client id.
    """

    __slots__ = ("_client_id", "_decisions_max", "_table", "_user", "decisions")

    def __init__(self, user: User | None, client_id: str = "", decisions_max: int = 0) -> None:
        self._user = user
        self._client_id = client_id
        self._decisions_max = decisions_max
        self._table: _Table | None = None
        self.decisions: dict[tuple[str, str], bool] = {}

    def _row(self, action: str) -> tuple[list[NameMatcher], list[NameMatcher]]:
        _check_action(action)
        if self._table is None:
            self._table = {} if self._user is None else _compile(self._user, self._client_id)
        return self._table.get(action, ([], []))

    def decide(self, action: str, name: str) -> bool:
        denies, allows = self._row(action)
        allowed = _any_matches(allows, name) and not _any_matches(denies, name)
        if len(name) <= DECISION_NAME_CHARACTERS_MAX:
            if len(self.decisions) >= self._decisions_max:
                self.decisions.clear()
            self.decisions[action, name] = allowed
        return allowed

    def decide_filter(self, action: str, text: str) -> bool:
        denies, allows = self._row(action)
        try:
            wanted = Filter(text)
        except ValueError:
            return False
        return not any(pattern.covers(wanted) for pattern in denies) and any(
            pattern.covers(wanted) for pattern in allows
        )


def _any_matches(patterns: list[NameMatcher], name: str) -> bool:
    for pattern in patterns:
        if pattern.matches(name):
            return True
    return False


def _check_action(action: str) -> None:
    if action not in ACTIONS:
        raise AssertionError(f"action {action!r} is not in ACTIONS")


class Principal:
    """An identity that was authenticated. Hold it as long as the connection, check every call.

    Get one from :meth:`Access.principal`.

    Attributes:
        name: the user's.
        client_id: of the connection or session it was made for; empty where dialects have none.
        expires_ms: when the proof of identity ends and the connection with it, unix ms.
    """

    __slots__ = (
        "__weakref__",
        "_active",
        "_decisions",
        "_rights",
        "client_id",
        "expires_ms",
        "name",
    )

    def __init__(self, name: str, client_id: str, expires_ms: int, rights: _Rights) -> None:
        self.name = name
        self.client_id = client_id
        self.expires_ms = expires_ms
        self._active = True
        self._assign(rights)

    def __repr__(self) -> str:
        client = f" {self.client_id!r}" if self.client_id else ""
        return f"<{type(self).__name__} {self.name!r}{client}{'' if self._active else ' revoked'}>"

    @property
    def active(self) -> bool:
        """False once the user was removed or got a new password: close the connection."""
        return self._active

    def valid_at(self, now_ms: int) -> bool:
        """Whether it is :attr:`active` and not expired: else close the connection."""
        return self._active and now_ms < self.expires_ms

    def check(self, action: str, name: str) -> None:
        """Return if the principal may do ``action`` to the resource ``name``.

        Raises:
            PermissionDenied: no rule allows it, or one denies it.
            AssertionError: the action is not in ``ACTIONS``, a mistake in the calling code.
        """
        allowed = self._decisions.get((action, name))
        if allowed is None:
            allowed = self._rights.decide(action, name)
        if not allowed:
            raise PermissionDenied(self._refusal(action, name))

    def allows(self, action: str, name: str) -> bool:
        """Like :meth:`check`, as an answer; for lists that show only what the principal may see."""
        allowed = self._decisions.get((action, name))
        return self._rights.decide(action, name) if allowed is None else allowed

    def check_filter(self, action: str, text: str) -> None:
        """Return if the principal may do ``action`` to all names that the topic filter matches.

        ``text`` is an MQTT filter without ``$share/GROUP/``. A name that it matches may still be
        denied: see rule 5 of the module.

        Raises:
            PermissionDenied: no allow pattern covers the filter, a deny pattern does, or it is
                malformed.
            AssertionError: the action is not in ``ACTIONS``.
        """
        if not self.allows_filter(action, text):
            raise PermissionDenied(self._refusal(action, text))

    def allows_filter(self, action: str, text: str) -> bool:
        """Like :meth:`check_filter`, as an answer."""
        return self._rights.decide_filter(action, text)

    def _refusal(self, action: str, name: str) -> str:
        if not self._active:
            return f"{self.name!r} is no longer valid: log in again"
        if len(name) > _NAME_CHARACTERS_SHOWN:
            name = name[:_NAME_CHARACTERS_SHOWN] + "…"
        return f"{self.name!r} may not {action} on {name!r}"

    def _assign(self, rights: _Rights) -> None:
        self._rights = rights
        self._decisions = rights.decisions

    def _revoke(self) -> None:
        self._active = False
        self._assign(_Rights(None))


class _Unlimited(Principal):
    """May do everything, as long as it is active."""

    __slots__ = ()

    def __init__(self, name: str, client_id: str = "") -> None:
        super().__init__(name, client_id, EXPIRES_NEVER_MS, _Rights(None))

    def check(self, action: str, name: str) -> None:
        if not (self._active and action in ACTIONS) and not self.allows(action, name):
            raise PermissionDenied(self._refusal(action, name))

    def allows(self, action: str, name: str) -> bool:
        _check_action(action)
        return self._active

    def allows_filter(self, action: str, text: str) -> bool:
        return self.allows(action, text)


# The program that embeds the broker, and the broker itself.
SYSTEM: Principal = _Unlimited("$system")


class Access:
    """The users in force, and the principals that were handed out for them.

    Raises:
        InvalidArgument: two users have one name, or there are too many.
    """

    __slots__ = ("_principals", "_shared", "_users", "_watchers", "version")

    def __init__(self, users: Iterable[User] = ()) -> None:
        self._users = _by_name(users)
        self.version = 1  # rises with every replace; whoever remembers an answer compares it
        self._watchers: dict[Callable[[], None], None] = {}
        # By user; without those whose rules depend on the client id.
        self._shared: dict[str, _Rights] = {}
        # By user, client id and expiry. Weak: client ids come and go without end.
        self._principals: WeakValueDictionary[tuple[str, str, int], Principal]
        self._principals = WeakValueDictionary()

    def watch(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called after every :meth:`replace`, until :meth:`unwatch`.

        Called in the middle of the change: only take a note.
        """
        self._watchers[callback] = None

    def unwatch(self, callback: Callable[[], None]) -> None:
        """Call it no more, if it was."""
        self._watchers.pop(callback, None)

    @property
    def users(self) -> tuple[User, ...]:
        return tuple(self._users.values())

    def user(self, name: str) -> User | None:
        return self._users.get(name)

    def principal(
        self, name: str, client_id: str = "", expires_ms: int = EXPIRES_NEVER_MS
    ) -> Principal:
        """The principal of a user. The caller has authenticated it: this asks for no password.

        The same for the same arguments, as long as somebody holds it. All principals of a user
        share their rights, unless the user's rules mention ``%c``.

        Raises:
            Unauthenticated: there is no such user.
        """
        user = self._users.get(name)
        if user is None:
            raise Unauthenticated("no such user")
        principal = self._principals.get((name, client_id, expires_ms))
        if principal is None:
            rights = self._rights(self._shared, user, client_id)
            principal = Principal(name, client_id, expires_ms, rights)
            self._principals[name, client_id, expires_ms] = principal
        return principal

    def for_client(self, who: Principal, client_id: str) -> Principal:
        """The principal of who was just authenticated, now that the client id is known.

        Raises:
            Unauthenticated: ``who`` has been revoked meanwhile.
        """
        if not who.active:
            raise Unauthenticated("no such user")
        if who is SYSTEM:
            return who
        if who.name == ANONYMOUS_NAME:
            return self._anonymous(client_id)
        return self.principal(who.name, client_id, who.expires_ms)

    def owner(self, name: str, client_id: str) -> Principal:
        """The principal that a kept session belongs to, by the name that was kept with it.

        Raises:
            Unauthenticated: there is no such user any more, or it was anonymous, and now there are
                users.
        """
        if name == SYSTEM.name:
            return SYSTEM
        if name == ANONYMOUS_NAME and not self._users:
            return self._anonymous(client_id)
        return self.principal(name, client_id)

    @staticmethod
    def _rights(shared: dict[str, _Rights], user: User, client_id: str) -> _Rights:
        if _mentions_client(user):
            return _Rights(user, client_id, DECISIONS_PER_CLIENT_CACHED_MAX)
        return shared.setdefault(user.name, _Rights(user, "", DECISIONS_CACHED_MAX))

    def anonymous_allowed(self, loopback: bool) -> bool:
        """Nobody needs to log in on a loopback address as long as no user is defined."""
        return loopback and not self._users

    def anonymous(self, loopback: bool, client_id: str = "") -> Principal:
        """The principal of a connection that did not log in: may do everything, until a user is.

        Raises:
            Unauthenticated: see :meth:`anonymous_allowed`.
        """
        if not self.anonymous_allowed(loopback):
            raise Unauthenticated("this listener needs a user and a password")
        return self._anonymous(client_id)

    def _anonymous(self, client_id: str) -> Principal:
        key = (ANONYMOUS_NAME, client_id, EXPIRES_NEVER_MS)
        principal = self._principals.get(key)
        if principal is None:
            principal = self._principals[key] = _Unlimited(ANONYMOUS_NAME, client_id)
        return principal

    def replace(self, users: Iterable[User]) -> None:
        """Put other users in force, all or nothing, for all connections at once.

        Raises:
            InvalidArgument: nothing was changed.
        """
        users_new = _by_name(users)
        # From here on nothing can fail.
        users_old, self._users = self._users, users_new
        self._shared = {}
        for principal in list(self._principals.values()):
            user, old = users_new.get(principal.name), users_old.get(principal.name)
            if user is not None and old is not None and user.password_hash == old.password_hash:
                principal._assign(self._rights(self._shared, user, principal.client_id))
            elif principal.name != ANONYMOUS_NAME or users_new:
                principal._revoke()
                del self._principals[principal.name, principal.client_id, principal.expires_ms]
        self.version += 1
        for callback in list(self._watchers):
            callback()


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
