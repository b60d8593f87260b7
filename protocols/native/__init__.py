"""The native protocol: MessagePack frames, its session and its client."""

__all__: list[str] = []
