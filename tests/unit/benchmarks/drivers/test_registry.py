"""Every driver is found by its schemes."""

import pytest

from braidmq.benchmarks.drivers.registry import DRIVERS, driver_for


def test_every_scheme_has_one_driver():
    schemes = [scheme for driver in DRIVERS for scheme in driver.schemes]
    assert len(schemes) == len(set(schemes))
    for driver in DRIVERS:
        for scheme in driver.schemes:
            assert driver_for(f"{scheme}://127.0.0.1:1") is driver


def test_a_protocol_that_nobody_speaks():
    with pytest.raises(ValueError, match="no driver speaks gopher://"):
        driver_for("gopher://127.0.0.1:70")
