"""What STOMP is used for, with every client that we did not write.

Each test runs once for every library, version and transport of `kinds.py`, or for those whose
library can do what the test is about.
"""

import asyncio

import pytest

from braidmq.broker.access import Rule, User
from braidmq.broker.passwords import hash_password

from .facade import GUARD_SECONDS, Refused
from .kinds import KINDS, REFERENCE
from .wire import BeatCounter

EVERYTHING = (Rule("allow", ("*",), ("*",)),)
BEAT_MS = 60

every = pytest.mark.parametrize("kind", KINDS, ids=str)


def those(able: str):
    return pytest.mark.parametrize("kind", [kind for kind in KINDS if able in kind.can], ids=str)


def users():
    return [User("alice", hash_password("s3:cret", kind="scrypt"), EVERYTHING)]


@every
async def test_it_says_who_it_is_and_is_let_in(kind, start_stomp, enter):
    client = await enter(kind, await start_stomp(users=users()), login="alice", passcode="s3:cret")
    await client.subscribe("/queue/a")
    await client.send("/queue/a", b"x")
    assert (await client.receive()).body == b"x"


@every
async def test_a_wrong_password_is_refused(kind, start_stomp, enter):
    served = await start_stomp(users=users())
    for login in ("alice", "nobody"):
        with pytest.raises(Refused) as refused:
            await enter(kind, served, login=login, passcode="wrong")
        if "tell-refusal" in kind.can:
            assert "password is invalid" in refused.value.message


@every
async def test_it_hears_itself_over_a_queue_and_a_topic(kind, served, enter):
    client = await enter(kind, served)
    for destination in ("/queue/a.b", "/topic/a.b"):
        id = await client.subscribe(destination)
        await client.send(destination, "grüße".encode(), x="y", **{"content-type": "text/x"})
        found = await client.receive()
        assert (found.destination, found.body) == (destination, "grüße".encode())
        assert found.headers.get("subscription", id) == id
        assert (found.headers["x"], found.headers["content-type"]) == ("y", "text/x")


@every
async def test_it_hears_no_more_once_it_unsubscribed(kind, served, enter):
    client = await enter(kind, served)
    for destination in ("/queue/a", "/topic/a"):
        id = await client.subscribe(destination)
        await client.send(destination, b"1")
        assert (await client.receive()).body == b"1"
        await client.unsubscribe(id)
        await client.send(destination, b"2")
    await client.subscribe("/queue/a")
    assert (await client.receive()).body == b"2"
    assert client.inbox.empty()


@every
async def test_wildcards(kind, activemq, enter):
    publisher = await enter(REFERENCE, activemq)
    one, many = await enter(kind, activemq), await enter(kind, activemq)
    await one.subscribe("/topic/a.*.c")
    await many.subscribe("/topic/a.>")
    for topic in ("a.b.c", "a.b", "x", "a", "a.d.c"):
        await publisher.send(f"/topic/{topic}", b"1")
    await publisher.send("/topic/a.end.c", b"1")
    heard = [each.destination for each in await one.receive_all(3)]
    assert heard == ["/topic/a.b.c", "/topic/a.d.c", "/topic/a.end.c"]
    heard = [each.destination for each in await many.receive_all(5)]
    wanted = ["a.b.c", "a.b", "a", "a.d.c", "a.end.c"]
    assert heard == [f"/topic/{topic}" for topic in wanted]


@every
async def test_many_words_stand_anywhere_in_rabbitmq(kind, rabbitmq, enter):
    publisher, client = await enter(REFERENCE, rabbitmq), await enter(kind, rabbitmq)
    await client.subscribe("/exchange/amq.topic/#.error")
    for topic in ("error", "a.b.error", "error.a", "a.error"):
        await publisher.send(f"/topic/{topic}", b"1")
    heard = [each.destination for each in await client.receive_all(3)]
    assert heard == ["/topic/error", "/topic/a.b.error", "/topic/a.error"]


@every
async def test_wildcards_of_queues(kind, activemq, enter):
    producer, consumer = await enter(REFERENCE, activemq), await enter(kind, activemq)
    await producer.send("/queue/PRICE.GOLD", b"1")
    await consumer.subscribe("/queue/PRICE.>", ack="client", **{"activemq.prefetchSize": "2"})
    await producer.send("/queue/PRICE.STOCK.A", b"2")
    await producer.send("/queue/COST.A", b"no")
    await producer.send("/queue/PRICE.STOCK.B", b"3")
    found = await consumer.receive_all(2)
    await consumer.ack(found[1])  # which makes room for the third
    found.append(await consumer.receive())
    assert [(each.destination, each.body) for each in found] == [
        ("/queue/PRICE.GOLD", b"1"),
        ("/queue/PRICE.STOCK.A", b"2"),
        ("/queue/PRICE.STOCK.B", b"3"),
    ]
    await consumer.vanish()
    await producer.subscribe("/queue/PRICE.STOCK.*")
    again = await producer.receive()
    assert (again.destination, again.body) == ("/queue/PRICE.STOCK.B", b"3")


@every
async def test_what_it_did_not_acknowledge_comes_again(kind, activemq, enter):
    client = await enter(kind, activemq)
    await client.subscribe("/queue/a", ack="client-individual")
    await client.send_all("/queue/a", [b"1", b"2", b"3"])
    one, _, three = await client.receive_all(3)
    await client.ack(three)
    await client.ack(one)
    await client.vanish()
    other = await enter(REFERENCE, activemq)
    await other.subscribe("/queue/a")
    await other.send("/queue/a", b"4")
    found = await other.receive_all(2)
    assert [each.body for each in found] == [b"2", b"4"]
    assert [each.headers.get("redelivered") for each in found] == ["true", None]


@every
async def test_an_acknowledgement_can_stand_for_all_before(kind, served, enter):
    client = await enter(kind, served)
    await client.subscribe("/queue/a", ack="client")
    await client.send_all("/queue/a", [b"1", b"2", b"3", b"4"])
    found = await client.receive_all(4)
    await client.ack(found[2])
    await client.vanish()
    other = await enter(REFERENCE, served)
    await other.subscribe("/queue/a")
    assert (await other.receive()).body == b"4"


@those("nack")
async def test_what_it_refuses_is_a_dead_letter_in_activemq(kind, activemq, enter):
    client = await enter(kind, activemq)
    await client.subscribe("/queue/a", ack="client-individual")
    await client.send("/queue/a", b"1", x="y")
    await client.nack(await client.receive())
    await client.subscribe("/queue/ActiveMQ.DLQ")
    dead = await client.receive()
    assert (dead.body, dead.headers["x"]) == (b"1", "y")
    assert dead.headers["original-destination"] == "/queue/a"


@those("nack")
async def test_what_it_refuses_comes_again_in_rabbitmq(kind, rabbitmq, enter):
    client = await enter(kind, rabbitmq)
    await client.subscribe("/queue/a", ack="client-individual")
    await client.send("/queue/a", b"1")
    first = await client.receive()
    await client.nack(first)
    again = await client.receive()
    assert (again.body, again.headers["redelivered"]) == (b"1", "true")
    assert first.headers["redelivered"] == "false"
    await client.ack(again)


@every
async def test_what_it_sends_in_a_transaction_comes_when_that_is_committed(kind, served, enter):
    client = await enter(kind, served)
    await client.subscribe("/queue/a")
    await client.subscribe("/topic/a")
    for commits in (False, True):
        name = await client.begin(f"t-{commits}")
        for body in (b"1", b"2"):
            await client.send("/queue/a", body, transaction=name)
        await client.send("/topic/a", b"3", transaction=name)
        await client.send("/queue/a", b"before")
        assert (await client.receive()).body == b"before"
        await (client.commit(name) if commits else client.abort(name))
    found = await client.receive_all(3)
    assert sorted((each.destination, each.body) for each in found) == [
        ("/queue/a", b"1"),
        ("/queue/a", b"2"),
        ("/topic/a", b"3"),
    ]


@those("transacted-acks")
async def test_what_it_acknowledges_in_a_transaction_goes_when_that_is_committed(
    kind, served, enter
):
    client = await enter(kind, served)
    await client.subscribe("/queue/a", ack="client-individual")
    await client.send_all("/queue/a", [b"1", b"2"])
    found = await client.receive_all(2)
    await client.begin("undone")
    for message in found:
        await client.ack(message, "undone")
    await client.abort("undone")
    await client.begin("done")
    await client.ack(found[0], "done")
    await client.send("/queue/b", b"answer", transaction="done")
    await client.commit("done")
    await client.vanish()
    other = await enter(REFERENCE, served)
    await other.subscribe("/queue/b")
    assert (await other.receive()).body == b"answer"
    await other.subscribe("/queue/a")
    await other.send("/queue/a", b"3")
    assert [each.body for each in await other.receive_all(2)] == [b"2", b"3"]


@those("sends-bytes")
async def test_any_bytes(kind, activemq, enter):
    client = await enter(kind, activemq)
    body = bytes(range(256)) * 3 + b"\0\n\r\n\0"
    for destination in ("/queue/a", "/topic/a"):
        await client.subscribe(destination)
        for sent in (body, b"", b"\0"):
            await client.send(destination, sent)
            assert (await client.receive()).body == sent


@those("escapes")
async def test_headers_of_any_characters(kind, served, enter):
    client = await enter(kind, served)
    headers = {
        "colon": "a:b::c:",
        "lines": "one\ntwo\n",
        "slashes": "C:\\Windows\\",
        "größe": "☃ 𝄞",
    }
    if "exact" in kind.can:
        headers |= {"slashes": "\\ \\n \\c \\\\", "words": " two  words "}
        headers |= {"return": "a\r\nb"} if kind.version == "1.2" else {}
    for destination in ("/queue/a", "/topic/a"):
        await client.subscribe(destination)
        await client.send(destination, b"x", **headers)
        found = (await client.receive()).headers
        assert {name: found.get(name) for name in headers} == headers


@every
async def test_a_large_body(kind, activemq, enter):
    client = await enter(kind, activemq)
    await client.subscribe("/queue/a")
    body = b"0123456789abcdef" * 57_600  # 900 KiB
    await client.send("/queue/a", body)
    assert (await client.receive()).body == body


@every
async def test_a_thousand_quick_messages_arrive_in_order(kind, activemq, enter):
    client = await enter(kind, activemq)
    await client.subscribe("/queue/a", ack="client")
    bodies = [b"%d" % number for number in range(1000)]
    await client.send_all("/queue/a", bodies)
    found = await client.receive_all(1000)
    assert [each.body for each in found] == bodies
    await client.ack(found[-1])


@every
async def test_what_cannot_be_is_an_error_that_ends_the_connection(kind, activemq, enter):
    client = await enter(kind, activemq)
    with pytest.raises(Refused) as refused:
        await client.send("/nowhere/a", b"x")
    assert refused.value.message.startswith("Illegal destination name")
    assert "[/nowhere/a]" in refused.value.message
    assert refused.value.receipt


@every
async def test_it_selects(kind, served, enter):
    client = await enter(kind, served)
    await client.subscribe("/queue/a", selector="colour = 'red' AND size > 3")
    for colour, size in (("red", "3"), ("blue", "4"), ("red", "4")):
        await client.send("/queue/a", size.encode(), colour=colour, size=size)
    found = await client.receive()
    assert (found.body, found.headers["colour"]) == (b"4", "red")


@every
async def test_it_browses(kind, served, enter):
    client = await enter(kind, served)
    await client.send_all("/queue/a", [b"1", b"2"])
    await client.subscribe("/queue/a", browser="true")
    found = await client.receive_all(3)
    assert [each.body for each in found] == [b"1", b"2", b""]
    assert found[2].headers["browser"] == "end"


@every
async def test_a_durable_subscription_keeps_what_comes_meanwhile(kind, activemq, enter):
    named = {"activemq.subscriptionName": "news"}
    client = await enter(kind, activemq, client_id="reader")
    id = await client.subscribe("/topic/news.>", **named)
    await client.vanish()
    publisher = await enter(REFERENCE, activemq)
    bodies = [b"%d" % number for number in range(20)]
    await publisher.send_all("/topic/news.today", bodies)
    client = await enter(kind, activemq, client_id="reader")
    # Of its own library, a subscription of another id would be another one to it.
    id = await client.subscribe("/topic/news.>", id=id, **named)
    found = await client.receive_all(20)
    assert [each.body for each in found] == bodies
    assert {each.destination for each in found} == {"/topic/news.today"}
    await client.unsubscribe(id)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.version != "1.0"], ids=str)
async def test_a_durable_subscription_of_rabbitmq_has_an_id(kind, rabbitmq, enter):
    client = await enter(kind, rabbitmq)
    id = await client.subscribe("/topic/news.#", durable="true", **{"auto-delete": "false"})
    await client.vanish()
    publisher = await enter(REFERENCE, rabbitmq)
    await publisher.send_all("/topic/news.today", [b"1", b"2"])
    # Not every library lets its user choose the id; it is what counts.
    heir = await enter(REFERENCE, rabbitmq)
    await heir.subscribe("/topic/news.#", id=id, durable="true", **{"auto-delete": "false"})
    assert [each.body for each in await heir.receive_all(2)] == [b"1", b"2"]


@those("beats")
async def test_both_hearts_beat(kind, start_stomp, enter):
    served = await start_stomp(beats=BEAT_MS)
    async with BeatCounter(served.url(kind)) as counter:
        served.urls[kind.websocket] = counter.url
        client = await enter(kind, served, beats=(BEAT_MS, BEAT_MS))
        async with asyncio.timeout(GUARD_SECONDS):
            await counter.wait_for(4)
        await client.subscribe("/queue/a")
        await client.send("/queue/a", b"alive")
        assert (await client.receive()).body == b"alive"
        await client.vanish()


@every
async def test_it_leaves(kind, activemq, enter):
    client = await enter(kind, activemq)
    await client.subscribe("/queue/a", ack="client")
    await client.send("/queue/a", b"x")
    await client.receive()
    await client.leave()
    other = await enter(REFERENCE, activemq)
    await other.subscribe("/queue/a")
    assert (await other.receive()).body == b"x"
