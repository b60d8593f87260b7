"""The brokers that can be measured, by name."""

from typing import Final

from .activemq import ActiveMQSystem
from .amqtt import AmqttSystem
from .beanstalkd import BeanstalkdSystem
from .braidmq import BraidMQSystem
from .mosquitto import MosquittoSystem
from .nats import NatsSystem
from .rabbitmq import RabbitMQSystem
from .redis import RedisSystem
from .system import System

__all__ = ["HEAT_SECONDS", "LACKS", "SYSTEMS"]

_ALL: Final[tuple[System, ...]] = (
    BraidMQSystem(),
    ActiveMQSystem(),
    AmqttSystem(),
    BeanstalkdSystem(),
    MosquittoSystem(),
    NatsSystem(),
    RabbitMQSystem(),
    RedisSystem(),
)
SYSTEMS: Final[dict[str, System]] = {system.name: system for system in _ALL}

# What a system does not have of the kinds and features of a driver, by system and scheme.
LACKS: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("activemq", "mqtt"): frozenset({"delay", "groups", "queue", "tls"}),
    ("activemq", "stomp"): frozenset({"tls"}),
    ("amqtt", "mqtt"): frozenset({"delay", "groups", "queue", "retain", "tls"}),
    ("mosquitto", "mqtt"): frozenset({"delay"}),
    ("mosquitto", "mqtt5"): frozenset({"delay"}),
    ("rabbitmq", "mqtt"): frozenset({"delay", "groups", "qos2", "queue"}),
    ("rabbitmq", "stomp"): frozenset({"delay", "fifo", "keys"}),
}

# Load that a system has to have carried before its figures are its own: a virtual machine compiles
# what runs often.
HEAT_SECONDS: Final[dict[str, float]] = {"activemq": 8.0}
