"""A queue's consumers: who is there, who has credit, and whose turn it is.

Consumers with credit stand in line (``hungry``). Those of the highest priority stand in front;
whoever was given something goes behind its equals, so these take turns. While a consumer is there
that asked to be preferred, nobody else stands in line: of several such the one with the highest
priority, then the one that came first (as in ActiveMQ). One that asked to be the sole one lets
nobody else in (as in RabbitMQ).

Without priorities, selectors, groups and exclusivity, which most queues never see, the line is
just turned round.
"""

from bisect import bisect_right
from collections import deque

from .errors import Conflict, LimitExceeded
from .lease import Consumer, Exclusivity

__all__ = ["Turns"]


class Turns:
    """The consumers of one queue.

    Attributes:
        consumers: all of them, in the order they came.
        hungry: those in line, next in turn first.
        asked: how many in front could be given nothing in this dispatch.
        preferred: the only one that is served now, if there is one.
    """

    __slots__ = ("_ranked", "asked", "consumers", "hungry", "preferred")

    def __init__(self) -> None:
        self.consumers: dict[Consumer, None] = {}
        self.hungry: deque[Consumer] = deque()
        self.asked = 0
        self.preferred: Consumer | None = None
        self._ranked = 0  # consumers with a priority other than 0

    def check(self, consumer: Consumer, name: str, most: int) -> None:
        """See whether it may come to the queue of that name.

        Raises:
            LimitExceeded: ``most`` consumers are there.
            Conflict: it wants to be the only one and is not, or somebody else is.
        """
        if not self.consumers:
            return
        if len(self.consumers) >= most:
            raise LimitExceeded(f"queue {name} has as many consumers as it may")
        if consumer.exclusive is Exclusivity.SOLE:
            raise Conflict(f"queue {name} has consumers: nobody can be its only one")
        if next(iter(self.consumers)).exclusive is Exclusivity.SOLE:
            raise Conflict(f"queue {name} has a consumer that lets no other in")

    def add(self, consumer: Consumer) -> bool:
        """A consumer has come; whether somebody else is preferred now."""
        self.consumers[consumer] = None
        if consumer.priority:
            self._ranked += 1
        if consumer.credit > 0:
            self.enter(consumer)
        return consumer.exclusive is Exclusivity.PREFERRED and self._elect()

    def drop(self, consumer: Consumer) -> bool:
        """A consumer has gone; whether somebody else, or nobody, is preferred now."""
        del self.consumers[consumer]
        if consumer.priority:
            self._ranked -= 1
        if consumer.credit > 0:
            self.leave(consumer)
        return consumer is self.preferred and self._elect()

    def enter(self, consumer: Consumer) -> None:
        """It has credit now."""
        if self.preferred is not None and consumer is not self.preferred:
            return
        if self._ranked:
            self._stand(consumer)
            self.asked = 0
        else:
            self.hungry.append(consumer)

    def leave(self, consumer: Consumer) -> None:
        """It had credit, and has none any more."""
        if self.preferred is None or consumer is self.preferred:
            self.hungry.remove(consumer)
            self.asked = 0

    def served(self, consumer: Consumer) -> None:
        """The one whose turn it was has been given something."""
        if consumer.credit <= 0:
            del self.hungry[self.asked]
        elif self._ranked or self.asked:
            del self.hungry[self.asked]
            self._stand(consumer)
        else:
            self.hungry.rotate(-1)

    def _stand(self, consumer: Consumer) -> None:
        """Put it behind those of its priority."""
        at = bisect_right(self.hungry, -consumer.priority, key=_rank)
        self.hungry.insert(at, consumer)

    def _elect(self) -> bool:
        """Find out who is preferred; whether that has changed."""
        wanting = [each for each in self.consumers if each.exclusive is Exclusivity.PREFERRED]
        preferred = min(wanting, key=_rank, default=None)
        if preferred is self.preferred:
            return False
        self.preferred = preferred
        served = self.consumers if preferred is None else [preferred]
        line = sorted((each for each in served if each.credit > 0), key=_rank)
        self.hungry.clear()
        self.hungry.extend(line)
        self.asked = 0
        return True


def _rank(consumer: Consumer) -> int:
    return -consumer.priority
