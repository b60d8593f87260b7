"""beanstalkd as a system: started with the durability that was asked for, and ended."""

import contextlib

import pytest

from braidmq.benchmarks.drivers.beanstalk import BeanstalkDriver
from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.systems import beanstalkd
from braidmq.benchmarks.systems.beanstalkd import BeanstalkdProcess, BeanstalkdSystem, version
from tests.bench_clients import check_restart

SYSTEM = BeanstalkdSystem()
installed = pytest.mark.skipif(bool(SYSTEM.why_not()), reason=SYSTEM.why_not())


def test_without_it_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(beanstalkd, "_find", lambda: "")
    assert version() == ""
    assert "apt install" in SYSTEM.why_not()
    with pytest.raises(ServerFailed, match="apt install"):
        BeanstalkdProcess(str(tmp_path), True).start()


@installed
def test_it_is_killed_and_started_again_on_its_data(tmp_path):
    running = check_restart(SYSTEM, BeanstalkDriver(), "beanstalk", str(tmp_path))
    assert "fsync" in running.settings["durability"]


@installed
def test_what_is_not_durable_says_so(tmp_path):
    with contextlib.ExitStack() as stack:
        running = SYSTEM.start(stack, str(tmp_path), False)
        assert "nothing is written" in running.settings["durability"]
