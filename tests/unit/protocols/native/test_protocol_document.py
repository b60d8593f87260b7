"""PROTOCOL.md says what the code does: its examples, its tables, its names."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest

from braidmq.broker.errors import BraidError
from braidmq.broker.groupverbs import GroupInfo, GroupShardInfo, MemberInfo
from braidmq.broker.limits import Limits
from braidmq.broker.replayverbs import ReplayInfo, ReplayPolicy
from braidmq.broker.schedule import Timing
from braidmq.broker.scheduleverbs import ScheduleInfo
from braidmq.broker.settings import QueueSettings
from braidmq.broker.stream_settings import StreamSettings
from braidmq.broker.streamverbs import ShardInfo, StreamInfo
from braidmq.broker.verbs import (
    BrokerInfo,
    LevelInfo,
    QueueInfo,
    RedriveInfo,
    SessionInfo,
    TopicInfo,
)
from braidmq.protocols.native import frames
from braidmq.protocols.native.operations import OPERATIONS

ROOT = Path(__file__).parents[4]
TEXT = (ROOT / "protocols/native/PROTOCOL.md").read_text()
BLOCKS = re.findall(r"```example\n(.*?)```", TEXT, re.S)
EXAMPLES = [
    (ast.literal_eval(value), bytes.fromhex("".join(bytes_.split())))
    for block in BLOCKS
    for value, bytes_ in re.findall(r"^(\[.*\])\n((?: {4}.*\n)+)", block, re.M)
]
TABLE = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", TEXT, re.M)


def test_there_are_examples_and_all_of_them_were_found():
    assert len(EXAMPLES) == sum(block.count("\n[") + block.startswith("[") for block in BLOCKS)
    assert len(EXAMPLES) >= 20


@pytest.mark.parametrize(("payload", "frame"), EXAMPLES, ids=lambda value: str(value)[:30])
def test_an_example_is_a_frame_that_the_codec_reads(payload, frame):
    assert msgpack.unpackb(frame[4:]) == payload
    buffer = frames.FrameBuffer(1000)
    buffer.feed(frame)
    view = buffer.next_frame()
    assert view is not None
    assert not len(buffer)
    decode: Callable[[memoryview], Any] = frames.decode_reply
    if payload[0] == OPERATIONS["HELLO"]:
        decode = frames.decode_hello
    elif payload[0] < 64 or 96 <= payload[0] < 112:
        decode = frames.decode_request
    assert decode(view).request == payload[1]


@pytest.mark.parametrize(("payload", "frame"), EXAMPLES, ids=lambda value: str(value)[:30])
def test_an_example_is_what_our_encoder_writes(payload, frame):
    out = bytearray()
    frames.append_frame(out, payload)
    assert out == frame


def test_the_tables_name_every_operation_once():
    assert sorted((name, int(number)) for number, name in TABLE) == sorted(OPERATIONS.items())


def test_every_error_code_is_listed():
    def tree(kind):
        yield kind.code
        for each in kind.__subclasses__():
            yield from tree(each)

    named = set(re.findall(r"`([a-z-]+)`", TEXT.split("## 3. Errors")[1].split("## 4.")[0]))
    # Only a client makes this one up.
    assert set(tree(BraidError)) - {"disconnected"} <= named


def test_every_setting_and_every_counter_is_listed():
    kinds: tuple[type[msgspec.Struct], ...]
    kinds = (QueueSettings, QueueInfo, RedriveInfo, BrokerInfo, TopicInfo, LevelInfo, SessionInfo)
    kinds += (StreamSettings, StreamInfo, ShardInfo, GroupInfo, GroupShardInfo, MemberInfo)
    kinds += (ReplayInfo, ReplayPolicy, ScheduleInfo, Timing)
    names = {field for kind in kinds for field in kind.__struct_fields__}
    assert names <= set(re.findall(r"`([a-z_]+)`", TEXT))


def test_the_limits_that_are_told_have_the_names_of_ours():
    told = re.findall(r"`([a-z_]+)`", TEXT.split("`limits` is a map")[1].split("More may")[0])
    assert {f"{name}_max" for name in told} <= set(Limits.__struct_fields__)
