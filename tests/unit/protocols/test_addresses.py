"""Counting by address."""

import pytest

from braidmq.protocols import addresses as module
from braidmq.protocols.addresses import Addresses


def test_so_many_at_a_time():
    addresses = Addresses()
    assert all(addresses.welcomes("10.0.0.1", 0, 2, 0) for _ in range(2))
    assert not addresses.welcomes("10.0.0.1", 0, 2, 0)
    assert addresses.welcomes("10.0.0.2", 0, 2, 0)
    addresses.leave("10.0.0.1")
    assert addresses.welcomes("10.0.0.1", 0, 2, 0)
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
        addresses.leave(address)
    assert not addresses._open


def test_zero_is_no_limit():
    addresses = Addresses()
    assert all(addresses.welcomes("10.0.0.1", 0, 0, 0) for _ in range(10_000))


def test_so_often_in_a_minute():
    addresses = Addresses()

    def comes_and_goes(now_ms: int) -> bool:
        welcome = addresses.welcomes("10.0.0.1", now_ms, 0, 3)
        if welcome:
            addresses.leave("10.0.0.1")
        return welcome

    assert [comes_and_goes(120_000 + i) for i in range(5)] == [True] * 3 + [False] * 2
    assert addresses.welcomes("10.0.0.2", 120_000, 0, 3)
    assert [comes_and_goes(180_000) for _ in range(4)] == [True] * 3 + [False]


def test_what_is_remembered_of_a_minute_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "ADDRESSES_MAX", 10)
    addresses = Addresses()
    for number in range(100):
        addresses.welcomes(f"10.0.0.{number}", 0, 0, 1)
    assert len(addresses._connects) == 10
    assert not addresses.welcomes("10.0.0.1", 0, 0, 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("local", "local", True),
        ("no:address", "no:address", True),
    ],
)
def test_what_counts_as_one_address(one, other, same):
    addresses = Addresses()
    assert addresses.welcomes(one, 0, 1, 0)
    assert addresses.welcomes(other, 0, 1, 0) is not same
