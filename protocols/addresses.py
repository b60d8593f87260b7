"""How many connections one address has, and how often it comes back.

An IPv6 host has 2**64 addresses to come from, so its network of 64 bits counts as one address.
What is remembered is bounded: open connections are, and of those who connected in the current
minute at most ``ADDRESSES_MAX`` addresses are counted.
"""

from ipaddress import IPv6Address

__all__ = ["ADDRESSES_MAX", "Addresses"]

ADDRESSES_MAX = 65_536
_MINUTE_MS = 60_000


class Addresses:
    """Counts of one server."""

    __slots__ = ("_connects", "_minute", "_open")

    def __init__(self) -> None:
        self._open: dict[str, int] = {}
        self._connects: dict[str, int] = {}
        self._minute = 0

    def welcomes(self, address: str, now_ms: int, open_max: int, per_minute_max: int) -> bool:
        """Count that ``address`` connects; False when it does too often, or has too many open.

        A maximum of 0 is none. Who is welcome is entered, and left with :meth:`leave`.
        """
        source = _source(address)
        if per_minute_max and self._count_connect(source, now_ms) > per_minute_max:
            return False
        count = self._open.get(source, 0)
        if open_max and count >= open_max:
            return False
        self._open[source] = count + 1
        return True

    def leave(self, address: str) -> None:
        """A connection of ``address`` that was welcome is gone."""
        source = _source(address)
        count = self._open[source] - 1
        if count:
            self._open[source] = count
        else:
            del self._open[source]

    def _count_connect(self, source: str, now_ms: int) -> int:
        minute = now_ms // _MINUTE_MS
        if minute != self._minute:
            self._minute = minute
            self._connects.clear()
        count = self._connects.get(source, 0) + 1
        if count > 1 or len(self._connects) < ADDRESSES_MAX:
            self._connects[source] = count
        return count


def _source(address: str) -> str:
    """What counts as one address."""
    if ":" not in address:
        return address
    try:
        ip = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(IPv6Address(int(ip) >> 64 << 64))
