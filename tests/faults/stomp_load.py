"""Clients of STOMP that keep a broker busy: producers, movers with transactions, consumers.

Each is one connection at a time, behaves well, and tells the journal what it asked for and what it
got. Everything about a message is noted in the same step in which its bytes are written or parsed,
so that a client can be cancelled anywhere.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial

from .audit import INFO
from .stomp_audit import ABORTED, PLACES, TARGETS, Move, Posting, StompJournal
from .stomp_ways import SUBSCRIPTION, WAYS, Way
from .stomp_wire import Answered, Frame, Gone, StompWire

__all__ = ["Client", "Consumer", "Mover", "Producer", "Taken"]

WINDOW = 20
MOVES_OPEN_MAX = 4  # COMMITs without an answer
TAKEN_MAX = 5  # messages that one transaction takes
BURIED_SHARE = 0.08  # of these are refused, by the same transaction
SIZES = (40, 300, 1_500)
REFUSED_SHARE = 0.06  # of the acts of a mover: NACK of one message
ACKNOWLEDGED_SHARE = 0.02  # ACK of one, and nothing else


class Taken:
    """A message that its client holds, and the headers that name it in ACK and NACK."""

    def __init__(self, posting: Posting, message: Frame, version: str) -> None:
        self.posting = posting
        headers = message.headers
        if version == "1.2":
            self.names = {"id": headers["ack"]}
        else:
            self.names = {"message-id": headers["message-id"]}
        if version == "1.1":
            self.names["subscription"] = headers["subscription"]


class Client(ABC):
    """One connection at a time, each in a way of its own.

    ``ports`` are those of the listeners, in the order of ``stomp_ways.LISTENERS``.
    """

    def __init__(self, journal: StompJournal, rng: random.Random, name: str) -> None:
        self.journal = journal
        self.rng = rng
        self.name = name
        self.number = 0  # of the connection
        self.way: Way = WAYS[0]
        self.wire: StompWire | None = None

    @abstractmethod
    async def run(self, ports: Sequence[int]) -> None:
        """Be busy until the broker is gone. Raises Gone."""

    async def connect(self, ports: Sequence[int]) -> StompWire:
        """Begin anew. Raises Gone."""
        self.hang_up()
        self.way = way = self.rng.choice(WAYS)
        self.number = self.journal.began(way.names)
        self.wire = await StompWire.open(ports[1 + way.door], self.client_id, way.version, way.over)
        return self.wire

    @property
    def client_id(self) -> str:
        """What CONNECT says."""
        return ""

    def head(self, destination: str) -> dict[str, str]:
        """What a frame says that names a destination: also how to make a queue of that name."""
        headers = {"destination": destination, "persistent": "true"}
        return headers | (self.way.dialect.queue if destination == PLACES["in"] else {})

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

    async def run(self, ports: Sequence[int]) -> None:
        wire = await self.connect(ports)
        while True:
            for _ in range(self.rng.randint(1, 5)):
                self.send(wire, self._place)
            await self.until_answered(wire, WINDOW)
            await asyncio.sleep(self.rng.random() * 0.006)

    def send(self, wire: StompWire, place: str) -> Posting:
        """SEND one message."""
        journal, rng = self.journal, self.rng
        self._count += 1
        posting = Posting(
            place, self.name, self._count, rng.choice(SIZES), version=self.way.version
        )
        journal.post(posting)
        headers = self.head(PLACES[place]) | posting.headers
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
        self._is_durable = place == "topic"
        self.waiting: deque[Taken] = deque()

    @property
    def client_id(self) -> str:
        return self.way.dialect.client_id if self._is_durable else ""

    async def subscribe(self, ports: Sequence[int]) -> StompWire:
        """Connect, and have what is there sent. Raises Gone."""
        wire = await self.connect(ports)
        dialect = self.way.dialect
        self.waiting.clear()
        id = SUBSCRIPTION if self._is_durable else self.name
        wire.hear(id, self._on_message)
        headers = {"id": id, "ack": self._mode, dialect.prefetch: str(self._prefetch)}
        headers |= dialect.durable if self._is_durable else {}
        await wire.ask("SUBSCRIBE", self.head(PLACES[self.place]) | headers)
        return wire

    def _on_message(self, frame: Frame) -> None:
        version = self.way.version
        posting = self.journal.delivered(self.place, frame, self.number, version)
        if posting is not None:
            self.waiting.append(Taken(posting, frame, version))

    async def run(self, ports: Sequence[int]) -> None:
        while True:
            wire = await self.subscribe(ports)
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
            self._settle(self.wire, [each.posting for each in taken], taken[-1])
            return
        for each in taken:
            self._settle(self.wire, [each.posting], each)

    def _settle(self, wire: StompWire, postings: list[Posting], last: Taken) -> None:
        self._post(wire, "ACK", last.names, self.journal.settle(postings))

    def _post(
        self, wire: StompWire, command: str, headers: Mapping[str, str], answered: Answered
    ) -> None:
        try:
            wire.post(command, headers, answered=answered)
        except Gone:
            answered(INFO)
            raise


class Mover(Consumer):
    """Takes from ``in``, and gives to all targets what becomes of it, by transactions."""

    def __init__(self, journal: StompJournal, rng: random.Random, name: str) -> None:
        super().__init__(journal, rng, name, "in", hang_up_share=0.01)

    async def run(self, ports: Sequence[int]) -> None:
        while True:
            wire = await self.subscribe(ports)
            while self.rng.random() >= self._hang_up_share:
                await asyncio.sleep(self.rng.random() * 0.01)
                if not self._act(wire):
                    break
                await self.until_answered(wire, MOVES_OPEN_MAX)

    def _act(self, wire: StompWire) -> bool:
        """Do one of the things that can be done with messages; False: now go. Raises Gone."""
        chance = self.rng.random()
        if self.waiting and chance < ACKNOWLEDGED_SHARE + REFUSED_SHARE:
            each = self.waiting.popleft()
            if chance < ACKNOWLEDGED_SHARE:
                self._settle(wire, [each.posting], each)
            else:
                self._refuse(wire, each)
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

    def _refuse(self, wire: StompWire, each: Taken) -> None:
        """NACK: it becomes a dead letter, or comes again. Raises Gone."""
        headers, for_good = self.rng.choice(self.way.dialect.refusals)
        if for_good:
            answered = self.journal.settle([each.posting], gives_back=True)
        else:
            answered = self.journal.requeue(each.posting)
        self._post(wire, "NACK", each.names | headers, answered)

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
            if buries:
                wire.post("NACK", name | each.names | self.way.dialect.refusals[0][0])
            else:
                wire.post("ACK", name | each.names)
        for number in range(rng.randint(max(count, 1), max(count, 2))):
            for place, destination in TARGETS.items():
                producer = f"{self.name}/{move.id}"
                size, version = rng.choice(SIZES), self.way.version
                posting = Posting(place, producer, number, size, move, version)
                move.gives.append(journal.post(posting))
                headers = self.head(destination) | name | posting.headers
                wire.post("SEND", headers, posting.body)
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
