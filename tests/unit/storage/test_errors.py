"""The tree of errors, as its docstring draws it."""

from braidmq.storage import errors
from braidmq.storage.errors import ColdCorrupt, Corrupt, StorageError


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


def test_a_cold_file_says_where_too():
    error = ColdCorrupt("cold/00000001/a.seg", 40, "the frame there fails its CRC")
    assert (error.lsn, error.path, error.offset) == (0, "cold/00000001/a.seg", 40)
    assert str(error) == (
        "cold/00000001/a.seg is damaged at offset 40: the frame there fails its CRC"
    )
