"""``braidmq topic``: what topics retain, what is subscribed to, and what they are bound to."""

from typing import TYPE_CHECKING, Any

import click
import msgspec

from . import binding, replay
from .app import group
from .options import examples, remote
from .output import Output, printable, readable_bytes
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace

__all__ = ["topic"]

_COLUMNS = ("topic", "bytes", "expires", "subscriptions")
_TREE_COLUMNS = ("level", "retained", "topics", "subscriptions")

topic = group("Bind topics to queues and streams, list what they retain.")
topic.add_command(binding.bind)
topic.add_command(binding.unbind)
topic.add_command(binding.bindings)
topic.add_command(replay.replay)
topic.add_command(replay.replays)
topic.add_command(replay.replay_cancel)


@topic.command(
    "ls",
    epilog=examples("""
        braidmq topic ls
        braidmq topic ls 'sensors/+/temp' --json
    """),
)
@click.argument("filter", default="#")
@remote
def _ls(target: Target, output: Output, filter: str) -> None:
    """List the topics that retain a message, all or those that match FILTER."""

    async def look(broker: "BrokerFace") -> list[dict[str, Any]]:
        return [msgspec.to_builtins(info) async for info in broker.list_topics(filter)]

    rows = run(target, look)
    if not output.as_json:
        for row in rows:
            row["bytes"] = readable_bytes(row["bytes"])
            row["expires"] = _moment(row["expire_ms"])
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no topic there retains a message; braidmq publish --retain keeps one")


def _moment(time_ms: int) -> str:
    import time

    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(time_ms / 1000)) if time_ms else "-"


@topic.command(
    "tree",
    epilog=examples("""
        braidmq topic tree
        braidmq topic tree sensors/kitchen --depth 1 --json
    """),
)
@click.argument("prefix", default="")
@click.option(
    "--depth", type=click.IntRange(1), default=3, show_default=True, help="How many levels down."
)
@remote
def _tree(target: Target, output: Output, prefix: str, depth: int) -> None:
    """Show the levels of topics below PREFIX: what is retained, and what is subscribed to.

    TOPICS counts those that retain a message, here and below; SUBSCRIPTIONS those whose filters go
    through here.
    """
    start = prefix.removesuffix("/") + "/" if prefix else ""
    levels = run(target, lambda broker: _levels(broker, start, depth))
    if output.as_json:
        output.document(levels)
    else:
        output.rows(list(_flat(levels, 0)), _TREE_COLUMNS)
    if not levels:
        output.note("nothing is retained or subscribed to there")


async def _levels(broker: "BrokerFace", path: str, depth: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async for info in broker.topic_tree(path):
        row: dict[str, Any] = msgspec.to_builtins(info)
        row["path"] = path + info.level
        below = info.topics > info.retained or (info.subscriptions and info.level != "#")
        row["children"] = (
            await _levels(broker, row["path"] + "/", depth - 1) if below and depth > 1 else []
        )
        found.append(row)
    return found


def _flat(levels: list[dict[str, Any]], indent: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for row in levels:
        shown = "  " * indent + (printable(row["level"]) or "(empty)")
        rows.append(row | {"level": shown, "retained": "yes" if row["retained"] else "-"})
        rows += _flat(row["children"], indent + 1)
    return rows
