"""Clients of STOMP that keep a broker busy: producers, movers with transactions, consumers.

Each is one connection at a time, behaves well, and tells the journal what it asked for and what it
got. Everything about a message is noted in the same step in which its bytes are written or parsed,
so that a client can be cancelled anywhere.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from functools import partial

from .audit import INFO
from .stomp_audit import ABORTED, PLACES, TARGETS, Move, Posting, StompJournal
from .stomp_wire import Frame, Gone, StompWire

__all__ = ["SUBSCRIPTION", "Client", "Consumer", "Mover", "Producer", "Taken"]

WINDOW = 20
MOVES_OPEN_MAX = 4  # COMMITs without an answer
TAKEN_MAX = 5  # messages that one transaction takes
BURIED_SHARE = 0.08  # of these are refused, by the same transaction
SIZES = (40, 300, 1_500)
SUBSCRIPTION = {"client-id": "stomp-teller", "activemq.subscriptionName": "told"}


class Taken:
    """A message that its client holds, and what it is acknowledged by."""

    def __init__(self, posting: Posting, ack: str) -> None:
        self.posting = posting
        self.ack = ack


class Client(ABC):
    """One connection at a time."""

    def __init__(self, journal: StompJournal, rng: random.Random, name: str) -> None:
        self.journal = journal
        self.rng = rng
        self.name = name
        self.number = 0  # of the connection
        self.client_id = ""
        self.wire: StompWire | None = None

    @abstractmethod
    async def run(self, port: int) -> None:
        """Be busy until the broker is gone. Raises Gone."""

    async def connect(self, port: int) -> StompWire:
        """Begin anew. Raises Gone."""
        self.hang_up()
        self.number = self.journal.began()
        self.wire = await StompWire.open(port, self.client_id)
        return self.wire

    def hang_up(self) -> None:
        """Go without a word, or see that the broker went."""
        if self.wire is not None:
            self.wire.abort()
            self.journal.ended(self.number, self.wire.error)
            self.wire = None

    async def until_answered(self, wire: StompWire, most: int) -> None:
        """Wait until few enough receipts are awaited. Raises Gone."""
        while wire.unanswered > most:  # noqa: ASYNC110 - the receipts are many, and told at once
            await asyncio.sleep(0.001)
        if wire.gone:
            raise Gone(self.name)


class Producer(Client):
    """Sends messages to a place, each with a receipt."""

    def __init__(
        self, journal: StompJournal, rng: random.Random, name: str, place: str = "in"
    ) -> None:
        super().__init__(journal, rng, name)
        self._place = place
        self._count = 0

    async def run(self, port: int) -> None:
        wire = await self.connect(port)
        while True:
            for _ in range(self.rng.randint(1, 5)):
                self.send(wire, self._place)
            await self.until_answered(wire, WINDOW)
            await asyncio.sleep(self.rng.random() * 0.006)

    def send(self, wire: StompWire, place: str) -> Posting:
        """SEND one message."""
        journal, rng = self.journal, self.rng
        self._count += 1
        posting = Posting(place, self.name, self._count, rng.choice(SIZES))
        journal.post(posting)
        headers = {"destination": PLACES[place], "persistent": "true"} | posting.headers
        answered = partial(journal.posted, posting)
        try:
            wire.post("SEND", headers, posting.body, answered, has_length=rng.random() < 0.5)
        except Gone:
            journal.posted(posting, INFO)
            raise
        return posting


class Consumer(Client):
    """Takes from a place, and acknowledges.

    Args:
        cumulative: one ACK stands for all that came before. hang_up_share: of the rests after
        which it goes and comes back. durable: the place is a topic that knows it.
    """

    def __init__(
        self,
        journal: StompJournal,
        rng: random.Random,
        name: str,
        place: str,
        cumulative: bool = False,
        hang_up_share: float = 0.0,
        prefetch: int = 30,
    ) -> None:
        super().__init__(journal, rng, name)
        self.place = place
        self._mode = "client" if cumulative else "client-individual"
        self._hang_up_share = hang_up_share
        self._prefetch = prefetch
        self._subscription: dict[str, str] = {}
        if place == "topic":
            self._subscription = dict(SUBSCRIPTION)
            self.client_id = self._subscription.pop("client-id")
        self.waiting: deque[Taken] = deque()

    async def subscribe(self, port: int) -> StompWire:
        """Connect, and have what is there sent. Raises Gone."""
        wire = await self.connect(port)
        self.waiting.clear()
        wire.hear(self.name, self._on_message)
        headers = {"id": self.name, "destination": PLACES[self.place], "ack": self._mode}
        headers |= {"activemq.prefetchSize": str(self._prefetch)} | self._subscription
        await wire.ask("SUBSCRIBE", headers)
        return wire

    def _on_message(self, frame: Frame) -> None:
        posting = self.journal.delivered(self.place, frame, self.number)
        if posting is not None:
            self.waiting.append(Taken(posting, frame.headers["ack"]))

    async def run(self, port: int) -> None:
        while True:
            wire = await self.subscribe(port)
            while self.rng.random() >= self._hang_up_share:
                await asyncio.sleep(self.rng.random() * 0.02)
                self.settle()
                await self.until_answered(wire, WINDOW)

    def settle(self) -> None:
        """Acknowledge what came. Raises Gone."""
        assert self.wire is not None
        taken = list(self.waiting)
        self.waiting.clear()
        if self._mode == "client" and taken:
            self._settle(self.wire, [each.posting for each in taken], taken[-1].ack)
            return
        for each in taken:
            self._settle(self.wire, [each.posting], each.ack)

    def _settle(
        self, wire: StompWire, postings: list[Posting], ack: str, command: str = "ACK"
    ) -> None:
        answered = self.journal.settle(postings, gives_back=command == "NACK")
        try:
            wire.post(command, {"id": ack}, answered=answered)
        except Gone:
            answered(INFO)
            raise


class Mover(Consumer):
    """Takes from ``in``, and gives to all targets what becomes of it, by transactions."""

    def __init__(self, journal: StompJournal, rng: random.Random, name: str) -> None:
        super().__init__(journal, rng, name, "in", hang_up_share=0.01)

    async def run(self, port: int) -> None:
        while True:
            wire = await self.subscribe(port)
            while self.rng.random() >= self._hang_up_share:
                await asyncio.sleep(self.rng.random() * 0.01)
                if not self._act(wire):
                    break
                await self.until_answered(wire, MOVES_OPEN_MAX)

    def _act(self, wire: StompWire) -> bool:
        """Do one of the things that can be done with messages; False: now go. Raises Gone."""
        chance = self.rng.random()
        if self.waiting and chance < 0.04:
            each = self.waiting.popleft()
            self._settle(wire, [each.posting], each.ack, "ACK" if chance < 0.02 else "NACK")
            return True
        open_moves = [self._prepare(wire)]
        if self.rng.random() < 0.3:
            open_moves.append(self._prepare(wire))
            self.rng.shuffle(open_moves)
        for move, taken in open_moves:
            ends = self.rng.random()
            if ends < 0.1:
                move.outcome = ABORTED
                wire.post("ABORT", {"transaction": f"t:{move.id}"})
                self.waiting.extendleft(reversed(taken))
            elif ends < 0.98:
                self._commit(wire, move)
            else:  # it stays open
                return False
        return True

    def _prepare(self, wire: StompWire) -> tuple[Move, list[Taken]]:
        """All of a transaction but its end. Raises Gone."""
        journal, rng = self.journal, self.rng
        move = journal.move(self.number)
        name = {"transaction": f"t:{move.id}"}
        count = min(rng.randint(0, TAKEN_MAX), len(self.waiting))
        taken = [self.waiting.popleft() for _ in range(count)]
        wire.post("BEGIN", name)
        for each in taken:
            buries = rng.random() < BURIED_SHARE
            (move.buries if buries else move.takes).append(each.posting)
            wire.post("NACK" if buries else "ACK", name | {"id": each.ack})
        for number in range(rng.randint(max(count, 1), max(count, 2))):
            for place, destination in TARGETS.items():
                producer = f"{self.name}/{move.id}"
                posting = Posting(place, producer, number, rng.choice(SIZES), move)
                move.gives.append(journal.post(posting))
                headers = {"destination": destination, "persistent": "true"} | name
                wire.post("SEND", headers | posting.headers, posting.body)
        return move, taken

    def _commit(self, wire: StompWire, move: Move) -> None:
        journal = self.journal
        journal.commit(move)
        answered = partial(journal.committed, move)
        try:
            wire.post("COMMIT", {"transaction": f"t:{move.id}"}, answered=answered)
        except Gone:
            journal.committed(move, INFO)
            raise
