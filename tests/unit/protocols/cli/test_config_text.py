"""The keys, the example and the documentation are about the same configuration."""

import re
import tomllib
from pathlib import Path

import msgspec

from braidmq.broker.config import (
    Account,
    Auth,
    Config,
    Listener,
    Logging,
    Storage,
    StreamTable,
    file_layer,
    load,
)
from braidmq.broker.jwt import JwtSettings
from braidmq.broker.limits import Limits, SessionPolicy
from braidmq.broker.mqtt_options import MqttOptions
from braidmq.broker.settings import QueueSettings
from braidmq.broker.stomp_options import StompOptions
from braidmq.broker.webhook_policy import WebhookPolicy
from braidmq.protocols.cli.config_text import KEYS, default_of, example, reference, unit_of

DOCS = Path(__file__).parents[4] / "docs"


def keys_of_the_structs() -> set[str]:
    tables = {
        "listeners.": Listener,
        "mqtt.": MqttOptions,
        "stomp.": StompOptions,
        "log.": Logging,
        "storage.": Storage,
        "limits.": Limits,
        "sessions.": SessionPolicy,
        "auth.": Auth,
        "auth.jwt.": JwtSettings,
        "users.NAME.": Account,
        "webhooks.": WebhookPolicy,
        "streams.NAME.": StreamTable,
        "queues.NAME.": QueueSettings,
    }
    found = {
        f"{folder}{name}" for folder, kind in tables.items() for name in kind.__struct_fields__
    }
    return found | {"data", "listeners", "drain_ms"}


def test_every_key_is_described_and_no_other():
    assert set(KEYS) == keys_of_the_structs()
    assert set(Config.__struct_fields__) == {key.split(".")[0] for key in KEYS}


def test_defaults_are_those_of_the_structs():
    assert default_of("limits.body_bytes_max") == Limits().body_bytes_max
    assert default_of("queues.NAME.durability") == "sync"
    assert default_of("queues.NAME.tags") == {}
    assert default_of("listeners.url") is None
    assert (unit_of("drain_ms"), unit_of("limits.group_bytes_max"), unit_of("data")) == (
        "ms",
        "bytes",
        "",
    )


def test_the_example_is_a_configuration_of_defaults():
    assert load(file_layer("example", example())).config == Config()


def test_the_example_shows_every_default():
    """With every default uncommented it is still the default configuration."""
    text = example()
    uncommented = re.sub(r"^# (\w+ = .*)$", r"\1", text.split("# Who may log in")[0], flags=re.M)
    assert load(file_layer("example", uncommented)).config == Config()
    values = tomllib.loads(uncommented)
    assert set(values["limits"]) == set(Limits.__struct_fields__)
    assert set(values) == set(Config.__struct_fields__) - {"users", "streams", "queues", "auth"}


def test_the_rest_of_the_example_is_good_too():
    rest = example().split("# Streams and queues to declare at start.")[1]
    config = load(file_layer("example", re.sub(r"^# ?", "", rest, flags=re.M))).config
    assert config.queues["orders"].dead_letter == "orders-dlq" and config.queues["pay.fifo"].fifo
    assert config.streams["orders-log"].shards == 4
    assert config.queues["billing"].stream == "orders-log"


def test_the_documentation_has_the_table():
    assert reference() in (DOCS / "configuration.md").read_text()


def test_the_documentation_shows_configurations_that_load():
    text = (DOCS / "configuration.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```", text, flags=re.M | re.S)
    assert blocks
    for block in blocks:
        # A hash in the documentation opens nothing: it is not a whole one.
        load(file_layer("docs", block.replace('"$argon2id$..."', '""')))


def test_defaults_can_be_written_as_toml():
    for key in KEYS:
        default = default_of(key)
        if default is not None and default != {}:
            written = f"x = {msgspec.json.encode(default).decode()}"
            assert tomllib.loads(written) == {"x": default}
