"""``braidmq session``: the clients that the broker knows, connected or not."""

import time
from typing import TYPE_CHECKING, Any

import click
import msgspec

from .app import group
from .failures import CommandFailed
from .options import confirm, examples, remote, yes_option
from .output import Output, readable_bytes, readable_ms
from .target import Target, run

if TYPE_CHECKING:
    from ...broker.face import BrokerFace

__all__ = ["session"]

_COLUMNS = ("name", "user", "connected", "durable", "subscriptions", "messages", "in_flight")

session = group("List, show and end the sessions of clients.")


@session.command(
    "ls",
    epilog=examples("""
        braidmq session ls
        braidmq session ls sensor- --json
    """),
)
@click.argument("prefix", default="")
@remote
def _ls(target: Target, output: Output, prefix: str) -> None:
    """List sessions, all or those whose names begin with PREFIX."""

    async def look(broker: "BrokerFace") -> list[dict[str, Any]]:
        return [msgspec.to_builtins(info) async for info in broker.sessions(prefix)]

    rows = run(target, look)
    if not output.as_json:
        rows = [row | {name: _yes(row[name]) for name in ("connected", "durable")} for row in rows]
    output.rows(rows, _COLUMNS)
    if not rows:
        output.note("no sessions")


def _yes(value: bool) -> str:
    return "yes" if value else "no"


@session.command("show", epilog=examples("braidmq session show dash --json | jq .filters"))
@click.argument("name")
@remote
def _show(target: Target, output: Output, name: str) -> None:
    """Show a session: its subscriptions and what waits for it."""
    from ...broker.errors import NotFound

    try:
        info = run(target, lambda broker: broker.session(name))
    except NotFound as error:
        raise _no_session(error) from None
    fields: dict[str, Any] = msgspec.to_builtins(info)
    if not output.as_json:
        for key in ("created_ms", "ended_ms"):
            stamp = fields.pop(key)
            when = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(stamp / 1000))
            fields[key.removesuffix("_ms")] = when if stamp else "-"
        fields["expiry"] = readable_ms(fields.pop("expiry_ms"))
        fields["bytes"] = readable_bytes(fields["bytes"])
        fields["filters"] = " ".join(fields["filters"])
        for key in ("connected", "durable"):
            fields[key] = _yes(fields[key])
    output.fields(fields)


@session.command(
    "kick",
    epilog=examples("""
        braidmq session kick dash
        braidmq session kick dash --discard --yes
    """),
)
@click.argument("name")
@click.option("--discard", is_flag=True, help="Forget the session too, and all that waits there.")
@yes_option
@remote
def _kick(target: Target, output: Output, name: str, discard: bool, yes: bool) -> None:
    """End a client's connection. Nothing keeps it from connecting again."""
    from ...broker.errors import NotFound

    if discard:
        confirm(f"Forget the session {name} and all messages in there?", yes)
    try:
        run(target, lambda broker: broker.kick(name, discard=discard))
    except NotFound as error:
        raise _no_session(error) from None
    output.document({"session": name, "discarded": discard})
    output.note(f"ended {'the session' if discard else 'the connection of'} {name}")


def _no_session(error: Exception) -> CommandFailed:
    return CommandFailed(str(error), "braidmq session ls shows what there is", 3, "not-found")
