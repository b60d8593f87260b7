"""Brokers that can be measured, ours and its peers: how each is found, started and named."""

__all__: list[str] = []
