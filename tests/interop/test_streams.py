"""Streams with MQTT clients that we did not write: appending, reading, sharing as a group."""

import asyncio

import pytest

from braidmq.broker import Broker

from . import mosquitto_client
from .facade import GUARD_SECONDS, V5, Properties, Refused
from .kinds import KINDS, WITH_PROPERTIES, kind_named

PAHO = kind_named("paho-v5")
TOPIC, SHARED = "$stream/clicks", "$share/g/$stream/clicks"

every_kind = pytest.mark.parametrize("kind", KINDS, ids=str)


async def declared(served, shards=1):
    broker: Broker = served.broker
    return await broker.declare_stream("clicks", shards=shards)


async def records(stream, count, shard=0):
    found = []
    async with stream.read(shard=shard, start="earliest") as reader:
        async for record in reader:
            found.append(record)
            if len(found) == count:
                return found
    raise AssertionError("the shard ended")


@every_kind
async def test_a_client_appends_and_reads(kind, served, join):
    stream = await declared(served)
    reader = await join(kind)
    for filter in (TOPIC, SHARED):
        assert await reader.subscribe(filter, 1) == 1
    writer = await join(kind)
    for number, qos in enumerate((1, 2, 0)):
        await writer.publish(TOPIC, b"%d" % number, qos)
    found = await reader.receive_all(6)
    assert {each.topic for each in found} == {TOPIC}
    assert sorted(each.payload for each in found) == sorted([b"0", b"1", b"2"] * 2)
    assert {each.qos for each in found} == {1}
    assert [record.body for record in await records(stream, 3)] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("kind", WITH_PROPERTIES, ids=str)
async def test_properties_tell_of_a_record(kind, served, join):
    stream = await declared(served)
    reader = await join(kind)
    await reader.subscribe(TOPIC, 1)
    writer = await join(kind)
    user = (("partition-key", "truck-7"), ("colour", "red"))
    for qos in (1, 2):
        properties = Properties(user=user, content_type="text/plain")
        await writer.publish(TOPIC, b"x", qos, properties=properties)
    kept = await records(stream, 2)
    for message, record in zip(await reader.receive_all(2), kept, strict=True):
        assert record.key == "truck-7"
        assert message.properties.content_type == "text/plain"
        assert message.properties.user == (
            ("partition-key", "truck-7"),
            ("shard", "0"),
            ("sequence-number", str(record.number)),
            ("timestamp", str(record.time_ms)),
            ("colour", "red"),
        )


@every_kind
async def test_the_next_member_goes_on_where_the_last_one_was(kind, served, join, clients):
    await declared(served)
    first = await join(kind)
    await first.subscribe(SHARED, 1)
    writer = await join(PAHO)
    for number in range(3):
        await writer.publish(TOPIC, b"%d" % number, 1)
    assert [each.payload for each in await first.receive_all(3)] == [b"0", b"1", b"2"]
    if kind.make is not mosquitto_client.MosquittoClient:  # it acknowledges before it tells
        await first.settle()
    await clients.leave(first)
    for number in range(3, 5):
        await writer.publish(TOPIC, b"%d" % number, 1)
    second = await join(kind)
    await second.subscribe(SHARED, 1)
    assert [each.payload for each in await second.receive_all(2)] == [b"3", b"4"]


async def test_members_share_the_shards_and_one_takes_over(served, join, clients):
    await declared(served, 4)
    members = [await join(kind_named(name)) for name in ("paho-v5", "gmqtt-v311")]
    for member in members:
        await member.subscribe(SHARED, 1)
    async with asyncio.timeout(GUARD_SECONDS):
        stream = served.broker.stream("clicks")
        while True:
            info = await stream.group("g").info()
            held = [shard.member for shard in info.shards]
            if len(set(held)) == 2 and sorted(map(held.count, set(held))) == [2, 2]:
                break
            await asyncio.sleep(0.01)
    writer = await join(PAHO)
    bodies = [b"%d" % number for number in range(40)]
    for body in bodies:
        properties = Properties(user=(("partition-key", body.decode()),))
        await writer.publish(TOPIC, body, 1, properties=properties)
    found: set[bytes] = set()
    while len(found) < 40:
        for member in members:
            while not member.inbox.empty():
                found.add(member.inbox.get_nowait().payload)
        await asyncio.sleep(0.01)
    assert found == set(bodies)
    await clients.vanish(members[0])
    for body in bodies:
        properties = Properties(user=(("partition-key", body.decode()),))
        await writer.publish(TOPIC, b"more " + body, 1, properties=properties)
    missing = {b"more " + body for body in bodies}
    while missing:
        missing.discard((await members[1].receive()).payload)


@pytest.mark.parametrize("kind", [k for k in KINDS if "tell-publish" in k.can], ids=str)
async def test_a_client_hears_what_is_wrong(kind, served, join):
    client = await join(kind)
    with pytest.raises(Refused) as refused:
        await client.publish("$stream/none", b"x", 1)
    assert refused.value.code == 0x90
    assert await client.subscribe("$stream/none", 1) == 0x87
    stream = await declared(served)
    await stream.update(shard_records_in_per_second=1)
    await client.publish(TOPIC, b"1", 1)
    with pytest.raises(Refused) as refused:
        for _ in range(20):
            await client.publish(TOPIC, b"2", 1)
    assert refused.value.code == 0x97


@pytest.mark.skipif(bool(mosquitto_client.missing()), reason="mosquitto-clients are missing")
async def test_mosquitto_reads_from_where_it_is_told_to(served, join):
    await declared(served)
    writer = await join(PAHO)
    for number in range(3):
        await writer.publish(TOPIC, b"%d" % number, 1)
    host, _, port = served.urls[0].partition("://")[2].partition(":")
    words = ["-h", host, "-p", port, "-V", "5", "-t", TOPIC, "-q", "1", "-C", "3", "-F", "%p %P"]
    words += ["-D", "subscribe", "user-property", "start", "earliest", "-W", str(GUARD_SECONDS)]
    process = await asyncio.create_subprocess_exec(
        "mosquitto_sub", *words, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    lines = said.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert "sequence-number:3" in lines[2].split()
    assert writer.version == V5
