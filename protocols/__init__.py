"""The dialects: each a sans-IO session over the broker; listeners and the daemon."""

__all__: list[str] = []
