"""The options that commands share."""

import click
import pytest

from braidmq.protocols.cli.app import COMMANDS, app
from braidmq.protocols.cli.failures import CommandFailed
from braidmq.protocols.cli.options import confirm, duration, examples, size


def leaves() -> list[tuple[str, ...]]:
    """Every command as it is typed."""
    found: list[tuple[str, ...]] = []
    context = click.Context(app)
    for rows in COMMANDS.values():
        for name in rows.keys() - {"bench"}:  # the load tool has its own tests
            command = app.get_command(context, name)
            if isinstance(command, click.Group):
                found += [(name, inner) for inner in command.list_commands(context)]
            else:
                found.append((name,))
    return sorted(found)


def command_at(path: tuple[str, ...]) -> click.Command:
    command: click.Command = app
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


@pytest.mark.parametrize("path", leaves(), ids=" ".join)
def test_every_command_has_json_quiet_and_examples(path, offline):
    command = command_at(path)
    flags = {flag for option in command.params for flag in option.opts}
    assert {"--json", "-q"} <= flags
    shown = offline.ok(*path, "--help")
    assert "Examples:" in shown and f"braidmq {' '.join(path)}" in shown.split("Examples:")[1]
    assert command.help


@pytest.mark.parametrize("path", leaves(), ids=" ".join)
def test_every_option_is_explained(path):
    unexplained = [
        option.name
        for option in command_at(path).params
        if isinstance(option, click.Option) and not option.help and option.name != "help"
    ]
    assert set(unexplained) <= {"count", "interval", "state"}


def test_types():
    assert (duration("1m"), duration("0"), duration(7), size("1KiB"), size(7)) == (
        60_000,
        0,
        7,
        1_024,
        7,
    )
    for read in (duration, size):
        with pytest.raises(click.BadParameter):
            read("x")


def test_examples_keep_their_lines():
    assert examples("\n    one\n    two\n") == "\b\nExamples:\n  one\n  two"


def test_confirm(monkeypatch):
    confirm("?", yes=True)
    with pytest.raises(CommandFailed, match="nobody to ask"):
        confirm("?", yes=False)

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(click, "confirm", lambda *args, **more: True)
    confirm("?", yes=False)
    monkeypatch.setattr(click, "confirm", lambda *args, **more: False)
    with pytest.raises(CommandFailed, match="nothing was done"):
        confirm("?", yes=False)
