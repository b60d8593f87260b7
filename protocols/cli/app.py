"""The command ``braidmq``: the table of its commands, each imported only when it runs.

Starting has to be quick, also for ``--help`` and completion, so the table repeats the one-line
help of each command; a test compares them.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import click

from .failures import Failure, failure_of
from .output import json_line, printable

__all__ = ["COMMANDS", "LazyGroup", "Root", "app", "group"]

# section -> name -> (module, help)
COMMANDS: dict[str, dict[str, tuple[str, str]]] = {
    "Messages": {
        "send": ("send", "Send messages to a queue."),
        "receive": ("receive", "Receive messages, print them, and acknowledge them."),
        "peek": ("peek", "Look at messages without receiving them."),
        "ack": ("receive", "Acknowledge messages that were received with --no-ack."),
        "nack": ("receive", "Give back messages that were received with --no-ack."),
        "publish": ("publish", "Publish messages to a topic."),
        "subscribe": ("subscribe", "Print messages of topics as they come, until Ctrl-C."),
        "schedule": ("schedule", "Send messages later, once, often or by a cron expression."),
    },
    "Queues": {
        "queue": ("queue", "List, make, change, empty and remove queues."),
    },
    "Topics": {
        "topic": ("topic", "Bind topics to queues and streams, list what they retain."),
        "session": ("session", "List, show and end the sessions of clients."),
        "webhook": ("webhook", "Post messages to others over HTTP."),
    },
    "Streams": {
        "stream": ("stream", "Make, change and remove streams; append and read records."),
        "group": ("group", "List, show, reset and remove consumer groups."),
    },
    "Broker": {
        "serve": ("serve", "Run the broker."),
        "config": ("config", "Check, show and write the configuration."),
        "user": ("user", "Make users for the configuration."),
        "log": ("log", "Look into a data directory; nothing is written."),
        "ping": ("status", "Measure the way to the broker and back."),
        "health": ("status", "Say whether the broker works."),
    },
    "Tools": {
        "bench": ("bench", "Put load on a broker and measure."),
        "context": ("context", "Keep the addresses of brokers under names."),
        "completion": ("completion", "Print the completion script for a shell."),
        "version": ("status", "Print versions."),
    },
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and helps, and imports a command to run it."""

    def __init__(
        self, table: dict[str, dict[str, tuple[str, str]]], *args: Any, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.table = table
        self.modules = {name: row for section in table.values() for name, row in section.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.modules:
            return None
        module = importlib.import_module(f".{self.modules[cmd_name][0]}", __package__)
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.modules))
        for section, rows in self.table.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), row[1]) for name, row in rows.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        _check_command(self, ctx, args)
        return super().resolve_command(ctx, args)


class _Group(click.Group):
    """A group whose commands are in its own module."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        _check_command(self, ctx, args)
        return super().resolve_command(ctx, args)


def _check_command(own: click.Group, ctx: click.Context, args: list[str]) -> None:
    known = own.list_commands(ctx)
    if args and args[0] not in known and not args[0].startswith("-"):
        near = get_close_matches(args[0], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known)}"
        ctx.fail(f"no command {printable(args[0])!r}; {hint}")


def group(help_text: str) -> click.Group:
    """An empty group, to be filled with ``@group.command(...)``."""
    return _Group(help=help_text, context_settings=_SETTINGS)


class Root(LazyGroup):
    """The top: turns every error into a message and an exit status."""

    def main(self, *args: Any, **extra: Any) -> Any:
        extra["standalone_mode"] = False
        extra.setdefault("prog_name", "braidmq")
        given = extra.get("args", args[0] if args else None)
        argv: Sequence[str] = sys.argv[1:] if given is None else list(given)
        try:
            result = super().main(*args, **extra)
            status = result if isinstance(result, int) else 0
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            status = failure.exit_status
            if failure.text.startswith("Usage: "):  # a group without a command: it is the help
                click.echo(failure.text, err=True)
            else:
                _report(failure, _wants_json(argv))
        sys.exit(status)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has what it wanted. Python would complain once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(141)
        return result if isinstance(result, int) else 0


def _wants_json(argv: Sequence[str]) -> bool:
    before_end = argv[: argv.index("--")] if "--" in argv else argv
    return "--json" in before_end


def _report(failure: Failure, as_json: bool) -> None:
    if as_json:
        report = {"error": failure.code, "message": failure.text, "next": failure.next_step}
        sys.stderr.buffer.write(json_line(report))
        sys.stderr.flush()
        return
    head = click.style("error: ", fg="red")
    colour = False if os.environ.get("NO_COLOR") else None
    click.echo(head + printable(failure.text, keep="\n"), err=True, color=colour)
    if failure.next_step:
        click.echo(f"  {failure.next_step}", err=True, color=colour)


_SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
}

app = click.version_option(
    package_name="braidmq", message="%(prog)s %(version)s", help="Print the version and exit."
)(
    Root(
        COMMANDS,
        name="braidmq",
        help="BraidMQ: one message broker, one append-only log.",
        epilog="Every command has --help with examples, and --json for programs.",
        context_settings=_SETTINGS,
    )
)
