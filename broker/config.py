"""The configuration: one typed, frozen object, and where each of its values came from.

1. Layers are laid over one another: defaults < file < ``BRAIDMQ_*`` environment < flags. Tables are
   merged key by key, lists and values are replaced.
2. Strict: an unknown key, a wrong type or a value out of range refuses the whole configuration.
   All problems are reported at once, each with its key, its origin, and what is allowed.
3. Nothing is read here. Whoever loads a configuration reads the file and passes text and
   environment in.
4. A secret (a password hash) is never part of a problem, a difference or a listing.
"""

import ipaddress
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from enum import IntEnum
from typing import Any, Literal, get_args, get_origin
from urllib.parse import SplitResult, urlsplit

import msgspec

from .access import Rule, User
from .errors import InvalidArgument
from .limits import ZERO_ALLOWED, Limits, SessionPolicy
from .settings import QueueSettings, check_name

__all__ = [
    "ENVIRONMENT_PREFIX",
    "LISTEN_DEFAULT",
    "SCHEMES",
    "SECRET_SHOWN",
    "Account",
    "Config",
    "ConfigInvalid",
    "Layer",
    "Listener",
    "Loaded",
    "Logging",
    "Storage",
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

ENVIRONMENT_PREFIX = "BRAIDMQ_"
LISTEN_DEFAULT = "braid://127.0.0.1:7450"
SCHEMES = ("braid", "braids")  # what can be listened on
_TLS_SCHEMES = ("braids",)
_ENVELOPE_BYTES = 8 * 1024  # what a SEND takes beside a message's body and headers
SECRET_SHOWN = "(hidden)"

# Variables with our prefix that are no settings of the daemon: those of the client commands and of
# the test suite, and what Kubernetes sets for a service that is called braidmq.
_FOREIGN_VARIABLE = re.compile(
    r"URL|CONTEXT|USER|PASSWORD_FILE|CA_FILE|CONFIG|TEST_\w+|FUZZ_\w+|FAULT_\w+|SOAK_\w+|BENCH_\w+"
    r"|SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?"
)
_DURATIONS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_SIZES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZES |= {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_NUMBER_AND_UNIT = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*")
_NUMBER_MAX = 2**50
_DEPTH_MAX = 8
# Read once, when the log or a listener is opened, or a FIFO queue is made.
_LIMITS_FIXED = (
    "cache_bytes_max connections_max connections_unauthenticated_max dedup_window_ms"
    " disk_free_bytes_min handshake_ms_max reserve_bytes"
).split()

Path = tuple[str, ...]


class Listener(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An address to listen on; ``braids://`` is TLS, and needs the certificate and its key."""

    url: str
    tls_certificate: str = ""
    tls_key: str = ""

    @property
    def parts(self) -> SplitResult:
        """The URL, taken apart."""
        return urlsplit(self.url)

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        host = self.parts.hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


class Storage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the log is kept on disk."""

    segment_bytes: int = 64 * 1024 * 1024
    read_cache_bytes: int = 16 * 1024 * 1024


class Logging(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is logged, and how it looks. ``auto`` is text on a terminal, JSON lines otherwise."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"


class Account(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A user; the name is the key in the table ``users``."""

    password_hash: str = ""
    rules: tuple[Rule, ...] = ()

    def __repr__(self) -> str:
        """Without the hash, so that it does not end up in a log."""
        return f"Account(password_hash={SECRET_SHOWN}, rules={self.rules!r})"


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything the daemon can be told."""

    data: str = "data"
    listeners: tuple[Listener, ...] = (Listener(url=LISTEN_DEFAULT),)
    drain_ms: int = 25_000
    log: Logging = Logging()
    storage: Storage = Storage()
    limits: Limits = Limits()
    sessions: SessionPolicy = SessionPolicy()
    users: dict[str, Account] = {}
    queues: dict[str, QueueSettings] = {}

    def access_users(self) -> tuple[User, ...]:
        """The users, as ``access.Access`` takes them."""
        return tuple(
            User(name, account.password_hash, account.rules) for name, account in self.users.items()
        )


class ConfigInvalid(InvalidArgument):
    """The configuration is refused; ``problems`` has every reason, one a line."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Layer(msgspec.Struct, frozen=True):
    """Plain values from one place. ``origins`` says where each came from, else ``source`` does."""

    source: str
    values: dict[str, Any]
    origins: dict[Path, str] = {}


class Loaded(msgspec.Struct, frozen=True):
    """A configuration, and the origin of every value that is not a default."""

    config: Config
    origins: dict[Path, str]

    def origin(self, path: Path) -> str:
        """Where the value at ``path`` came from: ``default``, or a file, variable or flag."""
        return _origin(self.origins, path)


class _Text(str):
    """A value from the environment or a flag, whose type only the key knows."""

    __slots__ = ()


# --- layers ---


def file_layer(name: str, text: str) -> Layer:
    """The layer of a TOML file. Raises ConfigInvalid when it is not TOML."""
    try:
        return Layer(name, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid([f"{name}: not valid TOML: {error}"]) from None
    except RecursionError:
        raise ConfigInvalid([f"{name}: not valid TOML: nested too deeply"]) from None


def environment_layer(environment: Mapping[str, str], read_file: Callable[[str], str]) -> Layer:
    """The layer of the ``BRAIDMQ_*`` variables.

    ``__`` stands between the parts of a key. ``X_FILE`` names a file that holds the value of ``X``;
    ``read_file`` reads it and may raise OSError or ValueError.
    """
    values: dict[str, Any] = {}
    origins: dict[Path, str] = {}
    problems = []
    for variable in sorted(environment):
        key = variable.removeprefix(ENVIRONMENT_PREFIX)
        if key == variable or _FOREIGN_VARIABLE.fullmatch(key):
            continue
        text = environment[variable]
        if key.endswith("_FILE"):
            key = key.removesuffix("_FILE")
            try:
                text = read_file(text).rstrip("\r\n")
            except (OSError, ValueError) as error:
                problems.append(f"environment {variable}: cannot read {text!r}: {error}")
                continue
        path = tuple(key.lower().split("__"))
        if path in origins:
            problems.append(f"environment {variable}: set together with {origins[path]}")
        elif not _put(values, path, _Text(text)):
            problems.append(f"environment {variable}: contradicts another variable")
        origins[path] = f"environment {variable}"
    if problems:
        raise ConfigInvalid(problems)
    return Layer("environment", values, origins)


def _put(values: dict[str, Any], path: Path, value: object) -> bool:
    *folders, last = path
    for folder in folders:
        values = values.setdefault(folder, {})
        if not isinstance(values, dict):
            return False
    if last in values:
        return False
    values[last] = value
    return True


def _merge(
    into: dict[str, Any], origins: dict[Path, str], layer: Layer, values: Any, at: Path, own: Path
) -> None:
    """Lay ``values`` of a layer over ``into``. ``own`` is the path as the layer spells it."""
    for key, value in values.items():
        spelled = next((k for k in into if k.lower() == key), key) if layer.origins else key
        path = (*at, spelled)
        if isinstance(value, dict) and len(path) < _DEPTH_MAX:
            if not isinstance(into.get(spelled), dict):
                into[spelled] = {}
                origins[path] = layer.origins.get((*own, key), layer.source)
            _merge(into[spelled], origins, layer, value, path, (*own, key))
        else:
            into[spelled] = value
            origins[path] = layer.origins.get((*own, key), layer.source)


def _origin(origins: Mapping[Path, str], path: Path) -> str:
    for size in range(len(path), 0, -1):
        if path[:size] in origins:
            return origins[path[:size]]
    return "default"


def load(*layers: Layer) -> Loaded:
    """Lay the layers over the defaults, lowest first. Raises ConfigInvalid with all problems."""
    merged: dict[str, Any] = {}
    origins: dict[Path, str] = {}
    for layer in layers:
        _merge(merged, origins, layer, layer.values, (), ())
    reader = _Reader(origins)
    config = reader.table(Config, merged, ())
    if isinstance(config, Config):
        for path, text in _contradictions(config):
            reader.refuse(path, text)
    if reader.problems or not isinstance(config, Config):
        raise ConfigInvalid(reader.problems)
    # A table may be made of several layers, so only what is in it has an origin.
    return Loaded(config, {path: origins[path] for path in origins.keys() - reader.tables})


def holds_secrets(layer: Layer) -> bool:
    """Whether the layer holds something that not everybody may read."""
    users = layer.values.get("users")
    tables = users.values() if isinstance(users, dict) else ()
    return any(isinstance(table, dict) and table.get("password_hash") for table in tables)


# --- values ---


def duration_ms(text: str) -> int:
    """Milliseconds of ``30s``, ``1h30m``, ``250ms``, ``4d``. Raises InvalidArgument."""
    return _with_units(text, _DURATIONS_MS, "a duration: write 250ms, 30s, 5m, 12h, 4d or 1h30m")


def size_bytes(text: str) -> int:
    """Bytes of ``512``, ``64KiB``, ``4MiB``, ``1GB``. Raises InvalidArgument."""
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    return _with_units(text, _SIZES, "a size: write 512, 64KiB, 4MiB or 1GiB")


def _with_units(text: str, units: dict[str, int], expected: str) -> int:
    at, total = 0, 0.0
    stripped = text.strip()
    while at < len(stripped):
        found = _NUMBER_AND_UNIT.match(stripped, at)
        if found is None or found[2] not in units or len(found[1]) > 20:
            break
        total += float(found[1]) * units[found[2]]
        at = found.end()
    if not stripped or at < len(stripped) or total > _NUMBER_MAX:
        raise InvalidArgument(f"{text[:80]!r} is not {expected}")
    return round(total)


class _Reader:
    """Turns plain values into the structs, and notes every problem, not only the first."""

    def __init__(self, origins: Mapping[Path, str]) -> None:
        self.origins = origins
        self.problems: list[str] = []
        self.tables: set[Path] = set()

    def refuse(self, path: Path, text: str) -> None:
        self.problems.append(f"{_origin(self.origins, path)}: {dotted(path)}: {text}")

    def expected(self, path: Path, value: object, what: str) -> None:
        shown = SECRET_SHOWN if path[0] == "users" else f"{value!r}"[:80]
        self.refuse(path, f"{shown} is not {what}")

    def table(self, kind: type[msgspec.Struct], value: object, path: Path) -> object:
        """A struct out of a table, or None with the problems noted."""
        entries = self.entries(value, path)
        if entries is None:
            return None
        before = len(self.problems)
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        for key in sorted(entries.keys() - fields.keys()):
            self.unknown((*path, key), fields)
        read = {
            name: self.value(field.type, entries[name], (*path, name))
            for name, field in fields.items()
            if name in entries
        }
        for name, field in fields.items():
            if field.required and name not in entries:
                self.refuse((*path, name), "missing")
        if len(self.problems) > before:
            return None
        try:
            return kind(**read)
        except ValueError as error:  # from __post_init__ of Rule
            self.refuse(path, str(error))
            return None

    def unknown(self, path: Path, known: Mapping[str, object]) -> None:
        near = get_close_matches(path[-1].lower(), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        self.refuse(path, f"unknown key; {hint}")

    def value(self, kind: Any, value: object, path: Path) -> Any:
        """A value of the kind a field has."""
        origin = get_origin(kind)
        if kind is int:
            return self.number(value, path)
        if kind is bool:
            return self.boolean(value, path)
        if kind is str:
            if not isinstance(value, str):
                self.expected(path, value, "a text")
            return str(value)
        if origin is Literal:
            return self.choice({name: name for name in get_args(kind)}, value, path)
        if origin is tuple:
            return self.items(get_args(kind)[0], value, path)
        if origin is dict:
            return self.named(get_args(kind)[1], value, path)
        if issubclass(kind, IntEnum):
            return self.choice({member.name.lower(): member for member in kind}, value, path)
        return self.table(kind, value, path)

    def number(self, value: object, path: Path) -> int:
        name = path[-1]
        if isinstance(value, str):
            try:
                if "_ms" in name and not re.fullmatch(r"[0-9]+", value):
                    value = duration_ms(value)
                elif "bytes" in name:
                    value = size_bytes(value)
                elif isinstance(value, _Text) and re.fullmatch(r"-?[0-9]{1,18}", value):
                    value = int(value)
            except InvalidArgument as error:
                self.refuse(path, str(error))
                return 0
        if isinstance(value, bool) or not isinstance(value, int):
            unit = ", or a duration such as 30s" if "_ms" in name else ""
            unit = ", or a size such as 4MiB" if "bytes" in name else unit
            self.expected(path, value, f"a whole number{unit}")
            return 0
        least = 1 if path[0] == "limits" and name not in ZERO_ALLOWED else 0
        if not least <= value <= _NUMBER_MAX:
            self.refuse(path, f"{value} is out of range; it is between {least} and {_NUMBER_MAX}")
        return value

    def boolean(self, value: object, path: Path) -> bool:
        if isinstance(value, _Text) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            self.expected(path, value, "true or false")
        return bool(value)

    def choice(self, choices: Mapping[str, object], value: object, path: Path) -> object:
        if not isinstance(value, str) or value not in choices:
            self.expected(path, value, f"one of {', '.join(choices)}")
            return None
        return choices[str(value)]

    def items(self, kind: Any, value: object, path: Path) -> tuple[Any, ...]:
        if kind is Listener and isinstance(value, _Text) and not value.lstrip().startswith("["):
            value = [part.strip() for part in value.split(",") if part.strip()]
        value = self.decoded(value, "[")
        if not isinstance(value, list):
            self.expected(path, value, "a list")
            return ()
        read = []
        for number, item in enumerate(value):
            at = (*path, str(number))
            if kind is Listener and isinstance(item, str):
                item = {"url": item}
            read.append(self.value(kind, item, at))
        return tuple(read)

    def named(self, kind: Any, value: object, path: Path) -> dict[str, Any]:
        entries = self.entries(value, path) or {}
        return {name: self.value(kind, item, (*path, name)) for name, item in entries.items()}

    def entries(self, value: object, path: Path) -> dict[str, Any] | None:
        if isinstance(value, dict):
            self.tables.add(path)
            return value
        value = self.decoded(value, "{")
        if isinstance(value, dict):
            return value
        self.expected(path, value, "a table")
        return None

    @staticmethod
    def decoded(value: object, start: str) -> object:
        """Tables and lists come from the environment as JSON."""
        if isinstance(value, _Text) and value.lstrip().startswith(start):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return value
        return value


def dotted(path: Path) -> str:
    """The key as TOML writes it."""
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(part if bare.fullmatch(part) else json.dumps(part) for part in path)


# --- what goes together ---


def _contradictions(config: Config) -> Iterator[tuple[Path, str]]:
    from .passwords import hash_problem  # brings anyio: a client command needs none of it

    limits = config.limits
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
    if not config.data:
        yield ("data",), "is empty; name the directory that holds the messages"
    if not config.listeners:
        yield ("listeners",), "is empty; name at least one address"
    seen: set[str] = set()
    for number, listener in enumerate(config.listeners):
        for text in _listener_problems(listener, seen, bool(config.users)):
            yield ("listeners", str(number)), text
    for name, account in config.users.items():
        try:
            User(name, account.password_hash, account.rules)
        except ValueError as error:
            yield ("users", name), str(error)
            continue
        problem = hash_problem(account.password_hash) if account.password_hash else None
        if problem:
            yield ("users", name, "password_hash"), f"{problem}; braidmq user hash makes one"
    for name, settings in config.queues.items():
        try:
            check_name(name)
            settings.check()
        except InvalidArgument as error:
            yield ("queues", name), str(error)


def _listener_problems(listener: Listener, seen: set[str], users: bool) -> Iterator[str]:
    url, example = listener.url, f"write it like {LISTEN_DEFAULT}"
    try:
        parts = listener.parts
        port = parts.port
    except ValueError:  # its text may hold a part of a password
        yield f"not a URL; {example}"
        return
    more = parts.path.strip("/") or parts.query or parts.fragment or parts.netloc.endswith(":")
    if parts.username is not None or parts.password is not None:
        yield f"a listener has no user or password in its URL; {example}"
    elif parts.scheme not in SCHEMES:
        known = " or ".join(f"{scheme}://" for scheme in SCHEMES)
        yield f"{url[:80]!r} does not begin with {known}; {example}"
    elif not parts.hostname or more or not url.isprintable() or " " in url:
        yield f"{url[:80]!r} is not a host and a port; {example}"
    elif port != 0 and url in seen:
        yield f"{url} is there twice"
    elif not listener.is_loopback and not users:
        yield (
            f"{url} can be reached from other machines and no user is defined, so anybody could"
            " read and delete every message; define users (braidmq user hash makes one), or"
            " listen on 127.0.0.1"
        )
    files = (listener.tls_certificate, listener.tls_key)
    if parts.scheme in _TLS_SCHEMES and not all(files):
        yield f"{parts.scheme}:// is TLS and needs tls_certificate and tls_key"
    elif parts.scheme not in _TLS_SCHEMES and any(files):
        yield "tls_certificate and tls_key are for braids://"
    seen.add(url)


# --- listings and differences ---


def flat(config: Config) -> dict[Path, object]:
    """Every value under its path, as plain values, secrets hidden."""
    found: dict[Path, object] = {}

    def walk(value: object, path: Path) -> None:
        if isinstance(value, msgspec.Struct):
            for name in value.__struct_fields__:
                walk(getattr(value, name), (*path, name))
        elif isinstance(value, dict) and path in (("users",), ("queues",)):
            for name, item in value.items():
                walk(item, (*path, name))
        elif path[-1] == "password_hash":
            found[path] = SECRET_SHOWN if value else ""
        elif isinstance(value, IntEnum):
            found[path] = value.name.lower()
        else:
            found[path] = json.loads(msgspec.json.encode(value))

    walk(config, ())
    return found


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
    for name in old.users.keys() & new.users.keys():
        one, other = old.users[name].password_hash, new.users[name].password_hash
        if one and other and one != other:
            lines.append(f"{dotted(('users', name, 'password_hash'))}: changed")
    return lines


def needs_restart(old: Config, new: Config) -> list[str]:
    """The keys that differ and that a reload cannot change."""
    parts = ("data", "listeners", "drain_ms", "storage", "sessions", "queues")
    keys = [name for name in parts if getattr(old, name) != getattr(new, name)]
    if old.log.format != new.log.format:
        keys.append("log.format")
    for name in _LIMITS_FIXED:
        if getattr(old.limits, name) != getattr(new.limits, name):
            keys.append(f"limits.{name}")
    return keys
