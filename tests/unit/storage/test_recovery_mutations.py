"""Recovery of directories that something has been at: it opens, or refuses in the documented way.

No matter what was done to the files: Corrupt or FormatUnknown, or a log that works and holds only
what was once put in. Nothing else may be raised, and no message may turn into another one.
"""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from braidmq.storage import Corrupt, FormatUnknown, StorageError
from braidmq.storage.tools import dump, verify
from tests.simdisk import SimDisk
from tests.unit.storage.support import DIRECTORY, Driver, check_bodies, reopened, settled_prefix
from tests.unit.storage.test_recovery import script


def made() -> Driver:
    driver = Driver(SimDisk())
    script(driver)
    return driver


MADE = made()
NAMES = MADE.disk.names()
EVER = {key for state in MADE.history for key in state}

mutation = st.one_of(
    st.tuples(st.just("flip"), st.sampled_from(NAMES), st.integers(0, 5000), st.integers(0, 7)),
    st.tuples(st.just("cut"), st.sampled_from(NAMES), st.integers(0, 5000)),
    st.tuples(st.just("append"), st.sampled_from(NAMES), st.binary(min_size=1, max_size=100)),
    st.tuples(st.just("zero"), st.sampled_from(NAMES), st.integers(0, 5000), st.integers(1, 600)),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("swap"), st.sampled_from(NAMES), st.sampled_from(NAMES)),
    st.tuples(st.just("double"), st.sampled_from(NAMES), st.integers(0, 5000)),
)


def mutate(disk: SimDisk, change: tuple) -> None:
    kind, name, *rest = change
    if name not in disk.names():
        return
    data = bytes(disk.content(name))
    if kind == "flip":
        if data:
            disk.damage(name, rest[0] % len(data), rest[1])
    elif kind == "cut":
        disk.replace(name, data[: rest[0]])
    elif kind == "append":
        disk.replace(name, data + rest[0])
    elif kind == "zero":
        disk.replace(name, data[: rest[0]] + bytes(rest[1]) + data[sum(rest) :])
    elif kind == "remove":
        disk.remove(name)
    elif kind == "swap" and rest[0] in disk.names():
        other = bytes(disk.content(rest[0]))
        disk.replace(rest[0], data)
        disk.replace(name, other)
    elif kind == "double":
        disk.replace(name, data + data[rest[0] :])


many = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@many
@given(st.lists(mutation, min_size=1, max_size=4))
def test_it_opens_or_is_refused_in_the_documented_way(changes):
    disk = MADE.disk.copy()
    for change in changes:
        mutate(disk, change)
    driver = reopened(MADE, disk)
    try:
        driver.open()
    except (Corrupt, FormatUnknown):
        return
    assert set(driver.ledger.slots) <= EVER
    assert set(driver.ledger.slots) == MADE.history[-1]  # it was closed: all was acknowledged
    try:
        check_bodies(driver)
    except Corrupt:
        pass  # below the checkpoint, damage is found when the record is wanted


@many
@given(st.lists(mutation, min_size=1, max_size=4))
def test_with_accept_loss_it_works_unless_nothing_says_where_to_begin(changes):
    disk = MADE.disk.copy()
    for change in changes:
        mutate(disk, change)
    driver = reopened(MADE, disk, accept_loss=True)
    try:
        driver.open()
    except (Corrupt, FormatUnknown) as error:
        assert "MANIFEST" in str(error) or "ckpt-" in str(error)
        return
    assert set(driver.ledger.slots) <= EVER
    settled_prefix(driver)
    driver.next_seq = 1000
    key = driver.publish(700)
    driver.commit()
    assert driver.errors == []
    assert driver.body(key)
    again = reopened(driver, driver.disk.after_kill())
    again.open()
    assert again.ledger.slots == driver.ledger.slots


@many
@given(st.lists(mutation, min_size=1, max_size=4))
def test_the_tools_only_look_and_never_fail(changes):
    disk = MADE.disk.copy()
    for change in changes:
        mutate(disk, change)
    try:
        result = list(verify(DIRECTORY, disk))[-1]
        rows = list(dump(DIRECTORY, disk=disk))
    except StorageError:
        return
    try:
        reopened(MADE, disk.copy()).open()
    except (Corrupt, FormatUnknown):
        assert result.problems
    assert all("lsn" in row and "type" in row for row in rows)
