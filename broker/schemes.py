"""The URL schemes that can be listened on: the one table that configuration and server share.

A scheme names a dialect, its usual port, and whether it is spoken over TLS. ``ws`` is ``http``
under the name by which MQTT clients know it. The server maps a dialect's name to its session.
"""

import msgspec

__all__ = ["MQTT_DIALECTS", "SCHEMES", "STOMP_DIALECTS", "Scheme"]


class Scheme(msgspec.Struct, frozen=True):
    """What a URL scheme stands for."""

    dialect: str
    port: int
    tls: bool


SCHEMES: dict[str, Scheme] = {
    "braid": Scheme("native", 7450, False),
    "braids": Scheme("native", 7450, True),
    "mqtt": Scheme("mqtt", 1883, False),
    "mqtts": Scheme("mqtt", 8883, True),
    "stomp": Scheme("stomp", 61613, False),
    "stomps": Scheme("stomp", 61614, True),
    "http": Scheme("http", 8450, False),
    "https": Scheme("http", 8443, True),
    "ws": Scheme("http", 8450, False),
    "wss": Scheme("http", 8443, True),
}

# By which MQTT and STOMP come in: directly, and over WebSocket.
MQTT_DIALECTS = ("mqtt", "http")
STOMP_DIALECTS = ("stomp", "http")
