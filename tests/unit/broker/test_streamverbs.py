"""The verbs of streams are a contract: what implements them here, and what goes over the wire."""

import inspect

import msgspec
import pytest

from braidmq.broker.localverbs import LocalVerbs
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamverbs import ShardInfo, Start, StreamInfo, StreamVerbs


def test_the_verbs_in_this_process_are_those_of_the_contract():
    for name, verb in inspect.getmembers(StreamVerbs, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(LocalVerbs, name)) == inspect.signature(verb), name


def test_values_survive_the_wire():
    shard = ShardInfo(0, "0", "9", [], False, 1, 2, 3, 4, 5, 6, 7)
    info = StreamInfo("s", StreamSettings(), 1, 1, 2, 3, 0, [shard])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(info), type=StreamInfo) == info
    start = Start("time", time_ms=7)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(start), type=Start) == start
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode({"kind": "somewhere"}), type=Start)
