"""Destinations: what they name, what is refused, and that every name has one and comes back."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.settings import check_name
from braidmq.broker.topic import check_filter, check_topic
from braidmq.protocols.stomp import destinations as d
from braidmq.protocols.stomp.dialects import ACTIVEMQ, RABBITMQ, Refused

BOTH = pytest.mark.parametrize("dialect", [ACTIVEMQ, RABBITMQ], ids=lambda each: each.name)


def one(destination, dialect=ACTIVEMQ, role="subscribe"):
    (target,) = d.parse(destination, dialect, role)
    return target


@BOTH
@pytest.mark.parametrize("role", ["send", "subscribe", "reply-to"])
@pytest.mark.parametrize(
    ("destination", "target"),
    [
        ("/queue/a.b", d.Queue("a.b")),
        ("/queue/a/b", d.Queue("a/b")),
        ("/queue/a%2Fb", d.Queue("a/b")),
        ("/queue/100%", d.Queue("100%")),
        ("/queue/%41%25", d.Queue("%41%")),
        ("/amq/queue/a", d.Queue("a", existing=True)),
        ("/topic/a", d.Topic("a")),
        ("/topic/a.b.c", d.Topic("a/b/c")),
        ("/topic/a/b.c", d.Topic("a/b/c")),
        ("/topic/v1%2E2.x", d.Topic("v1.2/x")),
        ("/topic/a..b", d.Topic("a//b")),
        ("/topic/a*", d.Topic("a*")),
        ("/topic/VirtualTopic.Orders", d.Topic("VirtualTopic/Orders")),
        ("/exchange/amq.topic/a.b", d.Topic("a/b")),
        ("/exchange/amq.direct/a.b", d.Topic("amq.direct/a.b")),
        ("/exchange/amq.direct/*", d.Topic("amq.direct/*")),
        ("/exchange/amq.fanout", d.Topic("amq.fanout")),
        ("/exchange/amq.fanout/whatever", d.Topic("amq.fanout")),
        ("/stream/clicks.eu", d.Stream("clicks.eu")),
        (" /queue/a ", d.Queue("a")),
        ("/queue/a%20", d.Queue("a ")),
    ],
)
def test_what_a_destination_names(destination, target, dialect, role) -> None:
    assert one(destination, dialect, role) == target


def test_the_documentation_says_the_same() -> None:
    """Each destination in the table has the address that stands in the last column."""
    document = Path(__file__).resolve().parents[4] / "docs" / "stomp.md"
    lines = document.read_text().split("| from MQTT |\n")[1].split("\n\n")[0].splitlines()
    rows = [[re.findall("`([^`]+)`", cell) for cell in line.split("|")[1:4]] for line in lines[1:]]
    assert len(rows) == 9
    for destinations, _, addresses in rows:
        found = {d.target_at(address) for address in addresses}
        for destination in destinations:
            target = one(destination, role="send")
            if found:
                assert d.target_at(d.address(target)) in found, destination
            else:
                assert isinstance(target, d.TempQueue | d.TempTopic)


@pytest.mark.parametrize(
    ("destination", "activemq", "rabbitmq"),
    [
        ("/topic/a.*.b", "a/+/b", "a/+/b"),
        ("/topic/*", "+", "+"),
        ("/topic/a.#", "a/#", "a/#"),
        ("/topic/a.>", "a/#", "a/>"),
        ("/topic/>", "#", ">"),
        ("/topic/a/+/#", "a/+/#", "a/+/#"),
        ("/topic/%2A.%3E", "*/>", "*/>"),
        ("/topic/a.#.b", "a/#/b", "a/#/b"),
        ("/topic/a.>.b", "a/#/b", "a/>/b"),
        ("/topic/#.#/#.a.#.#", "#/a/#", "#/a/#"),
        ("/exchange/amq.topic/#.error", "#/error", "#/error"),
        ("/exchange/amq.topic/*.b.#", "+/b/#", "+/b/#"),
        ("/topic/$SYS.broker.#", "$SYS/broker/#", "$SYS/broker/#"),
    ],
)
def test_wildcards_of_a_subscription(destination, activemq, rabbitmq) -> None:
    assert one(destination) == d.Topic(activemq)
    assert one(destination, RABBITMQ) == d.Topic(rabbitmq)


@pytest.mark.parametrize("role", ["send", "reply-to"])
@pytest.mark.parametrize(
    "destination", ["/topic/a.*", "/topic/#", "/topic/a/+", "/topic/$SYS.x", "/topic/a#"]
)
@BOTH
def test_nobody_sends_to_wildcards_or_to_the_brokers_topics(destination, role, dialect) -> None:
    with pytest.raises(Refused):
        one(destination, dialect, role)


@BOTH
@pytest.mark.parametrize(
    "destination",
    [
        *("/topic/##.a", "/topic/a.#b.c", "/topic/a#", "/topic/a+.b", "/topic/a.b#"),
        *("/topic/$queue.a", "/topic/$share.g.a", "/topic/$stream/a", "/topic/$", "/topic/$SYS"),
        *("/queue/", "/topic/", "/stream/", "/temp-queue/", "/amq/queue/", "/exchange/"),
        *("/exchange/amq.topic", "/exchange/amq.topic/", "/exchange/amq.direct"),
        *("/exchange/amq.headers/x", "/exchange/mine/x", "/exchange/amq.direct/a#"),
        *("/reply-queue/x", "/remote-temp-queue/x", "/remote-temp-topic/x"),
    ],
)
def test_what_cannot_be_subscribed_to(destination, dialect) -> None:
    with pytest.raises(Refused) as refused:
        one(destination, dialect)
    assert destination in str(refused.value)


@BOTH
@pytest.mark.parametrize("destination", ["", "a", "queue/a", "/queues/a", "/dsub/a", "//queue/a"])
def test_a_prefix_that_is_none(destination, dialect) -> None:
    with pytest.raises(Refused) as refused:
        one(destination, dialect, "send")
    assert str(refused.value) == str(dialect.unknown(destination))


# --- virtual topics ---


@pytest.mark.parametrize(
    ("topic", "name", "filter"),
    [
        ("Orders", "Orders", "VirtualTopic/Orders"),
        ("Orders.eu", "Orders.eu", "VirtualTopic/Orders/eu"),
        ("*.eu", "%2A.eu", "VirtualTopic/+/eu"),
        (">", "%3E", "VirtualTopic/#"),
        ("a.#", "a.%3E", "VirtualTopic/a/#"),
        ("a/+.>", "a/%2A.%3E", "VirtualTopic/a/+/#"),
        (">.eu", "%3E.eu", "VirtualTopic/#/eu"),
    ],
)
def test_consumers_of_a_virtual_topic(topic, name, filter) -> None:
    target = one(f"/queue/Consumer.billing.VirtualTopic.{topic}")
    assert target == d.Queue(f"Consumer.billing.VirtualTopic.{name}", filter)
    check_name(target.name)
    check_filter(target.filter, 100, 10)


def test_what_is_no_consumer_of_a_virtual_topic() -> None:
    for name in ("Consumer.a.Topic.b", "Consumer.a.b.VirtualTopic.c", "Consumer..VirtualTopic.c"):
        assert one(f"/queue/{name}") == d.Queue(name)
    name = "Consumer.a.VirtualTopic.b"
    assert one(f"/queue/{name}", RABBITMQ) == d.Queue(name)


# --- wildcards of queues ---


@pytest.mark.parametrize(
    ("name", "filter"),
    [
        ("PRICE.STOCK.*", "PRICE/STOCK/+"),
        ("PRICE.>", "PRICE/#"),
        (">", "#"),
        ("a/+.#", "a/+/#"),
        ("v1%2E2.*", "v1/2/+"),
        ("Consumer.*.VirtualTopic.a", "Consumer/+/VirtualTopic/a"),
    ],
)
def test_wildcards_of_queues_are_for_subscribe_and_for_activemq(name, filter) -> None:
    target = one(f"/queue/{name}")
    assert target == d.Queues(filter)
    check_filter(filter, 100, 10)
    assert one(d.show(target, ACTIVEMQ)) == target
    with pytest.raises(ValueError, match="no name"):
        d.address(target)
    for role in ("send", "reply-to"):
        with pytest.raises(Refused, match="for SUBSCRIBE"):
            one(f"/queue/{name}", role=role)
    assert one(f"/queue/{name}", RABBITMQ) == d.Queue(name.replace("%2E", "."))


def test_a_wildcard_is_a_whole_word_of_a_queue() -> None:
    assert one("/queue/a*.b>") == d.Queue("a*.b>")
    with pytest.raises(Refused, match="whole word"):
        one("/queue/*.a+")
    with pytest.raises(Refused):
        one("/queue/Consumer.a.VirtualTopic.*", role="send")


def test_a_composite_may_hold_wildcards() -> None:
    assert d.parse("/queue/a.*,b,/topic/c", ACTIVEMQ, "subscribe") == [
        d.Queues("a/+"),
        d.Queue("b"),
        d.Topic("c"),
    ]


# --- temporary ones ---


def test_temporary_queues_and_topics() -> None:
    for role in ("send", "subscribe", "reply-to"):
        assert one("/temp-queue/q", ACTIVEMQ, role) == d.TempQueue("q")
        assert one("/temp-topic/t", ACTIVEMQ, role) == d.TempTopic("t")
    assert one("/temp-queue/q", RABBITMQ, "reply-to") == d.TempQueue("q")
    for role in ("send", "subscribe"):
        with pytest.raises(Refused, match="reply-to"):
            one("/temp-queue/q", RABBITMQ, role)


@BOTH
def test_answers_go_to_temporary_queues_and_to_no_others(dialect) -> None:
    for prefix in ("/reply-queue/", "/remote-temp-queue/"):
        target = one(f"{prefix}5f", dialect, "send")
        assert target == d.ReplyQueue("temp-queue.5f")
        assert d.address(target) == "$queue/temp-queue.5f"
        assert d.show(target, dialect) == f"{dialect.reply_queue_prefix}5f"
        assert d.show(d.target_at(d.address(target)), dialect) == d.show(target, dialect)
    topic = one("/remote-temp-topic/5f", dialect, "send")
    assert d.address(topic) == "temp-topic/5f"
    assert d.show(topic, dialect) == "/remote-temp-topic/5f"
    assert d.show(d.target_at("temp-topic/5f"), dialect) == "/remote-temp-topic/5f"


def test_the_connections_own_have_no_address_yet() -> None:
    for target in (d.TempQueue("a"), d.TempTopic("a")):
        with pytest.raises(ValueError, match="no name"):
            d.address(target)
        assert one(d.show(target, ACTIVEMQ)) == target


# --- composites ---


def test_commas_separate_destinations_of_activemq() -> None:
    for role in ("send", "subscribe"):
        assert d.parse("/queue/A,/topic/b.c,/queue/A , /stream/s", ACTIVEMQ, role) == [
            d.Queue("A"),
            d.Topic("b/c"),
            d.Stream("s"),
        ]
        assert d.parse("/topic/A,B, C", ACTIVEMQ, role) == [
            d.Topic("A"),
            d.Topic("B"),
            d.Topic("C"),
        ]
    assert d.parse("/queue/A,/queue/B", RABBITMQ, "send") == [d.Queue("A,/queue/B")]
    assert one("/queue/A%2CB") == d.Queue("A,B")


@pytest.mark.parametrize("composite", ["A,/queue/B", "/queue/A,", "/queue/A,,/queue/B", ","])
def test_composites_of_nothing(composite) -> None:
    with pytest.raises(Refused):
        d.parse(composite, ACTIVEMQ, "send")


def test_a_composite_is_bounded() -> None:
    most = [f"/queue/{at}" for at in range(d.COMPOSITE_TARGETS_MAX)]
    assert len(d.parse(",".join(most), ACTIVEMQ, "send")) == d.COMPOSITE_TARGETS_MAX
    with pytest.raises(Refused, match="at most 32"):
        d.parse(",".join([*most, "/queue/a"]), ACTIVEMQ, "send")
    with pytest.raises(Refused, match="one destination"):
        d.parse("/queue/a,/queue/b", ACTIVEMQ, "reply-to")


# --- back ---


@pytest.mark.parametrize(
    ("target", "activemq", "rabbitmq"),
    [
        (d.Topic("a/b"), "/topic/a.b", "/topic/a.b"),
        (d.Topic("v1.2/x"), "/topic/v1%2E2.x", "/topic/v1%2E2.x"),
        (d.Topic("/a"), "/topic/.a", "/topic/.a"),
        (d.Topic("*/>"), "/topic/%2A.%3E", "/topic/%2A.%3E"),
        (d.Topic("amq.direct/a.b"), "/topic/amq%2Edirect.a%2Eb", "/exchange/amq.direct/a.b"),
        (d.Topic("amq.fanout"), "/topic/amq%2Efanout", "/exchange/amq.fanout"),
        (d.Queue("a.b"), "/queue/a.b", "/queue/a.b"),
        (d.Queue("a,b"), "/queue/a%2Cb", "/queue/a%2Cb"),
        (d.Queue("a", existing=True), "/amq/queue/a", "/amq/queue/a"),
        (
            d.Queue("Consumer.a.VirtualTopic.%2A.%3E"),
            "/queue/Consumer.a.VirtualTopic.*.>",
            "/queue/Consumer.a.VirtualTopic.%252A.%253E",
        ),
        (d.Stream("a.b"), "/stream/a.b", "/stream/a.b"),
    ],
)
def test_how_names_are_shown(target, activemq, rabbitmq) -> None:
    assert d.show(target, ACTIVEMQ) == activemq
    assert d.show(target, RABBITMQ) == rabbitmq


def good(check):
    def is_good(name):
        try:
            check(name)
        except InvalidArgument:
            return False
        return True

    return is_good


WORDS = st.sampled_from(["a", ".", "/", "%", "*", ">", ",", " ", "2E", "%2A", "temp-queue.", "é"])
TEXT = st.lists(WORDS, min_size=1, max_size=8).map("".join)
STARTS = st.sampled_from(
    ["", "Consumer.a.VirtualTopic.", "amq.direct/", "amq.fanout", "temp-queue.", "temp-topic/"]
)
NAMES = st.builds(str.__add__, STARTS, TEXT | st.just(""))
TOPICS = NAMES.filter(good(lambda name: check_topic(name, 200, 50)))
QUEUES = NAMES.filter(good(check_name))
DIALECT = st.sampled_from([ACTIVEMQ, RABBITMQ])


@given(TOPICS, DIALECT, st.sampled_from(["send", "subscribe", "reply-to"]))
def test_every_topic_has_a_destination_that_names_it(topic, dialect, role) -> None:
    shown = d.show(d.Topic(topic), dialect)
    if not shown.startswith("/remote-temp-topic/") or role != "subscribe":
        assert d.address(one(shown, dialect, role)) == topic


@given(QUEUES, DIALECT)
def test_every_queue_has_a_destination_that_names_it(name, dialect) -> None:
    for target in (d.Queue(name), d.Queue(name, existing=True)):
        shown = d.show(target, dialect)
        role = "send" if shown.startswith(dialect.reply_queue_prefix) else "subscribe"
        assert d.address(one(shown, dialect, role)) == f"$queue/{name}"
    assert d.target_at(f"$queue/{name}") == d.Queue(name)
    assert one(d.show(d.Stream(name), dialect), dialect) == d.Stream(name)
    assert d.target_at(d.address(d.Stream(name))) == d.Stream(name)


@given(st.text() | NAMES, st.sampled_from(list(d._KINDS)) | st.just(""), DIALECT)
def test_whatever_is_written_is_a_filter_or_refused(text, prefix, dialect) -> None:
    """Nothing but Refused comes out; wildcards are where filters have them, if anywhere."""
    for role in ("send", "subscribe", "reply-to"):
        try:
            targets = d.parse(prefix + text, dialect, role)
        except Refused:
            continue
        for target in targets:
            filter = getattr(target, "filter", "") or (
                target.name if isinstance(target, d.Topic) else ""
            )
            if good(lambda name: check_topic(name, 10**6, 10**6))(
                filter.translate({35: 97, 43: 97})
            ):
                check_filter(filter, 10**6, 10**6)
                assert role == "subscribe" or not set("#+") & set(filter)
