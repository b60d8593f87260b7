"""The configuration: one typed, frozen object, and where each of its values came from.

1. What it is made of is read strictly, as ``config_reader.py`` tells; what goes together is checked
   here, once every value is right by itself.
2. ``[mqtt]`` holds what MQTT listeners have in common; a listener's own ``mqtt`` goes over it. So
   it is with ``[stomp]``.
   A configuration that was loaded has the whole of it at every listener.
3. Nothing is read here. Whoever loads a configuration reads the file and passes text and
   environment in.
4. A secret (a password hash, a key for tokens) is never part of a problem, a difference or a
   listing.
"""

import json
from collections.abc import Iterator
from enum import IntEnum
from typing import Literal

import msgspec

from .access import Rule, User
from .config_listener import LISTEN_DEFAULT, LISTENERS_DEFAULT, Listener, listener_problems
from .config_reader import (
    ENVIRONMENT_PREFIX,
    SECRET_SHOWN,
    ConfigInvalid,
    Layer,
    Path,
    Reader,
    dotted,
    duration_ms,
    environment_layer,
    file_layer,
    merged,
    origin_of,
    size_bytes,
)
from .errors import InvalidArgument
from .jwt import JwtSettings, JwtVerifier
from .limits import ZERO_ALLOWED, Limits, SessionPolicy
from .mqtt_options import MqttOptions
from .settings import QueueSettings, check_name
from .stomp_options import StompOptions
from .stream_settings import StreamSettings
from .webhook_policy import WebhookPolicy, webhook_policy_problems

__all__ = [
    "ENVIRONMENT_PREFIX",
    "LISTENERS_DEFAULT",
    "LISTEN_DEFAULT",
    "SECRET_SHOWN",
    "Account",
    "Auth",
    "Config",
    "ConfigInvalid",
    "Layer",
    "Listener",
    "Loaded",
    "Logging",
    "Storage",
    "StreamTable",
    "changes",
    "dotted",
    "duration_ms",
    "environment_layer",
    "file_layer",
    "flat",
    "holds_secrets",
    "load",
    "needs_restart",
    "size_bytes",
]

_ENVELOPE_BYTES = 8 * 1024  # what a SEND takes beside a message's body and headers
_MQTT_STRING_BYTES_MAX = 65_535
_TOKEN_KEYS = ("auth", "jwt", "keys")  # they may be secrets
_NAMED = (("users",), ("streams",), ("queues",), _TOKEN_KEYS)  # tables by names of yours
# Read once, when the log or a listener is opened, or a FIFO queue is made.
_LIMITS_FIXED = (
    "cache_bytes_max connections_max connections_unauthenticated_max dedup_window_ms"
    " disk_free_bytes_min handshake_ms_max match_cache_targets_max match_cache_topics_max"
    " reserve_bytes"
).split()


class Storage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the log is kept on disk."""

    segment_bytes: int = 64 * 1024 * 1024
    read_cache_bytes: int = 16 * 1024 * 1024
    cold_compress: bool = True


class Logging(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is logged, and how it looks. ``auto`` is text on a terminal, JSON lines otherwise."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Auth(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How users prove who they are, beside their passwords."""

    jwt: JwtSettings | None = None


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user; the name is the key in the table ``users``."""

    password_hash: str = ""
    rules: tuple[Rule, ...] = ()

    def __repr__(self) -> str:
        """Without the hash, so that it does not end up in a log."""
        return f"Account(password_hash={SECRET_SHOWN}, rules={self.rules!r})"


class StreamTable(StreamSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A stream to declare at start; the name is the key in the table ``streams``."""

    shards: int = 1  # counts when it is made

    @property
    def settings(self) -> StreamSettings:
        """What it is told to do, without how it begins."""
        values = {name: getattr(self, name) for name in StreamSettings.__struct_fields__}
        return StreamSettings(**values)


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything the daemon can be told."""

    data: str = "data"
    listeners: tuple[Listener, ...] = tuple(Listener(url=url) for url in LISTENERS_DEFAULT)
    drain_ms: int = 25_000
    mqtt: MqttOptions = MqttOptions()
    stomp: StompOptions = StompOptions()
    log: Logging = Logging()
    storage: Storage = Storage()
    limits: Limits = Limits()
    sessions: SessionPolicy = SessionPolicy()
    webhooks: WebhookPolicy = WebhookPolicy()
    auth: Auth = Auth()
    users: dict[str, Account] = {}
    streams: dict[str, StreamTable] = {}
    queues: dict[str, QueueSettings] = {}

    def access_users(self) -> tuple[User, ...]:
        """The users, as ``access.Access`` takes them."""
        return tuple(
            User(name, account.password_hash, account.rules) for name, account in self.users.items()
        )


class Loaded(msgspec.Struct, frozen=True):
    """A configuration, and the origin of every value that is not a default."""

    config: Config
    origins: dict[Path, str]

    def origin(self, path: Path) -> str:
        """Where the value at ``path`` came from: ``default``, or a file, variable or flag."""
        return origin_of(self.origins, path)


def load(*layers: Layer) -> Loaded:
    """Lay the layers over the defaults, lowest first. Raises ConfigInvalid with all problems."""
    values, origins = merged(layers)
    reader = Reader(origins, _is_secret, _least_of, {Listener: "url"})
    config = reader.table(Config, values, ())
    if isinstance(config, Config):
        config = _with_common_options(config, reader)
        for path, text in _contradictions(config):
            reader.refuse(path, text)
    if reader.problems or not isinstance(config, Config):
        raise ConfigInvalid(reader.problems)
    # A table may be made of several layers, so only what is in it has an origin.
    return Loaded(config, {path: origins[path] for path in origins.keys() - reader.layered})


def _is_secret(path: Path) -> bool:
    return path[0] == "users" or path[:3] == _TOKEN_KEYS


def _least_of(path: Path) -> int:
    return 1 if path[0] == "limits" and path[-1] not in ZERO_ALLOWED else 0


def _with_common_options(config: Config, reader: Reader) -> Config:
    """The same, with what is common to MQTT or STOMP listeners at each of them."""
    listeners = []
    for number, listener in enumerate(config.listeners):
        for table in _spoken(listener):
            given = reader.keys.get(("listeners", str(number), table), set())
            own = {name: getattr(getattr(listener, table), name) for name in given}
            options = msgspec.structs.replace(getattr(config, table), **own)
            listener = msgspec.structs.replace(listener, **{table: options})
        listeners.append(listener)
    return msgspec.structs.replace(config, listeners=tuple(listeners))


def _spoken(listener: Listener) -> list[str]:
    """The tables of options that concern a listener."""
    return ["mqtt"] * listener.speaks_mqtt + ["stomp"] * listener.speaks_stomp


def holds_secrets(layer: Layer) -> bool:
    """Whether the layer holds something that not everybody may read."""
    users = layer.values.get("users")
    tables = users.values() if isinstance(users, dict) else ()
    if any(isinstance(table, dict) and table.get("password_hash") for table in tables):
        return True
    keys: object = layer.values
    for name in _TOKEN_KEYS:
        keys = keys.get(name) if isinstance(keys, dict) else None
    return bool(keys)


# --- what goes together ---


def _limit_problems(limits: Limits) -> Iterator[tuple[Path, str]]:
    frame_least = limits.body_bytes_max + limits.headers_bytes_max + _ENVELOPE_BYTES
    if limits.frame_bytes_max < frame_least:
        yield (
            ("limits", "frame_bytes_max"),
            f"{limits.frame_bytes_max} is less than body_bytes_max + headers_bytes_max +"
            f" {_ENVELOPE_BYTES} = {frame_least}: the largest message could not be sent",
        )
    if limits.frame_bytes_unauthenticated_max > limits.frame_bytes_max:
        yield (
            ("limits", "frame_bytes_unauthenticated_max"),
            f"{limits.frame_bytes_unauthenticated_max} is more than frame_bytes_max ="
            f" {limits.frame_bytes_max}",
        )
    if limits.topic_bytes_max > _MQTT_STRING_BYTES_MAX:
        yield (
            ("limits", "topic_bytes_max"),
            f"{limits.topic_bytes_max} is more than {_MQTT_STRING_BYTES_MAX}, the longest that"
            " MQTT can carry",
        )


def _contradictions(config: Config) -> Iterator[tuple[Path, str]]:
    from .passwords import hash_problem  # brings anyio: a client command needs none of it

    yield from _limit_problems(config.limits)
    if not config.data:
        yield ("data",), "is empty; name the directory that holds the messages"
    if not config.listeners:
        yield ("listeners",), "is empty; name at least one address"
    seen: set[tuple[str, int]] = set()
    for number, listener in enumerate(config.listeners):
        for text in listener_problems(listener, seen, bool(config.users)):
            yield ("listeners", str(number)), text
    if config.auth.jwt is not None:
        try:
            JwtVerifier(config.auth.jwt)
        except InvalidArgument as error:
            yield ("auth", "jwt"), str(error)
        if not config.users:
            yield ("auth", "jwt"), "tokens name users, and none is defined"
    for key, text in webhook_policy_problems(config.webhooks):
        yield ("webhooks", key), text
    for name, account in config.users.items():
        try:
            User(name, account.password_hash, account.rules)
        except ValueError as error:
            yield ("users", name), str(error)
            continue
        problem = hash_problem(account.password_hash) if account.password_hash else None
        if problem:
            yield ("users", name, "password_hash"), f"{problem}; braidmq user hash makes one"
    for name, stream in config.streams.items():
        try:
            check_name(name, "stream")
            stream.check()
        except InvalidArgument as error:
            yield ("streams", name), str(error)
        most = min(config.limits.shards_per_stream_max, config.limits.shards_max)
        if not 1 <= stream.shards <= most:
            yield ("streams", name, "shards"), f"a stream begins with 1 to {most} shards"
    for name, settings in config.queues.items():
        try:
            check_name(name)
            settings.check()
        except InvalidArgument as error:
            yield ("queues", name), str(error)


# --- listings and differences ---


def flat(config: Config) -> dict[Path, object]:
    """Every value under its path, as plain values, secrets hidden."""
    found: dict[Path, object] = {}

    def walk(value: object, path: Path) -> None:
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                walk(getattr(value, name), (*path, name))
        elif isinstance(value, dict) and path in _NAMED:
            for name, item in value.items():
                walk(item, (*path, name))
        elif path[-1] == "password_hash" or path[:3] == _TOKEN_KEYS:
            found[path] = SECRET_SHOWN if value else ""
        elif isinstance(value, IntEnum):
            found[path] = value.name.lower()
        elif path == ("listeners",):
            found[path] = [_shown(listener, config) for listener in config.listeners]
        else:
            found[path] = json.loads(msgspec.json.encode(value))

    walk(config, ())
    return found


def _shown(listener: Listener, config: Config) -> dict[str, object]:
    """A listener, with those options of its dialects that are its own."""
    shown: dict[str, object] = json.loads(msgspec.json.encode(listener))
    shown.pop("mqtt", None)
    shown.pop("stomp", None)
    for table in _spoken(listener):
        options = msgspec.structs.asdict(getattr(config, table))
        own = msgspec.structs.asdict(getattr(listener, table))
        differing = {name: value for name, value in own.items() if value != options[name]}
        if differing:
            shown[table] = differing
    return shown


def changes(old: Config, new: Config) -> list[str]:
    """What differs, one line each, without secrets."""
    before, after = flat(old), flat(new)
    lines = []
    for path in sorted(before.keys() | after.keys()):
        key = dotted(path)
        if path not in before:
            lines.append(f"{key}: added, {after[path]!r}")
        elif path not in after:
            lines.append(f"{key}: removed")
        elif before[path] != after[path]:
            lines.append(f"{key}: {before[path]!r} -> {after[path]!r}")
    had, has = _secrets(old), _secrets(new)
    for path in sorted(had.keys() & has.keys()):
        if had[path] and has[path] and had[path] != has[path]:
            lines.append(f"{dotted(path)}: changed")
    return lines


def _secrets(config: Config) -> dict[Path, str]:
    found: dict[Path, str] = {
        ("users", name, "password_hash"): account.password_hash
        for name, account in config.users.items()
    }
    if config.auth.jwt is not None:
        found |= {(*_TOKEN_KEYS, kid): key for kid, key in config.auth.jwt.keys.items()}
    return found


def _addresses(config: Config) -> list[Listener]:
    """The listeners without what can change while they are open."""
    return [
        msgspec.structs.replace(each, mqtt=MqttOptions(), stomp=StompOptions(), origins=())
        for each in config.listeners
    ]


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and that a reload cannot change."""
    parts = ("data", "drain_ms", "storage", "sessions", "webhooks", "streams", "queues")
    keys = [name for name in parts if getattr(old, name) != getattr(new, name)]
    if _addresses(old) != _addresses(new):
        keys.append("listeners")
    if old.log.format != new.log.format:
        keys.append("log.format")
    for name in _LIMITS_FIXED:
        if getattr(old.limits, name) != getattr(new.limits, name):
            keys.append(f"limits.{name}")
    return keys
