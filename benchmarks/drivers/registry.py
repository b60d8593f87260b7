"""Which driver speaks the protocol of a URL.

Each is imported when it is asked for: a load process needs one, and starts in half the time.
"""

import importlib
from functools import cache
from typing import Final, cast
from urllib.parse import urlsplit

from .driver import Driver

__all__ = ["SCHEMES", "driver_for", "driver_of"]

_CLASSES: Final = {  # where each is, by scheme
    "beanstalk": ("beanstalk", "BeanstalkDriver"),
    "braid": ("native", "NativeDriver"),
    "jetstream": ("jetstream", "JetStreamDriver"),
    "mqtt": ("mqtt", "MqttDriver"),
    "mqtt5": ("mqtt", "MqttDriver"),
    "nats": ("nats", "NatsDriver"),
    "redis": ("redis", "RedisDriver"),
    "stomp": ("stomp", "StompDriver"),
}
SCHEMES: Final = tuple(_CLASSES)


@cache
def driver_of(scheme: str) -> Driver:
    """The driver of a scheme. Raises ValueError when there is none."""
    if scheme not in _CLASSES:
        raise ValueError(f"no driver speaks {scheme}://; there are {', '.join(SCHEMES)}")
    module, name = _CLASSES[scheme]
    return cast(Driver, getattr(importlib.import_module(f".{module}", __package__), name)())


def driver_for(url: str) -> Driver:
    """The driver of a URL. Raises ValueError when there is none."""
    return driver_of(urlsplit(url).scheme)
