"""What the operations about redrives hold survives the wire, and what is left out has a default."""

import msgspec
import pytest

from braidmq.broker.verbs import RedriveInfo
from braidmq.protocols.native.redrive_operations import ListRedrives, Redrive, RedrivesReply


def test_requests_have_defaults():
    content = msgspec.msgpack.encode([21, 1, "dead"])
    assert msgspec.msgpack.decode(content, type=Redrive) == Redrive(1, "dead", "", 0, 0)
    content = msgspec.msgpack.encode([22, 7])
    assert msgspec.msgpack.decode(content, type=ListRedrives) == ListRedrives(7)


@pytest.mark.parametrize("fields", [[], [5], ["q", 5], ["q", "", "1"], ["q", "", 0, -1]])
def test_a_request_is_checked(fields):
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode([21, 1, *fields]), type=Redrive)


def test_a_reply_travels():
    reply = RedrivesReply(9, [RedriveInfo(1, "dead", "q", "done", 3, 4, 2.5, "why")])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=RedrivesReply) == reply
