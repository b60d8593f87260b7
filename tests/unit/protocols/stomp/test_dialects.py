"""Dialects: each difference is in the table of docs/stomp.md, and says what it should."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.settings import settings_from
from braidmq.protocols.stomp.dialects import ACTIVEMQ, DIALECTS, RABBITMQ, Dialect, Refused

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "stomp.md"

# --- the table in the documentation ---

WHAT = {
    "wildcards": "a word in a topic, as a level of a filter",
    "composites": "commas separate destinations",
    "queue_wildcards": "SUBSCRIBE to `/queue/PRICE.>` is to all queues that match",
    "virtual_topics": "`/queue/Consumer.NAME.VirtualTopic.X` is bound to `VirtualTopic/X`",
    "temporary_only_in_reply_to": "`/temp-queue/` is only for `reply-to`",
    "reply_queue_prefix": "somebody else's temporary queue, in `reply-to`",
    "exchanges_shown": "`amq.direct/KEY` is shown as an exchange",
    "expiry_header": "SEND, MESSAGE: expiry",
    "expiry_is_absolute": "... is unix ms, 0 for never; else ms from now on",
    "delay_header": "SEND: delay in ms",
    "period_header": "SEND: ms between repetitions",
    "repeat_header": "SEND: number of repetitions",
    "cron_header": "SEND: times as in cron",
    "retain_header": "SEND: `true` retains the message",
    "text_without_length": "a body without `content-length` is text (`amq-msg-type`), both ways",
    "refused_on_send": "SEND: refused headers",
    "prefetch_header": "SUBSCRIBE: prefetch",
    "prefetch": "... if it is not there",
    "durable_header": "SUBSCRIBE: durable subscription",
    "durable_needs_client_id": "... by that name and `client-id`; else `true`, and `id`",
    "exclusive_header": "SUBSCRIBE: exclusive consumer, `true`",
    "exclusive_refuses": "... others are refused; else they wait",
    "priority_header": "SUBSCRIBE: priority of the consumer",
    "no_local_header": "SUBSCRIBE: nothing from the own connection, `true`",
    "message_id": "MESSAGE: `message-id`",
    "fields_always": "MESSAGE: always `priority`, `timestamp`, expiry; else if they say something",
    "redelivered_always": "MESSAGE: `redelivered:false` too",
    "receives_header": "MESSAGE: number of deliveries, when it is not the first",
    "receives_counts_this": "... with this one",
    "retained_header": "MESSAGE: `true` for a retained one",
    "origin_header": "MESSAGE from a queue: where it was before",
    "dead_letter_headers": "MESSAGE: further names",
    "nack": "NACK",
    "nack_requeue_header": "... unless this header of it says otherwise",
    "dead_letter": "dead-letter queue of queues that are declared by use",
    "queue_settings": "... their other settings",
    "queue_headers": "... headers that say more",
    "refused_login": "ERROR: wrong login or passcode",
    "unknown_destination": "ERROR: unknown destination",
    "invalid_destination": "ERROR: destination that cannot be",
    "invalid_header": "ERROR: header that cannot be",
}


def shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, tuple):
        value = value[0]
    if isinstance(value, Mapping):
        if not any(value.values()):
            return "none" if not value else "`credit_max`"
        return ", ".join(f"`{name}`: `{each}`" for name, each in value.items())
    if isinstance(value, frozenset):
        return ", ".join(f"`{each}`" for each in sorted(value)) or "none"
    return f"`{value}`" if value else "none"


def row(field: str) -> str:
    ours = [shown(getattr(dialect, field)) for dialect in (ACTIVEMQ, RABBITMQ)]
    return f"| {WHAT[field]} | {ours[0]} | {ours[1]} |"


def test_the_table_is_that_of_the_documentation() -> None:
    assert ["name", *WHAT] == list(Dialect.__struct_fields__)
    table = "\n".join(row(field) for field in WHAT)
    section = DOCUMENT.read_text().split("\n## Dialects\n")[1].split("\n## ")[0]
    assert table in section


def test_dialects_differ_only_where_they_have_to() -> None:
    assert {"activemq": ACTIVEMQ, "rabbitmq": RABBITMQ} == DIALECTS
    for field in Dialect.__struct_fields__:
        assert getattr(ACTIVEMQ, field) != getattr(RABBITMQ, field), f"{field}: no difference"


def test_a_dialect_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ACTIVEMQ.nack = "requeue"  # type: ignore[misc]


# --- prefetch ---


@pytest.mark.parametrize(
    ("kind", "activemq"), [("queue", 1_000), ("topic", 32_767), ("durable", 100), ("browser", 500)]
)
def test_prefetch_without_a_header(kind, activemq) -> None:
    assert ACTIVEMQ.prefetch_of({}, kind, 65_536) == activemq
    assert RABBITMQ.prefetch_of({}, kind, 65_536) == 65_536


@pytest.mark.parametrize(
    ("written", "credit"), [("1", 1), ("0", 4_096), ("4096", 4_096), ("9999999", 4_096)]
)
def test_prefetch_is_bounded_by_credit_max(written, credit) -> None:
    assert ACTIVEMQ.prefetch_of({"activemq.prefetchSize": written}, "queue", 4_096) == credit
    assert RABBITMQ.prefetch_of({"prefetch-count": written}, "queue", 4_096) == credit
    assert RABBITMQ.prefetch_of({"activemq.prefetchSize": written}, "queue", 50) == 50


@pytest.mark.parametrize("written", ["", "-1", "x", "1.5", "1e3", "٣", "1" * 19])
def test_a_prefetch_is_a_whole_number(written) -> None:
    with pytest.raises(Refused, match="whole number"):
        RABBITMQ.prefetch_of({"prefetch-count": written}, "queue", 50)


# --- durable subscriptions ---


def test_a_durable_subscription_of_activemq_has_a_name_and_a_client() -> None:
    headers = {"activemq.subscriptionName": "audit", "id": "1", "durable": "true"}
    assert ACTIVEMQ.durable_name(headers, "till") == "till:audit"
    assert ACTIVEMQ.durable_name({"id": "1"}, "till") == ""
    with pytest.raises(Refused, match="client-id"):
        ACTIVEMQ.durable_name(headers, "")


@pytest.mark.parametrize("name", ["durable", "persistent"])
def test_a_durable_subscription_of_rabbitmq_has_an_id(name) -> None:
    headers = {name: "true", "id": "1", "destination": "/topic/a"}
    assert RABBITMQ.durable_name(headers, "") == "/topic/a:1"
    assert RABBITMQ.durable_name(headers | {name: "false"}, "") == ""
    del headers["id"]
    with pytest.raises(Refused) as refused:
        RABBITMQ.durable_name(headers, "")
    assert "Header 'id' is required for durable subscriptions" in refused.value.detail


# --- queues that are declared by use ---


def test_a_queue_of_activemq_has_a_dead_letter_queue() -> None:
    settings = ACTIVEMQ.settings_for("orders", {"x-message-ttl": "5"})
    assert settings == {
        "max_receives": 7,
        "dead_letter": "ActiveMQ.DLQ",
        "dead_letter_expired": True,
        "group_affinity": True,
    }
    settings_from(settings).check()
    assert ACTIVEMQ.settings_for("ActiveMQ.DLQ", {}) == {}


def test_each_queue_can_have_its_own_dead_letter_queue() -> None:
    individual = msgspec.structs.replace(ACTIVEMQ, dead_letter="DLQ.{queue}")
    assert individual.settings_for("orders", {})["dead_letter"] == "DLQ.orders"
    assert individual.settings_for("DLQ.orders", {}) == {}


def test_a_queue_of_rabbitmq_is_as_its_headers_say() -> None:
    assert RABBITMQ.settings_for("orders", {}) == {}
    settings = RABBITMQ.settings_for(
        "orders",
        {
            "x-message-ttl": "60000",
            "x-max-length": "10",
            "x-max-length-bytes": "1000",
            "x-overflow": "reject-publish",
            "x-delivery-limit": "3",
            "x-dead-letter-routing-key": "dead",
        },
    )
    assert settings == {
        "ttl_ms": 60_000,
        "messages_max": 10,
        "bytes_max": 1_000,
        "overflow": "reject",
        "max_receives": 3,
        "dead_letter": "dead",
        "dead_letter_expired": True,
    }
    settings_from(settings).check()
    assert RABBITMQ.settings_for("orders", {"x-max-length": "1"})["overflow"] == "drop-oldest"
    dropped = RABBITMQ.settings_for("orders", {"x-overflow": "drop-head", "x-max-length": "1"})
    assert dropped["overflow"] == "drop-oldest"
    for headers in ({"x-overflow": "x"}, {"x-max-length": "-1"}):
        with pytest.raises(Refused):
            RABBITMQ.settings_for("orders", headers)


# --- errors ---


@pytest.mark.parametrize("dialect", [ACTIVEMQ, RABBITMQ])
def test_errors_name_what_was_written_whatever_that_is(dialect) -> None:
    for written in ("a", "{why}", "{0}", "%s", "{value.__class__}"):
        for error in (
            dialect.unknown(written),
            dialect.invalid(written, "no"),
            dialect.bad_header(written, "no"),
        ):
            assert written in str(error) and error.message and error.detail
            assert "\n" not in error.message


def test_to_the_rest_of_the_broker_it_is_an_invalid_argument() -> None:
    assert issubclass(Refused, InvalidArgument)
    assert str(ACTIVEMQ.invalid("/x", "no")) == "Illegal destination name: [/x]: no"


def test_the_texts_are_those_that_applications_look_for() -> None:
    assert ACTIVEMQ.unknown("foo").message.startswith(
        "Illegal destination name: [foo] -- ActiveMQ STOMP destinations must begin with one of:"
    )
    assert RABBITMQ.unknown("foo").message == "Unknown destination"
    assert RABBITMQ.unknown("foo").detail.startswith("'foo' is not a valid destination.\nValid")
