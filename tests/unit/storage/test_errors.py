"""The tree of errors, as its docstring draws it."""

from braidmq.storage import errors
from braidmq.storage.errors import Corrupt, StorageError


def test_every_error_is_a_storage_error_and_is_drawn():
    for name in errors.__all__:
        kind = getattr(errors, name)
        assert issubclass(kind, StorageError)
        assert name in (errors.__doc__ or "")
        assert kind.__doc__


def test_corrupt_says_where():
    error = Corrupt(4711, "the frame there fails its CRC")
    assert (error.lsn, error.reason) == (4711, "the frame there fails its CRC")
    assert str(error) == "damaged at lsn 4711: the frame there fails its CRC"
