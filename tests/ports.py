"""A port of our own: for servers that end and begin again at the same place.

Between the end and the new beginning somebody else might be given the port by the system, another
test at the same time for example. A socket that is bound to it and never listens keeps it: servers
bind beside it (they set SO_REUSEADDR), and who connects while there is none is refused.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_port"]


@contextmanager
def kept_port() -> Iterator[int]:
    """A port of 127.0.0.1 that the system gives to nobody else until the end of the block."""
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield keeper.getsockname()[1]
