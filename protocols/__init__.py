"""The dialects: each a sans-IO session over the broker; listeners, ``serve`` and ``connect``.

Names are loaded when they are first used: a client does not pay for the server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .native.client import RemoteBroker, connect
    from .server import Server, serve

__all__ = [
    "RemoteBroker",
    "Server",
    "connect",
    "serve",
]

_HOME = {
    "RemoteBroker": ".native.client",
    "Server": ".server",
    "connect": ".native.client",
    "serve": ".server",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
