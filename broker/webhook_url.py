"""The URL of a webhook, read strictly: one spelling for each place, and none in doubt.

Clients, resolvers and address checks that read a URL differently are how a server is made to call
what it must not. So whatever more than one reader could take differently is refused here, and the
parts that are returned are what is resolved, checked and connected to; nothing reads the URL again.

1. ``http`` or ``https``, a host, perhaps a port, a path and a query; no user, no fragment.
2. Printable ASCII without spaces and backslashes. International names are written as ``xn--``.
3. A host is a name, four decimal numbers, or an IPv6 address in brackets without a zone. Other
   spellings of an IPv4 address (one number, octal, hexadecimal, fewer parts) are refused.

Whether the address may be called is asked when it is connected to, not here.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import msgspec

from .errors import InvalidArgument

__all__ = ["URL_BYTES_MAX", "WebhookUrl", "parse_webhook_url"]

URL_BYTES_MAX = 2_048
_HOST_BYTES_MAX = 253
_PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]+)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<target>(?:[/?][!-~]*)?)",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
# What a resolver may take for a number, and with it the whole name for an IPv4 address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


class WebhookUrl(msgspec.Struct, frozen=True):
    """Where to call.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name in small letters, or an address without brackets.
        port: the scheme's own when the URL names none.
        target: path and query as they go into the request line.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_webhook_url(url: str) -> WebhookUrl:
    """Take a URL apart. Raises InvalidArgument, which does not repeat it: it may hold secrets."""
    if len(url) > URL_BYTES_MAX:
        raise InvalidArgument(f"the URL of a webhook has at most {URL_BYTES_MAX} bytes")
    found = _URL.fullmatch(url)
    if found is None or "\\" in url or "#" in url:
        raise InvalidArgument(
            "the URL of a webhook is http(s)://HOST[:PORT][/PATH][?QUERY], in ASCII, without a"
            " user, a fragment or spaces"
        )
    scheme = found["scheme"].lower()
    port = int(found["port"]) if found["port"] else _PORTS[scheme]
    if not 1 <= port <= 65_535:
        raise InvalidArgument("the port of a webhook is between 1 and 65535")
    target = found["target"]
    if not target.startswith("/"):
        target = "/" + target
    return WebhookUrl(scheme, _host(found["host"].lower()), port, target)


def _host(text: str) -> str:
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except AddressValueError:
            raise InvalidArgument("the host of a webhook is not an IPv6 address") from None
    labels = text.split(".")
    if _NUMBER.fullmatch(labels[-1]) or (labels[-1] == "" and _NUMBER.fullmatch(labels[-2])):
        try:
            return str(IPv4Address(text))
        except AddressValueError:
            raise InvalidArgument(
                "the host of a webhook ends in a number, but is not four of them with dots"
            ) from None
    if len(text) > _HOST_BYTES_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise InvalidArgument("the host of a webhook is neither a name nor an address")
    return text
