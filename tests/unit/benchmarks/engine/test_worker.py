"""Load processes, as they are run: against our own daemon, with what can go wrong."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from zlib import decompress

import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.drivers.native import NativeDriver
from braidmq.benchmarks.engine.task import Order, Report, Step, Task, decode_line
from braidmq.benchmarks.histogram import Histogram
from braidmq.benchmarks.systems.braidmq import BraidMQSystem
from braidmq.benchmarks.systems.system import Running
from tests.unit.benchmarks.engine.load_support import LoadProcess, body, go_together

DRIVER = NativeDriver()
_TIMES: dict[str, Any] = {"warmup_seconds": 0.1, "seconds": 0.2}
_KEYS = ("a", "b", "c", "d")

Tasks = Callable[..., tuple[Task, Task]]


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with contextlib.ExitStack() as stack:
        yield BraidMQSystem().start(stack, str(tmp_path_factory.mktemp("daemon")), True)


@pytest.fixture
def wiring(broker: Running, request: pytest.FixtureRequest) -> Wiring:
    wiring = Wiring(url=broker.urls["braid"], names=(request.node.name[:60].split("[")[0],))
    DRIVER.declare(wiring)
    return wiring


def sent(report: Report) -> int:
    return sum(account.sent for account in report.accounts)


def seen(report: Report, share: int = 0) -> dict[int, int]:
    """How many came of each producer, none of which is missing."""
    assert not any(each.beyond for each in report.seen[share].values())
    return {number: each.below for number, each in report.seen[share].items()}


def exchange(producers: Task, consumers: Task) -> tuple[Report, Report]:
    """What both report of a run."""
    with LoadProcess(consumers) as consuming, LoadProcess(producers) as producing:
        go_together(consuming, producing)
        report = producing.report()
        consuming.await_arrival(sent(report) * len(set(consumers.share or (0,))))
        return report, consuming.finish()


def assert_sound(produced: Report, consumed: Report) -> None:
    for report in (produced, consumed):
        assert report.problems == []
        assert report.duplicate == report.reordered == report.corrupt == report.refused == 0
    accounts = produced.accounts
    assert all(account.confirmed == account.sent and not account.unsure for account in accounts)
    assert seen(consumed) == {account.producer: account.sent for account in accounts}
    assert produced.published > 0 and produced.confirmed > 0 and consumed.received > 0
    assert consumed.received_all == sent(produced)


@pytest.mark.parametrize(
    "load",
    [
        {"steps": (Step(0.3, 2000),)},
        {"steps": (Step(0.3, 2000),), "arrivals": "poisson"},
        {"steps": (Step(0.1, 1000), Step(0.2, 4000)), "batch": 10},
        {"window": 10},
        {"window": 200, "batch": 50, "sizes": (30, 5_000, 200)},
        {"window": 10, "messages": 150},
    ],
    ids=["open", "poisson", "ramp", "closed", "batches", "messages"],
)
def test_queue(wiring: Wiring, load: dict[str, Any]) -> None:
    wirings = (wiring, wiring)
    produced, consumed = exchange(
        Task(role="producers", wirings=wirings, **{**_TIMES, **load}, first_number=3),
        Task(role="consumers", wirings=wirings, **_TIMES),
    )
    if "messages" in load:
        assert sent(produced) == 150
        produced.published = produced.confirmed = consumed.received = 1  # the window may be later
    elif "steps" in load:
        due = sum(step.seconds * step.per_second for step in load["steps"])
        assert sent(produced) == pytest.approx(due, rel=0.3)
        assert "lag" in produced.latency
    assert_sound(produced, consumed)
    assert {account.producer for account in produced.accounts} == {3, 4}
    if consumed.latency:
        assert Histogram.load(consumed.latency["delivery"]).smallest > 0


def test_processes_share_producers_and_consumers(wiring: Wiring) -> None:
    with contextlib.ExitStack() as stack:

        def start(**changes: Any) -> LoadProcess:
            return stack.enter_context(LoadProcess(Task(wirings=(wiring,), **_TIMES, **changes)))

        consumers = [start(role="consumers") for _ in range(2)]
        producers = [
            start(
                role="producers",
                steps=(Step(0.3, 1000),),
                share_place=place,
                share_clients=2,
                first_number=place,
            )
            for place in range(2)
        ]
        go_together(*consumers, *producers)
        produced = [each.report() for each in producers]
        assert [sent(report) for report in produced] == [150, 150]
        came: dict[int, int] = {0: 0, 1: 0}
        end = time.monotonic() + 20
        while sum(each.distinct_all for c in consumers for each in c.progress[-1:]) < 300:
            assert time.monotonic() < end
            for consumer in consumers:
                consumer.say(Order(poll=True))
                line = consumer.hear()
                assert line.progress is not None
                consumer.progress.append(line.progress)
        for consumer in consumers:
            for number, part in consumer.finish().seen[0].items():
                came[number] += part.below + (
                    decompress(part.beyond).count(1) if part.beyond else 0
                )
        assert came == {0: 150, 1: 150}


@pytest.mark.parametrize("kind", ["topic", "stream"])
def test_everyone_gets_everything(broker: Running, kind: Any) -> None:
    wiring = Wiring(url=broker.urls["braid"], kind=kind, names=(f"all.{kind}",))
    DRIVER.declare(wiring)
    produced, consumed = exchange(
        Task(role="producers", wirings=(wiring,), steps=(Step(0.3, 500),), **_TIMES),
        Task(role="consumers", wirings=(wiring,) * 3, share=(0, 1, 2), **_TIMES),
    )
    assert consumed.problems == []
    for share in range(3):
        assert seen(consumed, share) == {0: sent(produced)}
    assert consumed.received_all == 3 * sent(produced)


def test_keys_keep_order_among_consumers(broker: Running) -> None:
    wiring = Wiring(url=broker.urls["braid"], kind="fifo", names=("keys",), prefetch=20)
    DRIVER.declare(wiring)
    assert_sound(
        *exchange(
            Task(role="producers", wirings=(wiring,), window=50, keys=_KEYS, **_TIMES),
            Task(role="consumers", wirings=(wiring,) * 2, keys=_KEYS, ack_batch=3, **_TIMES),
        )
    )


def test_delay_work_and_tls(broker: Running) -> None:
    if not broker.tls_urls:
        pytest.skip("no certificate could be made")
    url = broker.tls_urls["braid"]
    wiring = Wiring(url=url, tls_ca=broker.tls_ca, names=("tls",), prefetch=5)
    DRIVER.declare(wiring)
    produced, consumed = exchange(
        Task(role="producers", wirings=(wiring,), steps=(Step(0.3, 200),), delay_ms=20, **_TIMES),
        Task(role="consumers", wirings=(wiring,) * 2, delay_ms=20, work_ms=1, **_TIMES),
    )
    assert_sound(produced, consumed)
    assert consumed.main == "delay"
    assert consumed.early == 0
    assert consumed.latency["delay"]


def test_poisoned_messages_end_as_dead_letters(broker: Running) -> None:
    wiring = Wiring(
        url=broker.urls["braid"], names=("sick",), dead_letter="sick.dead", receives_max=2
    )
    DRIVER.declare(wiring)
    dead = Wiring(url=broker.urls["braid"], names=("sick.dead",))
    undertaker = Task(role="consumers", wirings=(dead,), **_TIMES)
    with LoadProcess(undertaker) as burying:
        burying.go()
        with LoadProcess(
            Task(role="consumers", wirings=(wiring,), reject_percent=10, **_TIMES)
        ) as consuming:
            consuming.go()
            with LoadProcess(
                Task(role="producers", wirings=(wiring,), window=10, messages=200, **_TIMES)
            ) as producing:
                assert sent(producing.go().report()) == 200
            consuming.await_arrival(180)
            burying.await_arrival(20)
            kept, buried = consuming.finish(), burying.finish()
    assert (kept.rejected, kept.duplicate, kept.received_all) == (40, 0, 180)
    assert (buried.received_all, buried.duplicate) == (20, 0)


def test_requests_get_their_replies(wiring: Wiring) -> None:
    names = tuple(f"{wiring.names[0]}.{number}" for number in range(2))
    back = Wiring(url=wiring.url, names=names)
    DRIVER.declare(back)
    mine = tuple(Wiring(url=wiring.url, names=(name,)) for name in names)
    with (
        LoadProcess(Task(role="echo", wirings=(wiring,), replies=(back,), **_TIMES)) as answering,
        LoadProcess(
            Task(
                role="requesters",
                wirings=(wiring, wiring),
                replies=mine,
                steps=(Step(0.3, 400),),
                **_TIMES,
            )
        ) as asking,
    ):
        go_together(answering, asking)
        report = asking.report()
        assert seen(report) == {0: 60, 1: 60}
        assert {"reply", "response", "service", "lag"} == set(report.latency)
        assert report.main == "reply"
        answered = answering.finish()
    assert answered.problems == report.problems == []
    assert answered.received_all == 120


@pytest.mark.parametrize(("held", "is_tls"), [(0, False), (30, False), (0, True), (30, True)])
def test_connections(broker: Running, held: int, is_tls: bool) -> None:
    wiring = Wiring(url=broker.urls["braid"])
    if is_tls:
        if not broker.tls_urls:
            pytest.skip("no certificate could be made")
        wiring = Wiring(url=broker.tls_urls["braid"], tls_ca=broker.tls_ca)
    times: dict[str, Any] = {"warmup_seconds": 0, "seconds": 0.3}
    task = Task(
        role="connections", wirings=(wiring,), steps=(Step(0.3, 200),), connections=held, **times
    )
    process = LoadProcess(task)
    with process:
        process.go()
        if held:
            while process.hear().progress is None:
                pass
            process.say(Order(finish=True))
        report = process.report()
        assert process.end() == 0
    assert report.clients == held
    assert Histogram.load(report.latency["connect"]).count == (held or 60)
    assert report.problems == []


def planted(wiring: Wiring, bodies: list[bytes], sound: int) -> Report:
    """What a consumer reports of bodies that were put there, so many of them sound and new."""
    with LoadProcess(Task(role="consumers", wirings=(wiring,), **_TIMES)) as process:
        process.go()
        producer = DRIVER.producer(wiring)
        producer.publish(bodies)
        producer.socket.setblocking(True)
        producer.socket.sendall(producer.out)
        producer.out.clear()
        producer.socket.recv(1)
        producer.close()
        process.await_arrival(sound)
        return process.finish()


def test_planted_faults_are_found(wiring: Wiring) -> None:
    changed = bytearray(body(7))
    changed[60] ^= 1
    bodies = [*map(body, (0, 1, 1, 3, 2, 5)), bytes(changed), b"what nobody sent", body(6, 4)]
    report = planted(wiring, bodies, sound=6)
    assert report.received_all == 9
    assert (report.duplicate, report.reordered, report.corrupt) == (1, 1, 2)
    assert report.seen[0][0].below == 0 or report.seen[0][0].below == 4
    came = bytes(report.seen[0][0].below * [1]) + decompress(report.seen[0][0].beyond)
    assert came.rstrip(b"\0") == bytes([1, 1, 1, 1, 0, 1])  # 4 is lost
    assert 4 in report.seen[0]  # a producer that there is none of


def test_killed_broker_comes_back_and_nothing_confirmed_is_lost(tmp_path: Any) -> None:
    with contextlib.ExitStack() as stack:
        running = BraidMQSystem().start(stack, str(tmp_path), True)
        wiring = Wiring(url=running.urls["braid"], names=("restart",))
        DRIVER.declare(wiring)
        times: dict[str, Any] = {"warmup_seconds": 0, "seconds": 60.0, "reconnects": True}
        steps = (Step(60, 1000),)
        consuming = LoadProcess(Task(role="consumers", wirings=(wiring,), **times))
        producing = LoadProcess(Task(role="producers", wirings=(wiring,), steps=steps, **times))
        with consuming, producing:
            go_together(consuming, producing)
            time.sleep(0.2)
            assert running.restart is not None
            running.restart()
            for process in (consuming, producing):
                while not (process.progress and process.progress[-1].clients):
                    process.say(Order(poll=True))
                    line = process.hear()
                    process.progress += [line.progress] if line.progress else []
            time.sleep(0.2)
            produced = producing.finish()
            consuming.await_arrival(produced.accounts[0].confirmed)
            consumed = consuming.finish()
    account = produced.accounts[0]
    assert produced.reconnects == consumed.reconnects == 1
    assert produced.problems == consumed.problems == []
    came = consumed.seen[0][0]
    there = b"\1" * came.below + (decompress(came.beyond) if came.beyond else b"")
    unsure = {n for first, last in account.unsure for n in range(first, last + 1)}
    missing = {n for n in range(account.sent) if not there[n : n + 1].strip(b"\0")}
    assert missing <= unsure
    assert account.confirmed + len(unsure) == account.sent


def test_daemon_that_dies_is_reported(tmp_path: Any) -> None:
    with contextlib.ExitStack() as stack:
        running = BraidMQSystem().start(stack, str(tmp_path), True)
        wiring = Wiring(url=running.urls["braid"], names=("dies",))
        DRIVER.declare(wiring)
        times: dict[str, Any] = {"warmup_seconds": 0, "seconds": 60.0}
        with (
            LoadProcess(Task(role="consumers", wirings=(wiring,), **times)) as consuming,
            LoadProcess(Task(role="producers", wirings=(wiring,), window=5, **times)) as producing,
        ):
            go_together(consuming, producing)
            os.kill(running.pid, signal.SIGKILL)
            for process, who in ((consuming, "consumer"), (producing, "producer")):
                problem = process.report().problems[0]
                assert problem.startswith(f"a {who} was disconnected: ")


def test_broker_that_never_answers_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"braid://127.0.0.1:{server.getsockname()[1]}"
        wiring = Wiring(url=url, names=("mute",))
        task = Task(role="producers", wirings=(wiring,), window=2, patience_seconds=0.05, **_TIMES)
        with LoadProcess(task) as process:
            client, _ = server.accept()
            client.recv(1000)
            client.sendall(b"\0\0\0\x09\x97\x41\x01\x01\xa1b\x01\x01\x80")
            report = process.go().report()
            client.close()
    assert report.accounts[0].unsure == [(0, 1)]
    assert report.series[0].published == 2  # while warming up, so not in the window
    assert Histogram.load(report.series[0].latency).count == 2


@pytest.mark.parametrize("is_begun", [False, True])
def test_process_ends_with_its_input(wiring: Wiring, is_begun: bool) -> None:
    process = LoadProcess(Task(role="consumers", wirings=(wiring,), **_TIMES))
    with process:
        if is_begun:
            process.go()
        else:
            process.ready()
        assert process.end() == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "braid://127.0.0.1:1"}, "refused"),
        ({"names": ("nothing",)}, "not-found"),
        ({"url": "gopher://127.0.0.1:1"}, "no driver speaks gopher"),
    ],
)
def test_process_that_cannot_begin_says_why(
    broker: Running, changes: dict[str, Any], words: str
) -> None:
    wiring = Wiring(**{"url": broker.urls["braid"], **changes})
    with LoadProcess(Task(role="consumers", wirings=(wiring,))) as process:
        assert words in process.hear().failed


def test_task_that_is_none() -> None:
    with LoadProcess(Order(go=1)) as process:  # type: ignore[arg-type]
        assert "unknown field" in process.hear().failed


def test_system_without_epoll_is_named() -> None:
    code = (
        "import select; del select.epoll;from braidmq.benchmarks.engine.worker import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "only Linux has" in decode_line(done.stdout.encode()).failed
