"""Runs: taken or not, the same frames give the same messages and the same answers."""

import random
import re

import pytest

from braidmq.broker.access import SYSTEM
from braidmq.broker.stream_settings import StreamSettings
from braidmq.protocols.stomp import frames as frames_module
from braidmq.protocols.stomp.frames import V12, FrameBuffer
from braidmq.protocols.stomp.runs import (
    RECEIPT_BYTES_MAX,
    RUN_FRAMES_MAX,
    SendShape,
    match_acks,
    names_in,
    receipts_for,
)
from tests.stomp_peer import World

HEAD = b"SEND\ndestination:/queue/a\nreceipt:%b\nx:y\ncontent-length:%d"


def buffer(data: bytes, **limits: int) -> FrameBuffer:
    values = {"frame_bytes_max": 10**6, "header_lines_max": 20, "header_bytes_max": 1_000, **limits}
    found = FrameBuffer(**values, version=V12)
    found.feed(data)
    return found


def sends(*messages: tuple[bytes, bytes], head: bytes = HEAD) -> bytes:
    return b"".join(
        head % (receipt, len(body)) + b"\n\n" + body + b"\0" for receipt, body in messages
    )


def shape() -> SendShape:
    found = SendShape.learn(HEAD % (b"1", 1))
    assert found is not None
    return found


# --- what a shape is ---


@pytest.mark.parametrize(
    "head",
    [
        b"SEND\ncontent-length:3\ndestination:/queue/a\nreceipt:r",
        b"SEND\nreceipt:r\ncontent-length:3\ndestination:/queue/a",
        b"SEND\ndestination:/queue/a.(b)*\nx:receipt:1\nmy-receipt:2\ncontent-length:3\nreceipt:r",
    ],
)
def test_a_shape_is_learnt_whatever_the_order_of_headers(head):
    found = SendShape.learn(head)
    assert found is not None
    frame = head + b"\n\na\0b\0"
    assert buffer(frame * 2).sends(found, 9) == ([b"r"] * 2, [b"a\0b"] * 2)


def test_without_a_receipt_there_are_none():
    found = SendShape.learn(b"SEND\ndestination:/queue/a\ncontent-length:1")
    assert found is not None and found.receipt == 0
    frames = b"SEND\ndestination:/queue/a\ncontent-length:1\n\nx\0" * 3
    assert buffer(frames).sends(found, 2) == ([], [b"x"] * 2)


@pytest.mark.parametrize(
    "head",
    [
        b"SEND\ndestination:/queue/a\nreceipt:r",  # the body goes to the first NUL
        b"SEND\nreceipt:r\nreceipt:s\ncontent-length:3",
        b"SEND\ncontent-length:3\ncontent-length:4\nreceipt:s",
        b"SEND\nreceipt:a\\cb\ncontent-length:3",
        b"SEND\nreceipt:a:b\ncontent-length:3",
        b"SEND\nreceipt:a b\ncontent-length:3",
        b"SEND\nreceipt:\xc3\xa9\ncontent-length:3",
        b"SEND\nreceipt:\ncontent-length:3",
        b"SEND\nreceipt:%b\ncontent-length:3" % (b"r" * (RECEIPT_BYTES_MAX + 1)),
        b"SEND\nreceipt:r\ncontent-length: 3",
        b"SEND\n receipt:r\ncontent-length:3",  # 1.0 trims it: then it is the receipt
        b"SEND\nreceipt :r\ncontent-length:3",
        b"SEND\nx:y\r\nreceipt:r\ncontent-length:3",
    ],
)
def test_what_could_be_misread_has_no_shape(head):
    assert SendShape.learn(head) is None


# --- what is taken ---


def test_a_run_ends_where_a_frame_is_another():
    for other in (
        sends((b"3", b"z"), head=HEAD.replace(b"x:y", b"x:z")),
        sends((b"a:b", b"z")),
        sends((b"a\\cb", b"z")),
        sends((b"r" * (RECEIPT_BYTES_MAX + 1), b"z")),
        sends((b"3", b"z")).replace(b"\n\n", b"\nreceipt:4\n\n"),
        b"\n" + sends((b"3", b"z")),
        sends((b"3", b"z")).replace(b"\n", b"\r\n"),
    ):
        data = buffer(sends((b"1", b"x"), (b"2", b"")) + other)
        assert data.sends(shape(), 9) == ([b"1", b"2"], [b"x", b""])
        assert len(data) == len(other)


@pytest.mark.parametrize("cut", range(1, len(sends((b"2", b"four")))))
def test_only_whole_frames_are_taken(cut):
    rest = sends((b"2", b"four"))[:cut]
    data = buffer(sends((b"1", b"x")) + rest)
    assert data.sends(shape(), 9) == ([b"1"], [b"x"])
    assert len(data) == cut
    assert data.next_frame() is None
    assert data.sends(shape(), 9) == ([], [])  # a frame that was begun is read on as any other


def test_what_breaks_a_limit_is_no_part_of_a_run():
    good, long = sends((b"1", b"x")), sends((b"2", b"x" * 50))
    assert len(buffer(good + long, frame_bytes_max=len(long)).sends(shape(), 9)[1]) == 2
    assert len(buffer(good + long, frame_bytes_max=len(long) - 1).sends(shape(), 9)[1]) == 1
    head = len(sends((b"1", b"x"))) - 2
    assert len(buffer(good, header_bytes_max=head).sends(shape(), 9)[1]) == 1
    assert len(buffer(good, header_bytes_max=head - 1).sends(shape(), 9)[1]) == 0


def test_a_body_that_no_nul_follows_is_no_part_of_a_run():
    wrong = sends((b"2", b"xyz")).replace(b"length:3", b"length:2")
    assert buffer(sends((b"1", b"x")) + wrong).sends(shape(), 9) == ([b"1"], [b"x"])


def test_acks_are_taken_when_they_have_an_id_and_nothing_else():
    data = buffer(b"ACK\nid:1-2\n\n\0ACK\nid:1-10\n\n\0ACK\nid:1-3\nreceipt:r\n\n\0")
    assert data.acks() == [(b"1", b"2"), (b"1", b"10")]
    assert data.acks() == []
    frame = data.next_frame()
    assert frame is not None and frame.headers == {"id": "1-3", "receipt": "r"}


def test_a_run_of_acks_has_a_limit():
    frames = b"ACK\nid:1-1\n\n\0" * (RUN_FRAMES_MAX + 2)
    found = match_acks(frames, 0)
    assert found is not None and len(names_in(frames, 0, found.end())) == RUN_FRAMES_MAX


def test_receipts_are_frames():
    data = buffer(receipts_for([b"1", b"two"]))
    found = [data.next_frame(), data.next_frame()]
    assert [(each.command, each.headers) for each in found if each] == [
        ("RECEIPT", {"receipt-id": "1"}),
        ("RECEIPT", {"receipt-id": "two"}),
    ]


# --- nobody can tell ---


def _frames(seed: int, destination: bytes) -> bytes:
    """What a client might send that has subscribed; not all of it is right."""
    dice = random.Random(seed)
    out = b""
    number = 0
    for _ in range(dice.randrange(2, 9)):
        head = b"SEND\ndestination:" + dice.choice([destination, destination, b"/queue/other"])
        head += dice.choice([b"\nx:y", b"\npriority:7", b"\nexpires:99999999999999", b""])
        length = dice.choice([3, 3, -1])
        for _ in range(dice.randrange(1, 9)):
            number += 1
            body = bytes(dice.randrange(1, 9) if length < 0 else length)
            receipt = dice.choice([b"\nreceipt:%d", b"\nreceipt:%d", b"\nreceipt:a%d b"]) % number
            if dice.random() < 0.02:
                receipt += b"\\x"
            out += head + receipt + b"\ncontent-length:%d\n\n" % len(body) + body + b"\0"
        if dice.random() < 0.3:
            out += b"\n"
        if dice.random() < 0.5:
            acks = range(1, dice.randrange(2, 9))
            out += b"".join(b"ACK\nid:%d-%d\n\n\0" % (dice.randrange(1, 2), each) for each in acks)
    return out


def _play(seed: int, destination: bytes) -> object:
    dice = random.Random(seed)
    world = World(batch_messages_max=dice.choice([2, 5, 100]))
    world.harness.core.declare_stream(SYSTEM, "s", StreamSettings(), 1, world.harness.clock.ms)
    watcher = world.peer()
    watcher.subscribe("/topic/t")
    for name in ("a", "other"):
        watcher.send(f"/queue/{name}", b"first")
    peer = world.peer()
    came = peer.subscribe("/queue/a", ack=dice.choice(["client", "client-individual"]))
    data = _frames(seed, destination)
    while data and not peer.is_lost:
        cut = dice.choice([len(data), dice.randrange(1, len(data) + 1)])
        peer.feed(data[:cut])
        data = data[cut:]
        came += peer.read()
    stored = [
        (each.body, each.attributes)
        for name in ("a", "other")
        for each in world.harness.browse(name)
    ]
    queues = [world.harness.info(name) for name in ("a", "other")]
    counts = [(each.sent, each.acknowledged, each.in_flight) for each in queues]
    frames = sorted(came, key=lambda frame: (frame.command, str(frame.headers)))
    return frames, stored, counts, watcher.read(), peer.is_lost, world.server.received


@pytest.mark.parametrize(
    "destination", [b"/queue/a", b"/topic/t", b"/stream/s", b"/queue/a,/queue/b"]
)
@pytest.mark.parametrize("seed", range(40))
def test_runs_change_nothing(seed, destination, monkeypatch):
    with_runs = _play(seed, destination)
    monkeypatch.setattr(SendShape, "learn", staticmethod(lambda head: None))
    monkeypatch.setattr(frames_module, "match_acks", re.compile(b"never").match)
    assert with_runs == _play(seed, destination)
