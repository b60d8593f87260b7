"""Every byte that is read is compared with what was sent."""

import zlib

import pytest

from braidmq.benchmarks.stream_cycle import MARK, Checker, StreamCycle

CYCLE = StreamCycle(40, 5, 1)


def test_bodies_have_their_size_and_a_number_and_do_not_compress():
    assert {len(body) for body in CYCLE.bodies} == {40}
    assert len(CYCLE) % 5 == 0
    assert CYCLE.bodies[7].startswith(b"#000000000000007")
    assert all(body.count(MARK) == 1 for body in CYCLE.bodies)
    large = b"".join(StreamCycle(1024, 5, 1).bodies[:100])
    assert len(zlib.compress(large)) > len(large) * 0.98
    assert [len(batch) for batch in CYCLE.batches(5)[:2]] == [5, 5]


@pytest.mark.parametrize("whole", [True, False])
def test_the_right_bodies_in_the_right_order_round_and_round(whole):
    checker = Checker(CYCLE)
    sent = CYCLE.bodies * 2
    for at in range(0, len(sent), 999):
        some = sent[at : at + 999]
        if whole:
            checker.bodies(some)
        else:
            checker.pieces([body[1:] + b"\r\nMSG" for body in some])
    assert (checker.count, checker.corrupt) == (len(sent), 0)


def test_what_is_changed_missing_or_twice_is_seen():
    bodies = CYCLE.bodies
    for wrong in (
        [bodies[0], bodies[1][:-1] + b"!", bodies[2]],
        [bodies[0], bodies[2], bodies[3]],
        [bodies[0], bodies[0], bodies[1]],
    ):
        for ordered in (True, False):
            checker = Checker(CYCLE, ordered)
            checker.bodies(wrong)
            if ordered or b"!" in wrong[1]:
                assert checker.corrupt > 0
    gone = Checker(CYCLE)
    gone.pieces([b"nonsense"])
    assert gone.corrupt == 1


def test_after_a_gap_it_goes_on():
    checker = Checker(CYCLE)
    checker.bodies(CYCLE.bodies[:10])
    checker.bodies(CYCLE.bodies[20:30])
    assert checker.corrupt == 10
    checker.bodies(CYCLE.bodies[30:40])
    assert checker.corrupt == 10
    checker.rewind()
    checker.bodies(CYCLE.bodies[:10])
    assert checker.corrupt == 10


def test_without_order_any_body_of_the_cycle_will_do():
    checker = Checker(CYCLE, ordered=False)
    checker.bodies([CYCLE.bodies[5], CYCLE.bodies[1]])
    checker.pieces([])
    assert checker.corrupt == 0
    checker.bodies([b"#999999999999999" + bytes(24)])
    assert checker.corrupt == 1
