"""``braidmq stream``: streams and their shards. Their records are in other modules, see the end."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec

from ...storage.log import Durability
from .app import group
from .format import iso_time
from .options import confirm, duration, examples, remote, size, yes_option
from .output import Output, readable_bytes, readable_ms
from .stream_export import export_records, import_records
from .stream_records import append, read, tail
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.streamverbs import StreamInfo

__all__ = ["stream", "stream_fields"]

_COLUMNS = ("name", "open_shards", "records", "bytes", "retention", "groups")
_SHARD_COLUMNS = (
    "shard",
    "state",
    "parents",
    "first",
    "next",
    "bytes",
    "oldest",
    "newest",
    "share",
)
_HASH_KEY_END = 1 << 128

stream = group("Make, change and remove streams; append and read records.")
F = Callable[..., Any]

# field, flag, type, help
_SETTINGS: tuple[tuple[str, str, Any, str], ...] = (
    ("retention_ms", "--retention", duration, "No record can be read for longer. 0: no end."),
    ("retention_bytes", "--retention-bytes", size, "The oldest make way beyond that. 0: no limit."),
    ("record_bytes_max", "--record-bytes-max", size, "How large a record may be."),
    (
        "shard_bytes_in_per_second",
        "--shard-bytes-in",
        size,
        "Throttle appends to a shard beyond that a second. 0: do not.",
    ),
    (
        "shard_records_in_per_second",
        "--shard-records-in",
        click.IntRange(0),
        "The same in records a second.",
    ),
    (
        "shard_bytes_out_per_second",
        "--shard-bytes-out",
        size,
        "Throttle reads from a shard beyond that a second. 0: do not.",
    ),
)


def _settings_options(function: F) -> F:
    """One option for each setting, and --tag; without a default, so what is not given is None."""
    function = click.option(
        "--tag", "tags", metavar="NAME=VALUE", multiple=True, help="A tag; can be repeated."
    )(function)
    for field, flag, type_, text in reversed(_SETTINGS):
        function = click.option(flag, field, type=type_, default=None, help=text)(function)
    return function


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given, as they are stored."""
    changes = {name: value for name, value in values.items() if value is not None}
    if "durability" in changes:
        changes["durability"] = int(Durability[changes["durability"].upper()])
    tags = changes.pop("tags")
    if tags:
        pairs = [tag.partition("=") for tag in tags]
        if not all(separator for _, separator, _ in pairs):
            raise click.BadParameter("write NAME=VALUE", param_hint="--tag")
        changes["tags"] = {name: value for name, _, value in pairs}
    return changes


def stream_fields(info: "StreamInfo") -> dict[str, Any]:
    """A stream as --json shows it."""
    fields: dict[str, Any] = msgspec.to_builtins(info)
    fields["settings"]["durability"] = info.settings.durability.name.lower()
    return fields


def _show_change(output: Output, info: "StreamInfo") -> None:
    """What became of a stream."""
    output.document(stream_fields(info))
    shards = [str(each.index) for each in info.shards if not each.closed]
    output.note(f"stream {info.name} has {info.open_shards} open shards: {', '.join(shards)}")


@stream.command(
    "declare",
    epilog=examples("""
        braidmq stream declare clicks --shards 8 --retention 7d
        braidmq stream declare strict --shard-bytes-in 1MiB --shard-records-in 1000
        braidmq stream declare traces --durability os --retention-bytes 10GiB
    """),
)
@click.argument("name")
@click.option(
    "--shards", type=click.IntRange(1), default=1, show_default=True, help="How many, evenly."
)
@click.option(
    "--durability",
    type=click.Choice(["sync", "os", "memory"]),
    default=None,
    help="When a record counts as kept: on disk, with the system, in memory only.",
)
@_settings_options
@remote
def _declare(target: Target, output: Output, name: str, shards: int, **values: Any) -> None:
    """Make a stream. With the same settings as before nothing happens."""
    from ...broker.stream_settings import stream_settings_from

    settings = stream_settings_from(_given(values))
    settings.check()
    info = run(target, lambda broker: broker.verbs.declare_stream(name, settings, shards))
    _show_change(output, info)


@stream.command(
    "update",
    epilog=examples("""
        braidmq stream update clicks --retention 30d
        braidmq stream update clicks --shard-records-in 0 --tag team=web
    """),
)
@click.argument("name")
@_settings_options
@remote
def _update(target: Target, output: Output, name: str, **values: Any) -> None:
    """Change settings of a stream; what is not given stays."""
    changes = _given(values)
    if not changes:
        raise click.UsageError("nothing to change: give at least one setting")
    info = run(target, lambda broker: broker.verbs.update_stream(name, changes))
    output.document(stream_fields(info))
    output.note(f"stream {info.name} was changed")


@stream.command("ls", epilog=examples("braidmq stream ls\nbraidmq stream ls web/ --json"))
@click.argument("prefix", default="")
@remote
def _ls(target: Target, output: Output, prefix: str) -> None:
    """List streams, all or those whose names begin with PREFIX."""

    async def look(broker: "BrokerFace") -> list[dict[str, Any]]:
        return [stream_fields(info) async for info in broker.streams(prefix)]

    rows = run(target, look)
    if not output.as_json:
        for row in rows:
            retention_ms = row["settings"]["retention_ms"]
            row["bytes"] = readable_bytes(row["bytes"])
            row["retention"] = readable_ms(retention_ms) if retention_ms else "-"
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no streams; braidmq stream declare NAME makes one")


@stream.command("show", epilog=examples("braidmq stream show clicks --json | jq .shards"))
@click.argument("name")
@remote
def _show(target: Target, output: Output, name: str) -> None:
    """Show the settings of a stream, and its shards.

    SHARE is how much of all hash keys goes to a shard.
    """
    info = run(target, lambda broker: broker.verbs.stream_info(name))
    fields = stream_fields(info)
    if output.as_json:
        output.document(fields)
        return
    shards = fields.pop("shards")
    for key, value in fields.pop("settings").items():
        short = key.removesuffix("_ms")
        fields[short] = readable_ms(value) if short != key and value else value
    fields["created"] = iso_time(fields.pop("created_ms"))
    fields["bytes"] = readable_bytes(fields["bytes"])
    output.fields(fields)
    click.echo()
    output.rows([_shard_row(shard) for shard in shards], _SHARD_COLUMNS)


def _shard_row(shard: dict[str, Any]) -> dict[str, Any]:
    keys = int(shard["last_hash"]) - int(shard["first_hash"]) + 1
    return {
        "shard": shard["index"],
        "state": "closed" if shard["closed"] else "open",
        "parents": ", ".join(map(str, shard["parents"])) or "-",
        "first": shard["first"],
        "next": shard["next"],
        "bytes": readable_bytes(shard["bytes"]),
        "oldest": iso_time(shard["oldest_ms"]) if shard["oldest_ms"] else "-",
        "newest": iso_time(shard["newest_ms"]) if shard["newest_ms"] else "-",
        "share": f"{100 * keys / _HASH_KEY_END:.1f} %",
    }


@stream.command("rm", epilog=examples("braidmq stream rm clicks-old --yes"))
@click.argument("names", nargs=-1, required=True)
@yes_option
@remote
def _rm(target: Target, output: Output, names: tuple[str, ...], yes: bool) -> None:
    """Remove streams with their records, groups and bindings."""
    confirm(f"Remove {', '.join(names)} and all records in there?", yes)

    async def remove(broker: "BrokerFace") -> None:
        for name in names:
            await broker.verbs.delete_stream(name)

    run(target, remove)
    output.document({"removed": list(names)})
    output.note(f"removed {', '.join(names)}")


@stream.command(
    "split",
    epilog=examples("""
        braidmq stream split clicks 3
        braidmq stream split clicks 3 --hash-key 170141183460469231731687303715884105728
    """),
)
@click.argument("name")
@click.argument("shard", type=click.IntRange(0))
@click.option("--hash-key", default="", help="Where the second half begins. Default: the middle.")
@remote
def _split(target: Target, output: Output, name: str, shard: int, hash_key: str) -> None:
    """Split a shard in two. It takes no more records, and is read before its children."""
    info = run(target, lambda broker: broker.verbs.split_shard(name, shard, hash_key))
    _show_change(output, info)


@stream.command("merge", epilog=examples("braidmq stream merge clicks 3 4"))
@click.argument("name")
@click.argument("shard", type=click.IntRange(0))
@click.argument("other", type=click.IntRange(0))
@remote
def _merge(target: Target, output: Output, name: str, shard: int, other: int) -> None:
    """Merge two adjacent shards."""
    info = run(target, lambda broker: broker.verbs.merge_shards(name, shard, other))
    _show_change(output, info)


@stream.command("rescale", epilog=examples("braidmq stream rescale clicks 16"))
@click.argument("name")
@click.argument("shards", type=click.IntRange(1))
@remote
def _rescale(target: Target, output: Output, name: str, shards: int) -> None:
    """Have so many even shards from now on."""
    info = run(target, lambda broker: broker.verbs.rescale_stream(name, shards))
    _show_change(output, info)


for _command in (append, read, tail, export_records, import_records):
    stream.add_command(_command)
