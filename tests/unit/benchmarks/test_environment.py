"""The machine describes itself."""

from braidmq.benchmarks.environment import describe, filesystem


def test_everything_is_known_here(tmp_path):
    found = describe(str(tmp_path))
    assert found.cores >= 1
    assert found.cpu and found.kernel
    assert found.python.count(".") == 2
    assert set(found.versions) >= {"braidmq", "uvloop", "msgspec"}


def test_the_filesystem_is_that_of_the_longest_mount():
    assert filesystem("/proc/self") in ("proc", "")
