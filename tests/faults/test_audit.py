"""The audit itself: every kind of broken promise is noticed, and what is allowed is not.

An auditor that cannot fail proves nothing, so each history here is told to a journal by hand.
"""

import msgpack
import pytest

from .audit import EVERY_QUEUE, LEASE_MS, Entry, Hold, QueueJournal
from .journal import body_of, parse_body

HEADERS = {"number": "1"}


class Story:
    """Tells a journal what happened, a step a call."""

    def __init__(self, queue: str = "standard", **fields: object) -> None:
        self.queue = queue
        self.journal = QueueJournal()
        self.journal.run = 1
        self.fields = fields
        self.entries: dict[int, Entry] = {}
        self.receive = 0

    def send(self, number: int, id: int | None = None, again: bool = False) -> Entry:
        if not again:
            self.entries[number] = Entry(self.queue, "p", number, HEADERS, **self.fields)  # type: ignore[arg-type]
        entry = self.entries[number]
        self.journal.invoke(entry)
        if id is not None:
            self.journal.ok(entry, id, False)
        return entry

    def deliver(self, number: int, id: int, **changes: object) -> Hold | None:
        """Push it to a consumer of its own; ``changes`` say what is different from that."""
        self.receive += 1
        told = {
            "queue": self.queue,
            "body": body_of("p", number, 10),
            "headers": HEADERS,
            "receives": 1,
            "receive": self.receive,
            "asked_at": 0.0,
            "lease_ms": 0,
        } | changes
        attributes = msgpack.packb(told["headers"])
        message = [0, 0, told["receives"], id, 0, attributes, told["body"]]
        return self.journal.delivered(
            told["queue"],  # type: ignore[arg-type]
            message,
            7,
            told["receive"],  # type: ignore[arg-type]
            told["asked_at"],  # type: ignore[arg-type]
            told["lease_ms"],  # type: ignore[arg-type]
        )

    def finish(self, number: int, id: int, **changes: object) -> None:
        hold = self.deliver(number, id, **changes)
        assert hold is not None
        self.journal.ack_invoke(hold)
        self.journal.ack_ok(hold)

    def found(self) -> set[str]:
        self.journal.emptied()
        return {kind for kind in QueueJournal.BROKEN if self.journal.counts[kind]}


def test_a_body_proves_itself():
    body = body_of("me", 12, 33)
    assert parse_body(body) == ("me", 12)
    for index in range(len(body)):
        assert parse_body(body[:index] + bytes([body[index] ^ 1]) + body[index + 1 :]) is None


def test_a_clean_history_is_clean():
    story = Story()
    story.send(1, 10)
    story.send(2)
    story.finish(1, 10)
    story.finish(2, 20)
    assert not story.found()
    assert story.journal.counts["recovered"] == 1


def test_lost():
    story = Story()
    story.send(1, 10)
    assert story.found() == {"lost"}


def test_nothing_is_lost_that_nobody_confirmed():
    story = Story()
    story.journal.unknown(story.send(1))
    story.journal.fail(story.send(2))
    assert not story.found()


def test_vanished():
    story = Story()
    story.send(1, 10)
    story.deliver(1, 10)
    assert story.found() == {"vanished"}


def test_phantoms():
    story = Story()
    story.deliver(1, 10)
    story.journal.fail(story.send(2))
    story.deliver(2, 20)
    assert story.found() == {"phantom"}
    assert story.journal.counts["phantom"] == 2


@pytest.mark.parametrize("change", [{"body": b"p|1|00000000|x"}, {"headers": {"number": "2"}}])
def test_corrupt(change):
    story = Story()
    story.send(1, 10)
    story.deliver(1, 10, **change)
    assert "corrupt" in story.found()


def test_an_unjustified_duplicate():
    story = Story()
    story.send(1, 10)
    story.deliver(1, 10)
    story.finish(1, 10)
    assert story.found() == {"duplicates"}


@pytest.mark.parametrize("why", ["nack", "restart", "connection", "cancel", "lease"])
def test_a_justified_duplicate(why):
    story = Story()
    story.send(1, 10)
    hold = story.deliver(1, 10, **({"lease_ms": 1} if why == "lease" else {}))
    assert hold is not None
    if why == "nack":
        hold.given_back = True
    elif why == "restart":
        story.journal.run += 1
    elif why == "connection":
        story.journal.connections_dead.add(hold.connection)
    elif why == "cancel":
        story.journal.receives_dead.add(hold.receive)
    story.finish(1, 10)
    assert not story.found()


def test_a_lease_outlives_its_connection():
    story = Story()
    story.send(1, 10)
    hold = story.deliver(1, 10, asked_at=1e12, lease_ms=LEASE_MS)
    assert hold is not None
    story.journal.connections_dead.add(hold.connection)
    story.finish(1, 10)
    assert story.found() == {"duplicates"}


def test_stored_more_often_than_sent():
    story = Story()
    story.send(1, 10)
    story.finish(1, 10)
    story.finish(1, 11)
    assert story.found() == {"duplicates"}


def test_deduplication():
    story = Story("groups.fifo", group="g", dedup="d")
    story.send(1, 10)
    story.send(1, 11, again=True)
    story.finish(1, 10)
    assert story.found() == {"duplicates"}


def test_resurrected():
    story = Story()
    story.send(1, 10)
    story.finish(1, 10)
    story.journal.run += 1
    story.finish(1, 10)
    assert story.found() == {"resurrected"}


@pytest.mark.parametrize("settled", [True, False])
def test_resurrected_after_all_queues_were_empty(settled):
    story = Story()
    if settled:
        story.send(1, 10)
        story.finish(1, 10)
    else:
        story.journal.unknown(story.send(1))
    assert not story.found()
    story.finish(1, 10)
    assert story.found() == {"resurrected"}


def test_a_dead_letter_does_not_come_back():
    story = Story("poison")
    story.send(1, 10)
    story.deliver(1, 10)
    story.finish(1, 10, queue="poison-dead")
    story.journal.run += 1
    story.finish(1, 10, receives=3)
    assert "resurrected" in story.found()


def test_misordered():
    story = Story("groups.fifo", group="g")
    story.send(1, 10)
    story.send(2, 20)
    story.finish(2, 20)
    story.finish(1, 10)
    assert story.found() == {"misordered"}


def test_a_receive_may_take_several_of_a_group():
    story = Story("groups.fifo", group="g")
    story.send(1, 10)
    story.send(2, 20)
    story.finish(1, 10, receive=5)
    story.finish(2, 20, receive=5)
    assert not story.found()


def test_after_a_restart_the_unsettled_come_first():
    story = Story("groups.fifo", group="g")
    story.send(1, 10)
    story.send(2, 20)
    hold = story.deliver(1, 10)
    assert hold is not None
    story.journal.ack_invoke(hold)
    story.journal.ack_unknown(hold)
    story.journal.run += 1
    story.finish(2, 20)
    story.finish(1, 10)
    assert story.found() == {"misordered"}


def test_early():
    story = Story("later", delay_ms=60_000)
    story.send(1, 10)
    story.finish(1, 10)
    assert story.found() == {"early"}


def test_stolen():
    story = Story()
    story.send(1, 10)
    hold = story.deliver(1, 10)
    assert hold is not None
    story.journal.ack_invoke(hold)
    story.journal.ack_refused(hold, "lease-lost")
    assert "stolen" in story.found()


@pytest.mark.parametrize("count", [0, 2])
def test_miscounted(count):
    story = Story()
    story.send(1, 10)
    told = dict.fromkeys(EVERY_QUEUE, 0)
    story.journal.check_counters({**told, "standard": count})
    assert story.journal.counts["miscounted"] == 1
    story.journal.check_counters({**told, "standard": 1})
    assert story.journal.counts["miscounted"] == 1


def test_what_is_only_written_may_go_with_a_power_cut():
    story = Story("relaxed")
    story.send(1, 10)
    story.send(2, 20)
    story.finish(2, 20)
    story.journal.power_cut_runs.add(1)
    story.journal.run += 1
    story.finish(2, 20)
    assert not story.found()
    assert story.journal.counts["lost (os, power cut)"] == 1
    assert story.journal.counts["resurrected (os, power cut)"] == 1
