"""A topic with FIFO queues is a FIFO topic: order by group, and each message once, in every queue.

Publishers do what SNS tells them to: they repeat what was not acknowledged, under the same id.
"""

import random
from typing import Any

import pytest

from braidmq.broker.message import unpack_headers
from tests.broker_disk import DiskBroker
from tests.fanout_harness import bind, publish, queues, send
from tests.replay_harness import archived, replay, run_replays

PUBLISHERS, GROUPS, MESSAGES = 3, 4, 40
WINDOW_MS = 300_000


class Publisher:
    """Publishes numbered messages to several groups; repeats what a crash left unanswered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        self.unanswered: list[int] = []

    def group(self, number: int) -> str:
        return f"g{(number * 7 + len(self.name)) % GROUPS}"

    def send(self, broker: DiskBroker, number: int) -> None:
        """Nothing is kept yet."""
        body, id = f"{self.name} {number}".encode(), f"{self.name}-{number}"
        more: dict[str, Any] = {
            "group_id": self.group(number),
            "dedup_id": id,
            "region": "EU" if number % 2 else "",
        }
        send(broker, f"orders/{self.name}", body, **more)

    def go_on(self, broker: DiskBroker, count: int) -> None:
        """What was not answered goes first, in its order."""
        for number in self.unanswered:
            self.send(broker, number)
        for _ in range(count):
            self.number += 1
            self.unanswered.append(self.number)
            self.send(broker, self.number)

    def answered(self) -> None:
        self.unanswered.clear()


def taken(broker: DiskBroker, name: str) -> list[tuple[str, str, int]]:
    """(group, publisher, number) of all that a queue has, in the order in which it is received."""
    found = []
    while deliveries := broker.receive(7, name):
        for each in deliveries:
            publisher, number = each.body.decode().split()
            group = str(unpack_headers(each.attributes)["group-id"])
            found.append((group, publisher, int(number)))
        broker.ack(*deliveries, name=name)
    return found


def check(found: list[tuple[str, str, int]], publishers: list[Publisher], odd: bool) -> None:
    """Each message once, and within a group each publisher's in their order."""
    for publisher in publishers:
        for number in range(GROUPS):
            group = f"g{number}"
            came = [each[2] for each in found if each[:2] == (group, publisher.name)]
            expected = [
                each
                for each in range(1, publisher.number + 1)
                if publisher.group(each) == group and (each % 2 or not odd)
            ]
            assert came == expected, (publisher.name, group)


@pytest.mark.parametrize("seed", range(20))
def test_publishers_and_groups_through_crashes(seed):
    rng = random.Random(seed)
    broker = DiskBroker()
    queues(broker, "all", "eu", fifo=True)
    queues(broker, "content", fifo=True, content_dedup=True)
    queues(broker, "scoped", fifo=True, dedup_scope="group")
    queues(broker, "late", fifo=True, delay_ms=5_000)
    for name in ("all", "content", "scoped", "late"):
        bind(broker, "orders/#", name)
    bind(broker, "orders/+", "eu", where="region = 'EU'")
    broker.settle()
    publishers = [Publisher(name) for name in ("ann", "bob", "christine")]
    while publishers[0].number < MESSAGES:
        for publisher in rng.sample(publishers, PUBLISHERS):
            publisher.go_on(broker, 2)
        fate = rng.random()
        if fate < 0.15:
            broker = broker.restarted(rng)
            continue
        broker.settle()
        if fate < 0.3:
            broker = broker.restarted(rng)  # all is there, but the answers are lost
            continue
        for publisher in publishers:
            publisher.answered()
        if fate < 0.5:
            broker.checkpoint()
        if fate < 0.6:
            broker = broker.restarted()
    for publisher in publishers:
        publisher.go_on(broker, 0)
    broker.settle()
    broker.advance(10_000)
    for name in ("all", "content", "scoped", "late"):
        check(taken(broker, name), publishers, odd=False)
    check(taken(broker, "eu"), publishers, odd=True)


def test_an_id_is_known_for_five_minutes_in_every_queue_that_had_it():
    broker = DiskBroker()
    queues(broker, "early", "late", fifo=True)
    bind(broker, "t", "early")
    publish(broker, "t", b"one", group_id="g", dedup_id="x")
    bind(broker, "t", "late")
    broker.advance(WINDOW_MS - 1)
    for again in (broker, broker.restarted()):
        assert [again.drain(name) for name in ("early", "late")] == [[b"one"], []]
        # The first queue has had it, the second one has not.
        publish(again, "t", b"two", group_id="g", dedup_id="x")
        assert [again.drain(name) for name in ("early", "late")] == [[], [b"two"]]
        again.advance(1)
        publish(again, "t", b"three", group_id="g", dedup_id="x")
        assert [again.drain(name) for name in ("early", "late")] == [[b"three"], []]


def test_the_content_identifies_where_a_queue_is_set_so():
    broker = DiskBroker()
    queues(broker, "content", fifo=True, content_dedup=True)
    queues(broker, "ids", fifo=True)
    queues(broker, "plain")
    for name in ("content", "ids", "plain"):
        bind(broker, "t", name)
    publish(broker, "t", b"same", group_id="g")
    broker = broker.restarted(random.Random(1))
    publish(broker, "t", b"same", group_id="h")
    publish(broker, "t", b"same", group_id="g", dedup_id="other")  # an id goes before the content
    counts = {name: len(broker.drain(name)) for name in ("content", "ids", "plain")}
    assert counts == {"content": 2, "ids": 3, "plain": 3}


def test_an_archive_gives_groups_back_in_their_order_through_crashes():
    broker = DiskBroker()
    archived(broker, shards=3)
    publishers = [Publisher(name) for name in ("ann", "bob", "christine")]
    for _ in range(MESSAGES // 2):
        for publisher in publishers:
            publisher.go_on(broker, 2)
            broker.settle()
            publisher.answered()
    queues(broker, "again", fifo=True, content_dedup=True)
    bind(broker, "orders/#", "again")
    replay(broker, "orders/#", "again", rate=500)
    for seed in range(4):
        broker.advance(50)
        broker = broker.restarted(random.Random(seed))
    assert run_replays(broker).replayed == PUBLISHERS * MESSAGES
    check(taken(broker, "again"), publishers, odd=False)
