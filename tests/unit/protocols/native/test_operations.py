"""The operations have one number each, and the classes carry them."""

from typing import get_args

import msgspec
import pytest

from braidmq.broker.message import Delivery, Outgoing
from braidmq.protocols.native import operations as op

KINDS = [op.Hello, *get_args(op.Request), *get_args(op.Reply)]


def test_every_class_has_a_number_of_the_table_and_every_number_a_class():
    assert sorted(kind.__struct_config__.tag for kind in KINDS) == sorted(op.OPERATIONS.values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_requests_and_replies_have_numbers_of_their_own(kind):
    number = kind.__struct_config__.tag
    assert (number < 64 or 96 <= number < 112) == (kind not in get_args(op.Reply))
    assert kind.__struct_fields__[0] == "request"
    assert kind.__struct_config__.array_like


def test_numbers_fit_into_one_byte():
    assert max(op.OPERATIONS.values()) < 128
    assert len(set(op.OPERATIONS.values())) == len(op.OPERATIONS)


def test_what_the_decoder_makes_is_what_the_core_takes():
    assert issubclass(op.WireOutgoing, Outgoing)
    assert issubclass(op.WireDelivery, Delivery)
    decoded = msgspec.msgpack.decode(msgspec.msgpack.encode([b"x"]), type=op.WireOutgoing)
    assert decoded == op.WireOutgoing(b"x", b"", -1, 0, 4, "", "")
