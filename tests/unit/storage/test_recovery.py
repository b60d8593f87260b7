"""Recovery: crashes at every call of the disk, torn tails, damage, and what must be refused."""

import random
from collections.abc import Callable

import pytest

from braidmq.storage import Durability
from tests.simdisk import PowerCut, SimDisk
from tests.unit.storage.support import (
    Driver,
    check,
    check_bodies,
    reopened,
    rngs,
    settled_prefix,
)


def script(driver: Driver) -> None:
    """A workload that goes through everything a log does."""
    driver.open()
    first = [driver.publish() for _ in range(3)]
    driver.commit()
    driver.publish(700, copies=2)
    driver.publish(900)
    driver.wait()
    driver.publish(100)
    driver.settle()
    driver.acknowledge(first[0], first[2])
    driver.commit(Durability.OS)
    for _ in range(6):
        driver.publish(600)
        driver.wait(Durability.OS)
    driver.settle()
    driver.run(driver.log.housekeep())
    driver.run(driver.log.checkpoint())
    keys = sorted(key for key in driver.ledger.slots if key[0] == 1)
    driver.acknowledge(*keys[1:5])
    driver.commit()
    driver.publish(50)
    driver.run(driver.log.compact())
    driver.commit()
    driver.run(driver.log.checkpoint())
    driver.publish(1500)
    driver.publish(10)
    driver.commit()
    driver.run(driver.log.housekeep())
    driver.run(driver.log.housekeep())
    driver.log.close()


def crashed_at(call: int, work: Callable[[Driver], None] = script) -> Driver:
    driver = Driver(SimDisk())
    driver.disk.crash_at = call
    try:
        work(driver)
    except PowerCut:
        pass
    return driver


def calls_of_script() -> int:
    driver = Driver(SimDisk())
    script(driver)
    assert driver.log.statistics().segments > 2
    assert driver.log.statistics().compacted_bytes > 0
    assert driver.log.statistics().checkpoints == 2
    return driver.disk.calls


def test_a_power_cut_at_every_call_loses_nothing_acknowledged():
    calls = calls_of_script()
    assert calls > 60
    for call in range(calls):
        crashed = crashed_at(call)
        assert crashed.disk.faults["power cut"] == 1
        for rng in rngs(4, call):
            driver = reopened(crashed, crashed.disk.after_power_cut(rng))
            driver.open()
            check(driver)
            check_bodies(driver)


def test_after_a_kill_at_every_call_even_what_was_only_written_is_there():
    for call in range(calls_of_script()):
        crashed = crashed_at(call)
        driver = reopened(crashed, crashed.disk.after_kill())
        driver.open()
        check(driver, crashed.acknowledged_os)
        # What recovery has shown is served: from now on not even a power cut may take it.
        settled_prefix(driver)
        again = reopened(driver, driver.disk.after_power_cut(random.Random(call)))
        again.open()
        check(again)
        check_bodies(again)


@pytest.mark.slow
def test_a_crash_at_every_call_of_recovery_twice_loses_nothing():
    for call in range(0, calls_of_script()):
        crashed = crashed_at(call)
        for kill in (False, True):
            rng = random.Random(call)
            for step in range(100):
                found = crashed.disk.after_kill() if kill else None
                disk = (found or crashed.disk).after_power_cut(rng) if not kill else found
                assert disk is not None
                one = reopened(crashed, disk)
                disk.crash_at = step
                try:
                    one.open()
                except PowerCut:
                    pass
                finished = disk.crash_at >= disk.calls
                disk = disk.after_power_cut(rng)
                if step % 3 == 0:
                    two = reopened(crashed, disk)
                    disk.crash_at = step // 2
                    try:
                        two.open()
                    except PowerCut:
                        pass
                    disk = disk.after_power_cut(rng)
                last = reopened(crashed, disk)
                last.open()
                check(last)
                if finished:
                    break
            else:
                raise AssertionError("recovery never ends")


def test_work_goes_on_after_each_of_many_crashes():
    for seed in range(60):
        rng = random.Random(seed)
        driver = Driver(SimDisk())
        driver.open()
        for _ in range(6):
            driver.disk.crash_at = driver.disk.calls + rng.randrange(40)
            try:
                while True:
                    for _ in range(rng.randrange(1, 5)):
                        driver.publish(rng.choice([10, 100, 800, 2500]))
                    keys = sorted(driver.ledger.slots)
                    for key in rng.sample(keys, rng.randrange(min(len(keys), 4) + 1)):
                        driver.acknowledge(key)
                    driver.wait(rng.choice([Durability.SYNC, Durability.OS]))
                    if rng.random() < 0.7:
                        driver.settle()
                    if rng.random() < 0.15:
                        driver.run(driver.log.checkpoint())
                    if rng.random() < 0.15:
                        driver.run(driver.log.compact())
                    if rng.random() < 0.15:
                        driver.run(driver.log.housekeep())
            except PowerCut:
                pass
            disk = driver.disk.after_power_cut(rng)
            other = reopened(driver, disk)
            other.open()
            check(other)
            check_bodies(other)
            settled_prefix(other)
            driver = other
