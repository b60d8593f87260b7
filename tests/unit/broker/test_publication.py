"""Publications: runs of messages that are alike, and what is known of each."""

from typing import Any

import pytest

from braidmq.broker.publication import ANY_MATCH, Match, PlainPublication, Publication, Subscription
from braidmq.broker.publishing import Batch


def test_one_message():
    one = PlainPublication("t", b"body", b"headers", 1, True, 99)
    assert (one.topic, one.bodies, one.attributes, one.count) == ("t", (b"body",), b"headers", 1)
    assert (one.qos, one.retain, one.expire_ms) == (1, True, 99)
    assert one.session is None and one.inbound == one.will == 0 and one.wire == {}


def test_each_of_a_run_is_a_publication_of_its_own():
    session: Any = object()
    run = Batch("t", [b"1", b"22"], b"h", 2, True, 99)
    run.session = session
    singles = list(run.singles())
    assert [single.bodies for single in singles] == [(b"1",), (b"22",)]
    for single in singles:
        assert (single.topic, single.attributes, single.qos) == ("t", b"h", 2)
        assert (single.retain, single.expire_ms, single.count) == (True, 99, 1)
        assert single.session is session and single.wire is not run.wire


def test_a_dialect_says_what_is_in_its_own():
    own = Publication("t", 0, False, 0, 3)
    with pytest.raises(NotImplementedError):
        own.bodies  # noqa: B018
    with pytest.raises(NotImplementedError):
        own.attributes  # noqa: B018


def test_what_was_queued_by_a_subscription_that_is_gone_comes_as_it_was_published():
    assert Match(2) == ANY_MATCH and ANY_MATCH.ids == () and not ANY_MATCH.foreign
    assert Subscription("t") == Subscription("t", 0, False, False, 0, 0)
