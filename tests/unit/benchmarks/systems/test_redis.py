"""Redis as a system: started with the durability that was asked for, and ended."""

import contextlib

import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.drivers.redis import RedisDriver
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.systems import redis
from braidmq.benchmarks.systems.redis import RedisProcess, RedisSystem, configuration, version
from tests.bench_clients import bodies_for, check_restart, connected, publish_all, receive

SYSTEM = RedisSystem()
installed = pytest.mark.skipif(bool(SYSTEM.why_not()), reason=SYSTEM.why_not())


def test_durability_is_in_the_configuration():
    assert "appendonly yes\nappendfsync always" in configuration([1], "x", "sync")
    assert "appendonly yes\nappendfsync everysec" in configuration([1], "x", "os")
    assert "appendonly no" in configuration([1], "x", "memory")


def test_without_it_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(redis, "_find", lambda: "")
    assert version() == ""
    assert "apt install" in SYSTEM.why_not()
    with pytest.raises(ServerFailed, match="apt install"):
        RedisProcess(str(tmp_path), "sync").start()


@installed
def test_it_is_killed_and_started_again_on_its_data(tmp_path):
    running = check_restart(SYSTEM, RedisDriver(), "redis", str(tmp_path))
    assert running.settings["appendfsync"] == "always"


@installed
def test_it_serves_tls(tmp_path):
    pytest.importorskip("trustme")
    driver = RedisDriver()
    bodies = bodies_for(10, 30_000)
    with contextlib.ExitStack() as stack:
        running = SYSTEM.start(stack, str(tmp_path), False)
        wiring = Wiring(url=running.tls_urls["redis"], names=("q",), tls_ca=running.tls_ca)
        driver.declare(wiring)
        with connected(driver.producer(wiring), driver.consumer(wiring)) as (producer, consumer):
            publish_all(producer, bodies)
            assert receive([consumer], 10)[0] == bodies


@installed
def test_what_is_not_durable_says_so(tmp_path):
    with contextlib.ExitStack() as stack:
        running = SYSTEM.start(stack, str(tmp_path), False)
        assert running.settings["appendonly"] == "no"
        assert "nothing is written" in running.settings["durability"]
