"""The brokers that can be measured, by name."""

from typing import Final

from .system import System

__all__ = ["SYSTEMS"]

SYSTEMS: Final[dict[str, System]] = {}
