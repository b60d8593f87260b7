"""Section 4.7: what a filter matches."""

import pytest

from ..client import Closed
from ..packets import PING, PINGRESP, V5, Packet, publish, subscribe, unsubscribe
from ..requirements import v5, v311

MATCHES = [
    ("a", "a"),
    ("#", "a/b/c"),
    ("a/#", "a"),
    ("a/#", "a/"),
    ("a/#", "a/b/c/d"),
    ("+", "a"),
    ("a/+", "a/"),
    ("a/+", "a/b"),
    ("+/+", "/a"),
    ("/+", "/a"),
    ("+/b/#", "a/b"),
    ("a/+/c", "a//c"),
    ("a//c", "a//c"),
    ("/", "/"),
    ("+/+", "/"),
    ("a b", "a b"),
    ("+/\U0001f600", "x/\U0001f600"),
    ("+/+/+/#", "a/b/c"),
]
DIFFERENT = [
    ("a", "A"),
    ("a", "a/"),
    ("a", "/a"),
    ("a/+", "a"),
    ("a/+", "a/b/c"),
    ("+", "a/b"),
    ("+", "/a"),
    ("a/#", "ab"),
    ("a/b/#", "a"),
    ("/", "a"),
    ("a/+/c", "a/b/b/c"),
    ("a/b", "a/b/"),
    ("+/b", "a/b/b"),
]


def below(prefix, text):
    """Put a filter or topic below a prefix of the test's own."""
    return f"{prefix}/{text}"


@v5("MQTT-3.3.2-3", "MQTT-4.5.0-1", "MQTT-4.7.3-4")
@v311("MQTT-3.3.2-3", "MQTT-4.5.0-1", "MQTT-4.7.3-4")
@pytest.mark.parametrize(("pattern", "topic"), MATCHES)
def test_matches(join, version, name, pattern, topic):
    client = join(version)
    client.subscribe(below(name, pattern))
    client.publish(below(name, topic))
    assert client.receive().topic == below(name, topic)


@v5("MQTT-3.3.2-3", "MQTT-4.7.3-4")
@v311("MQTT-3.3.2-3", "MQTT-4.7.3-4")
@pytest.mark.parametrize(("pattern", "topic"), DIFFERENT)
def test_does_not_match(join, version, name, pattern, topic):
    client = join(version)
    client.subscribe(below(name, pattern))
    client.subscribe(f"{name}-barrier")
    client.publish(below(name, topic), retain=True)
    client.publish(f"{name}-barrier")
    assert client.receive().topic == f"{name}-barrier"
    client.quiet()
    late = join(version)
    late.subscribe(below(name, pattern))
    late.quiet()
    client.publish(below(name, topic), retain=True)


@v5("MQTT-4.7.2-1")
@v311("MQTT-4.7.2-1")
@pytest.mark.parametrize("pattern", ["#", "+/{0}", "+/#", "+/+"])
def test_a_leading_wildcard_does_not_match_dollar_topics(join, version, name, pattern):
    client = join(version)
    client.subscribe(pattern.format(name))
    client.send(publish(f"$test/{name}", b"hidden", qos=0, version=version))
    publisher = join(version)
    publisher.publish(f"{name}/{name}", b"seen")
    topics = []
    while f"{name}/{name}" not in topics:
        topics.append(client.receive().topic)
    topics += [each.topic for each in client.settle() if each.kind == 3]
    assert not [topic for topic in topics if topic.startswith("$")]


def refused_with(client, *reasons):
    """The broker closes, or, in version 5, answers 0x8F for the one filter and goes on."""
    client.send(PING)
    seen: list[Packet] = []
    try:
        while not seen or seen[-1].kind != PINGRESP:
            seen.append(client.read())
    except Closed:
        assert not seen or seen[-1].reason in reasons
    else:
        assert client.version == V5, f"not closed: {seen}"
        assert [each.codes for each in seen] == [[0x8F], []]


BAD_FILTERS = ["a#", "#a", "#/", "#/a", "a/#/b", "a/#b", "a+", "+a", "a/b+", "a/+b/c", "++", "##"]


@v5("MQTT-4.7.1-1", "MQTT-4.7.1-2")
@v311("MQTT-4.7.1-2", "MQTT-4.7.1-3")
@pytest.mark.parametrize("pattern", BAD_FILTERS)
def test_a_misplaced_wildcard_is_refused(join, version, pattern):
    """By closing; a server of version 5 may also answer 0x8F for that filter."""
    client = join(version)
    client.send(subscribe((pattern, 0), version=version))
    refused_with(client, 0x81, 0x82, 0x8F)


@v5("MQTT-4.7.3-1")
@v311("MQTT-4.7.3-1")
@pytest.mark.parametrize("what", ["topic", "filter", "unsubscribed filter"])
def test_an_empty_topic_or_filter_is_refused(join, version, what):
    """By closing; a server of version 5 may also answer 0x8F for an empty filter."""
    client = join(version)
    client.send(
        {
            "topic": publish("", version=version),
            "filter": subscribe(("", 0), version=version),
            "unsubscribed filter": unsubscribe("", version=version),
        }[what]
    )
    refused_with(client, 0x81, 0x82, 0x8F, 0x90)
