"""The page behind SubscribeURL: the right token confirms, and nothing is told about a wrong one."""

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BrokerFailed
from braidmq.broker.webhook import WebhookSettings
from braidmq.protocols.http.messages import Request
from braidmq.protocols.webhooks.confirming import CONFIRM_PATH, confirming
from tests.broker_harness import Harness


@pytest.fixture
def broker() -> Harness:
    harness = Harness()
    settings = WebhookSettings(url="https://a.example")
    harness.core.declare_webhook(SYSTEM, "hook/ü", settings, harness.clock.ms)
    harness.core.ask_webhook(harness.core.webhooks["hook/ü"], "t+/=", harness.clock.ms)
    return harness


def get(broker: Harness, query: str, method: str = "GET") -> tuple[int, bytes]:
    request = Request(method, CONFIRM_PATH, query, "b.example", {}, "1.1", True)
    response = confirming(broker.core)(request, broker.clock.ms)
    return response.status, response.body


def state(broker: Harness) -> str:
    return broker.core.webhook_info(SYSTEM, "hook/ü", broker.clock.ms).state


def test_the_right_token_confirms_and_may_come_twice(broker):
    for _ in range(2):
        assert get(broker, "name=hook%2F%C3%BC&token=t%2B%2F%3D") == (200, b'{"state":"confirmed"}')
    assert state(broker) == "confirmed"


def test_a_wrong_token_and_a_wrong_name_look_the_same(broker):
    answers = {get(broker, f"name={name}&token=x") for name in ("hook%2F%C3%BC", "other")}
    assert len(answers) == 1 and answers.pop()[0] == 403
    assert state(broker) == "pending"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "name=hook%2F%C3%BC",
        "token=x",
        "name=hook%2F%C3%BC&token=",
        "name=a&name=b&token=x",
        "name=hook%2F%C3%BC&token=x&token=y",
        "name",
        "&".join(f"x{n}=1" for n in range(100)),
    ],
)
def test_a_query_that_is_none(broker, query):
    assert get(broker, query)[0] == 400


def test_looking_without_getting_confirms_nothing(broker):
    assert get(broker, "name=hook%2F%C3%BC&token=t%2B%2F%3D", "HEAD")[0] == 405
    assert state(broker) == "pending"


def test_a_broker_that_cannot_keep_it_says_so(broker, monkeypatch):
    def fail(*_: object) -> None:
        raise BrokerFailed("the log failed")

    monkeypatch.setattr(broker.core, "confirm_webhook", fail)
    assert get(broker, "name=hook%2F%C3%BC&token=t")[0] == 503
