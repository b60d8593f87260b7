"""``braidmq peek``: look at messages without any effect on them."""

from typing import TYPE_CHECKING

import click

from .format import FORMAT_HELP, Formatter
from .options import examples, remote
from .output import Output
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace

__all__ = ["peek"]

_PAGE = 100
_STATES = ("all", "ready", "delayed", "in-flight")


@click.command(
    "peek",
    epilog=examples(r"""
        braidmq peek orders
        braidmq peek orders -n 1000 --state delayed --json
        braidmq peek orders --selector "tenant = 'a'" --format '%s %h\n'
    """),
)
@click.argument("queue")
@click.option(
    "-n", "--count", type=click.IntRange(1), default=10, show_default=True, help="At most so many."
)
@click.option("--after", type=int, default=0, metavar="SEQ", help="Only those behind that one.")
@click.option("--selector", default="", metavar="TEXT", help="Only messages with such headers.")
@click.option("--state", type=click.Choice(_STATES), default="all", show_default=True)
@click.option("--format", "template", default=r"%b\n", show_default=True, help=FORMAT_HELP)
@remote
def peek(
    target: Target,
    output: Output,
    queue: str,
    count: int,
    after: int,
    selector: str,
    state: str,
    template: str,
) -> None:
    """Look at messages without receiving them.

    Those in flight and those delayed can be seen too.
    """
    formatter = Formatter(template, output.as_json, output.on_terminal)

    async def look(broker: "BrokerFace") -> int:
        verbs, formatter.instance = broker.verbs, broker.instance
        last, left = after, count
        while left:
            size = min(left, _PAGE)
            page = await verbs.browse(queue, last, size, selector, state)
            if not page:
                break
            output.raw(formatter(page))
            last, left = page[-1].seq, left - len(page)
        return count - left

    if not run(target, look):
        output.note("no message")
