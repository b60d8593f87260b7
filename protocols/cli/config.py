"""``braidmq config``: what the daemon would run with, before it does."""

import os
from typing import Any

import click

from ...broker.config import ConfigInvalid, dotted, flat
from .app import group
from .config_text import example, key_rows
from .failures import CommandFailed
from .loading import read_configuration
from .options import common, examples
from .output import Output, json_line

__all__ = ["config"]

config = group("Check, show and write the configuration.")

_FILE = click.argument("file", required=False, envvar="BRAIDMQ_CONFIG")


@config.command(
    "check",
    epilog=examples("""
        braidmq config check braidmq.toml
        BRAIDMQ_LIMITS__BODY_BYTES_MAX=1MiB braidmq config check --json
    """),
)
@_FILE
@common
def _check(output: Output, file: str | None) -> None:
    """Say whether the daemon would start with this file and this environment.

    Exit status 78, and every problem, when it would not. FILE is also BRAIDMQ_CONFIG.
    """
    try:
        loaded, warnings = read_configuration(file)
    except ConfigInvalid as error:
        if output.as_json:
            output.document({"valid": False, "problems": error.problems, "warnings": []})
        else:
            for problem in error.problems:
                click.echo(problem, err=True)
        count = len(error.problems)
        raise CommandFailed(
            f"{count} problem{'s' if count > 1 else ''} in the configuration",
            "docs/configuration.md has every key",
            78,
            "bad-config",
        ) from None
    for warning in warnings:
        output.warn(warning)
    output.document({"valid": True, "problems": [], "warnings": warnings})
    listeners = ", ".join(listener.url for listener in loaded.config.listeners)
    output.note(f"good: data in {loaded.config.data}, listens on {listeners}")


@config.command(
    "show",
    epilog=examples("""
        braidmq config show braidmq.toml --origin
        braidmq config show --json | jq '."limits.body_bytes_max"'
    """),
)
@_FILE
@click.option("--origin", is_flag=True, help="Say where each value comes from.")
@common
def _show(output: Output, file: str | None, origin: bool) -> None:
    """Show every value that the daemon would run with; secrets are hidden."""
    loaded, warnings = read_configuration(file)
    for warning in warnings:
        output.warn(warning)
    rows: list[dict[str, Any]] = [
        {"key": dotted(path), "value": value, "origin": loaded.origin(path)}
        for path, value in flat(loaded.config).items()
    ]
    if output.as_json:
        values = {row["key"]: row if origin else row["value"] for row in rows}
        output.raw(json_line(values))
    else:
        output.rows(rows, ("key", "value", "origin") if origin else ("key", "value"))


@config.command(
    "init",
    epilog=examples("""
        braidmq config init braidmq.toml
        braidmq config init | less
    """),
)
@click.argument("file", required=False)
@common
def _init(output: Output, file: str | None) -> None:
    """Write an example with every key and its default; to stdout without FILE."""
    text = example()
    if file is None:
        output.document({"toml": text}, text.rstrip("\n"))
        return
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandFailed(
            f"{file} is there already", "name another file", 5, "conflict"
        ) from None
    with os.fdopen(handle, "w") as opened:
        opened.write(text)
    output.document({"file": file})
    output.note(f"wrote {file}")


@config.command("keys", epilog=examples("braidmq config keys --json"))
@common
def _keys(output: Output) -> None:
    """List every key with its default, unit and meaning."""
    output.rows(key_rows(), ("key", "default", "unit", "meaning"))
