"""Rights of connections: client ids in patterns, filters, and principals of their own."""

import gc
import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.access import (
    ANONYMOUS_NAME,
    DECISIONS_PER_CLIENT_CACHED_MAX,
    EXPIRES_NEVER_MS,
    SYSTEM,
    Access,
    Principal,
    Rule,
    User,
)
from braidmq.broker.errors import PermissionDenied, Unauthenticated

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


def allow(actions: str, names: str) -> Rule:
    return Rule("allow", tuple(actions.split()), tuple(names.split()))


def deny(actions: str, names: str) -> Rule:
    return Rule("deny", tuple(actions.split()), tuple(names.split()))


def access_of(*rules: Rule) -> Access:
    return Access([User("alice", HASH, rules)])


def principal_with(*rules: Rule) -> Principal:
    return access_of(*rules).principal("alice")


# --- what a connection fills in: its client id


def test_a_client_id_stands_for_itself() -> None:
    users = access_of(allow("topic:*", "devices/%c/# %u/%c"), deny("topic:Publish", "*/%c/config"))
    one, two = users.principal("alice", "dev-1"), users.principal("alice", "dev-2")
    assert (one.client_id, two.client_id) == ("dev-1", "dev-2")
    for name in ("devices/dev-1", "devices/dev-1/temp", "alice/dev-1"):
        assert one.allows("topic:Publish", name) and not two.allows("topic:Publish", name)
    assert one.allows("topic:Subscribe", "devices/dev-1/config")
    assert not one.allows("topic:Publish", "devices/dev-1/config")
    assert one.allows_filter("topic:Subscribe", "devices/dev-1/#")
    assert not one.allows_filter("topic:Subscribe", "devices/+/temp")


@pytest.mark.parametrize(
    "client_id",
    ["", "#", "+", "a/b", "*", "?", "%u", "%c", "$x", ">", "a\x00", "\u202e", "x" * 257],
)
def test_a_client_id_that_is_none_fails_closed(client_id: str) -> None:
    names = ["devices", "devices/a", "devices/a/b", f"devices/{client_id}", "$x"]
    owner = access_of(allow("topic:*", "devices/%c devices/%c/# %c")).principal("alice", client_id)
    assert [name for name in names if owner.allows("topic:Publish", name)] == []
    assert not owner.allows_filter("topic:Subscribe", "devices/a")
    barred = access_of(allow("topic:*", "*"), deny("topic:*", "devices/%c"))
    principal = barred.principal("alice", client_id)
    denied = [name for name in names if not principal.allows("topic:Publish", name)]
    assert denied == [name for name in names if name.startswith("devices/")]
    assert not principal.allows_filter("topic:Subscribe", "devices/+")


@given(
    st.text("ab*?%/+#$> ", max_size=4),
    st.lists(st.sampled_from(["%c", "%%", "*", "?", "a", "-"]), min_size=1, max_size=4),
    st.text("ab*?%/+#-", max_size=6),
)
def test_a_client_id_never_widens_a_pattern(client: str, pieces: list[str], name: str) -> None:
    pattern = "".join(pieces)
    try:
        principal = access_of(allow("topic:Publish", pattern)).principal("alice", client)
    except ValueError:
        return
    if principal.allows("topic:Publish", name):
        literal = {"%c": re.escape(client), "%%": "%", "*": ".*", "?": "."}
        expression = "".join(literal.get(piece, re.escape(piece)) for piece in pieces)
        assert re.fullmatch(expression, name)
        assert "%c" not in pieces or (client and not set(client) & set("*?%/+#$>"))


# --- filters


def test_a_filter_needs_one_allow_that_covers_it_and_no_deny_that_does() -> None:
    principal = principal_with(
        allow("topic:Subscribe", "sensors/# rooms/+/temp halls/a halls/b"),
        allow("topic:Publish", "*"),
        deny("topic:Subscribe", "sensors/secret/# rooms/+/temp/*"),
    )
    allowed = ["sensors/#", "sensors/+/temp", "sensors", "rooms/+/temp", "rooms/a/temp", "halls/a"]
    allowed += ["sensors/#/a", "sensors/#/secret/#"]
    refused = ["#", "+/+", "rooms/#", "rooms/+/+", "halls/+", "sensors/secret/#", "sensors/secret"]
    refused += ["#/a", "rooms/#/temp", "sensors/secret/#/a"]
    malformed = ["", "sensors/#/#", "sensors/a+", "sensors/a#"]
    for text in allowed + refused + malformed:
        assert principal.allows_filter("topic:Subscribe", text) is (text in allowed), text
    principal.check_filter("topic:Subscribe", "sensors/#")
    with pytest.raises(PermissionDenied, match="'alice' may not topic:Subscribe on 'sensors/s"):
        principal.check_filter("topic:Subscribe", "sensors/secret/+")
    # What is denied of a filter that was let in is denied when it is delivered.
    assert principal.allows("topic:Subscribe", "sensors/a")
    assert not principal.allows("topic:Subscribe", "sensors/secret/a")
    with pytest.raises(AssertionError, match="topic:Sub"):
        principal.allows_filter("topic:Sub", "a")


def test_a_filter_is_for_those_who_have_rights() -> None:
    users = access_of(allow("*", "*"))
    principal = users.principal("alice", "c")
    principal.check_filter("topic:Subscribe", "#")
    SYSTEM.check_filter("topic:Subscribe", "#")
    users.replace([])
    for who in (principal, principal_with()):
        with pytest.raises(PermissionDenied):
            who.check_filter("topic:Subscribe", "a")


TOPIC_PATTERNS = st.lists(
    st.lists(st.sampled_from(["a", "b", "*", "?", "a*", "+"]), min_size=1, max_size=3)
    .flatmap(lambda levels: st.sampled_from([levels, [*levels, "#"]]))
    .map("/".join),
    min_size=1,
    max_size=2,
).map(tuple)
TOPIC_RULES = st.lists(
    st.builds(Rule, st.sampled_from(["allow", "deny"]), st.just(("topic:*",)), TOPIC_PATTERNS),
    max_size=4,
)
TOPIC_FILTERS = st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=3).flatmap(
    lambda levels: st.sampled_from(["/".join(levels), "/".join([*levels, "#"])])
)
TOPICS = ["/".join(t) for n in (1, 2, 3, 4) for t in product(["", "a", "b", "ab"], repeat=n)][1:]


@given(TOPIC_RULES, TOPIC_FILTERS)
@settings(max_examples=300)
def test_a_filter_that_is_let_in_brings_nothing_that_is_not_allowed(
    rules: list[Rule], text: str
) -> None:
    principal = principal_with(*rules)
    if not principal.allows_filter("topic:Subscribe", text):
        return
    granted = principal_with(*[rule for rule in rules if rule.effect == "allow"])
    expression = re.escape(text).replace(r"\+", "[^/]*").replace("/\\#", "(/.*)?")
    matched = [topic for topic in TOPICS if re.fullmatch(expression, topic)]
    assert matched
    assert all(granted.allows("topic:Subscribe", topic) for topic in matched)


# --- one principal for each client


def test_principals_of_a_user_share_what_they_remember_unless_it_depends_on_the_client() -> None:
    plain, own = access_of(allow("topic:*", "%u/*")), access_of(allow("topic:*", "%c/*"))
    for users, shared in ((plain, True), (own, False)):
        one, two = users.principal("alice", "one"), users.principal("alice", "two")
        assert one is users.principal("alice", "one") is not two
        one.allows("topic:Publish", "one/a")
        assert (("topic:Publish", "one/a") in two._decisions) is shared


def test_clients_that_are_gone_leave_nothing_behind() -> None:
    users = access_of(allow("topic:*", "%c/*"))
    for number in range(100):
        assert users.principal("alice", f"c{number}").allows("topic:Publish", f"c{number}/a")
    gc.collect()
    assert len(users._principals) == 0


def test_a_client_remembers_fewer_decisions() -> None:
    principal = access_of(allow("topic:*", "%c/*")).principal("alice", "c")
    for number in range(DECISIONS_PER_CLIENT_CACHED_MAX + 10):
        assert principal.allows("topic:Publish", f"c/{number}")
        assert len(principal._decisions) <= DECISIONS_PER_CLIENT_CACHED_MAX


def test_other_rules_reach_every_client_at_once() -> None:
    users = access_of(allow("topic:*", "%c/*"))
    clients = [users.principal("alice", f"c{number}") for number in range(3)]
    none = users.principal("alice")
    users.replace([User("alice", HASH, (allow("topic:*", "all"), deny("topic:*", "c1")))])
    for each in (*clients, none):
        assert each.allows("topic:Publish", "all")
        assert not each.allows("topic:Publish", f"{each.client_id}/a")
    # Rules that depend on the client again: also for those who shared theirs meanwhile.
    users.replace([User("alice", HASH, (allow("topic:*", "%c/*"),))])
    for each in clients:
        assert each is users.principal("alice", each.client_id)
        assert each.allows("topic:Publish", f"{each.client_id}/a")
        assert not each.allows("topic:Publish", "c9/a")
    assert not none.allows("topic:Publish", "/a")
    users.replace([])
    assert not any(each.active for each in (*clients, none))
    with pytest.raises(PermissionDenied, match="log in again"):
        clients[0].check("topic:Publish", "c0/a")


def test_a_principal_ends_with_its_proof_of_identity() -> None:
    users = access_of(allow("topic:*", "*"))
    token, password = users.principal("alice", "c", 1_000), users.principal("alice", "c")
    assert token is not password and token is users.principal("alice", "c", 1_000)
    assert token.valid_at(999) and not token.valid_at(1_000)
    assert password.valid_at(10**15) and password.expires_ms == EXPIRES_NEVER_MS
    users.replace([])
    assert not token.valid_at(0) and not password.valid_at(0)


def test_who_was_authenticated_gets_the_principal_of_the_client_id() -> None:
    users = access_of(allow("topic:*", "%c"))
    who = users.for_client(users.principal("alice", expires_ms=1_000), "c")
    assert (who.name, who.client_id, who.expires_ms) == ("alice", "c", 1_000)
    assert who.allows("topic:Publish", "c")
    assert repr(who) == "<Principal 'alice' 'c'>"
    assert users.for_client(SYSTEM, "c") is SYSTEM
    users.replace([])
    with pytest.raises(Unauthenticated):
        users.for_client(who, "c")


def test_anonymous_has_client_ids_too() -> None:
    users = Access()
    who = users.anonymous(loopback=True, client_id="c")
    assert (who.name, who.client_id) == (ANONYMOUS_NAME, "c")
    assert who is users.for_client(users.anonymous(loopback=True), "c")
    assert who is users.owner(ANONYMOUS_NAME, "c")
    with pytest.raises(Unauthenticated):  # it is no user: nobody can log in as it
        users.principal(ANONYMOUS_NAME, "c")
    users.replace([User("alice", HASH)])
    assert not who.active and not who.allows("topic:Publish", "a")
    with pytest.raises(Unauthenticated):
        users.owner(ANONYMOUS_NAME, "c")
    with pytest.raises(Unauthenticated):
        users.for_client(who, "c")


def test_a_kept_session_belongs_to_the_user_of_the_name() -> None:
    users = access_of(allow("topic:*", "%c"))
    owner = users.owner("alice", "c")
    assert owner is users.principal("alice", "c")
    assert users.owner(SYSTEM.name, "c") is SYSTEM
    for name in ("bob", "", "$anonymous"):
        with pytest.raises(Unauthenticated):
            users.owner(name, "c")
