"""``braidmq log``: look into a data directory, whether or not a broker runs on it.

Nothing is written there.
"""

from collections.abc import Iterator
from typing import Any

import click
import msgspec

from .app import group
from .failures import CommandFailed
from .options import common, examples
from .output import Output, Progress, body_fields, json_line, printable, readable_bytes

__all__ = ["log"]

_PROBLEMS_SHOWN = 20
_BODY_BYTES_SHOWN = 60

log = group("Look into a data directory; nothing is written.")
_DIRECTORY = click.argument("directory", type=click.Path(exists=True, file_okay=False))


@log.command(
    "verify",
    epilog=examples("""
        braidmq log verify /var/lib/braidmq
        braidmq log verify ./backup --json
    """),
)
@_DIRECTORY
@common
def _verify(output: Output, directory: str) -> None:
    """Check every byte of a data directory.

    Exit status 74 when something is damaged that was acknowledged. A torn end is no damage: it
    was never acknowledged, and the next start drops it.
    """
    from ...storage.tools import Verification, verify

    progress = Progress(output, "verify", "bytes")
    result = Verification()
    for result in verify(directory):
        progress.update(result.bytes_done, result.bytes_total)
    progress.finish()
    fields: dict[str, Any] = msgspec.to_builtins(result)
    if output.as_json:
        output.raw(json_line({"event": "result"} | fields))
    else:
        problems = fields.pop("problems")
        for problem in problems[:_PROBLEMS_SHOWN]:
            click.echo(f"damaged: {printable(problem)}")
        if not output.quiet:
            output.fields(fields | {"problems": len(problems)})
    if result.holder:
        output.warn(f"in use by {result.holder}: the end of the log moves while this looks")
    if result.problems:
        raise CommandFailed(
            f"{len(result.problems)} problems in {directory}",
            "restore a backup, or lose what is damaged with braidmq serve --accept-loss",
            74,
            "damaged-log",
        )
    output.note(f"{directory} is intact: {readable_bytes(result.bytes_done)}")


@log.command(
    "dump",
    epilog=examples("""
        braidmq log dump /var/lib/braidmq | less
        braidmq log dump ./data --from 4096 --json | jq 'select(.type == "message")'
    """),
)
@_DIRECTORY
@click.option("--from", "first", type=int, default=0, metavar="LSN", help="Begin at that position.")
@click.option("--type", "kind", default="", metavar="TYPE", help="Only records of that type.")
@click.option("-n", "--count", type=click.IntRange(1), default=None, help="At most so many.")
@common
def _dump(output: Output, directory: str, first: int, kind: str, count: int | None) -> None:
    """Print every record of a data directory, one a line."""
    for number, record in enumerate(_records(directory, first, kind), 1):
        output.raw(json_line(_plain(record)) if output.as_json else _line(record))
        if number == count:
            break


def _records(directory: str, first: int, kind: str) -> Iterator[dict[str, object]]:
    from ...storage.tools import dump

    for record in dump(directory, first):
        if not kind or record["type"] == kind:
            yield record


def _plain(record: dict[str, object]) -> dict[str, object]:
    """A record for JSON: bytes as text, or as base64 under another name."""
    plain: dict[str, object] = {}
    for name, value in record.items():
        plain.update(body_fields(name, value) if isinstance(value, bytes) else {name: value})
    return plain


def _line(record: dict[str, object]) -> bytes:
    rest = dict(record)
    head = f"{rest.pop('lsn'):>12} {rest.pop('type'):<10}"
    fields = " ".join(f"{name}={_shown(value)}" for name, value in rest.items())
    return f"{head} {fields}\n".encode("utf-8", "backslashreplace")


def _shown(value: object) -> str:
    if not isinstance(value, bytes):
        return printable(str(value))
    cut = "..." if len(value) > _BODY_BYTES_SHOWN else ""
    return f"{value[:_BODY_BYTES_SHOWN]!r}{cut}"
