"""``braidmq schedule``: messages that are sent later, once, often, or by a cron expression."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ...broker.config import duration_ms
from ...broker.errors import InvalidArgument
from ...broker.limits import PRIORITY_MAX
from ...broker.message import PRIORITY_DEFAULT, unpack_headers
from .app import group
from .bodies import packed_headers, read_body
from .failures import CommandFailed
from .options import confirm, duration, examples, remote, yes_option
from .output import Output, body_fields, readable_bytes, readable_ms
from .target import Target, run

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import TypeVar

    from ...broker.face import BrokerFace
    from ...broker.scheduleverbs import ScheduleInfo

    F = TypeVar("F", bound=Callable[..., Any])
    T = TypeVar("T")

__all__ = ["schedule"]

_COLUMNS = ("id", "target", "when", "next", "fired", "size", "user", "error")
_SHOWN_CHARACTERS = 200  # of a body

schedule = group("Send messages later, once, often or by a cron expression.")


def _moment(value: str | datetime) -> datetime:
    """The type of an option: a time in ISO 8601, of UTC if it has no zone, or how far ahead."""
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        try:
            return datetime.now(UTC) + timedelta(milliseconds=duration_ms(value))
        except InvalidArgument:
            text = "neither a time, as 2026-11-23T04:00:00Z, nor how far ahead, as 90m"
            raise click.BadParameter(f"{value!r} is {text}") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _span_options(function: "F") -> "F":
    help = "Only those whose next time is at or after TIME."
    function = click.option("--to", "end", type=_moment, metavar="TIME", help="And before it.")(
        function
    )
    return click.option("--from", "start", type=_moment, metavar="TIME", help=help)(function)


@schedule.command(
    "add",
    epilog=examples("""
        braidmq schedule add --queue orders --delay 5m 'in five minutes'
        braidmq schedule add --topic ticks --every 10s 'for ever'
        braidmq schedule add --queue orders --delay 1m --every 10s --repeat 9 'ten times'
        braidmq schedule add --stream log --cron '0 4 * * MON-FRI' --file report.json
    """),
)
@click.argument("body", required=False)
@click.option("--queue", default="", metavar="NAME", help="Send it to this queue,")
@click.option("--topic", default="", metavar="NAME", help="to this topic,")
@click.option("--stream", default="", metavar="NAME", help="or to this stream.")
@click.option("--delay", type=duration, default=0, help="Until it is sent first.")
@click.option("--every", type=duration, default=0, help="Between one time and the next.")
@click.option("--repeat", type=int, help="Times more than once. Default: with --every, for ever.")
@click.option("--cron", default="", metavar="FIELDS", help="At the times it names, in UTC.")
@click.option(
    "--file", "file", type=click.Path(dir_okay=False), help="The body is what is in this file."
)
@click.option(
    "-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="Can be repeated."
)
@click.option("--content-type", metavar="TYPE", help="Sets the header content-type.")
@click.option("--ttl", type=duration, default=0, help="Time to live, from when it is sent.")
@click.option(
    "--priority",
    type=click.IntRange(0, PRIORITY_MAX),
    default=PRIORITY_DEFAULT,
    show_default=True,
    help="For queues; 9 is the most urgent.",
)
@click.option("--group", "message_group", default="", help="FIFO: the message group.")
@click.option("--dedup-id", default="", help="FIFO: the deduplication id.")
@click.option("--retain", is_flag=True, help="For topics: retain it.")
@click.option("--key", default="", help="For streams: the partition key.")
@remote
def _add(
    target: Target,
    output: Output,
    body: str | None,
    file: str | None,
    headers: tuple[str, ...],
    content_type: str | None,
    message_group: str,
    **values: Any,
) -> None:
    """Schedule a message: BODY, what --file holds, or stdin.

    The command returns when that is on disk.
    """
    for name in ("delay", "every", "ttl"):
        values[name] = timedelta(milliseconds=values[name])
    named = unpack_headers(packed_headers(headers, content_type))
    content = read_body(body, file)

    async def work(broker: "BrokerFace") -> "ScheduleInfo":
        return await broker.schedule(content, headers=named, group=message_group, **values)

    info = run(target, work)
    output.document(_plain(info), str(info.id))
    output.note(f"schedule {info.id} is sent at {_shown_time(info.next_ms)}")


@schedule.command(
    "ls",
    epilog=examples("""
        braidmq schedule ls
        braidmq schedule ls --from 2026-11-23T04:00:00Z --to 24h --json
    """),
)
@_span_options
@remote
def _ls(target: Target, output: Output, start: datetime | None, end: datetime | None) -> None:
    """List schedules, in the order in which they were made.

    TIME is a date and time (of UTC, if it has no zone), or how far ahead it is: 90m, 24h, 7d.
    """

    async def work(broker: "BrokerFace") -> "list[ScheduleInfo]":
        return [info async for info in broker.schedules(start, end)]

    infos = run(target, work)
    rows = [_plain(info) for info in infos]
    if not output.as_json:
        rows = [row | _readable(info) for row, info in zip(rows, infos, strict=True)]
    output.rows(rows, _COLUMNS)
    if not infos:
        output.note("no schedules")


@schedule.command("show", epilog=examples("braidmq schedule show 7"))
@click.argument("id", type=int)
@remote
def _show(target: Target, output: Output, id: int) -> None:
    """Show a schedule, and its message."""
    info = _known(target, lambda broker: broker.schedule_info(id))
    headers = {
        name: value if isinstance(value, str) else repr(value)
        for name, value in unpack_headers(info.attributes).items()
    }
    fields = _plain(info) | {"headers": headers}
    if output.as_json:
        fields |= body_fields("body", info.body)
    else:
        fields |= _readable(info)
        for name in ("kind", "name", "timing", "created_ms", "next_ms"):
            del fields[name]
        fields["created"] = _shown_time(info.created_ms)
        fields["headers"] = " ".join(f"{name}={value}" for name, value in headers.items())
        fields["body"] = info.body.decode(errors="replace")[:_SHOWN_CHARACTERS]
    output.fields(fields)


@schedule.command(
    "rm",
    epilog=examples("""
        braidmq schedule rm 7 8
        braidmq schedule rm --from 2026-11-23 --to 2026-11-24 --yes
        braidmq schedule rm --all --yes
    """),
)
@click.argument("ids", type=int, nargs=-1, metavar="[ID]...")
@_span_options
@click.option("--all", "every_one", is_flag=True, help="All of yours.")
@yes_option
@remote
def _rm(
    target: Target,
    output: Output,
    ids: tuple[int, ...],
    start: datetime | None,
    end: datetime | None,
    every_one: bool,
    yes: bool,
) -> None:
    """Remove schedules: what was sent stays, and nothing more is sent."""
    spans = start is not None or end is not None
    if (bool(ids), spans, every_one).count(True) != 1:
        raise click.UsageError("say which: IDs, a span of --from and --to, or --all")
    if not ids:
        confirm("Remove all of your schedules" + (" in that span?" if spans else "?"), yes)
        count = run(target, lambda broker: broker.unschedule_between(start, end))
        output.document({"removed": count}, f"removed {count} schedules")
        return

    async def work(broker: "BrokerFace") -> None:
        for id in ids:
            await broker.unschedule(id)

    _known(target, work)
    output.document({"removed": list(ids)}, f"removed {', '.join(map(str, ids))}")


def _known(target: Target, work: "Callable[[BrokerFace], Coroutine[Any, Any, T]]") -> "T":
    """Do what is about certain schedules."""
    from ...broker.errors import NotFound

    try:
        return run(target, work)
    except NotFound as error:
        next_step = "braidmq schedule ls lists those that wait"
        raise CommandFailed(str(error), next_step, 3, error.code) from None


def _plain(info: "ScheduleInfo") -> dict[str, Any]:
    """All but the message."""
    fields: dict[str, Any] = msgspec.to_builtins(info)
    del fields["attributes"], fields["body"]
    return fields


def _readable(info: "ScheduleInfo") -> dict[str, Any]:
    return {
        "target": f"{info.kind} {info.name}",
        "when": _when(info),
        "next": _shown_time(info.next_ms),
        "size": readable_bytes(info.size),
    }


def _when(info: "ScheduleInfo") -> str:
    timing = info.timing
    parts = [timing.cron] if timing.cron else []
    if timing.delay_ms:
        parts.append(f"after {readable_ms(timing.delay_ms)}")
    if timing.period_ms:
        times = "for ever" if timing.repeat < 0 else f"{timing.repeat + 1} times"
        parts.append(f"every {readable_ms(timing.period_ms)} {times}")
    return ", ".join(parts) or "at once"


def _shown_time(stamp_ms: int) -> str:
    if not stamp_ms:
        return "now"
    return datetime.fromtimestamp(stamp_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
