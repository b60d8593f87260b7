"""Reads what the configuration is made of: the file, the environment, the flags."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ...broker.config import (
    ConfigInvalid,
    Layer,
    Loaded,
    environment_layer,
    file_layer,
    holds_secrets,
    load,
)

__all__ = ["read_configuration"]

_FILE_BYTES_MAX = 16 * 1024 * 1024


def read_configuration(
    file: str | None, data: str | None = None, listen: Sequence[str] = ()
) -> tuple[Loaded, list[str]]:
    """The configuration, and warnings about it. Raises ConfigInvalid."""
    layers, warnings = [], []
    if file is not None:
        layer, mode = _read_file(file)
        layers.append(layer)
        if mode & (stat.S_IRGRP | stat.S_IROTH) and holds_secrets(layer):
            warnings.append(
                f"{file} holds password hashes and others can read it: chmod 600 {file}"
            )
    layers.append(environment_layer(os.environ, _read_secret))
    layers.append(_flags(data, listen))
    return load(*layers), warnings


def _read_file(file: str) -> tuple[Layer, int]:
    try:
        with open(file, "rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            content = opened.read(_FILE_BYTES_MAX + 1)
        if len(content) > _FILE_BYTES_MAX:
            raise ConfigInvalid([f"{file}: is larger than {_FILE_BYTES_MAX} bytes"])
        return file_layer(file, content.decode()), mode
    except OSError as error:
        raise ConfigInvalid([f"{file}: cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigInvalid([f"{file}: is not UTF-8"]) from None


def _read_secret(name: str) -> str:
    return Path(name).read_text()


def _flags(data: str | None, listen: Sequence[str]) -> Layer:
    values: dict[str, object] = {}
    origins: dict[tuple[str, ...], str] = {}
    if data is not None:
        values["data"] = data
        origins["data",] = "flag --data"
    if listen:
        values["listeners"] = list(listen)
        origins["listeners",] = "flag --listen"
    return Layer("flags", values, origins)
