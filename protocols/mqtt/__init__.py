"""MQTT 3.1, 3.1.1 and 5.0: the packets, and what a server says in answer to them."""

__all__: list[str] = []
