"""Section 4.8.2: shared subscriptions."""

import pytest

from ..client import Closed
from ..packets import (
    DURABLE,
    NO_LOCAL,
    PING,
    PINGRESP,
    PUBACK,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    Packet,
    ack,
    subscribe,
)
from ..requirements import v5


def messages(client):
    """What has come to a client, acknowledged."""
    found = [each for each in client.settle() if each.kind == PUBLISH]
    client.send(*[ack(PUBACK, each.packet_id) for each in found if each.qos == 1])
    return found


@v5("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@pytest.mark.parametrize("tail", ["t", "+/a", "#", "/"])
def test_each_message_goes_to_one_of_the_group(join, name, tail):
    """And to each group, and to who subscribes for itself."""
    members = [join() for _ in range(3)]
    for client in members:
        assert client.subscribe((f"$share/{name}/{name}/{tail}", 1)) == [1]
    other, alone = join(), join()
    other.subscribe((f"$share/{name}-2/{name}/{tail}", 1))
    alone.subscribe((f"{name}/{tail}", 1))
    topic = f"{name}/{tail}".replace("+", "x").replace("#", "deep/er")
    for number in range(12):
        alone.publish(topic, b"%d" % number)
    wanted = sorted(b"%d" % number for number in range(12))
    assert sorted(alone.payloads(12)) == sorted(other.payloads(12)) == wanted
    assert sorted(each.payload for client in members for each in messages(client)) == wanted


BAD = ["$share/", "$share/g", "$share/g/", "$share//t", "$share/+/t", "$share/#/t"]
BAD += ["$share/g+/t", "$share/#", "$share/g#h/t", "$share/+", "$share/g/a#", "$share/g/+b"]


@v5("MQTT-4.8.2-1", "MQTT-4.8.2-2")
@pytest.mark.parametrize("pattern", BAD)
def test_a_malformed_shared_filter_is_refused(join, pattern):
    client = join()
    client.send(subscribe((pattern, 0)), PING)
    seen: list[Packet] = []
    try:
        while not seen or seen[-1].kind != PINGRESP:
            seen.append(client.read())
    except Closed:
        assert not seen or seen[-1].reason in (0x81, 0x82, 0x8F)
    else:
        assert [each.codes for each in seen] == [[0x8F], []]


@v5("MQTT-3.8.3-4")
def test_no_local_on_a_shared_subscription_closes(join, name):
    client = join()
    client.send(subscribe((f"$share/{name}/{name}", NO_LOCAL | 1)))
    client.closed(0x82)


@v5("MQTT-4.8.2-3")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_granted_qos_is_respected(join, name, published, granted):
    client = join()
    assert client.subscribe((f"$share/{name}/{name}", granted)) == [granted]
    client.publish(name, qos=published)
    assert client.receive().qos == min(published, granted)


@v5("MQTT-4.8.2-4")
@pytest.mark.parametrize("step", [PUBLISH, PUBREL])
def test_a_qos_2_message_is_completed_with_who_began_it(join, name, step):
    pattern = f"$share/{name}/{name}"
    members = {f"{name}{letter}": join(client_id=f"{name}{letter}", **DURABLE) for letter in "ab"}
    for client in members.values():
        client.subscribe((pattern, 2))
    join().publish(name, b"x", qos=2)
    [(chosen, found)] = [
        (client_id, each)
        for client_id, client in members.items()
        for each in client.settle()
        if each.kind == PUBLISH
    ]
    client = members.pop(chosen)
    if step == PUBREL:
        client.send(ack(PUBREC, found.packet_id))
        client.wait_for(PUBREL)
    client.close()
    [other] = members.values()
    other.quiet()
    client = join(client_id=chosen, **DURABLE)
    again = client.read(step)
    assert again.packet_id == found.packet_id
    if step == PUBLISH:
        assert again.dup
        client.send(ack(PUBREC, found.packet_id))
        client.read(PUBREL)
    client.send(ack(PUBCOMP, found.packet_id))
    client.quiet()
    other.quiet()


@v5("MQTT-4.8.2-5")
def test_a_qos_2_message_of_a_session_that_ends_goes_to_nobody_else(join, name):
    members = {f"{name}{letter}": join(client_id=f"{name}{letter}", **DURABLE) for letter in "ab"}
    for client in members.values():
        client.subscribe((f"$share/{name}/{name}", 2))
    publisher = join()
    publisher.publish(name, b"x", qos=2)
    [chosen] = [client_id for client_id, client in members.items() if client.settle()]
    members.pop(chosen).close()
    ended = join(client_id=chosen, clean=True)
    ended.quiet()
    [other] = members.values()
    other.quiet()
    publisher.publish(name, b"next", qos=2)
    assert other.receive().payload == b"next"


@v5("MQTT-4.8.2-6")
@pytest.mark.parametrize(("qos", "kind"), [(1, PUBACK), (2, PUBREC)])
def test_a_refused_message_goes_to_nobody_else(join, name, qos, kind):
    members = [join() for _ in range(2)]
    for client in members:
        client.subscribe((f"$share/{name}/{name}", qos))
    join().publish(name, b"x", qos=qos)
    [(client, found)] = [(each, one) for each in members for one in each.settle()]
    client.send(ack(kind, found.packet_id, 0x80))
    for each in members:
        each.quiet()


def test_a_group_is_left_one_by_one(join, name):
    first, second = join(), join()
    pattern = f"$share/{name}/{name}"
    for client in (first, second):
        client.subscribe((pattern, 1))
    assert first.unsubscribe(pattern) == [0]
    assert first.unsubscribe(pattern) == [0x11]
    for number in range(4):
        first.publish(name, b"%d" % number)
    assert second.payloads(4) == [b"0", b"1", b"2", b"3"]
    first.quiet()


def test_a_shared_subscription_gets_no_retained_messages(join, name):
    client = join()
    client.publish(name, b"kept", retain=True)
    client.subscribe((f"$share/{name}/{name}", 1))
    client.quiet()
