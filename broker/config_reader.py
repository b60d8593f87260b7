"""Reads plain values into typed, frozen structs, strictly: what any configuration needs.

1. Layers are laid over one another: defaults < file < environment < flags. Tables are merged key by
   key, lists and values are replaced.
2. Strict: an unknown key, a wrong type or a value out of range refuses the whole. All problems are
   reported at once, each with its key, its origin, and what is allowed.
3. Nothing is read here: text and environment come in as arguments.
4. What is secret is never part of a problem.

What there is to configure is told by ``config.py``.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from enum import IntEnum
from types import UnionType
from typing import Any, Literal, get_args, get_origin

import msgspec

from .errors import InvalidArgument

__all__ = [
    "ENVIRONMENT_PREFIX",
    "SECRET_SHOWN",
    "ConfigInvalid",
    "Layer",
    "Path",
    "Reader",
    "dotted",
    "duration_ms",
    "environment_layer",
    "file_layer",
    "merged",
    "origin_of",
    "size_bytes",
]

ENVIRONMENT_PREFIX = "BRAIDMQ_"
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

Path = tuple[str, ...]


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


def merged(layers: Iterable[Layer]) -> tuple[dict[str, Any], dict[Path, str]]:
    """The layers over one another, lowest first, and where each value came from."""
    values: dict[str, Any] = {}
    origins: dict[Path, str] = {}
    for layer in layers:
        _merge(values, origins, layer, layer.values, (), ())
    return values, origins


def origin_of(origins: Mapping[Path, str], path: Path) -> str:
    """Where the value at ``path`` came from: ``default``, or a file, variable or flag."""
    for size in range(len(path), 0, -1):
        if path[:size] in origins:
            return origins[path[:size]]
    return "default"


# --- values ---


def duration_ms(text: str) -> int:
    """Milliseconds of ``30s``, ``1h30m``, ``250ms``, ``4d``. Raises InvalidArgument."""
    return _with_units(text, _DURATIONS_MS, "a duration: write 250ms, 30s, 5m, 12h, 4d or 1h30m")


def size_bytes(text: str) -> int:
    """Bytes of ``512``, ``64KiB``, ``4MiB``, ``1GB``. Raises InvalidArgument."""
    if text.isascii() and text.isdigit() and len(text) < 20:
        return int(text)
    return _with_units(text, _SIZES, "a size: write 512, 64KiB, 4MiB or 1GiB")


def _whole_seconds(text: str) -> int:
    seconds, rest = divmod(duration_ms(text), 1_000)
    if rest:
        raise InvalidArgument(f"{text[:80]!r} is not a whole number of seconds")
    return seconds


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


class Reader:
    """Turns plain values into the structs, and notes every problem, not only the first.

    Args:
        origins: where the values came from.
        is_secret: whether a value at a path must not be told.
        least_of: the least number that a path may hold.
        short: structs that may be written as a plain text, which is then the named field.
    """

    def __init__(
        self,
        origins: Mapping[Path, str],
        is_secret: Callable[[Path], bool],
        least_of: Callable[[Path], int],
        short: Mapping[type, str],
    ) -> None:
        self.problems: list[str] = []
        self.layered: set[Path] = set()  # the tables that may be made of several layers
        self.keys: dict[Path, set[str]] = {}  # the tables, each with the keys that were given
        self._origins = origins
        self._is_secret = is_secret
        self._least_of = least_of
        self._short = short

    def refuse(self, path: Path, text: str) -> None:
        """Note a problem with the value at ``path``."""
        self.problems.append(f"{origin_of(self._origins, path)}: {dotted(path)}: {text}")

    def expected(self, path: Path, value: object, what: str) -> None:
        shown = SECRET_SHOWN if self._is_secret(path) else f"{value!r}"[:80]
        self.refuse(path, f"{shown} is not {what}")

    def table(self, kind: type[msgspec.Struct], value: object, path: Path) -> object:
        """A struct out of a table, or None with the problems noted."""
        entries = self.entries(value, path)
        if entries is None:
            return None
        self.keys[path] = set(entries)
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
        except ValueError as error:  # from its __post_init__
            self.refuse(path, str(error))
            return None

    def unknown(self, path: Path, known: Mapping[str, object]) -> None:
        near = get_close_matches(path[-1].lower(), known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        self.refuse(path, f"unknown key; {hint}")

    def value(self, kind: Any, value: object, path: Path) -> Any:
        """A value of the kind a field has."""
        origin = get_origin(kind)
        if origin is UnionType:  # X | None: None is what it has when it is not given
            return self.value(get_args(kind)[0], value, path)
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
                elif "_seconds" in name and not re.fullmatch(r"[0-9]+", value):
                    value = _whole_seconds(value)
                elif "bytes" in name:
                    value = size_bytes(value)
                elif isinstance(value, _Text) and re.fullmatch(r"-?[0-9]{1,18}", value):
                    value = int(value)
            except InvalidArgument as error:
                self.refuse(path, str(error))
                return 0
        if isinstance(value, bool) or not isinstance(value, int):
            timed = "_ms" in name or "_seconds" in name
            unit = ", or a duration such as 30s" if timed else ""
            unit = ", or a size such as 4MiB" if "bytes" in name else unit
            self.expected(path, value, f"a whole number{unit}")
            return 0
        least = self._least_of(path)
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
            listed = ", ".join(choice or '""' for choice in choices)
            self.expected(path, value, f"one of {listed}")
            return None
        return choices[str(value)]

    def items(self, kind: Any, value: object, path: Path) -> tuple[Any, ...]:
        short = self._short.get(kind)
        if short and isinstance(value, _Text) and not value.lstrip().startswith("["):
            value = [part.strip() for part in value.split(",") if part.strip()]
        value = self.decoded(value, "[")
        if not isinstance(value, list):
            self.expected(path, value, "a list")
            return ()
        read = []
        for number, item in enumerate(value):
            at = (*path, str(number))
            if short and isinstance(item, str):
                item = {short: item}
            read.append(self.value(kind, item, at))
        return tuple(read)

    def named(self, kind: Any, value: object, path: Path) -> dict[str, Any]:
        entries = self.entries(value, path) or {}
        return {name: self.value(kind, item, (*path, name)) for name, item in entries.items()}

    def entries(self, value: object, path: Path) -> dict[str, Any] | None:
        if isinstance(value, dict):
            self.layered.add(path)
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
