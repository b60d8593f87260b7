"""``braidmq send``: messages from an argument, a file, stdin, or one for each line."""

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from ...broker.errors import BraidError
from ...broker.limits import PRIORITY_MAX
from ...broker.message import PRIORITY_DEFAULT, Outgoing, Sent
from ...broker.values import message_id
from .bodies import lines_read, packed_headers, read_body
from .options import duration, examples, remote
from .output import Output, json_line
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace

__all__ = ["send"]


@click.command(
    "send",
    epilog=examples("""
        braidmq send orders 'one message'
        braidmq send orders --file order.json --content-type application/json -H tenant=a
        braidmq send orders --delay 5m --ttl 1h 'not before five minutes'
        braidmq send pay.fifo --group acct-42 --dedup-id p-1 '{"amount": 12}'
        tail -f events.log | braidmq send events --lines
    """),
)
@click.argument("queue")
@click.argument("body", required=False)
@click.option(
    "--file", "file", type=click.Path(dir_okay=False), help="The body is what is in this file."
)
@click.option("--lines", is_flag=True, help="Every line of stdin, or of --file, is a message.")
@click.option(
    "-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="Can be repeated."
)
@click.option("--content-type", metavar="TYPE", help="Sets the header content-type.")
@click.option("--delay", type=duration, help="Deliver not before that time. Default: the queue's.")
@click.option("--ttl", type=duration, default=0, help="Time to live. Default: the queue's.")
@click.option(
    "--priority",
    type=click.IntRange(0, PRIORITY_MAX),
    default=PRIORITY_DEFAULT,
    show_default=True,
    help="9 is the most urgent.",
)
@click.option("--group", default="", help="FIFO: the message group.")
@click.option("--dedup-id", default="", help="FIFO: the deduplication id.")
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=1_000,
    show_default=True,
    help="With --lines: how many messages are sent together at most.",
)
@remote
def send(
    target: Target,
    output: Output,
    queue: str,
    body: str | None,
    file: str | None,
    lines: bool,
    batch: int,
    **values: Any,
) -> None:
    """Send messages to a queue.

    The message is BODY, or what --file holds; BODY - is stdin, and so is no BODY at all when
    stdin is not a terminal. The command returns when the messages are as safe as the queue
    promises.
    """
    outgoing = _outgoing(**values)
    if lines:
        if body is not None:
            raise click.UsageError("with --lines there is no BODY")
        with open(file, "rb") if file else nullcontext(sys.stdin.buffer) as source:
            run(target, lambda broker: _send_lines(broker, queue, outgoing, source, batch, output))
        return
    outgoing.body = read_body(body, file)

    async def work(broker: "BrokerFace") -> tuple[int, Sent | BraidError]:
        [result] = await broker.verbs.send(queue, [outgoing])
        return broker.instance, result

    instance, result = run(target, work)
    if isinstance(result, BraidError):
        raise result
    fields = _sent_fields(instance, result)
    output.document(fields, fields["id"])
    if result.duplicate:
        output.note("a duplicate: the queue had it already")


def _outgoing(
    headers: Sequence[str],
    content_type: str | None,
    delay: int | None,
    ttl: int,
    priority: int,
    group: str,
    dedup_id: str,
) -> Outgoing:
    """A message without its body, as the options describe it."""
    return Outgoing(
        b"",
        packed_headers(headers, content_type),
        -1 if delay is None else delay,
        ttl,
        priority,
        group,
        dedup_id,
    )


def _sent_fields(instance: int, sent: Sent) -> dict[str, Any]:
    return {
        "id": message_id(instance, sent.id),
        "sequence": sent.seq,
        "duplicate": sent.duplicate,
    }


async def _send_lines(
    broker: "BrokerFace",
    queue: str,
    outgoing: Outgoing,
    source: BinaryIO,
    batch: int,
    output: Output,
) -> None:
    """Send what there is to read at once, and go on until the end, or the first failure."""
    verbs, instance = broker.verbs, broker.instance
    batch = min(batch, broker.limits.batch_messages_max)
    sent = duplicates = tried = 0
    try:
        async for lines in lines_read(source):
            for first in range(0, len(lines), batch):
                bodies = lines[first : first + batch]
                results = await verbs.send(queue, [_with_body(outgoing, body) for body in bodies])
                good = [result for result in results if isinstance(result, Sent)]
                if output.as_json:
                    output.raw(
                        b"".join(json_line(_sent_fields(instance, result)) for result in good)
                    )
                sent += len(good)
                duplicates += sum(result.duplicate for result in good)
                for number, result in enumerate(results, tried + 1):
                    if isinstance(result, BraidError):
                        raise _named_line(result, number)
                tried += len(results)
    finally:
        also = f", {duplicates} of them duplicates" if duplicates else ""
        output.note(f"sent {sent} messages{also}")


def _named_line(error: BraidError, number: int) -> BraidError:
    return type(error)(f"line {number}: {error}")


def _with_body(outgoing: Outgoing, body: bytes) -> Outgoing:
    o = outgoing
    return Outgoing(body, o.attributes, o.delay_ms, o.ttl_ms, o.priority, o.group, o.dedup_id)
