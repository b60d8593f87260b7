"""A listener as it is configured: its address, its certificate, whom it trusts, what it grants."""

import ipaddress
from collections.abc import Iterator
from typing import Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from .certificates import CertificateName
from .mqtt_options import MqttOptions
from .schemes import MQTT_DIALECTS, SCHEMES, STOMP_DIALECTS, Scheme
from .stomp_options import StompOptions

__all__ = ["LISTENERS_DEFAULT", "LISTEN_DEFAULT", "Listener", "listener_problems"]

LISTEN_DEFAULT = "braid://127.0.0.1:7450"  # for clients, too
LISTENERS_DEFAULT = (
    LISTEN_DEFAULT,
    "mqtt://127.0.0.1:1883",
    "stomp://127.0.0.1:61613",
    "http://127.0.0.1:8450",
)
_EXAMPLE = f"write it like {LISTEN_DEFAULT}"


class Listener(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True
):
    """An address to listen on. A scheme with TLS needs the certificate and its key, PEM files.

    Attributes:
        url: ``scheme://host:port``; the schemes are in ``schemes.py``.
        tls_certificate: the server's certificate and its chain.
        tls_key: the key of it.
        tls_client_ca: the authorities whose certificates clients may show.
        tls_client: whether clients are asked for one, and whether they must have it.
        certificate_user: the certificate's name is the user, who then needs no password.
        certificate_name: which name: the common name, or an alternative name of a kind.
        origins: web sites whose pages may connect, beside the listener's own, as
            ``https://name`` or ``https://name:port``; ``*`` is every site.
        mqtt: what MQTT clients get. stomp: what STOMP clients get.
    """

    url: str
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    tls_client: Literal["none", "optional", "required"] = "none"
    certificate_user: bool = False
    certificate_name: CertificateName = "cn"
    origins: tuple[str, ...] = ()
    mqtt: MqttOptions = MqttOptions()
    stomp: StompOptions = StompOptions()

    @property
    def parts(self) -> SplitResult:
        """The URL, taken apart. Raises ValueError when it is none."""
        return urlsplit(self.url)

    @property
    def scheme(self) -> Scheme | None:
        """What its scheme stands for; None when nobody knows."""
        return SCHEMES.get(self.url.partition("://")[0].lower())

    @property
    def speaks_mqtt(self) -> bool:
        """Whether MQTT clients can come in by it, directly or over WebSocket."""
        scheme = self.scheme
        return scheme is not None and scheme.dialect in MQTT_DIALECTS

    @property
    def speaks_stomp(self) -> bool:
        """Whether STOMP clients can come in by it, directly or over WebSocket."""
        scheme = self.scheme
        return scheme is not None and scheme.dialect in STOMP_DIALECTS

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can reach it."""
        host = self.parts.hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost"


def listener_problems(listener: Listener, seen: set[tuple[str, int]], users: bool) -> Iterator[str]:
    """What is wrong with it. ``seen`` has the addresses of those before, and gets this one's."""
    url = listener.url
    try:
        parts = listener.parts
        port = parts.port
    except ValueError:  # its text may hold a part of a password
        yield f"not a URL; {_EXAMPLE}"
        return
    more = parts.path.strip("/") or parts.query or parts.fragment or parts.netloc.endswith(":")
    if parts.username is not None or parts.password is not None:
        yield f"a listener has no user or password in its URL; {_EXAMPLE}"
        return
    scheme = listener.scheme
    if scheme is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        yield f"{url[:80]!r} does not begin with one of {known}; {_EXAMPLE}"
        return
    if not parts.hostname or more or not url.isprintable() or " " in url:
        yield f"{url[:80]!r} is not a host and a port; {_EXAMPLE}"
        return
    address = (parts.hostname, scheme.port if port is None else port)
    if address[1] != 0 and address in seen:
        yield f"{address[0]} port {address[1]} is there twice"
    elif not listener.is_loopback and not users:
        yield (
            f"{url} can be reached from other machines and no user is defined, so anybody could"
            " read and delete every message; define users (braidmq user hash makes one), or"
            " listen on 127.0.0.1"
        )
    seen.add(address)
    yield from _tls_problems(listener, parts.scheme, scheme.tls)
    if listener.origins and scheme.dialect != "http":
        yield f"origins are web sites: they are for http:// and ws://, not for {parts.scheme}://"
    if listener.mqtt != MqttOptions() and not listener.speaks_mqtt:
        yield f"mqtt is for listeners that MQTT comes in by, not for {parts.scheme}://"
    if listener.stomp != StompOptions() and not listener.speaks_stomp:
        yield f"stomp is for listeners that STOMP comes in by, not for {parts.scheme}://"


def _tls_problems(listener: Listener, name: str, tls: bool) -> Iterator[str]:
    files = (listener.tls_certificate, listener.tls_key)
    if tls and not all(files):
        yield f"{name}:// is TLS and needs tls_certificate and tls_key"
    elif not tls and any((*files, listener.tls_client_ca)):
        yield f"tls_certificate, tls_key and tls_client_ca are for TLS, not for {name}://"
    elif not tls and listener.tls_client != "none":
        yield f"tls_client is for TLS, not for {name}://"
    elif listener.tls_client != "none" and not listener.tls_client_ca:
        yield f"tls_client is {listener.tls_client} and needs tls_client_ca: whom to trust?"
    elif listener.tls_client_ca and listener.tls_client == "none":
        yield "tls_client_ca does nothing: set tls_client to optional or required"
    if listener.certificate_user and listener.tls_client == "none":
        yield "certificate_user needs tls_client: without it nobody shows a certificate"
