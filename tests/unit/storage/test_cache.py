"""The caches: found by position, bounded by bytes, nothing dropped that is not written yet."""

from braidmq.storage import Extent
from braidmq.storage.cache import ExtentCache, FrameCache
from braidmq.storage.commit import Frame
from braidmq.storage.segment import EXTENT_BYTES


def frames(count: int, size: int = 1000) -> list[Frame]:
    result = []
    lsn = 0
    for _ in range(count):
        result.append(Frame(lsn, [bytes(size)], size, 1))
        lsn = result[-1].end
    return result


def test_a_frame_is_found_by_every_position_in_it():
    cache = FrameCache(1 << 20)
    made = frames(10)
    for frame in made:
        cache.add(frame, 0)
    for frame in made:
        for lsn in (frame.lsn, frame.lsn + 64, frame.end - 1):
            extent = cache.find(lsn)
            assert extent is not None and extent.start == frame.lsn + 64
    assert cache.find(made[-1].end) is None
    assert cache.find(-1) is None


def test_the_oldest_frames_go_when_the_limit_is_reached():
    cache = FrameCache(20_000)
    made = frames(100)
    for frame in made:
        cache.add(frame, frame.lsn)
        assert cache.bytes <= 20_000
    assert cache.find(made[0].lsn) is None
    assert cache.find(made[-1].lsn) is not None
    kept = [frame for frame in made if cache.find(frame.lsn) is not None]
    assert kept == made[-len(kept) :]
    assert len(kept) >= 10


def test_a_frame_is_never_dropped_before_it_is_written():
    cache = FrameCache(5000)
    made = frames(50)
    for frame in made:
        cache.add(frame, made[3].lsn)
    assert cache.find(made[2].lsn) is None
    assert all(cache.find(frame.lsn) is not None for frame in made[3:])
    assert cache.bytes > 5000
    cache.add(Frame(made[-1].end, [bytes(10)], 10, 1), made[-1].end)
    assert cache.bytes <= 5000


def test_a_frame_without_records_takes_no_room():
    cache = FrameCache(5000)
    cache.add(Frame(0, [], 0, 0), 0)
    assert cache.bytes == 0


def extent(start: int, size: int) -> Extent:
    return Extent(start, start + size, bytes(size))


def test_extents_go_when_they_were_not_used_for_longest():
    cache = ExtentCache(10 * EXTENT_BYTES)
    step = EXTENT_BYTES
    for number in range(30):
        cache.add(extent(number * step, step))
        assert cache.bytes <= cache.bytes_max
        assert cache.find(0) is not None  # used all the time
    assert cache.find(step) is None
    assert cache.find(29 * step + 5) is not None
    assert cache.find(30 * step) is None
    assert cache.find(-1) is None


def test_the_same_extent_twice_counts_once():
    cache = ExtentCache(10 * EXTENT_BYTES)
    cache.add(extent(100, 1000))
    size = cache.bytes
    cache.add(extent(100, 1000))
    assert cache.bytes == size


def test_one_huge_record_does_not_drive_out_the_others():
    cache = ExtentCache(10 * EXTENT_BYTES)
    cache.add(extent(0, 1000))
    cache.add(extent(5000, 2 * EXTENT_BYTES))
    assert cache.find(0) is not None
    assert cache.find(5000) is None
