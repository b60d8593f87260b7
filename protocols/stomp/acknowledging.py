"""ACK and NACK: what the client says of messages that it got.

A message is named by ``id`` in 1.2 (what its ``ack`` said), by ``message-id`` and ``subscription``
in 1.1, by ``message-id`` alone in 1.0. With ``client`` a message stands for all that the
subscription got before it; with ``client-individual`` for itself. What NACK does the dialect says.

ACKs that follow each other are one call for each queue. A message of a subscription with ``auto``
is acknowledged when it goes to the carrier.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from ...broker.errors import BraidError
from ...broker.message import Receipt
from ...storage.log import Durability
from .dialects import Refused
from .frames import V10, V12

if TYPE_CHECKING:
    from .session import StompSession
    from .sources import Source
    from .subscribing import Subscription

__all__ = ["REJECTED", "Acknowledging", "Held", "by_queue"]

REJECTED: Final = "rejected"  # why a message is a dead letter

Held = tuple["Source", str, Receipt, str]  # whose, of which queue ("": none), receipt, message-id


class Acknowledging:
    """What one client acknowledges. Part of a session, which owns it."""

    __slots__ = ("_acks", "_receipts", "_sent", "_session")

    def __init__(self, session: "StompSession") -> None:
        self._session = session
        self._acks: dict[str, list[Receipt]] = {}  # by queue
        self._receipts: list[str] = []
        self._sent: dict[str, list[Receipt]] = {}  # by queue: of subscriptions with auto

    # --- auto ---

    def sent(self, queue: str, receipt: Receipt) -> None:
        """A message of a subscription with ``auto`` is about to be sent."""
        found = self._sent.get(queue)
        if found is None:
            self._sent[queue] = [receipt]
        else:
            found.append(receipt)

    def unsent(self, queue: str) -> Sequence[Receipt]:
        """What of a queue was not sent after all."""
        return self._sent.pop(queue, ())

    def settle_sent(self, now_ms: int) -> None:
        """What was to be sent goes to the carrier now."""
        if not self._sent:
            return
        sent, self._sent = self._sent, {}
        session = self._session
        for queue, receipts in sent.items():
            try:
                session.core.ack(session.who, queue, receipts, now_ms)
            except BraidError:  # the queue, or the right to it, is gone, and its messages with it
                continue

    # --- frames ---

    def on_ack(self, headers: dict[str, str], now_ms: int) -> None:
        """Settle messages, when the batch ends or the transaction is committed."""
        session = self._session
        if "transaction" in headers:
            session.transactions.check_open(headers)
        subscription, tag = self._find(headers, "ACK")
        taken = subscription.take(tag)
        if "transaction" in headers:
            session.transactions.settle(headers, subscription, taken, "ack")
            session.answer(Durability.MEMORY, headers.get("receipt"))
            return
        self._settle(taken.values())
        if "receipt" in headers:
            self._receipts.append(headers["receipt"])

    def take_run(self, names: Sequence[tuple[bytes, bytes]]) -> None:
        """Settle messages one by one when the batch ends: number and tag of each. Raises Refused.

        That is what ACKs of STOMP 1.2 say that have nothing but an id.
        """
        by_number = self._session.subscribing.by_number
        before, subscription = b"", None
        taken: list[Held] = []
        for number, digits in names:
            if number != before:
                before, subscription = number, by_number.get(int(number))
            tag = int(digits)
            if subscription is None or tag not in subscription.held:
                self._settle(taken)
                raise _not_held("ACK", f"{number.decode()}-{digits.decode()}")
            if subscription.cumulative:
                taken += subscription.take(tag).values()
            else:
                taken.append(subscription.held.pop(tag))
        self._settle(taken)

    def _settle(self, taken: Iterable[Held]) -> None:
        """Acknowledge messages when the batch ends."""
        last: Source | None = None
        name, count = "", 0
        receipts: list[Receipt] = []
        for source, queue, receipt, _ in taken:
            if source is not last or queue != name:
                if last is not None:
                    last.settled(count)
                last, name, count = source, queue, 0
                receipts = self._acks.setdefault(queue, []) if queue else []
            receipts.append(receipt)
            count += 1
        if last is not None:
            last.settled(count)

    def flush(self, now_ms: int) -> None:
        """Do what was put together."""
        acks, receipts = self._acks, self._receipts
        if not acks and not receipts:
            return
        self._acks, self._receipts = {}, []
        session = self._session
        level = Durability.MEMORY
        for queue, settled in acks.items():
            try:
                kept, _ = session.core.ack(session.who, queue, settled, now_ms)
                level = max(level, kept)
            except BraidError as error:
                session.fail_with(error, receipts[-1] if receipts else "")
                return
        for receipt in receipts:
            session.answer(level, receipt)

    def on_nack(self, headers: dict[str, str], now_ms: int) -> Durability:
        """Refuse messages; what to wait for."""
        session = self._session
        means = self._meaning(headers)
        if "transaction" in headers:
            session.transactions.check_open(headers)
        subscription, tag = self._find(headers, "NACK")
        taken = subscription.take(tag)
        if "transaction" in headers:
            session.transactions.settle(headers, subscription, taken, means)
            return Durability.MEMORY
        for source, *_ in taken.values():
            source.settled(1)
        return self.refuse(by_queue(taken), means, now_ms)

    def refuse(self, receipts: dict[str, list[Receipt]], means: str, now_ms: int) -> Durability:
        """Let messages go back, or be dead letters; what to wait for. Raises BraidError."""
        session = self._session
        core, who = session.core, session.who
        level = Durability.MEMORY
        for name, settled in receipts.items():
            if means == "requeue":
                kept, _ = core.nack(who, name, settled, 0, True, now_ms)
            elif self.buries(name):
                kept, _ = core.dead_letter(who, name, settled, REJECTED, now_ms)
            else:
                kept, _ = core.ack(who, name, settled, now_ms)
            level = max(level, kept)
        return level

    def buries(self, name: str) -> bool:
        """Whether a queue has a dead-letter queue. Raises NotFound, PermissionDenied."""
        queue = self._session.core.holder(self._session.who, name)
        return bool(queue.settings.dead_letter)

    def _meaning(self, headers: dict[str, str]) -> str:
        """What a NACK does: "dead-letter" or "requeue"."""
        dialect = self._session.dialect
        said = headers.get(dialect.nack_requeue_header) if dialect.nack_requeue_header else None
        if said == "true":
            return "requeue"
        return "dead-letter" if said == "false" else dialect.nack

    def _find(self, headers: dict[str, str], command: str) -> "tuple[Subscription, int]":
        """The message that a frame names. Raises Refused."""
        session = self._session
        subscriptions = session.subscribing
        if session.version is V12:
            name = headers.get("id", "")
            number, _, digits = name.partition("-")
            try:
                subscription = subscriptions.by_number[int(number)]
                tag = int(digits)
                if tag in subscription.held:
                    return subscription, tag
            except (KeyError, ValueError):
                pass  # it was never given out
            if not name:
                raise Refused(
                    f"{command} without an id", "In STOMP 1.2 id is the ack of a MESSAGE.\n"
                )
            raise _not_held(command, name)
        name = headers.get("message-id", "")
        if not name:
            raise Refused(f"{command} without a message-id", "message-id is that of the MESSAGE.\n")
        if session.version is not V10 and "subscription" not in headers:
            text = "In STOMP 1.1 the header subscription is the id of the subscription.\n"
            raise Refused(f"{command} without a subscription", text)
        id = headers.get("subscription", "")
        named = [subscriptions.by_id[id]] if id in subscriptions.by_id else []
        for subscription in named if id else subscriptions.by_id.values():
            found = subscription.tag_of(name)
            if found is not None:
                return subscription, found
        raise _not_held(command, name)


def by_queue(taken: dict[int, Held]) -> dict[str, list[Receipt]]:
    """The receipts of messages that came from queues."""
    found: dict[str, list[Receipt]] = {}
    for _, queue, receipt, _ in taken.values():
        if queue:
            found.setdefault(queue, []).append(receipt)
    return found


def _not_held(command: str, name: str) -> Refused:
    return Refused(
        f"{command} of a message that is not held",
        f"{name!r} was never sent here, is settled already, or needs no acknowledgement because"
        " the subscription has ack:auto.\n",
    )
