"""``serve``: a broker, open to the network for as long as an ``async with`` lasts.

The one place that knows every dialect by the name that ``broker/schemes.py`` gives it.
"""

import asyncio
import secrets
import ssl
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType

from ..broker.config import Listener
from ..broker.core import Core
from ..broker.errors import InvalidArgument
from ..broker.jwt import JwtSettings
from ..broker.runtime import Broker
from ..broker.schemes import SCHEMES
from ..broker.webhook_policy import WebhookPolicy
from .listener import Acceptor, Dialect
from .mqtt.server import MqttServer
from .mqtt.session import MqttSession
from .native.session import NativeSession
from .session import SessionFactory
from .stomp.server import StompServer
from .stomp.session import StompSession
from .webhooks.confirming import CONFIRM_PATH, confirming
from .webhooks.service import WebhookService

__all__ = ["NATIVE_PORT", "Server", "serve"]

NATIVE_PORT = SCHEMES["braid"].port

_ID_BYTES = 12  # of chance in an identifier that the server chooses: 16 characters
_ENVELOPE_BYTES = 8 * 1024  # what a SEND takes beside a message's body and headers


class Server:
    """What ``async with serve(...) as server`` gives."""

    def __init__(
        self,
        broker: Broker,
        listeners: Sequence[Listener],
        tls: ssl.SSLContext | None,
        jwt: JwtSettings | None,
        grace: float,
        webhooks: WebhookPolicy,
    ) -> None:
        self._broker = broker
        self._wanted = listeners
        self._tls = tls
        self._jwt = jwt
        self._grace = grace
        self._policy = webhooks
        self._webhooks: WebhookService | None = None
        self._acceptor: Acceptor | None = None

    @property
    def urls(self) -> list[str]:
        """Where the server listens, with the ports that the system chose for port 0."""
        return list(self._acceptor.urls) if self._acceptor is not None else []

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return self._acceptor.connections if self._acceptor is not None else 0

    @property
    def connections_refused(self) -> int:
        """How many were closed at once, because there were too many."""
        return self._acceptor.refused if self._acceptor is not None else 0

    def prepare(
        self, listeners: Sequence[Listener], jwt: JwtSettings | None = None
    ) -> Callable[[], int]:
        """Make ready to change what the listeners grant, and to show their certificates anew.

        ``listeners`` are those of :func:`serve` in their order, with other options. Nothing is
        changed until what is returned is called, which cannot fail; it returns how many
        certificates were read. Raises ConfigInvalid, InvalidArgument.
        """
        assert self._acceptor is not None
        return self._acceptor.prepare(listeners, jwt)

    async def __aenter__(self) -> "Server":
        limits = self._broker.limits
        needed = limits.body_bytes_max + limits.headers_bytes_max + _ENVELOPE_BYTES
        if limits.frame_bytes_max < needed:
            raise InvalidArgument(
                f"frame_bytes_max is {limits.frame_bytes_max}, but a message with body_bytes_max"
                f" and headers_bytes_max needs {needed}"
            )
        acceptor = Acceptor(self._broker, self._dialects(), self._jwt)
        webhooks = WebhookService(self._broker.core, self._broker.now_ms, self._policy)
        try:
            for listener in self._wanted:
                await acceptor.listen(listener, self._tls)
            webhooks.open()
        except BaseException:
            await acceptor.close(0)
            raise
        self._acceptor, self._webhooks = acceptor, webhooks
        self._broker.on_count_connections(lambda: acceptor.connections)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._acceptor is not None and self._webhooks is not None
        closing = asyncio.gather(
            self._acceptor.close(self._grace), self._webhooks.close(self._grace)
        )
        try:
            await asyncio.shield(closing)
        except asyncio.CancelledError:
            await self._acceptor.close(0)
            self._webhooks.hurry()
            await closing
            raise

    def _dialects(self) -> dict[str, Dialect]:
        core = self._broker.core
        new_id = partial(secrets.token_urlsafe, _ID_BYTES)
        mqtt_server = MqttServer(core, new_id)
        stomp_server = StompServer(core, new_id)

        def native(listener: Listener) -> SessionFactory:
            return lambda host, now_ms: NativeSession(core, host, now_ms)

        def mqtt(listener: Listener) -> SessionFactory:
            options = listener.mqtt
            return lambda host, now_ms: MqttSession(core, host, now_ms, options, mqtt_server)

        def stomp(listener: Listener) -> SessionFactory:
            options = listener.stomp
            return lambda host, now_ms: StompSession(core, host, now_ms, options, stomp_server)

        def http(listener: Listener) -> SessionFactory:
            return _http_sessions(listener, mqtt(listener), stomp(listener), core)

        return {"native": native, "mqtt": mqtt, "stomp": stomp, "http": http}


def _http_sessions(
    listener: Listener, mqtt: SessionFactory, stomp: SessionFactory, core: Core
) -> SessionFactory:
    """What the HTTP port has. Raises InvalidArgument without what a core installation lacks."""
    try:
        from .http.handshake import Subprotocol, WebSocketOffer
        from .http.session import Route, Site, http_sessions, tell_health
    except ImportError:
        text = f"{listener.url}: HTTP and WebSocket need httptools: pip install 'braidmq[server]'"
        raise InvalidArgument(text) from None
    # [MQTT-6.0.0-3] names the subprotocol; mqttv3.1 is what clients of 3.1 ask for.
    mqtts = dict.fromkeys(("mqtt", "mqttv3.1"), Subprotocol(mqtt))
    # The versions are agreed on by CONNECT; the names say which the client would like best.
    stomps = {
        f"v1{minor}.stomp": Subprotocol(stomp, takes_text=True, rank=minor + 1)
        for minor in range(3)
    }
    routes = {
        "/": Route(websocket=WebSocketOffer(mqtts | stomps)),
        "/mqtt": Route(websocket=WebSocketOffer(mqtts)),
        "/ws": Route(websocket=WebSocketOffer(stomps, Subprotocol(stomp, takes_text=True))),
        "/stomp": Route(websocket=WebSocketOffer(stomps, Subprotocol(stomp, takes_text=True))),
        "/health": Route(answer=tell_health),
        CONFIRM_PATH: Route(answer=confirming(core)),
    }
    return http_sessions(Site(routes, listener.origins), core.limits)


def serve(
    broker: Broker,
    *listeners: str | Listener,
    tls: ssl.SSLContext | None = None,
    jwt: JwtSettings | None = None,
    grace: float = 10.0,
    webhooks: WebhookPolicy | None = None,
) -> Server:
    """Open ``broker`` to the network: ``async with serve(broker, "braid://127.0.0.1:7450"): ...``

    Args:
        broker: an open :class:`Broker` on the same event loop.
        listeners: where to listen: URLs, or :class:`Listener` objects, which have a certificate and
            MQTT options each. The schemes are in ``broker/schemes.py``; those that end in ``s`` are
            TLS. Port 0 lets the system choose, and ``server.urls`` tells what it chose.
        tls: the certificate, for URLs with TLS and listeners that name none.
        jwt: whose tokens are taken in place of a password.
        grace: seconds that connections get at the end to finish what they began.
        webhooks: where the broker's webhooks may call; default: addresses of the world, not ours.

    Raises:
        InvalidArgument: a URL is wrong; it needs a certificate, or what is not installed; other
            machines could reach it while no user is defined; or a key for tokens is of no use.
        ConfigInvalid: a listener's certificate cannot be used.
        OSError: the port is in use.
    """
    each = [Listener(url=item) if isinstance(item, str) else item for item in listeners]
    return Server(broker, each, tls, jwt, grace, webhooks or WebhookPolicy())
