"""``braidmq publish``: messages to a topic: an argument, a file, stdin, or one for each line."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, BinaryIO

import click

from ...broker.errors import BraidError
from ...broker.limits import Limits
from ...broker.message import pack_headers, unpack_headers
from ...broker.publishing import Posted
from .bodies import body_in, headers_in, lines_read, packed_headers, read_body
from .failures import CommandFailed
from .options import duration, examples, remote
from .output import Output, json_line
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace

__all__ = ["publish"]

_Line = Callable[[bytes, int], tuple[str, Posted]]  # a line and its number -> topic, message


@click.command(
    "publish",
    epilog=examples(r"""
        braidmq publish sensors/kitchen/temp 21.4 --retain
        braidmq publish sensors/kitchen/temp '' --retain
        braidmq publish alerts --file alert.json --content-type application/json --ttl 5m
        tail -f events.log | braidmq publish events --lines
        braidmq subscribe 'a/#' --json | braidmq publish a --ndjson --url braid://other:7450
    """),
)
@click.argument("topic")
@click.argument("body", required=False)
@click.option(
    "--file", "file", type=click.Path(dir_okay=False), help="The body is what is in this file."
)
@click.option("--lines", is_flag=True, help="Every line of stdin, or of --file, is a message.")
@click.option(
    "--ndjson",
    is_flag=True,
    help="The same with JSON lines: body or body_base64; topic (else TOPIC), headers, retain.",
)
@click.option("--retain", is_flag=True, help="Keep it for those who subscribe later.")
@click.option(
    "--qos",
    type=click.Choice(["0", "1"]),
    default="1",
    show_default=True,
    help="0: only to those who are connected now, waiting for nothing.",
)
@click.option(
    "-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="Can be repeated."
)
@click.option("--content-type", metavar="TYPE", help="Sets the header content-type.")
@click.option("--ttl", type=duration, default=0, help="Deliver not after that time.")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=1_000,
    show_default=True,
    help="With --lines and --ndjson: how many messages are published together at most.",
)
@remote
def publish(
    target: Target,
    output: Output,
    topic: str,
    body: str | None,
    file: str | None,
    lines: bool,
    ndjson: bool,
    retain: bool,
    qos: str,
    headers: Sequence[str],
    content_type: str | None,
    ttl: int,
    batch: int,
) -> None:
    """Publish messages to a topic.

    The message is BODY, or what --file holds; BODY - is stdin, and so is no BODY at all when
    stdin is not a terminal. The command returns when all durable subscriptions have it on disk. An
    empty message with --retain takes away what the topic retains.
    """
    posted = Posted(b"", packed_headers(headers, content_type), retain, ttl)
    if lines or ndjson:
        if body is not None or (lines and ndjson):
            raise click.UsageError("of BODY, --lines and --ndjson give one")
        parse = _json_message(topic, posted) if ndjson else _plain_message(topic, posted)
        with open(file, "rb") if file else nullcontext(sys.stdin.buffer) as source:
            run(target, lambda broker: _publish_lines(broker, source, parse, qos, batch, output))
        return
    posted.body = read_body(body, file)

    async def work(broker: "BrokerFace") -> int | BraidError:
        [result] = await broker.verbs.publish(topic, [posted], int(qos))
        return result

    matched = run(target, work)
    if isinstance(matched, BraidError):
        raise matched
    output.document({"topic": topic, "matched": matched})
    output.note(f"matched {matched} subscriptions")


def _plain_message(topic: str, like: Posted) -> _Line:
    return lambda line, number: (topic, Posted(line, like.attributes, like.retain, like.ttl_ms))


def _json_message(default_topic: str, like: Posted) -> _Line:
    def parse(line: bytes, number: int) -> tuple[str, Posted]:
        try:
            fields = json.loads(line)
            topic = fields.get("topic", default_topic)
            body = body_in(fields)
            headers = headers_in(fields)
            retain = like.retain or fields.get("retain") is True
            if not isinstance(topic, str):
                raise TypeError("topic is text")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CommandFailed(f"line {number}: {error}", "see --help", 2, "usage") from None
        both = headers | unpack_headers(like.attributes)
        attributes = pack_headers(both, Limits(headers_bytes_max=2**30))
        return topic, Posted(body, attributes, retain, like.ttl_ms)

    return parse


async def _publish_lines(
    broker: "BrokerFace",
    source: BinaryIO,
    parse: _Line,
    qos: str,
    batch: int,
    output: Output,
) -> None:
    """Publish what there is to read at once, and go on until the end, or the first failure."""
    batch = min(batch, broker.limits.batch_messages_max)
    published = tried = 0
    try:
        async for lines in lines_read(source):
            messages = [parse(line, number) for number, line in enumerate(lines, tried + 1)]
            for topic, run_ in _by_topic(messages, batch):
                results = await broker.verbs.publish(topic, run_, int(qos))
                good = [result for result in results if not isinstance(result, BraidError)]
                published += len(good)
                if output.as_json:
                    rows = ({"topic": topic, "matched": matched} for matched in good)
                    output.raw(b"".join(map(json_line, rows)))
                for number, result in enumerate(results, tried + 1):
                    if isinstance(result, BraidError):
                        raise type(result)(f"line {number}: {result}")
                tried += len(results)
    finally:
        output.note(f"published {published} messages")


def _by_topic(messages: list[tuple[str, Posted]], most: int) -> list[tuple[str, list[Posted]]]:
    """Messages of one topic in a row, not too many together."""
    runs: list[tuple[str, list[Posted]]] = []
    for topic, posted in messages:
        if not runs or runs[-1][0] != topic or len(runs[-1][1]) == most:
            runs.append((topic, []))
        runs[-1][1].append(posted)
    return runs
