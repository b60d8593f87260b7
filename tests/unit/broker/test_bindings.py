"""The table of bindings: what it says after every order of events, and what bundles remember."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.bindings import BindingDefinition, Bindings, BindingSettings, Condition
from braidmq.broker.errors import InvalidArgument
from tests.broker_harness import Harness
from tests.fanout_harness import bind, publish

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("define"), st.integers(10, 14), st.sampled_from("ab"), st.integers(1, 3)),
        st.tuples(st.just("undefine"), st.integers(10, 14)),
        st.tuples(st.just("gone"), st.integers(1, 3)),
    ),
    max_size=20,
)


class Thing:
    def __init__(self, id: int) -> None:
        self.id = id


def definition(filter: str, target: int, user: str = "u") -> BindingDefinition:
    return BindingDefinition(
        filter=filter, target=target, user=user, settings=BindingSettings(), created_ms=0
    )


def table() -> Bindings:
    things: dict[int, Any] = {id: Thing(id) for id in range(1, 4)}
    return Bindings(things.get)


def apply(bindings: Bindings, events: list[tuple[Any, ...]]) -> None:
    for kind, *arguments in events:
        if kind == "define":
            id, filter, target = arguments
            # Each entity is one filter and target, as the gate sees to it.
            bindings.define(id, definition(f"{filter}{id}", target))
        elif kind == "undefine":
            bindings.undefine(*arguments)
        else:
            bindings.target_gone(*arguments)


def state(bindings: Bindings) -> dict[int, tuple[str, int]]:
    return {id: (each.filter, each.target.id) for id, each in bindings.by_id.items()}


@given(EVENTS, EVENTS, st.integers(0, 20))
def test_replay_comes_to_what_was_live(before, after, again):
    live = table()
    live.finish()
    apply(live, before)
    sections = [content for _, content in live.snapshot()]
    apply(live, after)
    replayed = table()
    apply(replayed, before + after)
    replayed.finish()
    from_checkpoint = table()
    for content in sections:
        from_checkpoint.load(content)
    apply(from_checkpoint, before[max(len(before) - again, 0) :] + after)
    from_checkpoint.finish()
    assert state(live) == state(replayed) == state(from_checkpoint)
    assert len(live.router) == len({each.filter for each in live.by_id.values()})
    for id in list(live.by_id):
        live.undefine(id)
    assert len(live.router) == 0 and not live._bundles and not live._counts and not live._by_key


def test_bindings_of_a_filter_and_a_user_are_one_bundle():
    bindings = table()
    bindings.finish()
    version = bindings.router.version
    bindings.define(10, definition("t", 1))
    assert bindings.router.version == version + 1
    bindings.define(11, definition("t", 2))
    assert bindings.router.version == version + 1  # routes stay as they are
    bindings.define(12, definition("t", 3, user="v"))
    assert len(bindings.router.match("t")) == 2 and bindings.count("t") == 3
    found = bindings.find("t", 2)
    assert found is not None and found.id == 11 and bindings.find("u", 2) is None
    assert set(bindings.of_target(2)) == {11} and set(bindings.of_target(9)) == set()


def test_a_condition_is_one_of_three():
    with pytest.raises(InvalidArgument):
        Condition(BindingSettings(where="a = 'b'", policy="{}"))
    assert Condition(BindingSettings(where="a = 'b'")).matches_headers({"a": "b"}, 0)
    policy = Condition(BindingSettings(policy='{"a": ["b"]}', scope="body"))
    assert policy.on_body and policy.matches_body({"a": "b"}) and not policy.matches_body(None)


def test_a_selector_is_told_the_time_of_a_publication_and_that_it_has_no_priority_and_no_id():
    broker = Harness()
    broker.declare("q")
    now_ms = broker.clock.ms
    where = f"JMSTimestamp > {now_ms} AND JMSPriority = 4 AND JMSMessageID IS NULL"
    bind(broker, "t", "q", where=where)
    publish(broker, "t", b"1")
    broker.advance(1)
    publish(broker, "t", b"2")
    assert broker.bodies("q") == [b"2"]


def test_a_changed_target_is_noticed():
    broker = Harness()
    broker.declare("q")
    bind(broker, "t", "q")
    publish(broker, "t", b"1")
    broker.update("q", messages_max=1)
    publish(broker, "t", b"2")
    assert broker.bodies("q") == [b"1"]
    broker.update("q", messages_max=0)
    publish(broker, "t", b"3")
    assert broker.bodies("q") == [b"1", b"3"]
