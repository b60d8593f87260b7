"""Which addresses may be called: what stands between a webhook's URL and our own network.

Whoever may declare a webhook has the broker connect to a host of their choice. So:

1. Only global unicast addresses are called. Loopback, private, shared (CGNAT), link-local, unique
   local, multicast, reserved and documentation addresses are not, nor those at which clouds have
   their metadata services.
2. An IPv6 address that stands for an IPv4 address (mapped, compatible, 6to4, NAT64, Teredo) is not
   called either. Where a network is allowed that holds such addresses, as NAT64 needs, the IPv4
   address inside is asked about as well.
3. A host is resolved once, all its addresses are checked, and one of those very addresses is
   connected to. One address that may not be called refuses the whole host.
4. ``allow`` takes networks and host names. A name allows what it resolves to, but never a metadata
   service: that takes its network.

Everything here is plain arithmetic; the resolver is an argument, see ``client.py``.
"""

from collections.abc import Iterable, Sequence
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

from ...broker.errors import InvalidArgument
from ...broker.webhook_url import WebhookUrl

__all__ = ["ADDRESSES_MAX", "PORTS_DEFAULT", "Blocked", "Guard"]

PORTS_DEFAULT = (80, 443, 8443)
ADDRESSES_MAX = 16  # of one host that are looked at; one with more is refused

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

# What is not global unicast, by the IANA special-purpose registries (RFC 6890 and later).
_DENIED_4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
]
_GLOBAL_6 = IPv6Network("2000::/3")
_DENIED_6 = [
    IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
]
# Metadata services of clouds; some stand among addresses that are otherwise global or allowed.
_METADATA = [
    ip_network(text)
    for text in (
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fe80::/10",
        "fd00:ec2::/32",
        "fd20:ce::/32",
    )
]
_NAT64 = [IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48")]
_COMPATIBLE = IPv6Network("::/96")


class Blocked(Exception):
    """The guard does not let a call through. What it says is for operators, not for users."""


class Guard:
    """What may be called.

    Args:
        allow: networks (``10.1.0.0/16``, ``::1``) and host names (``hooks.internal``) that may be
            called beside what is global.
        ports: that may be called.

    Raises InvalidArgument when an entry is none.
    """

    def __init__(self, allow: Iterable[str] = (), ports: Sequence[int] = PORTS_DEFAULT) -> None:
        self._networks: list[_Network] = []
        self._hosts: set[str] = set()
        self._ports = frozenset(ports)
        for entry in allow:
            try:
                self._networks.append(ip_network(entry))
            except ValueError:
                if "/" in entry or ":" in entry or not entry.isascii() or not entry:
                    text = f"{entry!r} is neither a network, an address nor a host name"
                    raise InvalidArgument(text) from None
                self._hosts.add(entry.lower())

    def check_url(self, url: WebhookUrl) -> None:
        """Refuse what can be refused without asking a resolver. Raises InvalidArgument."""
        if url.port not in self._ports:
            raise InvalidArgument(f"webhooks may not call port {url.port}")
        try:
            address = ip_address(url.host)
        except ValueError:
            return
        if not self.allows(url.host, address):
            raise InvalidArgument("webhooks may not call this address")

    def check(self, host: str, port: int, addresses: Sequence[str]) -> list[str]:
        """Those addresses of a host, in their order, that may be connected to: all, or none.

        Raises Blocked.
        """
        if port not in self._ports:
            raise Blocked(f"port {port} is not among those that webhooks may call")
        if not 1 <= len(addresses) <= ADDRESSES_MAX:
            raise Blocked(f"{host} has {len(addresses)} addresses, 1 to {ADDRESSES_MAX} are fine")
        for text in addresses:
            try:
                address = ip_address(text)
            except ValueError:
                raise Blocked(f"{host} resolves to what is no address") from None
            if not self.allows(host, address):
                raise Blocked(f"{host} resolves to {address}, which webhooks may not call")
        return list(addresses)

    def allows(self, host: str, address: _Address) -> bool:
        """Whether ``address`` may be called for ``host``."""
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            return False
        networked = any(_holds(network, address) for network in self._networks)
        inside = _inside(address)
        if inside is not None:
            return networked and self.allows(host, inside)
        if networked:
            return True
        if any(_holds(network, address) for network in _METADATA):
            return False
        return host.lower() in self._hosts or _is_global(address)


def _holds(network: _Network, address: _Address) -> bool:
    return network.version == address.version and address in network


def _is_global(address: _Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _DENIED_4)
    return address in _GLOBAL_6 and not any(address in network for network in _DENIED_6)


def _inside(address: _Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address stands for, if it does."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in network for network in _NAT64):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _COMPATIBLE and int(address) > 1:  # :: and ::1 are themselves
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
