"""``braidmq bench``: the load tool, when it is installed.

It lives in ``braidmq.benchmarks``, a storey above this one, so it is looked up by name.
"""

import importlib

import click

from .failures import CommandFailed

__all__ = ["bench"]

_MODULE = "...benchmarks.cli"


def _missing(reason: ImportError) -> click.Command:
    """A command that says what to install."""

    @click.command("bench", context_settings={"ignore_unknown_options": True})
    @click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
    def stub(arguments: tuple[str, ...]) -> None:
        """Put load on a broker and measure."""
        raise CommandFailed(
            f"the load tool is not installed: {reason}", "pip install 'braidmq[bench]'", 1
        )

    return stub


def _find() -> click.Command:
    try:
        found: click.Command = importlib.import_module(_MODULE, __package__).bench
    except ImportError as error:
        return _missing(error)
    return found


bench = _find()
