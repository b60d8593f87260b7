"""The tree of errors: one code each, and a peer's code finds the class again."""

from braidmq.broker import errors
from braidmq.broker.errors import BraidError, QueueFull, at_step, error_from_code


def classes() -> list[type[BraidError]]:
    return [getattr(errors, name) for name in errors.__all__ if name[0].isupper()]


def test_every_error_has_a_code_of_its_own():
    codes = [kind.code for kind in classes()]
    assert len(set(codes)) == len(codes) == len(classes())


def test_code_finds_its_class():
    for kind in classes():
        error = error_from_code(kind.code, "why")
        assert type(error) is kind and str(error) == "why"
    assert type(error_from_code("queue-full", "")) is QueueFull
    assert type(error_from_code("of-a-later-version", "why")) is BraidError


def test_tree_in_the_docstring_is_the_tree():
    assert errors.__doc__ is not None
    for kind in classes():
        assert kind.__name__ in errors.__doc__ and kind.__doc__


def test_an_error_of_a_step_says_which_one_it_is_about():
    for kind in classes():
        error = at_step(kind("why"), 2, "send 'q'")
        assert type(error) is kind and error.step == 2
        assert str(error) == "step 3, send 'q': why"
    assert str(at_step(QueueFull("why"), 0)) == "step 1: why"
