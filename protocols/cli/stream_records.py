"""``braidmq stream append``, ``read`` and ``tail``: records in, records out."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ...broker.errors import BraidError
from ...broker.streams import Appending
from .bodies import lines_read, packed_headers
from .failures import CommandFailed
from .options import duration, examples, remote
from .output import Output, json_line
from .record_format import RECORD_FORMAT_HELP, START_HELP, RecordFormatter, record_start
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.recordreader import ReadStart, RecordBatch
    from ...broker.streams import Position

__all__ = ["append", "read", "tail"]

_BATCH = 1_000


# --- append ---


@click.command(
    "append",
    epilog=examples(r"""
        braidmq stream append clicks '{"page": "/"}' --key user-1
        tail -f access.ndjson | braidmq stream append clicks --key-from-json user
    """),
)
@click.argument("name")
@click.argument("bodies", metavar="[BODY]...", nargs=-1)
@click.option("--key", default="", help="The partition key: records with the same stay in order.")
@click.option(
    "--key-from-json",
    "field",
    metavar="FIELD",
    help="Take the key from that field of each record, which is a JSON object; a.b goes down.",
)
@click.option("--hash-key", default="", help="Where to go, 0 to 2^128-1, instead of the key's MD5.")
@click.option(
    "-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="Can be repeated."
)
@click.option("--content-type", metavar="TYPE", help="Sets the header content-type.")
@remote
def append(
    target: Target,
    output: Output,
    name: str,
    bodies: tuple[str, ...],
    key: str,
    field: str | None,
    hash_key: str,
    headers: Sequence[str],
    content_type: str | None,
) -> None:
    """Append records: each BODY, or without one each line of stdin.

    Prints the shard and the number of each record.
    """
    if key and field:
        raise click.UsageError("--key and --key-from-json exclude each other")
    if hash_key and not (hash_key.isascii() and hash_key.isdigit() and len(hash_key) < 40):
        raise click.BadParameter("a hash key is a decimal number", param_hint="--hash-key")
    if not bodies and sys.stdin.isatty():
        raise click.UsageError("there is no record: give BODY, or pipe lines in")
    made = _Columns(key, field, hash_key, packed_headers(headers, content_type))
    given = [body.encode("utf-8", "surrogateescape") for body in bodies]
    run(target, lambda broker: _append_all(broker, name, given, sys.stdin.buffer, made, output))


class _Columns:
    """What goes with the bodies."""

    def __init__(self, key: str, field: str | None, hash_key: str, headers: bytes) -> None:
        self._key = key.encode("utf-8", "surrogateescape")
        self._field = field
        self._hash_key = int(hash_key) if hash_key else None
        self._headers = headers

    def batch(self, bodies: list[bytes], tried: int) -> Appending:
        """A batch of these bodies, after ``tried`` others."""
        count = len(bodies)
        keys = [self._key] * count
        if self._field is not None:
            keys = [_json_key(body, self._field, n) for n, body in enumerate(bodies, tried + 1)]
        return Appending(
            bodies,
            keys,
            [self._headers] * count if self._headers else None,
            None if self._hash_key is None else [self._hash_key] * count,
        )


def _json_key(body: bytes, field: str, number: int) -> bytes:
    """The text or number that stands in a field."""
    try:
        value = json.loads(body)
        for part in field.split("."):
            value = value[part]
        if not isinstance(value, str | int) or isinstance(value, bool):
            raise TypeError(f"{field} is neither text nor a whole number")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        what = f"no field {field}" if isinstance(error, KeyError) else str(error)
        raise CommandFailed(f"record {number}: {what}", "see --help", 2, "usage") from None
    return str(value).encode()


async def _append_all(
    broker: "BrokerFace",
    name: str,
    given: list[bytes],
    source: BinaryIO,
    made: _Columns,
    output: Output,
) -> None:
    """Append what there is to read at once, and go on until the end, or the first failure."""
    most = min(_BATCH, broker.limits.batch_messages_max)
    appended = tried = 0
    try:
        async for lines in _given_or_read(given, source):
            for first in range(0, len(lines), most):
                bodies = lines[first : first + most]
                results = await broker.verbs.append(name, made.batch(bodies, tried))
                good = [each for each in results if not isinstance(each, BraidError)]
                appended += len(good)
                output.raw(_places(good, output.as_json))
                for number, result in enumerate(results, tried + 1):
                    if isinstance(result, BraidError):
                        raise type(result)(f"record {number}: {result}")
                tried += len(results)
    finally:
        output.note(f"appended {appended} records")


async def _given_or_read(given: list[bytes], source: BinaryIO) -> Any:
    if given:
        yield given
        return
    async for lines in lines_read(source):
        yield lines


def _places(positions: "Sequence[Position]", as_json: bool) -> bytes:
    if as_json:
        return b"".join([json_line({"shard": s, "number": n}) for s, n in positions])
    return b"".join([b"%d:%d\n" % position for position in positions])


# --- read and tail ---

_SHARD = click.option("--shard", type=click.IntRange(0), default=None, help="Default: all of them.")
_COUNT = click.option(
    "-n", "--count", type=click.IntRange(1), default=None, help="Stop after so many."
)
_FORMAT = click.option(
    "--format", "template", default=r"%b\n", show_default=True, help=RECORD_FORMAT_HELP
)


@click.command(
    "read",
    epilog=examples(r"""
        braidmq stream read clicks -n 10 --json
        braidmq stream read clicks --shard 3 --start 4711
        braidmq stream read clicks --start -15m --format '%T %k %b\n'
    """),
)
@click.argument("name")
@_SHARD
@click.option("--start", default="earliest", show_default=True, help=START_HELP)
@_COUNT
@_FORMAT
@remote
def read(
    target: Target,
    output: Output,
    name: str,
    shard: int | None,
    start: str,
    count: int | None,
    template: str,
) -> None:
    """Print the records that are there. Those of a shard come in order."""
    formatter = RecordFormatter(template, output.as_json, output.on_terminal)
    begin = record_start(start)
    run(
        target, lambda broker: _print(broker, name, shard, begin, True, count, 0, formatter, output)
    )


@click.command(
    "tail",
    epilog=examples(r"""
        braidmq stream tail clicks
        braidmq stream tail clicks --start -5m --wait 1s --json
    """),
)
@click.argument("name")
@_SHARD
@click.option("--start", default="latest", show_default=True, help=START_HELP)
@_COUNT
@click.option(
    "--wait", type=duration, default=0, help="Stop when nothing came for so long. Default: never."
)
@_FORMAT
@remote
def tail(
    target: Target,
    output: Output,
    name: str,
    shard: int | None,
    start: str,
    count: int | None,
    wait: int,
    template: str,
) -> None:
    """Print records as they come, until Ctrl-C, also when shards are split and merged."""
    formatter = RecordFormatter(template, output.as_json, output.on_terminal)
    begin = record_start(start)
    run(
        target,
        lambda broker: _print(broker, name, shard, begin, False, count, wait, formatter, output),
    )


async def _print(
    broker: "BrokerFace",
    name: str,
    shard: int | None,
    start: "ReadStart",
    until_end: bool,
    count: int | None,
    wait_ms: int,
    formatter: RecordFormatter,
    output: Output,
) -> None:
    import asyncio

    left = count
    async with broker.stream(name).read(shard, start, until_end=until_end) as reader:
        batches = reader.batches(_BATCH)
        while left is None or left > 0:
            try:
                async with asyncio.timeout(wait_ms / 1000 if wait_ms else None):
                    batch: RecordBatch = await anext(batches)
            except (StopAsyncIteration, TimeoutError):
                return
            records = batch.records if left is None else batch.records[:left]
            output.raw(formatter(records))
            if left is not None:
                left -= len(records)
