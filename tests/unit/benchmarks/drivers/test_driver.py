"""Every driver keeps the contract, as far as it can be seen without a broker."""

import typing

import pytest

from braidmq.benchmarks.drivers.driver import Driver, Kind, Wiring
from braidmq.benchmarks.drivers.registry import DRIVERS

FEATURES = {
    *("confirms", "batches", "keys", "delay", "reject", "retain", "wildcards", "groups", "tls"),
    *("qos2", "dead_letters"),
}


@pytest.mark.parametrize("driver", DRIVERS, ids=lambda driver: "+".join(sorted(driver.schemes)))
def test_what_a_driver_says_of_itself(driver: Driver):
    assert driver.schemes
    assert driver.kinds
    assert driver.kinds <= set(typing.get_args(Kind))
    assert driver.features <= FEATURES


def test_a_client_is_wired_once():
    wiring = Wiring(url="mqtt://127.0.0.1:1")
    with pytest.raises(AttributeError):
        wiring.qos = 2  # type: ignore[misc]
