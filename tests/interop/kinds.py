"""Every client that the tests run with: a library, a version, a transport."""

from . import mosquitto_client, mqttjs_client
from .amqtt_client import AmqttClient
from .facade import V5, V31, V311, Kind
from .gmqtt_client import GmqttClient
from .mosquitto_client import MosquittoClient
from .mqttjs_client import MqttjsClient
from .paho_client import AiomqttClient, PahoClient

__all__ = ["KINDS", "WITH_PROPERTIES", "kind_named"]

NO_PRESENT = frozenset({"tell-refusal"})  # a CONNACK of 3.1 does not tell of a session
ALL = NO_PRESENT | {"tell-present"}
ALL_V5 = ALL | {"properties", "identifiers", "aliases-out"}

KINDS = [
    Kind("paho-v31", PahoClient, V31, can=NO_PRESENT),
    Kind("paho-v311", PahoClient, V311, can=ALL),
    Kind("paho-v5", PahoClient, V5, can=ALL_V5 | {"tell-publish", "tell-end"}),
    Kind(
        "paho-v5-websocket",
        PahoClient,
        V5,
        websocket=True,
        can=ALL_V5 | {"tell-publish", "tell-end"},
    ),
    Kind("aiomqtt-v311", AiomqttClient, V311, can=NO_PRESENT),
    Kind("aiomqtt-v5", AiomqttClient, V5, can=ALL_V5 - {"tell-present"}),
    Kind("gmqtt-v311", GmqttClient, V311, can=ALL),
    Kind("gmqtt-v5", GmqttClient, V5, can=ALL_V5 | {"aliases-in"}),
    Kind("amqtt-v311", AmqttClient, V311, can=NO_PRESENT),
    Kind(
        "amqtt-v311-websocket",
        AmqttClient,
        V311,
        websocket=True,
        can=NO_PRESENT,
    ),
    Kind("mqttjs-v31", MqttjsClient, V31, can=NO_PRESENT, missing=mqttjs_client.missing),
    Kind(
        "mqttjs-v311-websocket",
        MqttjsClient,
        V311,
        websocket=True,
        can=ALL,
        missing=mqttjs_client.missing,
    ),
    Kind("mqttjs-v311", MqttjsClient, V311, can=ALL, missing=mqttjs_client.missing),
    Kind(
        "mqttjs-v5",
        MqttjsClient,
        V5,
        can=ALL_V5 | {"tell-publish", "tell-end", "aliases-in"},
        missing=mqttjs_client.missing,
    ),
    Kind(
        "mqttjs-v5-websocket",
        MqttjsClient,
        V5,
        websocket=True,
        can=ALL_V5 | {"tell-publish", "tell-end", "aliases-in"},
        missing=mqttjs_client.missing,
    ),
    Kind("mosquitto-v31", MosquittoClient, V31, missing=mosquitto_client.missing),
    Kind("mosquitto-v311", MosquittoClient, V311, missing=mosquitto_client.missing),
    Kind(
        "mosquitto-v5",
        MosquittoClient,
        V5,
        can=frozenset({"properties", "leave-with-will"}),
        missing=mosquitto_client.missing,
    ),
]
WITH_PROPERTIES = [kind for kind in KINDS if "properties" in kind.can]


def kind_named(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)
