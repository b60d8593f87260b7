"""Compaction: mostly dead segments go, nothing that is needed does, whatever happens meanwhile."""

import random

import pytest

from braidmq.storage import Corrupt
from braidmq.storage.compaction import worth_compacting
from braidmq.storage.segment import Segment
from tests.simdisk import PowerCut, SimDisk
from tests.unit.storage.support import Driver, check, check_bodies, reopened


def sparse(keep: int = 4, **options) -> Driver:
    """Many segments, one message in ``keep`` alive."""
    driver = Driver(SimDisk(), **options)
    driver.open()
    for number in range(80):
        key = driver.publish(200, copies=2 if number % 8 == 0 else 1)
        if number % keep:
            driver.acknowledge(key)
        if number % 3 == 0:
            driver.commit()
    driver.commit()
    return driver


def compact_all(driver: Driver) -> None:
    while driver.log.compaction_due():
        driver.run(driver.log.compact())


def test_mostly_dead_segments_go_after_the_next_checkpoint():
    driver = sparse()
    before = driver.log.statistics()
    assert before.bytes_live_estimate < before.bytes_in_segments / 2
    compact_all(driver)
    driver.run(driver.log.checkpoint())
    after = driver.log.statistics()
    assert after.compacted_bytes > 0
    assert after.segments < before.segments / 2
    assert after.bytes_in_segments < before.bytes_in_segments / 2
    check(driver)
    check_bodies(driver)
    again = reopened(driver, driver.disk.after_power_cut(random.Random(1)), cache_bytes_max=0)
    again.open()
    assert again.ledger.slots == driver.ledger.slots
    check_bodies(again)


def test_it_works_on_what_was_recovered_too():
    driver = sparse()
    driver.run(driver.log.checkpoint())
    again = reopened(driver, driver.disk.after_kill())
    again.open()
    assert again.log.compaction_due()
    compact_all(again)
    again.run(again.log.checkpoint())
    assert again.log.statistics().segments < driver.log.statistics().segments
    check_bodies(again)


def test_links_are_moved_with_their_attributes():
    driver = Driver(SimDisk())
    driver.open()
    for _ in range(12):
        key = driver.publish(300)
        target = driver.link(key, 9)
        if key[1] % 5:
            driver.acknowledge(target)
        driver.commit()
    compact_all(driver)
    assert driver.log.statistics().compacted_bytes > 0
    driver.commit()
    again = reopened(driver, driver.disk.after_kill())
    again.open()
    assert again.ledger.slots == driver.ledger.slots


def test_each_segment_is_tried_once():
    driver = sparse()
    driver.ledger.references = lambda first, end: iter(())  # type: ignore[method-assign]
    for _ in range(100):
        if not driver.log.compaction_due():
            break
        driver.run(driver.log.compact())
    assert not driver.log.compaction_due()
    assert driver.log.statistics().compacted_bytes == 0
    check_bodies(driver)


def test_what_dies_while_it_is_moved_stays_dead():
    for seed in range(20):
        rng = random.Random(seed)
        driver = sparse()

        def step(rng=rng, driver=driver) -> None:
            keys = sorted(driver.ledger.slots)
            if keys and rng.random() < 0.7:
                driver.acknowledge(rng.choice(keys))
            driver.settle()

        while driver.log.compaction_due():
            for job in driver.log.compact():
                step()
                if job is not None:
                    job()
                step()
        driver.commit()
        live = sum(segment.live for segment in driver.log._segments.items)
        assert live == len(driver.ledger.slots)  # every reference is accounted for
        again = reopened(driver, driver.disk.after_power_cut(rng))
        again.open()
        assert again.ledger.slots == driver.ledger.slots
        check_bodies(again)


def test_a_crash_anywhere_in_it_loses_nothing_and_doubles_nothing():
    calls = 0
    for step in range(400):
        driver = sparse(cache_bytes_max=2000)
        first = driver.disk.calls
        driver.disk.crash_at = first + step
        try:
            compact_all(driver)
            driver.run(driver.log.checkpoint())
        except PowerCut:
            pass
        else:
            calls = step
            break
        again = reopened(driver, driver.disk.after_power_cut(random.Random(step)))
        again.open()
        check(again)
        check_bodies(again)
    assert calls > 8


def test_a_damaged_record_stops_it_and_says_where():
    driver = sparse(cache_bytes_max=0)
    segment = driver.log._compactable()
    assert segment is not None
    lsn = min(lsn for lsn in driver.ledger.slots.values() if segment.base <= lsn < segment.end)
    driver.disk.damage(f"/data/shard-00/{segment.name}", lsn - segment.base + 40)
    with pytest.raises(Corrupt) as caught:
        driver.run(driver.log.compact())
    assert caught.value.lsn == lsn
    check(driver)


def made(base: int, live: int, total: int) -> Segment:
    segment = Segment(base, 1, base + 100)
    segment.live, segment.total = live, total
    return segment


def test_the_deadest_sealed_durable_segment_is_chosen():
    segments = [
        made(0, 60, 100),  # too much alive
        made(100, 40, 100),
        made(200, 5, 20),
        made(300, 0, 10),  # dead: the next checkpoint takes it
        made(400, 1, 100),  # active
    ]
    assert worth_compacting(segments, 500, ()) is segments[2]
    assert worth_compacting(segments, 500, {200}) is segments[1]
    assert worth_compacting(segments, 250, ()) is segments[1]
    assert worth_compacting(segments, 150, ()) is None
    assert worth_compacting(segments[:1], 500, ()) is None
