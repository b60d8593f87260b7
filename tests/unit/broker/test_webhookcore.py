"""Webhooks for a principal: rights, limits, confirmation, giving up, and what a restart keeps."""

from threading import Event
from typing import Any

import msgspec
import pytest

from braidmq.broker.access import SYSTEM, Access, Rule, User
from braidmq.broker.errors import (
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
)
from braidmq.broker.limits import Limits
from braidmq.broker.message import unpack_headers
from braidmq.broker.webhook import TOKEN_MS, WebhookSettings
from braidmq.broker.webhookqueue import WebhookQueue
from braidmq.storage.filelog import FileLog
from braidmq.storage.log import Durability
from tests.broker_harness import Harness

URL = "https://a.example/hook"


def settings(**changes: object) -> WebhookSettings:
    return msgspec.structs.replace(WebhookSettings(url=URL), **changes)


def declare(broker: Harness, name: str = "w", **changes: object) -> WebhookQueue:
    broker.core.declare_webhook(SYSTEM, name, settings(**changes), broker.clock.ms)
    broker.settle()
    return broker.core.webhooks[name]


def state(broker: Harness, name: str = "w") -> str:
    return broker.core.webhook_info(SYSTEM, name, broker.clock.ms).state


def confirmed(broker: Harness, **changes: Any) -> WebhookQueue:
    queue = declare(broker, **changes)
    broker.core.ask_webhook(queue, "token", broker.clock.ms)
    broker.core.confirm_webhook("w", "token", broker.clock.ms)
    broker.settle()
    return queue


@pytest.fixture
def broker() -> Harness:
    return Harness()


def test_declaring_again_with_the_same_settings_changes_nothing(broker):
    first = declare(broker)
    assert declare(broker) is first
    with pytest.raises(Conflict):
        declare(broker, timeout_ms=1_000)


def test_its_queue_is_there_for_all_who_look_at_queues(broker):
    queue = declare(broker)
    assert broker.core.queues["$webhook/w"] is queue
    broker.send(b"1", b"2", name="$webhook/w")
    assert broker.bodies("$webhook/w") == [b"1", b"2"]
    info = broker.core.webhook_info(SYSTEM, "w", broker.clock.ms)
    assert (info.ready, info.state, info.settings.url) == (2, "declared", URL)


def test_its_queue_is_changed_and_deleted_with_the_webhook(broker):
    declare(broker)
    for call in (
        lambda: broker.update("$webhook/w", ttl_ms=1),
        lambda: broker.delete("$webhook/w"),
    ):
        with pytest.raises(InvalidArgument):
            call()
    with pytest.raises(InvalidArgument):
        broker.declare("$webhook/other")


def test_the_dead_letter_queue_is_declared_with_it_and_kept(broker):
    declare(broker, dead_letter="dead")
    with pytest.raises(Conflict, match="dead-letter"):
        broker.delete("dead")


def test_listeners_hear_of_every_change(broker):
    heard: list[tuple[str, str]] = []

    def hear(queue: WebhookQueue) -> None:
        there = "there" if broker.core.webhooks.get("w") is queue else "gone"
        heard.append((queue.webhook.state(broker.clock.ms), there))

    broker.core.on_webhook = hear
    confirmed(broker)
    broker.core.update_webhook(SYSTEM, "w", {"url": "https://b.example"}, broker.clock.ms)
    broker.core.delete_webhook(SYSTEM, "w", broker.clock.ms)
    states = ["declared", "pending", "confirmed", "declared"]
    assert heard == [*((each, "there") for each in states), ("declared", "gone")]


def test_a_url_that_will_never_be_called_is_refused_at_once(broker):
    def object_to(url):
        raise InvalidArgument("not this one")

    broker.core.object_to_url = object_to
    with pytest.raises(InvalidArgument, match="not this one"):
        declare(broker)
    assert not broker.core.webhooks


def test_limits():
    broker = Harness(limits=Limits(webhooks_max=2))
    declare(broker, "a")
    declare(broker, "b")
    with pytest.raises(LimitExceeded, match="webhooks"):
        declare(broker, "c")
    broker = Harness(limits=Limits(queues_max=1))
    declare(broker, "a")
    with pytest.raises(LimitExceeded, match="queues"):
        declare(broker, "b")


def test_changes(broker):
    queue = confirmed(broker, dead_letter="dead")
    core, now = broker.core, broker.clock.ms
    info = core.update_webhook(SYSTEM, "w", {"messages_max": 7, "retry": {"retries": 1}}, now)
    assert (info.settings.messages_max, info.settings.retry.retries) == (7, 1)
    assert (queue.settings.messages_max, info.state) == (7, "confirmed")
    info = core.update_webhook(SYSTEM, "w", {"retry": {"max_delay_ms": 30_000}}, now)
    assert (info.settings.retry.retries, info.settings.retry.max_delay_ms) == (1, 30_000)
    for wrong in ({"colour": 1}, {"url": "x"}, {"timeout_ms": 1}, {"retry": 1}):
        with pytest.raises(InvalidArgument):
            core.update_webhook(SYSTEM, "w", wrong, now)
    with pytest.raises(NotFound):
        core.update_webhook(SYSTEM, "nobody", {}, now)


def test_turning_the_question_off_answers_it(broker):
    declare(broker)
    broker.core.update_webhook(SYSTEM, "w", {"confirm": False}, broker.clock.ms)
    assert state(broker) == "confirmed"


def test_lists_are_paged(broker):
    for name in ("c", "a", "b", "other"):
        declare(broker, name)
    found = broker.core.list_webhooks(SYSTEM, "", "", 2, 0)
    assert [each.name for each in found] == ["a", "b"]
    assert [each.name for each in broker.core.list_webhooks(SYSTEM, "", "b", 9, 0)] == [
        "c",
        "other",
    ]
    assert [each.name for each in broker.core.list_webhooks(SYSTEM, "o", "", 9, 0)] == ["other"]
    with pytest.raises(InvalidArgument):
        broker.core.list_webhooks(SYSTEM, "", "", 0, 0)


# --- rights ---


def test_each_operation_has_its_right(broker):
    declare(broker)
    now = broker.clock.ms
    calls = {
        "webhook:Declare": [
            lambda who: broker.core.declare_webhook(who, "w", settings(), now),
            lambda who: broker.core.update_webhook(who, "w", {}, now),
            lambda who: broker.core.ask_webhook_again(who, "w", now),
        ],
        "webhook:Describe": [lambda who: broker.core.webhook_info(who, "w", now)],
        "webhook:Delete": [lambda who: broker.core.delete_webhook(who, "w", now)],
    }
    for action, doing in calls.items():
        rules = (Rule("allow", (action,), ("w",)),)
        access = Access([User("ann", "", rules), User("bob", "", ())])
        for call in doing:
            with pytest.raises(PermissionDenied):
                call(access.principal("bob"))
            call(access.principal("ann"))


def test_not_asking_takes_a_right_of_its_own(broker):
    rules = [Rule("allow", ("webhook:Declare",), ("*",))]
    ann = Access([User("ann", "", tuple(rules))]).principal("ann")
    with pytest.raises(PermissionDenied, match="Trust"):
        broker.core.declare_webhook(ann, "w", settings(confirm=False), broker.clock.ms)
    broker.core.declare_webhook(ann, "w", settings(), broker.clock.ms)
    with pytest.raises(PermissionDenied, match="Trust"):
        broker.core.update_webhook(ann, "w", {"confirm": False}, broker.clock.ms)
    rules.append(Rule("allow", ("webhook:Trust",), ("trusted",)))
    ann = Access([User("ann", "", tuple(rules))]).principal("ann")
    info = broker.core.declare_webhook(ann, "trusted", settings(confirm=False), broker.clock.ms)
    assert (info.state, info.owner) == ("confirmed", "ann")
    broker.core.update_webhook(ann, "trusted", {"url": "https://b.example"}, broker.clock.ms)
    assert state(broker, "trusted") == "confirmed"


def test_a_dead_letter_queue_of_others_takes_the_right_to_send(broker):
    broker.declare("dead")
    ann = Access([User("ann", "", (Rule("allow", ("webhook:*",), ("*",)),))]).principal("ann")
    with pytest.raises(PermissionDenied, match="queue:Send"):
        broker.core.declare_webhook(ann, "w", settings(dead_letter="dead"), broker.clock.ms)
    assert not broker.core.webhooks


# --- confirmation ---


def test_what_was_published_before_it_was_confirmed_is_never_posted(broker):
    queue = declare(broker)
    broker.send(b"early", name="$webhook/w")
    broker.core.ask_webhook(queue, "token", broker.clock.ms)
    broker.core.confirm_webhook("w", "token", broker.clock.ms)
    broker.send(b"late", name="$webhook/w")
    broker.core.confirm_webhook("w", "token", broker.clock.ms)
    assert broker.bodies("$webhook/w") == [b"late"]


def test_what_waits_stays_when_only_the_url_changed(broker):
    queue = confirmed(broker)
    broker.send(b"1", name="$webhook/w")
    broker.core.update_webhook(SYSTEM, "w", {"url": "https://b.example"}, broker.clock.ms)
    assert state(broker) == "declared"
    broker.core.ask_webhook(queue, "second", broker.clock.ms)
    with pytest.raises(PermissionDenied):
        broker.core.confirm_webhook("w", "token", broker.clock.ms)
    broker.core.confirm_webhook("w", "second", broker.clock.ms)
    assert broker.bodies("$webhook/w") == [b"1"]


def test_a_webhook_that_is_not_there_looks_like_a_wrong_token(broker):
    declare(broker)
    texts = set()
    for name in ("w", "nobody"):
        with pytest.raises(PermissionDenied) as refused:
            broker.core.confirm_webhook(name, "token", broker.clock.ms)
        texts.add(str(refused.value))
    assert len(texts) == 1


def test_it_can_be_asked_again(broker):
    queue = declare(broker)
    broker.core.ask_webhook(queue, "token", broker.clock.ms)
    broker.advance(TOKEN_MS)
    assert state(broker) == "expired"
    broker.core.ask_webhook_again(SYSTEM, "w", broker.clock.ms)
    assert state(broker) == "declared"


# --- giving up ---


def test_giving_up_makes_a_dead_letter(broker):
    queue = confirmed(broker, dead_letter="dead")
    broker.send(b"1", name="$webhook/w")
    (delivery,) = broker.receive(name="$webhook/w")
    broker.core.give_up(queue, delivery.receipt, "http 404", broker.clock.ms)
    broker.settle()
    (letter,) = broker.browse("dead")
    headers = unpack_headers(letter.attributes)
    assert (letter.body, headers["dead-letter-reason"]) == (b"1", "http 404")
    assert headers["dead-letter-queue"] == "$webhook/w"
    assert queue.live == 0 and queue.counters.dead_lettered == 1


def test_giving_up_without_a_dead_letter_queue_drops(broker):
    queue = confirmed(broker)
    broker.send(b"1", name="$webhook/w")
    (delivery,) = broker.receive(name="$webhook/w")
    for _ in range(2):
        broker.core.give_up(queue, delivery.receipt, "http 404", broker.clock.ms)
    assert (queue.live, queue.counters.dropped, queue.activity.dropped) == (0, 1, 1)


def test_a_dead_letter_can_be_sent_back_to_its_webhook(broker):
    queue = confirmed(broker, dead_letter="dead")
    broker.send(b"1", name="$webhook/w")
    (delivery,) = broker.receive(name="$webhook/w")
    broker.core.give_up(queue, delivery.receipt, "http 404", broker.clock.ms)
    broker.settle()
    broker.redrive("dead")
    broker.advance(10)
    assert broker.bodies("$webhook/w") == [b"1"]


# --- restarts ---


@pytest.mark.parametrize("checkpoint", [False, True])
def test_a_restart_keeps_all_of_it(tmp_path, checkpoint):
    path = str(tmp_path / "data")
    broker = Harness(FileLog(path, ballast_bytes=0))
    queue = confirmed(broker, dead_letter="dead", timeout_ms=1_234)
    declare(broker, "asked")
    broker.core.ask_webhook(broker.core.webhooks["asked"], "t2", broker.clock.ms)
    declare(broker, "gone")
    broker.core.delete_webhook(SYSTEM, "gone", broker.clock.ms)
    _wait(broker, b"1", b"2")
    before = queue.webhook
    if checkpoint:
        for step in broker.log.checkpoint():
            if step is not None:
                step()
            broker.settle()
    broker.log.close()
    again = Harness(FileLog(path, ballast_bytes=0))
    assert set(again.core.webhooks) == {"w", "asked"}
    assert again.core.webhooks["w"].webhook == before
    assert again.core.webhooks["w"].settings == before.settings.queue_settings()
    assert again.core.webhooks["w"].live == 2
    again.core.confirm_webhook("asked", "t2", again.clock.ms)
    again.log.close()


def _wait(broker: Harness, *bodies: bytes) -> None:
    broker.send(*bodies, name="$webhook/w")
    kept = Event()
    broker.core.when_kept(Durability.SYNC, lambda argument, error: kept.set(), None)
    for _ in range(2_000):
        broker.settle()
        if kept.wait(0.005):
            return
    raise AssertionError("never kept")
