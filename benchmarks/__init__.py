"""Load tools: what a broker does under load, measured beside what the machine can do at all."""

__all__: list[str] = []
