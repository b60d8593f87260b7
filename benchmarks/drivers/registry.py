"""Which driver speaks the protocol of a URL."""

from typing import Final
from urllib.parse import urlsplit

from .beanstalk import BeanstalkDriver
from .driver import Driver
from .jetstream import JetStreamDriver
from .mqtt import MqttDriver
from .native import NativeDriver
from .nats import NatsDriver
from .redis import RedisDriver
from .stomp import StompDriver

__all__ = ["DRIVERS", "driver_for"]

DRIVERS: Final[tuple[Driver, ...]] = (
    NativeDriver(),
    BeanstalkDriver(),
    JetStreamDriver(),
    MqttDriver(),
    NatsDriver(),
    RedisDriver(),
    StompDriver(),
)


def driver_for(url: str) -> Driver:
    """The driver of a URL. Raises ValueError when there is none."""
    scheme = urlsplit(url).scheme
    for driver in DRIVERS:
        if scheme in driver.schemes:
            return driver
    known = sorted(scheme for driver in DRIVERS for scheme in driver.schemes)
    raise ValueError(f"no driver speaks {scheme}://; there are {', '.join(known)}")
