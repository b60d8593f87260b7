"""The configuration: layers and their precedence, and every way to be refused."""

import pytest

from braidmq.broker.access import Rule
from braidmq.broker.config import (
    LISTENERS_DEFAULT,
    Account,
    Config,
    ConfigInvalid,
    Layer,
    Listener,
    changes,
    environment_layer,
    file_layer,
    flat,
    holds_secrets,
    load,
    needs_restart,
)
from braidmq.broker.limits import Limits
from braidmq.broker.passwords import hash_password
from braidmq.broker.stream_settings import StreamSettings
from braidmq.storage.log import Durability

HASH = hash_password("correct horse")
USER = f'[users.alice]\npassword_hash = "{HASH}"\n'


def no_files(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", name)


def from_text(text: str) -> Config:
    return load(file_layer("f.toml", text)).config


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        from_text(text)
    return caught.value.problems


def problem(text: str) -> str:
    [only] = problems(text)
    return only


# --- layers ---


def test_without_layers_everything_is_default():
    loaded = load()
    assert loaded.config == Config()
    assert loaded.config.listeners == tuple(Listener(url=url) for url in LISTENERS_DEFAULT)
    assert loaded.origin(("limits", "body_bytes_max")) == "default"


def test_later_layers_win_and_tables_are_merged():
    file = file_layer("f.toml", 'data = "a"\n[limits]\nqueues_max = 5\ncredit_max = 6\n')
    environment = environment_layer(
        {"BRAIDMQ_LIMITS__QUEUES_MAX": "7", "BRAIDMQ_DATA": "b", "HOME": "x"}, no_files
    )
    flags = Layer("flags", {"data": "c"}, {("data",): "--data"})
    loaded = load(file, environment, flags)
    assert (loaded.config.data, loaded.config.limits.queues_max) == ("c", 7)
    assert loaded.config.limits.credit_max == 6
    assert loaded.origin(("data",)) == "--data"
    assert loaded.origin(("limits", "queues_max")) == "environment BRAIDMQ_LIMITS__QUEUES_MAX"
    assert loaded.origin(("limits", "credit_max")) == "f.toml"
    assert loaded.origin(("limits", "body_bytes_max")) == "default"


def test_lists_are_replaced_and_have_one_origin():
    file = file_layer("f.toml", 'listeners = ["braid://127.0.0.1:1", "braid://127.0.0.1:2"]')
    environment = environment_layer({"BRAIDMQ_LISTENERS": "braid://[::1]:3"}, no_files)
    loaded = load(file, environment)
    assert loaded.config.listeners == (Listener(url="braid://[::1]:3"),)
    assert loaded.origin(("listeners", "0", "url")) == "environment BRAIDMQ_LISTENERS"


def test_a_listener_is_a_text_or_a_table():
    config = from_text(
        'listeners = ["braid://127.0.0.1", {url = "braids://localhost:0", '
        'tls_certificate = "c.pem", tls_key = "k.pem"}]'
    )
    assert config.listeners == (
        Listener(url="braid://127.0.0.1"),
        Listener(url="braids://localhost:0", tls_certificate="c.pem", tls_key="k.pem"),
    )


def test_users_become_users_of_the_gate():
    rule = 'rules = [{effect = "allow", actions = ["queue:*"], names = ["a/*"]}]'
    [user] = from_text(USER + rule).access_users()
    assert (user.name, user.password_hash) == ("alice", HASH)
    assert user.rules == (Rule("allow", ("queue:*",), ("a/*",)),)


def test_queues_have_their_settings():
    config = from_text(
        '[queues."pay.fifo"]\nfifo = true\ndurability = "os"\nvisibility_timeout_ms = "2m"\n'
        'tags = {team = "pay"}\n'
    )
    settings = config.queues["pay.fifo"]
    assert settings.fifo and settings.durability is Durability.OS
    assert (settings.visibility_timeout_ms, settings.tags) == (120_000, {"team": "pay"})


def test_streams_have_their_settings():
    table = from_text('[streams.s]\nshards = 4\nretention_ms = "7d"\ntags = {a = "b"}\n').streams[
        "s"
    ]
    assert table.shards == 4
    assert table.settings == StreamSettings(retention_ms=7 * 86_400_000, tags={"a": "b"})


# --- refusals ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits.queue_max = 1", "f.toml: limits.queue_max: unknown key; did you mean queues_max?"),
        ("zzz = 1", "zzz: unknown key; known here: data, listeners, drain_ms,"),
        ("data = 1", "f.toml: data: 1 is not a text"),
        ("data = ''", "data: is empty"),
        ("limits = 3", "limits: 3 is not a table"),
        ("listeners = 3", "listeners: 3 is not a list"),
        ("listeners = []", "listeners: is empty"),
        ("listeners = [{tls_key = 'k'}]", "listeners.0.url: missing"),
        ("limits.queues_max = 0", "limits.queues_max: 0 is out of range; it is between 1 and"),
        ("limits.queues_max = -1", "out of range"),
        ("[streams.s]\nshards = 0", "f.toml: streams.s.shards: a stream begins with 1 to 10000"),
        ("[streams.s]\nrecord_bytes_max = 0", "streams.s: record_bytes_max is between 1 and"),
        ("[streams.'a b']", "the stream name 'a b' holds a space"),
        ("limits.queues_max = 1e3", "1000.0 is not a whole number"),
        ("limits.queues_max = true", "True is not a whole number"),
        ("limits.queues_max = '12'", "'12' is not a whole number"),
        ("limits.dedup_window_ms = '²'", "is not a duration"),
        ("limits.dedup_window_ms = 2024-01-01", "or a duration such as 30s"),
        ("limits.body_bytes_max = [1]", "or a size such as 4MiB"),
        ("limits.body_bytes_max = 9000000", "limits.frame_bytes_max: 8388608 is less than"),
        ("limits.frame_bytes_unauthenticated_max = '9MiB'", "is more than frame_bytes_max"),
        ("log.level = 'loud'", "'loud' is not one of debug, info, warning, error"),
        ("log.format = 1", "log.format: 1 is not one of auto, text, json"),
        ("mqtt.redirect = 'x'", "mqtt.redirect: 'x' is not one of \"\", use-another, moved"),
        ("queues.a.fifo = 1", "queues.a.fifo: 1 is not true or false"),
        ("queues.a.durability = 'all'", "'all' is not one of memory, os, sync"),
        ("queues.a.max_receives = 3", "queues.a: max_receives, dead_letter_expired and"),
        ("queues.'a b' = {}", 'queues."a b": the queue name'),
        ("users.'a b ' = {}", 'users."a b ": user'),
        ("users.a.rules = [{effect = 'x', actions = ['*'], names = ['*']}]", "users.a.rules.0.eff"),
        (
            "users.a.rules = [{effect = 'allow', actions = ['queue:Sent'], names = ['*']}]",
            "users.a.rules.0: unknown action 'queue:Sent': matches none of queue:Send",
        ),
        ("users.a.rules = [{effect = 'allow', actions = ['*']}]", "users.a.rules.0.names: missing"),
        ("users.a.password_hash = '$argon2id$x'", "users.a.password_hash: "),
        ("x = = 1", "f.toml: not valid TOML: Invalid value (at line 1, column 5)"),
        (".".join("a" * 50) + " = 1", "a: unknown key"),
        ("x = " + "[" * 100_000, "not valid TOML"),
    ],
)
def test_a_file_is_refused(text, expected):
    assert expected in problem(text)


def test_other_machines_are_welcome_once_there_are_users():
    config = from_text("listeners = ['braid://0.0.0.0:7450']\n" + USER)
    assert not config.listeners[0].is_loopback


def test_every_problem_is_reported_at_once():
    found = problems("data = 1\nlog.level = 'x'\nlimits.zzz = 1\nusers.a.x = 1")
    assert [text.split(": ")[1] for text in found] == [
        "data",
        "log.level",
        "limits.zzz",
        "users.a.x",
    ]


def test_no_secret_is_told():
    for text in (
        "users = 'hunter2'",
        "users.a = 'hunter2'",
        "users.a.password_hash = 'hunter2'",
        "users.a.password_hash = ['hunter2']",
        "users.a.rules = 'hunter2'",
    ):
        assert "hunter2" not in problem(text)
    assert "hunter2" not in repr(Account(password_hash="hunter2"))


def test_zero_is_allowed_where_it_means_something():
    limits = "limits.reserve_bytes = 0\nlimits.disk_free_bytes_min = 0\n"
    config = from_text(limits + "limits.receive_wait_ms_max = 0\ndrain_ms = 0")
    assert config.limits.reserve_bytes == config.drain_ms == 0


# --- listings and differences ---


def test_flat_hides_secrets_and_names_every_value():
    config = from_text(USER + "[queues.a]\nfifo = true")
    listed = flat(config)
    assert listed["users", "alice", "password_hash"] == "(hidden)"
    assert listed["queues", "a", "fifo"] is True
    assert listed["queues", "a", "durability"] == "sync"
    assert HASH not in repr(listed)
    assert {path[1] for path in listed if path[0] == "limits"} == set(Limits.__struct_fields__)


def test_changes_say_what_and_hide_secrets():
    old = from_text("limits.queues_max = 1\n" + USER)
    new = from_text(f'limits.queues_max = 2\n[users.bob]\npassword_hash = "{HASH}"\n')
    assert changes(old, new) == [
        "limits.queues_max: 1 -> 2",
        "users.alice.password_hash: removed",
        "users.alice.rules: removed",
        "users.bob.password_hash: added, '(hidden)'",
        "users.bob.rules: added, []",
    ]
    other = from_text(USER.replace(HASH, hash_password("another")))
    assert changes(from_text(USER), other) == ["users.alice.password_hash: changed"]
    assert changes(old, old) == []


def test_some_changes_need_a_restart():
    old = from_text("")
    new = from_text("data = 'x'\nlimits.queues_max = 2\nlisteners = ['braid://127.0.0.1:1']\n")
    assert needs_restart(old, new) == ["data", "listeners"]


def test_secrets_in_a_file_are_noticed():
    assert holds_secrets(file_layer("f", USER))
    for text in ("", "[users.a]\nrules = []", "users = 1", "users.a = 1"):
        assert not holds_secrets(file_layer("f", text))


def test_options_of_mqtt_can_change_while_it_listens():
    old = from_text("listeners = ['mqtt://127.0.0.1']")
    new = from_text("listeners = ['mqtt://127.0.0.1']\nmqtt.maximum_qos = 1")
    assert needs_restart(old, new) == []
    assert "mqtt.maximum_qos: 2 -> 1" in changes(old, new)
    assert needs_restart(old, from_text("sessions.durability = 'os'")) == ["sessions", "listeners"]


SECRET = "a secret of thirty-two bytes, or more"
TOKENS = f"[auth.jwt]\nalgorithms = ['HS256']\nkeys.main = '{SECRET}'\n"


def test_tokens_of_whom_we_trust():
    assert from_text(USER).auth.jwt is None
    settings = from_text(TOKENS + "leeway_seconds = '1m'\n" + USER).auth.jwt
    assert settings is not None
    assert (settings.algorithms, settings.keys) == (("HS256",), {"main": SECRET})
    assert settings.leeway_seconds == 60


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TOKENS.replace("HS256", "none"), "auth.jwt: algorithms: none; it is some of HS256"),
        (TOKENS.replace(SECRET, "hunter2"), "auth.jwt: the key 'main' "),
        (TOKENS.replace(f"'{SECRET}'", "['hunter2']"), "keys.main: (hidden) is not a text"),
        (TOKENS + "jku = 'https://x'", "auth.jwt.jku: unknown key"),
        ("[auth.jwt]\nalgorithms = ['HS256']", "auth.jwt.keys: missing"),
        ("[auth]\njwt = 1", "auth.jwt: 1 is not a table"),
    ],
)
def test_tokens_are_refused(text, expected):
    found = problem(text + "\n" + USER)
    assert expected in found and "hunter2" not in found


def test_tokens_without_users_would_let_everybody_in():
    assert "tokens name users, and none is defined" in problem(TOKENS)


def test_keys_for_tokens_are_secrets():
    old = from_text(TOKENS + USER)
    new = from_text(TOKENS.replace("bytes", "BYTES") + USER)
    assert flat(old)["auth", "jwt", "keys", "main"] == "(hidden)"
    assert changes(old, new) == ["auth.jwt.keys.main: changed"]
    assert needs_restart(old, new) == []
    assert holds_secrets(file_layer("f", TOKENS))
    for text in ("[auth.jwt]\nkeys = {}", "auth = 1", "auth.jwt = 1"):
        assert not holds_secrets(file_layer("f", text))
    assert SECRET not in repr(old)
