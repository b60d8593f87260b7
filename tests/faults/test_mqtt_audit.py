"""The audit for MQTT itself: each kind of broken promise is noticed, what is allowed is not."""

import pytest

from .mqtt_audit import Destination, Entry, Hold, MqttJournal
from .mqtt_wire import Message

TOPIC = "load/x"


class Story:
    """Tells a journal what happened, a step a call."""

    def __init__(self, qos: int = 1, subscribed: int = 2) -> None:
        self.qos = qos
        self.journal = MqttJournal()
        self.journal.run = 1
        self.at = Destination("session", "load/", subscribed)
        self.other = Destination("other", "load/", subscribed)
        self.journal.destinations = [self.at, self.other]
        for each in self.journal.destinations:
            each.since = self.journal.tick()
        self.entries: dict[int, Entry] = {}
        self.connection = 0
        self.connect()

    def connect(self) -> None:
        """The client comes, or comes back."""
        self.journal.ended(self.connection)
        self.connection += 1
        self.journal.began(self.connection)

    def restart(self) -> None:
        self.journal.run += 1
        self.connect()

    def send(self, number: int, ok: bool = True, **fields: object) -> Entry:
        if number not in self.entries:
            self.entries[number] = Entry(TOPIC, "p", number, self.qos, **fields)  # type: ignore[arg-type]
        entry = self.entries[number]
        self.journal.invoke(entry)
        if ok:
            self.journal.ok(entry)
        return entry

    def deliver(
        self,
        number: int,
        id: int = 1,
        dup: bool = False,
        at: Destination | None = None,
        **but: object,
    ) -> Hold | None:
        at = at or self.at
        body = self.entries[number].body
        message = Message(TOPIC, body, min(self.qos, at.qos), dup, False, id)
        return self.journal.delivered(at, message._replace(**but), self.connection)  # type: ignore[arg-type]

    def finish(self, number: int, id: int = 1, **more: object) -> None:
        """To the session, acknowledged; to the other one as well, unless it had it before."""
        holds = [self.deliver(number, id, **more)]  # type: ignore[arg-type]
        if len(self.entries[number].holds.get(self.other, ())) < self.entries[number].copies_max:
            holds.append(self.deliver(number, id, at=self.other))
        for hold in holds:
            assert hold is not None
            hold.acked = True
        self.journal.handled(hold for hold in holds if hold is not None)

    def found(self) -> set[str]:
        self.journal.emptied()
        return {kind for kind in MqttJournal.BROKEN if self.journal.counts[kind]}


@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_clean_history_is_clean(qos):
    story = Story(qos)
    for number in (1, 2):
        story.send(number)
        story.finish(number, number)
    assert story.found() == set()


def test_a_lost_message():
    story = Story()
    story.send(1)
    story.finish(1)
    story.send(2)
    story.deliver(2, 2).acked = True  # type: ignore[union-attr]
    assert story.found() == {"lost"}
    assert "other: p|2" in story.journal.findings[0]


@pytest.mark.parametrize("qos", [0, 1])
def test_who_subscribed_later_or_gets_qos_0_is_owed_nothing(qos):
    story = Story(qos, subscribed=qos)
    story.at.since = story.other.since = 0
    story.send(1)
    assert story.found() == set()


def test_who_ended_its_subscription_is_owed_what_was_sent_before_and_gets_nothing_later():
    story = Story()
    story.send(1)
    story.at.leaving = story.journal.tick()
    story.send(2)
    story.at.left = story.journal.tick()
    story.finish(1, 1)
    story.finish(2, 2)
    assert story.found() == set()
    story.send(3)
    story.finish(3, 3)
    assert story.found() == {"phantom"}


def test_a_message_that_nobody_confirmed_is_for_all_or_none():
    story = Story()
    story.send(1, ok=False)
    assert story.found() == set()
    story = Story()
    story.send(1, ok=False)
    story.deliver(1).acked = True  # type: ignore[union-attr]
    assert story.found() == {"torn"}
    assert story.journal.counts["recovered"] == 1


def test_a_message_that_did_not_come_again():
    story = Story()
    story.send(1)
    story.finish(1)
    story.send(2)
    story.deliver(2, 2)
    story.deliver(2, 2, at=story.other).acked = True  # type: ignore[union-attr]
    assert story.found() == {"vanished"}


def test_what_nobody_sent_and_what_is_not_as_it_was_sent():
    story = Story()
    story.entries[1] = Entry(TOPIC, "p", 1, 1)
    assert story.deliver(1) is None
    assert story.found() == {"phantom"}
    for but in ({"topic": "load/y"}, {"qos": 2}, {"retain": True}, {"body": b"p|1|0|x"}):
        story = Story()
        story.send(1)
        story.finish(1)
        story.send(2)
        story.finish(2, 2, **but) if "body" not in but else story.deliver(2, 2, **but)
        assert "corrupt" in story.found(), but


def test_a_refused_message_is_not_seen():
    story = Story()
    story.journal.fail(story.send(1, ok=False))
    story.deliver(1)
    assert story.found() == {"phantom"}


def test_qos_2_comes_once_whatever_happens():
    for again in (Story.connect, Story.restart):
        story = Story(2)
        story.send(1)
        story.finish(1)
        again(story)
        story.finish(1, dup=True)
        assert story.found() == {"duplicates"}


def test_qos_1_comes_as_often_as_it_was_sent():
    story = Story()
    story.send(1)
    story.finish(1, 1)
    story.finish(1, 2)
    assert story.found() == {"duplicates"}
    story = Story()
    story.send(1, ok=False)
    story.send(1)
    story.finish(1, 1)
    story.finish(1, 2)
    assert story.found() == set()


def test_qos_1_comes_again_when_the_connection_went():
    story = Story()
    story.send(1)
    story.deliver(1, 1)
    story.connect()
    story.finish(1, 1, dup=True)
    assert story.found() == set()
    assert story.journal.counts["redelivered"] == 1


def test_dup_is_set_when_it_must_be_and_only_then():
    story = Story()
    story.send(1)
    story.deliver(1, 1)
    story.connect()
    story.finish(1, 1)
    assert story.found() == {"unmarked"}
    story = Story()
    story.send(1)
    story.finish(1, 1, dup=True)
    assert story.found() == {"mismarked"}


def test_what_was_acknowledged_may_come_again_only_if_that_was_not_kept():
    story = Story()
    story.send(1)
    story.finish(1, 1)
    story.restart()
    story.finish(1, 1, dup=True)
    assert story.found() == set()
    story = Story()
    story.send(1)
    story.finish(1, 1)
    story.send(2)  # its acknowledgement proves that all before it is kept
    story.finish(2, 2)
    story.restart()
    story.finish(1, 1, dup=True)
    assert story.found() == {"resurrected"}
    story = Story()
    story.send(2, ok=False)
    story.send(1)
    story.finish(1, 1)
    story.send(2)  # perhaps it had been taken, and was answered at once
    story.restart()
    story.finish(1, 1, dup=True)
    assert "resurrected" not in story.found()
    story = Story()
    story.send(1)
    story.finish(1, 1)
    story.send(2, retain=True, deletes=True)  # perhaps there was nothing to delete
    story.restart()
    story.finish(1, 1, dup=True)
    assert "resurrected" not in story.found()
    story = Story()
    story.send(1)
    story.finish(1, 1)
    story.connect()  # the same run of the broker: it knew
    story.finish(1, 1, dup=True)
    assert story.found() == {"resurrected"}


def test_what_was_settled_long_ago_does_not_come():
    story = Story()
    story.send(1)
    story.finish(1)
    assert story.found() == set()
    story.deliver(1)
    assert story.found() == {"resurrected"}


def test_the_order_of_a_publisher():
    story = Story()
    story.send(1)
    story.send(2)
    story.finish(2, 2)
    story.finish(1, 1)
    assert story.found() == {"misordered"}


@pytest.mark.parametrize(("sent", "kinds"), [(1, {"misordered"}), (2, set())])
def test_the_order_of_what_was_sent_again_to_who_was_not_there_before(sent, kinds):
    story = Story()
    story.at.durable = story.other.durable = False
    for _ in range(sent):
        story.send(1)
    story.send(2)
    story.finish(2, 2)
    story.finish(1, 1)
    assert story.found() == kinds


def test_what_comes_again_may_be_out_of_order():
    story = Story()
    story.send(1)
    story.deliver(1, 1)
    story.deliver(1, 1, at=story.other).acked = True  # type: ignore[union-attr]
    story.send(2)
    story.finish(2, 2)
    story.connect()
    story.finish(1, 1, dup=True)
    assert story.found() == set()


@pytest.mark.parametrize(
    ("acked", "sent", "retained", "stale"),
    [
        (2, 2, 2, False),
        (1, 2, 2, False),
        (1, 2, 1, False),
        (2, 2, 1, True),
        (2, 2, 0, True),
        (0, 2, 0, False),
        (0, 2, 1, False),
    ],
)
def test_what_is_retained_is_the_last_acknowledged_or_later(acked, sent, retained, stale):
    story = Story()
    for number in range(1, sent + 1):
        story.send(number, ok=number <= acked, retain=True)
    found = {TOPIC: story.entries[retained].body} if retained else {}
    assert story.journal.retained_for_sure() == ({TOPIC} if acked else set())
    story.journal.check_retained(found)
    assert story.journal.counts["stale"] == stale


def test_what_was_to_be_forgotten_is_not_retained():
    story = Story()
    story.send(1, retain=True)
    story.send(2, retain=True, deletes=True)
    assert story.journal.retained_for_sure() == set()
    story.journal.check_retained({})
    assert not story.journal.counts["stale"]
    story.journal.check_retained({TOPIC: story.entries[1].body, "load/never": b"x"})
    assert (story.journal.counts["stale"], story.journal.counts["phantom"]) == (1, 1)


def test_a_share_gives_a_message_to_one_member_at_a_time():
    for dead, kinds in ((True, set()), (False, {"duplicates"})):
        story = Story()
        story.at.shared = True
        story.send(1)
        story.deliver(1, 1)
        if dead:
            story.connect()
        story.finish(1, 9, dup=True)
        assert story.found() - {"vanished"} == kinds


def test_copies_in_a_share_are_not_taken_for_each_other():
    story = Story()
    story.at.shared = story.other.shared = True
    story.send(1, ok=False)
    story.send(1)
    story.finish(1, 1)
    story.send(2)  # the first copy is settled for good
    story.finish(2, 2)
    story.connect()
    story.deliver(1, 3).acked = True  # type: ignore[union-attr]  # the second, for the first time
    story.restart()
    story.finish(1, 4, dup=True)  # its acknowledgement was not kept
    story.restart()
    story.finish(1, 5, dup=True)
    assert story.found() == set()


@pytest.mark.parametrize(("first", "count"), [(True, 0), (False, 1)])
def test_what_went_from_one_member_to_another_may_be_read_in_the_other_order(first, count):
    story = Story()
    story.at.shared = True
    story.send(1)
    story.finish(1, 1, dup=first)
    story.journal.entries["p", 1].holds[story.at][0].handled_at = 0
    story.connect()
    story.deliver(1, 2).acked = True  # type: ignore[union-attr]
    assert story.found() == set()
    assert story.journal.counts["unmarked in a share"] == count
