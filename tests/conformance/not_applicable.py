"""The normative statements that no test of a server can show, each with the reason.

Rules: one short true sentence each; an id that a test carries may not stand here as well; when the
broker gains what a row says it lacks, the row goes and a test comes.
"""

_LENGTH = "A string's length has two bytes, so a longer one cannot even be written."

NOT_APPLICABLE: dict[str, dict[str, str]] = {
    "v5": {
        "MQTT-3.1.2-20": "It tells the client when to send a PINGREQ.",
        "MQTT-3.2.2-4": "It tells the client what to do with Session Present.",
        "MQTT-3.2.2-5": "It tells the client when to discard its own session state.",
        "MQTT-3.3.2-10": "It tells the client which topic aliases to accept.",
        "MQTT-3.3.4-8": "It tells the client what not to delay.",
        "MQTT-3.1.2-21": "It tells the client which keep alive to use.",
        "MQTT-3.2.2-21": "It tells the client which keep alive to use.",
        "MQTT-4.5.0-2": "It tells the client to acknowledge what it receives.",
        "MQTT-4.6.0-1": "It orders what the client sends again.",
        "MQTT-4.6.0-2": "It orders the PUBACK packets of the client.",
        "MQTT-4.6.0-3": "It orders the PUBREC packets of the client.",
        "MQTT-4.6.0-4": "It orders the PUBREL packets of the client.",
        "MQTT-4.7.3-3": _LENGTH,
    },
    "v311": {
        "MQTT-2.3.1-2": "It tells the client which packet identifiers to choose.",
        "MQTT-2.3.1-3": "It tells the client which packet identifier a packet sent again has.",
        "MQTT-3.1.2-23": "It tells the client when to send a PINGREQ.",
        "MQTT-3.1.3-7": "It tells the client to set CleanSession when it has no client id.",
        "MQTT-4.5.0-2": "It tells the client to acknowledge what it receives.",
        "MQTT-4.7.3-3": _LENGTH,
        "MQTT-7.0.0-1": "The broker does not connect to other servers as a client.",
        "MQTT-7.1.2-1": "It binds client implementations.",
    },
}
