"""``braidmq receive``, and ``ack`` and ``nack`` for those who received with --no-ack.

A message is acknowledged after its bytes were handed to the system, never before: a reader that
goes away, or a Ctrl-C, may see a message again, but never loses one.
"""

import time
from typing import TYPE_CHECKING

import click

from ...broker.errors import BraidError
from ...broker.limits import Limits
from .failures import CommandFailed
from .format import FORMAT_HELP, Formatter, parse_receipt
from .options import duration, examples, remote
from .output import Output
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.message import Delivery, Receipt
    from ...broker.verbs import Verbs

__all__ = ["ack", "nack", "receive"]

_BATCH = 1_000
_CREDIT = 1_000
_WAIT_MS = 20_000  # for one call; brokers allow a minute


@click.command(
    "receive",
    epilog=examples(r"""
        braidmq receive orders
        braidmq receive orders -n 100 --wait 30s --json
        braidmq receive orders --follow --format '%T %b\n'
        braidmq receive orders --no-ack --visibility 10m --format '%R %b\n'
        braidmq receive orders --selector "region = 'EU'" -n 10
    """),
)
@click.argument("queue")
@click.option(
    "-n",
    "--count",
    type=click.IntRange(1),
    default=None,
    help="Stop after so many. Default: 1, with --follow no end.",
)
@click.option(
    "--wait", type=duration, default=0, help="Wait so long for the first one. Default: not at all."
)
@click.option("--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--ack/--no-ack",
    "acknowledge",
    default=True,
    help="Acknowledge what was printed. Else it stays leased, and comes back later.",
)
@click.option(
    "--visibility", type=duration, default=0, help="Lease for so long. Default: the queue's."
)
@click.option("--selector", default="", metavar="TEXT", help="Only messages with such headers.")
@click.option("--format", "template", default=r"%b\n", show_default=True, help=FORMAT_HELP)
@remote
def receive(
    target: Target,
    output: Output,
    queue: str,
    count: int | None,
    wait: int,
    follow: bool,
    acknowledge: bool,
    visibility: int,
    selector: str,
    template: str,
) -> None:
    """Receive messages, print them, and acknowledge them."""
    if follow and not acknowledge:
        raise click.UsageError("--follow acknowledges; --no-ack would only hold the messages back")
    if follow and (wait or visibility):
        raise click.UsageError("--wait and --visibility are not for --follow")
    formatter = Formatter(template, output.as_json, output.on_terminal)
    printer = _Printer(queue, output, formatter)

    async def work(broker: "BrokerFace") -> None:
        verbs, formatter.instance = broker.verbs, broker.instance
        printer.use(broker.limits)
        if follow:
            await printer.follow(verbs, count, selector)
        else:
            await printer.take(verbs, count or 1, wait, visibility, selector, acknowledge)

    run(target, work)
    if not printer.printed:
        output.note("no message")


class _Printer:
    """Prints messages, then acknowledges them."""

    def __init__(self, queue: str, output: Output, formatter: Formatter) -> None:
        self.printed = 0
        self._queue = queue
        self._output = output
        self._format = formatter
        self._limits = Limits()

    def use(self, limits: Limits) -> None:
        """Hold to the broker's limits."""
        self._limits = limits

    async def take(
        self,
        verbs: "Verbs",
        count: int,
        wait_ms: int,
        lease_ms: int,
        selector: str,
        acknowledge: bool,
    ) -> None:
        """Receive up to ``count``, waiting for the first ones only."""
        limits = self._limits
        deadline = time.monotonic() + wait_ms / 1000
        while self.printed < count:
            left_ms = 0 if self.printed else int((deadline - time.monotonic()) * 1000)
            wait_now = min(max(left_ms, 0), _WAIT_MS, limits.receive_wait_ms_max)
            most = min(count - self.printed, _BATCH, limits.receive_messages_max)
            deliveries = await verbs.receive(self._queue, most, wait_now, lease_ms, selector)
            if deliveries:
                await self._print(verbs, deliveries, acknowledge)
            elif wait_now >= left_ms:
                return

    async def follow(self, verbs: "Verbs", count: int | None, selector: str) -> None:
        """Have messages pushed, until there were ``count``."""
        left = count
        credit = min(_CREDIT, self._limits.credit_max)
        credit = credit if left is None else min(credit, left)
        consumption = await verbs.consume(self._queue, credit, selector)
        to_grant = None if left is None else left - credit
        try:
            while left is None or left > 0:
                deliveries = await consumption.next()
                await self._print(verbs, deliveries, True)
                more = len(deliveries) if to_grant is None else min(len(deliveries), to_grant)
                if more:
                    consumption.credit(more)
                if left is not None and to_grant is not None:
                    left -= len(deliveries)
                    to_grant -= more
        finally:
            await consumption.close()

    async def _print(self, verbs: "Verbs", deliveries: "list[Delivery]", acknowledge: bool) -> None:
        receipts = [each.receipt for each in deliveries]
        try:
            self._output.raw(self._format(deliveries))
        except OSError:  # the reader went away, so nobody has seen them
            await verbs.nack(self._queue, receipts, 0, counted=False)
            raise
        self.printed += len(deliveries)
        if acknowledge:
            _check_settled(await verbs.ack(self._queue, receipts))


def _check_settled(results: "list[BraidError | None]") -> None:
    lost = [result for result in results if result is not None]
    if lost:
        raise type(lost[0])(f"{len(lost)} of {len(results)} messages: {lost[0]}")


@click.command(
    "ack",
    epilog=examples("""
        braidmq ack orders 17:4711 18:4712
        braidmq receive orders --no-ack --format '%R' | xargs braidmq ack orders
    """),
)
@click.argument("queue")
@click.argument("receipts", nargs=-1, required=True)
@remote
def ack(target: Target, output: Output, queue: str, receipts: tuple[str, ...]) -> None:
    """Acknowledge messages that were received with --no-ack."""
    parsed = [parse_receipt(receipt) for receipt in receipts]
    results = run(target, lambda broker: broker.verbs.ack(queue, parsed))
    _report(output, parsed, results, "acknowledged")


@click.command(
    "nack",
    epilog=examples("""
        braidmq nack orders 17:4711
        braidmq nack orders 17:4711 --delay 5m
    """),
)
@click.argument("queue")
@click.argument("receipts", nargs=-1, required=True)
@click.option("--delay", type=duration, default=0, help="Deliver again not before that time.")
@remote
def nack(target: Target, output: Output, queue: str, receipts: tuple[str, ...], delay: int) -> None:
    """Give back messages that were received with --no-ack."""
    parsed = [parse_receipt(receipt) for receipt in receipts]
    results = run(target, lambda broker: broker.verbs.nack(queue, parsed, delay))
    _report(output, parsed, results, "returned")


def _report(
    output: Output,
    receipts: "list[Receipt]",
    results: "list[BraidError | None]",
    done: str,
) -> None:
    lost = [
        {"receipt": f"{seq}:{token}", "error": error.code, "message": str(error)}
        for (seq, token), error in zip(receipts, results, strict=True)
        if error is not None
    ]
    count = len(results) - len(lost)
    output.document({done: count, "lost": lost})
    output.note(f"{done} {count} of {len(results)} messages")
    if lost:
        raise CommandFailed(
            f"{lost[0]['receipt']}: {lost[0]['message']}", "receive it again", 1, lost[0]["error"]
        )
