"""Data directories that earlier versions wrote: they open, and say what they said then."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest

from braidmq.storage import FileLog
from braidmq.storage.frame import VERSION
from braidmq.storage.tools import verify
from tests.unit.storage.make_golden import DATA, Recorder, described, write

FORMATS = sorted(DATA.glob("format-*"))


def test_there_is_one_for_every_format():
    assert [path.name for path in FORMATS] == [f"format-{n + 1}" for n in range(VERSION)]


@pytest.mark.parametrize("path", FORMATS, ids=lambda path: path.name)
def test_it_opens_and_says_what_it_said(path: Path, tmp_path: Path):
    directory = tmp_path / "data"
    shutil.copytree(path / "data", directory)
    expected = json.loads((path / "expected.json").read_text())
    assert described(directory) == expected["records"]
    assert list(verify(str(directory)))[-1].problems == []
    recorder = Recorder()
    log = FileLog(str(directory), ballast_bytes=0, disk_free_bytes_min=0)
    report = log.open(recorder)
    log.close()
    assert recorder.handed == expected["handed"]
    assert (report.epoch, report.bytes_dropped) == (3, 0)
    # From now on an older version refuses it.
    assert (
        msgspec.msgpack.decode((directory / "shard-00/MANIFEST").read_bytes()[8:])["version"]
        == VERSION
    )


def test_this_version_still_writes_its_format_byte_by_byte(tmp_path: Path):
    write(tmp_path / "data")
    golden = DATA / f"format-{VERSION}" / "data"
    names = {path.relative_to(golden) for path in golden.rglob("*") if path.is_file()}
    assert names == {
        path.relative_to(tmp_path / "data")
        for path in (tmp_path / "data").rglob("*")
        if path.is_file()
    }
    for name in sorted(names):
        assert (golden / name).read_bytes() == (tmp_path / "data" / name).read_bytes(), (
            f"{name} has changed: see the recipe in storage/frame.py"
        )
