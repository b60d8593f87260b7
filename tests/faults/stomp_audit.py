"""The audit of STOMP: what transactions promise, and what every queue does.

Messages are sent to ``in``. Movers take them from there and, in one transaction each, acknowledge
them and send what they became to ``b``, ``c`` and a topic with a durable subscription. What must
hold, whatever happens to the broker:

lost         confirmed, by RECEIPT of its SEND or of the COMMIT it was part of, and it never came
vanished     a message that was read, not settled, and did not come again
torn         a transaction of which a part happened, and a part did not
phantom      a message that nobody sent, that was refused, or of a transaction not committed
corrupt      a body, header or destination that differs from what was sent
duplicates   delivered again although whoever has it neither gave it back nor went away
resurrected  delivered although it was settled, by a confirmed ACK, NACK or COMMIT
misordered   what one client sent in order came to ``c`` in another
cut          the broker refused or hung up on a client that did nothing wrong
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from .audit import FAIL, INFO, INVOKE, OK
from .journal import Journal, body_of, parse_body
from .stomp_ways import WAY_NAMES
from .stomp_wire import Answered, Frame

__all__ = ["ABORTED", "DEAD", "OPEN", "PLACES", "TARGETS", "Move", "Posting", "StompJournal"]

OPEN, ABORTED = "OPEN", "ABORTED"
TARGETS = {"b": "/queue/stomp.b", "c": "/queue/stomp.c", "topic": "/topic/stomp.told"}
DEAD = "dead"
PLACES = {"in": "/queue/stomp.in", **TARGETS, DEAD: "/queue/ActiveMQ.DLQ"}
PAST_MAX = 200_000  # settled messages that are remembered
SHUTTING_DOWN = "shutting down"

Key = tuple[str, str, int]  # place, producer, number


@dataclass(slots=True, eq=False)
class Move:
    """A transaction.

    Attributes:
        takes: what it acknowledges. buries: what it refuses: dead letters come of that.
        gives: what it sends.
        outcome: OPEN until COMMIT is sent, then INVOKE, and OK, FAIL or INFO; or ABORTED.
        proof, denial: what showed that it happened, and that it did not.
    """

    id: int
    connection: int = 0
    sequence: int = 0  # of its COMMIT, among all
    outcome: str = OPEN
    takes: list["Posting"] = field(default_factory=list)
    buries: list["Posting"] = field(default_factory=list)
    gives: list["Posting"] = field(default_factory=list)
    proof: str = ""
    denial: str = ""

    @property
    def may_have_happened(self) -> bool:
        return self.outcome in (INVOKE, OK, INFO)


@dataclass(slots=True, eq=False)
class Posting:
    """A message at one place.

    Attributes:
        move: the transaction that sends it. outcome: of its SEND, if there is none.
        version: of STOMP, by which it is sent.
        owed: the place was certainly there before.
        connection: that has it, or had it last. given_back: it was, to the queue or for dead.
        acks, nacks: the outcomes of its ACKs, and of the NACKs that make it a dead letter.
        moves: the transactions that took it. burials: those that refused it.
        is_dead: it came as a dead letter.
    """

    place: str
    producer: str
    number: int
    size: int
    move: Move | None = None
    version: str = "1.2"
    outcome: str = INVOKE
    owed: bool = True
    came: int = 0
    connection: int = 0
    run: int = 0
    given_back: bool = False
    is_dead: bool = False
    acks: list[str] = field(default_factory=list)
    nacks: list[str] = field(default_factory=list)
    moves: list[Move] = field(default_factory=list)
    burials: list[Move] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.place, self.producer, self.number

    @property
    def name(self) -> str:
        return f"{self.producer}|{self.number} at {self.place}"

    @property
    def body(self) -> bytes:
        return body_of(self.producer, self.number, self.size)

    @property
    def headers(self) -> dict[str, str]:
        """Those that it is sent with: all that its version can say."""
        text = f"a:b\\c\nd\\n {self.number}\r"
        if self.version == "1.1":
            text = text.rstrip("\r")
        elif self.version == "1.0":
            return {"place": self.place, "text of it": text.replace("\n", "").strip(), "empty": ""}
        return {"place": self.place, "text: of it": text, "empty": ""}

    def headers_seen(self, version: str) -> dict[str, str]:
        """Those that must come; 1.0 has no way to write some characters."""
        if version != "1.0":
            return self.headers
        return {
            name.replace(":", "_"): value.replace("\n", " ") for name, value in self.headers.items()
        }

    @property
    def is_certain(self) -> bool:
        """Whether the broker has said that it has it."""
        return (self.move.outcome if self.move else self.outcome) == OK

    @property
    def may_be(self) -> bool:
        return self.move.may_have_happened if self.move else self.outcome != FAIL

    @property
    def is_settled(self) -> bool:
        """Whether the broker has said that it is settled for good."""
        return OK in self.acks or any(move.outcome == OK for move in self.moves)


class StompJournal(Journal):
    """What happened, and the counters of what must not."""

    BROKEN = ("lost vanished torn phantom corrupt duplicates resurrected misordered cut").split()

    def __init__(self) -> None:
        super().__init__()
        self.subscribed = False  # the topic's durable subscription is certainly there
        self.expects_errors = False
        self.connections = 0
        self.alive: set[int] = set()
        self.postings: dict[Key, Posting] = {}
        self.moves: list[Move] = []
        self.past: dict[Key, None] = {}  # what was settled when all was empty
        self._move_count = 0
        self._commit_count = 0
        self._last: dict[int, int] = {}  # connection -> the last of its COMMITs that came to c

    def began(self, way: Iterable[str] = ()) -> int:
        """A connection is made, in a way that has these names: its number."""
        self.connections += 1
        self.counts.update(way)
        self.alive.add(self.connections)
        return self.connections

    def ended(self, connection: int, error: Frame | None = None) -> None:
        """A connection is gone; ``error`` is what the broker said."""
        self.alive.discard(connection)
        if error is None:
            return
        text = error.headers.get("message", "")
        if SHUTTING_DOWN not in text and not self.expects_errors:
            self.find("cut", f"{error.headers} {error.body!r}")

    # Sending ----------------------------------------------------------------------------------

    def post(self, posting: Posting) -> Posting:
        """The bytes of a SEND go out now."""
        self.postings[posting.key] = posting
        posting.owed = posting.place != "topic" or self.subscribed
        return posting

    def posted(self, posting: Posting, outcome: str) -> None:
        """What became of a SEND outside of transactions."""
        posting.outcome = outcome
        self.counts["acked"] += outcome == OK

    def move(self, connection: int) -> Move:
        """BEGIN."""
        self._move_count += 1
        move = Move(self._move_count, connection)
        self.moves.append(move)
        return move

    def commit(self, move: Move) -> None:
        """The bytes of COMMIT go out now."""
        move.outcome = INVOKE
        self._commit_count += 1
        move.sequence = self._commit_count
        for posting in move.takes:
            posting.moves.append(move)
        for posting in move.buries:
            posting.burials.append(move)

    def committed(self, move: Move, outcome: str) -> None:
        """What became of a COMMIT."""
        move.outcome = outcome
        if outcome == OK:
            self.counts["acked"] += 1
            self.counts["committed"] += 1
            if move.denial:
                self.find("torn", f"transaction {move.id} is confirmed, but {move.denial}")
        else:
            self.counts["unknown"] += 1

    # Receiving --------------------------------------------------------------------------------

    def delivered(
        self, place: str, frame: Frame, connection: int, version: str = "1.2"
    ) -> Posting | None:
        """A message came by the subscription to ``place``, over a connection of that version."""
        self.counts["delivered"] += 1
        parsed = parse_body(frame.body)
        home = frame.headers.get("place", "")
        if parsed is None or (home != place and place != DEAD):
            self.find("corrupt", f"{place}: {frame.headers} {frame.body[:60]!r}")
            return None
        posting = self.postings.get((home, *parsed))
        name = f"{parsed[0]}|{parsed[1]} at {place}"
        if posting is None or not posting.may_be:
            kind = "resurrected" if (home, *parsed) in self.past else "phantom"
            self.find(kind, name)
            return None
        self._check_content(posting, frame, name, version)
        self._check_again(posting, place, name)
        if place == "c" and not posting.came and posting.move is not None:
            self._check_order(posting.move)
        posting.came += 1
        posting.connection, posting.run, posting.given_back = connection, self.run, False
        if posting.move is not None:
            self._proved(posting.move, name)
        return posting

    def _check_content(self, posting: Posting, frame: Frame, name: str, version: str) -> None:
        for header, value in posting.headers_seen(version).items():
            if frame.headers.get(header) != value:
                self.find("corrupt", f"{name} has headers {frame.headers}")
                return
        if frame.body != posting.body:
            self.find("corrupt", f"{name} has another body")

    def _check_again(self, posting: Posting, place: str, name: str) -> None:
        if place == DEAD != posting.place:
            self.counts["dead letters"] += not posting.is_dead
            posting.is_dead = True
        else:
            if posting.is_dead or OK in posting.nacks:
                self.find("resurrected", f"{name} is a dead letter")
            for move in posting.burials:
                self._denied(move, f"{name} came again")
        if not posting.came:
            return
        self.counts["redelivered"] += 1
        for move in posting.moves:
            self._denied(move, f"{name} came again")
        if posting.is_settled:
            self.find("resurrected", name)
        elif (
            posting.run == self.run and posting.connection in self.alive and not posting.given_back
        ):
            self.find("duplicates", name)

    def _check_order(self, move: Move) -> None:
        last = self._last.get(move.connection, 0)
        if move.sequence < last:
            self.find("misordered", f"transaction {move.id} came to c after a later one")
        self._last[move.connection] = max(last, move.sequence)

    def _proved(self, move: Move, text: str) -> None:
        move.proof = text
        if move.denial and move.outcome != OK:
            self.find("torn", f"transaction {move.id}: {text} came, but {move.denial}")

    def _denied(self, move: Move, text: str) -> None:
        move.denial = text
        if move.proof or move.outcome == OK:
            proof = f"{move.proof} came" if move.proof else "it was confirmed"
            self.find("torn", f"transaction {move.id}: {text}, but {proof}")

    # Settling ---------------------------------------------------------------------------------

    def requeue(self, posting: Posting) -> Answered:
        """The bytes of a NACK go out now that has it come again; tell the result, as always."""
        posting.given_back = True

        def answered(outcome: str) -> None:
            self.counts["requeued"] += outcome == OK

        return answered

    def settle(self, postings: Sequence[Posting], gives_back: bool = False) -> Answered:
        """The bytes of an ACK, or of a NACK for good, go out now; tell the result its outcome."""
        lists = [each.nacks if gives_back else each.acks for each in postings]
        for posting, outcomes in zip(postings, lists, strict=True):
            outcomes.append(INVOKE)
            posting.given_back = posting.given_back or gives_back

        def answered(outcome: str) -> None:
            self.counts["settled"] += outcome == OK
            self.counts["nacked"] += outcome == OK and gives_back
            for outcomes in lists:
                outcomes[outcomes.index(INVOKE)] = outcome

        return answered

    # The verdict ------------------------------------------------------------------------------

    def missing(self) -> list[Posting]:
        """What was confirmed and did not come yet."""
        return [
            posting
            for posting in self.postings.values()
            if posting.is_certain and posting.owed and not posting.came
        ]

    def unsettled(self) -> list[Posting]:
        """What came and was not settled yet, as far as is known."""
        return [
            posting
            for posting in self.postings.values()
            if posting.came
            and not posting.is_settled
            and INFO not in posting.acks
            and not any(move.proof for move in posting.moves)
        ]

    def emptied(self) -> None:
        """All that waited has come and was settled: say what did not, and begin anew."""
        for posting in self.missing():
            self.find("lost", posting.name)
        for move in self.moves:
            self._check_whole(move)
        for posting in self.unsettled():
            unknown = [move for move in posting.moves if move.outcome in (INFO, INVOKE)]
            if unknown:
                text = f"transaction {unknown[-1].id} took {posting.name}, and gave nothing"
                self.find("torn", text)
            else:
                self.find("vanished", posting.name)
        self.counts["messages"] += len(self.postings)
        self.counts["transactions"] += len(self.moves)
        self.past.update(dict.fromkeys(self.postings))
        while len(self.past) > PAST_MAX:
            del self.past[next(iter(self.past))]
        self.postings.clear()
        self.moves.clear()

    def _check_whole(self, move: Move) -> None:
        """Of a transaction without an answer all has to have come, or nothing."""
        if move.outcome == OK or not move.proof:
            return
        self.counts["recovered"] += 1
        missing = [posting.name for posting in move.gives if posting.owed and not posting.came]
        if missing:
            self.find("torn", f"transaction {move.id}: {move.proof} came, not {missing}")

    def figures(self) -> str:
        """The line of figures."""
        told = (
            "messages transactions acked committed settled unknown recovered delivered redelivered"
        )
        told_all = [*told.split(), "nacked", "requeued", "dead letters", *WAY_NAMES]
        return ", ".join([*(f"{kind} {self.counts[kind]}" for kind in told_all), super().figures()])
