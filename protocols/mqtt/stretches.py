"""Stretches: packets of different topics and sizes, one behind the other, for the same audience.

Telemetry mostly is many topics that a few subscribers get all of. A stretch of plain packets
(QoS 0 or 1, no properties) whose topics have one audience is passed on as the bytes it is, with
other packet identifiers for QoS 1. Who may publish and who gets each topic is decided as always:
a packet belongs to a stretch only if that was decided for its topic, and is still so.
"""

from operator import itemgetter

from ...broker.access import Principal
from .runs import Shape

__all__ = ["STRETCH_PACKETS_MAX", "Stretch", "find_stretch"]

STRETCH_PACKETS_MAX = 512


class Stretch:
    """Packets of one version and quality, for one audience.

    Attributes:
        count: of packets, at least 2.
        places: where in ``packets`` the packet identifiers stand; none with QoS 0.
    """

    __slots__ = ("count", "packets", "places", "qos")

    def __init__(self, packets: bytes, count: int, places: list[int], qos: int) -> None:
        self.packets = packets
        self.count = count
        self.places = places
        self.qos = qos

    def ids(self) -> bytes:
        """The packet identifiers, two bytes each."""
        packets = self.packets
        pick = itemgetter(*self.places)  # byte by byte: no object is made for any of them
        ids = bytearray(2 * self.count)
        ids[0::2] = bytes(pick(packets))
        ids[1::2] = bytes(pick(packets[1:]))
        return bytes(ids)

    def with_ids(self, ids: bytes) -> bytearray:
        """The packets with other identifiers, of two bytes each."""
        packets = bytearray(self.packets)
        for at, high, low in zip(self.places, ids[0::2], ids[1::2], strict=True):
            packets[at] = high
            packets[at + 1] = low
        return packets


def find_stretch(
    data: bytes,
    at: int,
    end: int,
    first: Shape,
    shapes: dict[bytes, Shape],
    who: Principal,
    stamp: int,
    count_max: int,
    size_max: int,
) -> Stretch | None:
    """The stretch that begins at ``at`` with a packet of shape ``first``; None if it is alone.

    It has at most ``count_max`` packets of at most ``size_max`` bytes each.
    """
    assert first.route is not None
    audience = first.route.audience
    qos = first.qos
    places: list[int] = []
    begin = at
    shape = first
    known = shapes.get
    count = 0
    while True:
        size = shape.size
        stop = at + size
        if stop > end or size > size_max or (shape.after and data[at + shape.after_at]):
            break
        if qos:
            places.append(at + shape.id_at - begin)
        count += 1
        at = stop
        if count == count_max or end - at < 8:
            break
        # The prefix of the packet that follows: up to the end of its topic.
        body = at + 2 if data[at + 1] < 128 else at + 3
        follower = known(data[at : body + 2 + (data[body] << 8 | data[body + 1])])
        if follower is None or follower.stamp != stamp or follower.who is not who:
            break
        shape = follower
        route = shape.route
        if route is None or route.audience is not audience or shape.qos != qos:
            break
    return Stretch(data[begin:at], count, places, qos) if count > 1 else None
