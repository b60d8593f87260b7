"""Reading strictly: values with units, the environment, structs."""

import pytest

from braidmq.broker.access import Rule
from braidmq.broker.config import Account, Config, Listener, load
from braidmq.broker.config_reader import (
    ConfigInvalid,
    Layer,
    dotted,
    duration_ms,
    environment_layer,
    file_layer,
    merged,
    origin_of,
    size_bytes,
)
from braidmq.broker.errors import InvalidArgument
from braidmq.broker.passwords import hash_password
from braidmq.storage.log import Durability

HASH = hash_password("correct horse")


def no_files(name: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", name)


def from_environment(read=no_files, **variables: str) -> Config:
    named = {f"BRAIDMQ_{name}": value for name, value in variables.items()}
    return load(environment_layer(named, read)).config


def test_layers_are_merged_and_remember_where_each_value_came_from():
    below = Layer("below", {"a": {"x": 1, "y": 2}, "b": [1]})
    above = Layer("above", {"a": {"y": 3}, "b": [2]})
    values, origins = merged([below, above])
    assert values == {"a": {"x": 1, "y": 3}, "b": [2]}
    assert origin_of(origins, ("a", "x")) == "below"
    assert origin_of(origins, ("a", "y")) == "above"
    assert origin_of(origins, ("b", "0")) == "above"
    assert origin_of(origins, ("c",)) == "default"


def test_keys_are_told_as_toml_writes_them():
    assert dotted(("users", "a b", "rules", "0")) == 'users."a b".rules.0'


# --- environment ---


def test_environment_has_every_kind_of_value():
    config = from_environment(
        DATA="d",
        DRAIN_MS="5s",
        LOG__LEVEL="debug",
        LIMITS__BODY_BYTES_MAX="1MiB",
        LIMITS__QUEUES_MAX="12",
        QUEUES__ORDERS__FIFO="true",
        QUEUES__ORDERS__DURABILITY="os",
        QUEUES__LATER='{"delay_ms": "1m"}',
        USERS__APP__PASSWORD_HASH=HASH,
        USERS__APP__RULES='[{"effect": "deny", "actions": ["*"], "names": ["*"]}]',
        LISTENERS="braid://127.0.0.1:1, braid://127.0.0.1:2",
    )
    assert (config.data, config.drain_ms, config.log.level) == ("d", 5_000, "debug")
    assert (config.limits.body_bytes_max, config.limits.queues_max) == (2**20, 12)
    assert config.queues["orders"].fifo and config.queues["orders"].durability is Durability.OS
    assert config.queues["later"].delay_ms == 60_000
    assert config.users["app"] == Account(password_hash=HASH, rules=(Rule("deny", ("*",), ("*",)),))
    assert [listener.parts.port for listener in config.listeners] == [1, 2]


def test_listeners_in_the_environment_can_be_json():
    config = from_environment(LISTENERS='["braid://127.0.0.1:0"]')
    assert config.listeners == (Listener(url="braid://127.0.0.1:0"),)


def test_a_name_in_the_environment_finds_the_one_in_the_file():
    file = file_layer("f.toml", "[users.Alice]\nrules = []\n")
    environment = environment_layer({"BRAIDMQ_USERS__ALICE__PASSWORD_HASH": HASH}, no_files)
    assert load(file, environment).config.users["Alice"].password_hash == HASH


def test_a_secret_can_come_from_a_file():
    read = {"/run/secrets/app": HASH + "\n"}.__getitem__
    config = from_environment(read, USERS__APP__PASSWORD_HASH_FILE="/run/secrets/app")
    assert config.users["app"].password_hash == HASH


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"LIMITS__QUEUE_MAX": "1"}, "limits.queue_max: unknown key; did you mean queues_max?"),
        ({"LISTENER": "x"}, "listener: unknown key; did you mean listeners?"),
        ({"": "x"}, 'environment BRAIDMQ_: "": unknown key'),
        ({"LIMITS__QUEUES_MAX": "many"}, "limits.queues_max: 'many' is not a whole number"),
        ({"LIMITS__BODY_BYTES_MAX": "4 MiBs"}, "'4 MiBs' is not a size"),
        ({"DRAIN_MS": "soon"}, "drain_ms: 'soon' is not a duration"),
        ({"QUEUES__A__FIFO": "yes"}, "queues.a.fifo: 'yes' is not true or false"),
        ({"LIMITS": "12"}, "limits: '12' is not a table"),
        ({"USERS": "[broken"}, "users: (hidden) is not a table"),
        ({"DATA_FILE": "/missing"}, "environment BRAIDMQ_DATA_FILE: cannot read '/missing'"),
        ({"LIMITS": "1", "LIMITS__QUEUES_MAX": "1"}, "contradicts another variable"),
    ],
)
def test_environment_is_refused(variables, expected):
    with pytest.raises(ConfigInvalid) as caught:
        from_environment(**variables)
    assert expected in str(caught.value)


def test_a_variable_and_its_file_exclude_each_other():
    with pytest.raises(ConfigInvalid, match="set together with environment BRAIDMQ_DATA"):
        from_environment(lambda name: "d", DATA="d", DATA_FILE="f")


@pytest.mark.parametrize(
    "name",
    "URL CONTEXT USER PASSWORD_FILE CA_FILE CONFIG TEST_LOOPS FUZZ_SECONDS SERVICE_HOST"
    " SERVICE_PORT SERVICE_PORT_NATIVE PORT PORT_7450_TCP PORT_7450_TCP_ADDR".split(),
)
def test_variables_of_others_are_left_alone(name):
    assert from_environment(**{name: "tcp://10.0.0.1:7450"}) == Config()


# --- values ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("1.5s", 1_500), (" 4d ", 345_600_000)],
)
def test_durations(text, expected):
    assert duration_ms(text) == expected


@pytest.mark.parametrize(
    "text", ["", "s", "30", "30 parsecs", "-1s", "1s2", "1e9s", "9" * 30 + "s"]
)
def test_no_durations(text):
    with pytest.raises(InvalidArgument, match="is not a duration"):
        duration_ms(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("512", 512), ("64KiB", 65_536), ("4 MiB", 2**22), ("1GB", 10**9)]
)
def test_sizes(text, expected):
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "4M", "many", "-1", "1TiB 1", "9999999TiB"])
def test_no_sizes(text):
    with pytest.raises(InvalidArgument, match="is not a size"):
        size_bytes(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mqtt.keep_alive_seconds_max = 90", 90),
        ("mqtt.keep_alive_seconds_max = '1m30s'", 90),
        ("mqtt.keep_alive_seconds_max = '2500ms'", "is not a whole number of seconds"),
        ("mqtt.keep_alive_seconds_max = 'soon'", "is not a duration"),
        ("mqtt.keep_alive_seconds_max = 1.5", "a whole number, or a duration such as 30s"),
    ],
)
def test_seconds_are_whole(text, expected):
    layer = file_layer("f.toml", text)
    if isinstance(expected, int):
        assert load(layer).config.mqtt.keep_alive_seconds_max == expected
    else:
        with pytest.raises(ConfigInvalid, match=expected):
            load(layer)
