"""Lost, twice, from nowhere: told over all processes, whoever saw what."""

from zlib import compress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.engine.settling import settle
from braidmq.benchmarks.engine.task import AccountReport, Report, Seen


def sender(*accounts):
    return Report(role="producers", clients=1, accounts=list(accounts))


def seen(sequences, below=0):
    last = max(sequences, default=below - 1)
    beyond = bytes(n in sequences for n in range(below, last + 1))
    return Seen(below=below, beyond=compress(beyond) if beyond else b"")


def receiver(by_set, **changes):
    return Report(role="consumers", clients=1, seen=by_set, **changes)


def account(sent, unsure=(), producer=0):
    return AccountReport(
        producer=producer, sent=sent, confirmed=sent - len(unsure), unsure=list(unsure)
    )


def test_everything_came_once():
    found = settle([receiver({0: {0: seen([], 10)}}, received_all=10)], [sender(account(10))], [0])
    assert (found.sent, found.received, found.lost, found.corrupt, found.duplicate) == (
        *(10, 10, 0),
        *(0, 0),
    )


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)), st.integers(0, 25))
def test_processes_that_share_are_one(mine, theirs, sent):
    reports = [receiver({0: {0: seen(mine)}}), receiver({0: {0: seen(theirs)}})]
    found = settle(reports, [sender(account(sent))], [0])
    both = mine | theirs
    assert found.lost == len(set(range(sent)) - both)
    assert found.duplicate == len(mine & theirs)
    assert found.corrupt == len({n for n in both if n >= sent})


@given(st.sets(st.integers(0, 30)), st.integers(0, 20), st.integers(0, 40))
def test_what_was_never_answered_may_be_there_or_not(came, first, last):
    found = settle(
        [receiver({0: {0: seen(came)}})],
        [sender(account(25, [(first, last)] if first <= last else []))],
        [0],
    )
    sure = set(range(25)) - set(range(first, last + 1))
    assert found.lost == len(sure - came)


def test_each_set_has_to_have_everything():
    reports = [receiver({0: {0: seen([], 5)}, 1: {0: seen([], 3)}})]
    assert settle(reports, [sender(account(5))], [0, 1]).lost == 2
    assert settle(reports[:0], [sender(account(5))], [0, 1]).lost == 10


def test_what_somebody_got_who_should_not_is_counted():
    reports = [receiver({0: {0: seen([], 5)}, 7: {0: seen([3])}})]
    found = settle(reports, [sender(account(5))], [0])
    assert (found.lost, found.corrupt) == (0, 1)


def test_a_producer_that_nobody_started_is_a_stranger():
    found = settle([receiver({0: {9: seen([0, 1])}})], [sender(account(0))], [0])
    assert found.corrupt == 2


def test_what_consumers_counted_themselves_is_kept():
    report = receiver({0: {0: seen([], 1)}}, duplicate=1, reordered=2, corrupt=3, received_all=7)
    found = settle([report], [sender(account(1))], [0])
    assert (found.duplicate, found.reordered, found.corrupt, found.received) == (1, 2, 3, 7)


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="nonsense"):
        settle([receiver({0: {0: Seen(beyond=b"no")}})], [sender(account(1))], [0])
