"""MANIFEST and checkpoint files: they come back, or are refused with the exact reason."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.storage import Corrupt
from braidmq.storage.checkpoint import (
    KIND_MAX,
    SEGMENTS,
    CheckpointFile,
    Manifest,
    SegmentEntry,
    Task,
    checkpoint_header,
    checkpoint_name,
    create_anew,
    decode_segment_table,
    is_checkpoint_name,
    publish_checkpoint,
    read_checkpoint,
    read_manifest,
    unlink_all,
    write_manifest,
)
from tests.simdisk import PowerCut, SimDisk

u32 = st.integers(0, 2**32 - 1)
u60 = st.integers(0, 2**60)
manifests = st.builds(
    Manifest,
    instance=st.binary(min_size=8, max_size=8),
    epoch=u32,
    checkpoint=st.one_of(st.just(""), st.builds(checkpoint_name, u60)),
    replay_lsn=u60,
    prev_crc=u32,
    durable_lsn=u60,
    gaps=st.lists(st.tuples(u60, u60), max_size=3),
)


@given(manifests, manifests)
def test_a_manifest_comes_back_and_is_replaced(first, second):
    disk = SimDisk()
    for manifest in (first, second):
        write_manifest(disk, "/d", manifest)
        assert read_manifest(disk, "/d") == manifest
    assert disk.names() == ["/d/MANIFEST"]


@given(st.binary(max_size=100))
def test_garbage_is_no_manifest(content):
    disk = SimDisk()
    disk.pwrite(disk.create("/d/MANIFEST"), 0, [content])
    with pytest.raises(Corrupt, match="MANIFEST is damaged"):
        read_manifest(disk, "/d")


def test_a_cut_at_every_call_leaves_the_old_manifest_or_the_new():
    one, two = Manifest(instance=b"12345678", epoch=1), Manifest(instance=b"12345678", epoch=2)
    for call in range(5):
        for seed in range(20):
            disk = SimDisk()
            write_manifest(disk, "/d", one)
            disk.crash_at = disk.calls + call
            with pytest.raises(PowerCut):
                write_manifest(disk, "/d", two)
            found = disk.after_power_cut(random.Random(seed))
            assert read_manifest(found, "/d") in (one, two)
            write_manifest(found, "/d", two)  # over whatever is left
            assert read_manifest(found, "/d") == two


sections = st.lists(st.tuples(st.integers(0, KIND_MAX), st.binary(max_size=2000)), max_size=10)
entries = st.lists(st.builds(SegmentEntry, u60, u60, u32, u60), max_size=5)


def written(parts: list[tuple[int, bytes]], table: list[SegmentEntry]) -> tuple[SimDisk, Manifest]:
    disk = SimDisk()
    manifest = Manifest(
        instance=b"12345678", epoch=3, checkpoint=checkpoint_name(4096), replay_lsn=4096
    )
    handle = create_anew(disk, f"/d/{manifest.checkpoint}")
    output = CheckpointFile(disk, handle, checkpoint_header(4096, 3))
    for kind, content in parts:
        for job in output.add(kind, content):
            if job is not None:
                job()
    for job in output.finish(table):
        assert job is not None
        job()
    publish_checkpoint(disk, "/d", handle, manifest)
    assert output.size == disk.size(f"/d/{manifest.checkpoint}")
    return disk, manifest


@given(sections, entries)
def test_sections_come_back_in_order(parts, table):
    disk, manifest = written(parts, table)
    *found, (kind, content) = read_checkpoint(disk, "/d", manifest)
    assert found == parts
    assert kind == SEGMENTS
    assert decode_segment_table(content) == table


def test_large_sections_are_written_in_chunks_and_read_through_windows():
    rng = random.Random(1)
    sizes = [10, 300_000, 5_000_000, 0, 1_048_570, 3]
    parts = [(number, rng.randbytes(size)) for number, size in enumerate(sizes)]
    disk, manifest = written(parts, [])
    assert list(read_checkpoint(disk, "/d", manifest))[:-1] == parts


def test_another_checkpoint_under_that_name_is_refused():
    disk, manifest = written([(1, b"x")], [])
    manifest.replay_lsn = 8192
    with pytest.raises(Corrupt, match="is not the checkpoint that MANIFEST names"):
        list(read_checkpoint(disk, "/d", manifest))


def test_sections_taken_out_of_the_middle_are_missed():
    disk, manifest = written([(1, b"x" * 8)] * 3, [])
    path = f"/d/{manifest.checkpoint}"
    whole = bytes(disk.content(path))
    disk.replace(path, whole[:24] + whole[24 + 20 :])
    with pytest.raises(Corrupt, match="lacks sections"):
        list(read_checkpoint(disk, "/d", manifest))


def test_what_a_failed_attempt_left_is_replaced():
    disk = SimDisk()
    disk.pwrite(create_anew(disk, "/d/file"), 0, [b"left"])
    create_anew(disk, "/d/file")
    assert disk.size("/d/file") == 0
    unlink_all(disk, "/d", ["file"])
    assert disk.names() == []


def test_a_task_keeps_its_outcome():
    task = Task(lambda: 7)
    task()
    assert task.result() == 7
    failing = Task(lambda: 1 / 0)
    failing()
    with pytest.raises(ZeroDivisionError):
        failing.result()


def test_names():
    assert checkpoint_name(255) == "ckpt-00000000000000ff.idx"
    assert is_checkpoint_name(checkpoint_name(1))
    assert not is_checkpoint_name("MANIFEST")
