"""The options that commands share, and the types of their values.

``@common`` gives a command ``--json`` and ``-q`` and passes it an ``Output``; ``@remote`` adds
where the broker is, and passes a ``Target``. Both end errors in ``app.py``, not here.
"""

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from ...broker.config import duration_ms, size_bytes
from ...broker.errors import InvalidArgument
from .output import Output

__all__ = ["common", "confirm", "duration", "examples", "remote", "size", "yes_option"]

Command = Callable[..., Any]


def duration(value: str | int) -> int:
    """The type of an option: a duration, in ms."""
    return _number(value, duration_ms)


def size(value: str | int) -> int:
    """The type of an option: a size in bytes."""
    return _number(value, size_bytes)


def _number(value: str | int, read: Callable[[str], int]) -> int:
    if isinstance(value, int):
        return value
    try:
        return 0 if value == "0" else read(value)
    except InvalidArgument as error:
        raise click.BadParameter(str(error)) from None


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print results only: no notes, no heads.")
_REMOTE = (
    click.option(
        "--url",
        metavar="URL",
        envvar="BRAIDMQ_URL",
        show_envvar=True,
        help="The broker, as braid://HOST:PORT. Default: the context in use, else this machine.",
    ),
    click.option(
        "--context",
        metavar="NAME",
        envvar="BRAIDMQ_CONTEXT",
        show_envvar=True,
        help="A saved broker; see braidmq context.",
    ),
    click.option(
        "--user", metavar="NAME", envvar="BRAIDMQ_USER", show_envvar=True, help="Who you are."
    ),
    click.option(
        "--password-file",
        metavar="FILE",
        envvar="BRAIDMQ_PASSWORD_FILE",
        show_envvar=True,
        type=click.Path(dir_okay=False, allow_dash=True),
        help="A file with your password in its first line; - is stdin.",
    ),
    click.option(
        "--ca-file",
        metavar="FILE",
        envvar="BRAIDMQ_CA_FILE",
        show_envvar=True,
        help="For braids://: who may have signed the broker's certificate, PEM.",
    ),
)

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")


def common(function: Command) -> Command:
    """Give a command ``--json`` and ``-q``; it gets ``output``."""

    @wraps(function)
    def command(*args: Any, as_json: bool, quiet: bool, **values: Any) -> Any:
        return function(*args, output=Output(as_json, quiet), **values)

    return _JSON(_QUIET(command))


def remote(function: Command) -> Command:
    """``@common``, and where the broker is; the command gets ``output`` and ``target``."""

    @wraps(function)
    def command(
        *args: Any,
        url: str | None,
        context: str | None,
        user: str | None,
        password_file: str | None,
        ca_file: str | None,
        **values: Any,
    ) -> Any:
        from .target import find_target

        target = find_target(url, context, user, password_file, ca_file)
        return function(*args, target=target, **values)

    decorated: Command = command
    for option in reversed(_REMOTE):
        decorated = option(decorated)
    return common(decorated)


def examples(text: str) -> str:
    """The last part of a command's help, kept as it is written."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def confirm(question: str, yes: bool) -> None:
    """Go on only when the person says so, or said so with --yes."""
    from .failures import CommandFailed

    if yes:
        return
    if not sys.stdin.isatty():
        raise CommandFailed(
            "this cannot be undone, and there is nobody to ask", "add --yes", 2, "not-confirmed"
        )
    if not click.confirm(question, err=True):
        raise CommandFailed("nothing was done", "", 1, "not-confirmed")
