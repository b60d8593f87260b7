"""What comes in pieces is joined when there is enough of it."""

from braidmq.benchmarks.drivers.incoming import Incoming


def test_what_is_whole_passes_through():
    incoming = Incoming()
    data = b"whole"
    assert incoming.add(data) is data
    incoming.keep(b"")
    assert incoming.add(b"next") == b"next"


def test_the_rest_comes_again_in_front():
    incoming = Incoming()
    incoming.keep(b"ab")
    assert incoming.add(b"cd") == b"abcd"
    assert incoming.add(b"ef") == b"ef"


def test_nothing_is_joined_before_there_is_enough():
    incoming = Incoming()
    incoming.keep(b"ab", 6)
    assert incoming.add(b"c") == b""
    assert incoming.add(b"de") == b""
    assert incoming.add(b"fgh") == b"abcdefgh"
    incoming.keep(b"gh")
    assert incoming.add(b"i") == b"ghi"
