"""What an ERROR says."""

import pytest

from braidmq.broker import errors
from braidmq.broker.errors import BraidError
from braidmq.protocols.stomp.dialects import Refused
from braidmq.protocols.stomp.errors import words_of

KINDS = [
    kind
    for name in errors.__all__
    if isinstance(kind := getattr(errors, name), type) and issubclass(kind, BraidError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_what_is_wrong_and_what_to_do(kind):
    message, detail = words_of(kind("the reason"))
    assert message == "the reason"
    assert detail.startswith("the reason.\n")
    assert len(detail.splitlines()) == 2


def test_special_errors_have_special_advice():
    assert words_of(errors.QueueFull("x"))[1] != words_of(errors.LimitExceeded("x"))[1]


def test_the_words_of_a_dialect_are_left_as_they_are():
    assert words_of(Refused("a", "b")) == ("a", "b")
