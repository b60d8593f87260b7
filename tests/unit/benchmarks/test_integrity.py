"""The checker finds what is done to messages on purpose, and nothing else."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.integrity import (
    STAMP_BYTES,
    Account,
    Integrity,
    Ledger,
    Stamper,
    settle,
)

PAYLOAD = b"payload" * 5


def sent(counts):
    """Accounts of producers that sent so many, all confirmed, and the bodies."""
    accounts, bodies = [], []
    for producer, count in enumerate(counts):
        account = Account(producer)
        account.sent = account.confirmed = count
        stamper = Stamper(producer, PAYLOAD)
        bodies += [stamper.stamp(sequence, 77) + PAYLOAD for sequence in range(count)]
        accounts.append(account)
    return accounts, bodies


def delivered(bodies):
    ledger = Ledger()
    for body in bodies:
        ledger.take(body)
    return ledger


def test_a_clean_run_is_clean():
    accounts, bodies = sent([5, 0, 3000])
    found = settle(accounts, delivered(bodies))
    assert found == Integrity(sent=3005, confirmed=3005, received=3005)
    assert found.broken("in-order") == []


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(0, 2**32))
def test_seeded_loss_duplicates_and_corruption_are_counted(counts, seed):
    chance = random.Random(seed)
    accounts, bodies = sent(counts)
    received, lost, duplicate, corrupt = [], 0, 0, 0
    for body in bodies:
        fate = chance.choice(["fine", "fine", "lost", "twice", "changed"])
        if fate == "changed":
            at = chance.randrange(len(body))
            changed = bytearray(body)
            changed[at] ^= 1 << chance.randrange(8)
            body = bytes(changed)
            corrupt += 1
            lost += 1
        if fate == "lost":
            lost += 1
            continue
        received += [body] * (2 if fate == "twice" else 1)
        duplicate += fate == "twice"
    found = settle(accounts, delivered(received))
    assert (found.lost, found.duplicate, found.corrupt) == (lost, duplicate, corrupt)
    assert found.received == len(received)
    assert bool(found.broken("at-least-once")) == bool(lost or corrupt)
    assert bool(found.broken("exactly-once")) == bool(lost or corrupt or duplicate)


def test_order_counts_for_each_producer_alone():
    accounts, bodies = sent([3, 3])
    assert settle(accounts, delivered([bodies[i] for i in (3, 0, 1, 4, 2, 5)])).reordered == 0
    found = settle(accounts, delivered([bodies[i] for i in (2, 0, 1, 3, 5, 4)]))
    assert found.reordered == 3
    assert found.broken("exactly-once") == []
    assert found.broken("in-order") == ["3 reordered"]


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ("at-most-once", ["4,000 corrupt", "2 duplicate"]),
        ("at-least-once", ["4,000 corrupt", "1 lost"]),
        ("exactly-once", ["4,000 corrupt", "1 lost", "2 duplicate"]),
        ("fifo", ["4,000 corrupt", "1 lost", "2 duplicate", "3 reordered"]),
    ],
)
def test_each_promise_forbids_something(expect, words):
    all_wrong = Integrity(sent=9, lost=1, duplicate=2, reordered=3, corrupt=4000)
    assert all_wrong.broken(expect) == words
    assert Integrity(sent=9).broken(expect) == []


def test_what_was_not_confirmed_may_be_missing_or_there():
    accounts, bodies = sent([4])
    accounts[0].unsure = {1, 3}
    assert settle(accounts, delivered([bodies[0], bodies[2], bodies[3]])).lost == 0
    assert settle(accounts, delivered([bodies[0], bodies[3]])).lost == 1


def test_what_nobody_sent_is_corrupt():
    accounts, _ = sent([1])
    stranger, later = Stamper(9, PAYLOAD), Stamper(0, PAYLOAD)
    found = settle(
        accounts, delivered([stranger.stamp(0, 1) + PAYLOAD, later.stamp(7, 1) + PAYLOAD])
    )
    assert (found.corrupt, found.lost) == (2, 1)


def test_short_and_wild_bodies_are_corrupt():
    ledger = Ledger()
    assert ledger.take(b"") == -1
    assert ledger.take(bytes(STAMP_BYTES - 1)) == -1
    assert ledger.take(Stamper(0, b"").stamp(2**40, 1)) == -1
    assert ledger.corrupt == 3
    assert ledger.distinct == 0


def test_the_time_of_a_stamp_comes_back_also_from_a_duplicate():
    body = Stamper(0, PAYLOAD).stamp(0, 12345) + PAYLOAD
    ledger = Ledger()
    assert [ledger.take(body), ledger.take(body)] == [12345, 12345]
    assert ledger.distinct == 1


def test_counts_add_up():
    total = Integrity(sent=1, lost=1)
    total.add(Integrity(sent=2, duplicate=3))
    assert total == Integrity(sent=3, lost=1, duplicate=3)
