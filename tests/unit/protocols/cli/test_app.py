"""The command itself: lazy, helpful, and one exit status for one kind of failure."""

import json
import subprocess
import sys
from importlib import metadata

import pytest

from braidmq.protocols.cli.app import COMMANDS, app

NAMES = [name for rows in COMMANDS.values() for name in rows]
# What starting must not load: the help and the completion of a shell wait for it.
HEAVY = ["asyncio", "anyio", "uvloop", "braidmq.broker.core", "braidmq.protocols.server"]


def test_the_table_has_the_help_of_each_command():
    import click

    context = click.Context(app)
    for rows in COMMANDS.values():
        for name, (_, help_text) in rows.items():
            command = app.get_command(context, name)
            assert command is not None and command.help is not None
            assert command.help.splitlines()[0].rstrip(".") == help_text.rstrip("."), name


def test_help_lists_every_command_by_section(offline):
    shown = offline.ok("--help")
    for section, rows in COMMANDS.items():
        assert f"{section}:" in shown and all(f"  {name}" in shown for name in rows)


def test_the_version_is_that_of_the_package(offline):
    assert offline.ok("--version") == f"braidmq {metadata.version('braidmq')}\n"


def test_help_loads_no_command():
    program = (
        "import sys; sys.argv = ['braidmq', '--help']\n"
        "from braidmq.protocols.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if 'braidmq.protocols.cli.' in name])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    *_, modules, heavy = done.stdout.splitlines()
    own = {name.rsplit(".", 1)[1] for name in eval_list(modules)}
    assert own == {"app", "failures", "output"}
    assert eval_list(heavy) == []


def eval_list(text: str) -> list[str]:
    return list(json.loads(text.replace("'", '"')))


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["sned"], "no command 'sned'; did you mean send?"),
        (["zzzzzz"], "no command 'zzzzzz'; known: send, receive,"),
        (["a\x1b"], "no command 'a\\\\x1b'"),
        (["queue", "lss"], "no command 'lss'; did you mean ls?"),
        (["send", "q", "--prioriti", "1"], "--priority"),
        (["send"], "Missing argument 'QUEUE'"),
    ],
)
def test_usage_errors_help(offline, args, expected):
    error = offline.fails(2, *args)
    assert error.startswith("error: ") and expected in error
    assert "--help" in error


def test_no_command_shows_the_help(offline):
    for args in ([], ["queue"], ["config"]):
        assert "Usage: braidmq" in offline.fails(2, *args)


def test_errors_are_json_with_json(offline):
    error = json.loads(offline.fails(2, "queue", "lss", "--json"))
    assert error["error"] == "usage" and error["next"] == "braidmq queue --help"
    assert set(error) == {"error", "message", "next"}
    assert offline.fails(2, "queue", "lss", "--", "--json").startswith("error: ")


def test_an_unreachable_broker_is_69(offline):
    error = offline.fails(69, "queue", "ls", "--url", "braid://127.0.0.1:1")
    assert "braidmq serve" in error


def test_a_bug_is_not_hidden(offline, monkeypatch):
    monkeypatch.setattr("braidmq.protocols.cli.status._version_of", lambda name: 1 / 0)
    assert isinstance(offline("version").exception, ZeroDivisionError)
