"""The gate before streams: rights, limits of what is asked, and what is shown."""

import inspect
from collections.abc import Callable

import pytest

from braidmq.broker.access import SYSTEM, Access, Principal, Rule, User
from braidmq.broker.core import Core
from braidmq.broker.errors import (
    Conflict,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    Overloaded,
    PermissionDenied,
)
from braidmq.broker.limits import Limits
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamcore import StreamCore
from braidmq.broker.streams import Appending
from braidmq.broker.streamverbs import Start
from braidmq.storage.log import Durability
from tests.broker_harness import Harness
from tests.group_client import GroupClient
from tests.stream_client import StreamClient

HASH = "$scrypt$ln=14,r=8,p=1$c2FsdA$aGFzaA"


@pytest.fixture
def client() -> StreamClient:
    return StreamClient(Harness()).declare(2)


def principal(*rules: tuple[str, str]) -> Principal:
    allowed = tuple(Rule("allow", (action,), (name,)) for action, name in rules)
    return Access([User("alice", HASH, allowed)]).principal("alice")


def unheard(argument: object, answer: object) -> None:
    """Nobody waits for it."""


class Sink:
    """Takes what a tail reads."""

    def tail_chunk(self, *rest: object) -> bool:
        """It came."""
        return True

    def tail_ended(self, *rest: object) -> None:
        """It ended."""


SETTINGS = StreamSettings(retention_ms=0)
ONE = Appending([b"x"], [b""])
GATED: dict[str, tuple[str, Callable[[Core, Principal], object]]] = {
    "declare_stream": ("stream:Declare", lambda c, p: c.declare_stream(p, "s", SETTINGS, 1, 1)),
    "update_stream": ("stream:Declare", lambda c, p: c.update_stream(p, "s", {}, 1)),
    "delete_stream": ("stream:Delete", lambda c, p: c.delete_stream(p, "s")),
    "stream_info": ("stream:Describe", lambda c, p: c.stream_info(p, "s")),
    "append": ("stream:Append", lambda c, p: c.append(p, "s", ONE, 1)),
    "admit_records": ("stream:Append", lambda c, p: c.admit_records(p, "s", ONE)),
    "read_shard": (
        "stream:Read",
        lambda c, p: c.read_shard(p, "s", 0, 0, 1, 1, 0, unheard, None, 1),
    ),
    "find_number": ("stream:Read", lambda c, p: c.find_number(p, "s", 0, Start(), unheard, None)),
    "tail_shards": (
        "stream:Read",
        lambda c, p: c.tail_shards(p, "s", {0: 0}, 1, False, False, Sink(), None),
    ),
    "split_shard": ("stream:Reshard", lambda c, p: c.split_shard(p, "s", 0, "", 1)),
    "merge_shards": ("stream:Reshard", lambda c, p: c.merge_shards(p, "s", 0, 1, 1)),
    "rescale_stream": ("stream:Reshard", lambda c, p: c.rescale_stream(p, "s", 3, 1)),
}
FILTERED = {"list_streams"}  # shows what the principal may see


def test_every_method_that_takes_a_principal_is_listed_here():
    public = {name for name in vars(StreamCore) if not name.startswith("_")}
    gated = {n for n in public if "who" in inspect.signature(getattr(StreamCore, n)).parameters}
    assert gated == set(GATED) | FILTERED
    assert public == gated


@pytest.mark.parametrize("method", GATED)
def test_without_the_right_nothing_is_done(client, method):
    action, call = GATED[method]
    before = client.core.stream_info(SYSTEM, "s")
    others = sorted({right for right, _ in GATED.values()} - {action})
    for who in (principal(), principal((action, "other"), *((each, "*") for each in others))):
        with pytest.raises(PermissionDenied, match=action):
            call(client.core, who)
    client.broker.settle()
    assert client.core.stream_info(SYSTEM, "s") == before


@pytest.mark.parametrize("method", GATED)
def test_with_the_right_it_passes(client, method):
    action, call = GATED[method]
    call(client.core, principal((action, "s")))
    client.broker.settle()


@pytest.mark.parametrize("name", ["", "a b", "x" * 256, "$x"])
def test_names_have_their_rules(client, name):
    with pytest.raises(InvalidArgument):
        StreamClient(client.broker, name).declare()


def test_declaring_again_finds_it_if_the_settings_are_the_same(client):
    assert client.core.declare_stream(SYSTEM, "s", SETTINGS, 9, 1).open_shards == 2
    with pytest.raises(Conflict):
        client.declare(2, retention_ms=5)
    with pytest.raises(InvalidArgument):
        StreamClient(client.broker, "other").declare(1, retention_ms=-5)


def test_what_a_stream_is_like(client):
    client.append(b"abc", hash_key=0)
    GroupClient(client.broker)
    client.broker.settle()
    info = client.core.stream_info(SYSTEM, "s")
    assert (info.name, info.open_shards, info.records, info.groups) == ("s", 2, 1, 1)
    shard = info.shards[0]
    assert (shard.first, shard.next, shard.closed, shard.files) == (1, 2, False, 0)
    assert shard.oldest_ms == shard.newest_ms == client.broker.clock.ms
    assert shard.bytes == info.bytes > 3
    assert int(info.shards[1].last_hash) == 2**128 - 1


def test_lists_are_paged_and_show_what_may_be_seen():
    broker = Harness()
    for name in ("c", "a", "b.1", "b.2"):
        StreamClient(broker, name).declare()

    def names(who: Principal, prefix: str = "", after: str = "", limit: int = 10) -> list[str]:
        found = broker.core.list_streams(who, prefix, after, limit)
        assert all(info.shards == [] for info in found)
        return [info.name for info in found]

    assert names(SYSTEM) == ["a", "b.1", "b.2", "c"]
    assert names(SYSTEM, "b.") == ["b.1", "b.2"]
    assert names(SYSTEM, "", "a", 2) == ["b.1", "b.2"]
    assert names(principal(("stream:Describe", "b.2"))) == ["b.2"]
    with pytest.raises(InvalidArgument):
        names(SYSTEM, limit=0)


def test_a_batch_has_records_in_columns_of_one_length():
    client = StreamClient(Harness(limits=Limits(batch_messages_max=3))).declare()
    for count in (0, 4):
        with pytest.raises(LimitExceeded):
            client.try_append(Appending([b""] * count, [b""] * count))
    for batch in (
        Appending([b"", b""], [b""]),
        Appending([b"", b""], [b""] * 2, [b""]),
        Appending([b"", b""], [b""] * 2, None, [0]),
    ):
        with pytest.raises(InvalidArgument, match="columns"):
            client.try_append(batch)
    assert client.shard().next == 1


@pytest.mark.parametrize(
    "wrong", [(0, 1, 0), (11, 1, 0), (1, 0, 0), (1, 101, 0), (1, 1, -1), (1, 1, 1_001)]
)
def test_a_read_has_its_limits(wrong):
    limits = Limits(receive_messages_max=10, receive_bytes_max=100, receive_wait_ms_max=1_000)
    client = StreamClient(Harness(limits=limits)).declare()
    client.begin(0, 0, 10, 100, 1_000)
    with pytest.raises(InvalidArgument):
        client.begin(0, 0, *wrong)


@pytest.mark.parametrize("hash_key", ["x", "-1", "1" * 40, "0", str(2**127), "\u0661"])
def test_a_hash_key_to_split_at_is_a_decimal_number_inside(client, hash_key):
    with pytest.raises(InvalidArgument):
        client.split(0, hash_key)
    client.split(0, "1")


def test_what_lives_in_memory_has_room_for_so_much():
    client = StreamClient(Harness(limits=Limits(memory_bytes_max=1_000)))
    client.declare(1, durability=Durability.MEMORY)
    client.append(b"x" * 2_000)
    with pytest.raises(Overloaded):
        client.append(b"x")


def test_starts(client):
    for number in range(4):
        client.append(b"%d" % number, hash_key=0)
        client.broker.advance(10)
    client.core.streams.trim(client.shard(), 2)
    find = client.find
    assert [find(0, Start("earliest")), find(0, Start("latest"))] == [2, 5]
    assert [find(0, Start("at", 1)), find(0, Start("at", 3)), find(0, Start("after", 3))] == [
        2,
        3,
        4,
    ]
    assert [find(0, Start("after", 4)), find(0, Start("time", time_ms=1))] == [5, 2]
    with pytest.raises(InvalidArgument):
        find(0, Start("after", 5))
    with pytest.raises(NotFound):
        find(7, Start())
