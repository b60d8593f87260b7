"""Section 3.3: DUP, RETAIN, topics, and which QoS a subscriber gets."""

import pytest

from ..packets import DURABLE, PUBACK, PUBREC, RETAIN_AS_PUBLISHED, V5, publish
from ..requirements import v5, v311


@v5("MQTT-3.3.1-5", "MQTT-3.3.1-9")
@v311("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_last_retained_message_is_sent_to_new_subscribers(join, version, name, qos):
    publisher = join(version)
    publisher.publish(f"{name}/a", b"old", qos=2, retain=True)
    publisher.publish(f"{name}/a", b"new", qos=qos, retain=True)
    publisher.publish(f"{name}/b/c", b"other", qos=qos, retain=True)
    publisher.alive()
    for pattern in (f"{name}/a", f"{name}/+", f"{name}/#"):
        client = join(version)
        client.subscribe(pattern, qos=2)
        wanted = {(f"{name}/a", b"new")}
        if pattern.endswith("#"):
            wanted.add((f"{name}/b/c", b"other"))
        found = [client.receive() for _ in wanted]
        assert {(each.topic, each.payload) for each in found} == wanted
        assert all(each.retain and each.qos == qos and not each.dup for each in found)
        client.quiet()


@v5("MQTT-3.3.1-5")
@v311("MQTT-3.3.1-7")
def test_a_retained_message_of_qos_0_replaces_the_one_before(join, version, name):
    publisher = join(version)
    publisher.publish(name, b"old", qos=2, retain=True)
    publisher.publish(name, b"new", qos=0, retain=True)
    publisher.alive()
    client = join(version)
    client.subscribe(name, qos=2)
    assert [each.payload for each in client.inbox or client.settle()] in ([], [b"new"])


@v5("MQTT-3.3.1-6", "MQTT-3.3.1-7")
@v311("MQTT-3.3.1-10", "MQTT-3.3.1-11")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_payload_removes_the_retained_message(join, version, name, qos):
    client = join(version)
    client.publish(name, b"kept", retain=True)
    watcher = join(version)
    watcher.subscribe(name)
    assert watcher.receive().payload == b"kept"
    client.publish(name, b"", qos=qos, retain=True)
    found = watcher.receive()  # as any message, to who subscribes already
    assert (found.payload, found.retain) == (b"", False)
    late = join(version)
    late.subscribe(name)
    late.quiet()


@v5("MQTT-3.3.1-8")
@v311("MQTT-3.3.1-12")
@pytest.mark.parametrize("payload", [b"passing", b""])
def test_a_message_that_is_not_retained_leaves_the_retained_alone(join, version, name, payload):
    client = join(version)
    client.publish(f"{name}/none", payload)
    client.publish(f"{name}/one", b"kept", retain=True)
    client.publish(f"{name}/one", payload)
    late = join(version)
    late.subscribe(f"{name}/#")
    found = late.receive()
    assert (found.topic, found.payload) == (f"{name}/one", b"kept")
    late.quiet()


@v5("MQTT-3.3.1-12")
@v311("MQTT-3.3.1-9")
def test_an_established_subscription_sees_no_retain_flag(join, version, name):
    client = join(version)
    client.subscribe(name)
    for retain in (True, False):
        client.publish(name, b"live", qos=0, retain=retain)
        assert not client.receive().retain


@v311("MQTT-3.1.2.7")
@v5("MQTT-3.3.1-5")
def test_retained_messages_outlive_the_session_of_their_publisher(join, version, name):
    publisher = join(version, name, **DURABLE)
    publisher.publish(name, b"kept", retain=True)
    publisher.disconnect()
    join(version, name, clean=True).disconnect()
    late = join(version)
    late.subscribe(name)
    assert late.receive().payload == b"kept"


@v5("MQTT-3.3.1-3", "MQTT-3.3.1-2", "MQTT-4.3.2-2", "MQTT-4.3.3-2", "MQTT-4.3.1-1")
@v311("MQTT-3.3.1-3", "MQTT-3.3.1-2", "MQTT-4.3.1-1")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_dup_is_not_passed_on(join, version, name, qos):
    watcher = join(version)
    watcher.subscribe(name, qos=qos)
    client = join(version)
    client.send(publish(name, qos=2, packet_id=9, dup=True, version=version))
    assert client.read(PUBREC).packet_id == 9
    client.send(b"\x62\x02\0\x09")
    found = watcher.receive()
    assert (found.qos, found.dup) == (qos, False)


@v5("MQTT-3.8.4-8", "MQTT-3.8.4-7")
@v311("MQTT-3.8.4-6", "MQTT-3.8.4-5")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_lower_qos_counts(join, version, name, published, granted):
    client = join(version)
    assert client.subscribe(name, qos=granted) == [granted]
    client.publish(name, b"x", qos=published)
    assert client.receive().qos == min(published, granted)
    client.quiet()


@v5("MQTT-3.3.4-2")
@v311("MQTT-3.3.5-1")
def test_overlapping_subscriptions_give_the_highest_qos(join, version, name):
    client = join(version)
    client.subscribe((f"{name}/#", 0), (f"{name}/+", 2), (f"{name}/a", 1))
    client.publish(f"{name}/a", b"x", qos=2)
    found = [client.receive()]
    found += [each for each in client.settle() if each.kind == 3]
    assert max(each.qos for each in found) == 2
    assert len(found) in (1, 3)


@v5("MQTT-3.3.2-2", "MQTT-4.7.0-1")
@v311("MQTT-3.3.2-2", "MQTT-4.7.1-1")
@pytest.mark.parametrize("topic", ["#", "+", "a/#", "a/+/b", "a+", "a#b"])
@pytest.mark.parametrize("qos", [0, 1])
def test_wildcards_in_a_topic_close(join, version, topic, qos):
    client = join(version)
    client.send(publish(topic, qos=qos, version=version))
    seen = client.closed(0x90, 0x81, 0x82)
    assert PUBACK not in [each.kind for each in seen]


@v5("MQTT-3.3.2-3")
@v311("MQTT-3.3.2-3")
def test_the_topic_that_arrives_matches_the_filter(join, version, name):
    client = join(version)
    client.subscribe(f"{name}/+/end")
    for topic in (f"{name}/x/end", f"{name}/x/y/end", f"{name}/x", f"{name}//end"):
        client.publish(topic)
    assert [client.receive().topic for _ in range(2)] == [f"{name}/x/end", f"{name}//end"]
    client.quiet()


@v5("MQTT-3.3.1-13")
def test_retain_as_published(join, name):
    client = join(V5)
    client.subscribe((name, RETAIN_AS_PUBLISHED))
    for retain in (True, False):
        client.publish(name, b"live", qos=0, retain=retain)
        assert client.receive().retain is retain


@v5("MQTT-3.4.2-1", "MQTT-3.5.2-1")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_that_reaches_nobody_is_acknowledged(join, version, name, qos):
    found = join(version).publish(f"{name}/nobody", b"x", qos=qos)
    assert found.reason in (0x00, 0x10)
