"""The nouns and every decision of the broker, without sockets, files or a clock."""

__all__: list[str] = []
