"""A broker on an event loop: opening, closing, time, failure."""

import asyncio
import errno
import subprocess
import sys
import time

import pytest

from braidmq.broker import (
    Broker,
    BrokerFailed,
    Conflict,
    InvalidArgument,
    LeaseLost,
    Limits,
    Message,
    Queue,
    Unavailable,
    runtime,
)
from braidmq.broker.access import SYSTEM
from braidmq.broker.errors import BraidError
from braidmq.storage.disk import RealDisk
from braidmq.storage.errors import Locked
from braidmq.storage.filelog import FileLog
from braidmq.storage.memory import MemoryLog


async def take(queue: Queue, wait: float = 0, lease: float | None = None) -> Message:
    """Receive the message that must be there."""
    message = await queue.receive_one(wait, lease)
    assert message is not None
    return message


async def test_in_memory_nothing_is_on_disk(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with Broker() as broker:
        queue = await broker.declare_queue("q")
        await queue.send(b"x")
        assert (await take(queue)).body == b"x"
    assert not list(tmp_path.iterdir())


async def test_nothing_is_due_behind_the_last_checkpoint(tmp_path, monkeypatch):
    checkpoint = FileLog.checkpoint

    def slow(log):
        yield from checkpoint(log)
        yield lambda: time.sleep(0.02)  # a thread: meanwhile a timer of the loop could strike

    async with Broker(tmp_path / "data") as broker:
        await broker.declare_queue("q")
        await broker.schedule(b"x", queue="q", every=0.001, repeat=-1)
        monkeypatch.setattr(FileLog, "checkpoint", slow)
    async with Broker(tmp_path / "data") as broker:
        assert broker.report is not None and broker.report.bytes_replayed == 0
        assert (await take(broker.queue("q"), wait=10)).body == b"x"


async def test_what_was_sent_is_there_after_a_restart(tmp_path):
    async with Broker(tmp_path / "data") as broker:
        queue = await broker.declare_queue("q", max_receives=3, dead_letter="dead")
        await queue.send(b"x", headers={"a": "b"})
        await (await broker.declare_queue("fast", durability="memory")).send(b"gone")
        kept = await (await broker.declare_queue("os", durability="os")).send(b"y")
        instance = broker.instance
    async with Broker(str(tmp_path / "data")) as broker:
        assert broker.report is not None and broker.report.epoch == 2
        message = await take(broker.queue("q"))
        assert (message.body, message.headers) == (b"x", {"a": "b"})
        assert (await broker.queue("fast").info()).messages == 0
        await broker.queue("fast").send(b"again")
        assert (await take(broker.queue("fast"))).body == b"again"
        (browsed,) = [m async for m in broker.queue("os").browse()]
        assert broker.instance == instance
        assert browsed.id == kept.id
        assert [info.name async for info in broker.queues()] == ["dead", "fast", "os", "q"]


async def test_any_number_of_brokers_run_side_by_side(tmp_path):
    async with Broker() as one, Broker() as two, Broker(tmp_path / "3") as three:
        for number, broker in enumerate((one, two, three)):
            await (await broker.declare_queue("q")).send(b"%d" % number)
        assert one.instance != two.instance
        for number, broker in enumerate((one, two, three)):
            assert (await take(broker.queue("q"))).body == b"%d" % number


async def test_a_directory_has_one_broker(tmp_path):
    async with Broker(tmp_path / "data"):
        with pytest.raises(Locked):
            async with Broker(tmp_path / "data"):
                pass
    async with Broker(tmp_path / "data"):
        pass


async def test_a_broker_is_entered_once():
    broker = Broker()
    for use in (lambda: broker.core, lambda: broker.verbs, lambda: broker.instance):
        with pytest.raises(Unavailable, match="not open"):
            use()
    async with broker:
        with pytest.raises(Conflict):
            await broker.__aenter__()


async def test_wrong_arguments_are_refused_at_once():
    with pytest.raises(InvalidArgument):
        Broker(users=["ada"])  # type: ignore[list-item]


async def test_closing_ends_what_waits():
    broker = Broker()
    async with broker:
        queue = await broker.declare_queue("q")
        await queue.send(b"x")
        message = await take(queue)
        waiting = asyncio.ensure_future(queue.receive(wait=60))
        consumer = queue.consume()
        await consumer.__aenter__()
        looping = asyncio.ensure_future(anext(aiter(consumer)))
        await asyncio.sleep(0.01)
    for task in (waiting, looping):
        with pytest.raises(Unavailable, match="closed"):
            await task
    await consumer.close()
    for call in (queue.send(b"x"), queue.receive(), queue.info(), message.ack()):
        with pytest.raises(Unavailable, match="closed"):
            await call


async def test_cancelling_the_block_closes_properly(tmp_path):
    entered = asyncio.Event()

    async def run():
        async with Broker(tmp_path / "data") as broker:
            await broker.declare_queue("q")
            entered.set()
            await asyncio.sleep(3600)

    task = asyncio.ensure_future(run())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with Broker(tmp_path / "data") as broker:
        assert (await broker.queue("q").info()).messages == 0


async def test_cancelling_while_it_opens_lets_go_of_the_directory(tmp_path):
    task = asyncio.ensure_future(Broker(tmp_path / "data").__aenter__())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with Broker(tmp_path / "data"):
        pass


async def test_recovery_tells_its_progress():
    class SlowLog(MemoryLog):
        def open(self, replay, progress=None):
            progress(1, 2)
            return super().open(replay, progress)

    seen: list[tuple[int, int]] = []
    async with Broker(log=SlowLog(), progress=lambda done, total: seen.append((done, total))):
        assert seen == [(1, 2)]


# --- time ---


async def test_deadlines_are_met():
    async with Broker() as broker:
        queue = await broker.declare_queue("q", visibility_timeout=0.05)
        await queue.send(b"late", delay=0.03)
        await queue.send(b"now")
        assert (await take(queue, lease=3600)).body == b"now"
        assert (await take(queue, wait=60)).body == b"late"
        again = await take(queue, wait=60)
        assert (again.body, again.receives) == (b"late", 2)


async def test_an_earlier_deadline_moves_the_timer():
    async with Broker() as broker:
        queue = await broker.declare_queue("q")
        await queue.send(b"tomorrow", delay=86_400)
        await asyncio.sleep(0.01)
        await queue.send(b"soon", delay=0.02)
        assert (await take(queue, wait=60)).body == b"soon"


async def test_nobody_can_turn_the_clock_back(monkeypatch):
    async with Broker() as broker:
        before = broker.now_ms()
        assert abs(before - time.time() * 1000) < 60_000
        monkeypatch.setattr(time, "time", lambda: 0.0)
        assert before <= broker.now_ms() < before + 3_600_000


# --- failure ---


class BrokenDisk(RealDisk):
    """A disk that brings nothing to stable storage when told so."""

    broken = False

    def fdatasync(self, handle):
        if self.broken:
            raise OSError(errno.EIO, "injected")
        super().fdatasync(handle)

    def pwrite_durable(self, handle, offset, buffers):
        self.pwrite(handle, offset, buffers)
        self.fdatasync(handle)


async def test_a_broken_log_fails_everybody_and_says_so(tmp_path):
    disk = BrokenDisk()
    async with Broker(log=FileLog(str(tmp_path / "data"), disk=disk)) as broker:
        queue = await broker.declare_queue("q")
        await queue.send(b"kept")
        failed = asyncio.ensure_future(broker.failed())
        waiting = asyncio.ensure_future(broker.queue("q").receive(max=1, where="a = 1", wait=60))
        await asyncio.sleep(0.01)
        disk.broken = True
        with pytest.raises(BrokerFailed):
            await queue.send(b"lost")
        with pytest.raises(BrokerFailed):
            await waiting
        assert isinstance(await asyncio.wait_for(failed, 10), BrokerFailed)
        with pytest.raises(BrokerFailed):
            await queue.send(b"refused")
    async with Broker(tmp_path / "data") as broker:
        assert (await take(broker.queue("q"))).body == b"kept"


async def test_a_bug_in_the_core_stops_the_broker():
    problems: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: problems.append(what))
    async with Broker() as broker:
        queue = await broker.declare_queue("q")

        def run(now_ms):
            raise ZeroDivisionError("a bug")

        broker.core.run = run  # type: ignore[method-assign]
        broker.core.on_work()
        assert "a bug" in str(await asyncio.wait_for(broker.failed(), 10))
        with pytest.raises(BraidError):
            await queue.send(b"x")
    assert isinstance(problems[0]["exception"], ZeroDivisionError)


async def test_a_bug_in_a_sink_is_told_to_the_loop_and_harms_nobody_else():
    problems: list[dict] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, what: problems.append(what))

    class Broken:
        def deliver(self, consumer, deliveries):
            raise ZeroDivisionError("a bug")

        def closed(self, consumer, error):
            pass

    async with Broker() as broker:
        queue = await broker.declare_queue("q")
        broker.core.consume(SYSTEM, "q", Broken(), 1, "", None, broker.now_ms())
        await queue.send(b"x")
        assert (await take(queue, 10)).receives == 2
    (problem,) = problems
    assert isinstance(problem["exception"], ZeroDivisionError)


# --- housekeeping ---


class BusyLog(MemoryLog):
    """A log that always has something to do."""

    def __init__(self):
        super().__init__()
        self.done: list[str] = []

    def _job(self, name):
        yield None
        yield lambda: self.done.append(name)

    def housekeep(self):
        return self._job("housekeep")

    def checkpoint_due(self):
        return "checkpoint" not in self.done

    def checkpoint(self):
        return self._job("checkpoint")

    def compaction_due(self):
        return "compact" not in self.done

    def compact(self):
        return self._job("compact")


async def test_the_house_is_kept(monkeypatch):
    monkeypatch.setattr(runtime, "_HOUSEKEEPING_SECONDS", 0.005)
    log = BusyLog()
    async with Broker(log=log):
        async with asyncio.timeout(10):
            while "compact" not in log.done:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert log.done[:2] == ["housekeep", "checkpoint"]
        log.done.clear()
    assert log.done[-1] == "checkpoint"


async def test_a_full_disk_does_not_end_housekeeping(monkeypatch, caplog):
    from braidmq.storage.errors import DiskFull

    monkeypatch.setattr(runtime, "_HOUSEKEEPING_SECONDS", 0.005)

    class FullLog(BusyLog):
        def checkpoint(self):
            if self.done.count("housekeep") < 3:
                raise DiskFull("no room")
            return self._job("checkpoint")

    log = FullLog()
    async with Broker(log=log):
        async with asyncio.timeout(10):
            while "checkpoint" not in log.done:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
    assert "no room" in caplog.text


# --- local verbs ---


async def test_deliveries_that_nobody_waits_for_go_back():
    async with Broker() as broker:
        queue = await broker.declare_queue("q")
        waiting = asyncio.ensure_future(broker.verbs.receive("q", 10, 60_000))
        await asyncio.sleep(0.01)
        # The messages arrive in the very turn in which the task is cancelled.
        await broker.verbs.send("q", [])
        sending = asyncio.ensure_future(queue.send(b"x"))
        while not (await queue.info()).in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await sending
        message = await take(queue, wait=60)
        assert message.receives == 1


async def test_leases_end_with_their_consumer():
    async with Broker() as broker:
        queue = await broker.declare_queue("q")
        await queue.send(b"x")
        consumption = await broker.verbs.consume("q", 10)
        (delivery,) = await consumption.next()
        await consumption.close()
        (error,) = await broker.verbs.ack("q", [delivery.receipt])
        assert isinstance(error, LeaseLost)


async def test_limits_are_the_brokers():
    limits = Limits(queues_max=1)
    async with Broker(limits=limits) as broker:
        assert broker.limits is limits
        await broker.declare_queue("a")
        with pytest.raises(BraidError):
            await broker.declare_queue("b")


# --- importing ---


def imported_by(statement):
    code = f"import sys; {statement}; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_importing_the_broker_is_light():
    assert not imported_by("import braidmq.broker") & {"asyncio", "msgspec", "logging"}
    heavy = {"uvloop", "click", "argon2", "cryptography", "braidmq.protocols"}
    assert not imported_by("from braidmq.broker import Broker") & heavy


def test_every_exported_name_can_be_had():
    import braidmq.broker as package

    assert sorted(package.__all__) == package.__all__ == dir(package)
    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError):
        package.nothing  # noqa: B018
