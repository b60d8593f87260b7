"""What was read and is not whole yet, for drivers that parse by offsets.

A driver adds what came, takes what is whole off the front of all that is there, and keeps the
rest. When it knows how much the next message takes, it says so: then a large body that comes in
many pieces is joined once, not once for each piece.
"""

__all__ = ["Incoming"]


class Incoming:
    """Pieces that wait for those that follow."""

    __slots__ = ("_bytes", "_pieces", "_wanted_bytes")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._wanted_bytes = 0

    def add(self, data: bytes) -> bytes:
        """All that is there, of which the caller keeps the rest; b"" while it is not enough."""
        if not self._pieces:
            return data
        self._pieces.append(data)
        self._bytes += len(data)
        if self._bytes < self._wanted_bytes:
            return b""
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return whole

    def keep(self, rest: bytes, wanted_bytes: int = 0) -> None:
        """Have the rest come again in front of what follows, when so many bytes are there."""
        if rest:
            self._pieces.append(rest)
            self._bytes = len(rest)
            self._wanted_bytes = wanted_bytes
