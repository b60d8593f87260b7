"""``serve``: a broker, open to the network for as long as an ``async with`` lasts.

The one place that knows every dialect by its URL scheme.
"""

import asyncio
import ssl
from types import TracebackType

from ..broker.errors import InvalidArgument
from ..broker.runtime import Broker
from .listener import Dialect, Listener
from .native.session import NativeSession
from .session import Host

__all__ = ["NATIVE_PORT", "Server", "serve"]

NATIVE_PORT = 7450

_ENVELOPE_BYTES = 8 * 1024  # what a SEND takes beside a message's body and headers


class Server:
    """What ``async with serve(...) as server`` gives."""

    def __init__(
        self, broker: Broker, urls: tuple[str, ...], tls: ssl.SSLContext | None, grace: float
    ) -> None:
        self._broker = broker
        self._wanted = urls
        self._tls = tls
        self._grace = grace
        self._listener: Listener | None = None

    @property
    def urls(self) -> list[str]:
        """Where the server listens, with the ports that the system chose for port 0."""
        return list(self._listener.urls) if self._listener is not None else []

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return self._listener.connections if self._listener is not None else 0

    @property
    def connections_refused(self) -> int:
        """How many were closed at once, because there were too many."""
        return self._listener.refused if self._listener is not None else 0

    async def __aenter__(self) -> "Server":
        limits = self._broker.limits
        needed = limits.body_bytes_max + limits.headers_bytes_max + _ENVELOPE_BYTES
        if limits.frame_bytes_max < needed:
            raise InvalidArgument(
                f"frame_bytes_max is {limits.frame_bytes_max}, but a message with body_bytes_max"
                f" and headers_bytes_max needs {needed}"
            )
        listener = Listener(self._broker, self._dialects(), self._tls)
        try:
            for url in self._wanted:
                await listener.listen(url)
        except BaseException:
            await listener.close(0)
            raise
        self._listener = listener
        self._broker.on_count_connections(lambda: listener.connections)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._listener is not None
        closing = asyncio.ensure_future(self._listener.close(self._grace))
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await self._listener.close(0)
            await closing
            raise

    def _dialects(self) -> dict[str, Dialect]:
        core = self._broker.core

        def native(host: Host, now_ms: int) -> NativeSession:
            return NativeSession(core, host, now_ms)

        return {
            "braid": Dialect(native, NATIVE_PORT, tls=False),
            "braids": Dialect(native, NATIVE_PORT, tls=True),
        }


def serve(
    broker: Broker, *urls: str, tls: ssl.SSLContext | None = None, grace: float = 10.0
) -> Server:
    """Open ``broker`` to the network: ``async with serve(broker, "braid://127.0.0.1:7450"): ...``

    Args:
        broker: an open :class:`Broker` on the same event loop.
        urls: where to listen; ``braids://`` is TLS. Port 0 lets the system choose, and
            ``server.urls`` tells what it chose.
        tls: the certificate, for ``braids://``.
        grace: seconds that connections get at the end to finish what they began.

    Raises:
        InvalidArgument: a URL is wrong; it needs a certificate; or other machines could reach it
            while no user is defined.
        OSError: the port is in use.
    """
    return Server(broker, urls, tls, grace)
