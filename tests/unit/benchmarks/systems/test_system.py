"""What is told of a broker that serves, by every system: without starting any."""

import contextlib
from urllib.parse import urlsplit

import pytest

from braidmq.benchmarks.drivers.registry import driver_for
from braidmq.benchmarks.peer import PeerProcess
from braidmq.benchmarks.server import ServerProcess
from braidmq.benchmarks.systems.registry import LACKS, SYSTEMS
from braidmq.benchmarks.systems.system import Running

SCHEMES_OF_OURS = ("braid", "mqtt", "stomp", "braids", "mqtts", "stomps")


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch):
    def start_peer(self):
        self.ports = list(range(1, 1 + self.listeners))

    def start_ours(self):
        ports = enumerate(SCHEMES_OF_OURS, 1)
        self.urls = [f"{scheme}://127.0.0.1:{port}" for port, scheme in ports]

    monkeypatch.setattr(PeerProcess, "start", start_peer)
    monkeypatch.setattr(ServerProcess, "start", start_ours)


def run(name, directory, durable) -> Running:
    with contextlib.ExitStack() as stack:
        return SYSTEMS[name].start(stack, str(directory), durable)


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_serves_each_scheme_with_tls_where_its_driver_and_itself_have_it(name, tmp_path):
    pytest.importorskip("trustme")
    running = run(name, tmp_path, durable=True)
    assert set(running.urls) == SYSTEMS[name].schemes
    has_tls = {
        scheme
        for scheme, url in running.urls.items()
        if "tls" in driver_for(url).features - LACKS.get((name, scheme), frozenset())
    }
    assert set(running.tls_urls) == has_tls
    assert bool(running.tls_ca) == bool(has_tls)
    for urls in (running.urls, running.tls_urls):
        for scheme, url in urls.items():
            assert urlsplit(url).scheme == scheme and urlsplit(url).port
    assert not set(running.urls.values()) & set(running.tls_urls.values())


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_a_confirmation_means_is_told(name, tmp_path):
    (tmp_path / "durable").mkdir()
    durable = run(name, tmp_path / "durable", durable=True).settings["durability"]
    other = run(name, tmp_path, durable=False).settings["durability"]
    assert durable and other
    assert (durable == other) == (name == "amqtt"), "which keeps nothing on disk"
