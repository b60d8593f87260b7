"""Whatever happens in whatever order: no bound is crossed, and nothing is lost or left waiting.

hypothesis sends messages, answers requests, lets time go on, deletes and changes webhooks. After
each step the bounds hold; in the end, when everybody answers well, everything has been delivered
that was neither refused nor deleted.
"""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from braidmq.broker.access import SYSTEM
from braidmq.broker.retry_policy import RetryPolicy
from braidmq.protocols.webhooks.client import Answer
from tests.unit.protocols.webhooks.test_dispatch import OK, Posting

SLOTS = 3
NAMES = ("a", "b", "c", "d")
RETRIES = RetryPolicy(min_delay_ms=1_000, max_delay_ms=1_000, retries=100)
FAILURES = [Answer(500), Answer(error="timeout"), Answer(429, retry_after_ms=3_000), Answer(301)]


class Dispatching(RuleBasedStateMachine):
    """Four webhooks that share three slots."""

    def __init__(self) -> None:
        super().__init__()
        self.posting = Posting(concurrency_max=SLOTS)
        self.sent: dict[str, set[bytes]] = {name: set() for name in NAMES}
        self.done: dict[str, set[bytes]] = {name: set() for name in NAMES}
        self.number = 0
        for name in NAMES:
            self.declare(name)

    def declare(self, name: str) -> None:
        self.posting.declare(
            name,
            retry=RETRIES,
            concurrency_max=2,
            breaker_failures_max=3,
            breaker_open_ms=2_000,
            breaker_open_ms_max=5_000,
            rate_per_second_max=50,
        )

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 5))
    def send(self, name: str, count: int) -> None:
        bodies = [b"%d" % (self.number + n) for n in range(count)]
        self.number += count
        self.sent[name] |= set(bodies)
        self.posting.publish(*bodies, name=name)

    @precondition(lambda self: self.posting.running)
    @rule(at=st.integers(0, SLOTS), answer=st.sampled_from([OK, OK, Answer(404), *FAILURES]))
    def answer(self, at: int, answer: Answer) -> None:
        posting = self.posting
        request = posting.running.pop(at % len(posting.running))
        if answer.status in (200, 404):
            self.done[request.target.name].add(request.post.body)
        posting.dispatcher.answered(request, answer)
        posting.broker.settle()

    @rule(ms=st.sampled_from([1, 100, 1_100, 6_000]))
    def wait(self, ms: int) -> None:
        self.posting.advance(ms)

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name: str) -> None:
        posting = self.posting
        posting.core.delete_webhook(SYSTEM, name, posting.broker.clock.ms)
        posting.broker.settle()
        self.sent[name].clear()
        self.done[name].clear()
        self.declare(name)

    @rule(name=st.sampled_from(NAMES), concurrency=st.integers(1, 2))
    def change(self, name: str, concurrency: int) -> None:
        posting = self.posting
        changes = {"concurrency_max": concurrency}
        posting.core.update_webhook(SYSTEM, name, changes, posting.broker.clock.ms)
        posting.broker.settle()

    @invariant()
    def bounds_hold(self) -> None:
        running = self.posting.running
        assert len(running) <= SLOTS
        counts = Counter(request.target for request in running)
        assert all(count <= 2 for count in counts.values())
        leased = sum(len(queue.leases) for queue in self.posting.core.webhooks.values())
        assert leased <= len(running), "nothing is held that is not posted"

    def teardown(self) -> None:
        posting = self.posting
        for _ in range(5_000):
            while posting.running:
                request = posting.running.pop(0)
                self.done[request.target.name].add(request.post.body)
                posting.dispatcher.answered(request, OK)
                posting.broker.settle()
            if not any(queue.live for queue in posting.core.webhooks.values()):
                break
            posting.advance(500)
        left = {name: queue.live for name, queue in posting.core.webhooks.items() if queue.live}
        assert not left, "everybody answers well, and something still waits"
        for name in NAMES:
            assert self.sent[name] <= self.done[name]


TestDispatching = Dispatching.TestCase
TestDispatching.settings = settings(max_examples=60, stateful_step_count=40)
