"""Load tools, and the peers they are measured beside."""

__all__: list[str] = []
