"""``braidmq queue``: everything about queues but the messages in them."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from ...storage.log import Durability
from .app import group
from .failures import CommandFailed
from .options import confirm, duration, examples, remote, size, yes_option
from .output import Output, Progress, readable_bytes, readable_ms
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.verbs import QueueInfo, RedriveInfo, Verbs

__all__ = ["all_queues", "queue", "queue_fields", "redrive_fields"]

_PAGE = 1_000
_COLUMNS = ("name", "ready", "delayed", "in_flight", "bytes", "consumers")
_TOP_COLUMNS = ("name", "ready", "in_flight", "sent_rate", "delivered_rate", "acknowledged_rate")
_POLL_SECONDS = 0.2

queue = group("List, make, change, empty and remove queues.")
F = Callable[..., Any]


class _Setting(NamedTuple):
    """One field of QueueSettings as an option."""

    field: str
    flag: str
    type: Any
    help: str
    fixed: bool = False  # cannot be changed later


_SETTINGS = (
    _Setting("fifo", "--fifo", bool, "Message groups in order, deduplication.", True),
    _Setting(
        "durability",
        "--durability",
        click.Choice(["sync", "os", "memory"]),
        "When a message counts as kept: on disk, with the system, in memory only.",
        True,
    ),
    _Setting("stream", "--stream", str, "Show the records of this stream as messages.", True),
    _Setting(
        "start",
        "--start",
        str,
        "With --stream, from where on: earliest, latest, or a time like 2026-05-01T12:00Z.",
        True,
    ),
    _Setting(
        "visibility_timeout_ms",
        "--visibility-timeout",
        duration,
        "How long a received message is leased.",
    ),
    _Setting("delay_ms", "--delay", duration, "Every message waits this long first."),
    _Setting("ttl_ms", "--ttl", duration, "Time to live of messages that bring none. 0: none."),
    _Setting("retention_ms", "--retention", duration, "No message is kept longer. 0: no end."),
    _Setting("max_receives", "--max-receives", int, "After so many receives a message is dead."),
    _Setting("dead_letter", "--dead-letter", str, "The queue where dead letters go."),
    _Setting(
        "dead_letter_expired", "--dead-letter-expired", bool, "Expired messages go there too."
    ),
    _Setting("messages_max", "--messages-max", int, "How many messages fit. 0: no limit."),
    _Setting("bytes_max", "--bytes-max", size, "How many bytes fit. 0: no limit."),
    _Setting(
        "overflow",
        "--overflow",
        click.Choice(["reject", "drop-oldest", "dead-letter"]),
        "What happens when it is full.",
    ),
    _Setting("content_dedup", "--content-dedup", bool, "FIFO: a message's body identifies it."),
    _Setting(
        "group_affinity",
        "--group-affinity",
        bool,
        "Messages of a group go to one consumer as long as it is there.",
    ),
    _Setting(
        "dedup_scope",
        "--dedup-scope",
        click.Choice(["queue", "group"]),
        "FIFO: where a deduplication id is unique.",
    ),
)


def _settings_options(changing: bool) -> Callable[[F], F]:
    """One option for each setting, and --tag; without a default, so what is not given is None."""

    def decorate(function: F) -> F:
        function = click.option(
            "--tag", "tags", metavar="NAME=VALUE", multiple=True, help="A tag; can be repeated."
        )(function)
        for setting in reversed(_SETTINGS):
            if setting.fixed and changing:
                continue
            flag, options = setting.flag, {"type": setting.type}
            if setting.type is bool:
                flag, options = f"{flag}/--no-{flag[2:]}", {}
            function = click.option(
                flag, setting.field, default=None, help=setting.help, **options
            )(function)
        return function

    return decorate


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, as ``settings_from`` and ``update_queue`` take them."""
    changes = {name: value for name, value in values.items() if value is not None}
    if "durability" in changes:
        changes["durability"] = int(Durability[changes["durability"].upper()])
    if changes.get("start") not in (None, "earliest", "latest"):
        changes |= {"start": "time", "start_ms": _unix_ms(changes["start"])}
    tags = changes.pop("tags")
    if tags:
        pairs = [tag.partition("=") for tag in tags]
        if not all(separator for _, separator, _ in pairs):
            raise click.BadParameter("write NAME=VALUE", param_hint="--tag")
        changes["tags"] = {name: value for name, _, value in pairs}
    return changes


def _unix_ms(text: str) -> int:
    """A time as people write it; without a zone it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            "write earliest, latest or a time like 2026-05-01T12:00Z", param_hint="--start"
        ) from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _readable_time(stamp: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(stamp / 1000)) if stamp else "-"


def queue_fields(info: "QueueInfo") -> dict[str, Any]:
    """A queue as --json shows it."""
    fields: dict[str, Any] = msgspec.to_builtins(info)
    fields["settings"]["durability"] = info.settings.durability.name.lower()
    fields["messages"] = info.messages
    return fields


def redrive_fields(info: "RedriveInfo") -> dict[str, Any]:
    """A redrive as --json shows it."""
    fields: dict[str, Any] = msgspec.to_builtins(info)
    return fields


async def all_queues(verbs: "Verbs", prefix: str) -> "list[QueueInfo]":
    """Every queue whose name begins with ``prefix``, page after page."""
    found: list[QueueInfo] = []
    while True:
        page = await verbs.list_queues(prefix, found[-1].name if found else "", _PAGE)
        found += page
        if len(page) < _PAGE:
            return found


@queue.command(
    "ls",
    epilog=examples("""
        braidmq queue ls
        braidmq queue ls orders/ --json
    """),
)
@click.argument("prefix", default="")
@remote
def _ls(target: Target, output: Output, prefix: str) -> None:
    """List queues, all or those whose names begin with PREFIX."""
    infos = run(target, lambda broker: all_queues(broker.verbs, prefix))
    rows = [queue_fields(info) for info in infos]
    if not output.as_json:
        rows = [row | {"bytes": readable_bytes(row["bytes"])} for row in rows]
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no queues; braidmq queue declare NAME makes one")


@queue.command(
    "show",
    epilog=examples("""
        braidmq queue show orders
        braidmq queue show orders --json | jq .settings
    """),
)
@click.argument("name")
@remote
def _show(target: Target, output: Output, name: str) -> None:
    """Show the settings and counters of a queue."""
    info = run(target, lambda broker: broker.verbs.queue_info(name))
    fields = queue_fields(info)
    if not output.as_json:
        settings = fields.pop("settings")
        start_ms = settings.pop("start_ms")
        for key, value in settings.items():
            name = key.removesuffix("_ms")
            fields[name] = readable_ms(value) if name != key and value else value
        if start_ms:
            fields["start"] = _readable_time(start_ms)
        for key in ("created_ms", "oldest_ms"):
            fields[key.removesuffix("_ms")] = _readable_time(fields.pop(key))
        fields["bytes"] = readable_bytes(fields["bytes"])
    output.fields(fields)


@queue.command(
    "declare",
    epilog=examples("""
        braidmq queue declare orders
        braidmq queue declare orders --max-receives 5 --dead-letter orders-dlq
        braidmq queue declare pay.fifo --fifo --content-dedup
        braidmq queue declare work --stream clicks --start latest
        braidmq queue declare gauges --durability memory --messages-max 9000 --overflow drop-oldest
    """),
)
@click.argument("name")
@_settings_options(changing=False)
@remote
def _declare(target: Target, output: Output, name: str, **values: Any) -> None:
    """Make a queue. With the same settings as before nothing happens."""
    from ...broker.settings import settings_from

    settings = settings_from(_given(values))
    settings.check()
    info = run(target, lambda broker: broker.verbs.declare_queue(name, settings))
    output.document(queue_fields(info))
    output.note(f"queue {info.name} is there, with {info.messages} messages")


@queue.command(
    "update",
    epilog=examples("""
        braidmq queue update orders --visibility-timeout 5m
        braidmq queue update orders --messages-max 0 --tag team=billing
    """),
)
@click.argument("name")
@_settings_options(changing=True)
@remote
def _update(target: Target, output: Output, name: str, **values: Any) -> None:
    """Change settings of a queue; what is not given stays."""
    changes = _given(values)
    if not changes:
        raise click.UsageError("nothing to change: give at least one setting")
    info = run(target, lambda broker: broker.verbs.update_queue(name, changes))
    output.document(queue_fields(info))
    output.note(f"queue {info.name} was changed")


@queue.command(
    "rm",
    epilog=examples("""
        braidmq queue rm orders-old
        braidmq queue rm a b c --if-empty --yes
    """),
)
@click.argument("names", nargs=-1, required=True)
@click.option("--if-empty", is_flag=True, help="Only if there is no message in it.")
@yes_option
@remote
def _rm(target: Target, output: Output, names: tuple[str, ...], if_empty: bool, yes: bool) -> None:
    """Remove queues and all their messages."""
    confirm(f"Remove {', '.join(names)} and all messages in there?", yes)

    async def remove(broker: "BrokerFace") -> None:
        for name in names:
            await broker.verbs.delete_queue(name, if_empty)

    run(target, remove)
    output.document({"removed": list(names)})
    output.note(f"removed {', '.join(names)}")


@queue.command(
    "purge",
    epilog=examples("""
        braidmq queue purge orders
        braidmq queue purge orders --yes --json
    """),
)
@click.argument("name")
@yes_option
@remote
def _purge(target: Target, output: Output, name: str, yes: bool) -> None:
    """Delete all messages of a queue, also those in flight."""
    confirm(f"Delete all messages of {name}?", yes)
    count = run(target, lambda broker: broker.verbs.purge(name))
    output.document({"queue": name, "purged": count})
    output.note(f"deleted {count} messages")


@queue.command(
    "redrive",
    epilog=examples("""
        braidmq queue redrive orders-dlq
        braidmq queue redrive orders-dlq --to orders-retry --rate 100 --limit 5000
        braidmq queue redrive orders-dlq --no-wait --json
    """),
)
@click.argument("source")
@click.option("--to", "target_queue", default="", metavar="QUEUE", help="Default: where each was.")
@click.option(
    "--rate", type=float, default=0, help="Messages a second. Default: as fast as can be."
)
@click.option("--limit", type=int, default=0, help="Move at most so many.")
@click.option("--wait/--no-wait", default=True, help="Stay until it is done.")
@remote
def _redrive(
    target: Target,
    output: Output,
    source: str,
    target_queue: str,
    rate: float,
    limit: int,
    wait: bool,
) -> None:
    """Move dead letters from SOURCE back to where they came from, or to another queue."""

    async def move(broker: "BrokerFace") -> "RedriveInfo":
        info = await broker.verbs.redrive(source, target_queue, rate, limit)
        return await _follow(broker.verbs, info, output) if wait else info

    info = run(target, move)
    output.document({"event": "result"} | redrive_fields(info))
    if info.state == "failed":
        raise CommandFailed(f"redrive {info.id} failed: {info.error}", f"{info.moved} were moved")
    output.note(f"redrive {info.id} is {info.state}: moved {info.moved} of {info.total} messages")


async def _follow(verbs: "Verbs", info: "RedriveInfo", output: Output) -> "RedriveInfo":
    import asyncio

    progress = Progress(output, "redrive")
    try:
        while info.state == "running":
            progress.update(info.moved, info.total)
            await asyncio.sleep(_POLL_SECONDS)
            found = [each for each in await verbs.list_redrives() if each.id == info.id]
            if not found:
                break
            info = found[0]
        return info
    except asyncio.CancelledError:
        output.note(f"redrive {info.id} goes on; braidmq queue redrive-cancel {info.id} stops it")
        raise
    finally:
        progress.finish()


@queue.command("redrives", epilog=examples("braidmq queue redrives --json"))
@remote
def _redrives(target: Target, output: Output) -> None:
    """List redrives that run, or ended lately."""
    infos = run(target, lambda broker: broker.verbs.list_redrives())
    rows = [redrive_fields(info) for info in infos]
    output.rows(rows, ("id", "source", "target", "state", "moved", "total", "rate", "error"))


@queue.command("redrive-cancel", epilog=examples("braidmq queue redrive-cancel 3"))
@click.argument("id", type=int)
@remote
def _redrive_cancel(target: Target, output: Output, id: int) -> None:
    """Stop a redrive; what was moved stays moved."""
    from ...broker.errors import NotFound

    try:
        info = run(target, lambda broker: broker.verbs.cancel_redrive(id))
    except NotFound as error:
        next_step = "braidmq queue redrives lists those that run, or ended lately"
        raise CommandFailed(str(error), next_step, 3, error.code) from None
    output.document(redrive_fields(info))
    output.note(f"redrive {info.id} is {info.state}: moved {info.moved} of {info.total} messages")


@queue.command(
    "top",
    epilog=examples("""
        braidmq queue top
        braidmq queue top orders/ -n 1 --json
    """),
)
@click.argument("prefix", default="")
@click.option(
    "-n", "--count", type=click.IntRange(1), default=None, help="Stop after so many looks."
)
@click.option("--interval", type=duration, default=2_000, show_default="2s", help="Between looks.")
@remote
def _top(target: Target, output: Output, prefix: str, count: int | None, interval: int) -> None:
    """Watch the busiest queues: messages a second in, out and acknowledged."""

    async def watch(broker: "BrokerFace") -> None:
        import asyncio

        verbs = broker.verbs
        looks = 0
        before = {info.name: info for info in await all_queues(verbs, prefix)}
        began = time.monotonic()
        while count is None or looks < count:
            await asyncio.sleep(interval / 1000)
            infos = await all_queues(verbs, prefix)
            now = time.monotonic()
            rows = [_rates(info, before.get(info.name), now - began) for info in infos]
            rows.sort(key=lambda row: (-row["delivered_rate"] - row["sent_rate"], row["name"]))
            if output.on_terminal and not output.as_json:
                click.clear()
            output.rows(rows if output.as_json else rows[:40], _TOP_COLUMNS)
            before, began, looks = {info.name: info for info in infos}, now, looks + 1

    run(target, watch)


def _rates(info: "QueueInfo", before: "QueueInfo | None", seconds: float) -> dict[str, Any]:
    fields = queue_fields(info)
    for counter in ("sent", "delivered", "acknowledged"):
        # A queue that was made again meanwhile counts from zero.
        change = fields[counter] - (getattr(before, counter) if before else 0)
        fields[f"{counter}_rate"] = round(max(change, 0) / max(seconds, 0.001), 1)
    return fields
