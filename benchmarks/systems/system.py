"""What the load tool knows of a broker that it can start, ours or a peer.

Rules:

1. Equal durability: with ``durable``, a confirmation means that the message is on disk, synced, as
   far as the system can do that; where it cannot, ``settings`` says what it does instead.
2. What is not installed is named, with how to install it; nothing is guessed.
3. Each is started on free loopback ports, with data in an empty directory of its own, and ended by
   its pid (``peer.py``).
"""

import contextlib
from collections.abc import Callable
from typing import Protocol

import msgspec

__all__ = ["Running", "System"]


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A broker that serves."""

    version: str
    urls: dict[str, str]  # by scheme
    pid: int
    settings: dict[str, str]  # what was set, and what decides durability, in plain words
    tls_urls: dict[str, str] = {}  # the same, for TLS; none where no certificate can be made
    tls_ca: str = ""  # the file that vouches for it, for Wiring.tls_ca
    # Kill it as a crash would, and start it on its data and its ports; the new pid, when it serves.
    restart: Callable[[], int] | None = None  # None: nobody knows how. Raises ServerFailed


class System(Protocol):
    """A kind of broker.

    Attributes:
        name: as people know it.
        schemes: of the URLs it serves.
    """

    name: str
    schemes: frozenset[str]

    def why_not(self) -> str:
        """Why it cannot be started here, and what would install it; "" when it can."""

    def version(self) -> str:
        """Of what would be started; "" when none is there."""

    def start(self, stack: contextlib.ExitStack, directory: str, durable: bool) -> Running:
        """Start it; it ends with ``stack``. Raises ServerFailed."""
