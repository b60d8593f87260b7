"""``braidmq subscribe``: messages of topics, as they come.

A message of a durable or shared subscription is acknowledged after its bytes were handed to the
system, never before: a reader that goes away, or a Ctrl-C, may see it again, but never loses it.
"""

from typing import TYPE_CHECKING

import click

from ...broker.verbs import Interest
from .format import FORMAT_HELP, Formatter
from .options import duration, examples, remote
from .output import Output
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.message import Receipt
    from ...broker.publishing import Published
    from ...broker.verbs import TopicConsumption, Verbs

__all__ = ["subscribe"]

_CREDIT = 1_000


@click.command(
    "subscribe",
    epilog=examples(r"""
        braidmq subscribe 'sensors/+/temp'
        braidmq subscribe 'sensors/#' --wait 500ms --json
        braidmq subscribe 'orders/#' --durable audit --format '%T %p %b\n'
        braidmq subscribe 'jobs/#' --share workers -n 10
    """),
)
@click.argument("filters", metavar="FILTER...", nargs=-1)
@click.option(
    "--durable", default="", metavar="NAME", help="Keep messages while nobody is there, for NAME."
)
@click.option(
    "--expiry", type=duration, default=0, help="How long so. Default: as long as the broker allows."
)
@click.option(
    "--share", default="", metavar="GROUP", help="Each message goes to one member of the group."
)
@click.option("-n", "--count", type=click.IntRange(1), default=None, help="Stop after so many.")
@click.option(
    "--wait", type=duration, default=0, help="Stop when nothing came for so long. Default: never."
)
@click.option("--retained/--no-retained", default=True, help="Begin with what the topics retain.")
@click.option("--format", "template", default=r"%p %b\n", show_default=True, help=FORMAT_HELP)
@remote
def subscribe(
    target: Target,
    output: Output,
    filters: tuple[str, ...],
    durable: str,
    expiry: int,
    share: str,
    count: int | None,
    wait: int,
    retained: bool,
    template: str,
) -> None:
    """Print messages of topics as they come, until Ctrl-C.

    In a FILTER the level + stands for any one level, and # at the end for all further ones. A
    durable subscription goes on where it was; with no FILTER it has those that it had.
    """
    if not filters and not durable:
        raise click.UsageError("Missing argument 'FILTER...'")
    formatter = Formatter(template, output.as_json, output.on_terminal)
    interest = Interest(filters, durable, share, expiry, retained)

    async def work(broker: "BrokerFace") -> None:
        formatter.instance = broker.instance
        credit = min(_CREDIT, broker.limits.credit_max, count or _CREDIT)
        messages = await broker.verbs.subscribe(interest, credit)
        if durable:
            output.note(f"{'resumed' if messages.resumed else 'began'} the session {durable}")
        try:
            await _print_all(broker.verbs, messages, formatter, output, credit, count, wait)
        finally:
            await messages.close()
            if messages.dropped:
                output.warn(f"{messages.dropped} messages were dropped: they came too quickly")

    run(target, work)


async def _print_all(
    verbs: "Verbs",
    messages: "TopicConsumption",
    formatter: Formatter,
    output: Output,
    credit: int,
    count: int | None,
    wait_ms: int,
) -> None:
    import asyncio

    left = count
    to_grant = None if left is None else left - credit
    while left is None or left > 0:
        try:
            async with asyncio.timeout(wait_ms / 1000 if wait_ms else None):
                found = await messages.next()
        except TimeoutError:
            return
        await _print(verbs, found, formatter, output)
        more = len(found) if to_grant is None else min(len(found), to_grant)
        if more:
            messages.credit(more)
        if left is not None and to_grant is not None:
            left -= len(found)
            to_grant -= more


async def _print(
    verbs: "Verbs", found: "list[Published]", formatter: Formatter, output: Output
) -> None:
    by_queue: dict[str, list[Receipt]] = {}
    for message in found:
        if message.queue:
            by_queue.setdefault(message.queue, []).append(message.receipt)
    try:
        output.raw(formatter(found))
    except OSError:  # the reader went away, so nobody has seen them
        for queue, receipts in by_queue.items():
            await verbs.nack(queue, receipts, 0, counted=False)
        raise
    for queue, receipts in by_queue.items():
        for error in await verbs.ack(queue, receipts):
            if error is not None:
                raise error
