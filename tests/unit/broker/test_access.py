"""Rights: a deny wins, silence denies, a mistake in the users changes nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker import access
from braidmq.broker.access import (
    ACTIONS,
    DECISION_NAME_CHARACTERS_MAX,
    DECISIONS_CACHED_MAX,
    PATTERN_CHARACTERS_MAX,
    PATTERNS_PER_RULE_MAX,
    RULES_PER_USER_MAX,
    SYSTEM,
    USER_NAME_CHARACTERS_MAX,
    Access,
    Principal,
    Rule,
    User,
)
from braidmq.broker.errors import InvalidArgument, PermissionDenied, Unauthenticated

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


def allow(actions: str, names: str) -> Rule:
    return Rule("allow", tuple(actions.split()), tuple(names.split()))


def deny(actions: str, names: str) -> Rule:
    return Rule("deny", tuple(actions.split()), tuple(names.split()))


def users_from(data: object) -> tuple[User, ...]:
    """As a configuration file is read."""
    return msgspec.convert(data, tuple[User, ...])


def principal_with(*rules: Rule, name: str = "alice") -> Principal:
    return Access([User(name, HASH, rules)]).principal(name)


# --- rules and users as they are written


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("permit", ("*",), ("*",)), "effect must be 'allow' or 'deny', not 'permit'"),
        (("allow", (), ("*",)), "actions must not be empty"),
        (("allow", ("*",), ()), "names must not be empty"),
        (("allow", "*", ("*",)), "actions must be a list of patterns"),
        (("allow", ("*",), "orders"), "names must be a list of patterns"),
        (("allow", ("",), ("*",)), "actions must not contain an empty pattern"),
        (("allow", ("*",), ("a", "")), "names must not contain an empty pattern"),
        (("allow", ("*",), ("a\n",)), "names pattern 'a\\n' contains a control character"),
        (("allow", ("*",), ("%n",)), "name pattern '%n': '%n' stands for nothing"),
        (("deny", ("*",), ("secret#",)), "name pattern 'secret#': '+' stands for a whole level"),
        (("allow", ("*",), ("a%",)), "name pattern 'a%': '%' stands for nothing"),
        (("allow", ("queue:Sned",), ("*",)), "unknown action 'queue:Sned': matches none of queue:"),
        (("deny", ("queue:send",), ("*",)), "unknown action 'queue:send'"),
        (("deny", ("queue:*", "tpoic:*"), ("*",)), "unknown action 'tpoic:*': matches none of"),
        (
            ("allow", ("*",) * (PATTERNS_PER_RULE_MAX + 1), ("*",)),
            f"actions holds 101 patterns, at most {PATTERNS_PER_RULE_MAX}",
        ),
        (
            ("allow", ("*",), ("x" * (PATTERN_CHARACTERS_MAX + 1),)),
            f"a pattern in names has 1025 characters, at most {PATTERN_CHARACTERS_MAX}",
        ),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(fields: tuple, text: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(text)):
        Rule(*fields)


def test_rules_and_users_may_be_as_large_as_the_limits_say() -> None:
    rule = Rule("allow", ("*",) * PATTERNS_PER_RULE_MAX, ("x" * PATTERN_CHARACTERS_MAX,))
    User("x" * USER_NAME_CHARACTERS_MAX, HASH, (rule,) * RULES_PER_USER_MAX)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (("",), "a user's name must not be blank"),
        ((" \t",), "a user's name must not be blank"),
        ((None,), "a user's name must not be blank"),
        ((" alice",), "the name has control characters or spaces at its ends"),
        (("al\x00ice",), "the name has control characters"),
        (("al\u202eice",), "the name has control characters"),
        (("$system",), "names that begin with '$' are the broker's own"),
        (("x" * (USER_NAME_CHARACTERS_MAX + 1),), "a user's name has 257 characters, at most 256"),
        (("alice", "secret"), "password_hash is not a hash"),
        (("alice", "$1$md5$crypt"), "password_hash is not a hash"),
        (("alice", HASH, [allow("*", "*")]), "rules must be a list of rules"),
        (
            ("alice", HASH, (allow("*", "*"),) * (RULES_PER_USER_MAX + 1)),
            f"has 101 rules, at most {RULES_PER_USER_MAX}",
        ),
    ],
)
def test_a_user_that_cannot_be_meant_is_refused(fields: tuple, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        User(*fields)


def test_a_password_written_in_place_of_its_hash_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="password_hash") as caught:
        User("alice", "hunter2")
    assert "hunter2" not in str(caught.value)
    assert "c2FsdA" not in repr(User("alice", HASH))


def test_users_come_from_configuration_data() -> None:
    bob = User("bob", HASH)
    rule = {"effect": "allow", "actions": ["queue:*"], "names": ["%u-*"]}
    users = users_from([{"name": "alice", "password_hash": HASH, "rules": [rule]}, bob])
    assert users == (User("alice", HASH, (allow("queue:*", "%u-*"),)), bob)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "Expected `array`, got `null`"),
        ([{}], "missing required field `name`"),
        ([{"name": ""}], "a user's name must not be blank - at `$[0]`"),
        ([{"name": "a"}, {"name": "b", "rulse": []}], "unknown field `rulse` - at `$[1]`"),
        ([{"name": "a", "rules": None}], "`$[0].rules`"),
        ([{"name": "a", "rules": [{"effekt": "deny"}]}], "unknown field `effekt`"),
        ([{"name": "a", "rules": [{"effect": "allow", "actions": ["*"]}]}], "field `names`"),
        (
            [{"name": "a", "rules": [{"effect": "yes", "actions": ["*"], "names": ["*"]}]}],
            "`$[0].rules[0].effect`",
        ),
        (
            [{"name": "a", "rules": [{"effect": "deny", "actions": ["q:*"], "names": ["*"]}]}],
            "unknown action 'q:*'",
        ),
        (
            [{"name": "a", "rules": [{"effect": "deny", "actions": ["*"], "names": "*"}]}],
            "`$[0].rules[0].names`",
        ),
    ],
)
def test_users_that_are_not_understood_are_refused_with_their_place(
    data: object, text: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        users_from(data)
    assert text in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["name", "password_hash", "rules", "effect", "actions", "names"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_configuration_data_is_understood_or_refused(data: object) -> None:
    try:
        users = users_from(data)
    except msgspec.ValidationError:
        return
    assert all(isinstance(user, User) and user.name.strip() for user in users)


# --- decisions


def test_nothing_is_allowed_without_a_rule() -> None:
    principal = principal_with()
    assert not any(principal.allows(action, "orders") for action in ACTIONS)
    with pytest.raises(PermissionDenied, match=r"^'alice' may not queue:Send on 'orders'$"):
        principal.check("queue:Send", "orders")


def test_a_rule_allows_its_actions_on_its_names_only() -> None:
    principal = principal_with(allow("queue:Send queue:B*", "orders invoices-*"))
    allowed = {
        (action, name)
        for action in ACTIONS
        for name in ("orders", "invoices-eu", "invoices", "other")
        if principal.allows(action, name)
    }
    assert allowed == {
        (action, name)
        for action in ("queue:Send", "queue:Browse")
        for name in ("orders", "invoices-eu")
    }
    principal.check("queue:Send", "orders")


def test_a_deny_wins_wherever_it_stands() -> None:
    for rules in (
        (allow("*", "*"), deny("queue:Purge", "orders*")),
        (deny("queue:Purge", "orders*"), allow("*", "*")),
    ):
        principal = principal_with(*rules)
        assert not principal.allows("queue:Purge", "orders-eu")
        assert principal.allows("queue:Purge", "other")
        assert principal.allows("queue:Send", "orders-eu")


PATTERNS = st.lists(st.text("ab*?", min_size=1, max_size=4), min_size=1, max_size=3).map(tuple)
RULES = st.lists(
    st.builds(
        Rule,
        st.sampled_from(["allow", "deny"]),
        st.lists(
            st.sampled_from(["*", "queue:*", "queue:Send", "queue:?urge", "broker:*"]),
            min_size=1,
            max_size=2,
        ).map(tuple),
        PATTERNS,
    ),
    max_size=5,
)


def glob(pattern: str, text: str) -> bool:
    wild = {"*": ".*", "?": "."}
    expression = "".join(wild.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


@given(RULES, st.sampled_from(sorted(ACTIONS)), st.text("ab", max_size=4))
def test_a_decision_is_deny_over_allow_over_nothing(
    rules: list[Rule], action: str, name: str
) -> None:
    effects = {
        rule.effect
        for rule in rules
        if any(glob(pattern, action) for pattern in rule.actions)
        and any(glob(pattern, name) for pattern in rule.names)
    }
    principal = principal_with(*rules)
    for _ in range(2):  # decided, then remembered
        assert principal.allows(action, name) is ("allow" in effects and "deny" not in effects)


def test_an_unknown_action_is_a_mistake_of_the_caller() -> None:
    for principal in (principal_with(allow("*", "*")), SYSTEM):
        with pytest.raises(AssertionError, match="queue:Sned"):
            principal.check("queue:Sned", "orders")
        with pytest.raises(AssertionError, match="queue:Sned"):
            principal.allows("queue:Sned", "orders")


def test_every_action_is_a_kind_and_a_verb() -> None:
    for action, description in ACTIONS.items():
        assert re.fullmatch("[a-z]+:[A-Z][A-Za-z]+", action)
        assert description


def test_the_reference_lists_every_action() -> None:
    text = (Path(__file__).parents[3] / "docs" / "access.md").read_text()
    assert re.findall(r"^\| `([a-z]+:[A-Za-z]+)` \|", text, re.MULTILINE) == list(ACTIONS)


def test_a_refusal_shows_a_bounded_part_of_the_name_without_control_characters() -> None:
    with pytest.raises(PermissionDenied) as caught:
        principal_with().check("queue:Send", "\r\n\x1b[31m\u202e" + "x" * 10_000)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


# --- the user's name in a pattern


def test_a_user_name_stands_for_itself() -> None:
    principal = principal_with(allow("queue:*", "%u %u-* in.%u"), name="alice@example.com")
    for name in ("alice@example.com", "alice@example.com-x", "in.alice@example.com"):
        assert principal.allows("queue:Send", name)
    for name in ("bob", "bob-x", "alice@exampleXcom", "%u", ""):
        assert not principal.allows("queue:Send", name)


@pytest.mark.parametrize("name", ["*", "a*", "?", "a/b", "+", "#", "a#", "%u", "100%", "a$b", ">"])
def test_a_user_name_with_a_wildcard_fails_closed(name: str) -> None:
    # mosquitto CVE-2017-7650: a client called "#" could read everything.
    names = ["", "a", "ab", "bob", name, f"{name}-inbox", "bob-inbox", "a-inbox"]
    owner = principal_with(allow("queue:*", "%u %u-inbox"), name=name)
    assert [n for n in names if owner.allows("queue:Send", n)] == []
    # What would have been denied to a harmless name is denied to this one, and then some.
    barred = principal_with(allow("queue:*", "*"), deny("queue:*", "%u-inbox"), name=name)
    assert [n for n in names if barred.allows("queue:Send", n)] == ["", "a", "ab", "bob", name]


@given(
    st.text("ab*?%/+#$> ", min_size=1, max_size=4),
    st.lists(st.sampled_from(["%u", "%%", "*", "?", "a", "-"]), min_size=1, max_size=4),
    st.text("ab*?%/+#-", max_size=6),
)
def test_a_user_name_never_widens_a_pattern(user: str, pieces: list[str], name: str) -> None:
    pattern = "".join(pieces)
    try:
        principal = principal_with(allow("queue:Send", pattern), name=user)
    except ValueError:
        return
    if principal.allows("queue:Send", name):
        literal = {"%u": re.escape(user), "%%": "%", "*": ".*", "?": "."}
        expression = "".join(literal.get(piece, re.escape(piece)) for piece in pieces)
        assert re.fullmatch(expression, name)
        assert "%u" not in pieces or not set(user) & set("*?%/+#$>")


# --- remembered decisions


def test_decisions_are_remembered_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    principal = principal_with(allow("queue:Send", "*"))
    for number in range(DECISIONS_CACHED_MAX + 10):
        assert principal.allows("queue:Send", f"q{number}")
        assert len(principal._decisions) <= DECISIONS_CACHED_MAX
    principal.check("queue:Send", "again")
    monkeypatch.setattr(access._Rights, "decide", lambda *what: pytest.fail("decided once more"))
    principal.check("queue:Send", "again")
    assert principal.allows("queue:Send", "again")


def test_long_names_are_decided_but_not_remembered() -> None:
    principal = principal_with(allow("queue:Send", "*"))
    principal.check("queue:Send", "x" * (DECISION_NAME_CHARACTERS_MAX + 1))
    assert not principal._decisions
    principal.check("queue:Send", "x" * DECISION_NAME_CHARACTERS_MAX)
    assert len(principal._decisions) == 1


# --- who is who


def test_the_program_itself_may_do_everything() -> None:
    for action in ACTIONS:
        SYSTEM.check(action, "anything")
    assert SYSTEM.active and SYSTEM.name == "$system"


def test_all_connections_of_a_user_share_one_principal() -> None:
    users = Access([User("alice", HASH), User("bob", HASH)])
    assert users.principal("alice") is users.principal("alice")
    assert users.principal("alice") is not users.principal("bob")
    for name in ("", "carol", "Alice", "alice ", "$system", "$anonymous"):
        with pytest.raises(Unauthenticated):
            users.principal(name)


def test_anonymous_is_allowed_on_loopback_while_there_is_no_user() -> None:
    nobody, somebody = Access(), Access([User("alice", HASH)])
    assert nobody.anonymous_allowed(loopback=True)
    assert not nobody.anonymous_allowed(loopback=False)
    assert not somebody.anonymous_allowed(loopback=True)
    assert not somebody.anonymous_allowed(loopback=False)
    for action in ACTIONS:
        nobody.anonymous(loopback=True).check(action, "anything")
    for users, loopback in ((nobody, False), (somebody, True), (somebody, False)):
        with pytest.raises(Unauthenticated):
            users.anonymous(loopback)


# --- reload


def test_other_rules_hold_at_once() -> None:
    users = Access([User("alice", HASH, (allow("*", "*"),))])
    principal = users.principal("alice")
    principal.check("queue:Send", "orders")
    version = users.version
    users.replace([User("alice", HASH, (allow("queue:Browse", "*"),))])
    assert users.version > version
    assert users.principal("alice") is principal and principal.active
    principal.check("queue:Browse", "orders")
    with pytest.raises(PermissionDenied):
        principal.check("queue:Send", "orders")


@pytest.mark.parametrize(
    "after", [[], [User("bob", HASH)], [User("alice", HASH + "x", (allow("*", "*"),))]]
)
def test_a_removed_user_or_an_old_password_loses_all_rights_for_good(after: list[User]) -> None:
    before = [User("alice", HASH, (allow("*", "*"),))]
    users = Access(before)
    principal = users.principal("alice")
    principal.check("queue:Send", "orders")
    users.replace(after)
    for _ in range(2):
        assert not principal.active
        assert not principal.allows("queue:Send", "orders")
        assert repr(principal) == "<Principal 'alice' revoked>"
        with pytest.raises(PermissionDenied, match="'alice' is no longer valid: log in again"):
            principal.check("queue:Send", "orders")
        users.replace(before)  # a user of the same name is not the same principal
    assert users.principal("alice") is not principal
    users.principal("alice").check("queue:Send", "orders")


def test_anonymous_connections_end_with_the_first_user() -> None:
    users = Access()
    principal = users.anonymous(loopback=True)
    users.replace([])
    principal.check("queue:Send", "orders")
    users.replace([User("alice", HASH)])
    assert not principal.active
    with pytest.raises(PermissionDenied):
        principal.check("queue:Send", "orders")
    users.replace([])
    assert not principal.active
    users.anonymous(loopback=True).check("queue:Send", "orders")


def test_a_reload_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access, "USERS_MAX", 3)
    before = [User("alice", HASH, (allow("*", "*"),)), User("bob", HASH)]
    users = Access(before)
    principal, version = users.principal("alice"), users.version

    def broken() -> Iterator[User]:
        yield User("carol", HASH)
        raise OSError("disk")

    twice = [User("carol", HASH), User("carol", HASH)]
    many = [User(f"u{number}", HASH) for number in range(4)]
    for wrong, error in (
        (twice, InvalidArgument),
        (many, InvalidArgument),
        ([{"name": "carol"}], InvalidArgument),
        (broken(), OSError),
    ):
        with pytest.raises(error):
            users.replace(wrong)  # type: ignore[arg-type]
        assert users.users == tuple(before)
        assert users.version == version
        principal.check("queue:Send", "orders")
    users.replace(many[:3])
    assert users.user("u2") == many[2] and users.user("alice") is None


def test_users_cannot_be_changed_behind_the_gate() -> None:
    user = User("alice", HASH, (deny("*", "*"),))
    with pytest.raises(AttributeError):
        user.rules = (allow("*", "*"),)  # type: ignore[misc]
    with pytest.raises(AttributeError):
        user.rules[0].effect = "allow"  # type: ignore[misc]
