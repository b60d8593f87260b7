"""braidmq bench: the load tool, or what to install."""

import click
import pytest

from braidmq.protocols.cli import bench as module
from braidmq.protocols.cli.failures import CommandFailed


def test_it_is_a_command():
    assert isinstance(module.bench, click.Command)


def test_a_missing_load_tool_says_what_to_install(monkeypatch):
    def missing(name, package):
        raise ImportError("No module named 'hdrh'")

    monkeypatch.setattr("importlib.import_module", missing)
    stub = module._find()
    with pytest.raises(CommandFailed) as caught:
        stub.main(["run", "--rate", "5"], standalone_mode=False)
    assert "hdrh" in caught.value.message and "braidmq[bench]" in caught.value.next_step
