"""Lists of topics: pages in order, a little at a time, and only what may be seen."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braidmq.broker.access import SYSTEM, Access, Principal, Rule, User
from braidmq.broker.publishing import Posted
from braidmq.broker.topic import matches
from braidmq.broker.topiclisting import _STEP_PLACES
from braidmq.broker.verbs import Interest
from tests.broker_harness import Harness

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


class Owner:
    def feed_ready(self, feed):
        pass

    def feed_ended(self, feed, error):
        pass


def retain(broker, *topics):
    for topic in topics:
        broker.core.publish(SYSTEM, topic, [Posted(b"x", b"", True)], 1, broker.clock.ms)
    broker.settle()


def pages(broker, method, what, limit=1000, who: Principal = SYSTEM):
    """Every page, until one is not full."""
    found: list = []
    while True:
        answers: list = []
        after = "" if not found else getattr(found[-1], "topic", None) or found[-1].level
        method(who, what, after, limit, lambda _, page, into=answers: into.append(page), None)
        assert not answers  # never from within the call
        broker.settle()
        (page,) = answers
        assert len(page) <= limit
        found += page
        if len(page) < limit:
            return found


LEVEL = st.sampled_from(["a", "b", "c", ""])
TOPIC = st.lists(LEVEL, min_size=1, max_size=4).map("/".join).filter(bool)
FILTER = st.sampled_from(["#", "a/#", "+/b", "+/+", "a", "/#", "a/+/c", "b/+"])


@settings(max_examples=50, deadline=None)
@given(st.sets(TOPIC, max_size=40), FILTER, st.integers(1, 5))
def test_pages_together_are_all_that_match_in_order(topics, filter, limit):
    broker = Harness()
    retain(broker, *topics)
    found = pages(broker, broker.core.list_topics, filter, limit)
    assert [info.topic for info in found] == sorted(t for t in topics if matches(filter, t))


@settings(max_examples=50, deadline=None)
@given(
    st.sets(TOPIC, max_size=30),
    st.lists(st.tuples(FILTER, st.booleans()), max_size=10),
    st.sampled_from(["", "a", "a/", "a/b", "/"]),
    st.integers(2, 4),
)
def test_the_tree_counts_topics_and_subscriptions(topics, filters, prefix, limit):
    broker = Harness()
    retain(broker, *topics)
    for each, shared in filters:
        interest = Interest((each,), share="g" if shared else "")
        broker.core.subscribe(SYSTEM, interest, Owner(), None, broker.clock.ms)
    found = pages(broker, broker.core.topic_tree, prefix, limit)
    path = prefix.removesuffix("/") + "/" if prefix else ""
    # Members of one share are one subscriber of its filter.
    distinct = [f for f, shared in filters if not shared] + list({f for f, s in filters if s})

    def below(level, text):
        return text == path + level or text.startswith(path + level + "/")

    levels = {t[len(path) :].split("/")[0] for t in [*topics, *distinct] if t.startswith(path)}
    assert [info.level for info in found] == sorted(levels)
    for info in found:
        assert info.topics == sum(below(info.level, topic) for topic in topics)
        assert info.retained == (path + info.level in topics)
        assert info.subscriptions == sum(below(info.level, each) for each in distinct)


def test_a_long_list_is_made_in_steps():
    broker = Harness()
    retain(broker, *(f"t/{n:04}" for n in range(3 * _STEP_PLACES)))
    answers: list = []
    take = lambda argument, page: answers.append((argument, page))  # noqa: E731
    broker.core.list_topics(SYSTEM, "t/+", "", 2, take, "tag")
    steps = 0
    while not answers:
        broker.core.run(broker.clock.ms)
        steps += 1
    assert steps >= 3
    assert answers[0][0] == "tag" and [i.topic for i in answers[0][1]] == ["t/0000", "t/0001"]
    answers.clear()
    broker.core.topic_tree(SYSTEM, "t", "", 2, take, None)
    steps = 0
    while not answers:
        broker.core.run(broker.clock.ms)
        steps += 1
    assert steps >= 3


@pytest.mark.parametrize(
    ("rule", "topics", "levels"),
    [("a/*", ["a/1", "a/2"], ["a"]), ("a/1", ["a/1"], []), ("b", ["b"], ["b"])],
)
def test_only_what_may_be_seen_is_listed(rule, topics, levels):
    broker = Harness()
    retain(broker, "a/1", "a/2", "b", "c")
    rules = (Rule("allow", ("topic:Describe",), (rule,)),)
    who = Access([User("alice", HASH, rules)]).principal("alice")
    assert [i.topic for i in pages(broker, broker.core.list_topics, "#", who=who)] == topics
    assert [i.level for i in pages(broker, broker.core.topic_tree, "", who=who)] == levels
