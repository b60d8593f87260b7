"""``braidmq stream export`` and ``import``: a range of a stream as lines of JSON, and back.

An export is what was there when it began. Its lines say the shard and the number of each record,
so an interrupted one goes on where its file ends. An import takes keys, headers and bodies; where
the records go in the other stream, and their numbers there, is new.
"""

import json
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ...broker.errors import BraidError, Throttled
from ...broker.limits import Limits
from ...broker.message import pack_headers
from ...broker.streams import Appending
from .bodies import body_in, headers_in, lines_read
from .failures import CommandFailed
from .options import examples, remote
from .output import Output, Progress, json_line
from .record_format import START_HELP, record_fields, record_start
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.recordreader import ReadStart
    from ...broker.streamverbs import StreamVerbs

__all__ = ["export_records", "import_records"]

_CREDIT = 4 * 1024 * 1024
_BATCH = 1_000
_RETRY_SECONDS = 0.2  # before records are sent again that a shard had no room for


# --- export ---


@click.command(
    "export",
    epilog=examples("""
        braidmq stream export clicks > clicks.ndjson
        braidmq stream export clicks --file clicks.ndjson --resume
        braidmq stream export clicks --shard 3 --start 4711 --until 10000 --file part.ndjson
        braidmq stream export clicks --start 2026-01-31T12:00Z --until -1h | zstd > clicks.zst
    """),
)
@click.argument("name")
@click.option("--shard", type=click.IntRange(0), default=None, help="Default: all of them.")
@click.option("--start", default="earliest", show_default=True, help=START_HELP)
@click.option(
    "--until", default="latest", show_default=True, help="Where it ends, not included; as --start."
)
@click.option("--file", "file", type=click.Path(dir_okay=False), help="Where to. Default: stdout.")
@click.option("--resume", is_flag=True, help="Go on behind the records that are in --file already.")
@remote
def export_records(
    target: Target,
    output: Output,
    name: str,
    shard: int | None,
    start: str,
    until: str,
    file: str | None,
    resume: bool,
) -> None:
    """Write a range of a stream as lines of JSON, those of a shard in order, parents first.

    A body that is not text is in base64, as body_base64.
    """
    if resume and file is None:
        raise click.UsageError("--resume needs --file")
    begin, end = record_start(start), record_start(until)
    if shard is None and (isinstance(begin, int) or isinstance(end, int)):
        raise click.UsageError("a number is of one shard: give --shard")
    with ExitStack() as stack:
        done: dict[int, int] = {}
        sink: BinaryIO = sys.stdout.buffer
        if file is not None:
            exists = resume and os.path.exists(file)
            sink = stack.enter_context(open(file, "r+b" if exists else "wb"))
            if exists:
                done = _written(sink)
        export = _Export(sink, output)
        run(target, lambda broker: export.run(broker, name, shard, begin, end, done))
    if file is not None:
        output.document({"exported": export.count, "file": file, "next": export.next})


def _written(file: BinaryIO) -> dict[int, int]:
    """The number to go on with in each shard; a line that was cut off at the end is taken away."""
    following: dict[int, int] = {}
    end = 0
    for line in file:
        if not line.endswith(b"\n"):
            break
        try:
            fields = json.loads(line)
            following[int(fields["shard"])] = int(fields["number"]) + 1
        except (ValueError, KeyError, TypeError) as error:
            text = f"the file holds something else at byte {end}: {error}"
            raise CommandFailed(text, "give another --file", 2, "usage") from None
        end += len(line)
    file.seek(end)
    file.truncate()
    return following


class _Export:
    """One run: ``count`` records were written, ``next`` is where each shard goes on."""

    def __init__(self, sink: BinaryIO, output: Output) -> None:
        self._sink = sink
        self._output = output
        # What is written may be stdout, so the progress is for people only.
        self._progress = Progress(
            Output(False, output.quiet or output.as_json), "export", "records"
        )
        self.count = 0
        self.next: dict[int, int] = {}

    async def run(
        self,
        broker: "BrokerFace",
        name: str,
        shard: int | None,
        start: "ReadStart",
        until: "ReadStart",
        done: dict[int, int],
    ) -> None:
        verbs = broker.verbs
        shards = [each.index for each in (await verbs.stream_info(name)).shards]
        if shard is not None:
            shards = [shard]
        self.next = await _numbers(verbs, name, shards, start)
        ends = await _numbers(verbs, name, shards, until)
        for index in shards:
            self.next[index] = max(self.next[index], done.get(index, 0))
        total = sum(max(ends[index] - self.next[index], 0) for index in shards)
        starts = {index: at for index, at in self.next.items() if at < ends[index]}
        try:
            if starts:
                await self._copy(verbs, name, starts, ends, total)
        finally:
            self._progress.finish()
            self._sink.flush()
            self._output.note(f"exported {self.count} records")

    async def _copy(
        self,
        verbs: "StreamVerbs",
        name: str,
        starts: dict[int, int],
        ends: dict[int, int],
        total: int,
    ) -> None:
        from ...broker.streamrecord import chunk_records

        tail = await verbs.tail_shards(name, starts, _CREDIT, follow=False, until_end=True)
        try:
            while chunks := await tail.next():
                for shard, chunk in chunks:
                    records = chunk_records(chunk, shard)
                    while records and records[-1].number >= ends[shard]:
                        records.pop()
                    self._sink.write(b"".join([json_line(record_fields(r)) for r in records]))
                    tail.more(sum(map(len, chunk.blocks)))
                    self.next[shard] = min(chunk.next, ends[shard])
                    self.count += len(records)
                self._progress.update(self.count, total)
                if all(self.next[shard] >= ends[shard] for shard in starts):
                    return
        finally:
            await tail.close()


async def _numbers(
    verbs: "StreamVerbs", name: str, shards: list[int], start: "ReadStart"
) -> dict[int, int]:
    from ...broker.recordreader import read_start

    where = read_start(start)
    return {index: await verbs.find_number(name, index, where) for index in shards}


# --- import ---


@click.command(
    "import",
    epilog=examples("""
        braidmq stream import clicks-copy --file clicks.ndjson
        zstd -d < clicks.zst | braidmq stream import clicks-copy
    """),
)
@click.argument("name")
@click.option(
    "--file", "file", type=click.Path(dir_okay=False, exists=True), help="Default: stdin."
)
@click.option("--skip", type=click.IntRange(0), default=0, help="Leave out so many lines.")
@remote
def import_records(target: Target, output: Output, name: str, file: str | None, skip: int) -> None:
    """Append the records of an export: keys, headers and bodies.

    A line is a JSON object: body, or body_base64, and perhaps key and headers.
    """
    with ExitStack() as stack:
        source: BinaryIO = sys.stdin.buffer
        total = 0
        if file is not None:
            source = stack.enter_context(open(file, "rb"))
            total = os.path.getsize(file)
        loading = _Import(name, skip, total, output)
        run(target, lambda broker: loading.run(broker, source))
    output.document({"event": "result", "imported": loading.count, "stream": name})


class _Import:
    """One run: ``count`` records are in the stream, of the ``lines`` that were read."""

    def __init__(self, name: str, skip: int, total: int, output: Output) -> None:
        self._name = name
        self._skip = skip
        self._total = total
        self._output = output
        self._progress = Progress(output, "import", "bytes" if total else "records")
        self.count = 0
        self.lines = 0
        self._bytes = 0

    async def run(self, broker: "BrokerFace", source: BinaryIO) -> None:
        most = min(_BATCH, broker.limits.batch_messages_max)
        try:
            async for lines in lines_read(source):
                for first in range(0, len(lines), most):
                    await self._append(broker, lines[first : first + most])
        except BaseException:
            self._output.note(f"go on with --skip {self.lines}, or a little more")
            raise
        finally:
            self._progress.finish()
            self._output.note(f"imported {self.count} records")

    async def _append(self, broker: "BrokerFace", lines: list[bytes]) -> None:
        numbered = list(enumerate(lines, self.lines + 1))
        rows = [_row(line, n) for n, line in numbered if n > self._skip and line.strip()]
        await self._append_rows(broker, rows)
        self.lines += len(lines)
        self._bytes += sum(map(len, lines)) + len(lines)
        if self._total:
            self._progress.update(self._bytes, self._total)
        else:
            self._progress.update(self.count, self.count)

    async def _append_rows(self, broker: "BrokerFace", rows: list["_Row"]) -> None:
        import asyncio

        while rows:
            bodies, keys, headers = zip(*[row[1:] for row in rows], strict=True)
            batch = Appending(bodies, keys, headers if any(headers) else None)
            results = await broker.verbs.append(self._name, batch)
            again = []
            for row, result in zip(rows, results, strict=True):
                if isinstance(result, Throttled):
                    again.append(row)
                elif isinstance(result, BraidError):
                    raise type(result)(f"line {row[0]}: {result}")
                else:
                    self.count += 1
            rows = again
            if rows:
                await asyncio.sleep(_RETRY_SECONDS)


_Row = tuple[int, bytes, bytes, bytes]  # the line's number; body, key, headers


def _row(line: bytes, number: int) -> _Row:
    try:
        fields: dict[str, Any] = json.loads(line)
        key = fields.get("key", "")
        if not isinstance(key, str):
            raise TypeError("key is text")
        headers = pack_headers(headers_in(fields), Limits(headers_bytes_max=2**30))
        return number, body_in(fields), key.encode(), headers
    except (AttributeError, KeyError, TypeError, ValueError, BraidError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise CommandFailed(f"line {number}: {what}", "see --help", 2, "usage") from None
