"""Every driver is found by its schemes, and imported when it is wanted."""

import subprocess
import sys

import pytest

from braidmq.benchmarks.drivers.registry import SCHEMES, driver_for, driver_of
from braidmq.benchmarks.systems.registry import SYSTEMS


def test_every_scheme_has_a_driver_and_somebody_who_serves_it():
    for scheme in SCHEMES:
        assert driver_for(f"{scheme}://127.0.0.1:1") is driver_of(scheme)
    assert set().union(*(system.schemes for system in SYSTEMS.values())) == set(SCHEMES)


def test_a_protocol_that_nobody_speaks():
    with pytest.raises(ValueError, match="no driver speaks gopher://"):
        driver_for("gopher://127.0.0.1:70")


def test_a_load_process_imports_no_driver_that_it_does_not_need():
    program = (
        "import sys\n"
        "import braidmq.benchmarks.engine.worker\n"
        "from braidmq.benchmarks.drivers.registry import driver_of\n"
        "driver_of('redis')\n"
        "print(*(name for name in sys.modules if name.startswith('braidmq.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    modules = set(done.stdout.split())
    assert "braidmq.benchmarks.drivers.redis" in modules
    assert not modules & {"braidmq.benchmarks.drivers.native", "braidmq.broker", "braidmq.storage"}
