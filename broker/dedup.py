"""Deduplication: the same id within the window is the same message.

The window is counted from when the broker took the first one (SQS: "deduplication interval",
5 minutes). What is remembered is rebuilt after a restart from the messages in the log and the
checkpoint, whether they were consumed or not.
"""

from collections import deque
from collections.abc import Iterator
from hashlib import blake2b
from struct import Struct

__all__ = ["DedupWindow", "dedup_hash", "group_hash"]

_ENTRY = Struct("<16sQQQ")
_SLICE = 1_000


def group_hash(group: str) -> int:
    """The 64-bit number that stands for a message group's name; never 0."""
    return int.from_bytes(blake2b(group.encode(), digest_size=8).digest(), "little") or 1


def dedup_hash(scope: str, dedup_id: str, body: bytes) -> bytes:
    """16 bytes for an id within a scope ("" or a group); without an id the body identifies it."""
    digest = blake2b(scope.encode(), digest_size=16, person=b"id" if dedup_id else b"body")
    digest.update(b"\0")
    digest.update(dedup_id.encode() if dedup_id else body)
    return digest.digest()


class DedupWindow:
    """Ids seen in the last ``window_ms``, with what was answered for each."""

    __slots__ = ("_order", "_seen", "window_ms")

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._seen: dict[bytes, tuple[int, int, int]] = {}
        self._order: deque[tuple[int, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._seen)

    def find(self, hashed: bytes, now_ms: int) -> tuple[int, int] | None:
        """The (id, sequence) of the message with this id, if it is still remembered."""
        self.prune(now_ms)
        seen = self._seen.get(hashed)
        return (seen[1], seen[2]) if seen is not None else None

    def add(self, hashed: bytes, time_ms: int, id: int, seq: int) -> None:
        """Remember a message. Adding it again changes nothing."""
        known = self._seen.get(hashed)
        if known is not None and known[0] >= time_ms:
            return
        self._seen[hashed] = (time_ms, id, seq)
        self._order.append((time_ms, hashed))

    def prune(self, now_ms: int) -> None:
        """Forget what is older than the window."""
        oldest = now_ms - self.window_ms
        order = self._order
        while order and order[0][0] <= oldest:
            time_ms, hashed = order.popleft()
            seen = self._seen.get(hashed)
            if seen is not None and seen[0] == time_ms:
                del self._seen[hashed]

    def begin(self, now_ms: int) -> None:
        """All is loaded. The clock may have gone back since: nothing is from the future."""
        times = [time_ms for time_ms, _ in self._order]
        if not times or (times[-1] <= now_ms and times == sorted(times)):
            return
        self._seen = {
            hashed: (min(time_ms, now_ms), id, seq)
            for hashed, (time_ms, id, seq) in self._seen.items()
        }
        self._order = deque(sorted((seen[0], hashed) for hashed, seen in self._seen.items()))

    def sections(self) -> Iterator[bytes]:
        """What is remembered, packed, a slice at a time; it may change meanwhile."""
        hashes = [hashed for _, hashed in self._order]
        for start in range(0, len(hashes), _SLICE):
            packed = []
            for hashed in hashes[start : start + _SLICE]:
                seen = self._seen.get(hashed)
                if seen is not None:
                    packed.append(_ENTRY.pack(hashed, *seen))
            yield b"".join(packed)

    def load(self, content: bytes) -> None:
        """Take back one of the :meth:`sections`."""
        for hashed, time_ms, id, seq in _ENTRY.iter_unpack(content):
            self.add(hashed, time_ms, id, seq)
