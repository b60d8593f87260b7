"""``braidmq group``: consumer groups of streams, where they are, and how far behind."""

from typing import TYPE_CHECKING, Any

import click
import msgspec

from .app import group as command_group
from .format import iso_time
from .options import confirm, examples, remote, yes_option
from .output import Output, readable_ms
from .record_format import START_HELP, record_start
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace
    from ...broker.groupverbs import GroupInfo

__all__ = ["group"]

_COLUMNS = ("name", "members", "lag", "behind", "skipped")
_SHARD_COLUMNS = ("shard", "state", "member", "epoch", "number", "next", "lag", "behind", "error")
_MEMBER_COLUMNS = ("id", "user", "joined", "shards")

group = command_group("List, show, reset and remove consumer groups.")


def _fields(info: "GroupInfo") -> dict[str, Any]:
    """A group as --json shows it."""
    fields: dict[str, Any] = msgspec.to_builtins(info)
    return fields


def _behind(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"behind": readable_ms(row["behind_ms"]) if row["behind_ms"] else "-"}


@group.command("ls", epilog=examples("braidmq group ls clicks\nbraidmq group ls clicks --json"))
@click.argument("stream")
@click.argument("prefix", default="")
@remote
def _ls(target: Target, output: Output, stream: str, prefix: str) -> None:
    """List the groups of a stream, all or those whose names begin with PREFIX."""

    async def look(broker: "BrokerFace") -> list[dict[str, Any]]:
        return [_fields(info) async for info in broker.stream(stream).groups(prefix)]

    rows = run(target, look)
    if not output.as_json:
        rows = [_behind(row) | {"members": row["members_count"]} for row in rows]
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no groups; the first member of one makes it")


@group.command(
    "show",
    epilog=examples("""
        braidmq group show clicks analytics
        braidmq group show clicks analytics --json | jq .lag
    """),
)
@click.argument("stream")
@click.argument("name")
@remote
def _show(target: Target, output: Output, stream: str, name: str) -> None:
    """Show a group: its members, and how far it is in each shard."""
    info = run(target, lambda broker: broker.verbs.group_info(stream, name))
    _print(output, _fields(info))


def _print(output: Output, fields: dict[str, Any]) -> None:
    if output.as_json:
        output.document(fields)
        return
    shards, members = fields.pop("shards"), fields.pop("members")
    start = fields.pop("start")
    fields["start"] = iso_time(start["time_ms"]) if start["kind"] == "time" else start["kind"]
    fields["created"] = iso_time(fields.pop("created_ms"))
    fields["members"] = fields.pop("members_count")
    fields["behind"] = _behind(fields)["behind"]
    del fields["behind_ms"]
    output.fields(fields)
    click.echo()
    rows = [_behind(shard) | {"member": shard["member"] or "-"} for shard in shards]
    output.rows(rows, _SHARD_COLUMNS)
    if members:
        click.echo()
        rows = [
            member
            | {
                "joined": iso_time(member["joined_ms"]),
                "shards": ", ".join(map(str, member["shards"])) or "-",
            }
            for member in members
        ]
        output.rows(rows, _MEMBER_COLUMNS)


@group.command(
    "reset",
    epilog=examples("""
        braidmq group reset clicks analytics --to earliest
        braidmq group reset clicks analytics --to -1h --force --yes
        braidmq group reset clicks analytics --to 4711 --shard 3
    """),
)
@click.argument("stream")
@click.argument("name")
@click.option("--to", "to", required=True, help=START_HELP)
@click.option("--shard", type=click.IntRange(0), default=None, help="Default: all of them.")
@click.option("--force", is_flag=True, help="Also while it has members: they lose their shards.")
@yes_option
@remote
def _reset(
    target: Target,
    output: Output,
    stream: str,
    name: str,
    to: str,
    shard: int | None,
    force: bool,
    yes: bool,
) -> None:
    """Have a group go on elsewhere, in one shard or in all."""
    from ...broker.recordreader import read_start

    start = read_start(record_start(to))
    confirm(f"Move the checkpoints of {name}?", yes)
    index = -1 if shard is None else shard
    info = run(target, lambda broker: broker.verbs.reset_group(stream, name, start, index, force))
    output.document(_fields(info))
    output.note(f"group {name} has {info.lag} records before it")


@group.command("rm", epilog=examples("braidmq group rm clicks analytics --yes"))
@click.argument("stream")
@click.argument("names", nargs=-1, required=True)
@yes_option
@remote
def _rm(target: Target, output: Output, stream: str, names: tuple[str, ...], yes: bool) -> None:
    """Remove groups with their checkpoints; they must have no members."""
    confirm(f"Remove {', '.join(names)} and all checkpoints?", yes)

    async def remove(broker: "BrokerFace") -> None:
        for name in names:
            await broker.verbs.delete_group(stream, name)

    run(target, remove)
    output.document({"removed": list(names)})
    output.note(f"removed {', '.join(names)}")
