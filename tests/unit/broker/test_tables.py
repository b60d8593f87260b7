"""Dicts give back the room of what was deleted, at a cost that deletions have paid for."""

from sys import getsizeof

from braidmq.broker.tables import slimmed


def test_dict_that_only_grows_is_never_copied():
    table: dict[int, int] = {}
    for number in range(20_000):
        table[number] = number
        assert slimmed(table) is table


def test_dict_gives_its_room_back():
    table = {number: number for number in range(20_000)}
    copies = 0
    for number in range(19_999):
        del table[number]
        before = table
        table = slimmed(table)
        copies += table is not before
    assert table == {19_999: 19_999} and getsizeof(table) < 4_096
    assert 0 < copies < 10


def test_empty_dict_gives_everything_back():
    table = {number: number for number in range(20_000)}
    for number in range(20_000):
        del table[number]
    assert getsizeof(table) > 500_000  # why this module is there
    assert getsizeof(slimmed(table)) == getsizeof({})


def test_going_up_and_down_at_the_threshold_does_not_copy_each_time():
    table = {number: number for number in range(20_000)}
    copies = 0
    for number in range(20_000):
        del table[number]
        before = table
        table = slimmed(table)
        copies += table is not before
        table[-1] = 0  # and out again
        del table[-1]
        before = table
        table = slimmed(table)
        copies += table is not before
    assert copies < 10
