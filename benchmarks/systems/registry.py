"""The brokers that can be measured, by name."""

from typing import Final

from .system import System

__all__ = ["LACKS", "SYSTEMS"]

SYSTEMS: Final[dict[str, System]] = {}

# What a system does not have of the kinds and features of a driver, by system and scheme.
LACKS: Final[dict[tuple[str, str], frozenset[str]]] = {}
