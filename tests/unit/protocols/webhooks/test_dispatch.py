"""What is posted when, in virtual time: retries, breaker, rates, slots, confirmation, restarts."""

import json

import msgspec
import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.bindings import BindingSettings
from braidmq.broker.bindingverbs import Target
from braidmq.broker.errors import PermissionDenied
from braidmq.broker.message import unpack_headers
from braidmq.broker.publishing import Posted
from braidmq.broker.retry_policy import RetryPolicy
from braidmq.broker.webhook import TOKEN_MS, WebhookSettings
from braidmq.broker.webhookqueue import WebhookQueue
from braidmq.protocols.webhooks.client import Answer
from braidmq.protocols.webhooks.dispatch import CONFIRMATIONS_MAX, Dispatcher, Request
from braidmq.storage.filelog import FileLog
from braidmq.storage.memory import MemoryLog
from tests.broker_harness import Harness

OK = Answer(200)
URL = "https://a.example/hook"
QUICK = RetryPolicy(min_delay_ms=1_000, max_delay_ms=1_000, retries=2)


class Posting:
    """A broker, a dispatcher, and requests that end when the test says so."""

    def __init__(self, concurrency_max: int = 10, broker: Harness | None = None) -> None:
        self.broker = broker or Harness()
        self.core = self.broker.core
        self.running: list[Request] = []
        self.tokens = 0
        self.dispatcher = Dispatcher(
            self.core,
            self.broker.clock.now_ms,
            self.running.append,
            self._token,
            concurrency_max,
            "https://b.example",
        )
        self.dispatcher.open()
        self.broker.settle()

    def _token(self) -> str:
        self.tokens += 1
        return f"token-{self.tokens}"

    def declare(self, name: str = "w", **changes: object) -> WebhookQueue:
        values = {"raw": True, "confirm": False, "retry": QUICK} | changes
        settings = msgspec.structs.replace(WebhookSettings(url=URL), **values)
        self.core.declare_webhook(SYSTEM, name, settings, self.broker.clock.ms)
        self.broker.settle()
        return self.core.webhooks[name]

    def publish(self, *bodies: bytes, name: str = "w") -> None:
        self.broker.send(*bodies, name=f"$webhook/{name}")

    @property
    def bodies(self) -> list[bytes]:
        return [request.post.body for request in self.running]

    def answer(self, answer: Answer = OK, count: int = 1) -> list[bytes]:
        """Let the first requests end; their bodies."""
        ended = []
        for _ in range(count):
            request = self.running.pop(0)
            ended.append(request.post.body)
            self.dispatcher.answered(request, answer)
            self.broker.settle()
        return ended

    def advance(self, ms: int) -> None:
        self.broker.advance(ms)

    def info(self, name: str = "w"):
        return self.core.webhook_info(SYSTEM, name, self.broker.clock.ms)

    def letters(self, name: str = "dead") -> list[tuple[bytes, str | bytes]]:
        found = self.broker.browse(name)
        return [(m.body, unpack_headers(m.attributes)["dead-letter-reason"]) for m in found]


def test_a_message_is_posted_and_gone_when_it_is_answered_well():
    posting = Posting()
    queue = posting.declare()
    posting.publish(b"1")
    assert (posting.bodies, queue.live) == ([b"1"], 1)
    posting.answer()
    assert (posting.running, queue.live) == ([], 0)
    activity = posting.info().activity
    assert (activity.posted, activity.delivered, activity.failed) == (1, 1, 0)


def test_what_waited_before_it_opened_is_posted():
    broker = Harness()
    settings = WebhookSettings(url=URL, confirm=False, raw=True)
    broker.core.declare_webhook(SYSTEM, "w", settings, broker.clock.ms)
    broker.send(b"1", name="$webhook/w")
    assert Posting(broker=broker).bodies == [b"1"]


@pytest.mark.parametrize(
    "failure", [Answer(503), Answer(302), Answer(429), Answer(error="timeout"), Answer(100)]
)
def test_a_failure_is_tried_again_by_the_policy_and_then_given_up(failure):
    posting = Posting()
    queue = posting.declare(dead_letter="dead")
    posting.publish(b"1")
    for attempt in (1, 2):
        posting.answer(failure)
        assert (posting.running, queue.live) == ([], 1)
        posting.advance(999)
        assert posting.running == []
        posting.advance(100)  # deadlines are exact to a bucket of 64 ms
        assert posting.bodies == [b"1"], attempt
    posting.answer(failure)
    reason = failure.error or f"http {failure.status}"
    assert posting.letters() == [(b"1", f"{reason} after 3 attempts")]
    assert queue.live == 0 and posting.info().activity.error == reason


def test_the_phases_of_the_policy_are_kept():
    policy = RetryPolicy(
        min_delay_ms=1_000,
        max_delay_ms=8_000,
        retries=5,
        no_delay_retries=1,
        min_delay_retries=1,
        backoff="exponential",
    )
    posting = Posting()
    posting.declare(retry=policy, dead_letter="dead", breaker_failures_max=0)
    posting.publish(b"1")
    times = []
    begun = posting.broker.clock.ms
    for _ in range(6):
        while not posting.running:
            posting.advance(64)
        times.append((posting.broker.clock.ms - begun + 500) // 1_000)
        posting.answer(Answer(500))
    assert times == [0, 0, 1, 2, 4, 8]
    assert len(posting.letters()) == 1


@pytest.mark.parametrize("status", [400, 401, 404, 410, 422])
def test_a_final_answer_is_given_up_at_once(status):
    posting = Posting()
    posting.declare(dead_letter="dead")
    posting.publish(b"1")
    posting.answer(Answer(status))
    assert posting.letters() == [(b"1", f"http {status}")]


def test_without_a_dead_letter_queue_it_is_dropped_and_counted():
    posting = Posting()
    queue = posting.declare()
    posting.publish(b"1")
    posting.answer(Answer(404))
    assert (queue.live, posting.info().activity.dropped) == (0, 1)


def test_who_asks_to_be_left_alone_is():
    posting = Posting()
    posting.declare()
    posting.publish(b"1")
    posting.answer(Answer(429, retry_after_ms=60_000))
    posting.advance(59_900)
    assert posting.running == []
    posting.advance(200)
    assert posting.bodies == [b"1"]


def test_a_request_that_ends_after_the_webhook_was_deleted_changes_nothing():
    posting = Posting()
    posting.declare()
    posting.publish(b"1", b"2")
    posting.core.delete_webhook(SYSTEM, "w", posting.broker.clock.ms)
    posting.declare()
    posting.answer()
    posting.answer(Answer(500))
    posting.publish(b"3")
    assert posting.bodies == [b"3"]


# --- concurrency ---


def test_no_more_requests_at_a_time_than_the_webhook_says():
    posting = Posting()
    posting.declare(concurrency_max=2)
    posting.publish(*(b"%d" % n for n in range(5)))
    assert posting.bodies == [b"0", b"1"]
    posting.answer()
    assert posting.bodies == [b"1", b"2"]
    posting.answer(count=4)
    assert posting.running == []


def test_no_more_requests_at_a_time_than_there_are_slots():
    posting = Posting(concurrency_max=3)
    for name in "abcde":
        posting.declare(name)
        posting.publish(*(name.encode() for _ in range(4)), name=name)
        assert len(posting.running) <= 3
    seen = []
    while posting.running:
        assert len(posting.running) <= 3
        seen += posting.answer()
    assert sorted(seen) == [name.encode() for name in "abcde" for _ in range(4)]


def test_a_webhook_that_could_use_more_than_all_slots_is_not_given_messages_in_vain():
    posting = Posting(concurrency_max=3)
    queue = posting.declare(concurrency_max=100)
    posting.publish(*(b"%d" % n for n in range(200)))
    assert len(posting.running) == 3
    posting.answer(count=200)
    assert queue.live == 0 and queue.counters.returned == 0


def test_a_busy_webhook_does_not_keep_others_waiting():
    posting = Posting(concurrency_max=2)
    posting.declare("busy")
    posting.publish(*(b"busy" for _ in range(100)), name="busy")
    posting.declare("calm")
    posting.publish(b"calm", name="calm")
    seen = posting.answer(count=4)
    assert b"calm" in seen


def test_waiting_for_a_slot_is_no_attempt():
    posting = Posting(concurrency_max=1)
    posting.declare("a")
    queue = posting.declare("b", retry=RetryPolicy(retries=0), dead_letter="dead")
    posting.publish(b"1", b"2", b"3", name="a")
    posting.publish(b"x", name="b")
    while posting.running[0].post.body != b"x":
        posting.answer()
    delivery = posting.running[0].delivery
    assert delivery is not None and delivery.receives == 1 and queue.live == 1


def test_nobody_is_left_waiting_for_what_has_expired():
    posting = Posting(concurrency_max=1)
    posting.declare("a")
    posting.declare("b")
    posting.declare("c")
    posting.publish(b"1", name="a")
    posting.broker.send(b"x", name="$webhook/b", ttl_ms=10)
    posting.publish(b"y", name="c")
    posting.broker.clock.ms += 1_000
    posting.answer()
    assert posting.bodies == [b"y"]


# --- breaker and rate ---


def test_the_breaker_opens_and_nothing_is_counted_while_it_is_open():
    posting = Posting()
    queue = posting.declare(breaker_failures_max=3, breaker_open_ms=10_000, concurrency_max=1)
    posting.publish(b"1", b"2", b"3", b"4")
    for _ in range(3):
        posting.answer(Answer(500))
    assert posting.running == [] and posting.info().activity.breaker == "open"
    posting.advance(9_000)
    assert posting.running == [] and queue.live == 4
    posting.advance(1_100)
    assert len(posting.running) == 1 and posting.info().activity.breaker == "half-open"
    posting.answer()
    assert posting.info().activity.breaker == "closed"
    while posting.running:
        posting.answer()
    assert queue.live == 0 and posting.info().activity.posted == 7


def test_a_failed_probe_keeps_it_open_for_longer():
    posting = Posting()
    posting.declare(
        breaker_failures_max=1,
        breaker_open_ms=5_000,
        retry=RetryPolicy(retries=100, min_delay_ms=1_000, max_delay_ms=1_000),
    )
    posting.publish(b"1", b"2")
    posting.answer(Answer(500), count=2)
    times = []
    for _ in range(3):
        begun = posting.broker.clock.ms
        while not posting.running:
            posting.advance(100)
        assert len(posting.running) == 1, "one probe at a time"
        times.append(round((posting.broker.clock.ms - begun) / 1_000))
        posting.answer(Answer(500))
    assert times == [5, 10, 20]


def test_a_final_answer_shows_that_somebody_is_there():
    posting = Posting()
    posting.declare(breaker_failures_max=2, concurrency_max=1)
    posting.publish(b"1", b"2", b"3", b"4")
    for status in (500, 404, 500, 404):
        posting.answer(Answer(status))
    assert posting.info().activity.breaker == "closed"


def test_no_more_requests_a_second_than_the_webhook_says():
    posting = Posting(concurrency_max=100)
    posting.declare(rate_per_second_max=10, concurrency_max=100)
    posting.publish(*(b"%d" % n for n in range(50)))
    assert len(posting.running) == 10
    seen = len(posting.answer(count=10))
    for _ in range(30):
        posting.advance(100)
        seen += len(posting.answer(count=len(posting.running)))
    assert 38 <= seen <= 40


# --- changes ---


def test_changed_settings_count_from_the_next_request_on():
    posting = Posting()
    posting.declare(concurrency_max=1)
    posting.publish(b"1", b"2", b"3")
    now = posting.broker.clock.ms
    posting.core.update_webhook(SYSTEM, "w", {"concurrency_max": 3}, now)
    posting.broker.settle()
    assert posting.bodies == [b"1", b"2", b"3"]


def test_draining_begins_nothing_more_and_closing_gives_back():
    posting = Posting()
    queue = posting.declare(concurrency_max=2)
    posting.publish(b"1", b"2", b"3")
    posting.dispatcher.drain()
    posting.answer()
    assert posting.bodies == [b"2"] and len(queue.leases) == 1
    posting.dispatcher.close()
    posting.broker.settle()
    assert len(queue.leases) == 0 and posting.broker.bodies("$webhook/w") == [b"2", b"3"]
    posting.declare("later")
    assert posting.bodies == [b"2"]


def test_what_cannot_be_signed_is_not_posted():
    posting = Posting()
    posting.declare(
        raw=False, signature_version="2", dead_letter="dead", retry=RetryPolicy(retries=0)
    )
    posting.publish(b"1")
    assert posting.running == []
    assert posting.letters() == [(b"1", "unsigned after 1 attempts")]


# --- confirmation ---


def test_nothing_but_the_token_is_posted_until_it_comes_back():
    posting = Posting()
    queue = posting.declare(confirm=True)
    posting.publish(b"early")
    (request,) = posting.running
    content = json.loads(request.post.body)
    assert (content["Type"], content["Token"]) == ("SubscriptionConfirmation", "token-1")
    posting.answer()
    posting.advance(60_000)
    assert posting.running == [] and posting.info().state == "pending"
    with pytest.raises(PermissionDenied):
        posting.core.confirm_webhook("w", "token-2", posting.broker.clock.ms)
    posting.core.confirm_webhook("w", "token-1", posting.broker.clock.ms)
    posting.publish(b"late")
    assert posting.bodies == [b"late"] and queue.live == 1


def test_the_token_is_posted_only_when_it_is_kept(tmp_path):
    broker = Harness(FileLog(str(tmp_path / "data"), ballast_bytes=0))
    posting = Posting(broker=broker)
    settings = WebhookSettings(url=URL)
    posting.core.declare_webhook(SYSTEM, "w", settings, broker.clock.ms)
    assert posting.running == [] and posting.info().state == "pending"
    broker.log.close()


def test_asking_is_tried_again_by_the_policy_with_the_same_token():
    posting = Posting()
    posting.declare(confirm=True)
    tokens = set()
    for _ in range(3):
        tokens.add(json.loads(posting.running[0].post.body)["Token"])
        posting.answer(Answer(error="unreachable"))
        posting.advance(1_001)
    assert posting.running == [] and tokens == {"token-1"}
    assert posting.info().activity.error == "unreachable"


def test_who_refuses_is_not_asked_again():
    posting = Posting()
    posting.declare(confirm=True)
    posting.answer(Answer(404))
    posting.advance(TOKEN_MS)
    assert posting.running == [] and posting.info().state == "expired"


def test_asking_anew_takes_another_token():
    posting = Posting()
    posting.declare(confirm=True)
    posting.answer(Answer(404))
    posting.core.ask_webhook_again(SYSTEM, "w", posting.broker.clock.ms)
    posting.broker.settle()
    assert json.loads(posting.running[0].post.body)["Token"] == "token-2"


def test_another_url_is_asked_itself_also_while_the_first_is_being_asked():
    posting = Posting()
    posting.declare(confirm=True)
    posting.core.update_webhook(SYSTEM, "w", {"url": "https://c.example"}, posting.broker.clock.ms)
    posting.broker.settle()
    assert [request.url.host for request in posting.running] == ["a.example"]
    posting.answer()
    assert [request.url.host for request in posting.running] == ["c.example"]
    assert json.loads(posting.running[0].post.body)["Token"] == "token-2"


def test_only_so_many_are_asked_at_a_time():
    posting = Posting()
    for n in range(CONFIRMATIONS_MAX + 3):
        posting.declare(f"w{n}", confirm=True)
    assert len(posting.running) == CONFIRMATIONS_MAX
    posting.answer(count=3)
    assert len(posting.running) == CONFIRMATIONS_MAX
    posting.answer(count=CONFIRMATIONS_MAX)
    assert posting.running == [] and posting.tokens == CONFIRMATIONS_MAX + 3


def test_one_that_is_deleted_while_it_is_asked_leaves_its_place_to_others():
    posting = Posting()
    for n in range(CONFIRMATIONS_MAX + 1):
        posting.declare(f"w{n}", confirm=True)
    posting.core.delete_webhook(SYSTEM, "w0", posting.broker.clock.ms)
    posting.answer()
    assert len(posting.running) == CONFIRMATIONS_MAX


def test_after_a_restart_it_goes_on_where_it_was():
    posting = Posting(broker=Harness(MemoryLog()))
    posting.declare(dead_letter="dead")
    posting.publish(b"1")
    posting.answer(Answer(500))
    posting.dispatcher.drain()
    posting.dispatcher.close()
    again = Posting(broker=posting.broker)
    again.advance(1_100)
    delivery = again.running[0].delivery
    assert delivery is not None and delivery.receives == 2


def test_a_bound_topic_reaches_a_webhook_from_its_confirmation_on():
    posting = Posting()
    queue = posting.declare(confirm=True)
    posting.answer()
    core, now = posting.core, posting.broker.clock.ms
    core.bind(SYSTEM, "orders/#", Target("webhook", "w"), BindingSettings(), now)

    def publish(body: bytes) -> None:
        core.publish(SYSTEM, "orders/1", [Posted(body)], 1, now)
        posting.broker.settle()

    publish(b"early")
    assert queue.live == 0
    core.confirm_webhook("w", "token-1", now)
    publish(b"late")
    assert posting.bodies == [b"late"]
    core.update_webhook(SYSTEM, "w", {"url": "https://c.example"}, now)
    publish(b"to whom?")
    assert queue.live == 1
