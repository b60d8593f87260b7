"""How batches become frames, and replies become results."""

import msgpack

from braidmq.broker.errors import LeaseLost, QueueFull, TooLarge
from braidmq.broker.limits import Limits
from braidmq.broker.message import Outgoing, Sent
from braidmq.protocols.native import batches
from braidmq.protocols.native import operations as op


def test_a_plain_message_goes_without_its_usual_values():
    assert batches.message_fields(Outgoing(b"x")) == (b"x",)
    assert batches.message_fields(Outgoing(b"x", b"\x80")) == (b"x", b"\x80")
    for message in [
        Outgoing(b"x", delay_ms=0),
        Outgoing(b"x", ttl_ms=1),
        Outgoing(b"x", priority=9),
        Outgoing(b"x", group="g"),
        Outgoing(b"x", dedup_id="d"),
    ]:
        assert len(batches.message_fields(message)) == 7


def test_messages_are_split_by_number_and_by_size():
    limits = Limits(batch_messages_max=3, frame_bytes_max=10_000, body_bytes_max=8_000)
    messages = [Outgoing(b"x" * size) for size in (1, 1, 1, 1, 6_000, 6_000, 1)]
    found, results = batches.split_messages(messages, limits)
    assert found == [[0, 1, 2], [3, 4], [5, 6]]
    assert results == [None] * 7


def test_every_batch_fits_into_a_frame():
    limits = Limits(frame_bytes_max=100_000, body_bytes_max=90_000)
    messages = [
        Outgoing(b"x" * (n * 37 % 5_000), b"h" * (n % 90), 2**40, 2**40, 9, "ä" * 60, "ö" * 60)
        for n in range(400)
    ]
    found, _ = batches.split_messages(messages, limits)
    assert [index for batch in found for index in batch] == list(range(400))
    for batch in found:
        fields = [batches.message_fields(messages[index]) for index in batch]
        frame = msgpack.packb((3, 2**32 - 1, "q" * 255, fields))
        assert len(frame) <= limits.frame_bytes_max


def test_what_fits_nowhere_is_answered_here():
    limits = Limits(body_bytes_max=10)
    found, results = batches.split_messages([Outgoing(b"x" * 11), Outgoing(b"x")], limits)
    assert found == [[1]]
    assert isinstance(results[0], TooLarge) and results[1] is None
    assert batches.split_messages([], limits) == ([], [])


def test_results_go_where_they_belong():
    results: list = [None] * 4
    reply = op.SentReply(1, [op.WireSent(1, 2), None], [op.ItemError(1, "queue-full", "full")])
    batches.note_sent(results, [1, 3], reply)
    assert results[0] is None and results[2] is None
    assert isinstance(results[1], Sent) and results[1].seq == 2
    assert isinstance(results[3], QueueFull)


def test_settled_names_the_lost():
    lost, kept = batches.settled(2, op.SettledReply(1, [op.ItemError(0, "lease-lost", "gone")]))
    assert isinstance(lost, LeaseLost) and kept is None


def test_receipts_are_split():
    receipts = [(n, n) for n in range(batches.RECEIPTS_PER_FRAME + 1)]
    first, second = batches.split_receipts(receipts)
    assert [*first, *second] == receipts
    assert len(first) == batches.RECEIPTS_PER_FRAME
    frame = msgpack.packb((8, 1, "q" * 255, [(2**50, 2**50)] * batches.RECEIPTS_PER_FRAME))
    assert len(frame) < 256 * 1024


def test_limits_are_taken_from_the_welcome():
    told = {"body_bytes": 7, "frame_bytes": 8, "of_a_later_version": 9}
    limits = batches.limits_told(op.Welcome(1, 1, "x", 1, 1, told))
    assert (limits.body_bytes_max, limits.frame_bytes_max) == (7, 8)
    assert limits.credit_max == Limits().credit_max
