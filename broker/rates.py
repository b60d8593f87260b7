"""Token buckets: so much a second, and a second's worth at once. Pure; time comes in."""

import msgspec

__all__ = ["Bucket"]


class Bucket(msgspec.Struct, gc=False):
    """What is left of a rate: at most a second's worth."""

    left: float
    at_ms: int

    def fill(self, rate: int, now_ms: int) -> float:
        """Let the time pass since it was asked last; what is left now."""
        self.left = min(self.left + rate * (now_ms - self.at_ms) / 1000, rate)
        self.at_ms = now_ms
        return self.left
