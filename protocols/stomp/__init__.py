"""STOMP 1.0, 1.1 and 1.2: the frames, and what a server says in answer to them."""

__all__: list[str] = []
