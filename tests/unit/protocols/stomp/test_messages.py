"""MESSAGE frames: the fast way and the slow one say the same."""

import random

import pytest

from braidmq.broker.limits import Limits
from braidmq.broker.message import Delivery, Headers, pack_headers
from braidmq.broker.publishing import Published
from braidmq.broker.state import LANE_SHIFT
from braidmq.protocols.stomp.frames import FrameBuffer
from braidmq.protocols.stomp.messages import Writer
from tests.stomp_peer import World


def delivery(headers: Headers, receives: int = 1, expire_ms: int = 0, id: int = 5) -> Delivery:
    return Delivery(7, 1, receives, id, 1_000, pack_headers(headers, Limits()), b"body", expire_ms)


def written(peer, writer, message, tag=3):
    """The frame that a writer makes of a message."""
    peer.session.out.clear()
    writer.append(message, tag, 2_000)
    frames = FrameBuffer(10**6, 100, 10**5, peer.session.version)
    frames.feed(bytes(peer.session.out))
    frame = frames.next_frame()
    assert frame is not None and frame.command == "MESSAGE" and frame.body == b"body"
    return frame.headers


@pytest.mark.parametrize("dialect", ["activemq", "rabbitmq"])
@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("headers", [{}, {"x": "y"}, {"priority": "7"}, {"timestamp": "5"}])
@pytest.mark.parametrize("expire_ms", [0, 5_000])
@pytest.mark.parametrize("receives", [1, 2])
def test_what_it_says_is_what_the_table_says(dialect, version, headers, expire_ms, receives):
    peer = World().peer(version, dialect=dialect)
    writer = Writer(peer.session, "s:1", 4, "/queue/a", True)
    message = delivery(headers, receives, expire_ms)
    found = written(peer, writer, message)
    table = peer.session.headers
    head = table.head(message.attributes)
    name = writer.name_of(message)
    expected = table.of_delivery(
        head, "/queue/a", name, "s:1", receives, 4, 1_000, expire_ms, 2_000
    )
    more = {"ack": "4-3"} if version == "1.2" else {}
    length = {} if head.text else {"content-length": "4"}
    assert found == {**dict(expected), **dict(head.in_queue), **more, **length}


def test_a_topic_is_named_by_each_message():
    peer = World().peer()
    writer = Writer(peer.session, "s", -1, "", False)
    found = written(peer, writer, delivery({"topic": "a/b"}))
    assert found["destination"] == "/topic/a.b"
    assert "ack" not in found
    assert "original-destination" not in found


def test_messages_that_no_log_holds_have_names_of_their_own():
    peer = World().peer()
    writer = Writer(peer.session, "s", -1, "", False)
    names = [written(peer, writer, delivery({}, id=0))["message-id"] for _ in range(2)]
    assert len(set(names)) == 2


def test_a_retained_message_says_so():
    peer = World().peer()
    writer = Writer(peer.session, "s", -1, "", False)
    message = Published(0, 0, 1, 5, 1_000, b"", b"body", 0, "", True)
    assert written(peer, writer, message)["ActiveMQ.Retained"] == "true"


@pytest.mark.parametrize("dialect", ["activemq", "rabbitmq"])
@pytest.mark.parametrize("seed", range(20))
def test_a_run_is_what_its_messages_are(dialect, seed):
    dice = random.Random(seed)
    headers: list[Headers] = [{}, {"x": "y"}, {"priority": "7"}, {"timestamp": "5"}]
    headers += [{"amq-msg-type": "text"}, {"mqtt-retain": "always"}, {"mqtt-topic": "t"}]
    messages: list[Delivery] = []
    for number in range(30):
        again = messages[-1] if messages and dice.random() < 0.5 else None
        messages.append(
            Delivery(
                number | dice.choice([0, 0, 3 << LANE_SHIFT]),
                number,
                dice.choice([1, 1, 1, 2]),
                number + 1,
                again.time_ms if again else dice.randrange(9_000),
                again.attributes if again else pack_headers(dice.choice(headers), Limits()),
                dice.choice([b"body", b"", b"a\0b"]),
                dice.choice([0, 0, 5_000]),
            )
        )
    peer = World().peer("1.2", dialect=dialect)
    writer = Writer(peer.session, "s:1", 4, "/queue/a", True)
    peer.session.out.clear()
    for tag, message in enumerate(messages, 3):
        writer.append(message, tag, 2_000)
    expected = bytes(peer.session.out)
    peer.session.out.clear()
    writer.append_run(messages, 3, 2_000)
    assert bytes(peer.session.out) == expected
    assert peer.session.server.sent == 2 * len(messages)
