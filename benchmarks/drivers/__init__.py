"""Clients of the load tool, one module for each protocol: bytes in, bytes out."""

__all__: list[str] = []
