"""Stretches: packets of different topics and sizes, one behind the other, for the same audience.

Telemetry mostly is many topics that a few subscribers get all of. A stretch of plain packets
(QoS 0 or 1, no properties) whose topics have one audience is passed on as the bytes it is, with
other packet identifiers for QoS 1. Who may publish and who gets each topic is decided as always:
a packet belongs to a stretch only if that was decided for its topic, and is still so.
"""

from collections.abc import Sequence

from ...broker.access import Principal
from .runs import PACKET_IDS, Shape

__all__ = ["STRETCH_PACKETS_MAX", "Stretch", "find_stretch"]

STRETCH_PACKETS_MAX = 512


class Stretch:
    """Packets of one version and quality, for one audience.

    Attributes:
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
        return b"".join([packets[at : at + 2] for at in self.places])

    def with_ids(self, numbers: Sequence[int]) -> bytearray:
        """The packets with other identifiers."""
        packets = bytearray(self.packets)
        for at, number in zip(self.places, numbers, strict=True):
            packets[at : at + 2] = PACKET_IDS[number]
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
    first_byte = data[at]
    qos = first.qos
    places: list[int] = []
    begin = at
    shape: Shape | None = first
    known = shapes.get
    count = 0
    while count < count_max:
        assert shape is not None
        stop = at + shape.size
        if stop > end or (shape.after and data[at + shape.after_at]):
            break
        if qos:
            places.append(at + shape.id_at - begin)
        count += 1
        at = stop
        if end - at < 8 or data[at] != first_byte:
            break
        # The prefix of the packet that follows: up to the end of its topic.
        body = at + 2 if data[at + 1] < 128 else at + 3
        shape = known(data[at : body + 2 + (data[body] << 8 | data[body + 1])])
        if shape is None or shape.stamp != stamp or shape.who is not who:
            break
        assert shape.route is not None
        if shape.route.audience is not audience or shape.size > size_max:
            break
    return Stretch(data[begin:at], count, places, qos) if count > 1 else None
