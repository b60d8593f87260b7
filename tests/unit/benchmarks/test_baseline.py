"""The baseline measures something, and leaves nothing behind."""

import asyncio

from braidmq.benchmarks.baseline import GroupCommit, disk_sync, measure, start


def test_every_part_is_measured(tmp_path):
    found = measure(str(tmp_path), 0.02, 100)
    assert found.sync_p50_ms > 0 < found.sync_per_second
    assert (found.one.clients, found.hundred.clients, found.windows.window) == (1, 100, 20)
    for each in (found.one, found.hundred, found.windows):
        assert each.messages >= each.clients * each.window
        assert each.per_second > 0 < each.p50_ms
    assert list(tmp_path.iterdir()) == []


def test_it_runs_in_a_process_of_its_own(tmp_path):
    assert start(str(tmp_path), 0.02, 100).one.messages > 0


def test_syncs_are_counted_until_the_time_is_over(tmp_path):
    assert len(disk_sync(str(tmp_path / "file"), 0.02)) > 0


async def test_what_was_waited_for_is_in_the_file(tmp_path):
    path = tmp_path / "log"
    log = GroupCommit(str(path), asyncio.get_running_loop())
    bodies = [b"one", b"two", b"three"]
    await asyncio.gather(*[log.append(1, body) for body in bodies])
    content = path.read_bytes()
    assert all(body in content for body in bodies)
    log.close()
