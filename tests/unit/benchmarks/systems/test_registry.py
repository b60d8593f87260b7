"""Every system says what it is, whether it is installed here or not."""

import pytest

from braidmq.benchmarks.drivers.registry import SCHEMES, driver_of
from braidmq.benchmarks.systems.registry import LACKS, SYSTEMS


@pytest.mark.parametrize("name", SYSTEMS)
def test_what_a_system_says_of_itself(name: str):
    system = SYSTEMS[name]
    assert system.name == name
    assert system.schemes
    assert system.schemes <= set(SCHEMES)
    reason = system.why_not()
    if reason:
        assert "install" in reason, "what would help has to be said"
    else:
        assert system.version()


@pytest.mark.parametrize(("name", "scheme"), LACKS)
def test_only_what_a_driver_has_can_lack(name: str, scheme: str):
    assert scheme in SYSTEMS[name].schemes
    driver = driver_of(scheme)
    assert LACKS[name, scheme] <= driver.kinds | driver.features
