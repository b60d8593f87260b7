"""Topics for people: the same in this process and over a wire, so every test runs on both."""

# ruff: noqa: ASYNC110  - these tests wait for what others do
import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from braidmq.broker import (
    Conflict,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    Limits,
    NewPublication,
    NotFound,
    PermissionDenied,
    QueueFull,
    SessionPolicy,
    TooLarge,
    Unavailable,
)
from tests.faces import opened


@pytest.fixture(params=["local", "remote"])
def where(request):
    return request.param


@pytest.fixture
async def broker(where):
    async with opened(where) as broker:
        yield broker


async def take(messages: Any, count: int) -> list[Any]:
    """So many messages, which must come; a test may go on with the stream afterwards."""
    async with asyncio.timeout(10):
        found: list[Any] = []
        async for message in messages:
            found.append(message)
            if len(found) == count:
                return found
        return found


async def until(condition):
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.001)


# --- publish and subscribe ---


async def test_a_message_comes_to_those_who_match(broker):
    before = datetime.now(UTC)
    async with broker.subscribe("sensors/+/temp") as kitchen, broker.subscribe("#") as every:
        assert await broker.publish("sensors/kitchen/temp", b"21", headers={"unit": "C"}) == 2
        assert await broker.publish("other", b"x") == 1
        (message,) = await take(kitchen, 1)
        assert (message.topic, message.body) == ("sensors/kitchen/temp", b"21")
        assert message.headers == {"unit": "C", "topic": "sensors/kitchen/temp"}
        assert not message.retained and message.receives == 1 and message.id == ""
        assert abs((message.sent_at - before).total_seconds()) < 3600
        assert repr(message) == "<TopicMessage of sensors/kitchen/temp, 2 bytes>"
        assert [m.body for m in await take(every, 2)] == [b"21", b"x"]
    assert await broker.publish("sensors/kitchen/temp", b"22") == 0


async def test_a_wildcard_for_any_number_of_levels_stands_anywhere(broker):
    await broker.publish("a/x/y/b", b"retained", retain=True)
    await broker.publish("a/x", b"no", retain=True)
    async with broker.subscribe("a/#/b", "#/b") as messages:
        matching = [await broker.publish(topic, topic.encode()) for topic in ("a/b", "a/b/c", "b")]
        assert matching == [1, 0, 1]
        assert sorted([m.body for m in await take(messages, 3)]) == [b"a/b", b"b", b"retained"]


async def test_a_message_that_several_filters_match_comes_once(broker):
    async with broker.subscribe("a/+", "a/b", "#") as messages:
        assert await broker.publish("a/b", b"once") == 1
        assert await broker.publish("end", b"") == 1
        assert [m.body for m in await take(messages, 2)] == [b"once", b""]


async def test_batches_keep_their_order(broker):
    async with broker.subscribe("t", prefetch=100) as messages:
        counts = await broker.publish_many("t", [b"%d" % n for n in range(900)])
        assert counts == [1] * 900
        assert [m.body for m in await take(messages, 900)] == [b"%d" % n for n in range(900)]
    assert await broker.publish_many("t", []) == []


async def test_messages_of_a_batch_may_have_everything_that_a_single_one_has(broker):
    await broker.publish_many(
        "t", [b"plain", NewPublication(body=b"kept", retain=True, headers={"a": b"\xff"}, ttl=60)]
    )
    async with broker.subscribe("t") as messages:
        (message,) = await take(messages, 1)
        assert (message.body, message.retained, message.headers["a"]) == (b"kept", True, b"\xff")
    (info,) = [info async for info in broker.list_topics()]
    assert info.expire_ms


async def test_refused_messages_are_raised_or_returned(where):
    async with opened(where, Limits(body_bytes_max=10)) as broker:
        with pytest.raises(TooLarge) as caught:
            await broker.publish_many("t", [b"a", bytes(11), b"b", bytes(12)])
        assert caught.value.__notes__ == ["2 of 4 messages were refused"]
        results = await broker.publish_many("t", [b"a", bytes(11)], return_errors=True)
        assert results[0] == 0 and isinstance(results[1], TooLarge)
        with pytest.raises(TooLarge):
            await broker.publish("t", bytes(11))


@pytest.mark.parametrize("topic", ["", "a/+", "#", "a\0b", "x" * 1025, "/".join("x" * 129)])
async def test_a_topic_has_no_wildcards_and_an_end(broker, topic):
    with pytest.raises(InvalidArgument):
        await broker.publish(topic, b"")


async def test_topics_of_the_brokers_own_cannot_be_published_to(broker):
    with pytest.raises(PermissionDenied, match="broker's own"):
        await broker.publish("$SYS/uptime", b"")


@pytest.mark.parametrize("body", ["text", None, 5, bytearray(b"x")])
async def test_a_body_is_bytes(broker, body):
    with pytest.raises(InvalidArgument, match="a body is bytes"):
        await broker.publish("t", body)
    with pytest.raises(InvalidArgument, match="a body is bytes"):
        await broker.publish_many("t", [body])


@pytest.mark.parametrize(
    ("filters", "options"),
    [
        ((), {}),
        ((), {"share": "g", "durable": "d"}),
        (("a/#b",), {}),
        (("a+",), {}),
        (("a",), {"share": "a/b"}),
        (("a",), {"share": "+"}),
        (("$share/g/a",), {"share": "g"}),
        (("a",), {"durable": "$live-1"}),
        (("a",), {"durable": "x" * 257}),
        (("a",), {"durable": "d", "expiry": 10**9}),
    ],
)
async def test_a_subscription_that_makes_no_sense_is_refused(broker, filters, options):
    with pytest.raises(InvalidArgument):
        async with broker.subscribe(*filters, **options):
            pass
    assert (await broker.info()).sessions == 0
    with pytest.raises(InvalidArgument, match="prefetch"):
        broker.subscribe("a", prefetch=0)


async def test_nothing_is_left_of_a_subscription_that_was_refused_half_way(where):
    async with opened(where, Limits(subscriptions_per_session_max=2)) as broker:
        for name in ("", "d"):
            with pytest.raises(LimitExceeded):
                async with broker.subscribe("a", "b", "c", durable=name):
                    pass
        info = await broker.info()
        assert (info.sessions, info.subscriptions) == (0, 0)


async def test_slow_subscribers_lose_messages_and_are_told_how_many(where):
    limits = Limits(live_queue_messages_max=10)
    async with opened(where, limits) as broker:
        async with broker.subscribe("t", prefetch=1) as messages:
            for number in range(100):
                await broker.publish("t", b"%d" % number)
            dropped = (await broker.info()).dropped
            assert 85 <= dropped <= 90
            got = await take(messages, 100 - dropped)
            assert [m.body for m in got] == [b"%d" % n for n in range(100 - dropped)]
            await broker.publish("t", b"end")
            assert [m.body for m in await take(messages, 1)] == [b"end"]
            assert messages.dropped == dropped


async def test_live_messages_wait_in_a_bound_of_bytes(where):
    async with opened(where, Limits(live_queue_bytes_max=10_000)) as broker:
        async with broker.subscribe("t", prefetch=1) as messages:
            await broker.publish_many("t", [bytes(1_000)] * 100)
            await take(messages, 5)
            assert 85 <= (await broker.info()).dropped <= 92


async def test_quality_0_passes_by_who_is_not_there(broker):
    async with broker.subscribe("t", durable="d"):
        pass
    assert await broker.publish("t", b"lost", qos=0) == 1
    assert await broker.publish("t", b"kept") == 1
    async with broker.subscribe("t", durable="d") as messages:
        await broker.publish("t", b"live", qos=0)
        bodies = [m.body for m in await take(messages, 2)]
        assert sorted(bodies) == [b"kept", b"live"]
    with pytest.raises(InvalidArgument):
        await broker.publish("t", b"", qos=2)


# --- retained messages ---


async def test_what_is_retained_comes_first(broker):
    for number in range(300):
        await broker.publish(f"r/{number}", b"%d" % number, retain=True)
    async with broker.subscribe("r/#", prefetch=7) as messages:
        await broker.publish("r/new", b"live")
        got = await take(messages, 301)
        assert {m.topic for m in got} == {f"r/{n}" for n in range(300)} | {"r/new"}
        assert [m.topic for m in got if not m.retained] == ["r/new"]
        assert all(len(m.id) == 32 for m in got if m.retained)
        await got[0].ack()  # nothing to do, but the code is the same
    async with broker.subscribe("r/#", retained=False) as messages:
        await broker.publish("r/new", b"live")
        assert not (await take(messages, 1))[0].retained


async def test_what_several_filters_match_is_given_once(broker):
    await broker.publish("r/1", b"1", retain=True)
    await broker.publish("r/2", b"2", retain=True)
    async with broker.subscribe("r/1", "r/+", "#") as messages:
        await broker.publish("end", b"end")
        assert sorted(m.body for m in await take(messages, 3)) == [b"1", b"2", b"end"]


async def test_an_empty_body_takes_away_what_was_kept(broker):
    await broker.publish("r", b"1", retain=True)
    await broker.publish("r", b"2", retain=True)
    assert [info.topic async for info in broker.list_topics()] == ["r"]
    await broker.publish("r", b"", retain=True)
    assert [info async for info in broker.list_topics()] == []


async def test_retained_messages_have_limits(where):
    async with opened(where, Limits(retained_messages_max=1)) as broker:
        await broker.publish("a", b"1", retain=True)
        with pytest.raises(LimitExceeded):
            await broker.publish("b", b"1", retain=True)


# --- durable subscriptions ---


async def test_of_many_those_are_taken_that_fit_a_subscription_that_refuses(where):
    limits, policy = Limits(session_messages_max=3), SessionPolicy(overflow="refuse")
    async with opened(where, limits, sessions=policy) as broker:
        async with broker.subscribe("d", durable="dash"):
            pass
        for topic, taken in (("d", 3), ("d", 0), ("other", 5)):
            results = await broker.publish_many(topic, [b"x"] * 5, return_errors=True)
            errors = [each for each in results if isinstance(each, QueueFull)]
            assert results[:taken] == [int(topic == "d")] * taken and results[taken:] == errors
        assert (await broker.session("dash")).messages == 3


async def test_a_durable_subscription_keeps_messages_while_nobody_is_there(broker):
    async with broker.subscribe("d/#", durable="dash") as messages:
        assert not messages.resumed
    await broker.publish_many("d/1", [b"1", b"2", b"3"])
    info = await broker.session("dash")
    assert (info.durable, info.connected, info.messages, info.filters) == (True, False, 3, ["d/#"])
    async with broker.subscribe("d/#", durable="dash") as messages:
        assert messages.resumed
        first, second, third = await take(messages, 3)
        assert len(first.id) == 32 and first.headers == {"topic": "d/1"}
        await first.ack()
        async with second:
            pass
        with pytest.raises(ZeroDivisionError):
            async with third:
                raise ZeroDivisionError
        (again,) = await take(messages, 1)
        assert (again.body, again.receives) == (b"3", 2)
    async with broker.subscribe(durable="dash") as messages:
        (again,) = await take(messages, 1)
        assert (again.body, again.receives) == (b"3", 3)
        await again.ack()
        with pytest.raises(LeaseLost):
            await again.ack()
    assert (await broker.session("dash")).messages == 0


async def test_what_was_prefetched_and_not_seen_does_not_count_as_received(broker):
    async with broker.subscribe("d", durable="dash"):
        pass
    await broker.publish_many("d", [b"%d" % n for n in range(20)])
    async with broker.subscribe("d", durable="dash") as messages:
        await take(messages, 1)
    async with broker.subscribe("d", durable="dash") as messages:
        receives = [m.receives for m in await take(messages, 20)]
        assert receives == [2] + [1] * 19


async def test_a_durable_subscription_has_the_filters_that_were_given_last(broker):
    async with broker.subscribe("a", "b", durable="dash"):
        pass
    async with broker.subscribe("b", "c", "$share/g/s", durable="dash"):
        info = await broker.session("dash")
        assert sorted(info.filters) == ["$share/g/s", "b", "c"]
    async with broker.subscribe("b", durable="dash"):
        assert (await broker.session("dash")).filters == ["b"]
    assert await broker.publish("s", b"") == 0
    with pytest.raises(NotFound):
        async with broker.subscribe(durable="other"):
            pass


async def test_prefetch_holds_for_durable_messages(broker):
    async with broker.subscribe("d", durable="dash", prefetch=4) as messages:
        await broker.publish_many("d", [b"%d" % n for n in range(20)])
        first, *_ = await take(messages, 1)

        async def four_are_out():
            return (await broker.session("dash")).in_flight == 4

        await until(four_are_out)
        await first.ack()
        assert [m.body for m in await take(messages, 4)] == [b"%d" % n for n in range(1, 5)]
        assert (await broker.session("dash")).in_flight == 4


async def test_a_session_has_one_subscriber_at_a_time(broker):
    async with broker.subscribe("d", durable="dash") as old:
        waiting = asyncio.ensure_future(take(old, 1))
        async with broker.subscribe("d", durable="dash") as new:
            with pytest.raises(Conflict, match="somebody else took"):
                await waiting
            await broker.publish("d", b"x")
            assert [m.body for m in await take(new, 1)] == [b"x"]


async def test_a_durable_subscription_is_ended_for_good(broker):
    async with broker.subscribe("d", durable="dash"):
        await broker.publish("d", b"x")
    await broker.unsubscribe("dash")
    assert await broker.publish("d", b"x") == 0
    with pytest.raises(NotFound):
        await broker.unsubscribe("dash")
    async with broker.subscribe("d", durable="dash") as messages:
        assert not messages.resumed
        waiting = asyncio.ensure_future(take(messages, 1))
        await broker.unsubscribe("dash")
        with pytest.raises(Unavailable, match="its owner ended"):
            await waiting


async def test_an_unfinished_loop_gives_back_what_it_holds(broker):
    async with broker.subscribe("d", durable="dash"):
        pass
    await broker.publish_many("d", [b"1", b"2"])

    async def fail():
        async for _ in broker.subscribe("d", durable="dash"):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.create_task(fail())

    async def all_back():
        info = await broker.session("dash")
        return not info.connected and info.in_flight == 0 and info.messages == 2

    await until(all_back)


# --- shared subscriptions ---


async def test_each_message_goes_to_one_of_a_share(broker):
    async with (
        broker.subscribe("w/#", share="g", prefetch=1) as one,
        broker.subscribe("w/#", share="g", prefetch=1) as two,
        broker.subscribe("w/#", share="other") as three,
    ):
        assert await broker.publish_many("w/1", [b"%d" % n for n in range(10)]) == [2] * 10
        bodies: list[bytes] = []

        async def work(messages):
            async for message in messages:
                async with message:
                    bodies.append(message.body)
                    if len(bodies) == 10:
                        return

        workers = [asyncio.ensure_future(work(each)) for each in (one, two)]
        async with asyncio.timeout(10):
            await asyncio.wait(workers, return_when=asyncio.FIRST_COMPLETED)
        assert sorted(bodies) == [b"%d" % n for n in range(10)]
        assert len(await take(three, 10)) == 10
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)


async def test_what_a_member_held_goes_to_another(broker):
    async with broker.subscribe("w", share="g") as messages:
        async with broker.subscribe("w", share="g") as gone:
            await broker.publish("w", b"x")
            first = asyncio.ensure_future(take(messages, 1))
            second = asyncio.ensure_future(take(gone, 1))
            await asyncio.wait([first, second], return_when=asyncio.FIRST_COMPLETED)
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
        (message,) = await first
        assert message.body == b"x"
        await message.ack()
        with pytest.raises(LeaseLost):
            await message.ack()


async def test_a_durable_member_makes_the_share_durable(broker):
    async with broker.subscribe("w", share="g") as live:
        await broker.publish("w", b"memory")
        (message,) = await take(live, 1)
        async with broker.subscribe("w", share="g", durable="d"):
            await broker.publish("w", b"log")
            await message.ack()
    await broker.publish("w", b"later")
    async with broker.subscribe(durable="d") as messages:
        got = await take(messages, 2)
        assert [m.body for m in got] == [b"log", b"later"]
        for message in got:
            await message.ack()
    await broker.unsubscribe("d")
    assert (await broker.info()).subscriptions == 0


async def test_prefetch_holds_for_all_queues_of_a_subscription_together(broker):
    filters = [f"w/{n}" for n in range(5)]
    async with broker.subscribe(*filters, share="g", prefetch=3) as messages:
        for topic in filters:
            await broker.publish_many(topic, [b"1", b"2"])
        seen = []
        async with asyncio.timeout(10):
            async for message in messages:
                seen.append(message)
                if len(seen) == 3:
                    break
        async with broker.subscribe(*filters, share="g", prefetch=20) as others:
            rest = await take(others, 7)
            assert len(rest) == 7  # the other three are held here
            for message in [*seen, *rest]:
                await message.ack()


# --- looking ---


async def test_topics_are_listed_by_name(broker):
    for number in range(30):
        await broker.publish(f"a/{number:02}", b"12345", retain=True)
    await broker.publish("b", b"", retain=True)
    async with broker.subscribe("a/#"):
        found = [info async for info in broker.list_topics("a/+")]
    assert [info.topic for info in found] == [f"a/{number:02}" for number in range(30)]
    assert all(info.bytes > 5 and info.subscriptions == 1 for info in found)
    page = await broker.verbs.list_topics("#", "a/03", 2)
    assert [info.topic for info in page] == ["a/04", "a/05"]
    for limit in (0, 1001):
        with pytest.raises(InvalidArgument):
            await broker.verbs.list_topics("#", "", limit)
    with pytest.raises(InvalidArgument):
        await broker.verbs.list_topics("a+")


async def test_the_tree_shows_retained_topics_and_filters(broker):
    for topic in ("a/1", "a/2/x", "b"):
        await broker.publish(topic, b"1", retain=True)
    async with broker.subscribe("a/#", "c/d"):
        top = {info.level: info async for info in broker.topic_tree()}
        below = {info.level: info async for info in broker.topic_tree("a")}
    assert set(top) == {"a", "b", "c"}
    assert (top["a"].retained, top["a"].topics, top["a"].subscriptions) == (False, 2, 1)
    assert (top["b"].retained, top["b"].topics, top["c"].subscriptions) == (True, 1, 1)
    assert {level: info.topics for level, info in below.items()} == {"1": 1, "2": 1, "#": 0}


async def test_sessions_are_listed_and_can_be_kicked(broker):
    async with broker.subscribe("a", durable="one"), broker.subscribe("b", durable="two") as two:
        infos = [info async for info in broker.sessions()]
        assert [(info.name, info.connected) for info in infos] == [("one", True), ("two", True)]
        assert [info.name async for info in broker.sessions("t")] == ["two"]
        waiting = asyncio.ensure_future(take(two, 1))
        await broker.kick("two")
        with pytest.raises(Unavailable, match="operator"):
            await waiting
        assert not (await broker.session("two")).connected
        await broker.kick("one", discard=True)
        with pytest.raises(NotFound):
            await broker.session("one")
        with pytest.raises(NotFound):
            await broker.kick("one")


async def test_the_broker_counts(broker):
    async with broker.subscribe("a", "b"):
        await broker.publish("a", b"", retain=False)
        await broker.publish("r", b"1", retain=True)
        info = await broker.info()
    assert (info.sessions, info.subscriptions, info.retained) == (1, 2, 1)
    assert (info.published, info.dropped) == (2, 0)


# --- restarts ---


async def test_what_is_durable_and_retained_survives_a_restart(where, tmp_path):
    path = str(tmp_path / "data")
    async with opened(where, path=path) as broker:
        async with broker.subscribe("d/#", durable="dash"):
            pass
        await broker.publish("d/1", b"kept", headers={"a": "b"})
        await broker.publish("r", b"retained", retain=True)
    async with opened(where, path=path) as broker:
        await broker.publish("d/2", b"more")
        async with broker.subscribe("d/#", durable="dash") as messages:
            assert messages.resumed
            got = await take(messages, 2)
            assert [m.body for m in got] == [b"kept", b"more"]
            assert got[0].headers == {"a": "b", "topic": "d/1"}
        async with broker.subscribe("r") as messages:
            assert [m.body for m in await take(messages, 1)] == [b"retained"]
