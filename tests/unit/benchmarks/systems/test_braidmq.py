"""Our daemon with all its protocols, with TLS and without, killed and started again."""

import contextlib
import tomllib

import pytest

from braidmq.benchmarks.drivers.driver import Wiring
from braidmq.benchmarks.drivers.registry import driver_for
from braidmq.benchmarks.systems import braidmq
from braidmq.benchmarks.systems.braidmq import BraidMQSystem, configuration
from braidmq.benchmarks.systems.certificates import Certificate


def test_listeners_of_tls_have_the_certificate():
    files = Certificate("a.pem", "c.pem", 'k "1".pem')
    found = tomllib.loads(configuration(["mqtt://127.0.0.1:0", "mqtts://127.0.0.1:0"], files))
    assert found["listeners"] == [
        "mqtt://127.0.0.1:0",
        {"url": "mqtts://127.0.0.1:0", "tls_certificate": "c.pem", "tls_key": 'k "1".pem'},
    ]
    assert found["limits"] and found["mqtt"]


def test_it_serves_all_its_schemes_and_again_after_a_crash(tmp_path):
    system = BraidMQSystem()
    with contextlib.ExitStack() as stack:
        running = system.start(stack, str(tmp_path), durable=True)
        assert set(running.urls) == set(running.tls_urls) == system.schemes
        for _ in range(2):
            for scheme in system.schemes:
                for url, authority in (
                    (running.urls[scheme], ""),
                    (running.tls_urls[scheme], running.tls_ca),
                ):
                    wiring = Wiring(url=url, tls_ca=authority, client_id="me")
                    driver_for(url).connect(wiring).close()
            assert running.restart is not None
            assert running.restart() != running.pid


def test_without_certificates_there_is_no_tls(tmp_path, monkeypatch):
    monkeypatch.setattr(braidmq, "issue", lambda directory: None)
    with contextlib.ExitStack() as stack:
        running = BraidMQSystem().start(stack, str(tmp_path), durable=False)
        assert not running.tls_urls and not running.tls_ca
        assert "memory" in running.settings["durability"]
    with pytest.raises(ConnectionRefusedError):
        driver_for(running.urls["mqtt"]).connect(Wiring(url=running.urls["mqtt"]))
