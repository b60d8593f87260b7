"""When a client asks for messages, where a request that waits for them blocks all that follows.

Redis and beanstalkd do nothing that is said on a connection while a request on it waits for
messages: acknowledgements that were sent behind it would wait as well, and be lost with the
connection. Rules:

1. A request waits only when nothing is unacknowledged; else it takes what is there, or nothing.
2. One round of asking is under way at a time. After one that brought less than it could, the
   client asks when it has acknowledged, so never again and again in vain.
3. A round asks for half of the prefetch at most: what came is dealt with while the other half is
   fetched.
"""

__all__ = ["Pulling"]


class Pulling:
    """What a client has, and what it has asked for.

    Attributes:
        prefetch: messages that it may have.
        round_max: messages that a round may ask for.
        unacknowledged: messages that came and were not dealt with.
    """

    __slots__ = ("_acknowledges", "_asked", "_brought", "prefetch", "round_max", "unacknowledged")

    def __init__(self, prefetch: int, acknowledges: bool) -> None:
        """Without ``acknowledges``, what came is dealt with."""
        self.prefetch = prefetch
        self._acknowledges = acknowledges
        self._asked = 0  # in the round under way; 0: none is
        self._brought = 0
        self.round_max = max(1, prefetch // 2) if acknowledges else prefetch
        self.unacknowledged = 0

    @property
    def waits(self) -> bool:
        """Whether a round that begins now may wait until there is something."""
        return not self.unacknowledged

    @property
    def under_way(self) -> bool:
        """Whether a round is."""
        return self._asked > 0

    def ask(self, count: int) -> bool:
        """Begin a round for so many, if there is room for one and none is under way."""
        room = self.prefetch - self.unacknowledged
        if self.under_way or room < 1 or room * 2 < self.prefetch:
            return False
        self._asked = count
        self._brought = 0
        return True

    def came(self, count: int) -> None:
        """So many messages came."""
        self._brought += count
        if self._acknowledges:
            self.unacknowledged += count

    def ended(self) -> bool:
        """The round is over: whether to ask again at once."""
        is_full = self._brought >= self._asked
        self._asked = 0
        return is_full or self.waits
