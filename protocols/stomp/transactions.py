"""BEGIN, COMMIT, ABORT: what a transaction collects, and does at once or not at all.

Steps are kept here until COMMIT; ``broker/transaction.py`` does them in one frame of the log. What
is acknowledged in a transaction is held until then, and held as before after ABORT. Transactions
end with the connection: aborted.
"""

from typing import TYPE_CHECKING, Final

from ...broker.errors import LimitExceeded, TooLarge
from ...broker.transactionverbs import Ack, DeadLetter, Nack, Step
from ...storage.log import Durability
from .acknowledging import REJECTED, Held, by_queue
from .dialects import Refused

if TYPE_CHECKING:
    from .session import StompSession
    from .subscribing import Subscription

__all__ = ["NAME_BYTES_MAX", "TRANSACTIONS_MAX", "Transactions"]

NAME_BYTES_MAX: Final = 1_024  # of a transaction
TRANSACTIONS_MAX: Final = 64  # of one connection that are open at a time
_STEP_BYTES = 512  # of memory, about, besides the body and the headers


class _Open:
    """A transaction that was begun."""

    __slots__ = ("bytes", "count", "steps", "taken")

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.taken: list[tuple[Subscription, dict[int, Held]]] = []
        self.count = 0
        self.bytes = 0


class Transactions:
    """The open transactions of one client. Part of a session, which owns it."""

    __slots__ = ("_bytes", "_open", "_session")

    def __init__(self, session: "StompSession") -> None:
        self._session = session
        self._open: dict[str, _Open] = {}
        self._bytes = 0  # of all of them

    def begin(self, headers: dict[str, str]) -> None:
        """Begin one. Raises Refused, LimitExceeded."""
        name = _name(headers)
        if len(name.encode()) > NAME_BYTES_MAX:
            raise LimitExceeded(f"the name of a transaction has at most {NAME_BYTES_MAX} bytes")
        if name in self._open:
            raise Refused(f"Transaction {name!r} is open already", "COMMIT or ABORT it first.\n")
        if len(self._open) >= TRANSACTIONS_MAX:
            raise LimitExceeded(f"a connection has at most {TRANSACTIONS_MAX} open transactions")
        self._open[name] = _Open()

    def check_open(self, headers: dict[str, str]) -> None:
        """Raise Refused unless the transaction that a frame names was begun."""
        self._get(headers)

    def add(self, headers: dict[str, str], steps: list[Step], size: int) -> None:
        """Add what is to be sent, with a body of ``size``. Raises LimitExceeded, TooLarge."""
        found = self._get(headers)
        self._count(found, len(steps))
        size += len(steps) * (
            _STEP_BYTES + sum(map(len, headers)) + sum(map(len, headers.values()))
        )
        if self._bytes + size > self._session.limits.transaction_bytes_max:
            most = self._session.limits.transaction_bytes_max
            raise TooLarge(f"the open transactions of a connection hold at most {most} bytes")
        found.bytes += size
        self._bytes += size
        found.steps += steps

    def settle(
        self,
        headers: dict[str, str],
        subscription: "Subscription",
        taken: dict[int, Held],
        means: str,
    ) -> None:
        """Add messages that are acknowledged, or refused. Raises LimitExceeded."""
        found = self._get(headers)
        found.taken.append((subscription, taken))
        self._count(found, len(taken))
        for queue, receipts in by_queue(taken).items():
            if means == "requeue":
                found.steps.append(Nack(queue, receipts))
            elif means == "ack" or not self._session.acknowledging.buries(queue):
                found.steps.append(Ack(queue, receipts))
            else:
                found.steps.append(DeadLetter(queue, receipts, REJECTED))

    def _count(self, found: _Open, count: int) -> None:
        most = self._session.limits.transaction_steps_max
        if found.count + count > most:
            raise LimitExceeded(f"a transaction has at most {most} messages")
        found.count += count

    def commit(self, headers: dict[str, str], now_ms: int) -> Durability:
        """Do all of it; what to wait for. Raises what the first impossible step would raise."""
        found = self._get(headers)
        self._end(headers)
        session = self._session
        level = Durability.MEMORY
        if found.steps:
            with session.publishing(now_ms):
                level, _ = session.core.transact(session.who, found.steps, now_ms)
        for _, taken in found.taken:
            for source, *_ in taken.values():
                source.settled(1)
        session.check_congestion()
        return level

    def abort(self, headers: dict[str, str]) -> None:
        """Do nothing of it."""
        found = self._get(headers)
        self._end(headers)
        for subscription, taken in found.taken:
            subscription.put_back(taken)

    def forget(self) -> None:
        """The connection ends."""
        self._open.clear()
        self._bytes = 0

    def _end(self, headers: dict[str, str]) -> None:
        self._bytes -= self._open.pop(_name(headers)).bytes

    def _get(self, headers: dict[str, str]) -> _Open:
        name = _name(headers)
        found = self._open.get(name)
        if found is None:
            raise Refused(f"Transaction {name!r} is not open", "BEGIN it first.\n")
        return found


def _name(headers: dict[str, str]) -> str:
    name = headers.get("transaction", "")
    if not name:
        raise Refused("No transaction", "The header transaction names it.\n")
    return name
