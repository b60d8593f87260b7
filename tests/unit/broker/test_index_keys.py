"""Keys of conditions: the fewest that all of several need, all that one of several needs."""

from braidmq.broker.index_keys import any_keys, fewest_keys, keys_of_texts

ONE = keys_of_texts(("a",), ["x"])
OTHER = keys_of_texts(("b", "c"), ["x"])
TWO = keys_of_texts(("a",), ["x", "y"])


def test_texts_make_pairs_of_path_and_text():
    keys = keys_of_texts(("b", "c"), ["x", "y", "x"])
    assert keys == frozenset({(("b", "c"), "x"), (("b", "c"), "y")})


def test_of_conditions_that_all_must_hold_the_fewest_keys_are_enough():
    assert fewest_keys([TWO, None, ONE, OTHER]) == ONE
    assert fewest_keys([None, TWO]) == TWO
    assert fewest_keys([None, None]) is None
    assert fewest_keys([]) is None


def test_of_conditions_of_which_one_must_hold_all_keys_are_needed():
    keys = any_keys([TWO, OTHER])
    assert keys == frozenset({(("a",), "x"), (("a",), "y"), (("b", "c"), "x")})
    assert any_keys([TWO, None]) is None
